"""Is it the shortcut, or is it what the shortcut does to the gradient?"""

from experiments.cures import claims
from experiments.reporting.question import Question

QUESTION = Question(
    slug="cures",
    title="Cures: is it the shortcut, or what it does to the gradient?",
    read=claims.read,
    label=claims.label_of,
    claims=claims.check,
    tables=claims.tables,
    levels=2,
)
