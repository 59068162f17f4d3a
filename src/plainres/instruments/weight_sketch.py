"""A few numbers that tell how far the weights of two runs are apart: a Lightning callback.

    python -m plainres.run.train \
        '+callbacks.sketch._target_=plainres.instruments.weight_sketch.WeightSketch'

All weights of a network are projected on the same random directions, whatever the run. The root
mean square of the differences of two networks' projections is, in the mean, the distance of their
weights (Johnson & Lindenstrauss 1984), so two runs can be compared without keeping these.
"""

import math

import torch
from torch import nn

from plainres.data.batches import TrainingBatches
from plainres.instruments.snapshots import Snapshots
from plainres.records.rows import SketchPoint

DIRECTIONS = 32


class WeightSketch(Snapshots):
    """Writes sketch.csv: the projections of all weights, while these are finite.

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
        if not math.isfinite(square):
            return []
        texts = " ".join(f"{value:.12g}" for value in projections.tolist())
        return [SketchPoint(*place, square**0.5, texts)]
