"""The robustness table on made-up tables: what differs, what is seen, what is missing."""

import pytest
from composing import CONF, compose_cell, variants
from made_up import made_up_record
from omegaconf import OmegaConf

from experiments.robustness import claims, figures
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, read_json, write_table
from plainres.records.schema import DIVERGED, Record
from plainres.run.cell import claim_tables

SETTINGS = variants("setting")


def measured(folder, setting: str, plain=(0.3, 0.6), residual=(0.25, 0.24), **changes) -> None:
    """Tables of one setting with made-up errors of 20 and 56 layers."""
    cell = compose_cell(
        folder.parent, "+experiment=robustness", f"setting={setting}", "data=digits"
    )
    claim_tables([cell])
    rows = [
        made_up_record(arm=arm, depth=depth, train_error=error, protocol=setting, **changes)
        for arm, errors in (("plain", plain), ("residual", residual))
        for depth, error in zip((20, 56), errors, strict=True)
    ]
    write_table(cell.results_folder / RUNS_TABLE, rows, Record)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "robustness"
    measured(folder, "baseline")
    measured(folder, "learning_rate_low", plain=(0.3, 0.302))
    measured(folder, "batch_32", residual=(0.25, 0.45))
    return folder


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_changes_one_choice_and_measures_in_its_own_folder(tmp_path, setting):
    chosen = compose_cell(tmp_path, "+experiment=robustness", f"setting={setting}", "data=digits")
    chosen.check()
    assert chosen.results_folder == tmp_path / "robustness" / setting
    assert chosen.config.protocol.iterations % chosen.config.protocol.log_every == 0
    baseline = compose_cell(tmp_path, "+experiment=robustness", "data=digits")
    claim_tables([baseline])
    if setting != "baseline":
        claim_tables([chosen])
    change = claims._change(
        *(read_json(cell.results_folder / CONFIG_FILE) for cell in (baseline, chosen))
    )
    if setting == "baseline":
        assert change == "nothing"
    else:
        parts = {part.split(":")[0].rsplit(".", 1)[0] for part in change.split("; ")}
        assert len(parts) == 1, f"{change} is more than one choice"


def test_the_sweep_runs_every_setting():
    params = OmegaConf.load(CONF / "experiment" / "robustness.yaml").hydra.sweeper.params
    assert sorted(params.setting.split(",")) == SETTINGS


def test_another_batch_sees_as_many_images(tmp_path):
    images = {
        setting: (
            chosen := compose_cell(
                tmp_path, "+experiment=robustness", f"setting={setting}"
            ).config.protocol
        ).iterations
        * chosen.batch_size
        for setting in ("baseline", "batch_32", "batch_128")
    }
    assert images["batch_32"] == images["batch_128"] == images["baseline"]


def test_rows_say_what_differs_and_what_is_seen(folder):
    rows, records = claims.read_rows(folder)
    assert len(records) == 12
    seen = {row.name: (row.change, row.degrades, row.smaller, row.gone) for row in rows}
    assert list(seen) == ["baseline", "batch_32", "learning_rate_low"]
    assert seen["baseline"] == ("–", True, True, True)
    assert seen["learning_rate_low"] == ("protocol.learning_rate: 0.1 → 0.03", False, True, True)
    assert seen["batch_32"] == ("protocol.batch_size: 64 → 32", True, True, False)


def test_the_summary_counts_and_names_the_exceptions(folder):
    text = claims.summary(claims.read_rows(folder)[0])
    assert "above plain-20: in 2 of 3 settings, not in learning_rate_low" in text
    assert "the deep network better: in 3 of 3 settings\n" in text
    assert "more than 0.5 points: in 2 of 3 settings, not in batch_32" in text


def test_projection_shortcuts_are_held_against_the_plain_networks_of_the_baseline(folder):
    path = folder / "baseline" / RUNS_TABLE
    rows = [
        made_up_record(arm=arm, depth=depth, train_error=0.2)
        for arm in ("plain", "residual", "projection")
        for depth in (20, 56)
    ]
    write_table(path, rows, Record)
    row = claims.read_rows(folder)[0][1]
    assert (row.name, row.cured_by, row.change) == (
        "projection",
        "projection",
        "shortcut: zero_pad → projection",
    )
    assert row.gone


def test_missing_and_diverged_cells_are_said(folder):
    rows = [
        made_up_record(arm="plain", depth=20, train_error=0.3),
        made_up_record(arm="plain", depth=56, status=DIVERGED, train_error=None),
        made_up_record(arm="residual", depth=56, train_error=0.3),
    ]
    write_table(folder / "batch_32" / RUNS_TABLE, rows, Record)
    found = claims.read_rows(folder)[0]
    row = found[1]
    assert row.rise("plain") == pytest.approx(0.6)
    assert (row.degrades, row.smaller, row.gone) == (True, None, None)
    assert "missing cells: batch_32/residual-20" in claims.summary(found)


def test_figure_and_readme_are_made_and_the_same_twice(folder):
    first = {path: path.read_bytes() for path in figures.make(folder)}
    assert {path.name for path in first} == {"rises.png", "rises.svg", "README.md"}
    assert {path: path.read_bytes() for path in figures.make(folder)} == first
    text = (folder / "README.md").read_text()
    assert "digits · cpu protocol" in text
    assert "1 seed" in text


def test_the_figure_shows_both_ends_of_every_rise(folder):
    rows, found = claims.read_rows(folder)
    figure = figures.rises_figure(rows, found)
    low, high = figure.axes[0].get_xlim()
    for row in rows:
        for error in row.errors.values():
            assert low < 100 * error < high
    figures.plt.close(figure)


@pytest.mark.parametrize("command", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, command):
    assert command([str(tmp_path)]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_check_prints_one_line_a_setting(folder, capsys):
    assert claims.main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.count("learning_rate: 0.1 → 0.03") == 1
