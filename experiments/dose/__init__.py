"""How deep can a plain network be?"""

from experiments.dose import claims
from experiments.reporting.question import Question

QUESTION = Question(
    slug="dose",
    title="Dose: how deep can a plain network be?",
    read=claims.read,
    label=claims.label_of,
    claims=claims.check,
    tables=claims.tables,
    where="*-relu/runs.csv",
    levels=2,
)
