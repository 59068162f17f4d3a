"""Parents first, then what continues them: themselves, children with more blocks, weight decay."""

from experiments.grid import Command, Sweep, literal

TAKES = ("protocol", "name")

GENERATIONS = ("parent", "trained_on", "child", "decay")


def commands(sweep: Sweep) -> list[Command]:
    words = [
        f"scale={sweep.protocol}",
        *([f"vars.scale={literal(sweep.name)}"] if sweep.name else []),
    ]
    return [sweep.train(*words, f"generation={generation}") for generation in GENERATIONS]
