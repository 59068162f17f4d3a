"""The remedies of conf/variants/rescue.yaml, one at a time, under one protocol."""

from experiments.grid import Command, Sweep

TAKES = ("protocol", "variants")


def commands(sweep: Sweep) -> list[Command]:
    words = [f"protocol={sweep.protocol}"]
    return [sweep.train(*words, *([f"rescue={sweep.variants}"] if sweep.variants else []))]
