"""The networks of He et al. 2015, plain or residual: for CIFAR (section 4.2), ImageNet (4.1)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plainres.networks.activations import RELU, make_activation
from plainres.networks.blocks import (
    EVERY_SECOND,
    PADDINGS,
    BasicBlock,
    BottleneckBlock,
    SqueezeExcitationBlock,
    SqueezeExcitationBottleneck,
    check_choice,
    make_norm,
)
from plainres.networks.depth import BOTTLENECK_MIN_DEPTH, IMAGENET_BLOCKS, check_depth, num_blocks
from plainres.networks.initialisations import initialise


class CifarNetwork(nn.Module):
    """A 3×3 convolution, three stages of n blocks, global average pooling, one linear layer.

    The stages have `width`, 2·`width` and 4·`width` channels. Parameter names are those of
    torchvision's ResNet. Input (N, in_channels, H, W) of any size; output logits (N, num_classes).

    Args:
        depth: weighted layers on the main path, 6n+2 from 8 to 1202.
        shortcut: `none` (plain), `zero_pad` (option A), `projection` (B), `projection_everywhere`
            (C), `zero_pad_half` (A times 0.5) or `zero_pad_every_second` (A in every second block,
            none in the others).
        width: channels of the first stage; 16 in the paper.
        num_classes: number of logits.
        in_channels: 3 for colour, 1 for grey.
        block: builds one block from (in_channels, out_channels, stride, shortcut), and from
            norm="none" if `norm` is that.
        initialisation: one of plainres.networks.initialisations; None: `he`, as in the paper.
        checkpoint_activations: store only each block's input for the backward pass and compute the
            rest again: under a third of the memory, a third more work, the same numbers.
        norm: `batch` (None; as in the paper) or `none`: no batch normalisation anywhere.
        slope, shift: every activation is u where u = x + shift is positive, slope · u elsewhere;
            None is 0, and with both 0 it is the paper's ReLU. A `block` of one's own then takes
            activation=… too.
        padding: what 3×3 convolutions see beyond the border: `zeros` (None; as in the paper), or
            with `circular` the opposite border, so that all pixels have like neighbourhoods.

    Raises:
        ValueError: illegal depth, shortcut, norm, initialisation or padding; names the legal ones.
    """

    def __init__(
        self,
        depth: int,
        shortcut: str,
        width: int = 16,
        num_classes: int = 10,
        in_channels: int = 3,
        block: Callable[..., nn.Module] = BasicBlock,
        initialisation: str | None = None,
        checkpoint_activations: bool | None = None,
        norm: str | None = None,
        slope: float | None = None,
        shift: float | None = None,
        padding: str | None = None,
    ):
        super().__init__()
        check_choice("padding", padding or "zeros", PADDINGS)
        blocks = num_blocks(depth)
        activation = make_activation(slope, shift)
        if norm == "none":
            block = partial(block, norm=norm)
        if activation is not RELU:
            block = partial(block, activation=activation)
        self.checkpoint_activations = bool(checkpoint_activations)

        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = make_norm(norm or "batch", width)
        self.relu = activation()
        self.layer1 = _stage(block, blocks, width, width, 1, shortcut)
        self.layer2 = _stage(block, blocks, width, 2 * width, 2, shortcut)
        self.layer3 = _stage(block, blocks, 2 * width, 4 * width, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and padding is not None:
                module.padding_mode = padding  # type: ignore[assignment]
        initialise(self, initialisation or "he", slope or 0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            if self.checkpoint_activations and self.training and torch.is_grad_enabled():
                for block in stage:
                    x = checkpoint(
                        block, x, use_reentrant=False, context_fn=partial(_forward_contexts, block)
                    )
            else:
                x = stage(x)
        return self.fc(self.avgpool(x).flatten(1))


class ImageNetwork(nn.Module):
    """A 7×7/2 convolution, 3×3/2 max pooling, four stages, average pooling, one linear layer.

    The stages have `width`, 2·, 4· and 8·`width` channels; from 50 layers on the blocks are
    bottlenecks with four times as many. With `projection` this is torchvision's ResNet: the same
    parameter names, the same function. Input (N, in_channels, H, W), 224×224 in the paper; output
    logits (N, num_classes).

    Args:
        depth: 18, 34, 50, 101 or 152 weighted layers on the main path.
        shortcut: as in CifarNetwork.
        width: channels of the 3×3 convolutions in the first stage; 64 in the paper.
        weights: `imagenet` starts from torchvision's weights; a last layer of another number of
            classes starts anew.
        squeeze_excitation: blocks with squeeze-and-excitation (arXiv:1709.01507).

    Raises:
        ValueError: illegal depth, shortcut or weights, or weights that cannot be downloaded; names
            what is legal.
    """

    def __init__(
        self,
        depth: int,
        shortcut: str,
        width: int = 64,
        num_classes: int = 1000,
        in_channels: int = 3,
        weights: str | None = None,
        squeeze_excitation: bool | None = None,
    ):
        super().__init__()
        check_depth("ImageNetwork", depth)
        wider = 4 if depth >= BOTTLENECK_MIN_DEPTH else 1
        block: Callable[..., nn.Module] = BottleneckBlock if wider == 4 else BasicBlock
        if squeeze_excitation:
            block = SqueezeExcitationBottleneck if wider == 4 else SqueezeExcitationBlock
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels = width
        for number, blocks in enumerate(IMAGENET_BLOCKS[depth]):
            out_channels = width * 2**number * wider
            self.add_module(
                f"layer{number + 1}",
                _stage(block, blocks, channels, out_channels, 1 if number == 0 else 2, shortcut),
            )
            channels = out_channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)
        if weights is not None:
            options = (weights, shortcut, width, in_channels, bool(squeeze_excitation))
            if options != ("imagenet", "projection", 64, 3, False):
                raise ValueError(
                    f"weights {weights!r} with shortcut={shortcut}, width={width}, "
                    f"{in_channels} channels, squeeze_excitation={bool(squeeze_excitation)} do not "
                    "exist; legal: null, or imagenet with shortcut=projection, width=64, "
                    "colour images and no squeeze-and-excitation"
                )
            _load_imagenet_weights(self, depth)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def imagenet_weights_file(depth: int) -> Path:
    """The file to which torchvision downloads its weights of a residual network."""
    name = _imagenet_weights(depth).url.rpartition("/")[2]
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def _imagenet_weights(depth: int) -> Any:
    # here, because it takes as long to import as torch itself
    from torchvision.models import get_model_weights

    return get_model_weights(f"resnet{depth}").DEFAULT


def _load_imagenet_weights(network: nn.Module, depth: int) -> None:
    try:
        state = _imagenet_weights(depth).get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"torchvision's weights for {depth} layers are not at {imagenet_weights_file(depth)} "
            f"and cannot be downloaded ({error}); model.weights=null trains from scratch"
        ) from error
    if state["fc.weight"].shape != network.get_parameter("fc.weight").shape:
        state = {
            **state,
            "fc.weight": network.get_parameter("fc.weight"),
            "fc.bias": network.get_parameter("fc.bias"),
        }
    network.load_state_dict(state)


def _stage(
    block: Callable[[int, int, int, str], nn.Module],
    blocks: int,
    in_channels: int,
    out_channels: int,
    stride: int,
    shortcut: str,
) -> nn.Sequential:
    kinds = [shortcut] * blocks
    # counted within the stage, so that at every depth its first block has a shortcut
    if shortcut == EVERY_SECOND:
        kinds = ["none" if number % 2 else "zero_pad" for number in range(blocks)]
    first = block(in_channels, out_channels, stride, kinds[0])
    return nn.Sequential(first, *(block(out_channels, out_channels, 1, kind) for kind in kinds[1:]))


def _forward_contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of a block's first and second forward pass; only the first updates statistics."""
    return nullcontext(), _without_statistics_update(block)


@contextmanager
def _without_statistics_update(block: nn.Module) -> Iterator[None]:
    # SyncBatchNorm too, which is no BatchNorm2d
    kind = nn.modules.batchnorm._BatchNorm
    norms = [module for module in block.modules() if isinstance(module, kind)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
