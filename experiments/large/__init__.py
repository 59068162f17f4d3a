"""Can the large networks be built and trained at their own size?"""

from experiments.large.claims import label_of, read, records_of, table
from experiments.reporting.question import Question

QUESTION = Question(
    slug="large",
    title="Large networks: can they be built and trained at their own size?",
    read=read,
    label=label_of,
    records=records_of,
    tables=lambda runs: [table(runs)],
    levels=2,
)
