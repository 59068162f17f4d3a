"""Looks inside a network while it trains: what flows forward and backward through each layer. A Lightning callback that changes nothing.

    python -m plainres.run.train '+callbacks.probes._target_=plainres.instruments.probes.Probes'

There are few looks: before the first update, after 1, 10, 100, … updates, and at the end. experiments.signal claims, where networks are
trained, that they take less than 2 % of the time. Without the callback nothing is hooked to anything.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from plainres.data.batches import evenly_spaced
from plainres.records import files
from plainres.training.runlog import RunLog
from plainres.training.update import heads

STEP = 0.01  # from one image to the next: so small that a network of 20 layers with shortcuts hardly notices
BESIDE = {
    "downsample",
    "se",
    "aux1",
    "aux2",
    "AuxLogits",
}  # modules of these names are not on the main path


@dataclass
class _Layer:
    """One convolution of the main path in one forward pass."""

    weight: Tensor
    output: GradientEdge  # of the convolution, not its tensor: a ReLU may overwrite that in place
    response: Tensor
    dead: Tensor


@dataclass(frozen=True)
class ProbePoint:
    """One row of probes.csv: what plainres.instruments.probes saw in one layer after `iteration` updates. A value that is not finite is left out.

    Args:
        layer: convolutions of the main path, from 1; 0 is the image.
        response: standard deviation over images, channels and positions of the layer's response, after batch normalisation where there
            is one, before the shortcut's addition and ReLU (the paper's Figure 7).
        weight_gradient: Euclidean norm of the loss's gradient with respect to the layer's weights.
        response_gradient: the same with respect to the convolution's output, over all images; in layer 0 to the images.
        dead: fraction of the channels behind the layer's ReLU that are zero at every position of every image.
        correlation: in layer 0: how alike gradients at neighbouring inputs are (plainres.instruments.probes.neighbours_correlation).
        seconds: in layer 0: what this look cost.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    layer: int
    response: float | None
    weight_gradient: float | None = None
    response_gradient: float | None = None
    dead: float | None = None
    correlation: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Look:
    """What one look at a network saw; the fields of a layer are those of ProbePoint.

    Args:
        layers: (response, weight_gradient, response_gradient, dead) of each convolution of the main path, in the order of the forward pass.
        image_response, image_gradient: the same of the images themselves.
        correlation: `neighbours_correlation` of every second image.
    """

    layers: tuple[tuple[float, float, float, float], ...]
    image_response: float
    image_gradient: float
    correlation: float


def powers_of_ten(iterations: int) -> list[int]:
    """0, 1, 10, 100, … below `iterations`, and `iterations`: few however long the run, and dense where most changes."""
    return [
        0,
        *(10**power for power in range(len(str(iterations - 1))) if 10**power < iterations),
        iterations,
    ]


def mean_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Mean of ⟨g_i, h_i⟩ / (‖g_i‖ ‖h_i‖) over the pairs whose gradients are not zero; a scalar, NaN where there is no such pair.

    Args:
        first, second: gradients g and h, (N, …).
    """
    pairs = [
        gradients.flatten(1).double() for gradients in (first, second)
    ]  # squares of small gradients vanish in float32
    lengths = [gradients.norm(dim=1) for gradients in pairs]
    present = (lengths[0] > 0) & (lengths[1] > 0)
    units = [
        gradients[present] / length[present, None]
        for gradients, length in zip(pairs, lengths, strict=True)
    ]
    return (units[0] * units[1]).sum(1).mean()


def neighbours_correlation(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """How alike a network's gradients are at each image and STEP of the way from it to the next one; a scalar.

    1 where they are the same; about 0 where they have shattered (Balduzzi et al. 2017, arXiv:1702.08591, who take inputs on a line). Of
    the logits' sum and not the loss: that is one function for all images, whatever their labels.

    Args:
        forward: (2N, C, H, W) → logits.
        images: (N, C, H, W).
    """
    inputs = torch.cat([images, images + STEP * (images.roll(1, 0) - images)]).requires_grad_()
    (gradients,) = torch.autograd.grad(forward(inputs).sum(), inputs)
    return mean_correlation(*gradients.chunk(2))


def look(network: nn.Module, images: Tensor, labels: Tensor, double: bool = False) -> Look | None:
    """Looks at a network in training mode and leaves it as it is: weights, their gradients, running statistics, random numbers.

    Precision is float32 whatever the run's. The loss is the mean cross-entropy of the images. Returns None where it is not finite.

    Args:
        images: normalised float32 (N, C, H, W), channels last.
        labels: int64 (N,).
        double: looks at a copy in float64 instead. Without normalisation signals of deep networks leave the range of float32.
    """
    assert network.training, "evaluation mode normalises with other statistics"
    if (
        double
    ):  # a copy, because checkpointed blocks fetch their weights once more in the backward pass
        network, images = copy.deepcopy(network).double(), images.double()
    generators = [images.device] if images.is_cuda else []  # dropout draws from them
    with (
        torch.random.fork_rng(generators),
        torch.compiler.set_stance("force_eager"),
    ):  # compiled code knows no hooks
        return _look(network, images, labels)


def _look(network: nn.Module, images: Tensor, labels: Tensor) -> Look | None:
    layers: list[_Layer] = []
    seen = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    hooks = _watch(network, layers)
    statistics = {
        name: buffer.clone() for name, buffer in network.named_buffers()
    }  # forward passes update these instead

    def forward(images: Tensor) -> Tensor:
        return heads(functional_call(network, statistics, images))[0]

    try:
        loss = functional.cross_entropy(forward(seen), labels)
    finally:
        for hook in hooks:
            hook.remove()
    count = len(layers)
    assert count == sum(type(module) is nn.Conv2d for module in _main_path(network)), (
        "a layer ran without its module"
    )
    if not loss.isfinite():
        return None
    wanted: Any = [*(layer.weight for layer in layers), *(layer.output for layer in layers), seen]
    gradients = torch.autograd.grad(loss, wanted)
    values = torch.stack(
        [
            *(torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients),
            *(layer.response.double() for layer in layers),
            *(layer.dead.double() for layer in layers),
            images.std(correction=0).double(),
            neighbours_correlation(forward, images[::2]),
        ]
    ).tolist()  # one wait for the device
    weights, outputs, (image_gradient, *rest) = (
        values[:count],
        values[count : 2 * count],
        values[2 * count :],
    )
    responses, dead, (image_response, correlation) = (
        rest[:count],
        rest[count : 2 * count],
        rest[2 * count :],
    )
    return Look(
        tuple(zip(responses, weights, outputs, dead, strict=True)),
        image_response,
        image_gradient,
        correlation,
    )


def _watch(network: nn.Module, layers: list[_Layer]) -> list[RemovableHandle]:
    """Hooks that append a layer at each convolution of the main path and complete it at the normalisation and ReLU that follow."""

    def convolution(module: Any, inputs: Any, output: Tensor) -> None:
        nothing = torch.full((), math.nan, device=output.device)
        layers.append(
            _Layer(
                module.weight, get_gradient_edge(output), output.detach().std(correction=0), nothing
            )
        )

    def norm(module: Any, inputs: Any, output: Tensor) -> None:
        layers[-1].response = output.detach().std(correction=0)

    def relu(module: Any, inputs: Any, output: Tensor) -> None:
        if output.ndim == 4:
            layers[-1].dead = (output.detach().amax((0, 2, 3)) == 0).float().mean()

    hooks: dict[type, Callable[[Any, Any, Tensor], None]] = {
        nn.Conv2d: convolution,
        nn.BatchNorm2d: norm,
        nn.ReLU: relu,
    }
    return [
        module.register_forward_hook(hooks[type(module)])
        for module in _main_path(network)
        if type(module) in hooks
    ]


def _main_path(network: nn.Module) -> list[nn.Module]:
    return [module for name, module in network.named_modules() if not BESIDE & set(name.split("."))]


class Probes(pl.Callback):
    """Looks at the network while it trains and leaves probes.csv in the cell's folder when training ends.

    The images are the same at every look and for every network: training images, spread evenly over the set, without augmentation.
    Where iterations run in chunks (on a GPU), a look comes after the chunk in which its iteration lies; its row says which that was.

    Args:
        images: how many.
        at: numbers of updates after which to look; None: `powers_of_ten`.
        double: look in float64, which takes several times as long.

    Raises:
        ValueError: fewer than two images, or a negative number of updates.
    """

    def __init__(self, images: int = 64, at: Sequence[int] | None = None, double: bool = False):
        if images < 2:
            raise ValueError(f"images {images} is below 2: the way to the next image would be none")
        if at is not None and min(at, default=-1) < 0:
            raise ValueError(f"at {list(at)} is no list of numbers of updates, from 0")
        self.images = images
        self.at = at
        self.double = double
        self.points: list[ProbePoint] = []
        self._looked_until = -1

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": [asdict(point) for point in self.points],
            "looked_until": self._looked_until,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [ProbePoint(**point) for point in state_dict["points"]]
        self._looked_until = state_dict["looked_until"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._look_if_due(
            trainer, pl_module
        )  # also after a checkpoint that was taken just before a look

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._look_if_due(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        files.write_table(Path(trainer.default_root_dir) / "probes.csv", self.points, ProbePoint)

    def _look_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        run = next(callback for callback in trainer.callbacks if isinstance(callback, RunLog))  # type: ignore[attr-defined]
        step = pl_module.iteration
        due = any(
            self._looked_until < wanted <= step
            for wanted in self.at or powers_of_ten(run.iterations)
        )
        self._looked_until = step
        if not due:
            return
        stream: Any = trainer.train_dataloader
        if stream.images.is_cuda:
            torch.cuda.synchronize()  # what the device still has to do is not the look's
        start = time.perf_counter()
        chosen = evenly_spaced(len(stream.images), self.images)
        images = stream.normaliser(stream.images[chosen].float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        found = look(pl_module.network, images, stream.labels[chosen], self.double)
        if found is None:
            return
        where = (run.arm, run.depth, run.seed, step)
        for number, layer in enumerate(found.layers, 1):
            self.points.append(ProbePoint(*where, number, *map(_finite, layer)))
        seconds = time.perf_counter() - start
        image = (
            _finite(found.image_response),
            None,
            _finite(found.image_gradient),
            None,
            _finite(found.correlation),
            seconds,
        )
        self.points.insert(len(self.points) - len(found.layers), ProbePoint(*where, 0, *image))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
