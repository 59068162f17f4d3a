"""Cures: the shipped networks, how a gradient grows in them, and the claims on made-up tables."""

import math

import hydra
import pytest
import torch
from composing import compose_cell, variants
from made_up import elsewhere, made_up_record, write_made_up
from matplotlib import pyplot as plt
from torch import nn
from trained import SHORT, interrupt, numbers

from experiments.cures import QUESTION, claims
from experiments.cures.claims import CURES, DEEP, GAIN_TABLE, WITHOUT_SHORTCUT
from experiments.grid import Sweep, commands
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from plainres.instruments.backward_gain import block_signals, mean_cosine
from plainres.networks.blocks import BasicBlock
from plainres.networks.cures import PreactivationNetwork, SkipInitBlock
from plainres.networks.resnet import CifarNetwork
from plainres.records.files import read_table, write_table
from plainres.records.rows import BlockSignal
from plainres.run import train

SHORT_RUN = ("+experiment=cures", "protocol=smoke", "model.depth=8", *SHORT)
# Error of 110 layers, and the growth of gradients there
EXPECTED = {
    "untreated": (0.8, 1e7),
    "leaky": (0.3, 50),
    "tailored": (0.2, 20),
    "tailored_alone": (0.25, 0.04),
    "looks_linear": (0.025, 1),
    "orthogonal": (0.7, 1e6),
    "delta_orthogonal": (0.85, 1e9),
    "dirac_convolutions": (0.05, 2),
    "option_a": (0.01, 20),
    "fixup": (0.02, 0.3),
    "skipinit": (0.02, 0.3),
    "rezero": (0.02, 0.3),
    "shifted": (0.8, 1),
    "shifted_circular": (0.2, 20),
    "circular": (0.75, 1e8),
}


def measured(folder, seeds=1, deep=(0.4, 0.2), **changed) -> None:
    """All cells; errors and growth are EXPECTED, or as `changed` says."""
    for cure in CURES:
        error, growth = changed.get(cure, EXPECTED.get(cure, (0.5, 1.0)))
        arm = "plain" if cure in WITHOUT_SHORTCUT | claims.LATER else "residual"
        depths = {110: error, 56: error * 0.9}
        if cure == "untreated":
            depths[20] = 0.03
        write_rows(folder / f"quick-{cure}", arm, depths, growth, seeds)
    for cure, error in zip(DEEP, deep, strict=True):
        depths = {302: error, 602: error}
        name = cure.removeprefix("deep_")
        write_rows(folder / f"deep-{name}", "residual", depths, 1.0, seeds)


def write_rows(folder, arm, depths, growth, seeds) -> None:
    rows = [
        made_up_record(arm=arm, depth=depth, seed=seed, train_error=error * (1 + 1e-3 * seed))
        for seed in range(seeds)
        for depth, error in depths.items()
    ]
    write_made_up(folder, rows)
    signals = [
        BlockSignal(arm, row.depth, row.seed, 0, layer, gain, 1.0, 0.5)
        for row in rows
        for layer, gain in ((1, growth), (2, 1.0))
    ]
    write_table(folder / GAIN_TABLE, signals, BlockSignal)


def verdicts(folder) -> list[str]:
    return [claim.verdict for part in QUESTION.read(folder) for claim in QUESTION.claims(part)]


def test_networks_that_all_guess_show_no_cure(tmp_path):
    for cure in CURES:
        arm = "plain" if cure in WITHOUT_SHORTCUT | claims.LATER else "residual"
        rows = [
            made_up_record(arm=arm, depth=depth, seed=seed, train_error=0.9)
            for depth in (20, 56, 110)
            for seed in range(9)
        ]
        write_made_up(tmp_path / f"quick-{cure}", rows)
        signals = [
            BlockSignal(arm, row.depth, row.seed, 0, layer, 0.1 * layer, 1.0, 0.5)
            for row in rows
            for layer in (1, 2)
        ]
        write_table(tmp_path / f"quick-{cure}" / GAIN_TABLE, signals, BlockSignal)
    assert REPRODUCED not in verdicts(tmp_path)
    (cures,) = QUESTION.read(tmp_path)
    for place in (0, 2, 3, 5, 6):
        claim = QUESTION.claims(cures)[place]
        assert claim.verdict == INCONCLUSIVE
        assert claim.summary.startswith("hardly better than guessing: ")


def test_networks_of_another_machine_are_not_compared(tmp_path):
    measured(tmp_path)
    elsewhere(tmp_path / "quick-option_a", "residual-110-seed0")
    best, *_ = QUESTION.claims(QUESTION.read(tmp_path)[0])
    assert best.verdict == INCONCLUSIVE
    assert best.summary.startswith("not comparable: seed 0 (")
    assert "option_a: another" in best.summary


def test_the_shipped_networks_are_those_of_the_claims(tmp_path):
    assert set(variants("cure")) == {*CURES, *DEEP}
    places = set()
    for name in variants("cure"):
        cell = compose_cell(tmp_path, "+experiment=cures", f"cure={name}")
        cell.check()
        model = cell.config.model
        assert (model.shortcut == "none") == (name in WITHOUT_SHORTCUT | claims.LATER)
        assert (model.norm == "none") == (name in claims.NOT_NORMALISED)
        assert cell.config.kernels == "library"
        assert cell.config.protocol.learning_rate == (0.01 if name.endswith("_slow") else 0.1)
        assert cell.config.protocol.iterations == (500 if name in DEEP else 2000)
        places.add(cell.results_folder.name)
    assert places == {f"quick-{c}" for c in CURES} | {name.replace("_", "-", 1) for name in DEEP}


def test_the_sweep_has_every_cell_of_the_claims():
    quick, shallow, deep = (" ".join(each.words) for each in commands(Sweep("cures")))
    assert f"cure={','.join(CURES)}" in quick
    assert shallow.split()[:4] == ["-m", "+experiment=cures", "protocol=quick", "model.depth=20"]
    assert f"model.depth=1202,602,302 cure={','.join(DEEP)}" in deep
    (one,) = commands(Sweep("cures", variants="fixup", depths="20"))
    assert "cure=fixup" in one.words
    assert one.words[-1] == "model.depth=20"


@pytest.mark.parametrize("cure", ["dirac_convolutions", "skipinit", "stochastic_depth"])
def test_an_interrupted_run_ends_with_the_same_numbers(tmp_path, cure):
    words = (*SHORT_RUN, f"cure={cure}", "checkpoint_seconds=0")
    cell = compose_cell(tmp_path / "undisturbed", *words)
    record = train.train_cell(cell)
    table = (cell.folder / GAIN_TABLE).read_text().splitlines()
    assert len(table) == 1 + 3
    again = compose_cell(tmp_path / "interrupted", *words)
    interrupt(again, 6)
    assert numbers(train.train_cell(again)) == numbers(record)
    assert [row.layer for row in read_table(again.folder / GAIN_TABLE, BlockSignal)] == [1, 2, 3]


def images() -> torch.Tensor:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_gain_is_that_of_the_gradient_of_a_random_direction():
    torch.manual_seed(0)
    network = CifarNetwork(14, "zero_pad", width=4)
    found = block_signals(network, images())
    outputs: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(lambda _, __, output: outputs.append(output))
    network(images())
    gains = []
    for _ in range(200):  # ‖J^T u‖ for many u: its mean square is that of J
        direction = torch.randn_like(outputs[-1])
        (gradient,) = torch.autograd.grad(outputs[-1], outputs[0], direction, retain_graph=True)
        gains.append((gradient.norm() / direction.norm()).item())
    assert found[0].gain == pytest.approx(sum(gains) / len(gains), rel=0.05)
    assert found[-1].gain == 1
    assert [each.response for each in found] == pytest.approx(
        [output.std(correction=0).item() for output in outputs], rel=1e-4
    )


def test_the_gain_needs_no_gradient_of_the_loss_and_changes_nothing(tmp_path):
    cell = compose_cell(tmp_path, "+experiment=cures", "cure=fixup", "model.depth=8")
    network = hydra.utils.instantiate(cell.config.model, num_classes=10, in_channels=3)
    assert not network.fc.weight.any()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert all(0.1 < each.gain <= 1 for each in block_signals(network, images()))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())
    dropping = compose_cell(tmp_path, "+experiment=cures", "cure=stochastic_depth")
    block_signals(
        hydra.utils.instantiate(dropping.config.model, num_classes=10, in_channels=3), images()
    )


def test_the_last_block_passes_on_what_it_made_before_an_activation_in_place():
    torch.manual_seed(0)
    options = {"norm": "none", "block": SkipInitBlock}
    network = PreactivationNetwork(20, "zero_pad", width=4, **options)
    found = block_signals(network, images())
    assert found[-2].gain == found[-1].gain == 1, "branches begin at 0"
    assert found[-2].cosine == found[-1].cosine


def test_the_mean_cosine_is_that_of_all_pairs():
    outputs = torch.randn(5, 2, 3, dtype=torch.float64)
    rows = outputs.flatten(1)
    pairs = [
        nn.functional.cosine_similarity(rows[i], rows[j], dim=0)
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    torch.testing.assert_close(mean_cosine(outputs), torch.stack(pairs).mean())
    outputs[0] = 0
    assert mean_cosine(outputs).isfinite()


def test_what_was_expected_reproduces_all(tmp_path):
    measured(tmp_path)
    assert verdicts(tmp_path) == [REPRODUCED] * 8
    measured(tmp_path, seeds=9)
    assert verdicts(tmp_path) == [REPRODUCED] * 8


@pytest.mark.parametrize(
    ("changed", "against"),
    [
        ({"looks_linear": (0.05, 1)}, {0}),
        ({"leaky": (0.3, 1e12), "tailored": (0.2, 1e11), "tailored_alone": (0.25, 1e10)}, {1}),
        ({"rezero": (0.06, 0.3)}, {2}),
        ({"delta_orthogonal": (0.1, 1e9)}, {1, 3}),
        ({"tailored": (0.75, 20)}, {4}),
        ({"option_a": (0.024, 20)}, {5}),
        ({"option_a": (0.01, 1.5)}, {5}),
        ({"shifted_circular": (0.75, 20)}, {6}),
        ({"circular": (0.1, 1e8)}, {6}),
        ({"deep": (0.2, 0.4)}, {7}),
    ],
)
def test_other_results_contradict(tmp_path, changed, against):
    measured(tmp_path, **changed)
    found = verdicts(tmp_path)
    wrong = {place for place, each in enumerate(found) if each == NOT_REPRODUCED}
    assert against - {1} <= wrong
    assert wrong <= against


def test_what_is_missing_is_named(tmp_path):
    write_made_up(tmp_path / "quick-fixup", [made_up_record(depth=110)])
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 7
    (part,) = QUESTION.read(tmp_path)
    assert "untreated" in QUESTION.claims(part)[0].summary


def test_the_table_ranks_by_error_and_says_what_each_network_has(tmp_path):
    measured(tmp_path, seeds=2)
    quick, deep = QUESTION.read(tmp_path)
    (table,) = QUESTION.tables(quick)
    heads, *rows = table.rows
    names = {row[0]: dict(zip(heads[1:], row[1:], strict=True)) for row in rows}
    assert list(names) == sorted(
        names, key=lambda name: float(names[name]["error, 110"].split()[0])
    )
    assert names["looks linear"]["shortcut"] == "no"
    assert names["Fixup"]["normalisation"] == "no"
    assert names["none"]["gradient, 110"] == "1e+07"
    assert "20 layers untreated: 3.0" in " ".join(table.notes)
    for part, name in ((quick, "quick_growth"), (deep, "deep")):
        (drawing,) = QUESTION.drawings(part)
        assert drawing.name == name
        figure = drawing.draw()
        shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ranked = [name for name in names if "rate 0.01" not in name]
        assert part is deep or shown == ranked, "the lowest error first, as in the table"
        plt.close(figure)
    assert math.isinf(claims._mean(quick.errors("fixup", 7)))
    assert QUESTION.write(tmp_path)
