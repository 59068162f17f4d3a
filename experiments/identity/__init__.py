"""Do extra blocks do no harm?"""

from experiments.identity.claims import check, label_of, read, tables
from experiments.reporting.question import Question
from plainres.records.files import RUNS_TABLE

QUESTION = Question(
    slug="identity",
    title="Blocks inserted into trained networks: do extra blocks do harm?",
    read=read,
    label=label_of,
    claims=check,
    tables=tables,
    where=f"*/*/{RUNS_TABLE}",
    levels=2,
)
