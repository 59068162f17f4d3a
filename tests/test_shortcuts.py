"""Kinds of shortcut on made-up tables: what is judged, borrowed and missing."""

import dataclasses
import json

import pytest
from composing import CONF, committed, compose_cell
from made_up import made_up_record, write_made_up
from omegaconf import OmegaConf

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.shortcuts import QUESTION, claims
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, read_json, write_table
from plainres.records.identity import config_hash
from plainres.records.schema import DIVERGED, Record
from plainres.run.cell import claim_tables

# Training error at 20, 44, 56 and 110 layers
ERRORS = {
    "plain": (0.03, 0.20, 0.40, 0.85),
    "residual": (0.030, 0.0295, 0.029, 0.028),
    "projection": (0.020, 0.0195, 0.019, 0.018),
    "projection_everywhere": (0.010, 0.0095, 0.009, 0.008),
    "scaled": (0.02, 0.10, 0.20, 0.80),
    "every_second": (0.012, 0.08, 0.10, 0.80),
}
ZEN, XEON = "AMD EPYC (family 25, model 17)", "Intel Xeon (family 6, model 207)"


def measured(folder, errors=ERRORS, seeds=1, **changes) -> list[Record]:
    kinds = {arm: compose_cell(folder, f"model={arm}").config.model.shortcut for arm in errors}
    rows = [
        made_up_record(
            arm=arm,
            shortcut=kinds[arm],
            depth=depth,
            seed=seed,
            train_error=error + 1e-7 * seed * depth * len(arm),
            test_error=error + 0.002 * seed * error,
            **changes,
        )
        for arm, by_depth in errors.items()
        for depth, error in zip(claims.DEPTHS, by_depth, strict=True)
        for seed in range(seeds)
        if error is not None
    ]
    write_made_up(folder, rows, curves=True)
    return rows


def judged(folder) -> list[Claim]:
    (runs,) = QUESTION.read(folder)
    return claims.check(runs)


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in judged(folder)]


def table(folder) -> list[list[str]]:
    (runs,) = QUESTION.read(folder)
    return claims.table(runs).rows


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shortcuts" / "quick"
    measured(folder)
    return folder


def test_the_sweep_runs_every_arm_of_the_claims():
    params = OmegaConf.load(CONF / "experiment" / "shortcuts.yaml").hydra.sweeper.params
    assert set(params.model.split(",")) == set(claims.ARMS)
    assert {int(depth) for depth in params["model.depth"].split(",")} == set(claims.DEPTHS)


def test_arms_share_a_folder_and_differ_in_the_shortcut_alone(tmp_path):
    cells = [compose_cell(tmp_path, "+experiment=shortcuts", f"model={arm}") for arm in claims.ARMS]
    assert {cell.results_folder for cell in cells} == {tmp_path / "shortcuts" / "quick"}
    assert len({cell.config.model.shortcut for cell in cells}) == len(cells)
    claim_tables(cells[:1])
    write_table(cells[0].results_folder / RUNS_TABLE, [made_up_record()], Record)
    for cell in cells:
        assert claim_tables([cell]) is None, "its configuration is that of the folder"


def test_cells_of_the_depth_experiment_are_the_same_cells(tmp_path):
    """So they count here; and no option added since has changed what they are."""
    rows = {
        tuple(line.split(",")[:3]): line
        for line in committed("results/depth/quick/runs.csv").splitlines()
    }
    for arm, depth in (("plain", 20), ("residual", 110)):
        cell = compose_cell(
            tmp_path, "+experiment=shortcuts", f"model={arm}", f"model.depth={depth}"
        )
        assert f",{config_hash(cell.identity)}," in rows[arm, str(depth), "0"]
    claim_tables([cell])
    assert read_json(cell.results_folder / CONFIG_FILE) == json.loads(
        committed("results/depth/quick/config.json")
    )


def test_what_the_papers_saw_is_reproduced(folder):
    assert verdicts(folder) == [REPRODUCED] * len(claims.STATEMENTS)


def test_eight_seeds_are_tested_together(folder):
    measured(folder, seeds=8)
    for claim in judged(folder):
        assert claim.words == REPRODUCED
        assert claim.p < 0.05


@pytest.mark.parametrize(
    ("arm", "errors", "claim"),
    [
        ("plain", (0.03, 0.03, 0.03, 0.03), 0),
        ("projection_everywhere", (0.008, 0.007, 0.007, 0.03), 0),
        ("projection", (0.027, 0.026, 0.026, 0.025), 1),
        ("projection_everywhere", (0.017, 0.016, 0.016, 0.015), 2),
        ("projection", (0.009, 0.008, 0.008, 0.2), 3),
        ("scaled", (0.02, 0.02, 0.021, 0.012), 4),
        ("every_second", (0.01, 0.3, 0.5, 0.9), 5),
        ("every_second", (0.01, 0.01, 0.01, 0.01), 5),
    ],
)
def test_the_opposite_is_contradicted(folder, arm, errors, claim):
    measured(folder, {**ERRORS, arm: errors})
    assert verdicts(folder)[claim] == NOT_REPRODUCED


def test_networks_at_chance_do_not_cure_degradation(folder):
    measured(folder, {**ERRORS, "projection": (0.9, 0.9, 0.9, 0.9)})
    assert verdicts(folder)[0] == NOT_REPRODUCED
    measured(folder, dict.fromkeys(ERRORS, (0.9, 0.9, 0.9, 0.9)))
    *first, between = judged(folder)
    assert [claim.verdict for claim in first] == [NOT_REPRODUCED] * 5
    assert between.summary == "hardly better than guessing: plain-44, seed 0"


def test_a_missing_arm_is_named_and_a_diverged_run_counts_as_chance(folder):
    rows = [
        row
        for row in measured(folder)
        if row.arm != "scaled" and (row.arm, row.depth) != ("every_second", 44)
    ]
    every_second = {"arm": "every_second", "depth": 44, "shortcut": rows[-1].shortcut}
    rows.append(made_up_record(**every_second, status=DIVERGED, train_error=None))
    write_table(folder / RUNS_TABLE, rows, Record)
    *_, scaled, every_second = judged(folder)
    assert (scaled.verdict, scaled.summary) == (INCONCLUSIVE, "missing: scaled-20, scaled-110")
    assert every_second.criteria[1].mean == pytest.approx(0.9 - 0.0295)


@pytest.fixture
def without_plain_and_a(folder):
    """All but plain and A, with its configuration and the machine of the cells."""
    claim_tables([compose_cell(folder.parent.parent, "protocol=quick", "slug=shortcuts")])
    others = {arm: errors for arm, errors in ERRORS.items() if arm not in ("plain", "residual")}
    measured(folder, others, processor=XEON, instruction_set="")
    return folder


def plain_and_a(folder, slug: str, *changed: str, **changes) -> None:
    """plain and A in a folder of another question, each time with other errors."""
    cell = compose_cell(folder.parent.parent, "protocol=quick", f"slug={slug}", *changed)
    claim_tables([cell])
    errors = {arm: ERRORS[arm] for arm in ("plain", "residual")}
    run = {"instruction_set": "", "finished_at": f"2026-02-02T00:00:{len(slug):02}Z", **changes}
    measured(cell.results_folder, errors, **run)


def test_cells_of_other_questions_count_where_they_were_measured_alike(without_plain_and_a):
    folder = without_plain_and_a
    assert judged(folder)[0].summary.startswith("missing: plain-20")
    plain_and_a(folder, "signal", "model.norm=batch", "folder=quick-batch", processor=XEON)
    plain_and_a(folder, "depth", processor=ZEN)
    assert verdicts(folder) == [REPRODUCED] * len(claims.STATEMENTS)
    text = " ".join(QUESTION.text(folder, verbose=True).split())
    assert "Cells of this configuration in tables of other questions: plain-20-seed0, " in text
    assert "residual-110-seed0 (signal/quick-batch)." in text
    assert len(QUESTION.read(folder)[0].curves) == 20 * 6 * 4, "with the curves of all cells"


def test_cells_of_another_machine_are_not_compared_and_named(without_plain_and_a):
    folder = without_plain_and_a
    plain_and_a(folder, "depth", processor=ZEN)
    claim = judged(folder)[0]
    assert (claim.verdict, claim.criteria) == (INCONCLUSIVE, ())
    assert claim.summary.startswith(f"not comparable: seed 0 (plain-20: {ZEN}; plain-56: {ZEN}; ")
    assert f"projection-110: {XEON}" in claim.summary
    assert {line[0] for line in table(folder)[1:]}.isdisjoint({"none (plain)", "A: zero padding"})
    text = " ".join(QUESTION.text(folder, verbose=True).split())
    unlike = f"not shown: plain-20-seed0 ({ZEN}, 32-true, 2.9, library, 1 thread)"
    assert unlike in text


@pytest.mark.parametrize(
    ("changed", "changes"),
    [
        (("protocol.iterations=3000",), {}),
        ((), {"data_fingerprint": "0" * 12}),
    ],
    ids=["configuration", "images"],
)
def test_cells_that_differ_in_more_do_not_count(without_plain_and_a, changed, changes):
    plain_and_a(without_plain_and_a, "depth", *changed, processor=XEON, **changes)
    assert judged(without_plain_and_a)[0].summary.startswith("missing: plain-20")


def test_the_table_says_what_each_shortcut_costs(folder):
    lines = table(folder)
    assert [line[0] for line in lines[1::4]] == list(claims.ARMS.values())
    assert lines[1] == ["none (plain)", "20", "3.00", "3.00", "269,722", "2,567,168", "0.021", "1"]


def test_seconds_of_another_machine_are_not_shown_beside(folder):
    rows = measured(folder)
    elsewhere = [
        dataclasses.replace(row, processor="another", seconds=1.0) if row.arm == "plain" else row
        for row in rows
    ]
    write_table(folder / RUNS_TABLE, elsewhere, Record)
    lines = table(folder)
    assert [line[6] for line in lines[1:6]] == ["–", "–", "–", "–", "0.021"]


def test_without_the_deepest_networks_there_is_one_figure(folder):
    shallow = {arm: errors[:3] for arm, errors in ERRORS.items()}
    measured(folder, {arm: (*errors, None) for arm, errors in shallow.items()})
    (runs,) = QUESTION.read(folder)
    assert [drawing.name for drawing in QUESTION.drawings(runs)] == ["error_by_depth"]


def test_what_this_machine_has_not_measured_comes_from_the_committed_tables(tmp_path):
    results, local = tmp_path / "results", tmp_path / "results" / "local"
    claim_tables([compose_cell(results, "protocol=quick")])
    measured(results / "depth" / "quick", {"plain": ERRORS["plain"]})
    claim_tables([compose_cell(local, "protocol=quick", "slug=shortcuts")])
    measured(local / "shortcuts" / "quick", {"residual": ERRORS["residual"]})
    (runs,) = QUESTION.read(local / "shortcuts" / "quick")
    assert {row.arm for rows in runs.borrowed.values() for row in rows} == {"plain"}
    assert list(runs.borrowed) == ["../depth/quick"]
