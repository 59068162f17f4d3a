"""Two trained networks whose weights are kept, then the loss on planes around them."""

from experiments.grid import Command, Sweep, words_of

TAKES = ("protocol", "name", "surface")

SURFACE = "direction_seed=0,1,2 statistics=running,batch"


def commands(sweep: Sweep) -> list[Command]:
    words = [f"protocol={sweep.protocol}", *sweep.folder]
    surface = words_of("surface", sweep.surface or SURFACE)
    surface = ["-m", "model=plain,residual", *surface]
    measure = Command("plainres.instruments.landscape", [*surface, *words, *sweep.shared])
    return [sweep.train(*words), measure]
