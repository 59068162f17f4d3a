"""How fast the training loss falls, by depth: does the rate fall exponentially, as He et al. 2015 conjecture (section 4.1)?

Model: after the warm-up the running training loss falls as exp(-rate · iteration), towards 0. The rate of a run is minus the
least-squares slope of ln(loss) against iteration, from the iteration of the highest learning rate to the last. Over depths of one seed,
ln(rate) is then fitted by a straight line in depth (exponential: the rate falls by the same factor with each layer) and by one in
ln(depth) (power law). Both have the same number of parameters, so Akaike's criterion compares their residuals. Seeds are compared over
the same depths, and the preference must be clear without the deepest networks too, on which a line turns.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from experiments import verdict
from experiments.depth.claims import DEPTHS
from experiments.inference import Criterion
from experiments.verdict import INCONCLUSIVE, Claim
from plainres.record import CurvePoint

MIN_DEPTHS = 4  # two parameters a line leave two degrees of freedom
CLEAR = 2.0  # a smaller difference of Akaike's criterion prefers neither
AIC = "AIC of the power law - that of the exponential"
EASY = 0.75  # of the loss of guessing: what "iterations to" counts
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
        return math.exp(self.intercept + self.slope * (depth if self.exponential else math.log(depth)))


@dataclass(frozen=True)
class Fit:
    """The rates of one arm and seed, 1 / iterations by depth, and both lines.

    Args:
        still: depths whose loss did not fall; no logarithm, and not in the fit.
    """

    rates: Mapping[int, float]
    still: tuple[int, ...]
    exponential: Line
    power: Line

    @property
    def misses(self) -> float:
        """The factor by which the exponential misses a rate at worst."""
        return math.exp(max(abs(math.log(rate / self.exponential.rate(depth))) for depth, rate in self.rates.items()))

    @property
    def without_the_deepest(self) -> "Fit | None":
        """The same of all but the deepest networks, which weigh most; None where too few are left."""
        return fit({depth: rate for depth, rate in self.rates.items() if depth != max(self.rates)})

    @property
    def preference(self) -> float:
        """Akaike's criterion of the power law minus that of the exponential: above 0 the exponential fits better."""
        tiny = 1e-12  # a line through every point
        return len(self.rates) * math.log(max(self.power.squares, tiny) / max(self.exponential.squares, tiny))


def rate_of(points: Iterable[CurvePoint]) -> float:
    """How fast one run's training loss falls, in 1 / iterations; below 0 where it rises.

    Args:
        points: of one run, in any order, three or more from the highest learning rate on.
    """
    ordered = sorted(points, key=lambda point: point.iteration)
    highest = max(range(len(ordered)), key=lambda place: ordered[place].learning_rate)
    after = ordered[highest:]
    return -float(stats.linregress([point.iteration for point in after], [math.log(point.train_loss) for point in after]).slope)


def iterations_to(points: Iterable[CurvePoint], loss: float) -> int | None:
    """Iterations until the running training loss is at most `loss`, nats per image; None: never."""
    return min((point.iteration for point in points if point.train_loss <= loss), default=None)


def fit(rates: Mapping[int, float]) -> Fit | None:
    """Both lines through the rates (1 / iterations by depth); None where fewer than MIN_DEPTHS of them lie above 0."""
    falling = {depth: rate for depth, rate in sorted(rates.items()) if rate > 0}
    if len(falling) < MIN_DEPTHS:
        return None
    depths, logarithms = list(falling), [math.log(rate) for rate in falling.values()]
    lines = []
    for exponential in (True, False):
        x = [float(depth) if exponential else math.log(depth) for depth in depths]
        found = stats.linregress(x, logarithms)
        slope, intercept = float(found.slope), float(found.intercept)
        squares = sum((y - intercept - slope * place) ** 2 for place, y in zip(x, logarithms, strict=True))
        lines.append(Line(exponential, intercept, slope, squares))
    return Fit(falling, tuple(sorted(rates.keys() - falling.keys())), *lines)


def rates_of(curves: Sequence[CurvePoint]) -> dict[tuple[str, int], dict[int, float]]:
    """The rate of every run, 1 / iterations, by arm and seed, and then by depth."""
    runs: dict[tuple[str, int, int], list[CurvePoint]] = {}
    for point in curves:
        runs.setdefault((point.arm, point.seed, point.depth), []).append(point)
    rates: dict[tuple[str, int], dict[int, float]] = {}
    for (arm, seed, depth), points in sorted(runs.items()):
        rates.setdefault((arm, seed), {})[depth] = rate_of(points)
    return rates


def check(rates: Mapping[tuple[str, int], Mapping[int, float]]) -> list[Claim]:
    """The claims in the order of STATEMENTS, corrected together."""
    plain, residual = (fits_of(rates, arm) for arm in ("plain", "residual"))
    both = {seed: (found, residual[seed]) for seed, found in plain.items() if seed in residual}
    claims = []
    if plain:
        seen = _seen(plain)
        if left_out := sorted(seed for arm, seed in rates if arm == "plain" and seed not in plain):
            seen += f"; left out, other depths measured: seed{'s' * (len(left_out) != 1)} {', '.join(map(str, left_out))}"
        fall = Criterion("fall of ln(rate) a layer", tuple(-found.exponential.slope for found in plain.values()), unit="")
        shallower = [rest.preference if (rest := found.without_the_deepest) else 0.0 for found in plain.values()]
        preferences = [Criterion(AIC, tuple(found.preference for found in plain.values()), CLEAR, unit="")]
        preferences.append(Criterion(f"{AIC}, without the deepest", tuple(shallower), CLEAR, unit=""))
        if fall.mean > 0 and any(abs(preference.mean) < CLEAR for preference in preferences):
            seen += f": less than {CLEAR:g} prefers neither"
            claims.append(Claim(STATEMENTS[0], INCONCLUSIVE, seen, (fall, *preferences)))
        else:
            claims.append(verdict.judge(STATEMENTS[0], [fall, *preferences], seen))
    else:
        claims.append(Claim(STATEMENTS[0], INCONCLUSIVE, f"missing: {MIN_DEPTHS} depths of plain networks whose loss falls"))
    if both:
        differences = tuple(with_.exponential.slope - without.exponential.slope for without, with_ in both.values())
        criterion = Criterion("fall of ln(rate) a layer, plain - residual", differences, unit="")
        claims.append(verdict.judge(STATEMENTS[1], [criterion], f"{criterion.name}: {criterion.mean:+.3f}"))
    else:
        claims.append(Claim(STATEMENTS[1], INCONCLUSIVE, f"missing: {MIN_DEPTHS} depths of both arms"))
    return verdict.corrected(claims)


def fits_of(rates: Mapping[tuple[str, int], Mapping[int, float]], arm: str) -> dict[int, Fit]:
    """The fits of an arm by seed, all over the same depths: those of the seed that has most of the depth experiment's."""
    of_arm = {seed: found for (name, seed), found in rates.items() if name == arm}
    measured = {seed: {depth: rate for depth, rate in found.items() if depth in DEPTHS} for seed, found in of_arm.items()}
    most = max(measured.values(), key=len, default={}).keys()
    return {seed: found for seed, by_depth in measured.items() if by_depth.keys() == most and (found := fit(by_depth))}


def _seen(fits: Mapping[int, Fit]) -> str:
    fall = -statistics.fmean(found.exponential.slope for found in fits.values())
    preference = statistics.fmean(found.preference for found in fits.values())
    shallower = [rest.preference for found in fits.values() if (rest := found.without_the_deepest)]
    alone = f"by {statistics.fmean(shallower):+.1f}" if shallower else "there are too few"
    return (
        f"a layer takes {100 * (1 - math.exp(-fall)):.1f} % of the rate; AIC prefers the exponential by {preference:+.1f}, without the "
        f"deepest networks {alone}; it misses a rate by up to × {max(found.misses for found in fits.values()):.2f}"
    )


def table(curves: Sequence[CurvePoint], num_classes: int) -> list[list[str]]:
    """One line an arm and seed, rates per 1,000 iterations by depth, under a row of headings; then the lines' numbers."""
    rates = rates_of(curves)
    depths = sorted({depth for by_depth in rates.values() for depth in by_depth})
    rows = [["arm", "seed", *map(str, depths), "exponential", "at worst off by", "power", "better (AIC)", "without the deepest"]]
    fits = {arm: fits_of(rates, arm) for arm, _ in rates}
    for (arm, seed), by_depth in rates.items():
        found = fits[arm].get(seed)
        cells = [f"{1000 * by_depth[depth]:.4f}" if depth in by_depth else "–" for depth in depths]
        numbers = ["–", "–", "–"]
        if found:
            exponential = f"× {math.exp(found.exponential.slope):.4f} a layer"
            numbers = [exponential, f"× {found.misses:.2f}", f"depth^{found.power.slope:+.2f}"]
        numbers += [_better(found), _better(found.without_the_deepest if found else None)]
        rows.append([arm, str(seed), *cells, *numbers])
    loss = EASY * math.log(num_classes)
    for arm, seed in rates:
        cells = []
        for depth in depths:
            points = [point for point in curves if (point.arm, point.depth, point.seed) == (arm, depth, seed)]
            reached = iterations_to(points, loss)
            cells.append("–" if not points else "never" if reached is None else f"{reached:,}")
        rows.append([f"{arm}, iterations to {loss:.2f} nats", str(seed), *cells, "", "", "", "", ""])
    return rows


def _better(found: Fit | None) -> str:
    return "–" if found is None else f"{'exponential' if found.preference > 0 else 'power law'}, {abs(found.preference):.1f}"
