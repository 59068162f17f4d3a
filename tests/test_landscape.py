"""Loss surfaces: directions, the centre, single points, resuming, refusals."""

import math
import subprocess

import pytest
import torch
from composing import CONF, ROOT, python
from hydra import compose, initialize_config_dir
from torch import nn
from torch.nn import functional

from experiments.landscape import QUESTION
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
        words = [f"results_dir={results}", f"model={arm}", *overrides]
        return Cell(compose("landscape", words), arm)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder with one trained network."""
    results = tmp_path_factory.mktemp("trained")
    train_cell(compose_cell(results, "+experiment=landscape", *SMOKE, "threads=1"))
    return results


@pytest.fixture
def results(trained):
    """The same without surfaces."""
    remove_surfaces(trained)
    return trained


def remove_surfaces(results) -> None:
    folder = results / "landscape" / "smoke"
    for path in [*folder.glob("surface-*"), *folder.glob("runs/*/surfaces/*/*")]:
        path.unlink()


def only_surface(folder) -> tuple[landscape.Surface, list[landscape.SurfacePoint]]:
    """The one surface that was measured in a folder, and its points."""
    (path,) = folder.glob("surface-*.json")
    points = files.read_table(path.with_suffix(".csv"), landscape.SurfacePoint)
    return landscape.Surface(**files.read_json(path)), points


def network_and_batches():
    torch.manual_seed(0)
    network = CifarNetwork(8, "zero_pad", width=2, in_channels=1)
    source = load("digits")
    images, labels = source.train.pixels, source.train.labels
    normaliser = Normaliser(images, "channel")
    batches = list(EvaluationBatches(images[:60], labels[:60], normaliser, 40))
    for images, _ in batches:
        network(images)  # running statistics
    return network, batches


def test_the_surface_is_of_the_cell_that_the_experiment_trains(tmp_path):
    for overrides in ((), ("protocol=cpu", "data=cifar10_jpeg"), ("protocol=paper",)):
        for arm in ("plain", "residual"):
            words = ("+experiment=landscape", f"model={arm}", "model.depth=44", *overrides)
            trained = compose_cell(tmp_path, *words)
            looked_at = surface_cell(tmp_path, *overrides, arm=arm)
            assert (looked_at.identity, looked_at.folder) == (trained.identity, trained.folder)
            assert trained.config.keep_weights
    cells = [compose_cell(tmp_path, f"+experiment={slug}") for slug in ("landscape", "depth")]
    assert cells[0].identity == cells[1].identity


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
        filters = [part.flatten(1) for part in parts if part.ndim > 1]
        return torch.cat([functional.normalize(each).flatten() for each in filters])

    assert torch.allclose(drawn(plain, 0), drawn(residual, 0), atol=1e-6)
    assert not torch.allclose(drawn(plain, 0), drawn(plain, 1), atol=1e-2)
    one, other = ([torch.tensor([each]), torch.zeros(1)] for each in ([3.0, 0.0], [1.0, 1.0]))
    assert landscape.cosine(one, other) == pytest.approx(math.sqrt(0.5))


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
        for parameter, start, *steps in zip(other.parameters(), centre, across, up, strict=True):
            parameter.copy_(start + 0.5 * steps[0] - 0.25 * steps[1])
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        logits = other.eval()(images)
    assert at_point[0] == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert at_point[1] == pytest.approx((logits.argmax(1) != labels).float().mean().item())
    assert plane.at(-0.25, 0.5) != at_point


def test_batch_statistics_are_those_of_training_and_leave_the_running_ones_alone():
    network, batches = network_and_batches()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss, _ = landscape.loss_and_error(network, batches, "batch")
    running, _ = landscape.loss_and_error(network, batches, "running")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        losses = [
            functional.cross_entropy(network.train()(images), labels).item() * len(labels)
            for images, labels in batches
        ]
    assert loss == pytest.approx(sum(losses) / 60, rel=1e-5)
    assert abs(loss - running) > 1e-3
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(module.track_running_stats for module in norms)


def test_the_centre_is_the_trained_network(results):
    cell = surface_cell(results, *SMALL, "images=null")
    record = files.read_record(cell.folder)
    landscape.measure(cell)
    surface, points = only_surface(cell.results_folder)
    assert (points[4].x, points[4].y) == (0, 0)
    assert points[4].error == pytest.approx(record.train_error_eval, abs=1e-6)
    assert surface.images == 1408
    assert surface.config_hash == record.config_hash
    assert surface.data_fingerprint == record.data_fingerprint

    network = CifarNetwork(8, "zero_pad", width=2, in_channels=1)
    network.load_state_dict(torch.load(cell.folder / files.WEIGHTS_FILE, weights_only=True))
    source = load("digits")
    images = Normaliser(source.train.pixels, "channel")(source.train.pixels.float() / 255)
    with torch.no_grad():
        logits = network.eval()(images)
    loss = functional.cross_entropy(logits, source.train.labels).item()
    error = (logits.argmax(1) != source.train.labels).float().mean().item()
    assert points[4].loss == pytest.approx(loss, rel=1e-5)
    assert points[4].error == pytest.approx(error, abs=1e-6)
    files.gather(cell.results_folder)
    ((plane,),) = QUESTION.read(cell.results_folder)
    assert plane.centre == (points[4].loss, points[4].error), "as experiments read the files"


def test_an_interrupted_surface_goes_on_with_the_rows_that_are_missing(results, monkeypatch):
    cell = surface_cell(results, *SMALL)
    landscape.measure(cell)
    table = next(cell.results_folder.glob("surface-*.csv"))
    undisturbed = table.read_text()
    rows = sorted(cell.folder.glob("surfaces/*/row-*.json"))
    assert len(rows) == 3
    table.unlink()
    rows[1].write_text("{")  # as a machine that lost power leaves it
    rows[2].write_text('{"seconds": 1.0, "points": [[0.5]]}')
    measured = []
    at = landscape.Plane.at
    monkeypatch.setattr(
        landscape.Plane, "at", lambda plane, x, y: measured.append((x, y)) or at(plane, x, y)
    )
    landscape.measure(cell)
    assert measured == [(-1, 0), (0, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]
    assert table.read_text() == undisturbed
    assert landscape.measure(cell).startswith("skipped, finished:")
    assert len(measured) == 6


def test_rows_over_processes_give_the_same_numbers(results):
    tables = []
    for jobs in (1, 2):
        landscape.measure(surface_cell(results, *SMALL, f"jobs={jobs}"))
        tables.append(only_surface(results / "landscape" / "smoke")[1])
        remove_surfaces(results)
    assert tables[0] == tables[1]


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
    places = landscape.fixed_images(1000, 10)
    assert torch.equal(places, landscape.fixed_images(1000, 10))
    assert len(set(places.tolist())) == 10
    assert places.max() > 100, "not the first, which are of one class in a folder of images"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "plainres.instruments.landscape", *words)


def test_the_command_measures_a_sweep_and_leaves_nothing_else(results, tmp_path):
    before = set(ROOT.iterdir())
    words = (f"results_dir={results}", *SMALL, "model=residual", "statistics=running,batch")
    ran = command("-m", *words)
    assert (ran.returncode, ran.stderr) == (0, "")
    names = sorted(path.name for path in (results / "landscape" / "smoke").glob("surface-*.csv"))
    surface = "surface-residual-8-seed0-directions0"
    assert names == [f"{surface}-batch.csv", f"{surface}-running.csv"]
    assert ran.stdout.count("48 training images") == 2
    assert set(ROOT.iterdir()) == before


def test_a_network_that_is_not_there_is_one_line(tmp_path):
    refused = command(f"results_dir={tmp_path}", *SMALL)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "holds no trained network" in refused.stderr
