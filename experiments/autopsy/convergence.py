"""How fast the training loss falls, by depth: does the rate fall exponentially, as He et al. 2015 conjecture (section 4.1)?

Model: after the warm-up the running training loss falls as exp(-rate · iteration), towards 0. The rate of a run is minus the
least-squares slope of ln(loss) against iteration, from the iteration of the highest learning rate to the last. Over depths of one seed,
ln(rate) is then fitted by a straight line in depth (exponential: the rate falls by the same factor with each layer) and by one in
ln(depth) (power law). Both have the same number of parameters, so Akaike's criterion compares their residuals. Seeds and arms are compared
over the same depths, and the preference must be clear without the deepest networks too, on which a line turns.

A network at chance has no rate that this could measure: its loss settles onto that of guessing, and the slope says how fast it does that.
All that is known is that it learned too slowly to be seen. A depth with such a network is left out, of all seeds and both arms, as one is
whose loss does not fall. Leaving out the slowest goes against both claims; what they would be with it is told beside them.
"""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from experiments.autopsy.kinds import AT_CHANCE, Run, runs_of
from experiments.depth.claims import ARMS, DEPTHS
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from plainres.records.schema import DIVERGED, CurvePoint

MIN_DEPTHS = 4  # two parameters a line leave two degrees of freedom
CLEAR = 2.0  # a smaller difference of Akaike's criterion prefers neither
AIC = "AIC of the power law - that of the exponential"
EASY = 0.75  # of the loss of guessing: what "iterations to" counts
# Protocols under which rates do not compare → why
UNRATED = {
    "paper": "its warm-up is at 110 layers alone, and a slope over its two drops of the learning rate measures the drops"
}
STATEMENTS = (
    "plain: the rate of convergence falls with depth, exponentially rather than as a power",
    "with shortcuts it falls by less a layer",
)


@dataclass(frozen=True)
class Line:
    """ln(rate) = intercept + slope · x, with x the depth (`exponential`) or its logarithm; `squares`: the sum of squared residuals."""

    exponential: bool
    intercept: float
    slope: float
    squares: float

    def rate(self, depth: float) -> float:
        """1 / iterations."""
        return math.exp(
            self.intercept + self.slope * (depth if self.exponential else math.log(depth))
        )


@dataclass(frozen=True)
class Fit:
    """The rates of one arm and seed, 1 / iterations by depth, and both lines."""

    rates: Mapping[int, float]
    exponential: Line
    power: Line

    @property
    def misses(self) -> float:
        """The factor by which the exponential misses a rate at worst."""
        return math.exp(
            max(
                abs(math.log(rate / self.exponential.rate(depth)))
                for depth, rate in self.rates.items()
            )
        )

    @property
    def without_the_deepest(self) -> "Fit | None":
        """The same of all but the deepest networks, which weigh most; None where too few are left."""
        return fit({depth: rate for depth, rate in self.rates.items() if depth != max(self.rates)})

    @property
    def preference(self) -> float:
        """Akaike's criterion of the power law minus that of the exponential: above 0 the exponential fits better."""
        tiny = 1e-12  # a line through every point
        return len(self.rates) * math.log(
            max(self.power.squares, tiny) / max(self.exponential.squares, tiny)
        )


def rate_of(points: Iterable[CurvePoint]) -> float:
    """How fast one run's training loss falls, in 1 / iterations; below 0 where it rises.

    Args:
        points: of one run, in any order, three or more from the highest learning rate on.
    """
    ordered = sorted(points, key=lambda point: point.iteration)
    highest = max(range(len(ordered)), key=lambda place: ordered[place].learning_rate)
    after = ordered[highest:]
    return -float(
        stats.linregress(
            [point.iteration for point in after], [math.log(point.train_loss) for point in after]
        ).slope
    )


def iterations_to(points: Iterable[CurvePoint], loss: float) -> int | None:
    """Iterations until the running training loss is at most `loss`, nats per image; None: never."""
    return min((point.iteration for point in points if point.train_loss <= loss), default=None)


def fit(rates: Mapping[int, float]) -> Fit | None:
    """Both lines through the rates (1 / iterations by depth, all above 0); None where there are fewer than MIN_DEPTHS."""
    if len(rates) < MIN_DEPTHS:
        return None
    depths = sorted(rates)
    logarithms = [math.log(rates[depth]) for depth in depths]
    lines = []
    for exponential in (True, False):
        x = [float(depth) if exponential else math.log(depth) for depth in depths]
        found = stats.linregress(x, logarithms)
        slope, intercept = float(found.slope), float(found.intercept)
        squares = sum(
            (y - intercept - slope * place) ** 2 for place, y in zip(x, logarithms, strict=True)
        )
        lines.append(Line(exponential, intercept, slope, squares))
    return Fit({depth: rates[depth] for depth in depths}, *lines)


def rates_of(
    curves: Sequence[CurvePoint], kinds: Mapping[Run, str]
) -> dict[tuple[str, int], dict[int, float]]:
    """The rate of every run, 1 / iterations, by arm and seed, and then by depth; one that diverged has none."""
    rates: dict[tuple[str, int], dict[int, float]] = {}
    for (arm, depth, seed), points in sorted(runs_of(curves).items()):
        if kinds.get((arm, depth, seed)) != DIVERGED:
            rates.setdefault((arm, seed), {})[depth] = rate_of(points)
    return rates


def unmeasured(kinds: Mapping[Run, str]) -> tuple[int, ...]:
    """The depths at which a network, of either arm and any seed, is at chance or diverged."""
    return tuple(
        sorted({depth for (_, depth, _), kind in kinds.items() if kind in (AT_CHANCE, DIVERGED)})
    )


def check(
    rates: Mapping[tuple[str, int], Mapping[int, float]], without: Collection[int] = ()
) -> list[Claim]:
    """The claims in the order of STATEMENTS, corrected together.

    Args:
        without: depths that are left out; the claims say what they would be with them.
    """
    still = _still(rates)
    left_out = sorted(
        (still | set(without))
        & {depth for found in rates.values() for depth in found}
        & set(DEPTHS)
    )
    told = (
        f"; left out: {_listed(left_out)} layers, where a network learned nothing"
        if left_out
        else ""
    )
    fits = {arm: fits_of(rates, arm, without) for arm in ARMS}
    with_them = {arm: fits_of(rates, arm) if set(without) - still else {} for arm in ARMS}
    if others := sorted(
        seed
        for arm, seed in rates
        if arm == "plain" and fits["plain"] and seed not in fits["plain"]
    ):
        told = (
            f"; not all depths measured of seed{'s' * (len(others) != 1)} {_listed(others)}{told}"
        )
    return verdict.corrected(
        [_law_of(fits["plain"], with_them["plain"], told), _help_of(fits, with_them, told)]
    )


def _law_of(plain: Mapping[int, Fit], with_them: Mapping[int, Fit], told: str) -> Claim:
    if not plain:
        return Claim(
            STATEMENTS[0],
            INCONCLUSIVE,
            f"missing: {MIN_DEPTHS} depths of plain networks whose loss falls{told}",
        )
    seen = f"{_seen(plain)}; the exponential misses a rate by up to × {max(found.misses for found in plain.values()):.2f}{told}"
    seen += f" (with them {_seen(with_them)})" if with_them else ""
    fall = Criterion(
        "fall of ln(rate) a layer",
        tuple(-found.exponential.slope for found in plain.values()),
        unit="",
    )
    preferences = [
        Criterion(AIC, tuple(found.preference for found in plain.values()), CLEAR, unit="")
    ]
    if shallower := [
        rest.preference for found in plain.values() if (rest := found.without_the_deepest)
    ]:
        preferences.append(
            Criterion(f"{AIC}, without the deepest", tuple(shallower), CLEAR, unit="")
        )
    if fall.mean > 0 and (
        not shallower or any(abs(preference.mean) < CLEAR for preference in preferences)
    ):
        seen += f"; a difference of AIC below {CLEAR:g} prefers neither" if shallower else ""
        return Claim(STATEMENTS[0], INCONCLUSIVE, seen, (fall, *preferences))
    return verdict.judge(STATEMENTS[0], [fall, *preferences], seen)


def _help_of(
    fits: Mapping[str, Mapping[int, Fit]], with_them: Mapping[str, Mapping[int, Fit]], told: str
) -> Claim:
    differences = _differences(fits)
    if not differences:
        return Claim(
            STATEMENTS[1], INCONCLUSIVE, f"missing: {MIN_DEPTHS} depths of both arms{told}"
        )
    criterion = Criterion("fall of ln(rate) a layer, plain - residual", differences, unit="")
    seen = f"{criterion.name}: {criterion.mean:+.3f}"
    rests = {
        arm: {
            seed: rest for seed, found in fits[arm].items() if (rest := found.without_the_deepest)
        }
        for arm in ARMS
    }
    if shallower := _differences(rests):
        seen += f", without the deepest networks {statistics.fmean(shallower):+.3f}"
    seen += told
    if all_depths := _differences(with_them):
        seen += f" (with them {statistics.fmean(all_depths):+.3f})"
    return verdict.judge(STATEMENTS[1], [criterion], seen)


def fits_of(
    rates: Mapping[tuple[str, int], Mapping[int, float]], arm: str, without: Collection[int] = ()
) -> dict[int, Fit]:
    """The fits of an arm by seed, all over the same depths: those of the seed that has most of the depth experiment's.

    Args:
        without: depths that are left out, besides those at which a loss, of either arm and any seed, does not fall.
    """
    chosen = set(DEPTHS) - _still(rates) - set(without)
    measured = {
        seed: {d: rate for d, rate in found.items() if d in chosen}
        for (name, seed), found in rates.items()
        if name == arm
    }
    most = max(measured.values(), key=len, default={}).keys()
    return {
        seed: found
        for seed, by_depth in measured.items()
        if by_depth.keys() == most and (found := fit(by_depth))
    }


def _still(rates: Mapping[tuple[str, int], Mapping[int, float]]) -> set[int]:
    """Depths at which the loss of a network does not fall: its rate has no logarithm."""
    return {depth for found in rates.values() for depth, rate in found.items() if rate <= 0}


def _differences(fits: Mapping[str, Mapping[int, Fit]]) -> tuple[float, ...]:
    """By how much more ln(rate) falls a layer in plain networks, one a seed that has the same depths of both."""
    plain, residual = (fits[arm] for arm in ARMS)
    return tuple(
        residual[seed].exponential.slope - found.exponential.slope
        for seed, found in plain.items()
        if seed in residual and residual[seed].rates.keys() == found.rates.keys()
    )


def _seen(fits: Mapping[int, Fit]) -> str:
    fall = -statistics.fmean(found.exponential.slope for found in fits.values())
    shallower = [rest.preference for found in fits.values() if (rest := found.without_the_deepest)]
    alone = _preferred(statistics.fmean(shallower)) if shallower else "there are too few to tell"
    return (
        f"a layer takes {100 * (1 - math.exp(-fall)):.1f} % of the rate; AIC prefers "
        f"{_preferred(statistics.fmean(found.preference for found in fits.values()))}, without the deepest networks {alone}"
    )


def _preferred(preference: float) -> str:
    return f"the {'exponential' if preference > 0 else 'power law'} by {abs(preference):.1f}"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def table(curves: Sequence[CurvePoint], kinds: Mapping[Run, str]) -> list[list[str]]:
    """One line an arm and seed under a row of headings: rates per 1,000 iterations by depth, in brackets where not measured; the laws."""
    rates, without = rates_of(curves, kinds), unmeasured(kinds)
    depths = sorted({depth for by_depth in rates.values() for depth in by_depth})
    heads = ["exponential", "at worst off by", "power", "better (AIC)", "without the deepest"]
    heads += [f"exponential, {_listed(without)} layers too"] if without else []
    rows = [["arm", "seed", *map(str, depths), *heads]]
    for (arm, seed), by_depth in rates.items():
        found, complete = (fits_of(rates, arm, left_out).get(seed) for left_out in (without, ()))
        cells = []
        for depth in depths:
            rate = f"{1000 * by_depth[depth]:.4f}" if depth in by_depth else "–"
            cells.append(f"({rate})" if kinds.get((arm, depth, seed)) == AT_CHANCE else rate)
        numbers = [
            _law(found),
            f"× {found.misses:.2f}" if found else "–",
            f"depth^{found.power.slope:+.2f}" if found else "–",
        ]
        numbers += [
            _better(found),
            _better(found.without_the_deepest if found else None),
            *([_law(complete)] if without else []),
        ]
        rows.append([arm, str(seed), *cells, *numbers])
    return rows


def times(curves: Sequence[CurvePoint], loss: float) -> list[list[str]]:
    """One line an arm and seed under a row of headings: iterations until the running training loss is at most `loss`, nats, by depth."""
    runs = runs_of(curves)
    depths = sorted({depth for _, depth, _ in runs})
    rows = [["arm", "seed", *map(str, depths)]]
    for arm, seed in sorted({(arm, seed) for arm, _, seed in runs}):
        cells = []
        for depth in depths:
            points = runs.get((arm, depth, seed))
            reached = iterations_to(points, loss) if points else None
            cells.append("–" if not points else "never" if reached is None else f"{reached:,}")
        rows.append([arm, str(seed), *cells])
    return rows


def _law(found: Fit | None) -> str:
    return f"× {math.exp(found.exponential.slope):.4f} a layer" if found else "–"


def _better(found: Fit | None) -> str:
    return (
        "–"
        if found is None
        else f"{'exponential' if found.preference > 0 else 'power law'}, {abs(found.preference):.1f}"
    )
