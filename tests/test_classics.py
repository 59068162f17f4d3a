"""LeNet-5 to Inception-v3: shapes for every option, legal values in errors, a falling loss."""

import pytest
import torch
from torch import nn
from torchvision import models

from plainres.networks.blocks import SqueezeExcitationBlock, SqueezeExcitationBottleneck
from plainres.networks.classics import AlexNet, LeNet5, googlenet, inception_v3, vgg
from plainres.networks.resnet import CifarNetwork, ImageNetwork


def falls(
    network: nn.Module, images: torch.Tensor, steps: int = 20, learning_rate: float = 0.01
) -> bool:
    """Whether the loss of one fixed batch falls by a tenth or more."""
    torch.manual_seed(1)
    labels = torch.arange(len(images)) % 3
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("era", "kinds"), [("1998", (nn.Tanh, nn.AvgPool2d)), ("modern", (nn.ReLU, nn.MaxPool2d))]
)
def test_lenet5_in_both_variants(era, kinds):
    torch.manual_seed(0)
    network = LeNet5(era=era)
    for kind in kinds:
        assert any(isinstance(module, kind) for module in network.modules())
    assert falls(network, torch.randn(6, 1, 32, 32), learning_rate=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet5(era="1989"), "era '1989' is unknown; legal: 1998, 1998-sigmoid, modern"),
        (lambda: LeNet5(depth=6), "LeNet5 has no depth 6; choose 5"),
        (lambda: LeNet5(depth=5.0), "LeNet5 has no depth 5.0; choose 5"),
        (lambda: AlexNet(head="tiny"), "head 'tiny' is unknown; legal: imagenet, small"),
        (lambda: vgg(12), "vgg has no depth 12; choose 11, 13, 16 or 19"),
        (lambda: vgg(norm="layer"), "norm 'layer' is unknown; legal: batch, none"),
        (lambda: vgg(width=16), "width 16 goes with head=small only"),
        (lambda: ImageNetwork(20, "none"), "no depth 20; choose 18, 34, 50, 101 or 152"),
        (lambda: LeNet5()(torch.zeros(1, 1, 28, 28)), "LeNet-5 takes 32×32 images, not 28×28"),
    ],
)
def test_what_is_illegal_names_what_is_legal(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda channels: AlexNet(7, channels, width=24, head="small"), 16),
        (lambda channels: AlexNet(7, channels, width=24, head="small"), 32),
        *[
            (lambda channels, d=d, n=n: vgg(d, n, 7, channels, width=8, head="small"), 32)
            for d in (11, 13, 16, 19)
            for n in ("none", "batch")
        ],
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_small_images(make, size, channels):
    assert make(channels)(torch.randn(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (AlexNet, 227),
        (vgg, 224),
        (googlenet, 224),
        (inception_v3, 299),
        (lambda **k: ImageNetwork(101, "none", **k), 224),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_large_images(make, size, channels):
    with torch.device("meta"):
        network = make(num_classes=7, in_channels=channels)
        assert network.eval()(torch.zeros(1, channels, size, size)).shape == (1, 7)
        logits = network.train()(torch.zeros(2, channels, size, size))
        assert isinstance(logits, torch.Tensor), "no auxiliary head"


@pytest.mark.parametrize(
    ("make", "size", "heads", "parameters"),
    [(googlenet, 224, 3, 13_004_888), (inception_v3, 299, 2, 27_161_264)],
)
def test_auxiliary_heads_exist_only_in_training(make, size, heads, parameters):
    with torch.device("meta"):
        network = make(auxiliary_weight=0.3)
        # as torchvision's documentation has it
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        outputs = network.train()(torch.zeros(2, 3, size, size))
        assert [logits.shape for logits in outputs] == [(2, 1000)] * heads
        assert network.eval()(torch.zeros(1, 3, size, size)).shape == (1, 1000)


def test_images_too_small_for_the_auxiliary_head_of_inception_are_refused():
    with torch.device("meta"):
        network = inception_v3(auxiliary_weight=0.4)
        message = r"auxiliary head takes features of 17 pixels .* got 12; data\.image_size=299"
        with pytest.raises(ValueError, match=message):
            network.train()(torch.zeros(2, 3, 224, 224))


@pytest.mark.parametrize(
    ("make", "name", "std"),
    [(googlenet, "conv1.conv", 0.01), (inception_v3, "Conv2d_1a_3x3.conv", 0.1)],
)
def test_the_first_layer_starts_the_same_for_grey_and_colour(make, name, std):
    for channels in (1, 3):
        weight = make(num_classes=2, in_channels=channels).get_submodule(name).weight
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.2), channels


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_vgg_equals_torchvisions(norm):
    with torch.device("meta"):
        ours, theirs = vgg(13, norm), models.vgg13_bn() if norm == "batch" else models.vgg13()
    shapes, expected = (
        [(name, tensor.shape) for name, tensor in network.state_dict().items()]
        for network in (ours, theirs)
    )
    assert shapes == expected


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_residual_b_is_torchvisions_resnet(depth):
    torch.manual_seed(0)
    theirs = getattr(models, f"resnet{depth}")(num_classes=5).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # a new one is nearly the identity
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    ours = ImageNetwork(depth, "projection", num_classes=5)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize("depth", [34, 50])
def test_plain_networks_have_only_the_main_path(depth):
    with torch.device("meta"):
        plain, option_a, option_b, option_c = (
            sum(parameter.numel() for parameter in ImageNetwork(depth, shortcut).parameters())
            for shortcut in ("none", "zero_pad", "projection", "projection_everywhere")
        )
    assert plain == option_a < option_b < option_c


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        (SqueezeExcitationBlock, "conv1 bn1 relu conv2 bn2"),
        (SqueezeExcitationBottleneck, "conv1 bn1 relu conv2 bn2 relu conv3 bn3"),
    ],
)
def test_squeeze_and_excitation_by_hand(kind, layers):
    torch.manual_seed(0)
    block = kind(8, 8, 1, "zero_pad", reduction=2).eval()
    assert block.se.fc1.out_channels == 4
    images = torch.randn(2, 8, 6, 6).relu()
    main = images
    for name in layers.split():
        main = block.get_submodule(name)(main)
    first, second = block.se.fc1, block.se.fc2
    hidden = torch.relu(first.weight.flatten(1) @ main.mean((2, 3)).T + first.bias[:, None])
    weights = torch.sigmoid(second.weight.flatten(1) @ hidden + second.bias[:, None]).T
    torch.testing.assert_close(block(images), torch.relu(main * weights[:, :, None, None] + images))


def test_squeeze_and_excitation_adds_few_parameters():
    plain, weighed = (
        sum(parameter.numel() for parameter in CifarNetwork(20, "zero_pad", **options).parameters())
        for options in ({}, {"block": SqueezeExcitationBlock})
    )
    assert 0 < weighed - plain < 0.02 * plain


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageNetwork(18, "projection", num_classes=3, width=8),
        lambda: ImageNetwork(18, "none", num_classes=3, width=8),
        lambda: ImageNetwork(50, "projection", num_classes=3, width=8, squeeze_excitation=True),
        lambda: vgg(11, "batch", 3, width=8, head="small"),
        lambda: CifarNetwork(8, "zero_pad", width=8, num_classes=3, block=SqueezeExcitationBlock),
    ],
)
def test_the_loss_of_a_fixed_batch_falls(make):
    torch.manual_seed(0)
    assert falls(make(), torch.randn(6, 3, 64, 64), learning_rate=0.05)
