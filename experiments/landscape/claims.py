"""Is the loss around a residual network smoother than around a plain one? `python -m experiments.landscape.claims results/landscape/quick`.

Measures of a surface, a grid of losses on a plane through a trained network (plainres.instruments.landscape), as Li et al. 2018 (arXiv:1712.09913)
look at it; how a verdict follows from differences between the arms on the same draw of directions: experiments.judging.verdict. The unit is the
training seed: pairs of directions through one network say how sure a measure of that network is, and nothing of other networks.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.text import columns, tell
from plainres.records.files import read_json, read_table

PLAIN, RESIDUAL = ("plain", 56), ("residual", 56)
STATISTICS = {"running": "running statistics, as in Li et al.", "batch": "statistics of each batch"}
RATIO = 0.1  # a negative curvature is counted from a tenth of the larger one on
NOISE = 1e-4  # of the loss, or of a nat: smaller differences of neighbours are float32's and the table's rounding, on a plateau all there is
BASIN = 0.5  # of what training has gained over guessing
SHARED = (
    "protocol",
    "data_label",
    "points",
    "radius",
    "images",
)  # what surfaces that are compared have in common


@dataclass(frozen=True)
class Surface:
    """What is read of a surface-*.json (plainres.instruments.landscape.Surface)."""

    arm: str
    depth: int
    seed: int
    protocol: str
    data_label: str
    num_classes: int
    direction_seed: int
    statistics: str
    images: int
    points: int
    radius: float
    cosine: float
    seconds: float
    processor: str
    commit: str
    clean: bool | None
    torch: str


@dataclass(frozen=True)
class SurfacePoint:
    """What is read of a row of a surface's CSV file (plainres.instruments.landscape)."""

    loss: float
    error: float


@dataclass(frozen=True)
class Look:
    """One surface and its losses, float64 (points, points), one row a y; infinite or nan where the network gave no finite loss."""

    surface: Surface
    losses: np.ndarray
    errors: np.ndarray

    @property
    def network(self) -> tuple[str, int]:
        return self.surface.arm, self.surface.depth

    @property
    def centre(self) -> tuple[float, float]:
        """Loss and error of the trained network itself."""
        middle = self.surface.points // 2
        return float(self.losses[middle, middle]), float(self.errors[middle, middle])

    @property
    def negative_curvature(self) -> float:
        """Share of inner points whose curvature is negative in some direction of the plane: that of a convex surface is 0.

        Eigenvalues of the Hessian from differences of neighbours; the smaller must be below minus a tenth of the larger one's size, and
        below minus NOISE. Points beside one that is not finite are left out.
        """
        smallest, largest = hessian_eigenvalues(self.losses)
        there = np.isfinite(smallest) & np.isfinite(largest)
        if not there.any():
            return math.nan
        noise = NOISE * np.maximum(1.0, self.losses[1:-1, 1:-1][there])
        return float((smallest[there] < -np.maximum(RATIO * np.abs(largest[there]), noise)).mean())

    @property
    def roughness(self) -> float:
        """Root mean square of how far a point lies off the mean of its four neighbours, over the standard deviation of all; of log10 loss.

        The logarithm, because losses of a plane reach over orders of magnitude and the largest would be all that is seen. nan where too few
        losses are finite.
        """
        logs = logarithms(self.losses)
        if np.isnan(logs).all():
            return math.nan
        off = (
            logs[1:-1, 1:-1]
            - (logs[:-2, 1:-1] + logs[2:, 1:-1] + logs[1:-1, :-2] + logs[1:-1, 2:]) / 4
        )
        off, spread = off[np.isfinite(off)], float(np.nanstd(logs))
        if not off.size:
            return math.nan
        return float(np.sqrt(np.mean(off**2))) / spread if spread > 0 else 0.0

    @property
    def basin(self) -> float:
        """Share of points that keep more than half of what the trained network has gained over guessing: how far its valley reaches.

        Not those below some fixed loss, because that would tell well-trained networks from others, and not shapes; nor those less than
        some nats above the centre, because around a network that has gained less than that all of the plateau of guessing would count.
        nan where the network has gained nothing.
        """
        gained = math.log(self.surface.num_classes) - self.centre[0]
        return (
            float((self.losses < self.centre[0] + BASIN * gained).mean())
            if gained > 0
            else math.nan
        )


Looks = Sequence[Look]


def hessian_eigenvalues(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smaller and larger eigenvalue of the Hessian at every inner point of a grid, in units of the grid's step.

    Args:
        values: (rows, columns).

    Returns two arrays (rows - 2, columns - 2).
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


def read_looks(folder: Path) -> list[Look]:
    """The surfaces of a results folder.

    Raises:
        ValueError: there are none, one is damaged, or they differ in what surfaces that are compared must share.
    """
    looks = [_read_look(path) for path in sorted(folder.glob("surface-*.json"))]
    if not looks:
        raise ValueError(f"no surfaces in {folder}; make sweep-landscape measures them")
    for name in SHARED:
        values = sorted({str(getattr(look.surface, name)) for look in looks})
        if len(values) > 1:
            raise ValueError(
                f"the surfaces in {folder} differ in {name} ({', '.join(values)}): they cannot be compared"
            )
    return sorted(
        looks,
        key=lambda look: (
            look.surface.statistics,
            *look.network,
            look.surface.seed,
            look.surface.direction_seed,
        ),
    )


def _read_look(path: Path) -> Look:
    """The surface that `path` describes, with its points from the CSV file beside it."""
    values, names = read_json(path) or {}, [field.name for field in fields(Surface)]
    if lacking := sorted(set(names) - set(values)):
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    surface = Surface(**{name: values[name] for name in names})
    points = read_table(path.with_suffix(".csv"), SurfacePoint)
    if len(points) != surface.points**2:
        raise ValueError(
            f"{path.with_suffix('.csv')} has {len(points)} points instead of {surface.points**2}"
        )
    shape = (surface.points, surface.points)
    losses, errors = (
        np.array([getattr(point, name) for point in points]).reshape(shape)
        for name in ("loss", "error")
    )
    return Look(surface, losses, errors)


def label_of(looks: Looks) -> str:
    """Data label, protocol, and numbers of training seeds and of pairs of directions."""
    first = looks[0].surface
    seeds = len({look.surface.seed for look in looks})
    pairs = len({look.surface.direction_seed for look in looks})
    counted = f"{seeds} seed{'s' * (seeds != 1)}, {pairs} pair{'s' * (pairs != 1)} of directions"
    return f"{first.data_label} · protocol {first.protocol} · {counted}"


def of_statistics(looks: Looks) -> dict[str, list[Look]]:
    """The surfaces by what batch normalisation took, running statistics first."""
    found = {
        name: [look for look in looks if look.surface.statistics == name] for name in STATISTICS
    }
    return {name: chosen for name, chosen in found.items() if chosen}


def check(looks: Looks) -> list[Claim]:
    """The three claims about surfaces of one kind of statistics, corrected together where there are several training seeds."""
    asked = (
        (
            "around residual-56 fewer points have negative curvature than around plain-56",
            "negative_curvature",
            False,
        ),
        ("residual-56's surface is smoother", "roughness", False),
        (
            "more of residual-56's surface keeps half of what training has gained over guessing",
            "basin",
            True,
        ),
    )
    return verdict.corrected([_compared(looks, *question) for question in asked])


def _compared(looks: Looks, statement: str, measure: str, residual_above: bool) -> Claim:
    by_pair = [
        {
            (look.surface.seed, look.surface.direction_seed): getattr(look, measure)
            for look in looks
            if look.network == network
        }
        for network in (PLAIN, RESIDUAL)
    ]
    pairs = sorted(by_pair[0].keys() & by_pair[1].keys())
    if not pairs:
        missing = [
            "-".join(map(str, network))
            for network, found in zip((PLAIN, RESIDUAL), by_pair, strict=True)
            if not found
        ]
        return Claim(
            statement,
            INCONCLUSIVE,
            f"missing: {', '.join(missing) or 'a pair of directions that both have'}",
        )
    if any(math.isnan(found[pair]) for found in by_pair for pair in pairs):
        return Claim(
            statement,
            INCONCLUSIVE,
            "a surface without a finite part, or a network no better than guessing",
        )
    seeds = sorted({seed for seed, _ in pairs})
    plain, residual = (
        [statistics.fmean(found[pair] for pair in pairs if pair[0] == seed) for seed in seeds]
        for found in by_pair
    )
    order = "residual - plain" if residual_above else "plain - residual"
    higher, lower = (residual, plain) if residual_above else (plain, residual)
    agreeing = sum(
        (found[1] > found[0]) == residual_above
        for found in ([values[pair] for values in by_pair] for pair in pairs)
    )
    name = measure.replace("_", " ")
    seen = f"{name}: plain {statistics.fmean(plain):.3f}, residual {statistics.fmean(residual):.3f}, so in {agreeing} of {len(pairs)} pairs"
    criterion = Criterion(
        f"{order}, {name}",
        tuple(one - other for one, other in zip(higher, lower, strict=True)),
        unit="",
    )
    return verdict.judge(statement, [criterion], seen)


def table(looks: Looks) -> list[list[str]]:
    """One line a surface under a row of headings; losses in nats, shares as fractions."""
    heads = ["loss at the centre", "error at the centre", "median loss", "largest loss"]
    lines = [
        [
            "network",
            "seed",
            "directions",
            *heads,
            "negative curvature",
            "roughness",
            "basin",
            "cosine",
        ]
    ]
    for look in looks:
        surface, (loss, error) = look.surface, look.centre
        finite = look.losses[np.isfinite(look.losses)]
        losses = [
            f"{loss:.4g}",
            f"{100 * error:.2f} %",
            *(f"{value:.3g}" for value in (np.median(look.losses), finite.max(initial=-math.inf))),
        ]
        measures = [
            f"{look.negative_curvature:.3f}",
            f"{look.roughness:.3f}",
            f"{look.basin:.3f}",
            f"{surface.cosine:+.3f}",
        ]
        lines.append(
            [
                f"{surface.arm}-{surface.depth}",
                str(surface.seed),
                str(surface.direction_seed),
                *losses,
                *measures,
            ]
        )
    return lines


def _report(folder: Path) -> tuple[list[str], int]:
    lines, judged = [], []
    looks = read_looks(folder)
    for name, chosen in of_statistics(looks).items():
        claims = check(chosen)
        lines += [
            f"{label_of(chosen)} · {STATISTICS[name]}",
            "",
            *columns(table(chosen)),
            "",
            *verdict.lines(claims),
            "",
        ]
        judged += claims
    return lines, verdict.status(judged)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints tables and verdicts; 1 when a claim is not reproduced, 2 and one line where there is nothing to judge."""
    return tell(
        _report,
        "Whether the loss is smoother around residual networks.",
        "results/landscape/<protocol>",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
