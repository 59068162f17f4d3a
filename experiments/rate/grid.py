"""One setting, and one factor varied at a time; each factor is a sweep."""

from experiments.grid import Command, Sweep

TAKES = ("variants",)

ACTIVATIONS = "relu,leaky_25,leaky_50,leaky_75,linear,shifted_50,shifted_100,shifted_200"
PADDINGS = "model.padding=circular,zeros"
FACTORS = {
    "activation": (f"activation={ACTIVATIONS}", PADDINGS),
    "width": ("protocol.width=4,32", "activation=relu,leaky_50"),
    "batch": ("protocol.batch_size=32,256", PADDINGS),
    "image": ("data.image_size=4,8,32", PADDINGS),
    "depth": ("model.depth=110,56,32,20,14,8", "model=plain,residual"),
}


def commands(sweep: Sweep) -> list[Command]:
    """The sweeps of the factors.

    Raises:
        ValueError: no such factor; names the legal ones.
    """
    names = sweep.variants.split(",") if sweep.variants else list(FACTORS)
    if unknown := [name for name in names if name not in FACTORS]:
        raise ValueError(f"no factor {unknown[0]!r}; choose {', '.join(FACTORS)}")
    return [sweep.train(*FACTORS[name]) for name in names]
