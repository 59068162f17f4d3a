"""The verdicts are right as often as they say; the table says what is simulated."""

import numpy as np
import pytest
from made_up import made_up_record, write_made_up

from experiments.depth import claims, simulation
from experiments.depth.simulation import AT_MARGIN, MEASURED, NO_EFFECT
from experiments.judging.verdict import NOT_REPRODUCED, REPRODUCED
from plainres.records.schema import Record

PLAIN = {20: 0.03, 32: 0.05, 44: 0.28, 56: 0.48, 110: 0.84}
RESIDUAL = {20: 0.020, 32: 0.019, 44: 0.018, 56: 0.015, 110: 0.014}
SCATTER = (0.002, -0.001, -0.001)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [
        made_up_record(
            arm=arm, depth=depth, seed=seed, train_error=error + SCATTER[(seed + depth) % 3]
        )
        for arm, errors in (("plain", PLAIN), ("residual", RESIDUAL))
        for depth, error in errors.items()
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def scenarios(records):
    return simulation.truths(claims.grid_of(records))


@pytest.mark.parametrize("seeds", [3, 5])
def test_without_an_effect_none_is_found_in_more_than_5_percent_of_2000_sweeps(scenarios, seeds):
    counts = simulation.simulate(scenarios[NO_EFFECT], seeds, 2000, np.random.default_rng(1))
    for letter, counter in zip("abcd", counts, strict=True):
        # (b) is true here
        wrong = [NOT_REPRODUCED] if letter == "b" else [REPRODUCED, NOT_REPRODUCED]
        assert sum(counter[verdict] for verdict in wrong) <= 0.05 * 2000


def test_a_rise_of_just_the_margin_passes_for_none_in_at_most_5_percent(scenarios):
    counts = simulation.simulate(scenarios[AT_MARGIN], 3, 2000, np.random.default_rng(2))
    assert counts[1][REPRODUCED] <= 0.05 * 2000


def test_one_seed_finds_effects_where_there_are_none(scenarios):
    counts = simulation.simulate(scenarios[NO_EFFECT], 1, 300, np.random.default_rng(3))
    # a direction is no test, and the table says how bad it is
    assert counts[0][REPRODUCED] > 0.2 * 300


def test_more_seeds_find_a_true_effect_more_often(scenarios):
    rates = [
        simulation.simulate(scenarios[MEASURED], seeds, 200, np.random.default_rng(4))[2][
            REPRODUCED
        ]
        for seeds in (2, 3, 6)
    ]
    assert rates[0] < rates[1] < rates[2]


def test_the_table_is_written_and_shown(tmp_path, records):
    write_made_up(tmp_path, records)
    text = simulation.power(tmp_path, simulations=10)
    rates = simulation.read_power(tmp_path)
    assert len(rates) == 3 * 3 * 4
    for rate in rates:
        assert rate.reproduced + rate.not_reproduced + rate.inconclusive == pytest.approx(1)
    for words in (NO_EFFECT, AT_MARGIN, MEASURED, "1 (no test)"):
        assert words in text


def test_one_seed_is_too_little_to_simulate_from(tmp_path, records):
    write_made_up(tmp_path, [row for row in records if row.seed == 0])
    with pytest.raises(ValueError, match="no grid of two seeds or more"):
        simulation.power(tmp_path)
