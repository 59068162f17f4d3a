"""Do the large networks train at their own size?"""

from experiments.large.claims import check, label_of, read, records_of, table
from experiments.reporting.question import Question

QUESTION = Question(
    slug="large",
    title="Large networks: do they train at their own size?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=lambda runs: [table(runs)],
    levels=2,
)
