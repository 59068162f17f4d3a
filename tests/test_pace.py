"""The pace table on made-up tables."""

from dataclasses import replace

import pytest
from composing import compose_cell
from made_up import elsewhere, made_up_record, write_made_up

from experiments.pace import QUESTION
from experiments.pace.claims import Pace, fastest, table
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, write_table
from plainres.records.schema import DIVERGED, CurvePoint, Record


def curve(record: Record, errors: dict[int, float]) -> list[CurvePoint]:
    return [
        CurvePoint(record.arm, record.depth, record.seed, step, error, 1.0, 0.1)
        for step, error in errors.items()
    ]


@pytest.fixture
def folder(tmp_path):
    """Rate 0.1 reaches both targets, 0.2 both and sooner, 0.05 only the first.

    110 layers end below 20 at rate 0.1 alone.
    """
    for name, errors, deep in (
        ("batch128-rate0.1", {50: 0.5, 100: 0.3, 150: 0.26, 200: 0.24}, 0.23),
        ("batch128-rate0.2", {50: 0.3, 100: 0.25, 150: 0.26, 200: 0.24}, 0.25),
        ("batch128-rate0.05", {50: 0.6, 200: 0.28}, None),
    ):
        own = {"iterations": 200, "train_error": min(errors.values())}
        records = [made_up_record(depth=20, seconds=100.0, **own)]
        if deep:
            own = {"iterations": 200, "train_error": deep}
            records.append(made_up_record(depth=110, seconds=500.0, **own))
        write_table(tmp_path / name / RUNS_TABLE, records, Record)
        write_table(tmp_path / name / CURVES_TABLE, curve(records[0], errors), CurvePoint)
    return tmp_path


def test_seconds_to_a_target_are_those_of_the_first_point_below_it(folder):
    paces = [pace for pace in QUESTION.read(folder)[0] if pace.record.depth == 20]
    assert [(pace.setting, pace.seconds_to) for pace in paces] == [
        ("batch128-rate0.2", [25.0, 50.0]),
        ("batch128-rate0.1", [50.0, 100.0]),
        ("batch128-rate0.05", [100.0, None]),
    ]


def test_the_fastest_setting_is_named_and_whether_depth_pays(folder):
    (paces,) = QUESTION.read(folder)
    shown = fastest(paces)
    assert [[row[0], *row[2:]] for row in shown.rows[1:]] == [
        ["20", "30 %", "batch128-rate0.2", "25"],
        ["20", "25 %", "batch128-rate0.2", "50"],
        ["110", "30 %", "none reaches it", "–"],
        ["110", "25 %", "none reaches it", "–"],
    ]
    below = "batch128-rate0.1 (of batch128-rate0.1, batch128-rate0.2)"
    assert shown.notes == [
        f"Not tested: residual-110 ended more than 0.5 points below residual-20 in {below}.",
        "Without one of the two depths: batch128-rate0.05.",
    ]


def test_less_than_half_a_point_is_not_below(folder):
    (paces,) = QUESTION.read(folder)
    few = [
        replace(p, record=replace(p.record, train_error=0.2355)) if p.record.depth == 110 else p
        for p in paces
    ]
    assert "in none (of batch128-rate0.1, batch128-rate0.2)." in fastest(few).notes[0]


def test_final_errors_of_two_machines_are_not_comparable(folder):
    elsewhere(folder / "batch128-rate0.1", "residual-110-seed0")
    elsewhere(folder / "batch128-rate0.2", "residual-110-seed0", precision="bf16-mixed")
    (paces,) = QUESTION.read(folder)
    assert fastest(paces).notes == [
        "No setting has residual-110 and residual-20 that can be compared.",
        "batch128-rate0.1, not comparable: seed 0 (residual-110: another; residual-20: ATen AVX2 "
        "/ oneDNN AVX2).",
        "batch128-rate0.2, not comparable: seed 0 (residual-110: bf16-mixed; residual-20: "
        "32-true).",
        "Without one of the two depths: batch128-rate0.05.",
    ]


def test_depth_is_compared_within_seeds(folder):
    rows = [made_up_record(depth=20, seed=seed, train_error=0.3 + 0.3 * seed) for seed in (0, 1)]
    write_made_up(folder / "batch128-rate0.1", [*rows, made_up_record(depth=110, train_error=0.4)])
    (paces,) = QUESTION.read(folder)
    assert "residual-20 in none (of" in fastest(paces).notes[0]


def test_seconds_compare_on_one_processor_only(folder):
    (paces,) = QUESTION.read(folder)
    first, second = (
        pace for pace in paces if pace.record.depth == 20 and pace.setting != "batch128-rate0.05"
    )
    assert replace(first, record=replace(first.record, threads=4)).machine.endswith("4 threads")
    moved = replace(first, record=replace(first.record, processor="another"))
    assert [row[1:] for row in fastest([moved, second]).rows[2::2]] == [
        [second.machine, "25 %", "batch128-rate0.1", "100"],
        [second.machine.replace("a processor, 2 GHz", "another"), "25 %", "batch128-rate0.2", "50"],
    ]


def test_without_110_layers_it_says_so(folder):
    paces = [pace for pace in QUESTION.read(folder)[0] if pace.record.depth == 20]
    none = "No setting has residual-110 and residual-20 that can be compared."
    assert fastest(paces).notes[0] == none


def test_a_diverged_cell_is_named():
    record = made_up_record(status=DIVERGED, train_error=None, iterations=70)
    pace = Pace("batch32-rate0.2", record, curve(record, {50: 0.8}))
    assert pace.seconds_to == [None, None]
    assert table([pace]).rows[1][3:6] == ["never", "never", "diverged"]


def test_every_batch_sees_as_many_images(tmp_path):
    for batch in (128, 64, 32):
        words = (f"protocol.batch_size={batch}", "protocol.learning_rate=0.2")
        cell = compose_cell(tmp_path, "+experiment=pace", *words)
        cell.check()
        protocol = cell.config.protocol
        assert protocol.iterations * batch == 640_000
        assert protocol.schedule.warmup_iterations * 20 == protocol.iterations
        assert cell.results_folder == tmp_path / "pace" / f"width8-batch{batch}-rate0.2"
