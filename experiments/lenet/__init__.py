"""How well does LeNet-5 do today?"""

from experiments.lenet.claims import check, label_of, read, records_of, table
from experiments.reporting.question import Question

QUESTION = Question(
    slug="lenet",
    title="LeNet-5: how well does it do today?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=lambda runs: [table(runs)],
    levels=2,
)
