"""The bare loop: everything on the device, nothing recorded. What a machine can do with these networks, and the variants of it."""

from collections.abc import Callable, Iterable
from itertools import cycle

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench.window import LEAST_ITERATIONS, WARM_ITERATIONS, Process, Window
from plainres.data.batches import Batch
from plainres.networks.resnet import CifarNetwork
from plainres.training.machine import peak_memory_mib

SHORTCUT = "zero_pad"
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4  # of every protocol
NUM_BATCHES = 8  # prepared ones, taken in turn


def limit(
    process: Process,
    depth: int,
    width: int,
    image_size: int,
    in_channels: int,
    batch_size: int,
    threads: int,
    seconds: float,
    channels_last: bool = True,
    bf16: bool = False,
    compiled: str | None = None,
    flush_denormals: bool = True,
    foreach: bool = True,
    fused: bool | None = None,
    checkpoint_activations: bool | None = None,
    warm_iterations: int = WARM_ITERATIONS,
    least_iterations: int = LEAST_ITERATIONS,
) -> dict[str, float]:
    """Trains a residual network on prepared batches.

    Args:
        compiled: `network`, `blocks` (each by itself) or None.
        foreach, fused: of torch.optim.SGD; not both. plainres has foreach on a CPU.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flush_denormals)
    network, batches, optimiser = prepare(
        depth,
        width,
        image_size,
        in_channels,
        batch_size,
        channels_last,
        checkpoint_activations,
        foreach,
        fused,
    )
    forward = _in_precision(_compiled(network, compiled), bf16)
    window = Window(process, seconds, warm_iterations, least_iterations)
    train(forward, batches, optimiser, window.iteration_ends)
    return {
        "images_per_second": batch_size / window.seconds_per_iteration,
        "first_iteration_seconds": window.first_iteration_seconds,
        "peak_memory_mib": peak_memory_mib(torch.device("cpu")),
        "multiply_adds": multiply_adds(depth, width, image_size, in_channels, batch_size),
        "bf16": float(bf16),
    }


def prepare(
    depth: int,
    width: int,
    image_size: int,
    in_channels: int,
    batch_size: int,
    channels_last: bool = True,
    checkpoint_activations: bool | None = None,
    foreach: bool = True,
    fused: bool | None = None,
) -> tuple[CifarNetwork, list[Batch], torch.optim.Optimizer]:
    """A residual network, batches of normalised pixels, and the optimiser."""
    torch.manual_seed(0)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    network = CifarNetwork(
        depth,
        SHORTCUT,
        width,
        in_channels=in_channels,
        checkpoint_activations=checkpoint_activations,
    )
    network = network.to(memory_format=memory_format)
    images = torch.randn(NUM_BATCHES, batch_size, in_channels, image_size, image_size)
    batches = [
        Batch(image.contiguous(memory_format=memory_format), torch.randint(0, 10, (batch_size,)))
        for image in images
    ]
    optimiser = torch.optim.SGD(
        network.parameters(),
        LEARNING_RATE,
        MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        foreach=foreach,
        fused=fused,
    )
    return network, batches, optimiser


def train(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    optimiser: torch.optim.Optimizer,
    iteration_ends: Callable[[], bool],
) -> None:
    """Forward, loss, backward, update on the batches in turn, until `iteration_ends` says so."""
    for images, labels in cycle(batches):
        optimiser.zero_grad()
        functional.cross_entropy(forward(images), labels).backward()
        optimiser.step()
        if iteration_ends():
            return


def multiply_adds(
    depth: int, width: int, image_size: int, in_channels: int, batch_size: int
) -> int:
    """Multiply-adds of convolutions and linear layers in one iteration, forward and backward, counted operator by operator."""
    with torch.device("meta"):
        network = CifarNetwork(depth, SHORTCUT, width, in_channels=in_channels)
        images = torch.empty(batch_size, in_channels, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return counter.get_total_flops() // 2


def _compiled(network: CifarNetwork, what: str | None) -> Callable[[Tensor], Tensor]:
    if what == "network":
        return torch.compile(network.forward, dynamic=False)
    if what == "blocks":
        for stage in (network.layer1, network.layer2, network.layer3):
            for block in stage:
                block.compile(dynamic=False)
    return network


def _in_precision(forward: Callable[[Tensor], Tensor], bf16: bool) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            return forward(images).float()  # the loss is taken in float32

    return run
