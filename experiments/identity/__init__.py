"""Do extra blocks do no harm?"""

from functools import partial

from experiments.identity.claims import IdentityRuns, check, label_of, read, tables
from experiments.reporting.question import Drawing, Question
from plainres.records.files import RUNS_TABLE


def drawings(runs: IdentityRuns) -> list[Drawing]:
    """The children's errors, and the branches of fresh blocks, where there are any."""
    from experiments.identity.figures import branches_figure, children_figure

    figures = []
    if runs.children:
        alt = "training error of children minus their parent's, against inserted blocks"
        figures.append(Drawing("children", alt, partial(children_figure, runs)))
    if runs.measured_decays:
        alt = "size of residual branches during training, by weight decay"
        figures.append(Drawing("branches", alt, partial(branches_figure, runs)))
    return figures


QUESTION = Question(
    slug="identity",
    title="Blocks inserted into trained networks: do extra blocks do no harm?",
    read=read,
    label=label_of,
    records=lambda runs: runs.records,
    claims=check,
    tables=tables,
    drawings=drawings,
    where=f"*/*/{RUNS_TABLE}",
    levels=2,
)
