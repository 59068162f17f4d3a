"""Responses and gradients of each layer of a network in training: a Lightning callback.

    python -m plainres.run.train '+callbacks.probes._target_=plainres.instruments.probes.Probes'

Probes are few: before the first update, after 1, 10, 100, … updates, and at the end. They change
nothing of the run; experiments/signal judges whether they take less than 2 % of its time.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from plainres.data.batches import TrainingBatches
from plainres.data.device import fork_generators, to_float64, with_float64
from plainres.instruments.snapshots import Snapshots, finite, fixed_images
from plainres.networks.activations import Rectifier
from plainres.records import tags
from plainres.records.rows import ProbePoint
from plainres.training.update import heads

# Distance to a neighbouring input, as a fraction of the way to the next image: so small that
# gradients of a network of 20 layers with shortcuts hardly change
NEIGHBOUR_DISTANCE = 0.01
# Modules of these names are not on the main path
SIDE_MODULES = {"downsample", "se", "aux1", "aux2", "AuxLogits"}


class LayerSignals(NamedTuple):
    """Values of one layer; see ProbePoint."""

    response: float
    weight_gradient: float
    response_gradient: float
    dead: float
    passed: float


@dataclass(frozen=True)
class Signals:
    """The values of one probe.

    Args:
        layers: of the convolutions of the main path, in the order of the forward pass.
        image_response, image_gradient: response and response_gradient of the images.
        correlation: `neighbours_correlation` of every second image.
    """

    layers: tuple[LayerSignals, ...]
    image_response: float
    image_gradient: float
    correlation: float


def mean_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Mean of ⟨g_i, h_i⟩ / (‖g_i‖ ‖h_i‖) over the pairs of gradients that are not zero.

    A scalar, NaN where there is no such pair.

    Args:
        first, second: gradients g and h, (N, …).
    """
    # In float64, because squares of small gradients vanish in float32
    pairs = [to_float64(gradients.flatten(1)) for gradients in (first, second)]
    lengths = [gradients.norm(dim=1) for gradients in pairs]
    present = (lengths[0] > 0) & (lengths[1] > 0)
    units = [
        gradients[present] / length[present, None]
        for gradients, length in zip(pairs, lengths, strict=True)
    ]
    return (units[0] * units[1]).sum(1).mean()


def neighbours_correlation(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Correlation of a network's gradients at neighbouring inputs, a scalar.

    A neighbour lies NEIGHBOUR_DISTANCE of the way from an image to the next one. 1: the gradients
    are the same; about 0: they have shattered (Balduzzi et al. 2017, arXiv:1702.08591, who take
    inputs on a line). The gradients are of the sum of the logits, not of the loss: the sum is one
    function for all images, whatever their labels.

    Args:
        forward: (2N, C, H, W) → logits.
        images: (N, C, H, W).
    """
    neighbours = images + NEIGHBOUR_DISTANCE * (images.roll(1, 0) - images)
    inputs = torch.cat([images, neighbours]).requires_grad_()
    (gradients,) = torch.autograd.grad(forward(inputs).sum(), inputs)
    return mean_correlation(*gradients.chunk(2))


def probe(
    network: nn.Module, images: Tensor, labels: Tensor, double: bool = False
) -> Signals | None:
    """Signals of a network in training mode; None where its loss is not finite.

    The loss is the mean cross-entropy of the images. The network, its gradients and running
    statistics, and the random generators stay as they are.

    Args:
        images: normalised float32 (N, C, H, W), channels last.
        labels: int64 (N,).
        double: probes a copy in float64, else in the precision of training. Without normalisation,
            signals of deep networks leave the range of float32.
    """
    assert network.training, "evaluation mode normalises with other statistics"
    if double or next(network.parameters()).dtype == torch.float64:
        # A copy: checkpointed blocks read their weights again in the backward pass
        device = with_float64(images.device)
        network = copy.deepcopy(network).to(device, torch.float64)
        images, labels = to_float64(images), labels.to(device)
    # Dropout draws random numbers; compiled code runs no hooks
    with fork_generators(images.device), torch.compiler.set_stance("force_eager"):
        return _probe(network, images, labels)


@dataclass
class _Layer:
    """One convolution of the main path in one forward pass."""

    weight: Tensor
    output: GradientEdge  # not the tensor: a ReLU may overwrite it in place
    response: Tensor
    dead: Tensor
    passed: Tensor


def _probe(network: nn.Module, images: Tensor, labels: Tensor) -> Signals | None:
    layers: list[_Layer] = []
    inputs = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    hooks = _add_hooks(network, layers)
    # Forward passes update these copies instead
    statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def forward(images: Tensor) -> Tensor:
        return heads(functional_call(network, statistics, images))[0]

    try:
        loss = functional.cross_entropy(forward(inputs), labels)
    finally:
        for hook in hooks:
            hook.remove()
    count = len(layers)
    assert count == sum(isinstance(module, nn.Conv2d) for module in _main_path(network)), (
        "a layer ran without its module"
    )
    if not loss.isfinite():
        return None
    variables: Any = [*(each.weight for each in layers), *(each.output for each in layers), inputs]
    gradients = torch.autograd.grad(loss, variables)
    device = with_float64(images.device)
    values = torch.stack(
        [
            *(to_float64(each.response) for each in layers),
            *(torch.linalg.vector_norm(each.to(device), dtype=torch.float64) for each in gradients),
            *(to_float64(each.dead) for each in layers),
            *(to_float64(each.passed) for each in layers),
            to_float64(images.std(correction=0)),
            neighbours_correlation(forward, images[::2]),
        ]
    ).tolist()  # the only wait for the device
    responses, weights, outputs = (values[i * count : (i + 1) * count] for i in range(3))
    image_gradient, *behind, image_response, correlation = values[3 * count :]
    signals = zip(responses, weights, outputs, behind[:count], behind[count:], strict=True)
    return Signals(
        tuple(LayerSignals(*each) for each in signals), image_response, image_gradient, correlation
    )


def _add_hooks(network: nn.Module, layers: list[_Layer]) -> list[RemovableHandle]:
    """Hooks of the main path; a convolution appends a layer, its norm and a ReLU complete it.

    A norm that follows an addition, as in pre-activation networks, is of no convolution.
    """

    def convolution(module: Any, inputs: Any, output: Tensor) -> None:
        unknown = torch.full((), math.nan, device=output.device)  # until a ReLU follows
        response = output.detach().std(correction=0)
        edge = get_gradient_edge(output)
        layers.append(_Layer(module.weight, edge, response, unknown, unknown))

    def norm(module: Any, inputs: Any, output: Tensor) -> None:
        if get_gradient_edge(inputs[0]).node is layers[-1].output.node:
            layers[-1].response = output.detach().std(correction=0)

    def relu(module: Any, inputs: Any, output: Tensor) -> None:
        if output.ndim == 4:
            layers[-1].dead = (output.detach().amax((0, 2, 3)) == 0).float().mean()
            layers[-1].passed = output.detach().var((0, 2, 3), correction=0).mean().sqrt()

    hooks: dict[type, Callable[[Any, Any, Tensor], None]] = {
        nn.Conv2d: convolution,
        nn.BatchNorm2d: norm,
        nn.ReLU: relu,
        Rectifier: relu,
    }
    return [
        module.register_forward_hook(hook)
        for module in _main_path(network)
        for kind, hook in hooks.items()
        if isinstance(module, kind)
    ]


def _main_path(network: nn.Module) -> list[nn.Module]:
    return [
        module
        for name, module in network.named_modules()
        if not SIDE_MODULES & set(name.split("."))
    ]


class Probes(Snapshots):
    """Probes the network during training; writes probes.csv into the cell's folder at the end.

    Args:
        images, at: see Snapshots.
        double: probe in float64, which takes several times as long.
    """

    table = "probes.csv"
    row_type = ProbePoint

    def __init__(self, images: int = 64, at: Sequence[int] | None = None, double: bool = False):
        super().__init__(images, at)
        self.double = double

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[ProbePoint]:
        signals = probe(network, *fixed_images(stream, self.images), self.double)
        if signals is None:
            return []
        image = ProbePoint(
            *place,
            layer=0,
            response=finite(signals.image_response),
            response_gradient=finite(signals.image_gradient),
            correlation=finite(signals.correlation),
        )
        layers = [
            replace(
                ProbePoint(*place, number, *map(finite, layer[:-1])), passed=finite(layer.passed)
            )
            for number, layer in enumerate(signals.layers, 1)
        ]
        return [image, *layers]

    def show(self, logger: TensorBoardLogger, points: Sequence[ProbePoint]) -> None:
        for (iteration, tag), values in tags.distributions(points).items():
            logger.experiment.add_histogram(tag, torch.tensor(values), iteration)
