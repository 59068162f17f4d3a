"""Networks and initialisations of other papers: the property that defines each."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from plainres.instruments.probes import probe
from plainres.networks import cures
from plainres.networks.blocks import BasicBlock
from plainres.networks.cures import DiracConvolution, StochasticDepth, correlation_map
from plainres.networks.initialisations import initialise
from plainres.networks.resnet import CifarNetwork
from plainres.training import devices


def images(count: int = 32, channels: int = 3, size: int = 8) -> torch.Tensor:
    shape = (count, channels, size, size)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def blocks_of(network: nn.Module) -> list[BasicBlock]:
    return [module for module in network.modules() if isinstance(module, BasicBlock)]


def backward_gain(network: nn.Module, x: torch.Tensor) -> float:
    """Norm of a random gradient at the first block's output over that at the last one's."""
    outputs: list[torch.Tensor] = []
    for block in blocks_of(network):
        block.register_forward_hook(lambda _, __, output: outputs.append(output))
    network(x)
    direction = torch.randn_like(outputs[-1])
    (gradient,) = torch.autograd.grad(outputs[-1], outputs[0], direction)
    return (gradient.norm() / direction.norm()).item()


@pytest.mark.parametrize("training", [False, True])
def test_a_network_that_looks_linear_is_linear_at_its_start(training):
    torch.manual_seed(0)
    network = CifarNetwork(20, "none", width=4, initialisation="looks_linear").double()
    network.train(training)
    x, bias = images(), network.fc.bias
    # batch statistics depend on all images, so that only x → -x is linear
    other = -1.0 if training else 2.5
    torch.testing.assert_close(network(other * x) - bias, other * (network(x) - bias))
    if not training:
        y = images().flip(0)
        both = network(x) + network(y) - 2 * bias
        torch.testing.assert_close(network(x + y) - bias, both)
    assert (network(x) - bias).std() > 1e-3


def test_its_gradients_do_not_grow():
    torch.manual_seed(0)
    linear = CifarNetwork(56, "none", width=4, initialisation="looks_linear").double()
    plain = CifarNetwork(56, "none", width=4).double()
    assert backward_gain(linear, images()) < 2
    assert backward_gain(plain, images()) > 500


def test_channels_that_cannot_be_paired_are_named():
    with pytest.raises(ValueError, match="3 → 3 cannot be paired; legal: an even width"):
        initialise(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(3, 3, 3)), "looks_linear")


def test_an_unknown_initialisation_is_named():
    with pytest.raises(ValueError, match="'ones' is unknown; legal: he, pytorch, dirac, orthogo"):
        CifarNetwork(8, "none", width=4, initialisation="ones")


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_an_orthogonal_layer_has_orthonormal_filters_times_the_gain(slope):
    network = CifarNetwork(8, "none", width=4, initialisation="orthogonal", slope=slope)
    filters = network.layer2[0].conv1.weight.flatten(1)
    torch.testing.assert_close(filters @ filters.T, 2 / (1 + slope**2) * torch.eye(8))


@pytest.mark.parametrize("kind", ["orthogonal", "delta_orthogonal"])
def test_a_delta_orthogonal_layer_keeps_the_norm_of_every_pixel(kind):
    layer = nn.Conv2d(6, 6, 3, padding=1, bias=False).double()
    initialise(layer, kind)
    x = images(channels=6)
    kept = torch.allclose(layer(x).norm(dim=1), math.sqrt(2) * x.norm(dim=1))
    assert kept == (kind == "delta_orthogonal")


def test_a_dirac_convolution_is_the_published_formula():
    torch.manual_seed(0)
    layer = DiracConvolution(nn.Conv2d(4, 4, 3, padding=1, bias=False)).double()
    nn.init.normal_(layer.a)
    nn.init.normal_(layer.b)
    x = images(channels=4)
    parts = torch.cat([functional.relu(x), -functional.relu(-x)], 1)
    unit = torch.stack([kernel / kernel.norm() for kernel in layer.weight])
    expected = layer.a.view(1, 4, 1, 1) * x
    expected = expected + layer.b.view(1, 4, 1, 1) * functional.conv2d(parts, unit, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_a_dirac_layer_passes_on_its_input_where_b_is_zero():
    same = DiracConvolution(nn.Conv2d(4, 4, 3, padding=1)).double()
    wider = DiracConvolution(nn.Conv2d(4, 8, 3, padding=1)).double()
    x = images(channels=4)
    with torch.no_grad():
        for layer in (same, wider):
            layer.b.zero_()
    torch.testing.assert_close(same(x), x)
    torch.testing.assert_close(wider(x), torch.cat([x.clamp(min=0), x.clamp(max=0)], 1))
    with pytest.raises(ValueError, match=r"shortcut 'zero_pad' with Dirac conv.*legal: none"):
        CifarNetwork(8, "zero_pad", width=4, block=cures.DiracBlock)


@pytest.mark.parametrize(("correlation", "slope"), [(0.0, 0.0), (0.6, 0.3), (-0.5, 0.7)])
def test_the_correlation_behind_a_layer_is_that_of_many_draws(correlation, slope):
    generator = torch.Generator().manual_seed(0)
    u, other = torch.randn(2, 2_000_000, dtype=torch.float64, generator=generator)
    v = correlation * u + math.sqrt(1 - correlation**2) * other
    first, second = (functional.leaky_relu(each, slope) for each in (u, v))
    drawn = (first * second).mean() / (first**2).mean()
    assert correlation_map(correlation, slope) == pytest.approx(drawn.item(), abs=3e-3)


def test_the_authors_slope_of_a_residual_network_solves_our_map():
    """The tests of google-deepmind/dks: 0.6291800290346146 for their ResNet-101 and target 0.75."""
    slope, correlation = 0.6291800290346146, 0.0
    for blocks in (3, 4, 23, 3):
        for number in range(blocks):
            branch, shortcut = correlation, correlation
            for _ in range(3):
                branch = correlation_map(branch, slope)
            if number == 0:
                shortcut = correlation_map(shortcut, slope)
            correlation = 0.36 * shortcut + 0.64 * branch
    assert correlation_map(correlation, slope) == pytest.approx(0.75, abs=1e-7)


def test_a_dirac_convolution_is_a_layer_for_the_probes():
    network = CifarNetwork(8, "none", width=4, block=cures.DiracBlock)
    signals = probe(network, images(8).float(), torch.arange(8))
    assert signals is not None
    assert len(signals.layers) == 7
    assert all(layer.weight_gradient > 0 for layer in signals.layers)


@pytest.mark.parametrize("layers", [19, 109])
def test_a_tailored_slope_gives_the_target_behind_all_layers(layers):
    slope, correlation = cures.tailored_slope(layers), 0.0
    for _ in range(layers):
        correlation = correlation_map(correlation, slope)
    assert correlation == pytest.approx(0.9, abs=1e-9)


def test_a_tailored_network_solves_its_slope_from_its_depth():
    network = cures.TailoredNetwork(20, "none", width=4)
    slopes = {block.relu.negative_slope for block in blocks_of(network)}
    assert slopes == {cures.tailored_slope(19)} == {network.relu.negative_slope}
    with pytest.raises(ValueError, match=r"slope 0.5 with a tailored network.*null"):
        cures.TailoredNetwork(20, "none", width=4, slope=0.5)


def test_a_tailored_network_without_normalisation_keeps_the_variance():
    torch.manual_seed(0)
    options = {"width": 16, "norm": "none", "initialisation": "delta_orthogonal"}
    network = cures.TailoredNetwork(56, "none", **options).double()
    ratios: list[float] = []
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in list(stage)[1:]:  # the first one subsamples
            block.register_forward_hook(
                lambda _, inputs, y: ratios.append((y.norm() / inputs[0].norm()).item())
            )
    network(images())
    assert math.prod(ratios) == pytest.approx(1, rel=0.5)
    with torch.no_grad():  # 52 layers of ReLU with the same kernels: 1e-8
        for block in blocks_of(network):
            block.relu.negative_slope = 0.0
    del ratios[:]
    network(images())
    assert math.prod(ratios) < 0.01


def test_a_preactivation_block_is_figure_1b():
    torch.manual_seed(0)
    block = cures.PreactivationBlock(4, 4, 1, "zero_pad").double()
    x = images(channels=4)
    inner = block.conv1(functional.relu(functional.batch_norm(x, None, None, training=True)))
    inner = functional.relu(functional.batch_norm(inner, None, None, training=True))
    torch.testing.assert_close(block(x), x + block.conv2(inner))


def test_a_preactivation_network_has_one_activation_before_and_one_behind_all_blocks():
    torch.manual_seed(0)
    network = cures.PreactivationNetwork(20, "zero_pad", width=4).double()
    seen: list[torch.Tensor] = []
    network.layer1[0].conv1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network.avgpool.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    x = images()
    network(x)
    first, last = seen
    assert torch.equal(first, functional.relu(network.bn1(network.conv1(x))))
    assert last.min() == 0
    kinds = [type(module) for module in network.modules()]
    of_2015 = [type(module) for module in CifarNetwork(20, "zero_pad", width=4).modules()]
    assert kinds.count(nn.BatchNorm2d) == of_2015.count(nn.BatchNorm2d)
    weights = [p for name, p in network.named_parameters() if "bn" not in name]
    torch.manual_seed(0)
    others = CifarNetwork(20, "zero_pad", width=4).double().named_parameters()
    same = [parameter for name, parameter in others if "bn" not in name]
    assert all(
        torch.equal(mine, other) for mine, other in zip(weights[:-4], same[:-2], strict=True)
    )


@pytest.mark.parametrize("kind", ["PreactivationNetwork", "StochasticDepthNetwork"])
def test_checkpointed_activations_change_no_number(kind):
    outcomes = []
    for checkpointed in (None, True):
        torch.manual_seed(0)
        options = {"width": 4, "checkpoint_activations": checkpointed}
        network = getattr(cures, kind)(14, "zero_pad", **options).double()
        network(images()).square().mean().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        outcomes.append((gradients, list(network.buffers())))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=0, atol=0)


WITHOUT_NORM = {
    "fixup": (cures.FixupNetwork, {}),
    "skipinit": (cures.PreactivationNetwork, {"block": cures.SkipInitBlock}),
    "rezero": (CifarNetwork, {"block": cures.ReZeroBlock}),
}


@pytest.mark.parametrize("name", WITHOUT_NORM)
def test_blocks_without_normalisation_are_the_identity_at_the_start(name):
    network, options = WITHOUT_NORM[name]
    made = network(20, "zero_pad", width=4, norm="none", **options).double()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
    x = images(channels=4).abs()
    assert torch.equal(made.layer1[1](x), x)
    logits = made(images())
    loss = functional.cross_entropy(logits, torch.arange(32) % 10)
    loss.backward()
    step = [p for p in made.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    with torch.no_grad():
        for parameter in step:
            parameter -= 0.1 * parameter.grad
    assert step
    assert functional.cross_entropy(made(images()), torch.arange(32) % 10) < loss


def test_the_first_convolution_of_fixup_is_smaller_by_the_root_of_the_number_of_blocks():
    torch.manual_seed(0)
    made = cures.FixupNetwork(110, "zero_pad", norm="none")
    deviation = made.layer3[3].conv1.weight.std().item()
    assert deviation == pytest.approx(math.sqrt(2 / (64 * 9)) / math.sqrt(54), rel=0.02)
    assert not made.fc.weight.any()
    with pytest.raises(ValueError, match="norm None with a Fixup network; legal: none"):
        cures.FixupNetwork(8, "zero_pad", width=4)


def test_a_branch_without_normalisation_is_the_published_formula():
    torch.manual_seed(0)
    x = images(channels=4)
    for kind in (cures.FixupBlock, cures.SkipInitBlock, cures.ReZeroBlock):
        block = kind(4, 4, 1, "zero_pad", norm="none").double()
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.5)
        relu, before = functional.relu, x.clone()
        if kind is cures.FixupBlock:
            a, b, c, d = block.biases
            branch = relu(block.conv1(x + a) + b)
            expected = relu(x + block.scale * block.conv2(branch + c) + d)
        elif kind is cures.SkipInitBlock:
            assert block.conv1.bias is not None
            expected = x + block.alpha * block.conv2(relu(block.conv1(relu(x))))
        else:
            expected = relu(x + block.alpha * block.conv2(relu(block.conv1(x))))
        torch.testing.assert_close(block(x), expected)
        assert torch.equal(x, before), "the input, which the shortcut passes on, was changed"


def test_stochastic_depth_drops_blocks_by_the_linear_rule():
    torch.manual_seed(0)
    network = cures.StochasticDepthNetwork(20, "zero_pad", width=4)
    assert [block.drop.p for block in blocks_of(network)] == [k / 18 for k in range(1, 10)]
    x = images().float()
    assert torch.equal(network.eval()(x), network(x)), "evaluation draws nothing"
    drop = StochasticDepth(0.3)
    assert isinstance(drop, devices.DROPOUTS), "refused on several devices, as dropout is"
    ones = torch.ones(5, 1, 2, 2)
    found = [drop(ones) for _ in range(2000)]
    assert all(len(each.unique()) == 1 for each in found), "the whole batch at once"
    assert torch.stack(found).mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("shortcut", ["none", "zero_pad_every_second"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (cures.FixupNetwork, {"norm": "none"}),
        (cures.StochasticDepthNetwork, {}),
        (CifarNetwork, {"block": cures.ReZeroBlock}),
        (cures.PreactivationNetwork, {"block": cures.SkipInitBlock}),
    ],
)
def test_blocks_that_would_give_zeros_are_refused(kind, options, shortcut):
    with pytest.raises(ValueError, match="Block without a shortcut gives zeros; legal: a shortcut"):
        kind(14, shortcut, width=4, **options)


def test_a_norm_before_a_convolution_gets_no_shift_of_dirac():
    with pytest.raises(ValueError, match="'dirac' with pre-activation blocks; legal: all others"):
        cures.PreactivationNetwork(8, "none", initialisation="dirac")


@pytest.mark.parametrize("name", ["DiracBlock", "ReZeroBlock", "StochasticDepthBlock"])
def test_fused_kernels_leave_other_blocks_alone(name):
    pytest.importorskip("numba")
    from plainres.training.fused_cpu import fuse_network

    shape = (32, 3, 8, 8)
    shortcut = "none" if name == "DiracBlock" else "zero_pad"
    assert fuse_network(CifarNetwork(8, shortcut, width=4), shape)
    assert not fuse_network(CifarNetwork(8, shortcut, width=4, block=getattr(cures, name)), shape)
