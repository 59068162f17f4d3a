"""Up to which depth does low precision know the direction of the gradient? A Lightning callback.

    python -m plainres.run.train \
        '+callbacks.horizon._target_=plainres.instruments.horizon.Horizon'

The gradient of the loss is computed in float32, bf16 and float16, and in float64, which counts as
exact.
"""

import statistics
from dataclasses import dataclass

import torch
from torch import nn

from plainres.data.batches import TrainingBatches
from plainres.instruments.gradient_cosines import (
    PRECISIONS,
    compare,
    layer_gradients,
    require_library_kernels,
)
from plainres.instruments.snapshots import Snapshots, finite, fixed_images


@dataclass(frozen=True)
class HorizonPoint:
    """One row of horizon.csv: a network's gradient in one precision after `iteration` updates.

    A cosine is that of the angle between a gradient and the exact one: 1 into the exact direction,
    0 at a right angle to it. A gradient that is 0 or not finite points nowhere: 0.

    Args:
        precision: a key of gradient_cosines.PRECISIONS.
        cosine: of all parameters together. Where gradients grow towards the input, the first layers
            decide it.
        median_cosine: median over the convolutions of the cosine of a layer's weights.
        seconds: in the first row: duration of the snapshot.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    precision: str
    cosine: float
    median_cosine: float
    seconds: float | None = None


class Horizon(Snapshots):
    """Writes horizon.csv: the direction of gradients in each precision, whatever the run trains in.

    Args:
        images, at: see Snapshots.

    Raises:
        ValueError: at the start of training, where kernels are compiled or fused: they round
            differently.
    """

    table = "horizon.csv"
    row_type = HorizonPoint

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[HorizonPoint]:
        require_library_kernels(network, self.table)
        batch = fixed_images(stream, self.images)
        exact = layer_gradients(network, batch, "float64")
        if not exact[0].isfinite().all():
            return []
        points = []
        for precision, dtype in PRECISIONS.items():
            if dtype == torch.float64:
                continue
            gradients = layer_gradients(network, batch, precision)
            cosines = [
                finite(compare(*pair).cosine) or 0.0 for pair in zip(gradients, exact, strict=True)
            ]
            points.append(
                HorizonPoint(*place, precision, cosines[0], statistics.median(cosines[1:]))
            )
        return points
