"""Why does plain-110 fail, and which remedy helps, at what cost?"""

from functools import partial

from experiments.autopsy.claims import (
    DEPTH,
    ProtocolRuns,
    check,
    label_of,
    read,
    records_of,
    tables,
)
from experiments.reporting.question import Drawing, Question


def drawings(runs: ProtocolRuns) -> list[Drawing]:
    """Two figures where remedies were tried, and one of all depths."""
    from experiments.autopsy import figures

    shown = []
    if runs.remedies:
        shown += [
            ("errors", "errors by remedy", figures.errors_figure),
            ("curves", "training error against images seen", figures.curves_figure),
        ]
    loss = "training loss of plain networks by depth"
    shown.append(("convergence", loss, figures.convergence_figure))
    return [Drawing(f"{runs.protocol}_{n}", alt, partial(draw, runs)) for n, alt, draw in shown]


QUESTION = Question(
    slug="autopsy",
    title=f"Why does plain-{DEPTH} fail, and which remedy helps, at what cost?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=tables,
    drawings=drawings,
    levels=2,
    options=("protocol",),
)
