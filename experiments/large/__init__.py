"""Do the large networks train at their own size?"""

from functools import partial

from experiments.large.claims import Runs, check, label_of, read, records_of, table
from experiments.reporting.question import Drawing, Question


def drawings(runs: Runs) -> list[Drawing]:
    """The losses against iteration."""
    from experiments.large.figures import losses_figure

    return [Drawing("losses", "loss against iteration", partial(losses_figure, runs))]


QUESTION = Question(
    slug="large",
    title="Large networks: do they train at their own size?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=lambda runs: [table(runs)],
    drawings=drawings,
    levels=2,
)
