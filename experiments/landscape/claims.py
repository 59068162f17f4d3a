"""Is the loss around a residual network smoother than around a plain one?

A surface is a grid of losses on a plane of weights through a trained network
(plainres.instruments.landscape), as in Li et al. 2018 (arXiv:1712.09913). Both arms are compared on
the same draws of directions. The unit is the training seed: several pairs of directions through one
network say how sure a measure of that network is, and nothing about other networks.
"""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.judging import pairs, verdict
from experiments.judging.errors import has_learned
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.question import Table
from plainres.records.files import RUNS_TABLE, read_row, read_table
from plainres.records.identity import cell_name
from plainres.records.rows import Surface as SurfaceRow
from plainres.records.rows import SurfacePoint
from plainres.records.schema import Record

NETWORKS = ("plain-44", "residual-44")  # the ones that are judged
STATISTICS = {"running": "running statistics, as in Li et al.", "batch": "statistics of each batch"}
RATIO = 0.1  # a negative curvature counts from a tenth of the larger one's size on
# Of the loss, or of a nat. Smaller differences of neighbours are rounding (float32, the table's
# digits), and on a plateau there is nothing else.
NOISE = 1e-4
BASIN = 0.5  # of what training has gained over guessing
# By all surfaces of a folder
SHARED = ("protocol", "data_label", "points", "radius", "images")
CEILING = 100  # times the loss of guessing: figures draw larger losses (up to 4e5) as this one
SHARE_MARGIN = 0.05  # of the plane, 26 of 529 inner points: a smaller part is not seen in figures
ROUGHNESS_MARGIN = 0.02  # a smooth bowl has 0.017: 0.1 + x² + y² on 25×25 points
# Measure → the claim about it, whether residual-44 must have the larger value, and the margin
CLAIMS = {
    "negative_curvature": (
        "around residual-44 fewer points have negative curvature than around plain-44",
        False,
        SHARE_MARGIN,
    ),
    "roughness": ("residual-44's surface is smoother than plain-44's", False, ROUGHNESS_MARGIN),
    "basin": (
        "more of residual-44's surface keeps half of what training has gained over guessing",
        True,
        SHARE_MARGIN,
    ),
}


@dataclass(frozen=True)
class Surface(SurfaceRow):
    """With what is computed from it, and what was the same for all."""

    threads = 1  # at each point

    @property
    def network(self) -> str:
        return f"{self.arm}-{self.depth}"

    @property
    def name(self) -> str:
        return f"{self.network}, seed {self.seed}, directions {self.direction_seed}"

    @property
    def coordinates(self) -> np.ndarray:
        """Of the points along a direction: at 1 every filter has moved by its own norm."""
        return np.linspace(-self.radius, self.radius, self.points)

    @property
    def guessing(self) -> float:
        """Loss of equal probabilities, in nats."""
        return math.log(self.num_classes)


@dataclass(frozen=True)
class Plane:
    """One surface with its losses (nats per image) and errors (fractions).

    Both are float64 (points, points), one row per y. A loss may be infinite or nan.

    Args:
        record: of the training of the network that it is around.
    """

    surface: Surface
    record: Record
    losses: np.ndarray
    errors: np.ndarray

    @property
    def draw(self) -> tuple[int, int]:
        """Training seed and direction seed."""
        return self.surface.seed, self.surface.direction_seed

    @property
    def centre(self) -> tuple[float, float]:
        """Loss and error of the trained network itself."""
        middle = self.surface.points // 2
        return float(self.losses[middle, middle]), float(self.errors[middle, middle])

    @property
    def learned(self) -> bool:
        """Whether the network itself is better than guessing."""
        return has_learned(self.centre[1], self.surface.num_classes)

    @property
    def negative_curvature(self) -> float:
        """Share of inner points with negative curvature in some direction of the plane.

        That of a convex surface is 0. Eigenvalues of the Hessian from differences of neighbours;
        the smaller must be below minus a tenth of the larger one's size, and below minus NOISE.
        Points beside one that is not finite are left out.
        """
        smallest, largest = hessian_eigenvalues(self.losses)
        finite = np.isfinite(smallest) & np.isfinite(largest)
        if not finite.any():
            return math.nan
        noise = NOISE * np.maximum(1.0, self.losses[1:-1, 1:-1][finite])
        bound = -np.maximum(RATIO * np.abs(largest[finite]), noise)
        return float((smallest[finite] < bound).mean())

    @property
    def roughness(self) -> float:
        """How far a point lies off the mean of its four neighbours, over the spread of all points.

        Root mean square over standard deviation, of log10 loss: losses of a plane differ by orders
        of magnitude, and without the logarithm the largest would decide alone. nan where too few
        losses are finite.
        """
        logs = logarithms(self.losses)
        if np.isnan(logs).all():
            return math.nan
        neighbours = logs[:-2, 1:-1] + logs[2:, 1:-1] + logs[1:-1, :-2] + logs[1:-1, 2:]
        off = logs[1:-1, 1:-1] - neighbours / 4
        off, spread = off[np.isfinite(off)], float(np.nanstd(logs))
        if not off.size:
            return math.nan
        return float(np.sqrt(np.mean(off**2))) / spread if spread > 0 else 0.0

    @property
    def basin(self) -> float:
        """Share of the surface with more than half of what training has gained over guessing.

        No fixed loss as bound: that would separate networks that are trained well from others, and
        not shapes. No fixed distance above the centre either: around a network that has gained less
        than it, the whole plateau of guessing would count. nan where nothing was gained.
        """
        gained = self.surface.guessing - self.centre[0]
        if not gained > 0:  # nan too
            return math.nan
        return float((self.losses < self.centre[0] + BASIN * gained).mean())


Planes = Sequence[Plane]  # those of one kind of statistics are judged together


def hessian_eigenvalues(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smaller and larger eigenvalue of the Hessian at every inner point, in units of the grid step.

    Of values (rows, columns) these are two arrays (rows - 2, columns - 2).
    """
    with np.errstate(invalid="ignore"):  # inf - inf: such points are left out
        inner = values[1:-1, 1:-1]
        xx = values[1:-1, 2:] - 2 * inner + values[1:-1, :-2]
        yy = values[2:, 1:-1] - 2 * inner + values[:-2, 1:-1]
        xy = (values[2:, 2:] - values[2:, :-2] - values[:-2, 2:] + values[:-2, :-2]) / 4
        mean, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        return mean - half, mean + half


def logarithms(losses: np.ndarray) -> np.ndarray:
    """log10 of losses, from a millionth of a nat up; nan where a loss is not finite."""
    return np.log10(np.maximum(np.where(np.isfinite(losses), losses, np.nan), 1e-6))


def read(folder: Path) -> list[Planes]:
    """The surfaces of a results folder, one part for each kind of statistics.

    Raises:
        ValueError: there is none, one is damaged, runs.csv lacks the network of one, or two cannot
            stand side by side.
    """
    records = {(row.cell, row.config_hash): row for row in pairs.read_records(folder)}
    planes = [_read_plane(path, records) for path in sorted(folder.glob("surface-*.json"))]
    if not planes:
        raise ValueError(f"no surfaces in {folder}; make sweep-landscape measures them")
    for name in SHARED:
        values = sorted({str(getattr(plane.surface, name)) for plane in planes})
        if len(values) > 1:
            differ = f"the surfaces in {folder} differ in {name} ({', '.join(values)})"
            raise ValueError(f"{differ}: they cannot be compared")
    planes.sort(key=lambda plane: (plane.surface.arm, plane.surface.depth, plane.draw))
    drawn = Counter((p.surface.statistics, p.surface.name) for p in planes)
    for (_, name), count in drawn.items():
        if count > 1:
            raise ValueError(f"{folder} has {count} surfaces of {name}; legal: one")
    parts = [[plane for plane in planes if plane.surface.statistics == kind] for kind in STATISTICS]
    return [part for part in parts if part]


def _read_plane(path: Path, records: Mapping[tuple[str, str], Record]) -> Plane:
    """The surface that `path` describes, with its points from the CSV file beside it.

    Args:
        records: by cell and configuration's hash.
    """
    surface = read_row(path, Surface)
    cell = cell_name(surface.arm, surface.depth, surface.seed)
    record = records.get((cell, surface.config_hash))
    if record is None or record.data_fingerprint != surface.data_fingerprint:
        raise ValueError(f"{path}: {RUNS_TABLE} has no {cell} of its configuration and images")
    table = path.with_suffix(".csv")
    points = read_table(table, SurfacePoint)
    if len(points) != surface.points**2:
        raise ValueError(f"{table} has {len(points)} points instead of {surface.points**2}")
    grid = [(x, y) for y in surface.coordinates for x in surface.coordinates]
    if not np.allclose([(point.x, point.y) for point in points], grid, atol=1e-5):
        raise ValueError(f"{table} has other points than its radius says, or in another order")
    shape = (surface.points, surface.points)
    losses = np.array([point.loss for point in points]).reshape(shape)
    errors = np.array([point.error for point in points]).reshape(shape)
    return Plane(surface, record, losses, errors)


def label_of(planes: Planes) -> str:
    first = planes[0].surface
    seeds = len({plane.surface.seed for plane in planes})
    pairs = len({plane.surface.direction_seed for plane in planes})
    numbers = f"{seeds} seed{'s' * (seeds != 1)}, {pairs} pair{'s' * (pairs != 1)} of directions"
    return f"{first.data_label} · protocol {first.protocol} · {numbers}"


def statistics_of(planes: Planes) -> str:
    """What batch normalisation took, for a reader."""
    return STATISTICS[planes[0].surface.statistics]


def check(planes: Planes) -> list[Claim]:
    """The three claims, corrected together where there are several training seeds."""
    return verdict.corrected([_compared(planes, measure) for measure in CLAIMS])


def _compared(planes: Planes, measure: str) -> Claim:
    statement, residual_larger, margin = CLAIMS[measure]
    of_arm = [{p.draw: p for p in planes if p.surface.network == name} for name in NETWORKS]
    shared = of_arm[0].keys() & of_arm[1].keys()
    if not shared:
        empty = [name for name, own in zip(NETWORKS, of_arm, strict=True) if not own]
        missing = ", ".join(empty) or "a pair of directions that both have"
        return Claim(statement, INCONCLUSIVE, f"missing: {missing}")
    drawn = [[surfaces[draw] for draw in sorted(shared)] for surfaces in of_arm]
    trained = {name: _trained(own) for name, own in zip(NETWORKS, drawn, strict=True)}
    if not (comparable := pairs.shared_seeds(trained)):
        return Claim(statement, INCONCLUSIVE, f"training {pairs.what_is_missing(trained)}")
    drawn = [[plane for plane in own if plane.surface.seed in comparable] for own in drawn]
    series = {n: _by_seed(own, measure) for n, own in zip(NETWORKS, drawn, strict=True)}
    seeds = pairs.shared_seeds(series)
    plain, residual = ([plane for plane in own if plane.surface.seed in seeds] for own in drawn)
    if any(math.isnan(getattr(plane, measure)) for plane in [*plain, *residual]):
        reason = "a surface has no finite part, or a network is no better than guessing"
        return Claim(statement, INCONCLUSIVE, reason)
    if flat := [plane.surface.name for plane in [*plain, *residual] if not plane.learned]:
        reason = f"{'; '.join(flat)}: no better than guessing, and so on a plateau"
        return Claim(statement, INCONCLUSIVE, reason)
    name = measure.replace("_", " ")
    order, sign = (NETWORKS[::-1], 1) if residual_larger else (NETWORKS, -1)

    def summary() -> str:
        means = pairs.shared_means(series)
        both = [[getattr(plane, measure) for plane in own] for own in (plain, residual)]
        agreeing = sum(sign * (b - a) > margin for a, b in zip(*both, strict=True))
        count = f"as claimed in {agreeing} of {len(plain)} pairs{_alone(planes, shared)}"
        text = f"{name}: {', '.join(f'{n} {mean:.3f}' for n, mean in means.items())}; {count}"
        dropped = pairs.not_comparable(trained)
        return f"{text}; training {dropped}" if dropped else text

    def criterion() -> Criterion:
        text = f"{' - '.join(order)}, {name}"
        return pairs.difference(series, *order, margin, name=text, unit="")

    return pairs.judge(statement, series, lambda: [criterion()], summary)


def _by_seed(planes: Planes, measure: str) -> pairs.Series:
    """The mean over the pairs of directions through each trained network."""
    seeds = pairs.grouped(planes, lambda plane: plane.surface.seed)
    values = {s: statistics.fmean(getattr(p, measure) for p in own) for s, own in seeds.items()}
    return pairs.Series(values, {s: [plane.surface for plane in own] for s, own in seeds.items()})


def _trained(planes: Planes) -> pairs.Series:
    """The trainings of the networks, whose conditions are others than those of the surfaces."""
    rows = {plane.surface.seed: [plane.record] for plane in planes}
    return pairs.Series(dict.fromkeys(rows, 0.0), rows)


def _alone(planes: Planes, shared: Collection[tuple[int, int]]) -> str:
    """Names the surfaces of the judged networks that have no counterpart in the other arm."""
    judged = (plane for plane in planes if plane.surface.network in NETWORKS)
    names = [plane.surface.name for plane in judged if plane.draw not in shared]
    return f"; without a counterpart: {'; '.join(names)}" if names else ""


def table(planes: Planes) -> Table:
    """One row per surface; losses in nats per image, shares as fractions."""
    heads = ["loss at the centre", "error at the centre", "median loss", "largest loss"]
    measures = [name.replace("_", " ") for name in CLAIMS]
    rows = [["network", "seed", "directions", *heads, *measures, "cosine"]]
    for plane in planes:
        surface, (loss, error) = plane.surface, plane.centre
        largest = plane.losses[np.isfinite(plane.losses)].max(initial=-math.inf)
        drawn = [surface.network, str(surface.seed), str(surface.direction_seed)]
        centre = [f"{loss:.4g}", f"{100 * error:.2f} %"]
        losses = [f"{np.median(plane.losses):.3g}", f"{largest:.3g}"]
        shape = [*(f"{getattr(plane, name):.3f}" for name in CLAIMS), f"{surface.cosine:+.3f}"]
        rows.append([*drawn, *centre, *losses, *shape])
    first = planes[0].surface
    minutes = sum(plane.surface.seconds for plane in planes) / 60
    note = (
        f"Each surface: {first.points}×{first.points} points from {-first.radius:g} to "
        f"{first.radius:g} (at 1 every filter has moved by its own norm), {first.images:,} "
        f"training images, float32. All surfaces took {minutes:.1f} minutes of one core."
    )
    return Table("", rows, [note])
