"""The pace table on made-up tables."""

from dataclasses import replace

import pytest
from composing import compose_cell
from made_up import made_up_record

from experiments.pace import claims, figures
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, write_table
from plainres.records.schema import DIVERGED, CurvePoint, Record


def curve(record: Record, errors: dict[int, float]) -> list[CurvePoint]:
    return [
        CurvePoint(record.arm, record.depth, record.seed, step, error, 1.0, 0.1)
        for step, error in errors.items()
    ]


@pytest.fixture
def folder(tmp_path):
    """At 0.1 both targets are reached, at 0.2 sooner, at 0.05 only the first; 110 layers end below 20 at 0.1 alone."""
    for name, errors, deep in (
        ("batch128-rate0.1", {50: 0.5, 100: 0.3, 150: 0.26, 200: 0.24}, 0.23),
        ("batch128-rate0.2", {50: 0.3, 100: 0.25, 150: 0.26, 200: 0.24}, 0.25),
        ("batch128-rate0.05", {50: 0.6, 200: 0.28}, None),
    ):
        shallow = made_up_record(
            depth=20, iterations=200, seconds=100.0, train_error=min(errors.values())
        )
        records = [shallow] + (
            [made_up_record(depth=110, iterations=200, seconds=500.0, train_error=deep)]
            if deep
            else []
        )
        write_table(tmp_path / name / RUNS_TABLE, records, Record)
        write_table(tmp_path / name / CURVES_TABLE, curve(shallow, errors), CurvePoint)
    return tmp_path


def test_seconds_to_a_target_are_those_of_the_first_point_below_it(folder):
    paces = [pace for pace in claims.read_paces(folder) if pace.record.depth == 20]
    assert [(pace.setting, pace.seconds_to) for pace in paces] == [
        ("batch128-rate0.2", (25.0, 50.0)),
        ("batch128-rate0.1", (50.0, 100.0)),
        ("batch128-rate0.05", (100.0, None)),
    ]


def test_the_summary_names_the_soonest_and_where_depth_pays(folder):
    text = claims.summary(claims.read_paces(folder))
    assert (
        "residual-20 to 30 % running training error: soonest is batch128-rate0.2, after 25 seconds"
        in text
    )
    assert (
        "residual-20 to 25 % running training error: soonest is batch128-rate0.2, after 50 seconds"
        in text
    )
    assert "residual-110 to 25 % running training error: no setting got there" in text
    assert (
        "residual-110 ends below residual-20 in: batch128-rate0.1 (of batch128-rate0.1, batch128-rate0.2)"
        in text
    )


def test_seconds_compare_on_one_processor_only(folder):
    paces = claims.read_paces(folder)
    slow, fast = (
        pace for pace in paces if pace.record.depth == 20 and pace.setting != "batch128-rate0.05"
    )
    text = claims.summary([replace(slow, record=replace(slow.record, processor="another")), fast])
    assert (
        "residual-20 to 25 % running training error on another, 32-true: soonest is batch128-rate0.2, after 50 seconds"
        in text
    )
    assert (
        f"residual-20 to 25 % running training error on {fast.machine}: soonest is batch128-rate0.1, after 100 seconds"
        in text
    )


def test_without_110_layers_it_says_so(folder):
    paces = [pace for pace in claims.read_paces(folder) if pace.record.depth == 20]
    assert "residual-110 beside residual-20: not measured" in claims.summary(paces)


def test_a_diverged_cell_comes_last_and_is_named():
    record = made_up_record(status=DIVERGED, train_error=None, iterations=70)
    pace = claims.pace_of("batch32-rate0.2", record, curve(record, {50: 0.8}))
    assert pace.seconds_to == (None, None)
    assert claims.table([pace])[1][3:6] == ["never", "never", "diverged"]


def test_every_batch_sees_as_many_images(tmp_path):
    for batch in (128, 64, 32):
        cell = compose_cell(
            tmp_path,
            "+experiment=pace",
            f"protocol.batch_size={batch}",
            "protocol.learning_rate=0.2",
        )
        cell.check()
        assert cell.config.protocol.iterations * batch == 640_000
        assert (
            cell.config.protocol.schedule.warmup_iterations * 20 == cell.config.protocol.iterations
        )
        assert cell.results_folder == tmp_path / "pace" / f"width8-batch{batch}-rate0.2"


def test_figure_and_readme_are_the_same_twice_and_say_what_they_show(folder):
    first = {path: path.read_bytes() for path in figures.make(folder)}
    assert {path: path.read_bytes() for path in figures.make(folder)} == first
    assert (
        "digits · cpu protocol by width, batch and learning rate · 1 seed"
        in (folder / "README.md").read_text()
    )


@pytest.mark.parametrize("command", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, command):
    assert command([str(tmp_path)]) != 0
    assert capsys.readouterr().err.count("\n") == 1
