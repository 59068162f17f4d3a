"""What is measured of rounding: cosines by depth, the horizon, and how runs drift apart.

Each folder below results/horizon is <part> or <part>-<variant>. Parts before the first update
(`start`, `start_cifar`; `width_4` and others with ReLU alone) have one folder for each activation,
`layout` one for each size of images, with two layouts of float32. `training` has networks along
training; `quick-<precision>` networks trained in float64 and in float32; `rounding-exact` and
`rounding-perturbed` pairs of runs, whose losses are compared, and `weights-exact` and
`weights-perturbed` the same with projections of their weights.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.horizon.prediction import depth_of, predictions
from experiments.judging import pairs
from experiments.judging.pairs import Series, cell_of, grouped
from plainres.records.files import read_curves
from plainres.records.rows import CONTIGUOUS, HorizonPoint, SketchPoint
from plainres.records.schema import CurvePoint, Record

TABLE, SKETCHES = "horizon.csv", "sketch.csv"
BEFORE_TRAINING = ("start", "start_cifar", "width_4", "width_16", "pixels_8", "pixels_32")
PARTS = (*BEFORE_TRAINING, "layout", "training", "quick", "rounding", "weights")
STARTS = ("exact", "perturbed")
SIZES = ("8", "16", "32")  # pixels, of `layout`
LOST = 0.5  # a smaller cosine: the direction is lost
DEEPEST = 1202  # of networks with shortcuts
WITHIN = 1.25  # a predicted depth may be wrong by this factor
APART = 0.01  # two runs are apart where their losses differ by this fraction


@dataclass(frozen=True)
class Part:
    """What is judged together.

    Args:
        by_variant: records by activation, size of images, precision of training or start; "" where
            there is none.
        points: rows of horizon.csv, in the same way.
        curves: of `rounding` alone, in the same way.
        sketches: of `weights` alone, in the same way.
    """

    name: str
    by_variant: Mapping[str, Sequence[Record]]
    points: Mapping[str, Sequence[HorizonPoint]]
    curves: Mapping[str, Sequence[CurvePoint]]
    sketches: Mapping[str, Sequence[SketchPoint]]

    @property
    def records(self) -> list[Record]:
        return [record for records in self.by_variant.values() for record in records]

    def cosines(self, variant: str, arm: str, depth: int, precision: str, iteration: int) -> Series:
        """Median cosines by seed."""
        values = {
            point.seed: point.median_cosine
            for point in self.points.get(variant, ())
            if (point.arm, point.depth) == (arm, depth)
            and (point.precision, point.iteration) == (precision, iteration)
        }
        return self._series(values, [variant], arm, depth)

    def by_depth(self, variant: str, arm: str, precision: str) -> dict[int, dict[int, float]]:
        """Seed → depth → median cosine before the first update."""
        found: dict[int, dict[int, float]] = {}
        for point in self.points.get(variant, ()):
            if (point.arm, point.precision, point.iteration) == (arm, precision, 0):
                found.setdefault(point.seed, {})[point.depth] = point.median_cosine
        return found

    def seeds(self, variant: str) -> set[int]:
        return {row.seed for row in self.by_variant.get(variant, ())}

    def horizons(self, variant: str, precision: str, predicted: float) -> Series:
        """The logarithm of plain networks' horizon by seed.

        Without seeds that lack networks deep enough for the prediction to be wrong.

        Args:
            predicted: in layers.
        """
        needed = WITHIN * predicted
        values = {
            seed: math.log(found.depth)
            for seed, cosines in self.by_depth(variant, "plain", precision).items()
            if (found := horizon(cosines)) and (not found.at_least or found.depth >= needed)
        }
        return self._series(values, [variant], "plain")

    def normalisation_error(self, variant: str, precision: str) -> dict[int, float]:
        """By seed: relative error of the first normalisation, geometric mean over plain networks.

        That normalisation is the same in each depth but for its initial weights.
        """
        errors: dict[int, list[float]] = {}
        for point in self.points.get(variant, ()):
            if (point.arm, point.precision) == ("plain", precision) and point.normalisation_error:
                errors.setdefault(point.seed, []).append(point.normalisation_error)
        return {seed: statistics.geometric_mean(each) for seed, each in errors.items()}

    def predicted_by_error(self, variant: str, precision: str) -> dict[int, float]:
        """Seed → horizon in layers, if the first normalisation's error grows by ReLU's √λ."""
        growth = predictions()["relu", "float32"].growth
        errors = self.normalisation_error(variant, precision)
        return {seed: depth_of(error, growth) for seed, error in errors.items()}

    def lowest(self, arm: str, precision: str) -> Series:
        """The smallest median cosine over depths, of seeds that have the deepest network."""
        by_depth = self.by_depth("relu", arm, precision)
        values = {seed: min(c.values()) for seed, c in by_depth.items() if DEEPEST in c}
        return self._series(values, ["relu"], arm)

    def of_couples(self, values: Mapping[int, float], arm: str, depth: int) -> Series:
        """Values of pairs of runs, one exact and one perturbed, by seed."""
        return self._series(values, STARTS, arm, depth)

    def _series(
        self,
        values: Mapping[int, float],
        variants: Sequence[str],
        arm: str,
        depth: int | None = None,
    ) -> Series:
        rows = [
            row
            for variant in variants
            for row in self.by_variant.get(variant, ())
            if row.arm == arm and depth in (None, row.depth) and row.seed in values
        ]
        by_seed = grouped(rows, lambda row: row.seed)
        return Series({seed: values[seed] for seed in sorted(by_seed)}, by_seed)


class Depth(NamedTuple):
    """In layers; `at_least` where the deepest network that was measured is not beyond it."""

    depth: float
    at_least: bool


def horizon(cosines: Mapping[int, float]) -> Depth | None:
    """The depth at which the cosine first falls below 0.5, linear between two depths.

    Args:
        cosines: by depth, of one seed.

    Returns:
        None with less than two depths; the first one where the cosine is below 0.5 from it on.
    """
    depths = sorted(cosines)
    if len(depths) < 2:
        return None
    if cosines[depths[0]] < LOST:
        return Depth(float(depths[0]), False)
    for shallow, deep in pairwise(depths):
        high, low = cosines[shallow], cosines[deep]
        if low < LOST:
            return Depth(shallow + (high - LOST) / (high - low) * (deep - shallow), False)
    return Depth(float(depths[-1]), True)


def read(folder: Path) -> list[Part]:
    """One part for each of PARTS that is there, others last."""
    records = pairs.read_folders(folder, "sweep-horizon")
    names = grouped(records, lambda name: name.partition("-")[0])
    parts = []
    for name in sorted(names, key=lambda name: (*PARTS, name).index(name)):
        variants = {each: each.partition("-")[2] for each in names[name]}
        parts.append(
            Part(
                name,
                {variant: records[each] for each, variant in variants.items()},
                {
                    variant: pairs.read_beside(folder / each / TABLE, HorizonPoint, records[each])
                    for each, variant in variants.items()
                    if (folder / each / TABLE).exists()
                },
                {
                    variant: read_curves(folder / each)
                    for each, variant in variants.items()
                    if name == "rounding"
                },
                {
                    variant: pairs.read_beside(folder / each / SKETCHES, SketchPoint, records[each])
                    for each, variant in variants.items()
                    if name == "weights"
                },
            )
        )
        legal = r"protocol\.(precision|perturbation)|model\.(slope|shift|sums)"
        if name == "layout":  # one size of images each
            legal += r"|data\.image_size"
        else:
            pairs.require_same_images(parts[-1].by_variant)
        pairs.require_alike(folder, names[name], legal)
    return parts


def distance(one: SketchPoint, other: SketchPoint) -> float:
    """Of the weights of two runs, in units of the first one's norm; estimated."""
    mine, others = (np.array(each.projections.split(), float) for each in (one, other))
    return float(np.sqrt(np.mean((mine - others) ** 2))) / one.norm


def loss_distances(part: Part, arm: str, depth: int) -> dict[int, dict[int, float]]:
    """Seed → update → difference of two runs' losses, over that of the exact run."""
    return {
        seed: {
            a.iteration: abs(a.train_loss - b.train_loss) / a.train_loss
            for a, b in _at_one_iteration(exact, perturbed)
        }
        for seed, exact, perturbed in _couples(part.curves, arm, depth)
    }


def weight_distances(part: Part, arm: str, depth: int) -> dict[int, dict[int, float]]:
    """Seed → update → distance of two runs' weights, over the norm of the exact run's."""
    return {
        seed: {a.iteration: distance(a, b) for a, b in _at_one_iteration(exact, perturbed)}
        for seed, exact, perturbed in _couples(part.sketches, arm, depth)
    }


def norm_ratios(part: Part, arm: str, depth: int) -> dict[int, float]:
    """Seed → norm of the weights after the last update over that at the start, exact runs."""
    return {
        seed: exact[-1].norm / exact[0].norm
        for seed, exact, _ in _couples(part.sketches, arm, depth)
    }


def _couples(
    points: Mapping[str, Sequence[Any]], arm: str, depth: int
) -> list[tuple[int, list[Any], list[Any]]]:
    """Seed, and the rows of its exact and of its perturbed run."""
    exact, perturbed = (
        grouped(
            (point for point in points.get(start, ()) if cell_of(point)[:2] == (arm, depth)),
            lambda point: point.seed,
        )
        for start in STARTS
    )
    return [(seed, exact[seed], perturbed[seed]) for seed in sorted(exact.keys() & perturbed)]


def _at_one_iteration(exact: Sequence[Any], perturbed: Sequence[Any]) -> list[tuple[Any, Any]]:
    others = {row.iteration: row for row in perturbed}
    return [(row, others[row.iteration]) for row in exact if row.iteration in others]


def updates_until_apart(part: Part, arm: str, depth: int) -> Series:
    """The logarithm of the first update at which the losses of two runs differ by APART, by seed.

    Pairs that never do count with their last update.
    """
    values = {
        seed: math.log(min((i for i, d in distances.items() if d > APART), default=max(distances)))
        for seed, distances in loss_distances(part, arm, depth).items()
    }
    return part.of_couples(values, arm, depth)


def distance_after(part: Part, arm: str, depth: int, updates: int) -> Series:
    """The logarithm of the distance of two runs' weights after so many updates, by seed."""
    values = {
        seed: math.log(distances[updates])
        for seed, distances in weight_distances(part, arm, depth).items()
        if distances.get(updates, 0) > 0
    }
    return part.of_couples(values, arm, depth)


def horizon_text(part: Part, activation: str, precision: str) -> str:
    """`28 (29)`: geometric mean over seeds, and the prediction in parentheses."""
    predicted = predictions().get((activation, precision))
    return _mean_text(part, activation, precision, predicted.depth if predicted else None)


def layout_text(part: Part, size: str, precision: str) -> str:
    """As horizon_text; with sums in float32 the prediction is from the measured error."""
    depths = list(part.predicted_by_error(size, precision).values())
    if precision == CONTIGUOUS:
        depths = [predictions()["relu", "float32"].depth]
    predicted = statistics.geometric_mean(depths) if depths else None
    return _mean_text(part, size, precision, predicted)


def _mean_text(part: Part, variant: str, precision: str, predicted: float | None) -> str:
    found = [
        each
        for cosines in part.by_depth(variant, "plain", precision).values()
        if (each := horizon(cosines)) is not None
    ]
    if not found:
        return "–"
    mean = math.exp(statistics.fmean(math.log(each.depth) for each in found))
    sign = "≥ " if any(each.at_least for each in found) else ""
    return f"{sign}{mean:.0f}" + (f" ({predicted:.0f})" if predicted else "")
