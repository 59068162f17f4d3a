"""The untreated networks, then the remedies of conf/variants/rescue.yaml, under one protocol."""

from dataclasses import replace

from experiments.grid import Command, Sweep

TAKES = ("protocol", "variants")

PROTOCOLS = ("quick", "cpu")  # conf/variants/rescue.yaml has the remedies' numbers of these
DEPTH = "110"  # of the networks that remedies are tried on


def commands(sweep: Sweep) -> list[Command]:
    """The untreated networks are cells of the depth experiment.

    So they are trained where this machine has not yet measured them, and only there.

    Raises:
        ValueError: another protocol or depth; names the legal ones.
    """
    if sweep.protocol not in PROTOCOLS:
        legal = ", ".join(PROTOCOLS)
        raise ValueError(f"remedies have no values for PROTOCOL={sweep.protocol}; legal: {legal}")
    if sweep.depths not in (None, DEPTH):
        raise ValueError(f"DEPTHS={sweep.depths}: remedies are tried on {DEPTH} layers")
    words = [f"protocol={sweep.protocol}"]
    deep, shallow = (replace(sweep, slug="depth", depths=depths) for depths in (DEPTH, "20"))
    rescue = [f"rescue={sweep.variants}"] if sweep.variants else []
    return [
        deep.train(*words, "model=plain,residual"),
        shallow.train(*words, "model=plain"),
        sweep.train(*words, *rescue),
    ]
