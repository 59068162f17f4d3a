"""The networks of conf/variants/network.yaml."""

from experiments.grid import Command, Sweep

TAKES = ("variants",)


def commands(sweep: Sweep) -> list[Command]:
    return [sweep.train(*([f"network={sweep.variants}"] if sweep.variants else []))]
