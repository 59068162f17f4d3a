"""By which factor do gradients grow in one layer at the start?"""

from experiments.rate.claims import check, label_of, tables
from experiments.rate.measured import PROBES_TABLE, read
from experiments.reporting.question import Question

QUESTION = Question(
    slug="rate",
    title="Rate: how fast do gradients grow, layer by layer?",
    read=read,
    label=label_of,
    records=lambda rate: rate.all_records,
    claims=check,
    tables=tables,
    where=f"*/{PROBES_TABLE}",
    levels=2,
    introduction=[
        "*λ*: the factor by which squared gradients grow backwards in one layer of a plain "
        "network, before the first update; theory is in experiments/theory.py. *Circular padding*: "
        "convolutions see the opposite border, so that all pixels have like neighbourhoods, as in "
        "theory. *Exponent*: slope on axes of logarithms against the block's number in its stage. "
        "The first and the last block of each stage are left out."
    ],
)
