"""Does low precision make degradation worse?"""

from experiments.precision.claims import COSINES_TABLE, check, label_of, read, table
from experiments.reporting.question import Question

QUESTION = Question(
    slug="precision",
    title="Precision: does it make degradation worse?",
    read=read,
    label=label_of,
    claims=check,
    tables=lambda scale: [table(scale)],
    where=f"*/{COSINES_TABLE}",
    levels=2,
    introduction=[
        "*Cosine*: of the angle between a computed gradient and the exact one (float64) of the "
        "same weights and images, all parameters together; 1: the same direction, 0: at a right "
        "angle. *Exact, other images*: between the exact gradients of two disjoint sets of images."
    ],
)
