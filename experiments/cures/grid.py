"""The networks of conf/variants/cure.yaml, plain-20 beside them; two of them far deeper."""

from experiments.cures.claims import CURES, DEEP
from experiments.grid import Command, Sweep

TAKES = ("protocol", "variants")


def commands(sweep: Sweep) -> list[Command]:
    usual = sweep.protocol == Sweep.protocol
    all_names = [*CURES, *(DEEP if usual and not sweep.depths else ())]
    names = sweep.variants.split(",") if sweep.variants else all_names
    deep = [name for name in names if name in DEEP]
    if deep and not usual:
        raise ValueError(f"{deep[0]} takes no PROTOCOL={sweep.protocol}; legal: {Sweep.protocol}")
    others = [name for name in names if name not in DEEP]
    made = []
    if others:
        words = (f"protocol={sweep.protocol}", f"cure={','.join(others)}")
        made.append(sweep.train(*words))
        if "untreated" in others and not sweep.depths:
            made.append(sweep.train(f"protocol={sweep.protocol}", "model.depth=20"))
    if deep:
        made.append(sweep.train("model.depth=1202,602,302", f"cure={','.join(deep)}"))
    return made
