"""The statistics under the claims. Nothing here knows arms or records."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000
POINTS = "points"
EXACT = 16  # up to so many values all assignments of signs are counted
DRAWN = 200  # up to so many, random ones; above, their sum is normal


@dataclass(frozen=True)
class Criterion:
    """ "The mean of `values` lies above `bound`", or below it.

    Assumes that seeds are independent and their values scattered symmetrically. Assumes neither a
    normal distribution, nor equal spread over depths, nor independence within a seed.

    Args:
        name: what the values are, for a reader.
        values: one per seed.
        above: the mean must lie above `bound`; else below.
        unit: of values and bound; POINTS for differences of errors, which are fractions.
        median: tests the median too; not of a jackknife's pseudo-values, of which only the mean
            has a meaning.
    """

    name: str
    values: tuple[float, ...]
    bound: float = 0.0
    above: bool = True
    unit: str = POINTS
    median: bool = True

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def holds(self) -> bool:
        return self.mean > self.bound if self.above else self.mean < self.bound

    @property
    def holds_in_all(self) -> bool:
        """Whether the value of every seed lies on the right side."""
        return all(excess > 0 for excess in self._excesses)

    @property
    def fails_in_all(self) -> bool:
        """Whether the value of every seed lies on the wrong side."""
        return all(excess < 0 for excess in self._excesses)

    @property
    def _excesses(self) -> tuple[float, ...]:
        """How far each seed's value lies on the right side."""
        return tuple((value - self.bound) * (1 if self.above else -1) for value in self.values)

    @cached_property
    def p(self) -> float:
        """P value: the largest of Student's t, the sign-flip and the sign test, one-sided."""
        return p_value(self._excesses, self.median)

    @cached_property
    def p_against(self) -> float:
        """P value of the same tests of the opposite."""
        return p_value([-excess for excess in self._excesses], self.median)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean from Student's t; None with one seed."""
        if len(self.values) < 2:
            return None
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(self.values) - 1)
        half_width = float(stats.sem(self.values) * quantile)
        return self.mean - half_width, self.mean + half_width

    @property
    def bootstrap_interval(self) -> tuple[float, float] | None:
        """95 % percentile bootstrap of the mean over seeds; None with one seed.

        It cannot reach beyond the seeds that were run, so with three of them it is too narrow. It
        is shown, and decides nothing.
        """
        if len(self.values) < 2:
            return None
        options = {"n_resamples": RESAMPLES, "confidence_level": CONFIDENCE, "random_state": 0}
        result = stats.bootstrap((self.values,), np.mean, method="percentile", **options)
        low, high = result.confidence_interval
        return float(low), float(high)


def p_value(values: Sequence[float], median: bool = True) -> float:
    """P value of "the values lie above 0": the largest one of three one-sided tests.

    Student's t test of the mean needs about normal values. The sign-flip test of the mean counts
    the assignments of signs with no smaller sum; it is exact for every symmetric distribution. The
    sign test of the median is exact for every distribution. Neither of the last two goes below
    1 / 2**n.

    Args:
        median: False: without the sign test.
    """
    count = len(values)
    spread = statistics.stdev(values) / math.sqrt(count)
    mean = statistics.fmean(values)
    by_t = float(stats.t.sf(mean / spread, count - 1)) if spread else float(mean <= 0)
    positive = sum(value > 0 for value in values)
    by_sign = float(stats.binomtest(positive, count, alternative="greater").pvalue)
    return max(by_t, sign_flip(values), by_sign if median else 0.0)


def sign_flip(values: Sequence[float]) -> float:
    """P value of the sign-flip test: the mean lies above 0.

    From 17 values on by random signs; from 201 on by the normal distribution of their sum.
    """
    if len(values) > DRAWN:
        norm = float(np.linalg.norm(values))
        return float(stats.norm.sf(math.fsum(values) / norm)) if norm else 1.0
    sums = signs(len(values)) @ np.asarray(values)
    rounding = 1e-12 * float(np.abs(values).sum())
    return float((sums >= math.fsum(values) - rounding).mean())


@cache
def signs(count: int) -> np.ndarray:
    """Every assignment of signs (2**count, count); from 17 on the given one and random ones."""
    if count <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    random = np.random.default_rng(0).integers(0, 2, (2**EXACT, count))
    random[0] = 0
    return 1.0 - 2.0 * random


def fewest_seeds(claims: int) -> int:
    """The fewest seeds with which any of so many claims can be significant, in either direction.

    Where all n seeds agree, the sign-flip test gives 1 / 2**n, and Holm's correction multiplies
    it by both directions of all claims.
    """
    return next(n for n in range(1, 64) if 2 * claims / 2**n < SIGNIFICANCE)


def page_trend(rows: Sequence[Sequence[float]]) -> float | None:
    """P value of Page's test that columns rise from left to right, rows as replicates.

    Page's and not Jonckheere and Terpstra's, because the depths of one seed share batches: rows are
    blocks, which only Page's test knows. It assumes independent rows, and nothing about the
    distribution. None below 2 rows or 3 columns.
    """
    if len(rows) < 2 or len(rows[0]) < 3:
        return None
    return float(stats.page_trend_test([list(row) for row in rows]).pvalue)


def all_of(p_values: Sequence[float]) -> float:
    """P value of "all of them are true": the largest (intersection-union test, no correction)."""
    return max(p_values)


def any_of(p_values: Sequence[float]) -> float:
    """P value of "at least one of them is true": Bonferroni's."""
    return min(1.0, len(p_values) * min(p_values))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment: with at most 5 % chance, any claim below 0.05 is wrong.

    Args:
        p_values: (…, claims); each row is a family.
    """
    order = p_values.argsort(-1)
    factors = np.arange(p_values.shape[-1], 0, -1)
    steps = np.minimum(1, factors * np.take_along_axis(p_values, order, -1))
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(steps, -1), -1)
    return adjusted
