"""Fused CPU kernels: the same function as the library's, the same bits on every processor."""

import copy
import hashlib
import os
import subprocess
import sys

import pytest
import torch
from composing import ROOT, compose_cell
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from plainres.networks.activations import Rectifier
from plainres.networks.blocks import BasicBlock, ScaledShortcut
from plainres.networks.resnet import CifarNetwork
from plainres.records import files
from plainres.records.schema import CurvePoint
from plainres.run import train
from plainres.training import grafting, machine

fused_cpu = pytest.importorskip("plainres.training.fused_cpu", reason="needs numba")

SHORTCUTS = (
    *("none", "zero_pad", "projection", "projection_everywhere"),
    *("zero_pad_half", "zero_pad_every_second"),
)
CPU = torch.device("cpu")
BATCH = (32, 1, 8, 8)


def network(shortcut="zero_pad", depth=14, width=4, channels=1, dtype=torch.float64, **more):
    torch.manual_seed(0)
    made = CifarNetwork(depth, shortcut, width, in_channels=channels, **more)
    return made.to(memory_format=torch.channels_last).to(dtype)


def fused(original):
    copied = copy.deepcopy(original)
    assert fused_cpu.fuse_network(copied, BATCH)
    return copied


def images(count=32, channels=1, size=8, dtype=torch.float64):
    return torch.randn(count, channels, size, size, dtype=dtype)


def trained_once(net, x):
    """Logits, loss gradients and buffers of one pass in training mode."""
    net.zero_grad()
    logits = net(x)
    functional.cross_entropy(logits, torch.arange(len(x)) % 10).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {"logits": logits.detach(), **gradients, **dict(net.named_buffers())}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(
        float((one[name].double() - other[name].double()).abs().max())
        / max(1e-3, float(other[name].double().abs().max()))
        for name in one
    )


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_outputs_gradients_and_statistics_are_the_librarys(shortcut):
    library = network(shortcut)
    kernels = fused(library)
    x = images()
    assert largest_difference(trained_once(kernels, x), trained_once(library, x)) < 1e-12
    assert kernels._program is not None
    library.eval(), kernels.eval()
    with torch.no_grad():  # 70 images: no multiple of a batch
        assert torch.allclose(kernels(x := images(70)), library(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("width", "channels", "size", "count"), [(8, 3, 16, 64), (16, 3, 7, 32), (4, 1, 5, 96)]
)
def test_sizes(width, channels, size, count):
    library = network("projection", 8, width, channels)
    x = images(count, channels, size)
    assert largest_difference(trained_once(fused(library), x), trained_once(library, x)) < 1e-12


def test_float32_is_as_exact_as_the_librarys():
    exact = network(depth=20)
    library = network(depth=20, dtype=torch.float32)
    kernels = fused(library)
    x = images()
    wanted = trained_once(exact, x)
    error = largest_difference(trained_once(library, x.float()), wanted)
    assert largest_difference(trained_once(kernels, x.float()), wanted) < 4 * error


@pytest.mark.parametrize("shortcut", ["none", "projection"])
def test_gradients_are_those_of_finite_differences(shortcut):
    net, x = fused(network(shortcut, depth=8)), images(size=4)
    weights = torch.linspace(-1, 1, 10).double()
    loss = (net(x) * weights).sum()
    loss.backward()
    for parameter in net.parameters():
        direction = torch.randn_like(parameter)
        values = []
        for step in (1e-6, -2e-6, 1e-6):  # back where it began in the end
            with torch.no_grad():
                parameter += step * direction
            values.append(float((net(x).detach() * weights).sum()))
        slope = (values[0] - values[1]) / 2e-6
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("slope", "shift"), [(0.25, 0.0), (0.0, 1.0), (0.5, -0.5)])
@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_an_activation_may_have_a_slope_and_a_shift(slope, shift, shortcut):
    library = network(shortcut, slope=slope, shift=shift)
    x = images()
    assert largest_difference(trained_once(fused(library), x), trained_once(library, x)) < 1e-12


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_inserted_blocks_are_fused_too(shortcut):
    child = grafting.insert(network(shortcut), 2, 2, "middle", "he").double().train()
    x = images()
    assert largest_difference(trained_once(fused(child), x), trained_once(child, x)) < 1e-12


def test_parts_of_another_precision_are_refused_and_not_read():
    mixed = fused(network())
    mixed.layer1[0].float()
    with pytest.raises(RuntimeError, match="float64 images, parameters also of float32"):
        mixed(images())


def test_a_network_with_blocks_of_ones_own_is_not_fused():
    class Scaled(BasicBlock):
        def layers(self, x):
            return 0.5 * super().layers(x)

    own = network(block=Scaled)
    assert not fused_cpu.fuse_network(own, BATCH)


def test_a_network_with_other_activations_is_not_fused():
    silu = network()
    silu.layer2[0].relu = torch.nn.SiLU()
    mixed = network()
    mixed.layer2[0].relu = Rectifier(0.5)
    for each in (silu, mixed, network(slope=-0.5)):
        assert not fused_cpu.fuse_network(each, (32, 3, 8, 8))


def test_a_network_with_circular_padding_is_not_fused():
    assert not fused_cpu.fuse_network(network(padding="circular"), BATCH)
    assert fused_cpu.fuse_network(network(padding="zeros"), BATCH)


def changed(**parts):
    """A kind of BasicBlock whose constructor puts other modules in the place of its own."""

    def build(*sizes, **options):
        block = BasicBlock(*sizes, **options)
        for name, make in parts.items():
            setattr(block, name, make(getattr(block, name)))
        return block

    return build


def convolution(old, **options):
    usual = {"kernel_size": 3, "padding": 1, "bias": False}
    return nn.Conv2d(old.in_channels, old.out_channels, **{**usual, **options})


@pytest.mark.parametrize(
    "block",
    [
        changed(conv2=lambda old: convolution(old, dilation=2, padding=2)),
        changed(conv2=lambda old: convolution(old, kernel_size=5, padding=2)),
        changed(conv2=lambda old: convolution(old, bias=True)),
        changed(conv2=lambda old: convolution(old, groups=4)),
        changed(bn2=lambda old: nn.BatchNorm2d(old.num_features, eps=0.1)),
        changed(bn2=lambda old: nn.BatchNorm2d(old.num_features, momentum=0.5)),
        changed(bn1=lambda old: nn.GroupNorm(2, old.num_features)),
        changed(downsample=lambda old: nn.Sequential(old, nn.Dropout(0.5))),
        changed(downsample=lambda old: ScaledShortcut(nn.Sequential(old), 0.5)),
        changed(downsample=lambda old: nn.AvgPool2d(1)),
        changed(conv1=nn.utils.parametrizations.weight_norm),
    ],
)
def test_blocks_of_ones_own_are_not_computed_as_the_usual_one(block):
    assert fused_cpu.fuse_network(network(block=changed()), BATCH)
    assert not fused_cpu.fuse_network(network(block=block), BATCH)


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_sixty_updates_follow_the_librarys(shortcut):
    """In float64: in float32 rounding, of any two orders of sums, grows to 1 to 3 % by then."""
    library = network(shortcut)
    kernels = fused(library)
    losses = []
    for net in (library, kernels):
        torch.manual_seed(1)
        optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        losses.append([])
        for _ in range(60):
            x, labels = images(), torch.randint(10, (32,))
            loss = functional.cross_entropy(net(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[-1].append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, statistic in library.named_buffers():
        expected = pytest.approx(statistic.numpy(), rel=1e-4, abs=1e-4)
        assert kernels.get_buffer(name).numpy() == expected, name


def test_a_cell_follows_the_librarys_until_rounding_has_grown(tmp_path):
    words = (
        *("protocol=quick", "model=residual", "model.depth=14", "threads=1"),
        *("protocol.iterations=10", "protocol.log_every=5", "protocol.evaluate_every=10"),
        "protocol.schedule.warmup_iterations=5",
    )
    curves = []
    for kernels in ("library", "fused"):
        cell = compose_cell(tmp_path / kernels, *words, f"kernels={kernels}")
        assert train.train_cell(cell).kernels == kernels
        curves.append(files.read_table(cell.folder / files.CURVES_TABLE, CurvePoint))
    library, kernels = ([point.train_loss for point in curve] for curve in curves)
    assert kernels == pytest.approx(library, rel=1e-3) and len(kernels) == 2
    assert curves[1][-1].test_loss == pytest.approx(curves[0][-1].test_loss, rel=1e-2)


def test_parameters_that_moved_are_noticed():
    library = network()
    kernels = fused(library)
    x = images()
    trained_once(kernels, x), trained_once(library, x)
    for name in ("conv1", "bn1", "fc"):
        for module in (getattr(library, name), getattr(kernels, name)):
            module.weight = nn.Parameter(module.weight.detach() * 2)
        assert largest_difference(trained_once(kernels, x), trained_once(library, x)) < 1e-12


def test_hooks_other_parameters_and_gradients_of_images_use_the_library():
    library = network()
    kernels = fused(library)
    x = images()
    wanted = trained_once(library, x)
    seen = []
    handle = kernels.layer1[0].conv1.register_forward_hook(lambda *_: seen.append(1))
    assert largest_difference(trained_once(kernels, x), wanted) < 1e-12
    handle.remove()
    assert seen and kernels._program is None
    image_gradients = []
    for net in (library, kernels):
        inputs = x.clone().requires_grad_()
        image_gradients.append(torch.autograd.grad(net(inputs).sum(), inputs)[0])
    assert torch.allclose(*image_gradients)


def test_statistics_that_a_call_brings_along_are_updated_instead_of_the_networks():
    kernels, x = fused(network()), images()
    kernels(x)
    before = {name: buffer.clone() for name, buffer in kernels.named_buffers()}
    copies = {name: buffer.clone() for name, buffer in kernels.named_buffers()}
    functional_call(kernels, copies, x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in kernels.named_buffers())
    assert not torch.equal(copies["bn1.running_mean"], before["bn1.running_mean"])


def test_a_copy_and_a_network_that_loaded_weights_are_networks_of_their_own():
    kernels, x = fused(network()), images()
    first = kernels(x).detach()
    copied = copy.deepcopy(kernels)
    with torch.no_grad():
        copied.fc.weight.zero_()
    assert torch.equal(kernels(x).detach(), first) and not torch.equal(copied(x).detach(), first)
    other = network(depth=14)
    other.load_state_dict({name: value + 0.1 for name, value in kernels.state_dict().items()})
    kernels.load_state_dict(other.state_dict())
    assert torch.allclose(kernels(x), other(x), rtol=0, atol=1e-12)


def test_only_the_last_forward_pass_can_go_back():
    kernels, x = fused(network()), images()
    first = kernels(x).sum()
    kernels(x)
    with pytest.raises(RuntimeError, match="last forward pass"):
        first.backward()


def test_networks_that_do_not_fit_stay_as_they_are():
    for other in (
        network(width=6),
        network(width=20),
        CifarNetwork(14, "none", 4, norm="none"),
        CifarNetwork(14, "none", 4, checkpoint_activations=True),
    ):
        kind = type(other)
        assert machine.use_kernels(other, "fused", CPU, BATCH) == "library"
        assert type(other) is kind


@pytest.mark.parametrize("batch", [(100, 1, 8, 8), (32, 3, 32, 32)])
def test_batches_that_do_not_fit_are_the_librarys(batch):
    assert machine.use_kernels(network(), "fused", CPU, batch) == "library"


def test_without_numba_the_library_trains_and_a_line_says_so(monkeypatch, tmp_path):
    cell = compose_cell(tmp_path, "protocol=quick")
    assert machine.pick_kernels("auto", CPU, "32-true") == "fused"
    assert cell.notes() == []
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert machine.pick_kernels("auto", CPU, "32-true") == "library"
    (note,) = cell.notes()
    assert "without the package numba" in note
    assert compose_cell(tmp_path, "protocol=quick", "kernels=library").notes() == []
    with pytest.raises(ValueError, match="need the package numba"):
        machine.pick_kernels("fused", CPU, "32-true")
    monkeypatch.setitem(sys.modules, "numba", None)  # whose import fails then
    monkeypatch.delitem(sys.modules, "plainres.training.fused_cpu")
    few = ("protocol.iterations=4", "protocol.schedule.warmup_iterations=1", "model.depth=8")
    trained = train.train_cell(compose_cell(tmp_path, "protocol=quick", "model=plain", *few))
    assert trained.kernels == "library"


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [("depth/quick", "signal/quick-batch-*", 100), ("depth/cpu", "dose/cpu-relu", 3)],
)
def test_the_committed_numbers_of_two_processors_are_equal(one, other, shared):
    """Networks that two questions have, measured on a Zen 4 and on a Zen 5."""
    names = ("train_error", "train_error_eval", "train_loss", "test_error", "test_loss")
    tables = [
        {
            row.cell: (row.processor, [getattr(row, name) for name in names])
            for folder in sorted((ROOT / "results").glob(folders))
            for row in files.read_runs(folder)
        }
        for folders in (one, other)
    ]
    on_two = [
        (first, tables[1][cell])
        for cell, first in tables[0].items()
        if cell in tables[1] and tables[1][cell][0] != first[0]
    ]
    assert len(on_two) == shared
    assert all(first[1] == second[1] for first, second in on_two)


def digest() -> str:
    """Of a network after three updates."""
    net = fused(network(depth=8, width=4, dtype=torch.float32))
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for step in range(3):
        torch.manual_seed(step)
        trained_once(net, images(dtype=torch.float32))
        optimiser.step()
    values = torch.cat([value.float().flatten() for value in net.state_dict().values()])
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def test_the_bits_do_not_depend_on_vector_instructions_or_threads(tmp_path):
    """Here without any of them: no AVX, and each fma is a call of a function."""
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "OMP_NUM_THREADS": "2"}
    found = subprocess.run(
        [sys.executable, "-c", "import test_fused_cpu; print(test_fused_cpu.digest())"],
        env={**os.environ, **generic, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == digest(), found.stderr
