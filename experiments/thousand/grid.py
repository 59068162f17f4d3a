"""Residual networks of 110 to 1,202 layers beside a plain network, then their memory.

Memory is measured with `quick` alone, the default. Each cell of it is a process of its own, because
the peak is the process's. Without the threshold, glibc keeps what was freed, and its gaps count.
"""

import re
from dataclasses import replace
from itertools import product

from experiments.grid import Command, Sweep
from experiments.thousand.claims import LONG, LONG_DEPTHS, PLAIN, RECOMPUTED, STORED

TAKES = ("protocol",)

MEMORY_DEPTHS, MEMORY_PARTS = "110,302,602,1202", (STORED, RECOMPUTED)
WHERE = re.compile(r"\+*(results_dir|committed_dir|slug|data(\.root)?)=")  # the rest is fixed
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def commands(sweep: Sweep) -> list[Command]:
    scale = f"thousand={sweep.protocol}"
    if sweep.protocol == LONG:
        depths = ",".join(map(str, reversed(LONG_DEPTHS)))
        return [sweep.train(scale, *([] if sweep.depths else [f"model.depth={depths}"]))]
    trained = [sweep.train(scale)]
    if not sweep.depths:
        arm, depth = PLAIN
        trained.append(sweep.train(scale, f"model={arm}", f"model.depth={depth}"))
    if sweep.protocol != "quick":
        return trained
    measured = (sweep.depths or MEMORY_DEPTHS).split(",")
    for seed, layers, part in product(sweep.seeds.split(","), measured, MEMORY_PARTS):
        where = [word for word in sweep.overrides if WHERE.match(word)]
        one = replace(sweep, seeds=seed, depths=layers, overrides=where)
        words = ["+experiment=thousand", f"thousand={part}", *one.shared]
        trained.append(Command("plainres.run.train", words, ENVIRONMENT))
    return trained
