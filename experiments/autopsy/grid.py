"""The untreated networks, then the remedies of conf/variants/rescue.yaml, under one protocol."""

from dataclasses import replace

from experiments.grid import Command, Sweep

TAKES = ("protocol", "variants")


def commands(sweep: Sweep) -> list[Command]:
    """The untreated networks are cells of the depth experiment.

    So they are trained where this machine has not yet measured them, and only there.
    """
    words = [f"protocol={sweep.protocol}"]
    deep, shallow = (
        replace(sweep, slug="depth", depths=depths) for depths in (sweep.depths or "110", "20")
    )
    rescue = [f"rescue={sweep.variants}"] if sweep.variants else []
    return [
        deep.train(*words, "model=plain,residual"),
        shallow.train(*words, "model=plain"),
        sweep.train(*words, *rescue),
    ]
