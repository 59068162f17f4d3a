"""Does the finding depend on our choices?"""

from functools import partial

from experiments.reporting.question import Drawing, Question
from experiments.robustness.claims import (
    BASELINE,
    DEEP,
    SHALLOW,
    Settings,
    label_of,
    notes,
    read,
    table,
)


def drawings(part: Settings) -> list[Drawing]:
    """The rises of all settings."""
    from experiments.robustness.figures import rises_figure

    alt = f"error of {SHALLOW} and {DEEP} layers by setting"
    return [Drawing("rises", alt, partial(rises_figure, part))]


QUESTION = Question(
    slug="robustness",
    title="Robustness: does the finding depend on our choices?",
    read=read,
    label=label_of,
    records=lambda part: part.records,
    tables=lambda part: [table(part.settings)],
    drawings=drawings,
    notes=notes,
    where=f"{BASELINE}/runs.csv",
    levels=2,
)
