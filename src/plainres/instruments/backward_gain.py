"""How a gradient grows on its way back through the blocks, and how alike images look behind them.

A Lightning callback, for networks of BasicBlocks with or without shortcuts and normalisation:

    python -m plainres.run.train \
        '+callbacks.gain._target_=plainres.instruments.backward_gain.BackwardGain'

The gradients of plainres.instruments.probes are those at convolutions. They are 0 within a branch
that starts at 0, and everywhere below a linear layer that starts at 0. So here a random direction
takes the place of the gradient at the last block's output.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plainres.data.batches import TrainingBatches
from plainres.data.device import fork_generators, to_float64, with_float64
from plainres.instruments.snapshots import Snapshots, finite, fixed_images
from plainres.networks.blocks import BasicBlock
from plainres.records.rows import BlockSignal

DIRECTION_SEED = 0  # the same direction for all networks of one shape


class Signal(NamedTuple):
    """Values of one block; see BlockSignal."""

    gain: float
    response: float
    cosine: float


def block_signals(network: nn.Module, images: Tensor) -> list[Signal]:
    """Signals of each BasicBlock, of a copy in float64 in training mode.

    The network and the random generators stay as they are.

    Args:
        images: normalised (N, C, H, W), N from 2.

    Raises:
        ValueError: the network has no BasicBlock.
    """
    device = with_float64(images.device)
    network = copy.deepcopy(network).to(device, torch.float64).train()
    outputs: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(lambda _, __, output: _passed_on(output, outputs))
    # Stochastic depth draws random numbers; compiled code runs no hooks
    with fork_generators(images.device), torch.compiler.set_stance("force_eager"):
        torch.manual_seed(DIRECTION_SEED)
        network(to_float64(images).clone().requires_grad_())
        if not outputs:
            raise ValueError("backward_gain.csv is of BasicBlocks, and the network has none")
        last = outputs[-1]
        direction = torch.randn(last.shape, dtype=torch.float64).to(device)
        gradients = torch.autograd.grad(last, outputs, direction)
    return [
        Signal(
            (gradient.norm() / direction.norm()).item(),
            output.std(correction=0).item(),
            mean_cosine(output.detach()).item(),
        )
        for output, gradient in zip(outputs, gradients, strict=True)
    ]


def _passed_on(output: Tensor, outputs: list[Tensor]) -> Tensor:
    """Notes an output, and passes a copy on: what follows may change it in place."""
    outputs.append(output)
    return output.clone()


def mean_cosine(outputs: Tensor) -> Tensor:
    """Mean cosine of the angle between two rows, over all pairs; a row of zeros has cosine 0.

    Args:
        outputs: (N, …), N from 2.
    """
    units = nn.functional.normalize(outputs.flatten(1), eps=0)
    units = units.nan_to_num()
    count = len(units)
    return (units.sum(0).square().sum() - units.square().sum()) / (count * (count - 1))


class BackwardGain(Snapshots):
    """Writes backward_gain.csv into the cell's folder at the end of training."""

    table = "backward_gain.csv"
    row_type = BlockSignal

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[BlockSignal]:
        signals = block_signals(network, fixed_images(stream, self.images).images)
        return [
            BlockSignal(*place, number, *map(finite, signal))
            for number, signal in enumerate(signals, 1)
        ]
