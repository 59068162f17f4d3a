"""The scales of conf/variants/signal.yaml; each is a sweep over arms, depths and normalisation."""

from experiments.grid import Command, Sweep

TAKES = ("variants",)

SCALES = "start,start32,start32_pytorch,quick"


def commands(sweep: Sweep) -> list[Command]:
    scales = (sweep.variants or SCALES).split(",")
    return [sweep.train(f"signal={scale}") for scale in scales]
