"""Does the finding depend on our choices?"""

from experiments.reporting.question import Question
from experiments.robustness import claims

QUESTION = Question(
    slug="robustness",
    title="Robustness: does the finding depend on our choices?",
    read=claims.read,
    label=claims.label_of,
    tables=lambda part: [claims.table(part.settings)],
    notes=claims.notes,
    where=f"{claims.BASELINE}/runs.csv",
    levels=2,
)
