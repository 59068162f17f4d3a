"""The blocks of He et al. 2015, Figures 2 and 5, and what runs beside them: nothing (the plain arm) or a shortcut."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORTCUTS = ("none", "zero_pad", "projection", "projection_everywhere", "zero_pad_half")
EVERY_SECOND = "zero_pad_every_second"  # of a whole network: zero_pad in every second block, none in the others
NORMS = ("batch", "none")


def make_norm(kind: str, channels: int) -> nn.Module:
    """Batch normalisation, or nothing in its place: convolutions keep their names and stay without bias, as they do at its start.

    Raises:
        ValueError: `kind` is unknown; names the legal ones.
    """
    if kind not in NORMS:
        raise ValueError(f"norm {kind!r} is unknown; legal: {', '.join(NORMS)}")
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, zeros for the channels that the input lacks; no parameters.

    The new channels are split half before and half after the old ones, as in the CIFAR weights in circulation.
    Input (N, in_channels, H, W), output (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        extra = out_channels - in_channels
        self.stride = stride
        self.padding = (extra // 2, extra - extra // 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))


class SubsampledConvolution(nn.Conv2d):
    """A 1×1 convolution that takes every `stride`-th pixel first and then multiplies, instead of both at once: the same function.

    oneDNN's own backward pass writes past its memory, or gives wrong gradients, where a strided 1×1 convolution has fewer input channels
    than fill a block of 8 (AVX2) or 16 (AVX-512) and memory is channels last (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return functional.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


class ScaledShortcut(nn.Module):
    """A shortcut's output times a constant `factor` (He et al. 2016, arXiv:1603.05027, section 3.1); the block's layers are not scaled."""

    def __init__(self, shortcut: nn.Module, factor: float):
        super().__init__()
        self.shortcut = shortcut
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.shortcut(x)


def make_shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int, norm: str = "batch"
) -> nn.Module | None:
    """The path beside a block's layers: options A, B and C of section 3.3 and 4.1, half of A, or None for the plain arm.

    Raises:
        ValueError: `kind` is unknown; names the legal ones.
    """
    if kind not in SHORTCUTS:
        raise ValueError(
            f"shortcut {kind!r} is unknown; legal: {', '.join(SHORTCUTS)}; of a network also {EVERY_SECOND}"
        )
    if kind == "none":
        return None
    changes_shape = stride != 1 or in_channels != out_channels
    if kind == "projection_everywhere" or (kind == "projection" and changes_shape):
        convolution = SubsampledConvolution if stride != 1 and in_channels < 16 else nn.Conv2d
        return nn.Sequential(
            convolution(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            make_norm(norm, out_channels),
        )
    option_a = (
        ZeroPadShortcut(in_channels, out_channels, stride) if changes_shape else nn.Identity()
    )
    return ScaledShortcut(option_a, 0.5) if kind == "zero_pad_half" else option_a


class BasicBlock(nn.Module):
    """Two layers: conv-bn-relu-conv-bn, plus the shortcut's output where there is one, then relu. Convolutions are 3×3 without bias.

    With norm `none` there is no bn, the shortcut's included. Input (N, in_channels, H, W), output (N, out_channels, ceil(H / stride),
    ceil(W / stride)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: str, norm: str = "batch"
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = make_norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = make_norm(norm, out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride, norm)

    def layers(self, x: Tensor) -> Tensor:
        """What is added to the shortcut: F(x) of the paper."""
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu(out)


class BottleneckBlock(nn.Module):
    """Three layers, 1×1 to a quarter of the channels, 3×3, 1×1 back (Figure 5, right), each with batch normalisation; then as BasicBlock.

    The stride is the 3×3 convolution's, as in torchvision's weights; the paper has it at the first 1×1.
    Input (N, in_channels, H, W), output (N, out_channels, ceil(H / stride), ceil(W / stride)); out_channels a multiple of 4.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str):
        super().__init__()
        inner = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride)

    def layers(self, x: Tensor) -> Tensor:
        """What is added to the shortcut: F(x) of the paper."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu(out)


class SqueezeExcitationBlock(BasicBlock):
    """BasicBlock whose second layer's channels are weighed by what the whole image holds before the shortcut is added (arXiv:1709.01507).

    `reduction` as in the paper: the weights pass through a sixteenth of the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        reduction: int = 16,
        norm: str = "batch",
    ):
        super().__init__(in_channels, out_channels, stride, shortcut, norm)
        self.se = _squeeze_excitation(out_channels, reduction)

    def layers(self, x: Tensor) -> Tensor:
        return self.se(super().layers(x))


class SqueezeExcitationBottleneck(BottleneckBlock):
    """BottleneckBlock whose third layer's channels are weighed in the same way; SE-ResNet-50 of the paper with 50 layers and option B."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: str, reduction: int = 16
    ):
        super().__init__(in_channels, out_channels, stride, shortcut)
        self.se = _squeeze_excitation(out_channels, reduction)

    def layers(self, x: Tensor) -> Tensor:
        return self.se(super().layers(x))


def _squeeze_excitation(channels: int, reduction: int) -> nn.Module:
    from torchvision.ops import (
        SqueezeExcitation,
    )  # here, because it takes as long to import as torch itself

    return SqueezeExcitation(channels, max(1, channels // reduction))


def compile_blocks(network: nn.Module, backend: str = "inductor") -> None:
    """Has torch.compile fuse what lies within each block, or within the whole network where it has no blocks; in place.

    Blocks of one shape share what is compiled, so that a deep network takes no longer than a shallow one. For fixed shapes only; what
    must not be compiled runs under torch.compiler.set_stance("force_eager").
    """
    torch.compiler.reset()  # the cells of a worker would else add up to more variants than torch.compile keeps
    blocks: list[nn.Module] = [
        module for module in network.modules() if isinstance(module, BasicBlock | BottleneckBlock)
    ]
    for module in blocks or [network]:
        module.compile(dynamic=False, backend=backend)


INITIALISATIONS = ("he", "pytorch", "dirac")
# Mean over standard deviation of a rectified standard normal value: with this shift, batch normalisation leaves what a ReLU has let
# through where the ReLU after it lets it through again.
RECTIFIED_MEAN = 1 / math.sqrt(math.pi - 1)


def initialise(network: nn.Module, kind: str = "he") -> None:
    """Sets convolutions in place; batch normalisation starts at scale 1, shift 0; linear layers keep PyTorch's default.

    Args:
        kind: `he` (arXiv:1502.01852, normal, fan-out, ReLU gain) as in the paper, `pytorch` (uniform within ±1/√fan-in), or `dirac`
            (`he`, and then every layer but the first as near to the identity as it can be: see `_pass_on`).

    Raises:
        ValueError: unknown kind; names the legal ones.
    """
    if kind not in INITIALISATIONS:
        raise ValueError(f"initialisation {kind!r} is unknown; legal: {', '.join(INITIALISATIONS)}")
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and kind != "pytorch":
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    if kind == "dirac":
        layers = [
            module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        ]
        for convolution, following in list(pairwise([*layers, None]))[
            1:
        ]:  # the first sees the image, which no ReLU has cut
            if isinstance(convolution, nn.Conv2d) and convolution.kernel_size != (1, 1):
                _pass_on(convolution, following if isinstance(following, nn.BatchNorm2d) else None)


@torch.no_grad()
def _pass_on(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
    """Makes a layer hand on its input channels, as many as it has output channels for; further output channels stay as they are.

    A Dirac kernel alone is not enough: normalisation to mean 0 would have the next ReLU cut most of what the last one let through, layer
    after layer. So these channels get the shift that a rectified normal value needs. Where channels are added, zero kernels (as
    torch.nn.init.dirac_ sets them) would never learn: their ReLU passes no gradient.
    """
    count = min(convolution.in_channels, convolution.out_channels)
    kernel = torch.zeros_like(convolution.weight[:count])
    convolution.weight[:count] = nn.init.dirac_(kernel)
    if norm is not None:
        norm.bias[:count] = RECTIFIED_MEAN
