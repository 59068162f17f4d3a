"""Why does plain-110 fail, and which remedy helps, at what cost?"""

from experiments.autopsy.claims import (
    DEPTH,
    check,
    label_of,
    read,
    records_of,
    tables,
)
from experiments.reporting.question import Question

QUESTION = Question(
    slug="autopsy",
    title=f"Why does plain-{DEPTH} fail, and which remedy helps, at what cost?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=tables,
    levels=2,
    options=("protocol",),
)
