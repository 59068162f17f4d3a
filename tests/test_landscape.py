"""Loss surfaces: measurement, resuming, refusals; verdicts and figures on made-up surfaces."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from composing import CONF, ROOT
from hydra import compose, initialize_config_dir
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.landscape import claims, figures
from plainres.data.batches import EvaluationBatches, Normaliser
from plainres.data.sources import load
from plainres.instruments import landscape
from plainres.networks.resnet import CifarNetwork
from plainres.records import files
from plainres.run.cell import Cell, compose_cell
from plainres.run.train import train_cell

SMOKE = ("protocol=smoke", "model.depth=8")
SMALL = (*SMOKE, "points=3", "images=48", "jobs=1")


def surface_cell(results, *overrides: str, arm: str = "residual") -> Cell:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Cell(
            compose("landscape", [f"results_dir={results}", f"model={arm}", *overrides]), arm
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder with one trained network."""
    results = tmp_path_factory.mktemp("trained")
    train_cell(compose_cell(results, "+experiment=landscape", *SMOKE, "threads=1"))
    return results


@pytest.fixture
def results(trained):
    """The same without surfaces."""
    folder = trained / "landscape" / "smoke"
    for path in [*folder.glob("surface-*"), *folder.glob("runs/*/surfaces/*/*")]:
        path.unlink()
    return trained


def only_surface(folder) -> tuple[landscape.Surface, list[landscape.SurfacePoint]]:
    """The one surface that was measured in a folder, and its points."""
    (path,) = folder.glob("surface-*.json")
    points = files.read_table(path.with_suffix(".csv"), landscape.SurfacePoint)
    return landscape.Surface(**files.read_json(path)), points


def network_and_batches(statistics_from_training: bool = True):
    torch.manual_seed(0)
    network = CifarNetwork(8, "zero_pad", width=2, in_channels=1)
    source = load("digits")
    batches = list(
        EvaluationBatches(
            source.train.pixels[:60],
            source.train.labels[:60],
            Normaliser(source.train.pixels, "channel"),
            40,
        )
    )
    for images, _ in batches:
        network(images)  # running statistics
    return network, batches


def test_the_surface_is_of_the_cell_that_the_experiment_trains(tmp_path):
    for overrides in ((), ("protocol=cpu", "data=cifar10_jpeg"), ("protocol=paper",)):
        for arm in ("plain", "residual"):
            trained = compose_cell(
                tmp_path, "+experiment=landscape", f"model={arm}", "model.depth=56", *overrides
            )
            looked_at = surface_cell(tmp_path, *overrides, arm=arm)
            assert (looked_at.identity, looked_at.folder) == (trained.identity, trained.folder)
            assert trained.config.keep_weights
    assert (
        compose_cell(tmp_path, "+experiment=landscape").identity
        == compose_cell(tmp_path, "+experiment=depth").identity
    )


def test_what_training_takes_the_surface_takes_too():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        training, surface = (compose(name) for name in ("train", "landscape"))
    assert set(training) <= set(surface), "the same overrides go to both"


def test_every_filter_of_a_direction_has_the_norm_of_the_networks_and_the_rest_stands_still():
    network, _ = network_and_batches()
    names, weights = zip(*network.named_parameters(), strict=True)
    direction = landscape.random_direction(weights, torch.Generator().manual_seed(0))
    moved = 0
    for name, weight, part in zip(names, weights, direction, strict=True):
        assert part.shape == weight.shape
        if "bn" in name or "bias" in name:
            assert not part.any(), name
            continue
        for one, other in zip(part, weight, strict=True):
            assert one.norm().item() == pytest.approx(other.norm().item(), rel=1e-5), name
            moved += 1
    assert moved == 2 + 2 * 2 + 2 * 4 + 2 * 8 + 10


def test_directions_are_those_of_their_seed_and_both_arms_take_the_same_draws():
    plain, residual = (
        list(CifarNetwork(8, shortcut, width=2).parameters()) for shortcut in ("none", "zero_pad")
    )

    def drawn(weights, seed):
        parts = landscape.random_direction(weights, torch.Generator().manual_seed(seed))
        return torch.cat(
            [functional.normalize(part.flatten(1)).flatten() for part in parts if part.ndim > 1]
        )

    assert torch.allclose(drawn(plain, 0), drawn(residual, 0), atol=1e-6)
    assert not torch.allclose(drawn(plain, 0), drawn(plain, 1), atol=1e-2)
    one = [torch.tensor([[3.0, 0.0]]), torch.zeros(1)]
    assert landscape.cosine(one, [torch.tensor([[1.0, 1.0]]), torch.zeros(1)]) == pytest.approx(
        math.sqrt(0.5)
    )


def test_a_point_is_the_loss_at_centre_plus_steps_along_both_directions():
    network, batches = network_and_batches()
    network.eval()
    centre = [parameter.detach().clone() for parameter in network.parameters()]
    generator = torch.Generator().manual_seed(3)
    across, up = (landscape.random_direction(centre, generator) for _ in range(2))
    plane = landscape.Plane(network, centre, across, up, batches, "running")
    at_point = plane.at(0.5, -0.25)

    other = CifarNetwork(8, "zero_pad", width=2, in_channels=1)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        for parameter, start, first, second in zip(
            other.parameters(), centre, across, up, strict=True
        ):
            parameter.copy_(start + 0.5 * first - 0.25 * second)
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        logits = other.eval()(images)
    assert at_point[0] == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert at_point[1] == pytest.approx((logits.argmax(1) != labels).float().mean().item())
    assert plane.at(-0.25, 0.5) != at_point


def test_batch_statistics_are_those_of_training_and_leave_the_running_ones_alone():
    network, batches = network_and_batches()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found, _ = landscape.loss_and_error(network, batches, "batch")
    running, _ = landscape.loss_and_error(network, batches, "running")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        losses = [
            functional.cross_entropy(network.train()(images), labels).item() * len(labels)
            for images, labels in batches
        ]
    assert found == pytest.approx(sum(losses) / 60, rel=1e-5)
    assert abs(found - running) > 1e-3
    assert all(
        module.track_running_stats
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    )


def test_the_centre_is_the_trained_network(results):
    cell = surface_cell(results, *SMALL, "images=null")
    record = files.read_record(cell.folder)
    landscape.measure(cell)
    surface, points = only_surface(cell.results_folder)
    assert (points[4].x, points[4].y) == (0, 0)
    assert points[4].error == pytest.approx(record.train_error_eval, abs=1e-6)
    assert (surface.images, surface.config_hash, surface.data_fingerprint) == (
        1408,
        record.config_hash,
        record.data_fingerprint,
    )

    network = CifarNetwork(8, "zero_pad", width=2, in_channels=1)
    network.load_state_dict(torch.load(cell.folder / files.WEIGHTS_FILE, weights_only=True))
    source = load("digits")
    images = Normaliser(source.train.pixels, "channel")(source.train.pixels.float() / 255)
    with torch.no_grad():
        logits = network.eval()(images)
    assert points[4].loss == pytest.approx(
        functional.cross_entropy(logits, source.train.labels).item(), rel=1e-5
    )
    assert points[4].error == pytest.approx(
        (logits.argmax(1) != source.train.labels).float().mean().item(), abs=1e-6
    )


def test_an_interrupted_surface_goes_on_with_the_rows_that_are_missing(results, monkeypatch):
    cell = surface_cell(results, *SMALL)
    landscape.measure(cell)
    table = next(cell.results_folder.glob("surface-*.csv"))
    undisturbed = table.read_text()
    rows = sorted(cell.folder.glob("surfaces/*/row-*.json"))
    assert len(rows) == 3
    table.unlink()
    rows[1].write_text("{")  # as a machine that lost power leaves it
    measured = []
    at = landscape.Plane.at
    monkeypatch.setattr(
        landscape.Plane, "at", lambda plane, x, y: measured.append((x, y)) or at(plane, x, y)
    )
    landscape.measure(cell)
    assert measured == [(-1, 0), (0, 0), (1, 0)]
    assert table.read_text() == undisturbed
    assert landscape.measure(cell).startswith("skipped, finished:")
    assert len(measured) == 3


def test_rows_over_processes_give_the_same_numbers(results):
    found = []
    for jobs in (1, 2):
        landscape.measure(surface_cell(results, *SMALL, f"jobs={jobs}"))
        found.append(only_surface(results / "landscape" / "smoke")[1])
        for path in [
            *results.glob("landscape/smoke/surface-*"),
            *results.glob("landscape/smoke/runs/*/surfaces/*/*"),
        ]:
            path.unlink()
    assert found[0] == found[1]


def test_a_surface_that_was_measured_otherwise_is_refused_and_force_replaces_it(results):
    landscape.measure(surface_cell(results, *SMALL))
    with pytest.raises(ValueError, match=r"points: 3 → 5.*FORCE=1"):
        landscape.measure(surface_cell(results, *SMALL, "points=5"))
    landscape.measure(surface_cell(results, *SMALL, "points=5", "force=true"))
    assert only_surface(results / "landscape" / "smoke")[0].points == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("points=4", "odd number from 3 up"),
        ("radius=0", "not above 0"),
        ("images=1409", "outside 1 to 1408"),
        ("statistics=none", "legal: running, batch"),
        ("seed=1", "holds no trained network; make sweep-landscape trains it"),
        ("protocol.iterations=48", r"iterations: 24 → 48"),
    ],
)
def test_what_cannot_be_measured_is_said(results, override, message):
    with pytest.raises(ValueError, match=message):
        landscape.measure(surface_cell(results, *SMALL, override))


def test_images_are_drawn_once_and_for_all():
    assert landscape.fixed_images(5, None).tolist() == [0, 1, 2, 3, 4]
    chosen = landscape.fixed_images(1000, 10)
    assert torch.equal(chosen, landscape.fixed_images(1000, 10))
    assert len(set(chosen.tolist())) == 10
    assert chosen.max() > 100, "not the first, which are of one class in a folder of images"


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "plainres.instruments.landscape", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_measures_a_sweep_and_leaves_nothing_else(results, tmp_path):
    before = set(ROOT.iterdir())
    ran = command(
        "-m", f"results_dir={results}", *SMALL, "model=residual", "statistics=running,batch"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    names = sorted(path.name for path in (results / "landscape" / "smoke").glob("surface-*.csv"))
    assert names == [
        f"surface-residual-8-seed0-directions0-{statistics}.csv"
        for statistics in ("batch", "running")
    ]
    assert ran.stdout.count("48 training images") == 2
    assert set(ROOT.iterdir()) == before


def test_a_network_that_is_not_there_is_one_line(tmp_path):
    refused = command(f"results_dir={tmp_path}", *SMALL)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "holds no trained network" in refused.stderr


def made_up_surface(folder, arm="residual", function=None, **changes) -> None:
    """A surface of losses `function`(x, y); by default a bowl."""
    function = function or (lambda x, y: 0.1 + x * x + y * y)
    values = {
        "arm": arm,
        "depth": 56,
        "seed": 0,
        "protocol": "quick",
        "data_label": "digits",
        "num_classes": 10,
        "direction_seed": 0,
        "statistics": "running",
        "images": 1000,
        "points": 9,
        "radius": 1.0,
        "cosine": 0.01,
        "config_hash": "0123456789ab",
        "weights": "ba9876543210",
        "data_fingerprint": "0a1b2c3d4e5f",
        "seconds": 60.0,
        "precision": "32-true",
        "processor": "a processor, 2 GHz",
        "commit": "c0ffee" * 6 + "c0ff",
        "clean": True,
        "python": "3.11.7",
        "torch": "2.9.0",
        "lightning": "2.6.0",
        "instruction_set": "ATen AVX2 / oneDNN ALL",
        "kernels": "library",
        "finished_at": "2026-01-01T00:00:00Z",
    }
    surface = landscape.Surface(**(values | changes))
    at = landscape.coordinates(surface.points, surface.radius)
    landscape.write_surface(
        folder,
        surface,
        [
            landscape.SurfacePoint(x, y, function(x, y), min(1.0, function(x, y) / 3))
            for y in at
            for x in at
        ],
    )


def chaotic(x: float, y: float) -> float:
    return math.exp(3 - 4 * math.cos(12 * x + 5 * y) * math.cos(9 * y))  # least at the centre


@pytest.fixture
def folder(tmp_path):
    """Three pairs of directions: bowls around residual-56, chaos around plain-56."""
    for number in range(3):
        made_up_surface(
            tmp_path,
            "residual",
            lambda x, y, number=number: 0.1 + x * x + y * y * (1 + 0.1 * number),
            direction_seed=number,
        )
        made_up_surface(
            tmp_path,
            "plain",
            lambda x, y, number=number: chaotic(x * (1 + 0.2 * number), y),
            direction_seed=number,
        )
    return tmp_path


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in claims.check(claims.read_looks(folder))]


def test_eigenvalues_are_those_of_a_known_quadratic():
    y, x = np.mgrid[0:5, 0:6].astype(float)
    smallest, largest = claims.hessian_eigenvalues(2 * x * x - y * y + 3 * x * y)
    expected = np.linalg.eigvalsh([[4.0, 3.0], [3.0, -2.0]])
    assert smallest.shape == (3, 4)
    assert np.allclose(smallest, expected[0])
    assert np.allclose(largest, expected[1])


@pytest.mark.parametrize(
    ("function", "curvature", "basin"),
    [
        (
            lambda x, y: 0.1 + x * x + y * y,
            0.0,
            57 / 81,
        ),  # points of a 9 × 9 grid within a circle of radius 1.05
        (lambda x, y: 0.3 + 9 * (x * x + y * y), 0.0, 5 / 81),
        (
            lambda x, y: 1.6 + (x * x - y * y) / 2,
            1.0,
            71 / 81,
        ),  # all but (±1, 0), (±1, ±1/4) and (±1, ±1/2)
        (lambda x, y: 1.0 if x < 0.1 else 9.0 + 4 * x * x, None, 5 / 9),
        (lambda x, y: math.inf if x > 0.9 else 0.1 + x * x, 0.0, 8 / 9),
        (
            lambda x, y: 2.0 if (x, y) == (0, 0) else math.log(10),
            None,
            1 / 81,
        ),  # a plateau of guessing is nobody's valley
    ],
)
def test_measures_of_known_surfaces(tmp_path, function, curvature, basin):
    made_up_surface(tmp_path, function=function)
    look = claims.read_looks(tmp_path)[0]
    assert curvature is None or look.negative_curvature == curvature
    assert look.basin == pytest.approx(basin)


def test_rounding_on_a_plateau_is_no_curvature(tmp_path):
    noise = np.random.default_rng(0)
    made_up_surface(tmp_path, function=lambda x, y: math.log(10) + noise.uniform(-1e-5, 1e-5))
    assert claims.read_looks(tmp_path)[0].negative_curvature == 0


def test_around_a_network_no_better_than_guessing_there_is_no_basin(folder):
    made_up_surface(folder, "plain", lambda x, y: 2.4 + x * x + y * y, direction_seed=0)
    found = claims.check(claims.read_looks(folder))[2]
    assert (found.verdict, found.seen) == (
        INCONCLUSIVE,
        "a surface without a finite part, or a network no better than guessing",
    )


def test_a_ripple_is_rougher_than_a_bowl(folder):
    looks = claims.read_looks(folder)
    assert min(look.roughness for look in looks if look.surface.arm == "plain") > 3 * max(
        look.roughness for look in looks if look.surface.arm == "residual"
    )


def test_bowl_against_chaos_is_reproduced_and_the_contrary_contradicted(folder, tmp_path_factory):
    found = claims.check(claims.read_looks(folder))
    assert [claim.verdict for claim in found] == [REPRODUCED] * 3
    assert all("so in 3 of 3 pairs" in claim.seen for claim in found)
    turned = tmp_path_factory.mktemp("turned")
    made_up_surface(turned, "plain")
    made_up_surface(turned, "residual", chaotic)
    assert verdicts(turned) == [NOT_REPRODUCED] * 3


def test_one_trained_network_gives_a_direction_however_many_pairs_it_is_looked_at_along(folder):
    found = claims.check(claims.read_looks(folder))
    assert all(claim.words == "points that way" and claim.p is None for claim in found)
    assert "a direction, not a test" in found[0].seen


def test_with_several_training_seeds_they_are_the_unit(folder):
    made_up_surface(folder, "residual", seed=1)
    made_up_surface(folder, "plain", chaotic, seed=1)
    found = claims.check(claims.read_looks(folder))
    assert [len(claim.criteria[0].values) for claim in found] == [2, 2, 2]
    assert "so in 4 of 4 pairs" in found[0].seen


def test_a_missing_arm_and_a_surface_without_finite_losses_decide_nothing(tmp_path):
    made_up_surface(tmp_path, "residual")
    found = claims.check(claims.read_looks(tmp_path))
    assert {(claim.verdict, claim.seen) for claim in found} == {(INCONCLUSIVE, "missing: plain-56")}
    made_up_surface(tmp_path, "plain", lambda x, y: math.nan)
    assert claims.check(claims.read_looks(tmp_path))[0].verdict == INCONCLUSIVE


def test_surfaces_of_other_settings_are_not_compared(folder):
    made_up_surface(folder, points=5, direction_seed=7)
    with pytest.raises(ValueError, match=r"differ in points \(5, 9\)"):
        claims.read_looks(folder)


def test_a_damaged_table_is_named(folder):
    table = next(folder.glob("surface-plain*.csv"))
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"surface-plain.*csv has 80 points instead of 81"):
        claims.read_looks(folder)


def test_figures_and_readme_are_the_same_twice_and_say_what_they_show(folder):
    made_up_surface(
        folder, "plain", lambda x, y: math.inf if x > 0.5 else 3 + x, statistics="batch"
    )
    first = {path: path.read_bytes() for path in figures.make(folder)}
    kinds = [
        f"{figure}_{statistics}.{suffix}"
        for figure in ("contour", "relief")
        for statistics in ("running", "batch")
        for suffix in ("png", "svg")
    ]
    assert {path.name for path in first} == {*kinds, "README.md"}
    assert {path: path.read_bytes() for path in figures.make(folder)} == first
    text = (folder / "README.md").read_text()
    assert "digits · protocol quick · 1 seed, 3 pairs of directions" in text
    assert "missing: residual-56" in text
    assert "keep more than\n50% of what training has gained over guessing" in text, (
        "the basin as claims.py takes it"
    )


def test_with_several_seeds_every_trained_network_is_drawn_and_the_title_counts_what_is(folder):
    for arm in ("plain", "residual"):
        made_up_surface(folder, arm, lambda x, y: 0.1 + x * x + y * y, seed=1, direction_seed=0)
    figure = figures.contour_figure(claims.read_looks(folder))
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [
        f"{arm}-56, seed {seed}, directions 0" for seed in (0, 1) for arm in ("plain", "residual")
    ]
    assert "2 seeds, 1 pair of directions" in figure.get_suptitle()
    plt.close(figure)


@pytest.mark.parametrize("main", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, main):
    assert main([str(tmp_path)]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_the_status_of_a_check_says_whether_a_claim_is_contradicted(folder, capsys):
    assert claims.main([str(folder)]) == 0
    for number in range(3):
        made_up_surface(
            folder,
            "residual",
            lambda x, y, number=number: chaotic(x * (1 + 0.1 * number), y) + 1e3,
            direction_seed=number,
        )
        made_up_surface(
            folder,
            "plain",
            lambda x, y, number=number: 0.1 + x * x + y * y * (1 + 0.1 * number),
            direction_seed=number,
        )
    assert claims.main([str(folder)]) == 1
    assert "POINTS AGAINST IT" in capsys.readouterr().out
