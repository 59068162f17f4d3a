"""Networks that other papers train deep, with or without shortcuts, in the shape of CifarNetwork.

Blocks are for `model.block`, networks for `model._target_`; conf/variants/cure.yaml names them all.
Initialisations are in plainres.networks.initialisations.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from plainres.networks.blocks import BasicBlock, make_norm
from plainres.networks.resnet import CifarNetwork

TAILORED = 0.9  # correlation of two images behind all layers, of Zhang et al. 2022


class DiracConvolution(nn.Conv2d):
    """Convolves the positive and negative part of its input with diag(a) δ + diag(b) W / ‖W‖.

    Zagoruyko & Komodakis 2017 (arXiv:1706.00388), with the activation of their code for CIFAR: x
    becomes relu(x) and min(x, 0), side by side, and δ adds the two up again. So the layer passes
    on its input and adds to it, as x + F(x) does, but is one convolution. Each filter of W is
    divided by its Euclidean norm. a and b, one number a filter, are learnt from 1 and 0.1.

    Otherwise than in their code, where a stage changes the layer has stride 2 (they take the
    maximum of 2×2 before a layer of stride 1). There δ keeps every second pixel; and as channels
    double, x's positive parts become the first half of them and its negative parts the second.
    """

    delta: Tensor

    def __init__(self, like: nn.Conv2d):
        """Args: like: gives the sizes; the kernel has twice as many input channels."""
        inside, outside = 2 * like.in_channels, like.out_channels
        names = ("kernel_size", "stride", "padding", "padding_mode")
        same: Any = {name: getattr(like, name) for name in names}
        super().__init__(inside, outside, bias=False, **same)
        self.a = nn.Parameter(torch.ones(outside, 1, 1, 1))
        self.b = nn.Parameter(torch.full((outside, 1, 1, 1), 0.1))
        identity = nn.init.dirac_(torch.empty(outside, min(inside, outside), *like.kernel_size))
        self.register_buffer("delta", identity.repeat(1, max(inside // outside, 1), 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        norms = self.weight.flatten(1).norm(dim=1)[:, None, None, None]
        kernel = self.a * self.delta + self.b * self.weight / norms
        parts = torch.cat([input.clamp(min=0), input.clamp(max=0)], 1)
        return self._conv_forward(parts, kernel, None)


class DiracBlock(BasicBlock):
    """Two DiracConvolutions, each with batch normalisation behind it; no shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: str, **options: Any
    ):
        if shortcut != "none":
            raise ValueError(f"shortcut {shortcut!r} with Dirac convolutions; legal: none")
        super().__init__(in_channels, out_channels, stride, shortcut, **options)
        self.conv1, self.conv2 = DiracConvolution(self.conv1), DiracConvolution(self.conv2)

    def layers(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TailoredNetwork(CifarNetwork):
    """A CifarNetwork whose activation has the slope that its depth needs.

    Zhang et al. 2022 (arXiv:2203.08120): see `tailored_slope`. The paper has no normalisation and
    delta-orthogonal kernels; its factor √(2 / (1 + slope²)) before the activation is the gain of
    that initialisation here. With batch normalisation the factor changes nothing.
    """

    def __init__(self, depth: int, shortcut: str, slope: float | None = None, **options: Any):
        if slope is not None:
            raise ValueError(f"slope {slope!r} with a tailored network, which solves it; null")
        super().__init__(depth, shortcut, slope=tailored_slope(depth - 1), **options)


def correlation_map(correlation: float, slope: float) -> float:
    """Correlation of two images behind a layer with a leaky ReLU, from that before it.

    E[φ(u) φ(v)] / E[φ(u)²] for standard normal u and v: c + (1 - a)² / (π (1 + a²)) ·
    (√(1 - c²) - c · arccos c) (Zhang et al. 2022, section 4).
    """
    correlation = min(correlation, 1.0)
    turned = math.sqrt(1 - correlation**2) - correlation * math.acos(correlation)
    return correlation + (1 - slope) ** 2 / (math.pi * (1 + slope**2)) * turned


def tailored_slope(layers: int, target: float = TAILORED) -> float:
    """The slope with which two unrelated images have correlation `target` behind all layers.

    Args:
        layers: with an activation, one after the other.
    """

    def behind(slope: float) -> float:
        correlation = 0.0
        for _ in range(layers):
            correlation = correlation_map(correlation, slope)
        return correlation

    low, high = 0.0, 1.0  # `behind` falls with the slope, to 0
    if behind(low) < target:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if behind(middle) > target else (low, middle)
    return low


class PreactivationBlock(BasicBlock):
    """bn-relu-conv-bn-relu-conv, plus the shortcut, and nothing after the addition.

    He et al. 2016 (arXiv:1603.05027, Figure 1b). For a PreactivationNetwork.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        norm: str = "batch",
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        # no activation in place: without normalisation it would change what the shortcut passes on
        super().__init__(in_channels, out_channels, stride, shortcut, norm, activation)
        self.bn1 = make_norm(norm, in_channels)
        self.relu1 = activation()

    def layers(self, x: Tensor) -> Tensor:
        x = self.conv1(self.relu1(self.bn1(x)))
        return self.conv2(self.relu(self.bn2(x)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        return out if self.downsample is None else out + self.downsample(x)


class PreactivationNetwork(CifarNetwork):
    """A CifarNetwork of PreactivationBlocks, with one more activation behind the last (appendix).

    The first block has none before its first convolution: the first layer ends with one.

    Raises:
        ValueError: as CifarNetwork, or initialisation `dirac`, which shifts the normalisation
            behind a convolution, and here it stands before.
    """

    def __init__(self, depth: int, shortcut: str, norm: str | None = None, **options: Any):
        if options.get("initialisation") == "dirac":
            raise ValueError("initialisation 'dirac' with pre-activation blocks; legal: all others")
        super().__init__(depth, shortcut, norm=norm, **{"block": PreactivationBlock, **options})
        first: Any = self.layer1[0]
        first.bn1, first.relu1 = nn.Identity(), nn.Identity()
        self.layer3.append(make_norm(norm or "batch", self.fc.in_features))
        # not in place: with checkpoint_activations its input is kept
        self.layer3.append(nn.ReLU() if isinstance(self.relu, nn.ReLU) else self.relu)


class SkipInitBlock(PreactivationBlock):
    """A PreactivationBlock whose branch is multiplied by a number that is learnt from 0.

    De & Smith 2020 (arXiv:2002.10444, section 4): without normalisation, convolutions with biases.
    """

    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        _require_shortcut(self)
        for convolution in (self.conv1, self.conv2):
            convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
        self.alpha = nn.Parameter(torch.zeros(1))

    def layers(self, x: Tensor) -> Tensor:
        return self.alpha * super().layers(x)


class ReZeroBlock(BasicBlock):
    """A BasicBlock of relu(x + alpha · F(x)), with alpha learnt from 0.

    Bachlechner et al. 2020 (arXiv:2003.04887), here without normalisation.
    """

    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        _require_shortcut(self)
        self.alpha = nn.Parameter(torch.zeros(1))

    def layers(self, x: Tensor) -> Tensor:
        return self.alpha * super().layers(x)


def _require_shortcut(block: BasicBlock) -> None:
    if block.downsample is None:
        raise ValueError(
            f"{type(block).__name__} without a shortcut gives zeros; legal: a shortcut in every "
            "block, as model.shortcut=zero_pad"
        )


class FixupBlock(BasicBlock):
    """A BasicBlock without normalisation, with four learnt biases and a learnt factor.

    Zhang et al. 2019 (arXiv:1901.09321, Figure 1, right): one bias for all channels before each
    convolution and each activation. For a FixupNetwork, which initialises it.
    """

    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        _require_shortcut(self)
        self.biases = nn.Parameter(torch.zeros(4))
        self.scale = nn.Parameter(torch.ones(1))

    def layers(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.biases
        x = self.relu(self.conv1(x + first) + second)
        return self.scale * self.conv2(x + third) + fourth


class Bias(nn.Module):
    """Adds one learnt number, at first 0, to a tensor of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class FixupNetwork(CifarNetwork):
    """A residual CifarNetwork of FixupBlocks, without normalisation.

    Of L blocks, the last convolution of each and the linear layer start at 0, and the first
    convolution at He's divided by √L (section 3.2). Not as in the paper: biases and factors have
    the learning rate of all other weights, not a tenth of it.
    """

    def __init__(self, depth: int, shortcut: str, norm: str | None = None, **options: Any):
        super().__init__(depth, shortcut, block=FixupBlock, norm=norm, **options)
        if norm != "none":
            raise ValueError(f"norm {norm!r} with a Fixup network; legal: none")
        self.bn1 = Bias()
        self.add_module("avgpool", nn.Sequential(self.avgpool, Bias()))
        blocks = [module for module in self.modules() if isinstance(module, FixupBlock)]
        with torch.no_grad():
            for block in blocks:
                block.conv1.weight /= math.sqrt(len(blocks))
                block.conv2.weight.zero_()
            self.fc.weight.zero_()
            self.fc.bias.zero_()


class StochasticDepth(nn.modules.dropout._DropoutNd):
    """In training: zero for the whole batch with probability `p`, else x / (1 - p); any shape.

    The paper does not divide, and multiplies by 1 - p in evaluation.
    """

    def forward(self, x: Tensor) -> Tensor:
        # here, because it takes as long to import as torch itself
        from torchvision.ops import stochastic_depth

        return stochastic_depth(x, self.p, "batch", self.training)


class StochasticDepthBlock(BasicBlock):
    """A BasicBlock whose branch is dropped now and then. For a StochasticDepthNetwork."""

    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        _require_shortcut(self)
        self.drop = StochasticDepth()

    def layers(self, x: Tensor) -> Tensor:
        return self.drop(super().layers(x))


class StochasticDepthNetwork(CifarNetwork):
    """A CifarNetwork whose block l of L is dropped with probability l / (2 L) in training.

    Huang et al. 2016 (arXiv:1603.09382), their linear rule: the last block survives half the time.
    """

    def __init__(self, depth: int, shortcut: str, **options: Any):
        super().__init__(depth, shortcut, block=StochasticDepthBlock, **options)
        drops = [module for module in self.modules() if isinstance(module, StochasticDepth)]
        for number, drop in enumerate(drops, 1):
            drop.p = number / (2 * len(drops))
