"""The lineage on made-up tables, and its networks as configurations."""

import hydra
import pytest
import torch
from composing import compose_cell, variants
from made_up import elsewhere, made_up_record, write_made_up

from experiments.grid import Sweep, commands
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.lineage import QUESTION
from experiments.lineage.claims import NETWORKS, STEPS, Lineage, name_of
from plainres.records.schema import DIVERGED

SHIPPED = variants("network")
ERRORS = {
    "lenet5": 0.45,
    "alexnet": 0.30,
    "vgg11": 0.27,
    "vgg13": 0.26,
    "vgg16": 0.25,
    "vgg19": 0.251,
    "vgg16_bn": 0.20,
    "plain20": 0.24,
    "plain56": 0.40,
    "residual20": 0.22,
    "residual56": 0.21,
    "se20": 0.20,
}
PARAMETERS = {"vgg16": 3_688_000}


def measured(folder, errors=ERRORS, seeds=1) -> None:
    for network, error in errors.items():
        own = {"num_parameters": PARAMETERS.get(network, 269_722)}
        rows = [
            made_up_record(
                seed=seed,
                train_error=error * (1 + 0.01 * seed),
                test_error=error * (1 + 0.001 * seed),
                **own,
            )
            for seed in range(seeds)
        ]
        write_made_up(folder / network, rows)


def read(folder) -> Lineage:
    (lineage,) = QUESTION.read(folder)
    return lineage


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in QUESTION.claims(read(folder))]


def test_every_network_that_the_claims_name_is_shipped():
    assert set(NETWORKS) == set(SHIPPED)
    assert {name for step in STEPS for name in (step.better, step.worse)} <= set(SHIPPED)


@pytest.mark.parametrize("network", SHIPPED)
def test_cells_differ_in_nothing_but_the_network(tmp_path, network):
    cell, other = (
        compose_cell(tmp_path, "+experiment=lineage", f"network={name}", "data=digits")
        for name in (network, "plain20")
    )
    cell.check()
    assert cell.results_folder == tmp_path / "lineage" / network
    one, another = (dict(each.identity["protocol"]) for each in (cell, other))
    assert (one.pop("name"), another.pop("name")) == (network, "plain20")
    assert one == another
    built = hydra.utils.instantiate(cell.config.model, num_classes=10, in_channels=3)
    assert built(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_order_of_history_is_reproduced(tmp_path):
    measured(tmp_path)
    assert verdicts(tmp_path) == [REPRODUCED] * len(STEPS)
    first, *_ = QUESTION.claims(read(tmp_path))
    assert first.summary == "test error 45.00 % (LeNet-5), 30.00 % (AlexNet, half width)"


def test_several_seeds_are_tested_together(tmp_path):
    measured(tmp_path, seeds=9)
    claims = QUESTION.claims(read(tmp_path))
    assert [claim.verdict for claim in claims] == [REPRODUCED] * len(STEPS)
    assert all(claim.p is not None for claim in claims)


def test_one_seed_on_two_machines_is_not_comparable(tmp_path):
    measured(tmp_path, seeds=2)
    elsewhere(tmp_path / "vgg16", "residual-20-seed0")
    claims = QUESTION.claims(read(tmp_path))
    with_vgg16 = ["vgg16" in (step.better, step.worse) for step in STEPS]
    assert [claim.num_seeds for claim in claims] == [2 - moved for moved in with_vgg16]
    assert claims[1].summary.endswith(
        "; not comparable: seed 0 (AlexNet, half width: ATen AVX2 / oneDNN AVX2; VGG-16, half "
        "width: another)"
    )


def test_a_step_backwards_is_contradicted(tmp_path):
    measured(tmp_path, {**ERRORS, "vgg16": 0.35, "vgg19": 0.36})
    assert verdicts(tmp_path)[1:3] == [NOT_REPRODUCED, NOT_REPRODUCED]


@pytest.mark.parametrize(("error", "verdict"), [(0.224, REPRODUCED), (0.226, NOT_REPRODUCED)])
def test_residual_networks_may_tie_within_the_margin(tmp_path, error, verdict):
    measured(tmp_path, {**ERRORS, "residual56": error})
    assert verdicts(tmp_path)[6] == verdict


def test_a_missing_network_is_named_and_a_diverged_one_is_at_chance(tmp_path):
    measured(tmp_path, {name: error for name, error in ERRORS.items() if name != "alexnet"})
    diverged = made_up_record(status=DIVERGED, train_error=None, test_error=None)
    write_made_up(tmp_path / "plain56", [diverged])
    claims = QUESTION.claims(read(tmp_path))
    assert claims[0].verdict == INCONCLUSIVE
    assert claims[0].summary == "missing: AlexNet, half width"
    assert claims[5].verdict == REPRODUCED
    assert claims[5].criteria[0].mean == pytest.approx(0.9 - 0.24)


@pytest.mark.parametrize("network", ["vgg19", "lenet5", "residual20"])
def test_nothing_follows_from_a_network_that_did_not_learn(tmp_path, network):
    measured(tmp_path, {**ERRORS, network: 0.89})
    summaries = [c.summary for c in QUESTION.claims(read(tmp_path)) if c.verdict == INCONCLUSIVE]
    assert summaries
    assert all(text.startswith(f"{name_of(network)} did not learn") for text in summaries)
    assert len(summaries) == sum(network in (step.better, step.worse) for step in STEPS)


def test_fewer_parameters_are_a_condition(tmp_path, monkeypatch):
    monkeypatch.setitem(PARAMETERS, "residual56", 3_688_000)
    measured(tmp_path)
    assert verdicts(tmp_path)[7] == NOT_REPRODUCED


@pytest.mark.parametrize(("error", "verdict"), [(0.244, REPRODUCED), (0.246, NOT_REPRODUCED)])
def test_less_than_half_a_point_is_no_progress(tmp_path, error, verdict):
    measured(tmp_path, {**ERRORS, "vgg16_bn": error})
    assert verdicts(tmp_path)[4] == verdict


def test_networks_that_were_trained_otherwise_are_not_compared(tmp_path):
    measured(tmp_path)
    for network, iterations in (("lenet5", 3000), ("alexnet", 20)):
        protocol = {"name": network, "iterations": iterations}
        config = {"model": {"_target_": network}, "protocol": protocol}
        write_made_up(tmp_path / network, [made_up_record()], config=config)
    message = r"alexnet and lenet5 were not trained alike \(protocol.iterations: 20 → 3000\)"
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_network_of_ones_own_joins_the_table(tmp_path):
    measured(tmp_path, {**ERRORS, "mine": 0.1})
    (table,) = QUESTION.tables(read(tmp_path))
    assert table.rows[-1][:2] == ["mine", "–"]
    assert QUESTION.text(tmp_path).startswith(
        "digits · protocol quick, 2,000 iterations · 1 seed\n"
    )


def test_the_rate_with_the_lowest_error_on_held_out_images_is_chosen(tmp_path):
    measured(tmp_path)
    errors = {("alexnet", 0.05): 0.31, ("alexnet", 0.1): 0.29, ("vgg16", 0.05): 0.4}
    for (network, rate), error in errors.items():
        write_made_up(tmp_path / "rates" / f"{network}-{rate}", [made_up_record(val_error=error)])
    lost = made_up_record(status=DIVERGED, train_error=None, val_error=None)
    write_made_up(tmp_path / "rates" / "vgg16-0.1", [lost])
    _, table = QUESTION.tables(read(tmp_path))
    assert table.rows == [
        ["network", "rate 0.05", "rate 0.1"],
        ["AlexNet, half width", "31.00", "29.00 (chosen)"],
        ["VGG-16, half width", "40.00 (chosen)", "90.00"],
    ]


def test_a_cell_of_the_choice_trains_on_fewer_images_at_its_rate(tmp_path):
    (command,) = commands(Sweep("lineage", variants="rates"))
    multirun, *grid, seed = command.words
    assert (multirun, seed) == ("-m", "seed=100")
    words = (*grid, "protocol.learning_rate=0.2", "network=vgg16", "data=digits")
    cell = compose_cell(tmp_path, *words)
    assert cell.results_folder == tmp_path / "lineage" / "rates" / "vgg16-0.2"
    assert (cell.config.data.val_size, cell.config.protocol.iterations) == (5000, 1000)
