"""What probes measured at the start, and its reduction to factors and exponents.

The factor λ of a stage of a plain network is exp(-slope) of a line through ln of the squared
gradient against the layer. A layer is a 3×3 convolution with what follows it; a block has two. The
first and the last block of a stage are left out: the first layer of a stage has fewer inputs than
outputs, so that its response is smaller and its squared gradient twice as large, and the gradient
that enters the last block does not come from a layer of the same shape.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.judging import pairs
from experiments.judging.pairs import Series, cell_of, grouped
from experiments.rate.walk import STAGES, residual_signals
from experiments.theory import ACTIVATIONS, NAMES, gradient_growth
from plainres.records.files import read_config
from plainres.records.schema import Record

PROBES_TABLE = "probes.csv"
LADDER = {NAMES[key]: values for key, values in ACTIVATIONS.items()}  # the largest λ first
PADDINGS = ("circular", "zeros")


@dataclass(frozen=True)
class Signal:
    """A row of probes.csv (plainres.instruments.probes.ProbePoint)."""

    arm: str
    depth: int
    seed: int
    layer: int  # 0: the image
    response_gradient: float | None = None
    correlation: float | None = None
    passed: float | None = None


class Setting(NamedTuple):
    """What cells of a folder share; see conf/experiment/rate.yaml."""

    slope: float = 0.0
    shift: float = 0.0
    padding: str = "circular"
    width: int = 16
    batch: int = 64
    pixels: int = 16

    @property
    def activation(self) -> str:
        pair = (self.slope, self.shift)
        named = {value: name for name, value in LADDER.items()}
        return named.get(pair, f"slope {self.slope:g}, shift {self.shift:g}")

    @property
    def growth(self) -> float:
        """λ of theory."""
        return gradient_growth(self.slope, self.shift)


REFERENCE = Setting()


class Line(NamedTuple):
    """A least-squares line."""

    slope: float
    squares: float  # sum of squared residuals


def line(x: Any, y: Any) -> Line:
    slope, start = np.polyfit(x, y, 1)
    residuals = np.asarray(y) - slope * np.asarray(x) - start
    return Line(float(slope), float(residuals @ residuals))


Snapshot = Sequence[Signal]  # one network: the image, then layer after layer


def stage_layers(depth: int, stage: int) -> range:
    """Numbers of the layers of a stage, without its first and last block; stages from 0."""
    layers = (depth - 2) // STAGES
    return range(2 + stage * layers + 2, 2 + (stage + 1) * layers - 2)


def log_growth(snapshot: Snapshot, stage: int) -> float:
    """ln λ of a stage: how much ln of the squared gradient grows backwards in a layer."""
    layers = stage_layers(snapshot[0].depth, stage)
    return -line(layers, [_log_square(snapshot[layer]) for layer in layers]).slope


def mean_log_growth(snapshot: Snapshot) -> float:
    """ln λ, mean over the stages."""
    return statistics.fmean(log_growth(snapshot, stage) for stage in range(STAGES))


def _log_square(point: Signal) -> float:
    return 2 * math.log(point.response_gradient or math.nan)


class Blocks(NamedTuple):
    """Of one stage without its first and last block: one value per block."""

    numbers: Sequence[int]  # within the stage, from 1
    variances: Sequence[float]
    squares: Sequence[float]  # squared gradients at the second layer of a block

    def variance_exponent(self) -> float:
        return line(np.log(self.numbers), np.log(self.variances)).slope

    def gradient_exponent(self) -> float:
        return line(np.log(self.numbers), np.log(self.squares)).slope

    def power_over_exponential(self) -> float:
        """Squared residuals of a power law over those of an exponential one, as a logarithm.

        Both have two parameters; of the squared gradient. Negative: the power law fits better.
        """
        logs = np.log(self.squares)
        return math.log(line(np.log(self.numbers), logs).squares / line(self.numbers, logs).squares)


def stage_blocks(snapshot: Snapshot, stage: int) -> Blocks:
    layers = stage_layers(snapshot[0].depth, stage)[1::2]
    points = [snapshot[layer] for layer in layers]
    return Blocks(
        range(2, 2 + len(points)),
        [(point.passed or math.nan) ** 2 for point in points],
        [(point.response_gradient or math.nan) ** 2 for point in points],
    )


def predicted_blocks(depth: int, stage: int) -> Blocks:
    """The same of theory (experiments.rate.walk), for residual networks with ReLU."""
    count = (depth - 2) // (2 * STAGES)
    own = residual_signals(count)[stage * count + 1 : (stage + 1) * count - 1]
    return Blocks(range(2, count), [each.variance for each in own], [each.gradient for each in own])


@dataclass(frozen=True)
class Rate:
    """Everything that was measured, by setting and then by arm, depth and seed."""

    records: Mapping[Setting, Mapping[pairs.Cell, Record]]
    snapshots: Mapping[Setting, Mapping[pairs.Cell, Snapshot]]

    @property
    def all_records(self) -> list[Record]:
        return [record for own in self.records.values() for record in own.values()]

    def series(
        self, measure: Callable[[Snapshot], float], setting: Setting, arm: str, depth: int
    ) -> Series:
        """A measure of one network by seed, without seeds whose value is not finite."""
        values = self._values(measure, setting, arm, depth)
        finite = {seed: value for seed, value in values.items() if math.isfinite(value)}
        rows = {seed: [self.records[setting][arm, depth, seed]] for seed in finite}
        return Series(finite, rows)

    def not_finite(
        self, measure: Callable[[Snapshot], float], setting: Setting, arm: str, depth: int
    ) -> list[int]:
        """The seeds that `series` leaves out."""
        values = self._values(measure, setting, arm, depth)
        return sorted(seed for seed, value in values.items() if not math.isfinite(value))

    def _values(
        self, measure: Callable[[Snapshot], float], setting: Setting, arm: str, depth: int
    ) -> dict[int, float]:
        return {
            seed: measure(snapshot)
            for (*network, seed), snapshot in self.snapshots.get(setting, {}).items()
            if network == [arm, depth]
        }


def read(folder: Path) -> list[Rate]:
    """One part: everything below the folder."""
    tables = pairs.read_folders(folder, "sweep-rate")
    records, snapshots = {}, {}
    for name, rows in tables.items():
        setting = setting_of(folder / name)
        if setting in records:
            raise ValueError(f"{folder / name} has the configuration of another folder; legal: one")
        records[setting] = {cell_of(row): row for row in rows}
        points = pairs.read_beside(folder / name / PROBES_TABLE, Signal, rows)
        points.sort(key=lambda point: point.layer)
        snapshots[setting] = grouped(points, cell_of)
    return [Rate(records, snapshots)]


def setting_of(folder: Path) -> Setting:
    """Of a results folder, from its config.json."""
    config = read_config(folder)
    if config is None:
        raise ValueError(f"{folder} has no configuration; make sweep-rate writes it")
    model, protocol = config["model"], config["protocol"]
    return Setting(
        model.get("slope", 0.0),
        model.get("shift", 0.0),
        model.get("padding", "zeros"),
        model["width"],
        protocol["batch_size"],
        config["data"]["image_size"],
    )
