"""A thousand layers on made-up tables, and its cells as configurations."""

from dataclasses import replace

import hydra
import pytest
import torch
from composing import compose_cell, variants
from drawn import title
from made_up import NO_ERRORS, elsewhere, made_up_record, write_made_up

from experiments.grid import Sweep
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.thousand import QUESTION
from experiments.thousand.claims import PLAIN, RATES, SAME_NUMBERS, Part
from experiments.thousand.grid import commands
from plainres.records.files import RUNS_TABLE, read_runs
from plainres.records.identity import config_differences
from plainres.records.schema import DIVERGED
from plainres.run.cell import claim_tables
from plainres.run.train import train_cell

PARTS = variants("thousand")
ERRORS = {
    ("plain", 32): 0.70,
    ("residual", 110): 0.05,
    ("residual", 302): 0.07,
    ("residual", 602): 0.06,
    ("residual", 1202): 0.05,
}
# MiB without and with checkpointing
MEMORY = {110: (1000.0, 700.0), 302: (1800.0, 800.0), 602: (3200.0, 1000.0), 1202: (6000.0, 1500.0)}


def trained(folder, errors=ERRORS, seeds=1, name="quick") -> None:
    rows = []
    for (arm, depth), error in errors.items():
        for seed in range(seeds):
            own = {"arm": arm, "depth": depth, "seed": seed, "iterations": 500}
            rows.append(
                made_up_record(**own, train_error=error + 0.001 * (seed % 4) * depth / 1202)
            )
    write_made_up(folder / name, rows, curves=True)


def measured(folder, memory=MEMORY, **changes) -> None:
    for place, name in enumerate(("stored", "recomputed")):
        more = {"protocol": name, "iterations": 3} | (changes if name == "recomputed" else {})
        rows = [
            made_up_record(depth=depth, peak_memory_mib=mib[place], **more)
            for depth, mib in memory.items()
        ]
        write_made_up(folder / name, rows)


def part_of(folder, name: str = "quick") -> Part:
    return next(part for part in QUESTION.read(folder) if part.name == name)


def judged(folder, name: str = "quick") -> list[Claim]:
    return list(QUESTION.claims(part_of(folder, name)))


def verdicts(folder, name: str = "quick") -> list[str]:
    return [claim.verdict for claim in judged(folder, name)]


def cell_of(folder, part: str, *overrides: str):
    words = ("+experiment=thousand", f"thousand={part}", "model=residual", *overrides)
    return compose_cell(folder, *words)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("depth", [110, 1202])
def test_every_cell_composes_into_a_run(tmp_path, part, depth):
    cell = cell_of(tmp_path, part, f"model.depth={depth}")
    cell.check()
    protocol = cell.config.protocol
    assert cell.folder == tmp_path / "thousand" / part / "runs" / f"residual-{depth}-seed0"
    assert protocol.iterations % protocol.evaluate_every == 0
    assert protocol.iterations % protocol.log_every == 0
    with torch.device("meta"):
        network = hydra.utils.instantiate(cell.config.model, num_classes=10, in_channels=1)
    weighted = torch.nn.Conv2d | torch.nn.Linear
    assert sum(isinstance(module, weighted) for module in network.modules()) == depth


def test_every_depth_has_the_same_learning_rates(tmp_path):
    for part in ("quick", "cpu"):
        schedules = [
            cell_of(tmp_path, part, f"model.depth={depth}").schedule for depth in (56, 1202)
        ]
        for iteration in range(schedules[0].iterations):
            assert schedules[0].at(iteration, 56) == schedules[1].at(iteration, 1202)


@pytest.mark.parametrize("name", RATES)
def test_labels_have_the_rates_of_the_configuration(tmp_path, name):
    cell = cell_of(tmp_path, name, "model.depth=110")
    assert cell.config.protocol.learning_rate == RATES[name]


def test_folders_of_memory_differ_in_the_switch_alone(tmp_path):
    stored, recomputed = (
        cell_of(tmp_path, part, "model.depth=110") for part in ("stored", "recomputed")
    )
    differences = config_differences(stored.identity, recomputed.identity)
    assert differences == ["protocol.name: stored → recomputed"]
    switches = [cell.config.model.checkpoint_activations for cell in (stored, recomputed)]
    assert switches == [None, True]
    data, model = stored.config.data, stored.config.model
    assert (data.name, data.image_size, model.width) == ("digits", 16, 16)


def test_plain_and_residual_share_a_folder(tmp_path):
    for words in (("model=residual", "model.depth=1202"), ("model=plain", "model.depth=32")):
        cell = compose_cell(tmp_path, "+experiment=thousand", *words)
        assert claim_tables([cell]) is None


def test_checkpointing_changes_no_number_of_a_run(tmp_path):
    short = ("protocol.width=2", "model.depth=14", "protocol.batch_size=16", "threads=1")
    few = "protocol.evaluation_images=16"
    one, other = (
        train_cell(cell_of(tmp_path, part, *short, few)) for part in ("stored", "recomputed")
    )
    for name in SAME_NUMBERS:
        assert getattr(one, name) == getattr(other, name), name


def test_deep_networks_below_plain_32_are_reproduced(tmp_path):
    trained(tmp_path)
    assert verdicts(tmp_path) == [REPRODUCED] * 4
    trained(tmp_path, seeds=8)
    assert verdicts(tmp_path) == [REPRODUCED] * 4
    assert all(claim.p is not None for claim in judged(tmp_path))


def test_less_than_half_a_point_below_plain_32_is_not_below(tmp_path):
    trained(tmp_path, {**ERRORS, ("residual", 302): 0.696})
    assert [claim.words for claim in judged(tmp_path)] == ["contradicts", *["supports"] * 3]


def test_below_a_plain_network_at_chance_is_no_finding(tmp_path):
    trained(tmp_path, {**ERRORS, PLAIN: 0.89})
    *first, _ = judged(tmp_path)
    assert {claim.summary for claim in first} == {"hardly better than guessing: plain-32, seed 0"}


def test_one_seed_on_two_machines_is_not_comparable(tmp_path):
    trained(tmp_path, seeds=2)
    elsewhere(tmp_path / "quick", "residual-1202-seed1")
    claims = judged(tmp_path)
    assert [claim.num_seeds for claim in claims] == [2, 2, 1, 1]
    named = "seed 1 (plain-32: ATen AVX2 / oneDNN AVX2; residual-1202: another)"
    assert claims[2].summary.endswith(f"not comparable: {named}")


@pytest.mark.parametrize(
    ("deepest", "words"),
    [(0.180, ["supports", "supports"]), (0.187, ["supports", "contradicts"])],
)
def test_falling_on_past_100_layers_is_by_half_a_point_at_each_step(tmp_path, deepest, words):
    errors = {("residual", 56): 0.20, ("residual", 110): 0.19, ("residual", 164): deepest}
    trained(tmp_path, errors, seeds=3, name="long")
    assert [claim.words for claim in judged(tmp_path, "long")] == words
    (drawing,) = QUESTION.drawings(part_of(tmp_path, "long"))
    figure = drawing.draw()
    assert [len(line.get_xdata()) for line in figure.axes[0].lines[:3]] == [3, 3, 3]
    answers = {"supports": "Supported", "contradicts": "Of 2 claims 1 supported, 1 contradicted"}
    assert title(figure).endswith(f"falling to 164 layers? {answers[words[1]]}, not tested")


def test_memory_is_measured_beside_the_first_protocol_alone():
    def words(protocol: str) -> list[str]:
        sweep = Sweep("thousand", protocol=protocol, seeds="1,2")
        return [" ".join(command.words) for command in commands(sweep)]

    assert len(words("quick")) == 2 + 2 * len(MEMORY) * 2
    assert [("plain" in line) for line in words("cpu_slow")] == [False, True]
    (only,) = words("long")
    assert "thousand=long" in only
    assert "model.depth=164,110,56" in only


def test_memory_and_numbers_on_two_machines_are_not_comparable(tmp_path):
    measured(tmp_path, train_loss=0.06)
    for depth in MEMORY:
        elsewhere(tmp_path / "recomputed", f"residual-{depth}-seed0")
    claims = judged(tmp_path, "memory")
    assert [claim.verdict for claim in claims] == [INCONCLUSIVE] * 2
    assert claims[0].summary.startswith("not comparable: seed 0 (residual-1202 stored: ATen")
    unlike = "residual-110-seed0 (machine: ATen AVX2 / oneDNN AVX2, another), residual-302"
    assert claims[1].summary.startswith(f"not comparable: {unlike}")
    assert len(QUESTION.tables(part_of(tmp_path, "memory"))[0].rows) == 1, "no ratio is shown"


def test_the_numbers_of_two_networks_that_diverged_are_not_the_same_numbers(tmp_path):
    measured(tmp_path)
    for name in ("stored", "recomputed"):
        lost = {"status": DIVERGED, "train_error": None, "train_loss": None, "test_error": None}
        write_made_up(tmp_path / name, [made_up_record(depth=110, **lost)])
    claim = judged(tmp_path, "memory")[1]
    assert (claim.verdict, claim.summary) == (INCONCLUSIVE, "diverged: residual-110-seed0")


def test_two_networks_at_chance_do_not_show_that_the_deeper_one_is_no_worse(tmp_path):
    trained(tmp_path, {**ERRORS, ("residual", 110): 0.9, ("residual", 1202): 0.9})
    assert verdicts(tmp_path)[-1] == INCONCLUSIVE


def test_a_seed_that_is_not_judged_decides_nothing_about_the_others(tmp_path):
    trained(tmp_path)
    rows = read_runs(tmp_path / "quick")
    rows.append(made_up_record(depth=110, seed=1, train_error=0.5, iterations=500))
    write_made_up(tmp_path / "quick", rows)
    assert verdicts(tmp_path) == [REPRODUCED] * 4


@pytest.mark.parametrize(("error", "verdict"), [(0.054, REPRODUCED), (0.056, NOT_REPRODUCED)])
def test_1202_layers_may_tie_with_110_within_the_margin(tmp_path, error, verdict):
    trained(tmp_path, {**ERRORS, ("residual", 1202): error})
    assert verdicts(tmp_path)[2:] == [REPRODUCED, verdict]


@pytest.mark.parametrize("error", [0.1, 0.5])
def test_1202_layers_are_not_held_against_110_that_are_not_yet_trained(tmp_path, error):
    trained(tmp_path, {**ERRORS, ("residual", 110): 0.3, ("residual", 1202): error})
    claim = judged(tmp_path)[-1]
    assert claim.verdict == INCONCLUSIVE
    assert "residual-110 still errs on 30.0%" in claim.summary


def test_a_network_that_does_not_train_contradicts_and_a_missing_one_is_named(tmp_path):
    rows = [
        made_up_record(arm="plain", depth=32, train_error=0.5),
        made_up_record(depth=602, status=DIVERGED, train_error=None),
    ]
    write_made_up(tmp_path / "quick", rows)
    assert verdicts(tmp_path) == [INCONCLUSIVE, NOT_REPRODUCED, INCONCLUSIVE, INCONCLUSIVE]
    claims = judged(tmp_path)
    assert claims[0].summary == "missing: residual-302"
    assert claims[1].criteria[0].mean == pytest.approx(0.5 - 0.9)


@pytest.mark.parametrize(("with_", "verdict"), [(2999.0, REPRODUCED), (3001.0, NOT_REPRODUCED)])
def test_memory_is_judged_at_1202_layers(tmp_path, with_, verdict):
    measured(tmp_path, {**MEMORY, 1202: (6000.0, with_)})
    assert verdicts(tmp_path, "memory") == [verdict, REPRODUCED]
    assert "in 4 of 4 pairs" in judged(tmp_path, "memory")[1].summary


def test_memory_of_other_networks_and_other_images_is_not_compared(tmp_path):
    measured(tmp_path)
    rows = [made_up_record(arm="plain", depth=d, peak_memory_mib=1.0) for d in MEMORY]
    write_made_up(tmp_path / "recomputed", [replace(r, protocol="recomputed") for r in rows])
    assert judged(tmp_path, "memory")[0].summary == "missing: residual-1202 recomputed"
    measured(tmp_path, data_fingerprint="ab" * 6)
    with pytest.raises(ValueError, match="on other images"):
        judged(tmp_path, "memory")


def test_two_networks_that_diverged_at_other_iterations_are_not_the_same(tmp_path):
    for name, iterations in (("stored", 3), ("recomputed", 1)):
        lost = {"status": DIVERGED, **NO_ERRORS, "iterations": iterations}
        write_made_up(tmp_path / name, [made_up_record(depth=110, **lost)])
    assert judged(tmp_path, "memory")[1].verdict == NOT_REPRODUCED


def test_another_number_with_checkpointing_is_seen(tmp_path):
    measured(tmp_path, train_loss=0.0501)
    assert verdicts(tmp_path, "memory")[1] == NOT_REPRODUCED


def test_each_protocol_and_the_memory_are_reported_apart(tmp_path):
    trained(tmp_path, seeds=2)
    variant = "variant quick, rate 0.1, 500 iterations"
    first = f"Training: digits · protocol quick, {variant} · 2 seeds\n"
    assert QUESTION.text(tmp_path).startswith(first)
    assert [part.name for part in QUESTION.read(tmp_path)] == ["quick"]
    trained(tmp_path, name="slow")
    measured(tmp_path)
    assert [part.name for part in QUESTION.read(tmp_path)] == ["quick", "slow", "memory"]
    label = QUESTION.label(part_of(tmp_path, "memory"))
    assert label.startswith("Memory: digits · protocol ")
    assert label.endswith(", variant recomputed and stored, 3 iterations · 1 seed")
    (table,) = QUESTION.tables(part_of(tmp_path, "memory"))
    assert table.rows[-1][:5] == ["residual-1202", "0", "6,000", "1,500", "0.25"]


def test_cells_that_only_one_side_has_are_named(tmp_path):
    measured(tmp_path)
    (tmp_path / "recomputed" / RUNS_TABLE).unlink()
    claims = judged(tmp_path, "memory")
    assert claims[0].summary == "missing: residual-1202 recomputed"
    assert claims[1].summary == "missing: cells that stored and recomputed share"
    assert [claim.verdict for claim in claims] == [INCONCLUSIVE] * 2
