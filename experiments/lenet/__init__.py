"""How well does LeNet-5 do today?"""

from functools import partial

from experiments.lenet.claims import Runs, check, label_of, read, records_of, table
from experiments.reporting.question import Drawing, Question


def drawings(runs: Runs) -> list[Drawing]:
    """The errors against iteration."""
    from experiments.lenet.figures import curves_figure

    return [Drawing("curves", "error against iteration", partial(curves_figure, runs))]


QUESTION = Question(
    slug="lenet",
    title="LeNet-5: how well does it do today?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=lambda runs: [table(runs)],
    drawings=drawings,
    levels=2,
)
