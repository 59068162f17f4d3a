"""How far a gradient in low precision points into the exact direction: a Lightning callback.

    python -m plainres.run.train \
        '+callbacks.cosines._target_=plainres.instruments.gradient_cosines.GradientCosines'

The gradient of the loss is computed four times, each time with a copy of the network: in float64,
which counts as exact, in float32, under bf16 autocast, and in float64 with other images. One
snapshot costs as much as up to ten updates with as many images, most of it for float64.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from plainres.data.batches import Batch, TrainingBatches
from plainres.data.device import fork_generators, memory_format, to_float64
from plainres.instruments.snapshots import Snapshots, finite, fixed_images
from plainres.records.rows import CONTIGUOUS, GradientCosine
from plainres.training.update import logits_of_heads

PRECISIONS = {
    "float64": torch.float64,
    "float32": torch.float32,
    CONTIGUOUS: torch.float32,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
}


class Comparison(NamedTuple):
    """A gradient beside the exact one; see GradientCosine."""

    cosine: float
    error: float


def loss_gradients(network: nn.Module, batch: Batch, precision: str) -> list[Tensor]:
    """The gradient of the loss by each parameter of a network in training mode, in float64.

    The loss is the mean cross-entropy of the main head. The network, its gradients and running
    statistics, and the random generators stay as they are. Dropout, if there is any, drops the same
    units in each precision.

    Args:
        precision: how it is computed: `float64`, or as training does it, `float32`, `bf16` or
            `float16` (without a factor of the loss); `float32_contiguous`: in another layout.
    """
    network, images = in_precision(network, batch.images, precision)
    with fork_generators(batch.images.device):
        logits = logits_of_heads(network, images, PRECISIONS[precision])[0]
        loss = functional.cross_entropy(logits, batch.labels.to(logits.device))
        # Auxiliary heads have no part in this loss
        gradients = torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True)
    return [to_float64(gradient) for gradient in gradients]


def in_precision(network: nn.Module, images: Tensor, precision: str) -> tuple[nn.Module, Tensor]:
    """A copy of a network in training mode, and images, as this precision has them.

    For bf16 and float16 both stay in float32: logits_of_heads casts them.
    """
    assert network.training, "evaluation mode normalises with other statistics"
    assert precision in PRECISIONS
    exact = PRECISIONS[precision] == torch.float64
    network = copy.deepcopy(network)
    if exact:
        images = to_float64(images)
    network = network.to(images.device, torch.float64 if exact else torch.float32)
    if precision == CONTIGUOUS:
        network = network.to(memory_format=torch.contiguous_format)
        images = images.contiguous()
    return network, images


def compare(gradient: Tensor, exact: Tensor) -> Comparison:
    """Cosine and relative error of a gradient; NaN or infinite where one of both is 0.

    Args:
        gradient, exact: float64, of one shape.
    """
    product = (gradient * exact).sum() / (gradient.norm() * exact.norm())
    return Comparison(float(product), float((gradient - exact).norm() / exact.norm()))


def require_library_kernels(network: nn.Module, table: str) -> None:
    """Raises ValueError if a part of a network is compiled or has fused kernels; names `table`."""
    if any(
        module._compiled_call_impl or type(module).__module__.startswith("plainres.training.fused")
        for module in network.modules()
    ):
        raise ValueError(
            f"{table} is for library kernels, and these are compiled or fused; set "
            "kernels=library cuda_graph=false"
        )


class GradientCosines(Snapshots):
    """Writes gradient_cosines.csv: gradients in float32 and bf16 beside the exact ones.

    Both precisions are measured whatever the run trains in.

    Args:
        images, at: see Snapshots.

    Raises:
        ValueError: at the start of training, where kernels are compiled or fused: they round
            differently.
    """

    table = "gradient_cosines.csv"
    row_type = GradientCosine

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[GradientCosine]:
        require_library_kernels(network, self.table)
        twice = fixed_images(stream, 2 * self.images)
        batch, others = (_every_second(twice, first) for first in (0, 1))
        exact = layer_gradients(network, batch, "float64")
        if not exact[0].isfinite().all():
            return []
        columns = [
            [compare(*pair) for pair in zip(gradients, exact, strict=True)]
            for gradients in (
                layer_gradients(network, batch, "float32"),
                layer_gradients(network, batch, "bf16"),
                layer_gradients(network, others, "float64"),
            )
        ]
        return [
            GradientCosine(*place, layer, *map(finite, (*float32, *bf16, other.cosine)))
            for layer, (float32, bf16, other) in enumerate(zip(*columns, strict=True))
        ]


def _every_second(batch: Batch, first: int) -> Batch:
    images = batch.images[first::2]
    images = images.contiguous(memory_format=memory_format(images.device))
    return Batch(images, batch.labels[first::2])


def layer_gradients(network: nn.Module, batch: Batch, precision: str) -> list[Tensor]:
    """Gradients of all parameters together, then of each convolution's weights; flat."""
    gradients = [each.flatten() for each in loss_gradients(network, batch, precision)]
    weights = {id(module.weight) for module in network.modules() if isinstance(module, nn.Conv2d)}
    convolutions = [
        gradient
        for gradient, parameter in zip(gradients, network.parameters(), strict=True)
        if id(parameter) in weights
    ]
    return [torch.cat(gradients), *convolutions]
