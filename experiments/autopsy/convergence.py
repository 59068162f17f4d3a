"""How fast does the training loss fall, by depth? Exponentially slower, as He et al. conjecture?

Model (the conjecture: He et al. 2015, section 4.1): after the warm-up the running training loss
falls as exp(-rate · iteration), towards 0. The rate of a run is minus the least-squares slope of
ln(loss) against iteration, from the iteration of the highest learning rate to the last. Over the
depths of one seed, ln(rate) is fitted by a straight line in depth (exponential: each layer takes
the same share of the rate) and by one in ln(depth) (power law). Both have two parameters, so
Akaike's criterion (AIC) compares their residuals. Seeds and arms are compared over the same depths,
and the preference must also be clear without the deepest networks, on which a line turns.

A network at chance has no rate that this could measure: its loss settles at that of chance, and
the slope says how fast it does that. A depth with such a network is left out, of all seeds and both
arms; so is a depth at which a loss does not fall. This leaves out the slowest networks, which is
against both claims; what the claims would be with them is said beside them.
"""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from experiments.autopsy.run_status import AT_CHANCE, rows_by_depth
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Cell, cell_of, grouped
from experiments.judging.verdict import INCONCLUSIVE, Claim
from plainres.records.schema import DIVERGED, CurvePoint

ARMS = ("plain", "residual")
DEPTHS = (20, 32, 44, 56, 110)  # of the depth experiment
MIN_DEPTHS = 4  # the two parameters of a line leave two degrees of freedom
CLEAR = 2.0  # a smaller difference of AIC prefers neither law
AIC = "AIC of the power law - AIC of the exponential"
SLOWER = 0.005  # of ln(rate) per layer: from 20 to 110 layers a factor of 1.6; less is none
EASY = 0.75  # of the loss at chance: an easy loss, to which iterations are counted
# Protocols under which rates do not compare → why
UNRATED = {
    "paper": (
        "only networks of 110 layers warm up, and a slope over the two drops of the learning rate "
        "measures the drops"
    )
}

Rates = Mapping[tuple[str, int], Mapping[int, float]]  # arm, seed → depth → 1 / iterations


@dataclass(frozen=True)
class Line:
    """ln(rate) = intercept + slope · x."""

    x: Callable[[float], float]  # of the depth
    intercept: float
    slope: float
    squares: float  # the sum of squared residuals

    def rate(self, depth: float) -> float:
        """1 / iterations."""
        return math.exp(self.intercept + self.slope * self.x(depth))


@dataclass(frozen=True)
class Fit:
    """The rates of one arm and seed, 1 / iterations by depth, and both lines."""

    rates: Mapping[int, float]
    exponential: Line
    power: Line

    @property
    def largest_factor(self) -> float:
        """The factor by which the exponential is wrong about a rate at worst."""
        residuals = (math.log(r / self.exponential.rate(d)) for d, r in self.rates.items())
        return math.exp(max(abs(residual) for residual in residuals))

    @property
    def preference(self) -> float:
        """AIC of the power law minus that of the exponential: above 0 the exponential is better."""
        tiny = 1e-12  # a line through every point
        power, exponential = (max(line.squares, tiny) for line in (self.power, self.exponential))
        return len(self.rates) * math.log(power / exponential)


Fits = Mapping[int, Fit]  # by seed


def rate_of(points: Iterable[CurvePoint]) -> float | None:
    """How fast the training loss of one run falls, in 1 / iterations; below 0 where it rises.

    None where a loss is 0, or where there are fewer than three points from the highest learning
    rate on.

    Args:
        points: in any order.
    """
    ordered = sorted(points, key=lambda point: point.iteration)
    highest = max(range(len(ordered)), key=lambda place: ordered[place].learning_rate)
    after = ordered[highest:]
    if len(after) < 3 or min(point.train_loss for point in after) <= 0:
        return None
    logarithms = [math.log(point.train_loss) for point in after]
    return -float(stats.linregress([point.iteration for point in after], logarithms).slope)


def fit(rates: Mapping[int, float]) -> Fit | None:
    """Both lines through rates above 0, by depth; None where there are fewer than MIN_DEPTHS."""
    if len(rates) < MIN_DEPTHS:
        return None
    depths = sorted(rates)
    logarithms = [math.log(rates[depth]) for depth in depths]
    lines = []
    for x in (float, math.log):
        xs = [x(depth) for depth in depths]
        line = stats.linregress(xs, logarithms)
        slope, intercept = float(line.slope), float(line.intercept)
        pairs = zip(xs, logarithms, strict=True)
        squares = sum((b - intercept - slope * a) ** 2 for a, b in pairs)
        lines.append(Line(x, intercept, slope, squares))
    return Fit({depth: rates[depth] for depth in depths}, *lines)


def without_the_deepest(fits: Fits) -> dict[int, Fit]:
    """The fits without the deepest network, which weighs most, where enough depths are left."""
    fewer = {seed: dict(sorted(lines.rates.items())[:-1]) for seed, lines in fits.items()}
    return {seed: lines for seed, rates in fewer.items() if (lines := fit(rates))}


def rates_of(
    curves: Sequence[CurvePoint], statuses: Mapping[Cell, str]
) -> dict[tuple[str, int], dict[int, float]]:
    """The rate of every run that has one; one that diverged has none."""
    rates: dict[tuple[str, int], dict[int, float]] = {}
    for (arm, depth, seed), points in sorted(grouped(curves, cell_of).items()):
        diverged = statuses.get((arm, depth, seed)) == DIVERGED
        if not diverged and (rate := rate_of(points)) is not None:
            rates.setdefault((arm, seed), {})[depth] = rate
    return rates


def unmeasured(statuses: Mapping[Cell, str]) -> tuple[int, ...]:
    """The depths at which a network, of either arm and any seed, is at chance or diverged."""
    without_rate = (AT_CHANCE, DIVERGED)
    return tuple(sorted({run[1] for run, status in statuses.items() if status in without_rate}))


def fits_of(rates: Rates, arm: str, without: Collection[int] = ()) -> dict[int, Fit]:
    """The fits of an arm by seed, of the seeds that have all depths of `_fitted`.

    Args:
        without: depths that are left out, besides those at which a loss does not fall.
    """
    depths = _fitted(rates, without)
    complete = {
        seed: {depth: by_depth[depth] for depth in depths}
        for (name, seed), by_depth in rates.items()
        if name == arm and depths <= by_depth.keys()
    }
    return {seed: lines for seed, rates in complete.items() if (lines := fit(rates))}


def _fitted(rates: Rates, without: Collection[int]) -> frozenset[int]:
    """The depths, MIN_DEPTHS of DEPTHS or more, that give most cells in series of all of them."""
    usable = frozenset(DEPTHS) - _rising(rates) - frozenset(without)
    measured = [usable.intersection(by_depth) for by_depth in rates.values()]
    shared = {one & other for one in measured for other in measured}
    enough = [depths for depths in shared if len(depths) >= MIN_DEPTHS]

    def cells(depths: frozenset[int]) -> tuple[int, int]:
        return len(depths) * sum(depths <= has for has in measured), len(depths)

    return max(enough, key=cells, default=usable)


def _rising(rates: Rates) -> set[int]:
    """Depths at which the loss of a network does not fall: its rate has no logarithm."""
    return {depth for by_depth in rates.values() for depth, rate in by_depth.items() if rate <= 0}


def check(
    rates: Rates, without: Collection[int] = (), incomparable: Sequence[str] = ()
) -> list[Claim]:
    """How the rate falls in plain networks, and whether less with shortcuts; corrected together.

    Args:
        rates: those of one seed were measured under the same conditions.
        without: depths that are left out; the claims say what they would be with them.
        incomparable: runs that are not among the rates because of their conditions; named.
    """
    rising, measured = _rising(rates), {depth for by_depth in rates.values() for depth in by_depth}
    fits = {arm: fits_of(rates, arm, without) for arm in ARMS}
    with_them = {arm: fits_of(rates, arm) if set(without) - rising else {} for arm in ARMS}
    note = f"; not comparable: {', '.join(incomparable)}" if incomparable else ""
    plain = fits["plain"]
    if incomplete := sorted(s for arm, s in rates if arm == "plain" and plain and s not in plain):
        seeds = f"seed{'s' * (len(incomplete) != 1)} {_listed(incomplete)}"
        note += f"; not all depths measured of {seeds}"
    if left_out := sorted((rising | set(without)) & measured & set(DEPTHS)):
        note += f"; left out: {_listed(left_out)} layers, where a network is at chance"
    lacking = (measured & set(DEPTHS)) - set(left_out) - _fitted(rates, without)
    if plain and lacking:
        note += f"; left out: {_listed(sorted(lacking))} layers, which too few seeds have"
    return verdict.corrected(
        [_law_claim(plain, with_them["plain"], note), _shortcuts_claim(fits, with_them, note)]
    )


def _law_claim(plain: Fits, with_them: Fits, note: str) -> Claim:
    statement = (
        "plain: the rate of convergence falls with depth, exponentially rather than as a power"
    )
    if not plain:
        missing = f"missing: {MIN_DEPTHS} depths of plain networks whose loss falls"
        return Claim(statement, INCONCLUSIVE, missing + note)
    worst = max(lines.largest_factor for lines in plain.values())
    summary = f"{_preferences(plain)}; the exponential is wrong by up to a factor of {worst:.2f}"
    summary += note + (f" (with them {_preferences(with_them)})" if with_them else "")
    slopes = tuple(-lines.exponential.slope for lines in plain.values())
    fall = Criterion("fall of ln(rate) per layer", slopes, SLOWER, unit="")
    fewer = without_the_deepest(plain)
    clear = [
        Criterion(name, tuple(lines.preference for lines in fits.values()), CLEAR, unit="")
        for name, fits in ((AIC, plain), (f"{AIC}, without the deepest", fewer))
        if fits
    ]
    unclear = any(abs(preference.mean) < CLEAR for preference in clear)
    if fall.mean > SLOWER and (not fewer or unclear):
        summary += f"; a difference of AIC below {CLEAR:g} prefers neither" if fewer else ""
        return Claim(statement, INCONCLUSIVE, summary, (fall, *clear))
    return verdict.judge(statement, [fall, *clear], summary)


def _shortcuts_claim(fits: Mapping[str, Fits], with_them: Mapping[str, Fits], note: str) -> Claim:
    statement = "with shortcuts the rate of convergence falls by less per layer"
    differences = _differences(fits)
    if not differences:
        missing = f"missing: {MIN_DEPTHS} depths of both arms"
        return Claim(statement, INCONCLUSIVE, missing + note)
    name = "fall of ln(rate) per layer, plain - residual"
    criterion = Criterion(name, differences, SLOWER, unit="")
    summary = f"{criterion.name}: {criterion.mean:+.3f}"
    if fewer := _differences({arm: without_the_deepest(fits[arm]) for arm in ARMS}):
        summary += f", without the deepest networks {statistics.fmean(fewer):+.3f}"
    summary += note
    if all_depths := _differences(with_them):
        summary += f" (with them {statistics.fmean(all_depths):+.3f})"
    return verdict.judge(statement, [criterion], summary)


def _differences(fits: Mapping[str, Fits]) -> tuple[float, ...]:
    """How much more ln(rate) falls per layer in plain networks, by seed with equal depths."""
    plain, residual = (fits[arm] for arm in ARMS)
    return tuple(
        residual[seed].exponential.slope - lines.exponential.slope
        for seed, lines in plain.items()
        if seed in residual and residual[seed].rates.keys() == lines.rates.keys()
    )


def _preferences(fits: Fits) -> str:
    """The mean fall of the rate, and which law AIC prefers, with and without the deepest."""
    fall = -statistics.fmean(lines.exponential.slope for lines in fits.values())
    texts = []
    for each in (fits, without_the_deepest(fits)):
        if each:
            mean = statistics.fmean(lines.preference for lines in each.values())
            texts.append(f"the {_better(mean)} by {abs(mean):.1f}")
    preferred, alone = [*texts, "there are too few to tell"][:2]
    return (
        f"the rate falls by {100 * (1 - math.exp(-fall)):.1f} % per layer; AIC prefers "
        f"{preferred}, without the deepest networks {alone}"
    )


def _better(preference: float) -> str:
    return "exponential" if preference > 0 else "power law"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def rate_rows(rates: Rates, statuses: Mapping[Cell, str]) -> list[list[str]]:
    """Rates per 1,000 iterations by depth (in brackets: at chance), and both laws, per seed."""
    without, texts = unmeasured(statuses), {}
    for (arm, seed), by_depth in rates.items():
        for depth, rate in by_depth.items():
            text, run = f"{1000 * rate:.4f}", (arm, depth, seed)
            texts[run] = f"({text})" if statuses.get(run) == AT_CHANCE else text
    head, *rows = rows_by_depth(texts)
    head += ["exponential", "largest factor", "power", "better (AIC)", "without the deepest"]
    head += [f"exponential, with {_listed(without)} layers"] if without else []
    for row in rows:
        arm, seed = row[0], int(row[1])
        fits, complete = fits_of(rates, arm, without), fits_of(rates, arm)
        lines, fewer = fits.get(seed), without_the_deepest(fits).get(seed)
        factor = f"× {lines.largest_factor:.2f}" if lines else "–"
        power = f"depth^{lines.power.slope:+.2f}" if lines else "–"
        better = [
            f"{_better(each.preference)}, {abs(each.preference):.1f}" if each else "–"
            for each in (lines, fewer)
        ]
        row += [_per_layer(lines), factor, power, *better]
        row += [_per_layer(complete.get(seed))] if without else []
    return [head, *rows]


def _per_layer(lines: Fit | None) -> str:
    return f"× {math.exp(lines.exponential.slope):.4f} per layer" if lines else "–"


def first_iteration(points: Iterable[CurvePoint], reached: Callable[[CurvePoint], bool]) -> str:
    """The first iteration at which something is reached, or "never"."""
    first = min((point.iteration for point in points if reached(point)), default=None)
    return "never" if first is None else f"{first:,}"


def iteration_rows(curves: Sequence[CurvePoint], loss: float) -> list[list[str]]:
    """Iterations until the running training loss is at most `loss` (nats per image), by depth."""
    runs = grouped(curves, cell_of).items()
    easy = {run: first_iteration(points, lambda p: p.train_loss <= loss) for run, points in runs}
    return rows_by_depth(easy)
