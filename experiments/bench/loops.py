"""The bare loop: everything is on the device and nothing is recorded. An upper limit of speed."""

from collections.abc import Callable, Iterable
from itertools import cycle

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench.parts import Shape
from experiments.bench.window import Process, Window
from plainres.data.batches import Batch
from plainres.networks.resnet import CifarNetwork
from plainres.training.machine import peak_memory_mib

SHORTCUT = "zero_pad"
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4  # of every protocol
NUM_BATCHES = 8  # prepared ones, taken in turn


def bare_loop(
    process: Process,
    shape: dict[str, int],
    seconds: float,
    bf16: bool = False,
    checkpoint_activations: bool = False,
) -> dict[str, float]:
    """Trains a residual network on prepared batches of normalised pixels.

    Args:
        shape: the fields of a Shape.
    """
    one = Shape(**shape)
    torch.set_num_threads(process.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    network = _network(one, checkpoint_activations).to(memory_format=torch.channels_last)
    batches = []
    for images in torch.randn(NUM_BATCHES, *one.images):
        labels = torch.randint(0, 10, (one.batch_size,))
        batches.append(Batch(images.contiguous(memory_format=torch.channels_last), labels))
    optimiser = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, foreach=True
    )

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            return network(images).float()  # the loss is taken in float32

    window = Window(process, seconds)
    train(forward, batches, optimiser, window.iteration_ends)
    return {
        "images_per_second": one.batch_size / window.seconds_per_iteration,
        "first_iteration_seconds": window.first_iteration_seconds,
        "peak_memory_mib": peak_memory_mib(torch.device("cpu")),
        "multiply_adds": multiply_adds(one),
        "bf16": float(bf16),
    }


def train(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    optimiser: torch.optim.Optimizer,
    iteration_ends: Callable[[], bool],
) -> None:
    """Trains on the batches in turn, until `iteration_ends` returns True."""
    for images, labels in cycle(batches):
        optimiser.zero_grad()
        functional.cross_entropy(forward(images), labels).backward()
        optimiser.step()
        if iteration_ends():
            return


def multiply_adds(shape: Shape) -> int:
    """Of convolutions and linear layers in one iteration, forward and backward."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        _network(shape)(torch.empty(shape.images)).sum().backward()
    return counter.get_total_flops() // 2


def _network(shape: Shape, checkpoint_activations: bool = False) -> CifarNetwork:
    return CifarNetwork(
        shape.depth,
        SHORTCUT,
        shape.width,
        in_channels=shape.in_channels,
        checkpoint_activations=checkpoint_activations,
    )
