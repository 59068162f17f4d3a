"""What an iteration costs, from committed tables: by device, precision, kernels, shape and network.

Other work on a machine makes a cell slower and never faster. So of all rows of a network the
quickest counts. On one shape the time of a CIFAR network is fixed + per_layer · depth, times a
factor of the arm; other networks cost what they were measured with.
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from experiments.bench.parts import BARE_LOOP, SIDE_BY_SIDE
from experiments.bench.tables import Measurement
from experiments.judging.pairs import folders_of_records
from plainres.records.files import read_config, read_runs, read_table
from plainres.records.schema import FINISHED, Record


@dataclass(frozen=True)
class Device:
    """What cells are given to.

    Args:
        processor: as records name it.
        text: what one device is.
        cells: that ran on one at the same time where the rows were measured.
    """

    processor: str
    text: str
    cells: int = 1


def _core(name: str, processor: str) -> Device:
    return Device(processor, f"one core of an {name}, one thread")


GPU = "h100"
DEVICES = {
    GPU: Device(
        "NVIDIA H100 80GB HBM3",
        "one NVIDIA H100, four cells at once under NVIDIA's multi-process service",
        cells=4,
    ),
    "zen1": _core("AMD Zen 1", "AMD EPYC (family 23, model 1)"),
    "zen3": _core("AMD Zen 3", "AMD EPYC (family 25, model 1)"),
    "zen4": _core("AMD Zen 4", "AMD EPYC (family 25, model 17)"),
    "zen5": _core("AMD Zen 5", "AMD EPYC (family 26, model 2)"),
}
SHORTEST = 200  # iterations: a shorter run is mostly its start
# Their seconds hold measurements too, or are of other blocks by the same arm's name
WITH_INSTRUMENTS = ("cures", "landscape", "precision", "signal")
# The Zen 5 had other work beside its cells but for these, which ran again when it was idle
# (docs/registered.md, digits with fused kernels); elsewhere they took up to nine times as long
BUSY, IDLE_FOLDER, IDLE_SEED, IDLE_DEPTH = "zen5", "depth/quick", 0, 20

CIFAR = "CifarNetwork"  # of 6n+2 layers; the family that a line describes


class Shape(NamedTuple):
    """Of a network and its batch.

    Args:
        family: name of the class or function that builds the network.
        width: channels of the first stage; 1 where the family has no such option.
        image_size: pixels a side.
        batch_size: images.
    """

    family: str
    width: int
    image_size: int
    batch_size: int

    @property
    def numbers(self) -> int:
        """In an activation of the first stage; those of the other stages grow with it."""
        return self.width * self.image_size**2 * self.batch_size

    @property
    def multiply_adds(self) -> int:
        """Of a layer, up to a factor that all shapes of the family share."""
        return self.width * self.numbers

    def times(self, other: "Shape") -> float:
        """How many times as much as `other` a layer costs at most.

        Multiply-adds or numbers grow with that factor. Below some size a layer costs the same
        whatever its width, so a smaller shape counts as an equal one.
        """
        work = self.multiply_adds / other.multiply_adds
        return max(1.0, work, self.numbers / other.numbers)

    def __str__(self) -> str:
        size = f"{self.image_size}×{self.image_size}, batch {self.batch_size}"
        return f"width {self.width}, {size}" if self.family == CIFAR else f"{self.family}, {size}"


def shape_of(model: Mapping[str, Any], image_size: int, batch_size: int) -> Shape:
    """Of a configured network."""
    family = model["_target_"].rpartition(".")[2]
    return Shape(family, model.get("width") or 1, image_size, batch_size)


class Setting(NamedTuple):
    """Networks that one line describes."""

    device: str  # of DEVICES
    precision: str
    kernels: str
    shape: Shape


class Network(NamedTuple):
    arm: str
    depth: int


class Cost(NamedTuple):
    """What a network was measured with.

    Args:
        seconds: per iteration, evaluations and checkpoints included.
        mib: of memory, at the peak.
        parameters: 0: not in the table.
    """

    seconds: float
    mib: float
    parameters: int = 0


Costs = Mapping[Setting, Mapping[Network, Cost]]


def measured(results: Path) -> dict[Setting, dict[Network, Cost]]:
    """The costs in the tables of a results folder; cells of one thread on a CPU."""
    costs: dict[Setting, dict[Network, Cost]] = {}

    def add(setting: Setting, network: Network, cost: Cost) -> None:
        known = costs.setdefault(setting, {})
        old = known.get(network, cost)
        quickest, most = min(old.seconds, cost.seconds), max(old.mib, cost.mib)
        known[network] = Cost(quickest, most, cost.parameters)

    for setting, row in _rows(results):
        cost = Cost(row.seconds / row.iterations, row.peak_memory_mib, row.num_parameters)
        add(setting, Network(row.arm, row.depth), cost)
    for setting, network, cost in _bench(results / "bench"):
        if network not in costs.get(setting, {}):  # it has no evaluations
            add(setting, network, cost)
    return costs


def _rows(results: Path) -> Iterator[tuple[Setting, Record]]:
    devices = {device.processor: name for name, device in DEVICES.items()}
    for folder in folders_of_records(results):
        place, config = folder.relative_to(results).as_posix(), read_config(folder)
        if place.startswith(WITH_INSTRUMENTS) or not config:
            continue
        if not (size := config["data"].get("image_size")):
            continue
        shape = shape_of(config["model"], size, config["protocol"]["batch_size"])
        for row in read_runs(folder):
            device = devices.get(row.processor)
            if device and _counts(row, device, place):
                yield Setting(device, row.precision, row.kernels or "library", shape), row


def _counts(row: Record, device: str, place: str) -> bool:
    """Whether the seconds of a row are the cost of its network."""
    if device == BUSY and ((place, row.seed) != (IDLE_FOLDER, IDLE_SEED) or row.depth < IDLE_DEPTH):
        return False
    one = row.devices == 1 and (row.threads == 1 or device == GPU)
    return one and row.status == FINISHED and row.iterations >= SHORTEST


def _bench(folder: Path) -> Iterator[tuple[Setting, Network, Cost]]:
    """Residual networks of the benchmark that had one thread each; medians over rounds."""
    devices = {device.processor: name for name, device in DEVICES.items()}
    values: dict[tuple[Setting, Network], dict[str, list[float]]] = {}
    for part in ("columns", "kernels"):
        rows = read_table(folder / f"{part}.csv", Measurement)
        in_bf16 = {row.case for row in rows if (row.way, row.quantity) == (BARE_LOOP, "bf16")}
        in_bf16 -= {row.case for row in rows if row.quantity == "bf16" and not row.value}
        for row in rows:
            if row.processor not in devices or row.value is None or not row.depth:
                continue
            if part == "columns" and row.way != SIDE_BY_SIDE:
                continue
            copies = row.cores if part == "columns" else 1
            kernels = "library" if part == "columns" else row.way
            precision = "bf16-mixed" if row.case in in_bf16 else "32-true"
            shape = Shape(CIFAR, row.width or 0, row.image_size or 0, row.batch_size or 0)
            key = Setting(devices[row.processor], precision, kernels, shape)
            value = row.value
            if row.quantity == "images_per_second":
                value = shape.batch_size * copies / row.value
            of_network = values.setdefault((key, Network("residual", row.depth)), {})
            of_network.setdefault(row.quantity, []).append(value)
    for (setting, network), found in values.items():
        seconds, mib = (
            statistics.median(found[name]) for name in ("images_per_second", "peak_memory_mib")
        )
        yield setting, network, Cost(seconds, mib)


@dataclass(frozen=True)
class Line:
    """(fixed + per_layer · depth) · factor of the arm."""

    fixed: float
    per_layer: float
    factors: Mapping[str, float]

    def at(self, network: Network) -> float:
        return (self.fixed + self.per_layer * network.depth) * self.factors[network.arm]


def line(values: Mapping[Network, float]) -> Line | None:
    """The line with the smallest relative errors; None without two depths.

    Its coefficients are not negative. Arms share them but for a factor.
    """
    if len({network.depth for network in values}) < 2:
        return None
    by_arm = {network.arm for network in values}
    found = Line(0.0, 0.0, dict.fromkeys(by_arm, 1.0))
    for _ in range(5):  # line and factors in turn
        targets = [value / found.factors[network.arm] for network, value in values.items()]
        rows = [(1, network.depth) for network in values]
        (fixed, per_layer), _ = nnls(
            np.array(rows) / np.array(targets)[:, None], np.ones(len(rows))
        )
        alone = Line(float(fixed), float(per_layer), dict.fromkeys(by_arm, 1.0))
        ratios: dict[str, list[float]] = {}
        for network, value in values.items():
            ratios.setdefault(network.arm, []).append(value / alone.at(network))
        factors = {arm: statistics.fmean(ratios[arm]) for arm in sorted(by_arm)}
        found = Line(alone.fixed, alone.per_layer, factors)
    return found


def held_out(values: Mapping[Network, float]) -> dict[Network, float]:
    """Relative error of the line at each network when the line is made without it.

    Networks without which there is no line, or no factor of their arm, are not among them.
    """
    errors = {}
    for network, value in values.items():
        others = {other: each for other, each in values.items() if other != network}
        without = line(others)
        if without and network.arm in without.factors:
            errors[network] = without.at(network) / value - 1
    return errors


def fitted(setting: Setting, values: Mapping[Network, float]) -> Line | None:
    """The line of a setting; None where networks cost what they were measured with."""
    return line(values) if setting.shape.family == CIFAR else None


def seconds_of(known: Mapping[Network, Cost]) -> dict[Network, float]:
    return {network: cost.seconds for network, cost in known.items()}


def mib_of(known: Mapping[Network, Cost]) -> dict[Network, float]:
    return {network: cost.mib for network, cost in known.items()}
