"""How soon do residual networks reach a training error?"""

from collections.abc import Sequence
from functools import partial

from experiments.pace.claims import Pace, fastest, label_of, read, records_of, table
from experiments.reporting.question import Drawing, Question


def drawings(paces: Sequence[Pace]) -> list[Drawing]:
    """Training error against time."""
    from experiments.pace.figures import curves_figure

    alt = "running training error against seconds"
    return [Drawing("curves", alt, partial(curves_figure, paces))]


QUESTION = Question(
    slug="pace",
    title="Pace: how soon do residual networks reach a training error?",
    read=read,
    label=label_of,
    records=records_of,
    tables=lambda paces: [fastest(paces), table(paces)],
    drawings=drawings,
    levels=2,
)
