"""The settings of conf/variants/setting.yaml, and option B under the baseline."""

from experiments.grid import Command, Sweep

TAKES = ("variants",)


def commands(sweep: Sweep) -> list[Command]:
    if sweep.variants:
        return [sweep.train(f"setting={sweep.variants}")]
    return [sweep.train(), sweep.train("setting=baseline", "model=projection")]
