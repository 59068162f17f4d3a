"""Blocks put into a trained network where it needs none, as near to the identity as its arm can be; and what that changes.

What is exact. The input x of every block lies behind a ReLU, so x ≥ 0.

`zero_branch`, in a residual network: the scale of the last batch normalisation is 0 (its shift too), so F(x) = 0 whatever the statistics
are and the block gives relu(0 + x) = x: every logit keeps every bit, in evaluation and in training mode.

`dirac`, in a plain network: both 3×3 kernels are 1 in the middle of their own channel, so the convolutions are exact (in float32).
Between and behind them stands batch normalisation. Its running mean and variance are those of x over training images; its scale
√(variance + ε) and shift (mean) undo them. In evaluation mode that is x up to rounding. In training mode the statistics are those of
each batch, which scale and shift no longer undo: each channel is stretched and moved by what its batch differs from all, and gradients
pass through those statistics. No choice of scale and shift heals that, because they do not know the batch.

`he`, in either: a fresh block as in a network that was never trained.
"""

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from plainres.data.batches import Batch
from plainres.networks.blocks import BasicBlock, initialise
from plainres.networks.resnet import CifarNetwork
from plainres.training.update import batch_error

STAGES = (1, 2, 3)
POSITIONS = ("middle", "end")
INITIALISATIONS = ("identity", "zero_branch", "dirac", "he")


class InsertedBlock(BasicBlock):
    """A block that was not there when the network was first trained."""


@dataclass(frozen=True)
class Insertion:
    """One row of insertions.csv: what the blocks put into a trained network changed before the child was trained.

    Arm, depth and seed are those of the parent, `blocks` is how many were inserted (0: none, the parent is trained on), `parent_weights`
    twelve hexadecimal digits of the parent's weights file. Logit differences are the largest of child and parent, `logit_size` is the
    mean size of the parent's logits, errors are fractions. `_eval`: evaluation mode, test images for the logits and unaugmented training
    images for the errors. `_batch`: training mode, each batch normalised by its own statistics, over augmented training batches.
    """

    arm: str
    depth: int
    seed: int
    blocks: int
    stage: int
    position: str
    initialisation: str
    parent_weights: str
    logit_difference_eval: float
    logit_difference_batch: float
    logit_size: float
    error_eval: float
    parent_error_eval: float
    error_batch: float
    parent_error_batch: float


@dataclass(frozen=True)
class Effect:
    """What an insertion changes before any training: the networks' largest difference in a logit, and their errors as fractions.

    `_eval`: evaluation mode, test images for the logits and training images for the errors. `_batch`: training mode, each batch
    normalised by its own statistics, augmented training batches.
    """

    logit_difference_eval: float
    logit_difference_batch: float
    logit_size: float
    error_eval: float
    parent_error_eval: float
    error_batch: float
    parent_error_batch: float


def resolve(initialisation: str, shortcut: str) -> str:
    """`zero_branch`, `dirac` or `he`: `identity` is whichever of the first two the arm can have.

    Raises:
        ValueError: unknown, or one that the arm cannot have; names the legal ones.
    """
    nearest, other = ("dirac", "zero_branch") if shortcut == "none" else ("zero_branch", "dirac")
    if initialisation not in INITIALISATIONS:
        raise ValueError(
            f"child.initialisation {initialisation!r} is unknown; legal: {', '.join(INITIALISATIONS)}"
        )
    if initialisation == other:
        raise ValueError(
            f"child.initialisation {other!r} is no identity with shortcut {shortcut!r}; legal: identity, {nearest}, he"
        )
    return nearest if initialisation == "identity" else initialisation


def insert(
    network: CifarNetwork,
    blocks: int,
    stage: int,
    position: str,
    initialisation: str,
    images: Iterable[Tensor] = (),
) -> CifarNetwork:
    """A copy of `network`, in evaluation mode, with `blocks` new blocks in one of its stages; the given network stays as it is.

    Args:
        network: its blocks are BasicBlocks, with an identity beside them or nothing.
        blocks: 0 or more.
        stage: 1, 2 or 3.
        position: `middle`, behind the first half of the stage's blocks, or `end`.
        initialisation: `identity`, `zero_branch`, `dirac` or `he` (see above).
        images: batches (N, C, H, W) that `dirac` takes its statistics from.

    Raises:
        ValueError: an illegal value, or a network with other blocks; names what is legal.
    """
    if blocks < 0:
        raise ValueError(f"child.blocks {blocks} is below 0")
    if stage not in STAGES:
        raise ValueError(f"child.stage {stage} is unknown; legal: {', '.join(map(str, STAGES))}")
    if position not in POSITIONS:
        raise ValueError(f"child.position {position!r} is unknown; legal: {', '.join(POSITIONS)}")
    child = copy.deepcopy(network).eval()
    old = list(child.get_submodule(f"layer{stage}").children())
    last = old[-1]
    if (
        type(last) is not BasicBlock
        or isinstance(last.downsample, nn.Sequential)
        or not isinstance(last.bn2, nn.BatchNorm2d)
    ):
        raise ValueError(
            "blocks are inserted between BasicBlocks; legal: norm batch; shortcuts none, zero_pad, projection from 14 layers on"
        )
    shortcut = "none" if last.downsample is None else "zero_pad"
    kind = resolve(initialisation, shortcut)
    place = len(old) if position == "end" else max(1, len(old) // 2)
    channels = last.conv2.out_channels
    new = [InsertedBlock(channels, channels, 1, shortcut) for _ in range(blocks)]
    mean = variance = torch.empty(0)
    if kind == "dirac" and blocks:
        mean, variance = _statistics(child, old[place - 1], images)
    for block in new:
        initialise(block)
        for convolution, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
            assert isinstance(norm, nn.BatchNorm2d)
            if kind == "dirac":
                nn.init.dirac_(convolution.weight)
                _undone(norm, mean, variance)
            elif kind == "zero_branch" and convolution is block.conv2:
                nn.init.zeros_(norm.weight)
        if last.conv2.weight.is_contiguous(memory_format=torch.channels_last):
            block.to(
                memory_format=torch.channels_last
            )  # as the others: another layout is another kernel, whose rounding differs
    setattr(child, f"layer{stage}", nn.Sequential(*old[:place], *new, *old[place:]))
    return child.eval().to(last.conv2.weight.device)


def _undone(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Batch normalisation whose scale and shift undo its statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)


@torch.no_grad()
def _statistics(
    network: CifarNetwork, block: nn.Module, images: Iterable[Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel (C,) behind `block`, over all images and pixels, the network in evaluation mode."""
    sums: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = output.double()
        sums.append(
            torch.stack(
                [x.mean((0, 2, 3)), x.square().mean((0, 2, 3)), torch.ones_like(x[0, :, 0, 0])]
            )
            * len(x)
        )

    handle = block.register_forward_hook(note)
    try:
        for batch in images:
            network(batch)
    finally:
        handle.remove()
    if not sums:
        raise ValueError("dirac takes its statistics from images, and there are none")
    mean, square, count = torch.stack(sums).sum(0)
    mean = mean / count
    return mean.float(), (square / count - mean.square()).clamp_min(0).float()


@torch.no_grad()
def effect(
    parent: nn.Module,
    child: nn.Module,
    test: Iterable[Batch],
    train: Iterable[Batch],
    stream: Iterable[Batch],
) -> Effect:
    """What the child does otherwise than its parent, before it is trained; both networks stay as they are.

    Args:
        test: test images; every logit of theirs is compared.
        train: unaugmented training images, for the errors in evaluation mode.
        stream: augmented training batches, as the child is about to see them.
    """
    difference, size, _ = _compare(parent, child, test, training=False)
    _, _, (parent_eval, child_eval) = _compare(parent, child, train, training=False)
    batch_difference, _, (parent_batch, child_batch) = _compare(
        parent, child, stream, training=True
    )
    return Effect(
        difference, batch_difference, size, child_eval, parent_eval, child_batch, parent_batch
    )


def _compare(
    parent: nn.Module, child: nn.Module, batches: Iterable[Batch], training: bool
) -> tuple[float, float, tuple[float, float]]:
    """Largest difference of a logit, mean size of the parent's logits, and the errors of both."""
    networks = [
        copy.deepcopy(network).train(training) for network in (parent, child)
    ]  # training mode moves the running statistics
    differences, size, errors, count = [], 0.0, [0.0, 0.0], 0
    for images, labels in batches:
        logits = [network(images) for network in networks]
        differences.append((logits[1] - logits[0]).abs().max())
        size += float(logits[0].abs().mean()) * len(labels)
        for place, each in enumerate(logits):
            errors[place] += float(batch_error(each, labels)) * len(labels)
        count += len(labels)
    return (
        float(torch.stack(differences).max()),
        size / count,
        (errors[0] / count, errors[1] / count),
    )


def load_parent(network: nn.Module, weights: Path) -> str:
    """Loads a parent's final weights into a network of its shape; returns twelve hexadecimal digits of the file.

    Raises:
        ValueError: the weights are of another network.
    """
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit: {error}") from error
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
