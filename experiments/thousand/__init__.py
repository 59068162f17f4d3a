"""Do residual networks of 302, 602 and 1,202 layers train, and at what memory?"""

from experiments.reporting.question import Question
from experiments.thousand.claims import check, heading, read, table

QUESTION = Question(
    slug="thousand",
    title="A thousand layers: do they train, and at what memory?",
    read=read,
    label=heading,
    claims=check,
    tables=lambda part: [table(part)],
    levels=2,
)
