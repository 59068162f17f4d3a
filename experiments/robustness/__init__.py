"""Does the finding depend on our choices?"""

from experiments.reporting.question import Question
from experiments.robustness.claims import (
    BASELINE,
    label_of,
    notes,
    read,
    table,
)

QUESTION = Question(
    slug="robustness",
    title="Robustness: does the finding depend on our choices?",
    read=read,
    label=label_of,
    records=lambda part: part.records,
    tables=lambda part: [table(part.settings)],
    notes=notes,
    where=f"{BASELINE}/runs.csv",
    levels=2,
)
