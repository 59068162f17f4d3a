"""Hours, device-hours, memory and disk of a grid, from the costs of its cells."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.estimate.costs import (
    DEVICES,
    Costs,
    Line,
    Network,
    Setting,
    Shape,
    fitted,
    held_out,
    mib_of,
    seconds_of,
    shape_of,
)
from plainres.records.schema import duration
from plainres.run.estimate import end_of

AUTO, NATIVE = "auto", "native"
LIMIT = 0.15  # held-out error above which an estimate says that it is a poor one
# Bytes, as a finished cell leaves them on disk: its record, configuration, log and events ...
CELL_BYTES = 8_000
# ... and of each point of its curve, in its own table, the gathered one and TensorBoard's events
POINT_BYTES = 450
# Of a parameter in a checkpoint: it and its momentum in float32. A running cell has two
# checkpoints, and a third while it is written
CHECKPOINT_BYTES, CHECKPOINTS = 8, 3


@dataclass(frozen=True)
class Work:
    """What a cell asks of a device.

    Args:
        precision, kernels: AUTO: what the device has.
        points: of its curve.
    """

    network: Network
    shape: Shape
    iterations: int
    precision: str = AUTO
    kernels: str = AUTO
    points: int = 0

    @property
    def parameters(self) -> int:
        """Of a plain or residual CIFAR network with three channels and ten classes."""
        blocks, width = (self.network.depth - 2) // 6, self.shape.width
        convolutions = 9 * (3 * width + (42 * blocks - 10) * width**2)
        return convolutions + (28 * blocks + 2) * width + 40 * width + 10


def work_of(config: Any, arm: str) -> Work:
    """Of a cell's configuration, as Hydra composes it.

    Raises:
        ValueError: its images have no size of their own.
    """
    model, protocol, data = config.model, config.protocol, config.data
    if not data.image_size:
        raise ValueError(f"{arm}: the images have no size; data.image_size=… says which")
    precision = protocol.precision
    if precision == AUTO and config.instruction_set != NATIVE:
        precision = "32-true"  # bf16 would be emulated
    inserted = 2 * config.child.blocks if config.child else 0  # layers
    return Work(
        Network(arm, model.depth + inserted),
        shape_of(model, data.image_size, protocol.batch_size),
        protocol.iterations,
        precision,
        config.kernels,
        protocol.iterations // protocol.log_every,
    )


@dataclass(frozen=True)
class Priced:
    """A cell with what it costs.

    Args:
        setting: whose line gave it.
        bound: the shape was not measured there, and the costs are at most these.
    """

    work: Work
    setting: Setting
    bound: bool
    seconds: float
    mib: float
    parameters: int


@dataclass(frozen=True)
class Estimate:
    """A grid on devices of one kind; `cells` in the order of their launch."""

    device: str
    devices: int
    cells: Sequence[Priced]
    errors: Mapping[Setting, Mapping[Network, float]] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        return self.devices * DEVICES[self.device].cells

    @property
    def seconds(self) -> list[float]:
        return [cell.seconds for cell in self.cells]

    @property
    def device_seconds(self) -> float:
        return sum(self.seconds) / DEVICES[self.device].cells

    @property
    def mib_per_device(self) -> float:
        """The largest cells that one device can have at the same time."""
        return sum(sorted(cell.mib for cell in self.cells)[-DEVICES[self.device].cells :])

    @property
    def disk_bytes(self) -> int:
        """What the sweep leaves, and the checkpoints of the largest cells that run together."""
        left = sum(CELL_BYTES + POINT_BYTES * cell.work.points for cell in self.cells)
        parameters = sorted(cell.parameters for cell in self.cells)[-self.slots :]
        return left + CHECKPOINTS * CHECKPOINT_BYTES * sum(parameters)


def longest_first(seconds: Sequence[float], slots: int) -> float:
    """Seconds until the last of the cells ends, if the longest ones are launched first."""
    return end_of(slots, [], sorted(seconds, reverse=True))


def in_order(seconds: Sequence[float], slots: int) -> float:
    """The same in the order of the grid."""
    return end_of(slots, [], seconds)


def lower_bound(seconds: Sequence[float], slots: int) -> float:
    """No schedule is faster: all slots are busy throughout, or the longest cell has one alone."""
    return max([sum(seconds) / slots, *seconds])


def estimate(works: Sequence[Work], device: str, devices: int, costs: Costs) -> Estimate:
    """What the cells cost.

    Args:
        device: one of DEVICES.

    Raises:
        ValueError: it was not measured with such networks; one line with what is known.
    """
    own = {setting: known for setting, known in costs.items() if setting.device == device}
    lines = {
        setting: (fitted(setting, seconds_of(known)), fitted(setting, mib_of(known)))
        for setting, known in own.items()
    }
    cells = [_priced(work, own, lines) for work in works]
    used = dict.fromkeys(cell.setting for cell in cells)
    errors = {each: held_out(seconds_of(own[each])) for each in used if lines[each][0]}
    return Estimate(device, devices, cells, {each: errors.get(each, {}) for each in used})


Lines = Mapping[Setting, tuple[Line | None, Line | None]]


def _priced(work: Work, own: Costs, lines: Lines) -> Priced:
    """The cell at the cost of its shape, or at most that of the nearest one.

    Of several kernels the fastest that it may have; of bounds the largest.
    """
    found = []
    for setting, known in own.items():
        if work.precision not in (AUTO, setting.precision):
            continue
        if work.kernels not in (AUTO, setting.kernels):
            continue
        if work.shape.family != setting.shape.family:
            continue
        prices = [_at(work.network, seconds_of(known), lines[setting][0])]
        prices.append(_at(work.network, mib_of(known), lines[setting][1]))
        if None not in prices:
            times = work.shape.times(setting.shape)
            seconds, mib = (times * (price or 0.0) for price in prices)
            same = setting.shape == work.shape
            of_row = known[work.network].parameters if work.network in known and same else 0
            parameters = of_row or work.parameters
            seconds *= work.iterations
            found.append(Priced(work, setting, not same, seconds, mib, parameters))
    exact = [cell for cell in found if not cell.bound]
    if exact:
        return min(exact, key=lambda cell: cell.seconds)
    if not found:
        raise ValueError(_unknown(work, own))

    def distance(cell: Priced) -> float:
        ratio = work.shape.multiply_adds / cell.setting.shape.multiply_adds
        return max(ratio, 1 / ratio)

    nearest = min(map(distance, found))
    return max((c for c in found if distance(c) == nearest), key=lambda cell: cell.seconds)


def _at(network: Network, values: Mapping[Network, float], line: Line | None) -> float | None:
    """The line's value; without a line that of the network itself; else None."""
    if line is not None and network.arm in line.factors:
        return line.at(network)
    return values.get(network)


def _unknown(work: Work, own: Costs) -> str:
    """Names what the device was not measured with, and what it was."""
    (device,) = {setting.device for setting in own} or {"this device"}
    arms = sorted({network.arm for known in own.values() for network in known})
    kinds = sorted({f"{setting.precision} with {setting.kernels} kernels" for setting in own})
    precision = "" if work.precision == AUTO else f" in {work.precision}"
    kernels = "" if work.kernels == AUTO else f" with {work.kernels} kernels"
    asked = f"{work.network.arm}-{work.network.depth}{precision}{kernels}, {work.shape}"
    return f"no costs of {asked} on {device}; measured: {', '.join(arms)}; {', '.join(kinds)}"


def text(found: Estimate, title: str) -> str:
    """What a person reads before paying."""
    if not found.cells:
        return f"{title}: no cell is left to train"
    device, seconds = DEVICES[found.device], found.seconds
    depths = sorted({cell.work.network.depth for cell in found.cells})
    layers = f"{depths[0]} to {depths[-1]} layers" if len(depths) > 1 else f"{depths[0]} layers"
    most = "at most " if any(cell.bound for cell in found.cells) else ""
    best, order, least = (
        each(seconds, found.slots) for each in (longest_first, in_order, lower_bound)
    )
    rows = {
        "time": f"{most}{duration(order)} as the sweep launches them; {duration(best)} longest "
        f"first; no order below {duration(least)}",
        "devices": f"{most}{found.device_seconds / 3600:.2f} device-hours",
        "a cell": f"{most}{duration(min(seconds))} to {duration(max(seconds))}",
        "memory": f"{most}{max(cell.mib for cell in found.cells):,.0f} MiB a cell, "
        f"{found.mib_per_device:,.0f} MiB a device",
        "disk": f"about {found.disk_bytes / 1e6:,.1f} MB for results and checkpoints",
    }
    lines = [
        f"{title}: {len(found.cells)} cells of {layers} on {found.devices} × {found.device} "
        f"({device.text})"
    ]
    lines += [f"{name:<9}{value}" for name, value in rows.items()]
    lines += [f"{'costs':<9}{_basis(found, setting)}" for setting in found.errors]
    lines.append(
        "training alone: a process starts in 4 to 5 s, and then there is the last evaluation"
    )
    return "\n".join(lines)


def _basis(found: Estimate, setting: Setting) -> str:
    """Where costs come from, and how wrong such costs are."""
    cells = [cell for cell in found.cells if cell.setting == setting]
    where = f"{setting.precision}, {setting.kernels} kernels, {setting.shape}"
    if any(cell.bound for cell in cells):
        shapes = ", ".join(sorted({str(cell.work.shape) for cell in cells if cell.bound}))
        return f"not measured on {shapes}; at most, from {where}"
    errors = found.errors[setting]
    if not errors:
        return f"{where}: as measured; nothing is held out"
    mean, largest = mean_and_largest(errors)
    warning = "; above 15 %: a poor estimate" if mean > LIMIT else ""
    off = f"{100 * mean:.0f} % off on average, {100 * largest:.0f} % at worst"
    return f"{where}: held-out networks {off}{warning}"


def mean_and_largest(errors: Mapping[Network, float]) -> tuple[float, float]:
    sizes = [abs(error) for error in errors.values()]
    return statistics.fmean(sizes), max(sizes)


def as_json(found: Estimate) -> dict[str, Any]:
    """By stable names; seconds, MiB and bytes."""
    seconds, slots = found.seconds, found.slots
    return {
        "device": found.device,
        "devices": found.devices,
        "cells_at_once": slots,
        "cells": len(seconds),
        "at_most": any(cell.bound for cell in found.cells),
        "seconds": in_order(seconds, slots),
        "seconds_longest_first": longest_first(seconds, slots),
        "seconds_lower_bound": lower_bound(seconds, slots),
        "device_seconds": found.device_seconds,
        "mib_per_cell": max((cell.mib for cell in found.cells), default=0.0),
        "mib_per_device": found.mib_per_device,
        "disk_bytes": found.disk_bytes,
    }
