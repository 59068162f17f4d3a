"""Networks from before ResNet and of its time: LeNet-5, AlexNet, VGG, GoogLeNet, Inception-v3.

All take a number of classes and of input channels, and return logits. VGG, GoogLeNet and
Inception-v3 are torchvision's.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision import models
from torchvision.models import vgg as torchvision_vgg

from plainres.networks.blocks import NORMS, check_choice
from plainres.networks.depth import VGG_CONFIGURATIONS, check_depth

# model.era → nonlinearity, pooling. Of 1998 are tanh (after convolutions and linear layers) and
# the sigmoid (after pooling); textbooks take one of them everywhere
VARIANTS: Mapping[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "1998": (nn.Tanh, nn.AvgPool2d),
    "1998-sigmoid": (nn.Sigmoid, nn.AvgPool2d),
    "modern": (nn.ReLU, nn.MaxPool2d),
}
HEADS = ("imagenet", "small")  # model.head
INCEPTION_HEAD_SIDE = 17  # pixels; pooling (5×5/3) and a 5×5 convolution reduce them to one


class LeNet5(nn.Module):
    """LeCun et al. 1998, Figure 2, as in textbooks: 61,706 parameters for ten classes, grey images.

    It differs from the paper: all maps of the second convolution are connected, pooling has no
    weights, tanh is not scaled and comes before pooling, and the last layer is linear.

    Input (N, in_channels, 32, 32), output logits (N, num_classes).

    Args:
        era: the variant. `1998` has tanh and average pooling, `1998-sigmoid` the sigmoid and
            average pooling, `modern` ReLU and max pooling.

    Raises:
        ValueError: unknown era, or images that are not 32×32; names what is legal.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, era: str | int = "modern", depth: int = 5
    ):
        super().__init__()
        check_depth("LeNet5", depth)
        era = str(era)  # on a command line 1998 is a number
        check_choice("era", era, tuple(VARIANTS))
        nonlinearity, pooling = VARIANTS[era]
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),
            nonlinearity(),
            pooling(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nonlinearity(),
            pooling(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nonlinearity(),
            nn.Linear(120, 84),
            nonlinearity(),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (32, 32):
            raise ValueError(
                f"LeNet-5 takes 32×32 images, not {x.shape[-2]}×{x.shape[-1]}; "
                "set data.image_size=32 or data.pad_to=32"
            )
        return self.classifier(self.features(x))


class AlexNet(nn.Module):
    """Krizhevsky et al. 2012 on one GPU: 62,378,344 parameters for 1,000 classes.

    Without the paper's local response normalisation, which has no parameters and which later
    networks left out. (torchvision's AlexNet is the later one, with 64 channels.) Dropout is before
    the first two linear layers, as in torchvision; in the paper (section 4.2) it is behind them.

    Input (N, in_channels, 227, 227), with `head="small"` any size from 16×16; output logits
    (N, num_classes).

    Args:
        width: channels of the first convolution, 96 in the paper; everything else scales with it.
        head: `imagenet` begins with 11×11/4. `small`, for small images, begins with 3×3 at full
            resolution, pools to 3×3 before the linear layers, and has He's initialisation
            (arXiv:1502.01852, fan-in), because it hardly learns at first from PyTorch's default.

    Raises:
        ValueError: unknown head; names the legal ones.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 96,
        head: str = "imagenet",
        depth: int = 8,
    ):
        super().__init__()
        check_depth("AlexNet", depth)
        check_choice("head", head, HEADS)
        channels = [width * factor // 96 for factor in (96, 256, 384, 384, 256)]
        hidden = width * 4096 // 96
        side = 6 if head == "imagenet" else 3
        stem: tuple[int, int, int] = (11, 4, 0) if head == "imagenet" else (3, 1, 1)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], *stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(channels[0], channels[1], kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(channels[1], channels[2], kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels[2], channels[3], kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels[3], channels[4], kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2) if head == "imagenet" else nn.AdaptiveMaxPool2d(side),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(channels[4] * side * side, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        if head == "small":
            for module in [*self.features, *self.classifier[:-1]]:
                if isinstance(module, nn.Conv2d | nn.Linear):
                    assert module.bias is not None
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def vgg(
    depth: int = 16,
    norm: str = "none",
    num_classes: int = 1000,
    in_channels: int = 3,
    width: int = 64,
    head: str = "imagenet",
) -> nn.Module:
    """Simonyan and Zisserman 2014, configurations A, B, D, E, from torchvision's parts.

    VGG-16 has 138,357,544 parameters for 1,000 classes.
    Input (N, in_channels, 224, 224), or any size from 32×32; output logits (N, num_classes).

    Args:
        depth: 11, 13, 16 or 19 weighted layers; two fewer with `head="small"`, which has one linear
            layer instead of three.
        norm: `batch` puts batch normalisation after every convolution.
        width: channels of the first convolutions, 64 in the paper.
        head: `imagenet` has three linear layers, the hidden ones of 4,096; `small`, for small
            images, averages over the image and has one linear layer.

    Raises:
        ValueError: illegal depth, norm or head; names the legal ones.
    """
    check_depth("vgg", depth)
    check_choice("norm", norm, NORMS)
    check_choice("head", head, HEADS)
    layers = torchvision_vgg.cfgs[VGG_CONFIGURATIONS[depth]]
    scaled = [layer if isinstance(layer, str) else layer * width // 64 for layer in layers]
    features = torchvision_vgg.make_layers(scaled, batch_norm=norm == "batch")
    first = features[0]
    assert isinstance(first, nn.Conv2d)
    if in_channels != first.in_channels:
        features[0] = nn.Conv2d(in_channels, first.out_channels, kernel_size=3, padding=1)
    if head == "imagenet":
        if width != 64:
            raise ValueError(
                f"width {width} goes with head=small only; legal for head=imagenet: 64"
            )
        return torchvision_vgg.VGG(features, num_classes=num_classes)
    network = nn.Sequential(
        features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, num_classes)
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    depth: int = 22,
    auxiliary_weight: float | None = None,
) -> nn.Module:
    """torchvision's GoogLeNet (Szegedy et al. 2014), near to BN-Inception (Ioffe and Szegedy 2015).

    It has batch normalisation after every convolution, and one 3×3 convolution instead of
    GoogLeNet's 5×5; BN-Inception has two of them there. Dropout before the last layer is 0.2, 0.4
    in GoogLeNet's paper.

    Input (N, in_channels, H, W), 224×224 in the paper; output logits (N, num_classes).

    Args:
        auxiliary_weight: weight of the losses of the two auxiliary heads in training, 0.3 in the
            paper; None: no such heads. With them the output in training mode is a tuple of logits,
            those of the main head first.
    """
    check_depth("googlenet", depth)
    network = models.GoogLeNet(
        num_classes=num_classes, aux_logits=auxiliary_weight is not None, init_weights=True
    )
    return _with_channels(network, "conv1.conv", in_channels, std=0.01)


def inception_v3(
    num_classes: int = 1000,
    in_channels: int = 3,
    depth: int = 48,
    auxiliary_weight: float | None = None,
) -> nn.Module:
    """torchvision's Inception-v3 (Szegedy et al. 2015).

    Input (N, in_channels, H, W), 299×299 in the paper, at least 75×75; output logits
    (N, num_classes).

    Args:
        auxiliary_weight: as in `googlenet`, for one auxiliary head; the paper gives no number.
    """
    check_depth("inception_v3", depth)
    network = models.Inception3(
        num_classes=num_classes, aux_logits=auxiliary_weight is not None, init_weights=True
    )
    if network.AuxLogits is not None:
        network.AuxLogits.register_forward_pre_hook(_check_features)
    return _with_channels(network, "Conv2d_1a_3x3.conv", in_channels, std=0.1)


def _check_features(head: nn.Module, inputs: tuple[Tensor]) -> None:
    if (side := min(inputs[0].shape[2:])) < INCEPTION_HEAD_SIDE:
        raise ValueError(
            f"inception_v3's auxiliary head takes features of {INCEPTION_HEAD_SIDE} pixels a side "
            f"or more, as 299×299 images have, and got {side}; "
            "data.image_size=299, or model.auxiliary_weight=null for no such head"
        )


def _with_channels(network: nn.Module, name: str, in_channels: int, std: float) -> nn.Module:
    """The network with a first layer for `in_channels`.

    As in torchvision, its weights are drawn from a normal distribution that is truncated at ±2.
    """
    old = network.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    if in_channels != old.in_channels:
        kernel: tuple[Any, Any, Any] = (old.kernel_size, old.stride, old.padding)
        new = nn.Conv2d(in_channels, old.out_channels, *kernel, bias=old.bias is not None)
        nn.init.trunc_normal_(new.weight, std=std)
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, new)
    return network
