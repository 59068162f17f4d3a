"""Does it matter which shortcut?"""

from functools import partial

from experiments.reporting import markdown
from experiments.reporting.question import Drawing, Question
from experiments.shortcuts.claims import DEEPEST, ShortcutRuns, check, notes, read, table


def drawings(runs: ShortcutRuns) -> list[Drawing]:
    """Error against depth, and the curves of the deepest networks where there are any."""
    from experiments.shortcuts.figures import curves_figure, depth_figure

    records, curves = runs.records, runs.curves
    by_depth = partial(depth_figure, records)
    shown = [Drawing("error_by_depth", "error against depth by shortcut", by_depth)]
    if any(record.depth == DEEPEST for record in records):
        alt = f"training error of {DEEPEST} layers against iteration"
        shown.append(Drawing("curves", alt, partial(curves_figure, records, curves)))
    return shown


QUESTION = Question(
    slug="shortcuts",
    title="Shortcuts: does it matter which one?",
    read=read,
    label=lambda runs: markdown.label_of(runs.records),
    records=lambda runs: runs.records,
    claims=check,
    tables=lambda runs: [table(runs)],
    drawings=drawings,
    notes=notes,
)
