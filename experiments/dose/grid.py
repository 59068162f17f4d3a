"""The activations of conf/variants/activation.yaml, in both arms."""

from experiments.grid import Command, Sweep

TAKES = ("protocol", "arms", "variants")


def commands(sweep: Sweep) -> list[Command]:
    words = [f"protocol={sweep.protocol}"]
    words += [f"activation={sweep.variants}"] if sweep.variants else []
    words += [f"model={sweep.arms}"] if sweep.arms else []
    return [sweep.train(*words)]
