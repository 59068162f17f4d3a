"""How soon do residual networks reach a training error?"""

from experiments.pace.claims import fastest, label_of, read, table
from experiments.reporting.question import Question

QUESTION = Question(
    slug="pace",
    title="Pace: how soon do residual networks reach a training error?",
    read=read,
    label=label_of,
    records=lambda paces: [pace.record for pace in paces],
    tables=lambda paces: [fastest(paces), table(paces)],
    levels=2,
)
