"""Two trained networks whose weights are kept, then the loss on planes around them."""

from experiments.grid import Command, Sweep

TAKES = ("protocol", "name", "surface")

SURFACE = "direction_seed=0,1,2 statistics=running,batch"


def commands(sweep: Sweep) -> list[Command]:
    words = [f"protocol={sweep.protocol}", *([f"folder={sweep.name}"] if sweep.name else [])]
    surface = ["-m", "model=plain,residual", *(sweep.surface or SURFACE).split()]
    measure = Command("plainres.instruments.landscape", [*surface, *words, *sweep.shared])
    return [sweep.train(*words), measure]
