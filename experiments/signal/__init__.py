"""What flows forward and backward in plain and residual networks?"""

from experiments.reporting.question import Question
from experiments.signal.claims import PROBES_TABLE, check, label_of, read, table

QUESTION = Question(
    slug="signal",
    title="What flows forward and backward?",
    read=read,
    label=label_of,
    records=lambda signal: signal.all_records,
    claims=check,
    tables=lambda signal: [table(signal)],
    where=f"*/{PROBES_TABLE}",
    levels=2,
    introduction=[
        "*Start*: before the first update. *Response*: standard deviation of what a layer puts "
        "out. *Gradient second / last*: gradient norm at the second layer's output over that at "
        "the last one's. *Weight gradient*: of the second layer. Ratios are geometric means over "
        "seeds. –, and a line that ends: there is a seed whose value is exactly 0 or not finite."
    ],
)
