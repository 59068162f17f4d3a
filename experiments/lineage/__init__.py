"""What did each network of the lineage bring, on the same images?"""

from itertools import chain

from experiments.lineage.claims import check, label_of, read, table
from experiments.reporting.question import Question

QUESTION = Question(
    slug="lineage",
    title="Lineage: what did each network bring?",
    read=read,
    label=label_of,
    records=lambda lineage: [*chain(*lineage.values())],
    claims=check,
    tables=lambda lineage: [table(lineage)],
    levels=2,
)
