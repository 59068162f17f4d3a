"""The first losses on one device in one precision: do the ways of a GPU compute the same?"""

from typing import Any

import torch

from experiments.bench.loops import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY
from experiments.bench.window import Process
from plainres.data.batches import Augmentation, Normaliser, TrainingBatches
from plainres.networks.resnet import CifarNetwork
from plainres.training.machine import Kernels, use_kernels
from plainres.training.module import Classifier

BATCH_SIZE, NUM_IMAGES, NUM_CLASSES = 128, 1280, 10


def losses(
    process: Process,
    shortcut: str,
    depth: int,
    device: str,
    iterations: int,
    bf16: bool = False,
    tf32: bool = False,
    graph: bool = False,
    kernels: Kernels = "library",
    threads: int = 1,
) -> dict[str, float]:
    """Loss of each iteration, in nats per image.

    Random pixels and labels; the paper's shapes, batches and augmentation; the update of plainres.

    Args:
        tf32: convolutions may round float32 to 10 bits, the default of torch on a GPU.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (NUM_IMAGES, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, NUM_CLASSES, (NUM_IMAGES,))
    network = CifarNetwork(depth, shortcut).to(memory_format=torch.channels_last).to(device)
    pixels, labels = pixels.to(device), labels.to(device)
    stream = TrainingBatches(
        pixels,
        labels,
        Normaliser(pixels, "pixel_mean"),
        Augmentation(padding=4, mirror=True),
        BATCH_SIZE,
        seed=0,
        stop=iterations,
        updates_per_step=iterations,
    )
    use_kernels(network, kernels)
    module: Any = Classifier(
        network,
        stream.make_batch,
        lambda iteration: LEARNING_RATE,
        MOMENTUM,
        WEIGHT_DECAY,
        window=iterations,
        graph=graph,
        bf16=bf16,
    ).to(device)
    optimiser = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer=True: optimiser
    for number, step in enumerate(stream):
        draws = {name: each.to(device) for name, each in step.draws.items()}
        module.training_step(step._replace(draws=draws), number)
    values = module.window_losses.tolist()
    return {f"loss {step}": loss for step, loss in enumerate(values, start=1)}
