"""Variance components of values with two crossed factors, without replicates and with gaps.

A value is taken to be the mean + an effect of its seed + one of its machine + the rest, all random
and independent. Method of moments from pairs of values (G. G. Koch, "Some further remarks
concerning a general approach to the estimation of variance components", Technometrics 10, 1968):
half the mean squared difference of a kind of pairs estimates the sum of the variances of what the
two do not share. It is unbiased with any gaps, and without gaps the analysis of variance.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from scipy import stats

from experiments.judging.inference import CONFIDENCE

Place = tuple[int, str]  # seed, machine
SMALLEST = 1e-6  # half squared difference that counts as none, of values in percentage points


@dataclass(frozen=True)
class Components:
    """Half squared differences by kind of pair, and the variances that follow from them.

    Args:
        same_seed: of pairs of one seed on two machines.
        same_machine: of pairs of two seeds on one machine.
        neither: of pairs of two seeds on two machines.
    """

    same_seed: list[float]
    same_machine: list[float]
    neither: list[float]

    @property
    def variances(self) -> tuple[float, float, float] | None:
        """Of seed, machine and rest; chance may make one negative. None where a kind is missing."""
        kinds = (self.same_seed, self.same_machine, self.neither)
        if not all(kinds):
            return None
        machine_rest, seed_rest, all_three = map(statistics.fmean, kinds)
        rest = machine_rest + seed_rest - all_three
        return all_three - machine_rest, all_three - seed_rest, rest

    @property
    def log_ratio(self) -> float | None:
        """ln of the deviation over machines within a seed / over seeds within a machine."""
        if not (self.same_seed and self.same_machine):
            return None
        over, within = map(statistics.fmean, (self.same_seed, self.same_machine))
        return math.log(max(over, SMALLEST) / max(within, SMALLEST)) / 2


def components(values: Mapping[Place, float]) -> Components:
    """The components of values by seed and machine."""
    found = Components([], [], [])
    for (one, x), (other, y) in combinations(values.items(), 2):
        if one[0] == other[0]:
            kind = found.same_seed
        else:
            kind = found.same_machine if one[1] == other[1] else found.neither
        kind.append((x - y) ** 2 / 2)
    return found


def log_ratios(values: Mapping[Place, float]) -> list[float] | None:
    """Components.log_ratio as the mean of values of the seeds, in ascending order.

    By the jackknife: they scatter as independent values with this mean would. None where it cannot
    be computed without one of the seeds, as with two of them.
    """
    seeds = sorted({seed for seed, _ in values})
    left = [{p: value for p, value in values.items() if p[0] != seed} for seed in seeds]
    ratios = [components(each).log_ratio for each in (values, *left)]
    whole, *without = [ratio for ratio in ratios if ratio is not None] or [0.0]
    if len(without) < len(seeds) or not seeds:
        return None
    mean = statistics.fmean(without)
    return [whole + (len(seeds) - 1) * (mean - ratio) for ratio in without]


def deviation(half_squares: list[float]) -> float:
    """The standard deviation that half squared differences of pairs estimate."""
    return math.sqrt(statistics.fmean(half_squares))


def interval_factors(count: int) -> tuple[float, float]:
    """95 % interval of a normal standard deviation from so many values, in multiples of it."""
    degrees, tail = count - 1, (1 - CONFIDENCE) / 2
    low, high = (math.sqrt(degrees / stats.chi2.ppf(q, degrees)) for q in (1 - tail, tail))
    return low, high
