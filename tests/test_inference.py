"""The statistics against values from tables, exact counts and hand calculation."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.judging import inference
from experiments.judging.inference import (
    Criterion,
    all_of,
    any_of,
    fewest_seeds,
    holm,
    page_trend,
    sign_flip,
)

VALUES = (0.0155, 0.0015, 0.0075, 0.0015, -0.0015, 0.0135, -0.0265, 0.0705)


@pytest.mark.parametrize(
    ("values", "test"),
    [
        (VALUES, "flip"),
        ((0.30, 0.28, 0.31, 0.29, 0.30, 0.31, -0.01, 0.30), "sign"),
        ((0.30, 0.01, 0.02, 0.01, 0.02, 0.03, 0.01, 0.02), "t"),
    ],
)
def test_a_criterion_has_the_largest_p_of_three_tests(values, test):
    shifted = np.array(values) - 0.0005
    p_values = {
        "t": stats.ttest_1samp(shifted, 0, alternative="greater").pvalue,
        "flip": stats.permutation_test(
            (shifted,), np.sum, permutation_type="samples", alternative="greater"
        ).pvalue,
        "sign": stats.binomtest(int((shifted > 0).sum()), 8, alternative="greater").pvalue,
    }
    assert max(p_values, key=p_values.get) == test
    criterion = Criterion("x", values, bound=0.0005)
    assert criterion.p == pytest.approx(p_values[test])
    reverse = Criterion("x", tuple(-value for value in values), bound=-0.0005, above=False)
    assert reverse.p == pytest.approx(criterion.p)
    assert reverse.p_against == pytest.approx(criterion.p_against)
    without = max(p for name, p in p_values.items() if name != "sign")
    assert Criterion("x", values, bound=0.0005, median=False).p == pytest.approx(without)


def test_the_interval_is_students():
    criterion = Criterion("x", (0.019, 0.020, 0.021))
    half_width = 4.302653 * 0.001 / math.sqrt(3)
    assert criterion.interval == pytest.approx((0.02 - half_width, 0.02 + half_width), rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_seeds_that_all_agree_have_one_assignment_of_signs_in_two_to_the_n(count):
    values = tuple(0.4 + 0.01 * number for number in range(count))
    assert sign_flip(values) == 2**-count
    assert sign_flip([-value for value in values]) == 1.0


def test_one_seed_that_disagrees_costs_what_counting_says():
    # 256 assignments; as large a sum: the given one, and the one with the small value positive
    assert sign_flip((5, 6, 7, 8, 9, 10, 11, -1)) == 2 / 256


def test_many_seeds_are_tested_by_random_signs():
    values = np.random.default_rng(1).normal(0.4, 1, 20)
    exact = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", alternative="greater",
        n_resamples=2**20,
    ).pvalue  # fmt: skip
    assert sign_flip(values) == pytest.approx(exact, abs=0.004)


def test_very_many_seeds_are_tested_by_the_normal_sum_of_their_signs(monkeypatch):
    generator = np.random.default_rng(0)
    for mean in (-0.1, 0.0, 0.05, 0.1, 0.2):
        values = generator.normal(mean, 1, 400).tolist()
        by_sum = inference.sign_flip(values)
        monkeypatch.setattr(inference, "DRAWN", 400)
        assert by_sum == pytest.approx(inference.sign_flip(values), abs=0.006)
        monkeypatch.undo()
    assert inference.sign_flip([0.0] * 400) == 1


@pytest.mark.parametrize(("bound", "p"), [(0.125, 1 / 8), (0.5, 1.0), (0.25, 1.0)])
def test_seeds_that_agree_exactly_show_no_more_than_their_signs(bound, p):
    assert Criterion("x", (0.25, 0.25, 0.25), bound).p == p


@pytest.mark.parametrize(("claims", "seeds"), [(1, 6), (3, 7), (6, 8), (9, 9)])
def test_with_fewer_seeds_nothing_can_be_significant(claims, seeds):
    assert fewest_seeds(claims) == seeds
    assert 2 * claims / 2**seeds < 0.05 <= 2 * claims / 2 ** (seeds - 1)


def test_direction_of_one_seed():
    one = Criterion("x", (0.01,), bound=0.005, above=False)
    assert (one.holds, one.holds_in_all, one.fails_in_all) == (False, False, True)
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
    assert page_trend([row[::-1] for row in rising]) == pytest.approx(1.0)
    assert page_trend(rising[:1]) is None
    assert page_trend([[1.0, 2.0]] * 3) is None


def test_combining():
    assert all_of([0.01, 0.2, 0.03]) == 0.2
    assert any_of([0.01, 0.2, 0.03]) == pytest.approx(0.03)
    assert any_of([0.5, 0.6]) == 1.0


def test_holm_against_the_example_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.4, 0.6, 0.9])) == pytest.approx([1.0, 1.0, 1.0])
