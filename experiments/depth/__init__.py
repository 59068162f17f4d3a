"""Does training error rise with depth in plain networks, and fall with shortcuts? Section 4.2."""

from functools import partial

from experiments.depth.claims import DepthRuns, check, label_of, notes, published_for, read, tables
from experiments.reporting.question import Drawing, Question
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint


def drawings(runs: DepthRuns) -> list[Drawing]:
    """Error against depth, and against iteration as the paper's Figure 6."""
    from experiments.depth.figures import curves_figure, depth_figure

    records = runs.records
    by_depth = partial(depth_figure, records, published_for(records))
    by_iteration: list[CurvePoint] = read_curves(runs.folder)
    return [
        Drawing("error_by_depth", "error against depth", by_depth),
        Drawing("curves", "error against iteration", partial(curves_figure, records, by_iteration)),
    ]


QUESTION = Question(
    slug="depth",
    title="Depth: does training error rise with depth, and do shortcuts cure it?",
    read=read,
    label=label_of,
    records=lambda runs: runs.records,
    claims=lambda runs: check(runs.judged, runs.margin),
    tables=tables,
    drawings=drawings,
    notes=notes,
    options=("depths", "seeds", "margin"),
)
