"""The blocks of He et al. 2015, Figures 2 and 5, with or without a shortcut, and their start.

`x + F(x)` stands in `BasicBlock.forward`; the kinds of shortcut in `make_shortcut`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from plainres.networks.activations import RELU

SHORTCUTS = ("none", "zero_pad", "projection", "projection_everywhere", "zero_pad_half")
EVERY_SECOND = "zero_pad_every_second"  # for a network: every second block zero_pad, others none
NORMS = ("batch", "none")
INITIALISATIONS = ("he", "pytorch", "dirac")
PADDINGS = ("zeros", "circular")
# Mean over standard deviation of a rectified standard normal variable. With this shift, batch
# normalisation maps the output of a ReLU to values that the next ReLU lets through.
RECTIFIED_MEAN = 1 / math.sqrt(math.pi - 1)


def check_choice(name: str, value: str, legal: Sequence[str]) -> None:
    """Raises ValueError if `value` is not one of the `legal` ones; names them."""
    if value not in legal:
        raise ValueError(f"{name} {value!r} is unknown; legal: {', '.join(legal)}")


def make_norm(kind: str, channels: int) -> nn.Module:
    """Batch normalisation, or the identity in its place; convolutions have no bias in both cases.

    Raises:
        ValueError: `kind` is unknown; names the legal ones.
    """
    check_choice("norm", kind, NORMS)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zeros as the new channels; no parameters.

    Half of the new channels come before the old ones and half after, as in published CIFAR weights.
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
    """A 1×1 convolution that first takes every `stride`-th pixel and then multiplies.

    The same function as a strided convolution, without an error in oneDNN: its backward pass writes
    past its memory or gives wrong gradients if memory is channels last and there are fewer input
    channels than 8 (AVX2) or 16 (AVX-512); https://github.com/uxlfoundation/oneDNN/issues/6035.
    """

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return functional.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


class ScaledShortcut(nn.Module):
    """A shortcut times a constant `factor` (He et al. 2016, arXiv:1603.05027, section 3.1)."""

    def __init__(self, shortcut: nn.Module, factor: float):
        super().__init__()
        self.shortcut = shortcut
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.shortcut(x)


def make_shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int, norm: str = "batch"
) -> nn.Module | None:
    """The shortcut of a block: option A, B or C (sections 3.3 and 4.1), half of A, or None (plain).

    Raises:
        ValueError: `kind` is unknown; names the legal ones.
    """
    if kind not in SHORTCUTS:
        raise ValueError(
            f"shortcut {kind!r} is unknown; legal: {', '.join(SHORTCUTS)}; "
            f"for a network also {EVERY_SECOND}"
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


def convolves(module: nn.Module, size: int) -> bool:
    """Whether it is a convolution as BasicBlock has them: size×size, padded, without bias."""
    return (
        type(module) in (nn.Conv2d, SubsampledConvolution)
        and isinstance(module, nn.Conv2d)
        and module.kernel_size == (size, size)
        and module.padding == (size // 2, size // 2)
        and module.padding_mode == "zeros"
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.bias is None
    )


class BasicBlock(nn.Module):
    """Two layers, conv-bn-relu-conv-bn; plus the shortcut, if there is one; then relu.

    Convolutions are 3×3 without bias. With norm `none` there is no bn, in the shortcut neither.
    Both relus are what `activation` builds. Input (N, in_channels, H, W), output (N, out_channels,
    ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        norm: str = "batch",
        activation: Callable[[], nn.Module] = RELU,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = make_norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = make_norm(norm, out_channels)
        self.relu = activation()
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride, norm)

    def layers(self, x: Tensor) -> Tensor:
        """F(x) of the paper, which is added to the shortcut."""
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu(out)


class BottleneckBlock(nn.Module):
    """Three layers: 1×1 to a quarter of the channels, 3×3, 1×1 back (Figure 5, right).

    The 3×3 convolution has the stride, as in torchvision's weights; in the paper the first 1×1.
    Input (N, in_channels, H, W), output (N, out_channels, ceil(H / stride), ceil(W / stride));
    out_channels is a multiple of 4.
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
        """F(x) of the paper, which is added to the shortcut."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu(out)


class SqueezeExcitationBlock(BasicBlock):
    """BasicBlock with squeeze-and-excitation (arXiv:1709.01507) before the shortcut is added.

    Args:
        reduction: the channels' weights are computed through 1 / `reduction` of the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        reduction: int = 16,
        norm: str = "batch",
        activation: Callable[[], nn.Module] = RELU,
    ):
        super().__init__(in_channels, out_channels, stride, shortcut, norm, activation)
        self.se = _squeeze_excitation(out_channels, reduction)

    def layers(self, x: Tensor) -> Tensor:
        return self.se(super().layers(x))


class SqueezeExcitationBottleneck(BottleneckBlock):
    """BottleneckBlock with squeeze-and-excitation; 50 layers and option B make SE-ResNet-50."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: str, reduction: int = 16
    ):
        super().__init__(in_channels, out_channels, stride, shortcut)
        self.se = _squeeze_excitation(out_channels, reduction)

    def layers(self, x: Tensor) -> Tensor:
        return self.se(super().layers(x))


def _squeeze_excitation(channels: int, reduction: int) -> nn.Module:
    # here, because it takes as long to import as torch itself
    from torchvision.ops import SqueezeExcitation

    return SqueezeExcitation(channels, max(1, channels // reduction))


def compile_blocks(network: nn.Module, backend: str = "inductor") -> None:
    """Compiles each block with torch.compile, or the whole network if it has no blocks; in place.

    Blocks of one shape share the compiled code, so that a deep network takes no longer than a
    shallow one. For fixed shapes only; torch.compiler.set_stance("force_eager") runs uncompiled.
    """
    # without it the cells of a worker exceed the number of variants that torch.compile keeps
    torch.compiler.reset()
    blocks: list[nn.Module] = [
        module for module in network.modules() if isinstance(module, BasicBlock | BottleneckBlock)
    ]
    for module in blocks or [network]:
        module.compile(dynamic=False, backend=backend)


def initialise(network: nn.Module, kind: str = "he") -> None:
    """Initialises convolutions in place; batch normalisation starts at scale 1 and shift 0.

    Linear layers keep PyTorch's default.

    Args:
        kind: `he` (arXiv:1502.01852, normal, ReLU gain, as in the paper; fan-out, one of its two
            forms: the paper does not say which), `pytorch` (uniform to ±1/√fan-in), or `dirac`
            (`he`, and then every layer except the first as near to the identity as possible: see
            `_pass_on`).

    Raises:
        ValueError: unknown kind; names the legal ones.
    """
    check_choice("initialisation", kind, INITIALISATIONS)
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
        # the first layer is left out: its input is the image and not the output of a ReLU
        for convolution, following in list(pairwise([*layers, None]))[1:]:
            if isinstance(convolution, nn.Conv2d) and convolution.kernel_size != (1, 1):
                _pass_on(convolution, following if isinstance(following, nn.BatchNorm2d) else None)


@torch.no_grad()
def perturb(network: nn.Module, size: float, seed: int) -> None:
    """Multiplies every parameter by 1 + `size` or 1 - `size`, in place, with random signs.

    A `size` of 1e-7 changes a float32 number by one or two units in its last place. The signs have
    a generator of their own, so that all other random numbers stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        signs = 2 * torch.randint(2, parameter.shape, generator=generator).double() - 1
        parameter.copy_(parameter.double() * (1 + size * signs))


@torch.no_grad()
def _pass_on(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
    """Makes a layer copy its input channels to its first output channels; the others stay as drawn.

    A Dirac kernel alone is not enough: after normalisation to mean 0 the next ReLU would cut off
    most of the values, layer after layer. So these channels get the shift RECTIFIED_MEAN. The other
    kernels are not set to zero, as torch.nn.init.dirac_ sets them: they would never learn, because
    their ReLU passes no gradient.
    """
    count = min(convolution.in_channels, convolution.out_channels)
    kernel = torch.zeros_like(convolution.weight[:count])
    convolution.weight[:count] = nn.init.dirac_(kernel)
    if norm is not None:
        norm.bias[:count] = RECTIFIED_MEAN
