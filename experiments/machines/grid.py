"""Plain and residual networks of 56 layers and plain-20, each exact and perturbed."""

from experiments.grid import Command, Sweep

TAKES = ("protocol", "arms")


def commands(sweep: Sweep) -> list[Command]:
    words = [f"protocol={sweep.protocol}"]
    if sweep.arms:
        words.append(f"model={sweep.arms}")
    if sweep.arms or sweep.depths:
        return [sweep.train(*words)]
    return [sweep.train(*words), sweep.train(*words, "model=plain", "model.depth=20")]
