"""The block against references: loops for option A, torchvision for everything else."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet

from plainres.networks import blocks
from plainres.networks.blocks import SHORTCUTS, BasicBlock, ZeroPadShortcut, initialise, perturb

# in_channels, out_channels, stride, height, width
SHAPES = [
    (4, 8, 2, 8, 8),
    (4, 8, 2, 7, 5),
    (3, 8, 2, 6, 9),
    (5, 6, 1, 4, 4),
    (2, 7, 3, 8, 10),
    (16, 32, 2, 1, 1),
]


def zero_padded(x: np.ndarray, out_channels: int, stride: int) -> np.ndarray:
    """Option A by hand: every stride-th pixel, old channels in the middle of zeros."""
    count, in_channels, height, width = x.shape
    rows, columns = range(0, height, stride), range(0, width, stride)
    out = np.zeros((count, out_channels, len(rows), len(columns)), dtype=x.dtype)
    before = (out_channels - in_channels) // 2
    for image in range(count):
        for channel in range(in_channels):
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    out[image, before + channel, i, j] = x[image, channel, row, column]
    return out


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("in_channels", "out_channels", "stride", "height", "width"), SHAPES)
def test_option_a_equals_loops(in_channels, out_channels, stride, height, width):
    x = torch.randn(3, in_channels, height, width)
    out = ZeroPadShortcut(in_channels, out_channels, stride)(x)
    np.testing.assert_array_equal(out.numpy(), zero_padded(x.numpy(), out_channels, stride))


def test_option_a_splits_new_channels_half_before_and_half_after():
    out = ZeroPadShortcut(16, 32, 2)(torch.ones(1, 16, 4, 4))
    assert out.sum((0, 2, 3)).tolist() == [0.0] * 8 + [4.0] * 16 + [0.0] * 8


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_the_two_arms_have_the_same_parameters(shortcut):
    block = BasicBlock(4, 8, 2, shortcut)
    names = [name for name, _ in block.named_parameters()]
    expected = "conv1.weight bn1.weight bn1.bias conv2.weight bn2.weight bn2.bias"
    assert names == expected.split()


@pytest.mark.parametrize(("in_channels", "out_channels", "stride", "height", "width"), SHAPES)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_every_shortcut_gives_the_same_shape(
    shortcut, in_channels, out_channels, stride, height, width
):
    out = BasicBlock(in_channels, out_channels, stride, shortcut)(
        torch.randn(2, in_channels, height, width)
    )
    assert out.shape == (2, out_channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shortcut", "kept"), [("zero_pad", 1.0), ("none", 0.0)])
def test_a_silent_residual_block_is_the_identity_and_a_plain_one_loses_its_input(
    training, shortcut, kept
):
    block = BasicBlock(4, 4, 1, shortcut).train(training)
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(5, 4, 6, 6)
    assert torch.equal(block(x), kept * x)


def test_a_silent_residual_block_at_a_stage_border_is_option_a():
    block = BasicBlock(4, 8, 2, "zero_pad")
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 7, 6)
    np.testing.assert_array_equal(block(x).detach().numpy(), zero_padded(x.numpy(), 8, 2))


@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (8, 2)])
def test_half_of_option_a_halves_the_shortcut_and_not_the_layers(out_channels, stride):
    whole, half, plain = (
        BasicBlock(4, out_channels, stride, kind) for kind in ("zero_pad", "zero_pad_half", "none")
    )
    for block in (half, plain):
        block.load_state_dict(whole.state_dict())
    x = torch.rand(2, 4, 7, 6)
    captured = []
    for block in (whole, half, plain):
        block.relu = nn.Identity()  # what is added up, before the ReLU
        captured.append(block(x))
    shortcut, halved = (out - captured[2] for out in captured[:2])
    torch.testing.assert_close(shortcut, 2 * halved, rtol=1e-4, atol=1e-5)
    assert halved.any()


def test_gradient_passes_a_silent_residual_block_and_not_a_plain_one():
    for shortcut, expected in (("zero_pad", 1.0), ("zero_pad_half", 0.5), ("none", 0.0)):
        block = BasicBlock(4, 4, 1, shortcut)
        nn.init.zeros_(block.bn2.weight)
        x = (torch.rand(2, 4, 5, 5) + 0.1).requires_grad_()
        block(x).sum().backward()
        assert torch.equal(x.grad, torch.full_like(x, expected))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(6, 6, 1), (6, 12, 2)])
def test_the_projection_block_is_torchvisions(in_channels, out_channels, stride, training):
    downsample = None
    if stride != 1:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    reference = resnet.BasicBlock(in_channels, out_channels, stride, downsample).train(training)
    block = BasicBlock(in_channels, out_channels, stride, "projection").train(training)
    block.load_state_dict(reference.state_dict())
    x = torch.randn(4, in_channels, 9, 7)
    torch.testing.assert_close(block(x), reference(x))


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (8, 2)])
def test_a_block_does_not_change_its_input(shortcut, out_channels, stride):
    x = torch.randn(2, 4, 6, 6)
    before = x.clone()
    BasicBlock(4, out_channels, stride, shortcut)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("kind", "at_border", "within_stage"),
    [
        ("none", 0, 0),
        ("zero_pad", 0, 0),
        ("projection", 4 * 8 + 2 * 8, 0),
        ("projection_everywhere", 4 * 8 + 2 * 8, 4 * 4 + 2 * 4),
    ],
)
def test_parameters_beside_the_main_path(kind, at_border, within_stage):
    def beside(out_channels: int, stride: int) -> int:
        shortcut = blocks.make_shortcut(kind, 4, out_channels, stride)
        return sum(parameter.numel() for parameter in shortcut.parameters()) if shortcut else 0

    assert beside(8, 2) == at_border
    assert beside(4, 1) == within_stage


@pytest.mark.parametrize(("out_channels", "stride"), [(4, 2), (8, 1)])
def test_stride_alone_and_channels_alone_change_the_shape(out_channels, stride):
    projection = blocks.make_shortcut("projection", 4, out_channels, stride)
    assert all(
        isinstance(module, kind)
        for module, kind in zip(projection, (nn.Conv2d, nn.BatchNorm2d), strict=True)
    )
    assert projection[0].kernel_size == (1, 1)
    assert isinstance(blocks.make_shortcut("zero_pad", 4, out_channels, stride), ZeroPadShortcut)


@pytest.mark.parametrize("in_channels", [3, 4, 8, 16])
def test_gradients_of_narrow_projections_in_channels_last_are_right(in_channels):
    """oneDNN's own backward pass writes past its memory here and can end the process."""
    projection = blocks.make_shortcut("projection", in_channels, 2 * in_channels, 2)[0].to(
        memory_format=torch.channels_last
    )
    reference = nn.Conv2d(in_channels, 2 * in_channels, 1, 2, bias=False).double()
    reference.load_state_dict({"weight": projection.weight.double()})
    for _ in range(5):
        x = torch.randn(32, in_channels, 8, 8)
        y = x.double().requires_grad_()
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        projection.zero_grad()
        reference.zero_grad()
        projection(x).square().sum().backward()
        reference(y).square().sum().backward()
        torch.testing.assert_close(
            projection.weight.grad.double(), reference.weight.grad, rtol=1e-4, atol=1e-2
        )
        torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["", "identity", "None", "A"])
def test_an_unknown_shortcut_names_the_legal_ones(kind):
    legal = "legal: none, zero_pad, projection, projection_everywhere, zero_pad_half"
    network = "for a network also zero_pad_every_second"
    with pytest.raises(ValueError, match=f"^shortcut '{kind}' is unknown; {legal}; {network}$"):
        BasicBlock(4, 4, 1, kind)


def test_he_initialisation_of_one_layer():
    wide = nn.Conv2d(40, 80, kernel_size=3)
    initialise(wide)
    weights = wide.weight.detach()
    deviation = (2 / (80 * 9)) ** 0.5  # fan-out; fan-in would give a deviation 1.41 times as large
    assert weights.std().item() == pytest.approx(deviation, rel=0.03)
    assert abs(weights.mean().item()) < 0.03 * deviation
    inside = (weights.abs() < deviation).float().mean().item()
    assert inside == pytest.approx(0.683, abs=0.01)  # normal; 0.577 if uniform


def test_initialisation_reaches_every_block_and_leaves_linear_layers():
    network = nn.Sequential(BasicBlock(4, 8, 2, "projection"), nn.Linear(8, 3))
    linear = network[1].weight.clone()
    for parameter in network[0].parameters():
        nn.init.constant_(parameter, 7.0)
    initialise(network)
    assert not any((parameter == 7).any() for parameter in network[0].parameters())
    for name, parameter in network[0].named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all(), name
    assert torch.equal(network[1].weight, linear)


def test_pytorchs_initialisation_is_uniform_within_the_root_of_the_fan_in():
    wide = nn.Conv2d(40, 80, kernel_size=3)
    drawn = wide.weight.clone()
    initialise(wide, "pytorch")
    assert torch.equal(wide.weight, drawn)
    assert wide.weight.abs().max().item() == pytest.approx((40 * 9) ** -0.5, rel=0.01)


def test_an_unknown_initialisation_names_the_legal_ones():
    message = "^initialisation 'zeros' is unknown; legal: he, pytorch, dirac$"
    with pytest.raises(ValueError, match=message):
        initialise(nn.Conv2d(1, 1, 1), "zeros")


def test_dirac_layers_copy_the_output_of_a_relu():
    block = BasicBlock(8, 8, 1, "none")
    initialise(nn.Sequential(nn.Conv2d(1, 8, 3), block), "dirac")
    x = torch.randn(64, 8, 12, 12).relu()
    out = block(x)
    kept = (out / out.std() - x / x.std()).abs()
    assert kept.mean() < 0.02
    assert out.std().item() == pytest.approx(1.0, abs=0.02)


def test_new_channels_of_dirac_layers_can_learn_and_the_first_layer_stays():
    def network(kind: str) -> nn.Sequential:
        torch.manual_seed(1)
        first = nn.Conv2d(1, 8, 3, bias=False)
        result = nn.Sequential(first, nn.BatchNorm2d(8), BasicBlock(8, 16, 2, "projection"))
        initialise(result, kind)
        return result

    he, dirac = network("he"), network("dirac")
    assert torch.equal(dirac[0].weight, he[0].weight)
    assert torch.equal(dirac[1].bias, torch.zeros(8))
    wider, beside = dirac[2].conv1.weight, dirac[2].downsample[0].weight
    assert torch.equal(wider[:8].sum((2, 3)), torch.eye(8))
    assert torch.equal(wider[:8, :, 1, 1], torch.eye(8))
    assert torch.equal(wider[8:], he[2].conv1.weight[8:])
    assert torch.equal(beside, he[2].downsample[0].weight)
    dirac(torch.randn(4, 1, 9, 9)).square().sum().backward()
    assert wider.grad.flatten(1).norm(dim=1).gt(0).all()


def test_a_perturbation_changes_the_last_digit_of_every_weight_and_no_random_number():
    first, second, third = (BasicBlock(4, 8, 2, "none") for _ in range(3))
    for block in (second, third):
        block.load_state_dict(first.state_dict())
    state = torch.get_rng_state()
    perturb(second, 1e-7, seed=0)
    perturb(third, 1e-7, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    parameters = (list(block.parameters()) for block in (first, second, third))
    for before, after, other in zip(*parameters, strict=True):
        before, after = before.detach().double(), after.detach().double()
        nonzero = before != 0
        relative = ((after - before) / before)[nonzero]
        assert relative.abs().sub(1e-7).abs().max() <= 6e-8 if nonzero.any() else True
        assert (after[~nonzero] == 0).all()
        if nonzero.all():
            assert {*relative.sign().tolist()} == {-1.0, 1.0}
            assert not torch.equal(after, other.detach().double())
