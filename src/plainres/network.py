"""The CIFAR networks of He et al. 2015, section 4.2: stem → three stages → head, plain or with shortcuts."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plainres.blocks import BasicBlock, initialise
from plainres.depth import num_blocks


class CifarNetwork(nn.Module):
    """3×3 stem, three stages of n blocks at `width`, 2·`width`, 4·`width` channels, global average pooling, one linear layer.

    Input (N, in_channels, H, W) of any H, W ≥ 1; output logits (N, num_classes). Parameter names follow torchvision's ResNet.

    Args:
        depth: weighted layers on the main path, 6n+2 from 8 to 1202.
        shortcut: `none` (plain), `zero_pad` (option A), `projection` (B) or `projection_everywhere` (C).
        width: channels of the first stage; 16 in the paper.
        num_classes: number of logits.
        in_channels: 3 for colour, 1 for grey.
        block: builds one block from (in_channels, out_channels, stride, shortcut).
        initialisation: `he` (None; as in the paper) or `pytorch`.
        checkpoint_activations: keep only each block's input for the backward pass and compute the rest again there: about a fifth of
            the memory for a third more work, with the same numbers.

    Raises:
        ValueError: illegal depth, shortcut or initialisation; names the legal ones.
    """

    def __init__(
        self,
        depth: int,
        shortcut: str,
        width: int = 16,
        num_classes: int = 10,
        in_channels: int = 3,
        block: Callable[[int, int, int, str], nn.Module] = BasicBlock,
        initialisation: str | None = None,
        checkpoint_activations: bool | None = None,
    ):
        super().__init__()
        blocks = num_blocks(depth)
        self.checkpoint_activations = bool(checkpoint_activations)

        def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            first = block(in_channels, out_channels, stride, shortcut)
            return nn.Sequential(first, *(block(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1)))

        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(width, width, stride=1)
        self.layer2 = stage(width, 2 * width, stride=2)
        self.layer3 = stage(2 * width, 4 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        initialise(self, initialisation or "he")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            if self.checkpoint_activations and self.training and torch.is_grad_enabled():
                for block in stage:
                    x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_second_time, block))
            else:
                x = stage(x)
        return self.fc(self.avgpool(x).flatten(1))


def _second_time(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of a block's first and second forward pass: the second must not count a batch twice in the running statistics."""
    return nullcontext(), _statistics_stand_still(block)


@contextmanager
def _statistics_stand_still(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
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
