"""At which depth does arithmetic lose the gradient, and is that a cause of degradation?"""

from experiments.horizon import claims, parts, tables
from experiments.reporting.question import Question

QUESTION = Question(
    slug="horizon",
    title="Horizon: at which depth does arithmetic lose the gradient?",
    read=parts.read,
    label=claims.label_of,
    claims=claims.check,
    tables=tables.tables,
    levels=2,
    introduction=[
        "*Cosine*: of the angle between a computed gradient and the exact one (float64) of the "
        "same weights and images, for the weights of each convolution; the median over the "
        "convolutions of a network. *Horizon*: the depth at which it falls below 0.5."
    ],
)
