"""The networks of conf/variants/network.yaml; or, with VARIANTS=rates, their learning rates."""

from dataclasses import replace

from experiments.grid import Command, Sweep

TAKES = ("variants",)

RATES = "rates"
CHOICE_SEED = "100"  # as in conf/variants/stage.yaml


def commands(sweep: Sweep) -> list[Command]:
    if sweep.variants == RATES:
        if sweep.seeds not in (Sweep.seeds, CHOICE_SEED):
            raise ValueError(f"SEEDS={sweep.seeds}: rates are chosen on one seed, {CHOICE_SEED}")
        return [replace(sweep, seeds=CHOICE_SEED).train(f"stage={RATES}")]
    return [sweep.train(*([f"network={sweep.variants}"] if sweep.variants else []))]
