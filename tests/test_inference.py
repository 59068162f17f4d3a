"""The statistics against values from tables, exact counts and hand calculation."""

import math

import pytest
from scipy import stats

from experiments.judging.inference import Criterion, all_of, any_of, holm, page_trend


def test_a_criterion_is_students_one_sided_test_over_seeds():
    values = (0.019, 0.020, 0.021)
    criterion = Criterion("x", values, bound=0.018)
    t = 0.002 / (0.001 / math.sqrt(3))
    assert criterion.mean == pytest.approx(0.02)
    assert criterion.p == pytest.approx(1 - stats.t.cdf(t, 2))
    assert Criterion("x", values, bound=0.018, above=False).p == pytest.approx(stats.t.cdf(t, 2))
    assert criterion.p_against == pytest.approx(stats.t.cdf(t, 2))
    half_width = 4.302653 * 0.001 / math.sqrt(3)
    assert criterion.interval == pytest.approx((0.02 - half_width, 0.02 + half_width), rel=1e-6)


@pytest.mark.parametrize(
    ("bound", "above", "p"),
    [(0.125, True, 1 / 8), (0.5, True, 7 / 8), (0.25, True, 0.5), (0.5, False, 1 / 8)],
)
def test_seeds_that_agree_exactly_show_no_more_than_their_signs(bound, above, p):
    assert Criterion("x", (0.25, 0.25, 0.25), bound, above).p == p


def test_direction_of_one_seed():
    one = Criterion("x", (0.01,), bound=0.005, above=False)
    assert (one.holds, one.fails) == (False, True)
    assert one.interval is None
    assert one.bootstrap_interval is None


def test_the_bootstrap_never_leaves_the_seeds_that_were_run():
    criterion = Criterion("x", (0.1, 0.2, 0.6))
    low, high = criterion.bootstrap_interval
    assert 0.1 <= low < criterion.mean < high <= 0.6
    assert criterion.bootstrap_interval == (low, high)
    assert criterion.interval[1] > high


def test_page_counts_orders_exactly():
    rising = [[1.0, 2.0, 3.0]] * 3
    assert page_trend(rising) == pytest.approx(1 / 6**3)
    assert page_trend(rising, falling=True) == pytest.approx(1.0)
    assert page_trend(rising[:1]) is None
    assert page_trend([[1.0, 2.0]] * 3) is None


def test_combining():
    assert all_of([0.01, 0.2, 0.03]) == 0.2
    assert any_of([0.01, 0.2, 0.03]) == pytest.approx(0.03)
    assert any_of([0.5, 0.6]) == 1.0


def test_holm_against_the_example_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6, 0.9]) == pytest.approx([1.0, 1.0, 1.0])
