"""The scales of conf/variants/precision.yaml; each is a sweep over arms and depths."""

from experiments.grid import Command, Sweep

TAKES = ("variants",)

SCALES = "start,quick"  # start_cifar needs a download


def commands(sweep: Sweep) -> list[Command]:
    scales = (sweep.variants or SCALES).split(",")
    return [sweep.train(f"precision={scale}") for scale in scales]
