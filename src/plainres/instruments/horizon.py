"""Up to which depth does low precision know the direction of the gradient? A Lightning callback.

    python -m plainres.run.train \
        '+callbacks.horizon._target_=plainres.instruments.horizon.Horizon'

The gradient of the loss is computed in float32, bf16 and float16, and in float64, which counts as
exact.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plainres.data.batches import TrainingBatches
from plainres.data.device import fork_generators, to_float64
from plainres.instruments.gradient_cosines import (
    PRECISIONS,
    compare,
    in_precision,
    layer_gradients,
    require_library_kernels,
)
from plainres.instruments.snapshots import Snapshots, finite, fixed_images
from plainres.records.rows import HorizonPoint
from plainres.training.update import logits_of_heads

EXACT = "float64"


class Horizon(Snapshots):
    """Writes horizon.csv: the direction of gradients in each precision, whatever the run trains in.

    Args:
        precisions: keys of gradient_cosines.PRECISIONS beside float64.
        options: see Snapshots.

    Raises:
        ValueError: an unknown precision; at the start of training, where kernels are compiled or
            fused: they round differently.
    """

    table = "horizon.csv"
    row_type = HorizonPoint

    def __init__(self, precisions: Sequence[str] = ("float32", "bf16", "float16"), **options: Any):
        super().__init__(**options)
        legal = [name for name in PRECISIONS if name != EXACT]
        if unknown := [name for name in precisions if name not in legal]:
            raise ValueError(f"precisions {unknown} are unknown; legal: {', '.join(legal)}")
        self.precisions = precisions

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[HorizonPoint]:
        require_library_kernels(network, self.table)
        batch = fixed_images(stream, self.images)
        exact = layer_gradients(network, batch, EXACT)
        if not exact[0].isfinite().all():
            return []
        normalised = first_normalised(network, batch.images, EXACT)
        points = []
        for precision in self.precisions:
            gradients = layer_gradients(network, batch, precision)
            cosines = [
                finite(compare(*pair).cosine) or 0.0 for pair in zip(gradients, exact, strict=True)
            ]
            output = first_normalised(network, batch.images, precision)
            error = finite(compare(output, normalised).error)
            median = statistics.median(cosines[1:])
            points.append(HorizonPoint(*place, precision, cosines[0], median, error))
        return points


def first_normalised(network: nn.Module, images: Tensor, precision: str) -> Tensor:
    """The output of the first batch normalisation, in float64; empty without one."""
    network, images = in_precision(network, images, precision)
    outputs: list[Tensor] = []
    first = next((each for each in network.modules() if isinstance(each, nn.BatchNorm2d)), None)
    if first is None:
        return torch.empty(0)
    # A copy: an activation may overwrite it
    first.register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))
    with fork_generators(images.device), torch.no_grad():
        logits_of_heads(network, images, PRECISIONS[precision])
    return to_float64(outputs[0])
