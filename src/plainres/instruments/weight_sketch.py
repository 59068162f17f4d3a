"""A few numbers that tell how far the weights of two runs are apart: a Lightning callback.

    python -m plainres.run.train \
        '+callbacks.sketch._target_=plainres.instruments.weight_sketch.WeightSketch'

All weights of a network are projected on the same random directions, whatever the run. The
distances of two networks' projections are, in the mean, that of their weights (Johnson &
Lindenstrauss 1984), so two runs can be compared without keeping their weights.
"""

from dataclasses import dataclass

import torch
from torch import nn

from plainres.data.batches import TrainingBatches
from plainres.instruments.snapshots import Snapshots

DIRECTIONS = 32


@dataclass(frozen=True)
class SketchPoint:
    """One row of sketch.csv: the weights after `iteration` updates.

    Args:
        norm: Euclidean norm of all weights.
        projections: DIRECTIONS numbers, separated by spaces: products of the weights with vectors
            of independent standard normal numbers.
        seconds: duration of the snapshot.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    norm: float
    projections: str
    seconds: float | None = None


class WeightSketch(Snapshots):
    """Writes sketch.csv: the projections of all weights.

    Args:
        at: see Snapshots.
    """

    table = "sketch.csv"
    row_type = SketchPoint

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[SketchPoint]:
        generator = torch.Generator().manual_seed(0)
        projections = torch.zeros(DIRECTIONS, dtype=torch.float64)
        square = 0.0
        for parameter in network.parameters():
            weights = parameter.detach().cpu().double().flatten()
            projections += (
                torch.randn(DIRECTIONS, len(weights), generator=generator, dtype=torch.float64)
                @ weights
            )
            square += float(weights @ weights)
        texts = " ".join(f"{value:.12g}" for value in projections.tolist())
        return [SketchPoint(*place, square**0.5, texts)]
