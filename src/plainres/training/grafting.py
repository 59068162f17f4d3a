"""Blocks put into a trained network that does not need them, as near to the identity as possible.

A cell with a `child` configuration continues with such a network; `graft` makes it, and measures
what the blocks change before the network is trained on.

What is exact. The input x of every block is the output of a ReLU, so x ≥ 0.

`zero_branch`, in a residual network: scale and shift of the last batch normalisation are 0. So
F(x) = 0 whatever the statistics are, and the block gives relu(0 + x) = x. Every logit keeps every
bit, in evaluation mode and in training mode.

`dirac`, in a plain network: both 3×3 kernels are 1 in the middle of their own channel, so the
convolutions are exact (in float32). Batch normalisation follows each of them. Its running mean and
variance are those of x over training images. Its scale √(variance + ε) and shift undo them.
In evaluation mode the block gives x up to rounding. In training mode the statistics are those of
each batch, and scale and shift do not undo them: each channel is scaled and shifted by the
difference of its batch from all images, and gradients pass through the statistics. No other scale
and shift would help, because they do not depend on the batch.

`he`, in either: a fresh block as in a network that was never trained.
"""

import copy
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plainres.data.batches import Batch, EvaluationBatches, TrainingBatches
from plainres.data.device import to_float64
from plainres.data.images import Images
from plainres.networks.blocks import BasicBlock, initialise
from plainres.networks.resnet import CifarNetwork
from plainres.records import files
from plainres.records.rows import Insertion
from plainres.training.update import batch_error

STAGES = (1, 2, 3)
POSITIONS = ("middle", "end")
INITIALISATIONS = ("identity", "zero_branch", "dirac", "he")
TRAINING_BATCHES = 20  # for the statistics of `dirac`, and for the effect in training mode
ERROR_IMAGES = 4000  # training images, for the errors in evaluation mode


class InsertedBlock(BasicBlock):
    """A block that the network did not have when it was first trained."""


def graft(
    network: CifarNetwork,
    weights: Path,
    folder: Path,
    cell: tuple[str, int, int],
    stream: TrainingBatches,
    test: Images,
    blocks: int,
    stage: int,
    position: str,
    initialisation: str,
) -> CifarNetwork:
    """The parent's network with new blocks in it, in training mode; writes insertions.csv.

    Args:
        network: of the parent's shape, on the device; takes the parent's weights.
        weights: the parent's file of final weights.
        folder: of the child's files.
        cell: arm, depth and seed.
        stream: the child's training batches.
        test: images on which every logit is compared.
        blocks, stage, position, initialisation: see `insert`.

    Raises:
        ValueError: an illegal value, or weights of another network; names what is legal.
    """
    parent_weights = load_parent(network, weights)
    initialisation = resolve(initialisation, _shortcut(network, stage))
    batches = [stream.batch(iteration) for iteration in range(min(TRAINING_BATCHES, stream.stop))]
    images = [batch.images for batch in batches]
    child = insert(network, blocks, stage, position, initialisation, images)
    change: dict[str, Any] = effect(
        network,
        child,
        EvaluationBatches(test.pixels, test.labels, stream.normaliser),
        EvaluationBatches(stream.images, stream.labels, stream.normaliser, count=ERROR_IMAGES),
        batches,
    )
    row = Insertion(*cell, blocks, stage, position, initialisation, parent_weights, **change)
    files.write_table(folder / "insertions.csv", [row], Insertion)
    return child.train()


def resolve(initialisation: str, shortcut: str) -> str:
    """`zero_branch`, `dirac` or `he`: `identity` is the one of the first two that the arm can have.

    Raises:
        ValueError: unknown, or one that the arm cannot have; names the legal ones.
    """
    nearest, other = ("dirac", "zero_branch") if shortcut == "none" else ("zero_branch", "dirac")
    if initialisation not in INITIALISATIONS:
        legal = ", ".join(INITIALISATIONS)
        raise ValueError(f"child.initialisation {initialisation!r} is unknown; legal: {legal}")
    if initialisation == other:
        raise ValueError(
            f"child.initialisation {other!r} is no identity with shortcut {shortcut!r}; "
            f"legal: identity, {nearest}, he"
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
    """A copy of `network`, in evaluation mode, with `blocks` new blocks in one of its stages.

    Args:
        network: of BasicBlocks with an identity shortcut or none; stays as it is.
        blocks: 0 or more.
        stage: 1, 2 or 3.
        position: `middle`, behind the first half of the stage's blocks, or `end`.
        initialisation: `identity`, `zero_branch`, `dirac` or `he` (see above).
        images: batches (N, C, H, W) for the statistics of `dirac`.

    Raises:
        ValueError: an illegal value, or a network with other blocks; names what is legal.
    """
    if blocks < 0:
        raise ValueError(f"child.blocks {blocks} is below 0")
    shortcut = _shortcut(network, stage)
    if position not in POSITIONS:
        raise ValueError(f"child.position {position!r} is unknown; legal: {', '.join(POSITIONS)}")
    initialisation = resolve(initialisation, shortcut)
    child = copy.deepcopy(network).eval()
    old: list[Any] = list(child.get_submodule(f"layer{stage}").children())
    place = len(old) if position == "end" else max(1, len(old) // 2)
    weight = old[-1].conv2.weight
    channels = len(weight)
    new = [InsertedBlock(channels, channels, 1, shortcut) for _ in range(blocks)]
    mean = variance = torch.empty(0)
    if initialisation == "dirac" and blocks:
        mean, variance = _statistics(child, old[place - 1], images)
    for block in new:
        initialise(block)
        for convolution, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
            assert isinstance(norm, nn.BatchNorm2d)
            if initialisation == "dirac":
                nn.init.dirac_(convolution.weight)
                _undo_statistics(norm, mean, variance)
            elif initialisation == "zero_branch" and convolution is block.conv2:
                nn.init.zeros_(norm.weight)
        # In the memory format of the others: another one means other kernels, which round otherwise
        if weight.is_contiguous(memory_format=torch.channels_last):
            block.to(memory_format=torch.channels_last)
    setattr(child, f"layer{stage}", nn.Sequential(*old[:place], *new, *old[place:]))
    return child.eval().to(weight.device)


def _shortcut(network: CifarNetwork, stage: int) -> str:
    """`none` or `zero_pad`: the shortcut of the stage's blocks, which is an identity."""
    if stage not in STAGES:
        raise ValueError(f"child.stage {stage} is unknown; legal: {', '.join(map(str, STAGES))}")
    last = list(network.get_submodule(f"layer{stage}").children())[-1]
    if (
        type(last) is not BasicBlock
        or isinstance(last.downsample, nn.Sequential)
        or not isinstance(last.bn2, nn.BatchNorm2d)
        or last.conv2.padding_mode != "zeros"
    ):
        raise ValueError(
            "blocks are inserted between BasicBlocks; legal: norm batch; padding zeros; "
            "shortcuts none, zero_pad, projection from 14 layers on"
        )
    return "none" if last.downsample is None else "zero_pad"


def _undo_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Sets the statistics of batch normalisation, and the scale and shift that undo them."""
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
    """Mean and variance (C,) of the output of `block` over all images and pixels.

    The network is in evaluation mode.
    """
    sums: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = to_float64(output)
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
    augmented: Iterable[Batch],
) -> dict[str, float]:
    """How the untrained child differs from its parent, by fields of Insertion; neither changes.

    Args:
        test: test images; every logit is compared.
        train: unaugmented training images, for the errors in evaluation mode.
        augmented: training batches.
    """
    difference, size, _ = _compare(parent, child, test, training=False)
    _, _, (parent_eval, child_eval) = _compare(parent, child, train, training=False)
    batch_difference, _, (parent_batch, child_batch) = _compare(
        parent, child, augmented, training=True
    )
    return {
        "logit_difference_eval": difference,
        "logit_difference_batch": batch_difference,
        "logit_size": size,
        "error_eval": child_eval,
        "parent_error_eval": parent_eval,
        "error_batch": child_batch,
        "parent_error_batch": parent_batch,
    }


def _compare(
    parent: nn.Module, child: nn.Module, batches: Iterable[Batch], training: bool
) -> tuple[float, float, tuple[float, float]]:
    """Largest difference of a logit, mean size of the parent's logits, and the errors of both."""
    # Copies, because training mode changes the running statistics
    networks = [copy.deepcopy(network).train(training) for network in (parent, child)]
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
    """Loads a parent's final weights into a network of its shape.

    Returns twelve hexadecimal digits of the file's SHA-256.

    Raises:
        ValueError: the weights are of another network.
    """
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit: {error}") from error
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
