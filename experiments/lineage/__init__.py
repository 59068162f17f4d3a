"""What did each network of the lineage bring, on the same images?"""

from experiments.lineage.claims import check, label_of, read, tables
from experiments.reporting.question import Question

QUESTION = Question(
    slug="lineage",
    title="Lineage: what did each network bring?",
    read=read,
    label=label_of,
    claims=check,
    tables=tables,
    levels=2,
)
