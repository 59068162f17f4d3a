"""Rate: theory against networks and simulations, claims and figures on made-up tables."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from composing import compose_cell, variants
from drawn import caption
from made_up import elsewhere, made_up_record, write_made_up
from matplotlib import pyplot as plt
from omegaconf import OmegaConf

from experiments.grid import Sweep, commands
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.rate import QUESTION, claims, grid, measured
from experiments.rate.border import border_signals, predict
from experiments.rate.measured import PADDINGS, REFERENCE, Setting, Signal
from experiments.rate.walk import residual_signals
from experiments.theory import ACTIVATIONS, NAMES, gradient_growth
from plainres.instruments.probes import probe
from plainres.networks.resnet import CifarNetwork
from plainres.records.files import read_table, write_table
from plainres.records.schema import DIVERGED

BLOCKS = 18  # of a stage of 110 layers
SEEDS = 9  # the fewest for a test of ten claims


def config_of(setting: Setting) -> dict:
    slope, shift, padding, width, batch, pixels = setting
    model = {"_target_": "plainres.network.CifarNetwork", "padding": padding, "width": width}
    model |= {"slope": slope} if slope else {}
    model |= {"shift": shift} if shift else {}
    return {
        "model": model,
        "data": {"image_size": pixels},
        "protocol": {"batch_size": batch, "name": folder_of(setting)},
    }


def folder_of(setting: Setting) -> str:
    return "-".join(map(str, setting))


def plain_points(depth: int, seed: int, growth: float, correlation: float) -> list[Signal]:
    """Squared gradients that grow by `growth` a layer, and twice where a stage begins."""
    image = Signal("plain", depth, seed, 0, 1.0, correlation)
    layers = []
    for layer in range(1, depth):
        square = growth ** (depth - layer)
        if (layer - 2) % ((depth - 2) // 3) == 0:
            square *= 2
        layers.append(Signal("plain", depth, seed, layer, math.sqrt(square), None, 0.6))
    return [image, *layers]


def residual_points(depth: int, seed: int, correlation: float, power: float) -> list[Signal]:
    """As theory says; `power` times the exponents of the first stage's gradient."""
    points = [Signal("residual", depth, seed, 0, 1.0, correlation)]
    points += [Signal("residual", depth, seed, 1, 1.0, None, 0.6)]
    count = (depth - 2) // 6
    for number, block in enumerate(residual_signals(count)):
        square = block.gradient ** (power if number < count else 1)
        passed = math.sqrt(block.variance)
        for layer in (2 * number + 2, 2 * number + 3):
            points.append(Signal("residual", depth, seed, layer, math.sqrt(square), None, passed))
    return points


def write(
    folder, seeds: int = 1, factor=None, power: float = 1.0, shattered: float = 0.5, first: int = 0
) -> None:
    """Cells of every claim, as theory says or as changed.

    Args:
        factor: setting → what λ is of that of theory; by default with zero padding an order.
        shattered: what is left of the correlation of plain networks a layer.
        first: seed.
    """
    factor = factor or (lambda setting: setting.pixels**0.02 if setting.padding == "zeros" else 1)
    settings = [each for padding in PADDINGS for each in claims.ladder(padding).values()]
    settings += [REFERENCE._replace(padding="zeros", pixels=pixels) for pixels in (32, 8, 4)]
    for setting in settings:
        records, points = [], []
        cells = [("plain", 56)]
        if setting == REFERENCE:
            cells = [(arm, depth) for arm in ("plain", "residual") for depth in claims.DEPTHS]
        for seed in range(first, first + seeds):
            change = 1 + 1e-4 * seed
            for arm, depth in cells:
                records.append(made_up_record(arm=arm, depth=depth, seed=seed))
                if arm == "plain":
                    growth = setting.growth * factor(setting) * change
                    left = max(shattered**depth, 1e-9) * change**depth
                    points += plain_points(depth, seed, growth, left)
                else:
                    left = depth ** (-0.5 * change)
                    points += residual_points(depth, seed, left, power * change)
        write_made_up(folder / folder_of(setting), records, config=config_of(setting))
        write_table(folder / folder_of(setting) / measured.PROBES_TABLE, points, Signal)


def verdicts(folder) -> list[str]:
    (rate,) = QUESTION.read(folder)
    return [claim.verdict for claim in QUESTION.claims(rate)]


def test_a_residual_walk_is_that_of_a_simulation():
    generator = np.random.default_rng(0)
    x = np.maximum(0, generator.standard_normal(200_000))
    for block in residual_signals(BLOCKS)[:BLOCKS]:
        x = np.maximum(0, x + generator.standard_normal(len(x)))
        assert block.variance == pytest.approx(x.var(), rel=0.02)
    steps = np.diff([block.variance for block in residual_signals(BLOCKS)])[:17]
    assert steps[-1] == pytest.approx(1 - 2 / math.pi, rel=0.01)


def test_a_wide_residual_network_has_the_variances_and_gradients_of_the_walk():
    torch.manual_seed(0)
    network = CifarNetwork(56, "zero_pad", 64, padding="circular").train()
    signals = probe(network, torch.randn(64, 3, 8, 8), torch.arange(64) % 10)
    behind = signals.layers[2::2]
    theory = residual_signals(9)
    variances = [layer.passed**2 / own.variance for layer, own in zip(behind, theory, strict=True)]
    assert variances == pytest.approx([1.0] * 27, rel=0.12)
    logs = [
        2 * math.log(layer.response_gradient) - math.log(own.gradient)
        for layer, own in zip(behind, theory, strict=True)
    ]
    assert max(logs) - min(logs) < 0.5, "of ln(36) in the first stage alone"


def test_the_ladder_is_that_of_the_variants_and_falls():
    assert list(NAMES) == list(ACTIVATIONS)
    assert set(grid.ACTIVATIONS.split(",")) == set(variants("activation"))
    growths = [setting.growth for setting in claims.ladder("circular").values()]
    assert growths == sorted(growths, reverse=True)


def test_every_factor_is_a_sweep_and_others_are_refused():
    made = commands(Sweep("rate"))
    assert len(made) == len(grid.FACTORS)
    (width,) = commands(Sweep("rate", variants="width", seeds="0,1"))
    assert width.words[:3] == ["-m", "+experiment=rate", "protocol.width=4,32"]
    assert "seed=0,1" in width.words
    with pytest.raises(ValueError, match="no factor 'depths'; choose activation, width, batch"):
        commands(Sweep("rate", variants="depths"))


def test_a_cell_knows_its_setting(tmp_path):
    words = ("activation=leaky_25", "model.padding=zeros", "protocol.batch_size=32")
    cell = compose_cell(tmp_path, "+experiment=rate", *words, "data.image_size=8")
    cell.check()
    name = "zeros-width16-batch32-pixels8-leaky_25"
    assert cell.results_folder == tmp_path / "rate" / name
    probes = OmegaConf.to_container(cell.config.callbacks.probes, resolve=True)
    assert (probes["images"], probes["at"]) == (32, [0])
    write_made_up(tmp_path / name, [made_up_record()], config=dict(cell.identity))
    assert measured.setting_of(tmp_path / name) == Setting(0.25, 0.0, "zeros", 16, 32, 8)


def test_networks_that_follow_theory_reproduce_all(tmp_path):
    write(tmp_path)
    assert verdicts(tmp_path)[:-1] == [REPRODUCED] * 9
    write(tmp_path, seeds=SEEDS)
    assert verdicts(tmp_path) == [*[REPRODUCED] * 9, INCONCLUSIVE], "no seed of the last claim"


def write_bordered(folder, change: float = 1.0) -> None:
    """λ stage by stage as theory with a border says, times `change`; seeds that were not seen."""
    write(folder, seeds=10, first=claims.UNSEEN)
    for setting in claims.ladder("zeros").values():
        growths = [change * claims.border_theory(setting, stage).growth for stage in range(3)]
        points = []
        for seed in range(claims.UNSEEN, claims.UNSEEN + 10):
            square = 1.0
            for layer in range(55, 0, -1):
                square *= growths[min((layer - 2) // 18, 2)] * (1 + 1e-4 * (seed - 14))
                root = math.sqrt(square)
                points.append(Signal("plain", 56, seed, layer, root, None, 0.6))
            points.append(Signal("plain", 56, seed, 0, 1.0, 0.5))
        write_table(folder / folder_of(setting) / measured.PROBES_TABLE, points, Signal)


def test_the_growth_of_each_stage_is_held_against_theory_with_a_border(tmp_path):
    write_bordered(tmp_path)
    assert verdicts(tmp_path)[-1] == REPRODUCED
    write_bordered(tmp_path, 1.15)
    assert verdicts(tmp_path)[-1] == NOT_REPRODUCED


@pytest.mark.parametrize("activation", ["relu", "shifted_100", "leaky_50"])
def test_a_wide_plain_network_has_the_growth_and_the_cosine_of_theory_with_a_border(activation):
    slope, shift = ACTIVATIONS[activation]
    torch.manual_seed(0)
    network = CifarNetwork(56, "none", 48, slope=slope, shift=shift).train().double()
    images = torch.randn(96, 3, 8, 8, dtype=torch.float64)
    features = []
    network.layer1[-1].register_forward_hook(lambda *each: features.append(each[2].detach()))
    signals = probe(network, images, torch.arange(96) % 10)
    logs = [2 * math.log(layer.response_gradient) for layer in signals.layers[3:17]]
    theory = border_signals()[slope, shift, 8]
    growth = math.exp(-measured.line(range(len(logs)), logs).slope)
    assert growth == pytest.approx(theory.growth, rel=0.03)
    flat = torch.nn.functional.normalize(features[0].flatten(1))
    others = ~torch.eye(len(flat), dtype=torch.bool)
    assert (flat @ flat.T)[others].mean().item() == pytest.approx(theory.cosine, abs=0.05)


def test_the_committed_theory_with_a_border_is_what_is_computed():
    """But for the channels that are drawn, which differ from processor to processor."""
    for row in border_signals().values():
        if row.pixels <= 4:
            made = predict(row.activation, row.pixels)
            assert row.growth == pytest.approx(made.growth, rel=6e-3)
            assert row.cosine == pytest.approx(made.cosine, abs=6e-3)


def test_without_neighbours_a_border_changes_nothing():
    for (slope, shift, pixels), row in border_signals().items():
        if pixels == 1:
            assert row.growth == pytest.approx(gradient_growth(slope, shift), rel=0.02)


@pytest.mark.parametrize(
    ("changed", "against"),
    [
        ({"factor": lambda each: 1.12 if each[1:3] == (2, "circular") else 1}, {0}),
        ({"factor": lambda each: each.growth**0.5 if each.slope == 0.5 else 1.0}, {1}),
        ({"factor": lambda each: 1.3 if each.padding == "zeros" and each.shift == 2 else 1}, {2}),
        ({"factor": lambda each: each.pixels**-0.02 if each.padding == "zeros" else 1}, {3}),
        ({"power": 1.3}, {5, 6}),
        ({"shattered": 0.65}, {7}),
    ],
)
def test_networks_that_do_not_are_seen(tmp_path, changed, against):
    write(tmp_path, **changed)
    found = verdicts(tmp_path)
    assert {place for place, each in enumerate(found) if each == NOT_REPRODUCED} == against


def test_what_is_missing_is_named(tmp_path):
    write_made_up(tmp_path / "one", [made_up_record(arm="plain")], config=config_of(REFERENCE))
    write_table(tmp_path / "one" / "probes.csv", plain_points(20, 0, 1.4, 0.5), Signal)
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 10
    (rate,) = QUESTION.read(tmp_path)
    assert "missing" in QUESTION.claims(rate)[0].summary


def test_activations_of_another_processor_are_not_compared(tmp_path):
    write(tmp_path)
    elsewhere(tmp_path / folder_of(claims.ladder("zeros")["ReLU"]), "plain-56-seed0")
    (rate,) = QUESTION.read(tmp_path)
    found = [claim.summary.startswith("not comparable: ") for claim in QUESTION.claims(rate)]
    assert [place for place, each in enumerate(found) if each] == [2, 3]


def test_a_seed_whose_gradients_do_not_agree_is_named_and_not_left_out(tmp_path):
    write(tmp_path, seeds=3)
    table = tmp_path / folder_of(REFERENCE) / measured.PROBES_TABLE
    lost = ("plain", claims.VISIBLE[0], 1, 0)
    points = [
        replace(point, correlation=-0.01)
        if (point.arm, point.depth, point.seed, point.layer) == lost
        else point
        for point in read_table(table, Signal)
    ]
    write_table(table, points, Signal)
    claim = QUESTION.claims(QUESTION.read(tmp_path)[0])[7]
    assert (claim.verdict, claim.summary) == (
        INCONCLUSIVE,
        f"no correlation above 0 in plain-{claims.VISIBLE[0]} (seeds 1)",
    )


def test_two_folders_of_one_setting_are_refused(tmp_path):
    diverged = made_up_record(arm="plain", status=DIVERGED)  # so it needs no probes
    for name in ("one", "two"):
        write_made_up(tmp_path / name, [diverged], config=config_of(REFERENCE))
    with pytest.raises(ValueError, match="two has the configuration of another folder"):
        QUESTION.read(tmp_path)


def test_rows_of_another_cell_are_refused(tmp_path):
    write_made_up(tmp_path / "one", [made_up_record(arm="plain")], config=config_of(REFERENCE))
    write_table(tmp_path / "one" / "probes.csv", plain_points(20, 1, 1.4, 0.5), Signal)
    with pytest.raises(ValueError, match=r"has plain-20-seed1, runs\.csv does not"):
        QUESTION.read(tmp_path)


def test_tables_and_figures_show_theory_and_measurement(tmp_path):
    write(tmp_path, seeds=2)
    (rate,) = QUESTION.read(tmp_path)
    growths, border, _, blocks, correlations = QUESTION.tables(rate)
    relu = dict(zip(growths.rows[0], growths.rows[1], strict=True))
    assert (relu["activation"], relu["theory"]) == ("ReLU", "1.467")
    assert relu["circular: λ"].startswith("1.467 ±")
    assert border.rows[1][:2] == ["ReLU", f"{border_signals()[0, 0, 16].growth:.3f}"]
    assert [row[2] for row in blocks.rows[1:]] == [
        f"{float(r[1]):.2f} ± 0.00" for r in blocks.rows[1:]
    ]
    assert [row[0] for row in correlations.rows[1:]] == ["plain", "residual"]
    for drawing in QUESTION.drawings(rate):
        figure = drawing.draw()
        assert "2 seeds" in caption(figure)
        plt.close(figure)
