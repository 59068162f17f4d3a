"""The robustness table on made-up tables: what differs, what holds, what is missing."""

import pytest
from composing import CONF, compose_cell, variants
from drawn import caption
from made_up import elsewhere, made_up_record, write_made_up
from matplotlib import pyplot as plt
from omegaconf import OmegaConf

from experiments.judging.pairs import change_of
from experiments.robustness import QUESTION, claims
from experiments.robustness.figures import rises_figure
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, read_json
from plainres.records.schema import DIVERGED
from plainres.run.cell import claim_tables

SETTINGS = variants("setting")


def cell_of(folder, setting: str = "baseline"):
    words = ("+experiment=robustness", f"setting={setting}", "data=digits")
    return compose_cell(folder, *words)


def measured(folder, setting: str, plain=(0.3, 0.6), residual=(0.25, 0.24), **changes) -> None:
    """Tables of one setting with made-up errors of 20 and 56 layers."""
    cell = cell_of(folder.parent, setting)
    claim_tables([cell])
    rows = [
        made_up_record(arm=arm, depth=depth, train_error=error, **changes)
        for arm, errors in (("plain", plain), ("residual", residual))
        for depth, error in zip((20, 56), errors, strict=True)
    ]
    write_made_up(cell.results_folder, rows)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "robustness"
    measured(folder, "baseline")
    measured(folder, "learning_rate_low", plain=(0.3, 0.302))
    measured(folder, "batch_32", residual=(0.25, 0.45))
    return folder


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_changes_one_choice_and_measures_in_its_own_folder(tmp_path, setting):
    changed = cell_of(tmp_path, setting)
    changed.check()
    assert changed.results_folder == tmp_path / "robustness" / setting
    assert changed.config.protocol.iterations % changed.config.protocol.log_every == 0
    configs = []
    for cell in (cell_of(tmp_path), changed):
        claim_tables([cell])
        configs.append(read_json(cell.results_folder / CONFIG_FILE))
    change = change_of(*configs, claims.FOLLOWS)
    assert (change == "nothing") == (setting == "baseline")
    parts = {part.split(":")[0].rsplit(".", 1)[0] for part in change.split("; ")}
    assert len(parts) == 1, f"{change} is more than one choice"


def test_the_sweep_runs_every_setting():
    params = OmegaConf.load(CONF / "experiment" / "robustness.yaml").hydra.sweeper.params
    assert sorted(params.setting.split(",")) == SETTINGS


def test_another_batch_sees_as_many_images(tmp_path):
    images = set()
    for setting in ("baseline", "batch_32", "batch_128"):
        protocol = cell_of(tmp_path, setting).config.protocol
        images.add(protocol.iterations * protocol.batch_size)
    assert len(images) == 1


def test_rows_say_what_differs_and_what_holds(folder):
    (part,) = QUESTION.read(folder)
    assert len(part.records) == 12
    rows = {row.name: (row.change, *row.judged.values()) for row in part.settings}
    assert list(rows) == ["baseline", "batch_32", "learning_rate_low"]
    assert rows["baseline"] == ("–", True, True, True)
    assert rows["learning_rate_low"] == ("protocol.learning_rate: 0.1 → 0.03", False, True, True)
    assert rows["batch_32"] == ("protocol.batch_size: 64 → 32", True, True, False)


def test_settings_are_counted_and_exceptions_named(folder):
    text = QUESTION.text(folder)
    assert "above plain-20 in 2 of 3 settings, not in learning_rate_low." in text
    assert "the deep network better, by more than 0.5 points in 3 of 3 settings." in text
    assert "more than 0.5 points in 2 of 3 settings, not in batch_32." in text


def test_projection_shortcuts_are_held_against_the_plain_networks_of_the_baseline(folder):
    rows = [
        made_up_record(arm=arm, depth=depth, train_error=0.2)
        for arm in ("plain", "residual", "projection")
        for depth in (20, 56)
    ]
    write_made_up(folder / "baseline", rows)
    row = QUESTION.read(folder)[0].settings[1]
    assert (row.name, row.shortcut_arm, row.change) == (
        "projection",
        "projection",
        "shortcut: zero_pad → projection",
    )
    assert row.judged["gone"]


def test_missing_and_diverged_cells_are_said(folder):
    rows = [
        made_up_record(arm="plain", depth=20, train_error=0.3),
        made_up_record(arm="plain", depth=56, status=DIVERGED, train_error=None),
        made_up_record(arm="residual", depth=56, train_error=0.3),
    ]
    write_made_up(folder / "batch_32", rows)
    row = QUESTION.read(folder)[0].settings[1]
    assert row.difference("plain-56", "plain-20") == pytest.approx(0.6)
    assert row.judged == {"degrades": True, "smaller": None, "gone": None}
    assert "Missing cells: batch_32/residual-20." in QUESTION.text(folder)


def test_networks_of_one_setting_on_two_machines_are_not_comparable(folder):
    elsewhere(folder / "batch_32", "plain-56-seed0")
    row = QUESTION.read(folder)[0].settings[1]
    assert row.judged == {"degrades": None, "smaller": None, "gone": False}
    text = QUESTION.text(folder)
    assert "above plain-20 in 1 of 2 settings, not in learning_rate_low." in text
    assert (
        "batch_32, not comparable: seed 0 (plain-20: ATen AVX2 / oneDNN AVX2; plain-56: another; "
        "residual-20: ATen AVX2 / oneDNN AVX2; residual-56: ATen AVX2 / oneDNN AVX2)."
    ) in text


def test_differences_are_taken_within_seeds(folder):
    errors = {20: (0.2, 0.5), 56: (0.3,)}  # a rise in seed 0, and a fall of the means
    rows = [
        made_up_record(arm="plain", depth=depth, seed=seed, train_error=error)
        for depth, values in errors.items()
        for seed, error in enumerate(values)
    ]
    write_made_up(folder / "batch_32", rows)
    row = QUESTION.read(folder)[0].settings[1]
    assert row.difference("plain-56", "plain-20") == pytest.approx(0.1)


def test_a_rise_that_is_smaller_by_less_than_half_a_point_is_not_smaller(folder):
    measured(folder, "batch_32", plain=(0.3, 0.4), residual=(0.25, 0.346))
    assert not QUESTION.read(folder)[0].settings[1].judged["smaller"]


def test_residual_networks_at_chance_do_not_show_that_the_rise_is_gone(folder):
    measured(folder, "batch_32", residual=(0.9, 0.9))
    assert QUESTION.read(folder)[0].settings[1].judged["gone"] is None
    assert "batch_32: residual-20 is at chance" in QUESTION.text(folder)


def test_the_figure_shows_both_ends_of_every_rise(folder):
    (part,) = QUESTION.read(folder)
    figure = rises_figure(part)
    low, high = figure.axes[0].get_xlim()
    for setting in part.settings:
        for error in setting.errors.values():
            assert low < 100 * error < high
    assert "digits · protocol " in caption(figure)
    plt.close(figure)


def test_without_a_baseline_nothing_is_judged(folder):
    (folder / "baseline" / RUNS_TABLE).unlink()
    with pytest.raises(ValueError, match=r"no records in .*baseline; make sweep-robustness"):
        QUESTION.read(folder)
