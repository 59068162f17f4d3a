"""The networks of conf/variants/network.yaml; or, with VARIANTS=rates, their learning rates."""

from dataclasses import replace

from experiments.grid import Command, Sweep

TAKES = ("variants",)

RATES = "rates"
CHOICE_SEED = "100"  # as in conf/variants/stage.yaml


def commands(sweep: Sweep) -> list[Command]:
    if sweep.variants == RATES:
        seeds = CHOICE_SEED if sweep.seeds == Sweep.seeds else sweep.seeds
        return [replace(sweep, seeds=seeds).train(f"stage={RATES}")]
    return [sweep.train(*([f"network={sweep.variants}"] if sweep.variants else []))]
