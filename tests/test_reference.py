"""Local cells against the range of the committed ones."""

import math
import statistics

import pytest
from made_up import elsewhere, made_up_record, write_made_up

from experiments.reporting.reference import compare, reference_range
from plainres.records.schema import DIVERGED

CONFIG = {"model": {"width": 8}, "protocol": {"iterations": 2000}}


def folder_of(folder, errors, config=CONFIG, **changes):
    """A results folder with residual networks: depth → one training error per seed."""
    rows = [
        made_up_record(depth=depth, seed=seed, train_error=error, **changes)
        for depth, values in errors.items()
        for seed, error in enumerate(values)
    ]
    write_made_up(folder, rows, config=config)
    return folder


@pytest.fixture
def committed(tmp_path):
    return folder_of(tmp_path / "depth" / "quick", {20: (0.1, 0.11, 0.12), 56: (0.3, 0.31, 0.32)})


@pytest.fixture
def local(tmp_path):
    return tmp_path / "local" / "depth" / "quick"


def test_the_range_is_the_prediction_interval_of_one_more_run():
    half_width = 4.302653 * 0.01 * math.sqrt(1 + 1 / 3)
    expected = (0.2 - half_width, 0.2 + half_width)
    assert reference_range((0.19, 0.2, 0.21)) == pytest.approx(expected, rel=1e-6)
    assert reference_range((0.0, 0.001, 0.002))[0] == 0, "an error is never negative"


def test_the_range_covers_every_committed_error():
    errors = [0.1] * 30 + [0.5]
    quantile = 2.042272  # Student's t, 30 degrees of freedom
    half_width = quantile * statistics.stdev(errors) * math.sqrt(1 + 1 / 31)
    assert statistics.fmean(errors) + half_width < 0.5
    assert reference_range(errors)[1] == 0.5


def test_all_cells_inside_are_one_line(local, committed):
    folder_of(local, {20: (0.105,), 56: (0.33, 0.29)})
    lines = compare(local, committed)
    assert lines == ["3 of 3 cells inside the reference (digits, protocol quick, 3 seeds)"]


def test_cells_with_the_committed_numbers_are_counted(local, committed):
    folder_of(local, {20: (0.1, 0.11, 0.13, 0.12)})
    assert compare(local, committed) == [
        "2 of 3 cells have the committed errors and training loss, digit by digit",
        "4 of 4 cells inside the reference (digits, protocol quick, 3 seeds)",
    ]


def test_tables_that_were_set_aside_are_not_compared(local, committed):
    folder_of(local, {20: (0.105,)})
    folder_of(local / "earlier.old1", {20: (0.105,)}, {"model": {"width": 16}})
    assert len(compare(local, committed)) == 1


def test_a_cell_outside_is_named_with_its_error_and_the_range(local, committed):
    folder_of(local, {20: (0.105, 0.2)})
    count, outside = compare(local, committed)
    assert count.startswith("1 of 2 cells inside")
    low, high = (f"{100 * end:.2f}" for end in reference_range((0.1, 0.11, 0.12)))
    expected = f"training error 20.00 %, {low} to {high} % expected"
    assert outside == f"outside the reference: residual-20-seed1, {expected}"


def test_cells_of_another_machine_are_not_comparable(local, committed):
    folder_of(local, {20: (0.105, 0.5), 56: (0.33,)})
    elsewhere(local, "residual-20-seed1")
    elsewhere(local, "residual-56-seed0", precision="bf16-mixed", torch="2.10.1")
    assert compare(local, committed) == [
        "1 of 1 cells inside the reference (digits, protocol quick, 3 seeds)",
        "not comparable (here another, the reference ATen AVX2 / oneDNN AVX2): residual-20-seed1",
        "not comparable (here bf16-mixed, 2.10, the reference 32-true, 2.9): residual-56-seed0",
    ]


def test_the_range_is_that_of_the_seeds_on_the_same_machine(local, committed):
    folder_of(committed, {20: (0.1, 0.11, 0.12, 0.5, 0.52)})
    elsewhere(committed, "residual-20-seed3", "residual-20-seed4")
    folder_of(local, {20: (0.51, 0.51)})
    elsewhere(local, "residual-20-seed1")
    count, outside = compare(local, committed)
    assert count == "1 of 2 cells inside the reference (digits, protocol quick, 2 to 3 seeds)"
    assert outside.startswith("outside the reference: residual-20-seed0, training error 51.00 %")


def test_a_diverged_cell_counts_as_chance(local, committed):
    folder_of(local, {20: (None,)}, status=DIVERGED)
    assert "residual-20-seed0, training error 90.00 %" in compare(local, committed)[1]


def test_fewer_than_two_seeds_give_no_range(local, tmp_path):
    committed = folder_of(tmp_path / "depth" / "cpu", {20: (0.1,), 56: (0.3, 0.31)})
    folder_of(local, {20: (0.11,), 44: (0.2,), 56: (0.305,)})
    assert compare(local, committed) == [
        "1 of 1 cells inside the reference (digits, protocol quick, 2 seeds)",
        "no range (0 seeds): residual-44-seed0",
        "no range (1 seed): residual-20-seed0",
    ]


def test_cells_before_training_have_no_range(local, tmp_path):
    config = {**CONFIG, "protocol": {"iterations": 1}}
    committed = folder_of(tmp_path / "horizon" / "start", {20: (0.9, 0.91, 0.92)}, config)
    folder_of(local, {20: (0.9, 0.1)}, config)
    assert compare(local, committed) == [
        "1 of 2 cells have the committed errors and training loss, digit by digit",
        "no range (not trained): residual-20-seed0, residual-20-seed1",
    ]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"data_label": "photographs"}, "data photographs, not digits"),
        (
            {"config": {**CONFIG, "protocol": {"iterations": 100}}},
            "protocol.iterations: 2000 → 100",
        ),
        ({"config": None}, "no config.json in local/depth/quick"),
    ],
)
def test_another_experiment_is_not_compared(local, committed, changes, difference):
    folder_of(local, {20: (0.1,)}, **changes)
    (line,) = compare(local, committed)
    line = line.replace(f"{committed.parents[1]}/", "")
    assert line == f"local/depth/quick cannot be compared with depth/quick: {difference}"


def test_without_committed_records_there_is_no_reference(local, tmp_path):
    folder_of(local, {20: (0.1,)})
    (line,) = compare(local, tmp_path / "nothing")
    assert line.startswith(f"no reference for {local}: ")


def test_folders_of_one_question_are_compared_one_by_one(tmp_path):
    for name, errors in (("baseline", (0.1, 0.11, 0.12)), ("batch_32", (0.5, 0.51))):
        one_seed = dict.fromkeys(range(26, 60, 6), (0.2,))
        folder_of(tmp_path / "robustness" / name, {20: errors, **one_seed})
        local = dict.fromkeys(range(20, 60, 6), (0.11,))
        folder_of(tmp_path / "local" / "robustness" / name, local)
    count, outside, without = compare(tmp_path / "local" / "robustness", tmp_path / "robustness")
    assert count == "1 of 2 cells inside the reference (digits, protocol quick, 2 to 3 seeds)"
    assert outside.startswith("outside the reference: batch_32/residual-20-seed0, training error")
    assert without == "no range (1 seed): 12 cells"
