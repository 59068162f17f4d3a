"""The dose on made-up tables: trainable depth, its prediction, claims, table and figure."""

import math
from dataclasses import replace

import pytest
import torch
from composing import CONF, compose_cell, variants
from drawn import caption
from made_up import elsewhere, made_up_record, write_made_up
from matplotlib import pyplot as plt
from omegaconf import OmegaConf

from experiments.dose import QUESTION, prediction
from experiments.dose.claims import DEEPEST
from experiments.dose.depths import trainable_depth
from experiments.dose.prediction import predictions
from experiments.grid import Sweep, commands
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.theory import ACTIVATIONS, NAMES, gradient_growth
from plainres.networks.activations import Rectifier
from plainres.records.files import RUNS_TABLE, read_runs, read_table, write_table
from plainres.records.schema import Record

DEPTHS = (20, 32, 44, 56, 80, 110, 164)


def error_at(depth: int, trainable: float) -> float:
    """2 % at 20 layers, twice that at the trainable depth, at most 90 %."""
    return min(0.9, 0.02 * 2 ** ((depth - 20) / (trainable - 20)))


def measured(folder, seeds=1, residual=0.01, **changed) -> None:
    """All cells; networks train as deep as predicted, or as `changed` says."""
    for name, predicted in predictions().items():
        trainable = changed.get(name, predicted.depth)
        rows = [
            made_up_record(arm=arm, depth=depth, seed=seed, train_error=error * (1 + 1e-3 * seed))
            for seed in range(seeds)
            for depth in DEPTHS
            for arm, error in (("plain", error_at(depth, trainable)), ("residual", residual))
        ]
        write_made_up(folder / f"quick-{name}", rows)


def verdicts(folder) -> list[str]:
    (dose,) = QUESTION.read(folder)
    return [claim.verdict for claim in QUESTION.claims(dose)]


def test_networks_that_all_guess_decide_nothing_about_depths(tmp_path):
    for name in predictions():
        rows = [
            made_up_record(arm=arm, depth=depth, seed=seed, train_error=0.9)
            for arm in ("plain", "residual")
            for depth in DEPTHS
            for seed in range(9)
        ]
        write_made_up(tmp_path / f"quick-{name}", rows)
    (dose,) = QUESTION.read(tmp_path)
    ordered, predicted, beyond, trains = QUESTION.claims(dose)[2:6]
    for claim in (ordered, predicted):
        assert claim.verdict == INCONCLUSIVE
        assert "plain-20 has not learned" in claim.summary
    for claim in (beyond, trains):
        assert claim.verdict == INCONCLUSIVE
        assert "hardly better than guessing: " in claim.summary
    assert "plain-20, seed 0, 1, 2, 3, 4, 5, 6, 7, 8" in trains.summary


def test_networks_of_another_machine_are_not_compared(tmp_path):
    measured(tmp_path)
    elsewhere(tmp_path / "quick-leaky_75", "plain-110-seed0")
    (dose,) = QUESTION.read(tmp_path)
    trains = QUESTION.claims(dose)[5]
    assert trains.verdict == INCONCLUSIVE
    assert trains.summary.startswith("not comparable: seed 0 (plain-110: another; plain-20: ")


def test_slopes_alone_on_other_images_are_judged_by_themselves(tmp_path):
    measured(tmp_path)
    errors = {"relu": 0.8, "leaky_25": 0.5, "leaky_50": 0.4}
    for name, error in errors.items():
        rows = [
            made_up_record(
                arm="plain",
                depth=depth,
                seed=seed,
                train_error=0.3 + (depth > 20) * error / 2,
                protocol="cpu",
                data_fingerprint="0" * 12,
            )
            for depth in (20, 56, 110)
            for seed in range(6)
        ]
        write_made_up(tmp_path / f"cpu-{name}", rows)
    cpu, quick = QUESTION.read(tmp_path)
    (claim,) = QUESTION.claims(cpu)
    assert claim.verdict == REPRODUCED
    assert len(QUESTION.claims(quick)) == 7
    assert QUESTION.measured(tmp_path, "cpu").splitlines()[2].startswith("| ReLU | 30.00 ± 0.00 |")
    (drawing,) = QUESTION.drawings(cpu)
    figure = drawing.draw()
    assert drawing.name == "cpu_errors"
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"ReLU", "slope 0.25", "slope 0.5"} <= labels
    plt.close(figure)


def test_errors_are_shown_of_the_seeds_that_all_activations_have(tmp_path):
    """A seed that one of them lacks, or has under other conditions, moves no mean."""
    for name, seeds in {"relu": 3, "leaky_25": 2, "leaky_50": 2}.items():
        rows = [
            made_up_record(arm="plain", depth=20, seed=seed, train_error=0.1 + seed / 10)
            for seed in range(seeds)
        ]
        write_made_up(tmp_path / f"cpu-{name}", rows)
    elsewhere(tmp_path / "cpu-leaky_50", "plain-20-seed1")
    (dose,) = QUESTION.read(tmp_path)
    assert dose.compared("relu", "plain", 20) == [pytest.approx(10)]
    assert QUESTION.measured(tmp_path, "cpu").splitlines()[2] == "| ReLU | 10.00 |"


def test_trainable_depth_is_where_the_error_has_doubled():
    assert trainable_depth({20: 0.02, 32: 0.02, 44: 0.08}, 0.9) == (38.0, False)
    trains = {8: 0.5, 20: 0.02, 44: 0.03, 56: 0.039}
    assert trainable_depth(trains, 0.9) == (56.0, True)
    assert trainable_depth(trains, 0.9, 164) is None, "it may train deeper"
    assert trainable_depth({32: 0.02, 44: 0.08}, 0.9) is None, "without the reference"
    assert trainable_depth({20: 0.0, 32: 0.5}, 0.9) is None
    assert trainable_depth({20: 0.89, 32: 0.9}, 0.9) is None, "they only guess"
    assert trainable_depth({20: 0.46, 32: 0.9}, 0.9) is None, "guessing is below twice the error"


def test_a_seed_without_a_depth_is_named_and_not_left_out(tmp_path):
    measured(tmp_path, seeds=9)
    path = tmp_path / "quick-leaky_50" / RUNS_TABLE
    rows = read_runs(path.parent)
    for lacking in (
        [row for row in rows if (row.arm, row.depth, row.seed) != ("plain", 164, 0)],
        [replace(row, train_error=0.9) if row.seed == 0 else row for row in rows],
    ):
        write_table(path, lacking, Record)
        (dose,) = QUESTION.read(tmp_path)
        claim = QUESTION.claims(dose)[2]
        assert claim.verdict == INCONCLUSIVE
        assert claim.summary.endswith("leaky_50 seed 0")


def test_the_committed_prediction_is_what_the_committed_table_and_theory_give():
    assert read_table(prediction.TABLE, prediction.Prediction) == prediction.predict()
    relu, *others = predictions().values()
    for row in others:
        ratio = math.log(relu.growth) / math.log(row.growth) if row.growth > 1 else math.inf
        assert row.depth == pytest.approx(relu.depth * ratio, rel=2e-3)


@pytest.mark.parametrize(
    ("slope", "shift", "growth"),
    [
        (0.0, 0.0, math.pi / (math.pi - 1)),  # Yang et al. 2019
        (0.25, 0.0, 1.2027),
        (0.5, 0.0, 1.0680),
        (0.0, 1.0, 1.1202),
        (1.0, 0.0, 1.0),  # linear
        (1.0, 7.0, 1.0),
    ],
)
def test_gradients_grow_as_theory_says(slope, shift, growth):
    assert gradient_growth(slope, shift) == pytest.approx(growth, abs=1e-4)


@pytest.mark.parametrize(("slope", "shift"), [(0.0, -0.5), (0.3, 0.7), (0.5, -2.0)])
def test_growth_is_the_ratio_of_two_integrals(slope, shift):
    z = torch.linspace(-12, 12, 2_000_001, dtype=torch.float64, requires_grad=True)
    weights = torch.exp(-(z**2) / 2).detach()
    weights /= weights.sum()
    y = Rectifier(slope, shift)(z)
    (derivative,) = torch.autograd.grad(y.sum(), z)
    y = y.detach()
    variance = (weights * y**2).sum() - (weights * y).sum() ** 2
    expected = ((weights * derivative**2).sum() / variance).item()
    assert gradient_growth(slope, shift) == pytest.approx(expected, abs=1e-4)


def test_every_activation_is_shipped_with_its_slope_and_shift(tmp_path):
    assert set(variants("activation")) == set(ACTIVATIONS)
    for name, parameters in ACTIVATIONS.items():
        words = ("+experiment=dose", f"activation={name}", "model=plain", "model.depth=20")
        cell = compose_cell(tmp_path, *words)
        cell.check()
        model = cell.config.model
        assert (model.slope or 0, model.shift or 0) == parameters
        assert cell.results_folder == tmp_path / "dose" / f"quick-{name}"
        assert predictions()[name].growth == pytest.approx(gradient_growth(*parameters), rel=1e-5)


def test_the_sweep_has_every_cell_of_the_claims():
    params = OmegaConf.load(CONF / "experiment" / "dose.yaml").hydra.sweeper.params
    assert set(params.activation.split(",")) == set(variants("activation"))
    assert {int(depth) for depth in params["model.depth"].split(",")} == set(DEPTHS)
    (command,) = commands(Sweep("dose", variants="linear", arms="plain"))
    words = ["-m", "+experiment=dose", "protocol=quick", "activation=linear", "model=plain"]
    assert command.words[:5] == words


def test_networks_that_train_as_deep_as_predicted_reproduce_all(tmp_path):
    measured(tmp_path)
    assert verdicts(tmp_path) == [REPRODUCED] * 7
    measured(tmp_path, seeds=9)
    assert verdicts(tmp_path) == [REPRODUCED] * 7


@pytest.mark.parametrize(
    ("changed", "against"),
    [
        ({"leaky_25": 25.0}, {0, 2, 3}),
        ({"shifted_50": 25.0}, {1, 2, 3}),
        ({"leaky_50": 105.0}, {2, 3}),
        ({"shifted_100": 170.0}, {3, 2}),
        ({"shifted_200": 100.0}, {4}),
        ({"leaky_75": 100.0}, {4, 5}),
    ],
)
def test_networks_that_train_less_or_deeper_contradict(tmp_path, changed, against):
    measured(tmp_path, **changed)
    found = verdicts(tmp_path)
    assert {place for place, each in enumerate(found) if each == NOT_REPRODUCED} == against


def test_shortcuts_that_do_not_help_are_seen(tmp_path):
    measured(tmp_path, residual=0.03)
    assert verdicts(tmp_path)[6] == NOT_REPRODUCED


def test_what_is_missing_is_named(tmp_path):
    write_made_up(tmp_path / "quick-relu", [made_up_record(arm="plain", train_error=0.1)])
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 7
    (dose,) = QUESTION.read(tmp_path)
    assert "leaky_25 56" in QUESTION.claims(dose)[0].summary


def test_the_table_and_the_map_show_prediction_and_measurement(tmp_path):
    measured(tmp_path, seeds=2, residual=0.01, linear=1e9)
    (dose,) = QUESTION.read(tmp_path)
    table, *_ = QUESTION.tables(dose)
    rows = {row[0]: row[1:] for row in table.rows[1:]}
    assert list(rows) == [NAMES[name] for name in ACTIVATIONS]
    assert rows["ReLU"][:2] == ["1.467", "31"]
    assert rows["ReLU"][2].startswith("31 ±")
    assert rows["linear"][:2] == ["1.000", "no limit"]
    assert rows["linear"][2].startswith("≥ 164")
    assert rows["ReLU"][-2].startswith("1.0"), "residual-110"
    (drawing,) = QUESTION.drawings(dose)
    figure = drawing.draw()
    assert "predicted from ReLU alone" in caption(figure)
    predicted, found = (list(line.get_xdata()) for line in figure.axes[0].get_lines())
    assert len(predicted) == sum(each.depth <= DEEPEST for each in predictions().values()) == 4
    assert predicted == sorted(predicted), "smaller λ, deeper"
    assert found[1:4] == pytest.approx(predicted[1:], abs=0.2)
    plt.close(figure)


@pytest.mark.parametrize("arm", ["plain", "residual"])
def test_the_map_of_one_arm_has_one_panel(tmp_path, arm):
    measured(tmp_path)
    for path in tmp_path.glob(f"*/{RUNS_TABLE}"):
        write_table(path, [row for row in read_runs(path.parent) if row.arm == arm], Record)
    (dose,) = QUESTION.read(tmp_path)
    (drawing,) = QUESTION.drawings(dose)
    figure = drawing.draw()
    assert [axis.get_title() for axis in figure.axes[:-1]] == [arm], "the last one is the bar's"
    plt.close(figure)
