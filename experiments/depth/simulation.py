"""How often the verdicts are wrong, and how often they find the truth, in simulated sweeps.

The networks have the means and standard deviations over seeds of the records of a results folder.
Attack: a claim is just false. One or two of its criteria lie at their bounds, where "reproduced"
and "not reproduced" are both wrong, and all else favours a wrong verdict: all other claims are
significant (Holm's least correction), and the criteria at their bounds are those that were worst in
a search. Power: effects as measured, and reversed.
"""

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase

import numpy as np
from scipy import stats

from experiments.depth.claims import ARMS, STATEMENTS, Grid, complete_part, grid_of
from experiments.depth.rules import (
    COMMITTED,
    FLIP,
    RULES,
    Array,
    Criteria,
    Rule,
    judge,
    judge_alone,
)
from experiments.judging.inference import CONFIDENCE, SIGNIFICANCE
from experiments.judging.pairs import grouped, read_records
from experiments.reporting.text import columns
from plainres.records.files import read_table, write_table

POWER_TABLE = "power.csv"
SIMULATIONS = 4000
SEEDS = (3, 5, 8, 10, 12)
FOR_MEDIANS = 100_000  # simulated seeds that give the median of each criterion's scatter
MADE_TRUE = 0.1  # by so much a criterion holds that the records reverse
RARE = 0.1  # share of seeds that end elsewhere
TYPICAL = 0.1  # standard deviation of the other seeds, where that of all seeds is 1
TRUTHS = MEAN, MEDIAN, MEASURED, REVERSED = (
    "mean just false",
    "median just false",
    "as measured",
    "reversed",
)

Generator = np.random.Generator
Shape = tuple[int, ...]


def _normal(generator: Generator, shape: Shape) -> Array:
    return generator.standard_normal(shape)


def _heavy_tailed(generator: Generator, shape: Shape) -> Array:
    return generator.standard_t(3, shape) / np.sqrt(3)


def _right_skewed(generator: Generator, shape: Shape) -> Array:
    """Lognormal, where the logarithm has deviation 1; skewness 6.2."""
    return (generator.lognormal(size=shape) - np.exp(0.5)) / np.sqrt(np.e**2 - np.e)


def _one_fails(generator: Generator, shape: Shape) -> Array:
    """Rare seeds lie far above the mean, all others a little below it."""
    distance = np.sqrt((1 - TYPICAL**2) / (RARE * (1 - RARE)))
    rare = generator.random(shape) < RARE
    return distance * (rare - RARE) + TYPICAL * generator.standard_normal(shape)


# Each of mean 0 and standard deviation 1
SCATTERS: dict[str, Callable[[Generator, Shape], Array]] = {
    "normal": _normal,
    "t, 3 degrees": _heavy_tailed,
    "left-skewed": lambda generator, shape: -_right_skewed(generator, shape),
    "right-skewed": _right_skewed,
    "1 in 10 learns": lambda generator, shape: -_one_fails(generator, shape),
    "1 in 10 fails": _one_fails,
}
NORMAL, *_, LEARNS, FAILS = SCATTERS
WITH_RARE = (LEARNS, FAILS)


@dataclass(frozen=True)
class Rate:
    """How often a claim got each verdict, as fractions of `simulations` sweeps."""

    truth: str  # one of TRUTHS
    rule: str  # name of one of RULES
    scatter: str  # one of SCATTERS
    seeds: int  # of one sweep
    claim: str  # its letter
    tested: bool  # else "reproduced" means "supports", "not reproduced" means "contradicts"
    reproduced: float
    not_reproduced: float
    simulations: int
    at_bound_reproduced: str = ""  # the worst criteria, where they were searched
    at_bound_not_reproduced: str = ""


@dataclass
class Sweeps:
    """Simulated sweeps with the means and deviations of a measured grid.

    Networks and seeds scatter independently. Errors are not cut off at 0 and 1, so that means stay
    where they are. A network of one seed has the deviation of its arm at 20 layers.

    Args:
        grid: of two seeds or more, without a missing cell.
    """

    grid: Grid
    simulations: int
    generator: Generator = field(default_factory=lambda: np.random.default_rng(2015))

    def __post_init__(self) -> None:
        values = {
            (arm, depth): [
                self.grid.errors[arm, depth, seed]
                for seed in self.grid.seeds
                if (arm, depth, seed) in self.grid.errors
            ]
            for arm, depth in itertools.product(ARMS, self.grid.measured)
        }
        networks = [network for network, column in values.items() if column]
        self.criteria = Criteria(networks)
        self.means = np.array([statistics.fmean(values[network]) for network in networks])
        spread = {
            (arm, depth): column if len(column) > 1 else values[arm, self.grid.depths[0]]
            for (arm, depth), column in values.items()
        }
        self.deviations = np.array([statistics.stdev(spread[network]) for network in networks])

    def draw(self, scatter: str, seeds: int, sweeps: int = 0) -> Array:
        """Distances from the means, (sweeps, seeds, networks)."""
        shape = (sweeps or self.simulations, seeds, len(self.means))
        return self.deviations * SCATTERS[scatter](self.generator, shape)

    def just_false(self, claim: int, offsets: Array) -> Iterator[tuple[str, Array]]:
        """Means at which a claim is just false, with the names of the criteria at their bounds.

        One or two criteria lie there, by the smallest change of means, and none beyond: a criterion
        that the records reverse is made to hold.

        Args:
            offsets: what each criterion's excess has beside that of the means.
        """
        criteria, places = self.criteria, self.criteria.claims[claim]
        excess = self.means @ criteria.weights + criteria.constants + offsets
        for count in (1, 2):
            for chosen in map(list, itertools.combinations(places, count)):
                wanted = np.where(excess < 0, MADE_TRUE, excess)
                wanted[chosen] = 0
                moved = [place for place in places if wanted[place] != excess[place]]
                change = (wanted - excess)[moved] @ np.linalg.pinv(criteria.weights[:, moved])
                result = excess + change @ criteria.weights
                if (abs(result - wanted)[moved] < 1e-9).all() and (result[places] > -1e-9).all():
                    yield ", ".join(criteria.names[c] for c in chosen), self.means + change


def attack(
    sweeps: Sweeps, scatters: Iterable[str] = SCATTERS, numbers: Sequence[int] = SEEDS
) -> list[Rate]:
    """How often each claim that is just false gets a verdict, by rule, scatter and seeds.

    The worst criteria are searched in one set of sweeps and judged in another one, so that the
    search does not exaggerate.
    """
    rates = []
    for scatter in scatters:
        many = sweeps.draw(scatter, FOR_MEDIANS, sweeps=1)[0] @ sweeps.criteria.weights
        offsets = {MEAN: np.zeros(many.shape[1]), MEDIAN: np.median(many, axis=0)}
        for seeds in numbers:
            drawn = [sweeps.draw(scatter, seeds) for _ in ("search", "judge")]
            for truth, claim in itertools.product(offsets, range(len(STATEMENTS))):
                cases = dict(sweeps.just_false(claim, offsets[truth]))
                if not cases:
                    continue
                searched, judged = (_shares(sweeps.criteria, claim, cases, each) for each in drawn)
                for place, rule in enumerate(RULES):
                    worst = searched[:, place].argmax(0)
                    shares = judged[worst, place, (0, 1)]
                    where = [list(cases)[case] for case in worst]
                    rates += _rate(truth, rule, scatter, seeds, claim, shares, sweeps, where)
    return rates


def _shares(criteria: Criteria, claim: int, cases: dict[str, Array], drawn: Array) -> Array:
    """Shares of sweeps in which the claim gets a verdict, (cases, rules, 2)."""
    judged = (judge_alone(criteria, claim, means + drawn).values() for means in cases.values())
    return np.array([[given.mean(0) for given in by_rule] for by_rule in judged])


def find(sweeps: Sweeps) -> list[Rate]:
    """How often each claim gets a verdict, with normal scatter, where effects are as measured.

    And where they are reversed: each error is mirrored at the middle between the largest and the
    smallest mean.
    """
    criteria, means = sweeps.criteria, sweeps.means
    truths = {MEASURED: means, REVERSED: means.max() + means.min() - means}
    rates = []
    for (truth, centre), seeds in itertools.product(truths.items(), SEEDS):
        for rule, given in judge(criteria, centre + sweeps.draw(NORMAL, seeds)).items():
            for claim, shares in enumerate(given.mean(0)):
                if len(criteria.claims[claim]):
                    rates += _rate(truth, rule, NORMAL, seeds, claim, shares, sweeps)
    return rates


def _rate(
    truth: str,
    rule: Rule,
    scatter: str,
    seeds: int,
    claim: int,
    shares: Array,
    sweeps: Sweeps,
    where: Sequence[str] = (),
) -> list[Rate]:
    """One row; none where another rule than the one in use has no test."""
    tested = seeds >= rule.fewest_seeds(len(STATEMENTS))
    letter, (yes, no), count = ascii_lowercase[claim], map(float, shares), sweeps.simulations
    row = Rate(truth, rule.name, scatter, seeds, letter, tested, yes, no, count, *where)
    return [row] if tested or rule == COMMITTED else []


def read_power(folder: Path) -> list[Rate]:
    """The rates in a results folder, none where they were not simulated.

    Raises:
        ValueError: the table is damaged, or of rules that the code no longer has.
    """
    rates, path = read_table(folder / POWER_TABLE, Rate), folder / POWER_TABLE
    again = f"make power PROTOCOL={folder.name} simulates again"
    known = {"rule": {rule.name for rule in RULES}, "truth": {*TRUTHS}, "scatter": {*SCATTERS}}
    for name, values in known.items():
        if unknown := sorted({getattr(rate, name) for rate in rates} - values):
            raise ValueError(f"{path} has an unknown {name} ({', '.join(unknown)}); {again}")
    cases = Counter((rate.truth, rate.rule, rate.scatter, rate.seeds) for rate in rates)
    if rates and ({*TRUTHS} != {case[0] for case in cases} or len({*cases.values()}) > 1):
        raise ValueError(f"{path} is cut: it lacks claims of a case; {again}")
    return rates


def error_table(rates: Sequence[Rate]) -> list[list[str]]:
    """By rule and seeds: the largest shares of wrong verdicts over all claims, in per cent."""
    head = ["holds at 5 %, without rare seeds?", "holds at 5 %, with rare seeds?"]
    rows = [["rule", "seeds", *SCATTERS, "median, worst scatter", *head]]
    for (rule, seeds), here in _grouped(rates, "rule", "seeds").items():
        means = [rate for rate in here if rate.truth == MEAN]
        cells = [_largest([rate for rate in means if rate.scatter == name]) for name in SCATTERS]
        medians = _largest([rate for rate in here if rate.truth == MEDIAN])
        parts = grouped(means, lambda rate: rate.scatter in WITH_RARE)
        rows.append([rule, seeds, *cells, medians, *(holds(parts[rare]) for rare in (False, True))])
    return rows


def worst_table(rates: Sequence[Rate]) -> list[list[str]]:
    """By claim: shares of wrong verdicts of the rule in use, with the fewest seeds it tests."""
    ours = [r for r in rates if r.rule == COMMITTED.name and r.truth == MEAN and r.tested]
    seeds = min(rate.seeds for rate in ours)
    rows = [[f"claim, {seeds} seeds", *SCATTERS, "worst criterion for `reproduced`"]]
    for (letter,), here in _grouped([r for r in ours if r.seeds == seeds], "claim").items():
        worst = max(here, key=lambda rate: rate.reproduced).at_bound_reproduced
        rows.append([letter, *(_largest([rate]) for rate in here), worst])
    return rows


def power_table(rates: Sequence[Rate]) -> list[list[str]]:
    """By truth, rule and seeds: how often each claim gets a verdict, in per cent."""
    names = [rule.name for rule in RULES if FLIP in rule.tests]
    shown = [r for r in rates if r.truth in (MEASURED, REVERSED) and r.rule in names]
    rows = [["effects", "rule", "seeds", *dict.fromkeys(rate.claim for rate in shown)]]
    for (*case, seeds), here in _grouped(shown, "truth", "rule", "seeds").items():
        count = seeds if here[0].tested else f"{seeds}, no test"
        rows.append([*case, count, *(_largest([rate]) for rate in here)])
    return rows


def _grouped(rates: Sequence[Rate], *names: str) -> dict[tuple[str, ...], list[Rate]]:
    """The rates by the texts of some of their fields, in the order of TRUTHS, RULES and seeds."""
    rules = [rule.name for rule in RULES]

    def order(rate: Rate) -> tuple[int, int, int]:
        return TRUTHS.index(rate.truth), rules.index(rate.rule), rate.seeds

    ordered = sorted(rates, key=order)
    return grouped(ordered, lambda rate: tuple(str(getattr(rate, name)) for name in names))


def _largest(rates: Sequence[Rate]) -> str:
    """`0.4 / 12.3`: the largest shares of reproduced and not reproduced, in per cent."""
    yes, no = (max(100 * _shares_of(rate)[side] for rate in rates) for side in (0, 1))
    return f"{yes:.1f} / {no:.1f}"


def _shares_of(rate: Rate) -> tuple[float, float]:
    return rate.reproduced, rate.not_reproduced


def holds(rates: Sequence[Rate]) -> str:
    """Whether no share of wrong verdicts exceeds 5 %; the largest share with its 95 % interval."""
    if not all(rate.tested for rate in rates):
        return "no test"
    worst = max(rates, key=lambda rate: max(_shares_of(rate)))
    share = max(_shares_of(worst))
    count = round(share * worst.simulations)
    low, high = stats.binomtest(count, worst.simulations).proportion_ci(CONFIDENCE)
    word = "holds" if high <= SIGNIFICANCE else "about 5 %"
    if low > SIGNIFICANCE:
        word = "does not hold"
    return f"{word}: up to {100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def mean_correlation(grid: Grid) -> float:
    """Mean correlation over seeds of two networks' errors, over all pairs of networks."""
    errors = [grid.of(arm, depth) for arm, depth in itertools.product(ARMS, grid.depths)]
    pairs = np.triu_indices(len(errors), 1)
    return float(np.asarray(np.corrcoef(errors))[pairs].mean())


def power(folder: Path, simulations: int = SIMULATIONS) -> str:
    """Simulates from the records of a results folder, writes power.csv there; returns its text."""
    records = read_records(folder)
    grid = complete_part(records, grid_of(records))
    if grid.missing or len(grid.seeds) < 2:
        raise ValueError(f"{folder} has no grid of two seeds or more to simulate from")
    sweeps = Sweeps(grid, simulations)
    rates = [*attack(sweeps), *find(sweeps)]
    write_table(folder / POWER_TABLE, rates, Rate)
    tables = (error_table(rates), worst_table(rates), power_table(rates))
    return "\n\n".join("\n".join(columns(table)) for table in tables)
