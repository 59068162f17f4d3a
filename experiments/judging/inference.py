"""The statistics under the claims. Nothing here knows arms or records."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000
POINTS = "points"


@dataclass(frozen=True)
class Criterion:
    """ "The mean of `values` lies above `bound`", or below it.

    Assumes that seeds are independent and their values about normal. Assumes neither equal spread
    over depths nor independence within a seed.

    Args:
        name: what the values are, for a reader.
        values: one per seed.
        above: the mean must lie above `bound`; else below.
        unit: of values and bound; POINTS for differences of errors, which are fractions.
    """

    name: str
    values: tuple[float, ...]
    bound: float = 0.0
    above: bool = True
    unit: str = POINTS

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def holds(self) -> bool:
        return self.mean > self.bound if self.above else self.mean < self.bound

    @property
    def fails(self) -> bool:
        return self.mean < self.bound if self.above else self.mean > self.bound

    @cached_property
    def p(self) -> float:
        """P value of Student's one-sided t test over seeds; of the sign test if all are equal."""
        spread = statistics.stdev(self.values) / math.sqrt(len(self.values))
        excess = (self.mean - self.bound) * (1 if self.above else -1)
        if spread == 0:
            by_sign = 0.5 ** len(self.values)
            return by_sign if excess > 0 else 1 - by_sign if excess < 0 else 0.5
        return float(stats.t.sf(excess / spread, len(self.values) - 1))

    @property
    def p_against(self) -> float:
        """P value of the same test of the opposite."""
        return 1 - self.p

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


def page_trend(rows: Sequence[Sequence[float]], falling: bool = False) -> float | None:
    """P value of Page's test that columns rise (or fall) from left to right, rows as replicates.

    Page's and not Jonckheere and Terpstra's, because the depths of one seed share batches: rows are
    blocks, which only Page's test knows. It assumes independent rows, and nothing about the
    distribution. None below 2 rows or 3 columns.
    """
    if len(rows) < 2 or len(rows[0]) < 3:
        return None
    ordered = [list(reversed(row)) if falling else list(row) for row in rows]
    return float(stats.page_trend_test(ordered).pvalue)


def all_of(p_values: Sequence[float]) -> float:
    """P value of "all of them are true": the largest (intersection-union test, no correction)."""
    return max(p_values)


def any_of(p_values: Sequence[float]) -> float:
    """P value of "at least one of them is true": Bonferroni's."""
    return min(1.0, len(p_values) * min(p_values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: with at most 5 % chance, any claim below 0.05 is wrong."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
