"""How much of the scatter is the seed, how much the machine?"""

from experiments.machines import claims
from experiments.machines.tables import notes, tables
from experiments.reporting.question import Question

QUESTION = Question(
    slug=claims.SLUG,
    title="Machines: how much of the scatter is the seed, how much the machine?",
    read=claims.read,
    label=claims.label_of,
    claims=claims.check,
    tables=tables,
    notes=notes,
    where="*/config.json",
)
