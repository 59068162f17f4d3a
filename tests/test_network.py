"""The networks: number of weighted layers, the paper's sizes, names that fit published weights."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models import resnet

from plainres.networks.blocks import SHORTCUTS, BasicBlock, SqueezeExcitationBlock
from plainres.networks.depth import CIFAR_DEPTHS
from plainres.networks.resnet import CifarNetwork, ImageNetwork, imagenet_weights_file

# All parameters at width 16 and ten classes; paper: 0.27, 0.46, 0.66, 0.85, 1.7, 19.4 million
NUM_PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
NUM_PARAMETERS |= {1202: 19_421_274}


def num_weighted_layers(network: nn.Module) -> int:
    """Convolutions and linear layers of the main path; a module in two places counts twice."""
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
        for name, module in network.named_modules(remove_duplicate=False)
    )


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_depth_counts_the_weighted_layers_at_every_legal_depth(shortcut):
    shared = cache(BasicBlock)  # equal blocks are one object: 60,300 of them would take minutes
    for depth in CIFAR_DEPTHS:
        network = CifarNetwork(depth, shortcut, width=1, block=shared)
        assert num_weighted_layers(network) == depth


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("depth", [8, 20, 56])
def test_depth_counts_the_weighted_layers_of_networks_with_blocks_of_their_own(depth, shortcut):
    assert num_weighted_layers(CifarNetwork(depth, shortcut, width=2)) == depth


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
@pytest.mark.parametrize("depth", NUM_PARAMETERS)
def test_number_of_parameters(depth, shortcut):
    with torch.device("meta"):
        network = CifarNetwork(depth, shortcut)
    assert sum(parameter.numel() for parameter in network.parameters()) == NUM_PARAMETERS[depth]


@pytest.mark.parametrize(("shortcut", "extra"), [("projection", 2), ("projection_everywhere", 9)])
def test_projections_where_the_shape_changes_or_everywhere(shortcut, extra):
    network = CifarNetwork(20, shortcut, width=4)
    beside = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and "downsample" in name
    ]
    assert len(beside) == extra
    assert {"layer2.0.downsample.0", "layer3.0.downsample.0"} <= set(beside)


@pytest.mark.parametrize(
    ("shortcut", "size", "in_channels", "num_classes", "width"),
    [
        ("none", (8, 8), 1, 10, 4),
        ("zero_pad", (16, 16), 3, 10, 16),
        ("zero_pad", (32, 32), 3, 100, 2),
        ("zero_pad", (15, 15), 1, 2, 3),
        ("projection", (15, 9), 3, 10, 4),
        ("projection_everywhere", (5, 8), 2, 7, 1),
        ("zero_pad", (1, 1), 3, 10, 4),
    ],
)
def test_logits_for_any_image(shortcut, size, in_channels, num_classes, width):
    options = {"width": width, "num_classes": num_classes, "in_channels": in_channels}
    network = CifarNetwork(8, shortcut, **options)
    logits = network(torch.randn(3, in_channels, *size))
    assert logits.shape == (3, num_classes)
    assert logits.isfinite().all()


def test_stages_double_the_channels_and_halve_the_image():
    network = CifarNetwork(14, "zero_pad", width=6)
    shapes = {}
    for name in ("conv1", "layer1", "layer2", "layer3", "avgpool"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    network(torch.randn(1, 3, 32, 32))
    assert shapes == {
        "conv1": (6, 32, 32),
        "layer1": (6, 32, 32),
        "layer2": (12, 16, 16),
        "layer3": (24, 8, 8),
        "avgpool": (24, 1, 1),
    }


def torchvision_network(blocks: int) -> nn.Module:
    """torchvision's ResNet without max pooling and fourth stage: our network of width 64."""
    network = resnet.ResNet(resnet.BasicBlock, [blocks, blocks, blocks, 1], num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool, network.layer4 = nn.Identity(), nn.Identity()
    network.fc = nn.Linear(256, 10)
    return network


def test_names_and_outputs_are_torchvisions():
    torch.manual_seed(0)
    reference = torchvision_network(2).eval()
    for module in reference.modules():  # statistics that a mistake would show in
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    network = CifarNetwork(14, "projection", width=64).eval()
    assert list(network.state_dict()) == list(reference.state_dict())
    network.load_state_dict(reference.state_dict(), strict=True)
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(network(images), reference(images))


class Published(nn.Module):
    """The layout of published CIFAR weights: option A is a function, the last layer is `linear`."""

    class Block(nn.Module):
        def __init__(self, in_planes: int, planes: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.widens = in_planes != planes

        def forward(self, x):
            beside = x
            if self.widens:
                quarter = self.conv2.out_channels // 4
                beside = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            inner = functional.relu(self.bn1(self.conv1(x)))
            return functional.relu(self.bn2(self.conv2(inner)) + beside)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, 1)
        self.layer2 = self.stage(16, 32, 2)
        self.layer3 = self.stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def stage(self, in_planes: int, planes: int, stride: int) -> nn.Sequential:
        blocks = (self.Block(planes, planes, 1) for _ in range(2))
        return nn.Sequential(self.Block(in_planes, planes, stride), *blocks)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def test_published_weights_load_once_the_last_layer_is_renamed():
    torch.manual_seed(0)
    published = Published().eval()
    weights = {name.replace("linear", "fc"): w for name, w in published.state_dict().items()}
    network = CifarNetwork(20, "zero_pad").eval()
    network.load_state_dict(weights, strict=True)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images), published(images))


def test_networks_without_projections_start_alike_from_one_seed():
    states = []
    for shortcut in ("none", "zero_pad", "zero_pad_half", "zero_pad_every_second"):
        torch.manual_seed(3)
        states.append(CifarNetwork(20, shortcut, width=4).state_dict())
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        for name in state:
            assert torch.equal(state[name], states[0][name]), name
    another = CifarNetwork(20, "none", width=4)  # the generator has gone on
    assert not torch.equal(another.conv1.weight, states[0]["conv1.weight"])


@pytest.mark.parametrize("depth", [8, 20, 26, 110])
def test_every_second_block_has_a_shortcut_beginning_with_the_first_of_a_stage(depth):
    network = CifarNetwork(depth, "zero_pad_every_second", width=1)
    for stage in (network.layer1, network.layer2, network.layer3):
        shortcuts = [block.downsample is not None for block in stage]
        assert shortcuts == [number % 2 == 0 for number in range(len(stage))]


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of two responses (N, C, H, W), the mean over channels."""
    one, other = (x.transpose(0, 1).flatten(1) for x in (one, other))
    one, other = (x - x.mean(1, keepdim=True) for x in (one, other))
    return float(functional.cosine_similarity(one, other, dim=1).mean())


@pytest.mark.parametrize(
    ("initialisation", "least", "most"), [("dirac", 0.95, 1.0), ("he", -0.5, 0.5)]
)
def test_dirac_initialisation_makes_a_deep_plain_stage_the_identity(initialisation, least, most):
    torch.manual_seed(0)
    network = CifarNetwork(110, "none", width=8, initialisation=initialisation)
    responses = {}
    for name in ("relu", "layer1"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: responses.setdefault(name, out.detach().clone())
        )
    network(torch.randn(16, 3, 8, 8))
    assert least <= correlation(responses["relu"], responses["layer1"]) <= most


def test_every_convolution_starts_with_he_deviation():
    torch.manual_seed(0)
    network = CifarNetwork(8, "projection", width=32)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
            assert module.bias is None


def test_a_block_of_ones_own_is_built_everywhere():
    built = []

    class Own(nn.Module):
        def __init__(self, in_channels, out_channels, stride, shortcut):
            super().__init__()
            built.append((in_channels, out_channels, stride, shortcut))
            self.conv = nn.Conv2d(in_channels, out_channels, 1, stride)

        def forward(self, x):
            return self.conv(x)

    network = CifarNetwork(14, "zero_pad", width=2, block=Own)
    assert built == [
        (w, v, s, "zero_pad")
        for w, v, s in ((2, 2, 1), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1))
    ]
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    assert sum(isinstance(module, Own) for module in network.modules()) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 21}, "20 and 26"),
        ({"shortcut": "option_a"}, "zero_pad"),
        ({"norm": "layer"}, "norm 'layer' is unknown; legal: batch, none"),
    ],
)
def test_what_cannot_be_built_names_what_can(options, message):
    with pytest.raises(ValueError, match=message):
        CifarNetwork(**{"depth": 20, "shortcut": "none"} | options)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_without_normalisation_the_convolutions_stay_as_they_are(shortcut):
    torch.manual_seed(3)
    normalised = CifarNetwork(14, shortcut, width=4).state_dict()
    torch.manual_seed(3)
    network = CifarNetwork(14, shortcut, width=4, norm="none")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    convolutions = {
        name: tensor for name, tensor in normalised.items() if tensor.ndim == 4 or name[:2] == "fc"
    }
    assert list(network.state_dict()) == list(convolutions)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, convolutions[name]), name
    images = torch.randn(2, 3, 8, 8)
    # only products, sums and ReLUs: without the last bias, logits scale with the image
    doubled, once = (network(factor * images) - network.fc.bias for factor in (2, 1))
    torch.testing.assert_close(doubled, 2 * once)


def test_norm_batch_is_the_network_of_the_paper():
    states = []
    for norm in (None, "batch"):
        torch.manual_seed(3)
        states.append(CifarNetwork(14, "projection", width=4, norm=norm).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_every_shipped_block_can_do_without_normalisation():
    network = CifarNetwork(8, "zero_pad", width=4, block=SqueezeExcitationBlock, norm="none")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert network(torch.randn(2, 3, 8, 8)).isfinite().all()


@pytest.mark.parametrize("num_classes", [1000, 3])
def test_imagenet_weights_are_torchvisions_except_for_another_last_layer(hub, num_classes):
    original = models.resnet18()
    path = imagenet_weights_file(18)
    path.parent.mkdir()
    torch.save(original.state_dict(), path)
    network = ImageNetwork(18, "projection", num_classes=num_classes, weights="imagenet")
    original.fc = network.fc if num_classes == 3 else original.fc
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network.eval()(images), original.eval()(images))


def test_missing_imagenet_weights_say_what_else_can_be_done(hub):
    message = r"resnet18-\w+\.pth .*no network.*; model\.weights=null trains from scratch$"
    with pytest.raises(ValueError, match=message):
        ImageNetwork(18, "projection", weights="imagenet")


@pytest.mark.parametrize(
    ("shortcut", "weights", "squeeze_excitation"),
    [("none", "imagenet", None), ("projection", "mine", None), ("projection", "imagenet", True)],
)
def test_weights_that_do_not_exist_name_those_that_do(shortcut, weights, squeeze_excitation):
    with pytest.raises(ValueError, match="legal: null, or imagenet with shortcut=projection"):
        ImageNetwork(18, shortcut, weights=weights, squeeze_excitation=squeeze_excitation)


@pytest.mark.parametrize("shortcut", ["none", "zero_pad", "projection"])
def test_checkpointed_activations_change_no_number(shortcut):
    images = torch.randn(4, 3, 8, 8)
    outcomes = []
    for checkpointed in (None, True):
        torch.manual_seed(0)
        network = CifarNetwork(14, shortcut, width=4, checkpoint_activations=checkpointed)
        for _ in range(2):
            network(images).square().mean().backward()
        network.eval()
        gradients = [parameter.grad for parameter in network.parameters()]
        outcomes.append((network(images), gradients, list(network.buffers())))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=0, atol=0)


def test_checkpointed_activations_are_not_kept():
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    images, sums = torch.randn(2, 3, 8, 8), []
    for checkpointed in (None, True):
        kept.clear()
        network = CifarNetwork(32, "zero_pad", width=4, checkpoint_activations=checkpointed)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(images)
        sums.append(sum(kept))
    assert sums[1] < sums[0] / 4
