"""Probes equal references that are computed differently, and change nothing of a run."""

import math
from dataclasses import replace

import pytest
import torch
from composing import compose_cell
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray
from torch import nn
from torch.nn import functional
from trained import SHORT, SMOKE, curve, interrupt, numbers

from plainres.instruments import probes
from plainres.instruments.snapshots import powers_of_ten
from plainres.networks.blocks import BasicBlock
from plainres.networks.classics import googlenet
from plainres.networks.cures import PreactivationNetwork
from plainres.networks.resnet import CifarNetwork
from plainres.records import files, schema
from plainres.run import train


def override(options: str) -> str:
    """What adds probes to a run."""
    return f"+callbacks={{probes:{{_target_:plainres.instruments.probes.Probes,{options}}}}}"


PROBES = override("images:16")


def images_and_labels(
    count: int = 6, channels: int = 1, size: int = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, channels, size, size), torch.arange(count) % 10


def network(
    depth: int = 8, shortcut: str = "zero_pad", norm: str | None = None, **options
) -> CifarNetwork:
    torch.manual_seed(0)
    return CifarNetwork(depth, shortcut, width=4, in_channels=1, norm=norm, **options)


def points_of(cell) -> list[probes.ProbePoint]:
    return files.read_table(cell.folder / "probes.csv", probes.ProbePoint)


def distributions(cell) -> list[tuple[int, str, list]]:
    """What TensorBoard shows of the probes, in the order of the event files."""
    return [
        (event.step, value.tag, make_ndarray(value.tensor).tolist())
        for path in sorted(cell.folder.glob("events.out.tfevents.*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "histograms"
    ]


def without_seconds(points) -> list[probes.ProbePoint]:
    return [replace(point, seconds=None) for point in points]


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    # A module's fixture is made before the test's own cache
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PLAINRES_CACHE", str(tmp_path_factory.mktemp("cache")))
        cell = compose_cell(tmp_path_factory.mktemp("probed"), *SMOKE, PROBES)
        return cell, train.train_cell(cell)


@pytest.mark.parametrize(
    ("norm", "shortcut"),
    [(None, "none"), (None, "zero_pad"), ("none", "none"), ("none", "projection")],
)
def test_responses_and_gradients_are_those_of_a_network_written_out(norm, shortcut):
    """The same network once more, with ReLUs that overwrite nothing, every tensor kept."""
    net, (images, labels) = network(8, shortcut, norm), images_and_labels()
    signals = probes.probe(net, images, labels)

    x, outputs, responses, behind = images, [], [], []

    def layer(x, convolution, normalise):
        outputs.append(convolution(x))
        outputs[-1].retain_grad()
        responses.append(normalise(outputs[-1]))
        return responses[-1]

    x = layer(x, net.conv1, net.bn1).relu()
    behind.append(x)
    for block in (net.layer1[0], net.layer2[0], net.layer3[0]):
        behind.append(layer(x, block.conv1, block.bn1).relu())
        out = layer(behind[-1], block.conv2, block.bn2)
        x = (out if block.downsample is None else out + block.downsample(x)).relu()
        behind.append(x)
    functional.cross_entropy(net.fc(x.mean((2, 3))), labels).backward()

    weights = [
        module.weight.grad.norm().item()
        for name, module in net.named_modules()
        if _is_main_convolution(name, module)
    ]
    assert [layer[0] for layer in signals.layers] == pytest.approx(
        [response.std(correction=0).item() for response in responses], rel=1e-4
    )
    assert [layer[1] for layer in signals.layers] == pytest.approx(weights, rel=1e-4)
    assert [layer[2] for layer in signals.layers] == pytest.approx(
        [output.grad.norm().item() for output in outputs], rel=1e-4
    )
    dead = [(after.amax((0, 2, 3)) == 0).float().mean().item() for after in behind]
    assert [layer[3] for layer in signals.layers] == pytest.approx(dead)
    variances = [after.var((0, 2, 3), correction=0).mean().item() for after in behind]
    assert [layer.passed**2 for layer in signals.layers] == pytest.approx(variances, rel=1e-4)


def _is_main_convolution(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and "downsample" not in name


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("options", [{}, {"checkpoint_activations": True}, {"norm": "none"}])
def test_a_probe_leaves_everything_as_it_is(options, double):
    net, (images, labels) = network(14, **options), images_and_labels()
    net(images).sum().backward()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    random = torch.get_rng_state()
    assert probes.probe(net, images, labels, double) is not None
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.dtype == before[name].dtype
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert torch.equal(torch.get_rng_state(), random)
    assert images.grad is None
    assert not images.requires_grad
    assert not any(module._forward_hooks for module in net.modules())


def test_a_probe_draws_no_random_number_of_the_run():
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    net = nn.Sequential(*layers, nn.LazyLinear(10))
    images, labels = images_and_labels()
    net(images)
    random = torch.get_rng_state()
    assert probes.probe(net, images, labels) is not None
    assert torch.equal(torch.get_rng_state(), random)


# Dynamo reads .grad of its inputs
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_fused_and_compiled_blocks_give_the_same_signals(monkeypatch):
    """Without a GPU: fused blocks call no modules, compiled ones run no hooks."""
    kernels = pytest.importorskip("plainres.training.fused", exc_type=ImportError)
    images, labels = images_and_labels()
    expected = probes.probe(network(14), images, labels)
    fused = network(14)
    for module in fused.modules():
        if type(module) is BasicBlock:
            module.__class__ = kernels.FusedBlock
    monkeypatch.setattr(kernels, "layer", lambda *_: pytest.fail("a layer ran without its module"))
    monkeypatch.setattr(
        probes,
        "neighbours_correlation",
        lambda *_: torch.tensor(expected.correlation, dtype=torch.float64),
    )
    assert probes.probe(fused, images, labels) == expected
    compiled = network(14)
    for module in compiled.modules():
        if type(module) is BasicBlock:
            module.compile(backend="eager")
    before = {name: tensor.clone() for name, tensor in compiled.state_dict().items()}
    compiled(images)
    compiled.load_state_dict(before)
    assert probes.probe(compiled, images, labels) == expected


def test_checkpointed_activations_give_the_same_signals():
    images, labels = images_and_labels()
    assert probes.probe(network(14, checkpoint_activations=True), images, labels) == probes.probe(
        network(14), images, labels
    )


def test_auxiliary_heads_are_not_probed():
    images, labels = images_and_labels(channels=3, size=32)
    with_heads = googlenet(num_classes=10, auxiliary_weight=0.3).train()
    without = googlenet(num_classes=10).train()
    weights = with_heads.state_dict().items()
    without.load_state_dict({name: tensor for name, tensor in weights if name[:3] != "aux"})
    with_heads.dropout.p = without.dropout.p = 0.0
    signals, expected = (probes.probe(each, images, labels) for each in (with_heads, without))
    assert len(signals.layers) == 57
    torch.testing.assert_close(
        torch.tensor(signals.layers), torch.tensor(expected.layers), equal_nan=True
    )
    assert signals.image_gradient == pytest.approx(expected.image_gradient)
    assert signals.correlation == pytest.approx(expected.correlation)


@pytest.mark.parametrize(
    "options", [{}, {"checkpoint_activations": True}, {"shortcut": "none", "norm": "none"}]
)
def test_double_precision_gives_nearly_the_same_signals(options):
    images, labels = images_and_labels()
    single, double = (
        probes.probe(network(14, **options), images, labels, double) for double in (False, True)
    )
    assert double != single
    assert double.correlation == pytest.approx(single.correlation, rel=0.05)
    for one, other in zip(double.layers, single.layers, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_double_precision_has_signals_below_the_range_of_single():
    """Without normalisation a network is homogeneous in its weights.

    So a response falls with their factor to the power of its layer.
    """
    images, labels = images_and_labels()
    net = network(14, "none", "none")
    expected = [
        layer[0] * 2.0 ** (-20 * number)
        for number, layer in enumerate(probes.probe(net, images, labels, double=True).layers, 1)
    ]
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= 2.0**-20
    single, double = (probes.probe(net, images, labels, double) for double in (False, True))
    assert single.layers[-1][0] == 0
    assert [layer[0] for layer in double.layers] == pytest.approx(expected, rel=1e-9)
    assert all(0 < layer[2] < 1e-60 for layer in double.layers[:3])
    assert double.correlation > 0.1
    assert max(layer[3] for layer in double.layers) < 1


def test_with_batch_normalisation_every_response_starts_at_one():
    signals = probes.probe(network(20), *images_and_labels(32))
    assert [layer[0] for layer in signals.layers] == pytest.approx([1.0] * 19, rel=0.01)


def test_a_norm_behind_an_addition_is_not_that_of_the_convolution_before_it():
    torch.manual_seed(0)
    preactivated = PreactivationNetwork(8, "zero_pad", width=4, in_channels=1)
    images, labels = images_and_labels()
    outputs = []
    for name, module in preactivated.named_modules():
        if name.endswith("conv2"):
            module.register_forward_hook(lambda _, __, output: outputs.append(output.std().item()))
    signals = probes.probe(preactivated, images, labels)
    responses = [layer.response for layer in signals.layers]
    assert responses[2::2] == pytest.approx(outputs[:3], rel=0.01), "before the addition"
    assert responses[1::2] == pytest.approx([1, 1, 1], abs=0.02), "normalised at once"


def test_dead_channels_are_those_that_are_zero_everywhere():
    net = network(8, "none")
    with torch.no_grad():
        net.layer2[0].bn1.bias[:2] = -100.0  # of eight channels
    signals = probes.probe(net, *images_and_labels())
    assert [layer[3] for layer in signals.layers] == [0, 0, 0, 0.25, 0, 0, 0]


@pytest.mark.parametrize(
    ("first", "second", "correlation"),
    [
        ([[1e-30, 0], [0, 2]], [[1, 0], [0, 1e-30]], 1),
        ([[1.0, 0], [1, 0]], [[-1, 0], [0, 1]], -0.5),
        ([[1.0, 0], [0, 0], [1, 1]], [[1, 1], [1, 1], [0, 0]], math.sqrt(0.5)),
    ],
)
def test_correlation_is_the_mean_cosine_of_pairs_that_are_not_zero(first, second, correlation):
    assert probes.mean_correlation(
        torch.tensor(first), torch.tensor(second)
    ).item() == pytest.approx(correlation)


def test_without_gradients_there_is_no_correlation():
    assert probes.mean_correlation(torch.zeros(3, 4), torch.ones(3, 4)).isnan()


def test_neighbours_of_a_linear_function_agree_and_of_a_rapid_one_do_not():
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert probes.neighbours_correlation(
        lambda x: 3 * x.flatten(1), images
    ).item() == pytest.approx(1)
    assert abs(probes.neighbours_correlation(lambda x: (1e4 * x).sin(), images).item()) < 0.05
    assert probes.neighbours_correlation(lambda x: (10 * x).sin(), images).item() > 0.9


def test_gradients_of_deep_plain_networks_shatter_and_shortcuts_keep_them():
    images, labels = images_and_labels(32, size=16)
    plain, residual = (
        probes.probe(network(56, shortcut), images, labels).correlation
        for shortcut in ("none", "zero_pad")
    )
    assert plain < 0.3 < residual


def test_a_network_whose_loss_is_not_finite_has_no_signals():
    net = network()
    nn.init.constant_(net.fc.bias, math.nan)
    assert probes.probe(net, *images_and_labels()) is None
    assert not any(module._forward_hooks for module in net.modules())


def test_probes_are_taken_at_powers_of_ten_and_the_end():
    assert powers_of_ten(1) == [0, 1]
    assert powers_of_ten(2) == [0, 1, 2]
    assert powers_of_ten(24) == [0, 1, 10, 24]
    assert powers_of_ten(100) == [0, 1, 10, 100]
    assert powers_of_ten(101) == [0, 1, 10, 100, 101]


@pytest.mark.parametrize("options", [{"images": 1}, {"at": []}, {"at": [-1, 3]}])
def test_illegal_options_are_refused(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        probes.Probes(**options)


def test_a_probed_run_has_the_record_of_one_without_probes(probed, tmp_path):
    cell = compose_cell(tmp_path, *SMOKE)
    record = train.train_cell(cell)
    assert cell.identity == probed[0].identity
    assert numbers(record) == numbers(probed[1])
    assert curve(cell) == curve(probed[0])
    assert not (cell.folder / "probes.csv").exists()


def test_probes_in_double_precision_leave_the_same_record(probed, tmp_path):
    cell = compose_cell(
        tmp_path,
        *SMOKE,
        override("images:16,double:true"),
    )
    assert numbers(train.train_cell(cell)) == numbers(probed[1])
    assert curve(cell) == curve(probed[0])
    mine, theirs = points_of(cell), points_of(probed[0])
    assert without_seconds(mine) != without_seconds(theirs)
    assert [p.response_gradient for p in mine] == pytest.approx(
        [p.response_gradient for p in theirs], rel=1e-2
    )


def test_every_layer_has_a_row_in_every_probe(probed):
    points = points_of(probed[0])
    assert [(point.iteration, point.layer) for point in points] == [
        (step, layer) for step in (0, 1, 10, 24) for layer in range(8)
    ]
    assert {(point.arm, point.depth, point.seed) for point in points} == {("residual", 8, 0)}
    for point in points:
        image = point.layer == 0
        assert (point.correlation is not None, point.seconds is not None) == (image, image)
        assert (point.weight_gradient is None, point.dead is None) == (image, image)
        assert (point.passed is None) == image
        assert point.response > 0
        assert point.response_gradient > 0
    assert points[8].response == points[0].response, "the same images"
    assert points[25].response != points[1].response, "other weights"


@pytest.mark.parametrize("iteration", [1, 2, 10, 17])
def test_an_interrupted_run_leaves_the_same_probes(probed, tmp_path, iteration):
    cell = compose_cell(tmp_path, *SMOKE, PROBES, "checkpoint_seconds=0")
    interrupt(cell, iteration)
    assert numbers(train.train_cell(cell)) == numbers(probed[1])
    assert without_seconds(points_of(cell)) == without_seconds(points_of(probed[0]))
    assert distributions(cell) == distributions(probed[0])


def test_signals_of_layers_are_distributions_in_tensorboard(probed):
    shown = distributions(probed[0])
    names = ("response", "weight_gradient", "response_gradient")
    assert [(step, tag) for step, tag, _ in shown] == [
        (step, f"log10_{name}/all_layers") for step in (0, 1, 10, 24) for name in names
    ]
    points = [point for point in points_of(probed[0]) if point.iteration == 24 and point.layer]
    responses = [math.log10(point.response) for point in points]
    for _, _, histogram in shown[-3:]:
        assert sum(count for _, _, count in histogram) == len(points)
    left, right = shown[-3][2][0][0], shown[-3][2][-1][1]
    assert left - 1e-6 <= min(responses) <= max(responses) <= right + 1e-6


def test_probes_are_taken_at_the_end_of_a_training_step(probed, tmp_path):
    cell = compose_cell(tmp_path, *SMOKE, PROBES, "updates_per_step=4")
    assert numbers(train.train_cell(cell)) == numbers(probed[1])
    assert sorted({point.iteration for point in points_of(cell)}) == [0, 4, 12, 24]


def test_probes_are_taken_at_the_given_iterations(tmp_path):
    cell = compose_cell(
        tmp_path,
        *SMOKE,
        override("images:4,at:[3,5]"),
    )
    train.train_cell(cell)
    assert sorted({point.iteration for point in points_of(cell)}) == [3, 5]


def test_other_networks_can_be_probed(tmp_path):
    short = ("protocol=smoke", *SHORT, "protocol.iterations=2")
    for model, layers in (("lenet5", 2), ("se", 7)):
        size = ("model.depth=5", "data.pad_to=32") if model == "lenet5" else ("model.depth=8",)
        cell = compose_cell(tmp_path, *short, f"model={model}", *size, PROBES)
        train.train_cell(cell)
        assert max(point.layer for point in points_of(cell)) == layers


def test_a_diverged_run_keeps_its_probes_so_far(tmp_path):
    cell = compose_cell(tmp_path, *SMOKE, PROBES, "model=plain", "protocol.learning_rate=1e30")
    record = train.train_cell(cell)
    assert record.status == schema.DIVERGED
    iterations = [point.iteration for point in points_of(cell)]
    assert min(iterations) == 0
    assert max(iterations) <= record.iterations < 24


def test_probes_are_gathered_beside_the_curves(probed, tmp_path, make_record):
    cell, _ = probed
    folder = cell.results_folder
    other = probes.ProbePoint("plain", 20, 1, 0, 0, 1.0)
    stale = probes.ProbePoint("residual", 8, 0, 7, 0, 1.0)
    files.write_table(folder / "probes.csv", [stale, other], probes.ProbePoint)
    files.write_table(folder / files.RUNS_TABLE, [make_record(seed=1)], schema.Record)
    files.gather(folder)
    assert files.read_table(folder / "probes.csv", probes.ProbePoint) == [
        other,
        *points_of(cell),
    ]
    text = (folder / "probes.csv").read_bytes()
    files.gather(folder)
    assert (folder / "probes.csv").read_bytes() == text
    files.write_record(tmp_path / "runs" / "plain-20-seed0", make_record())
    files.gather(tmp_path)
    assert not (tmp_path / "probes.csv").exists()
