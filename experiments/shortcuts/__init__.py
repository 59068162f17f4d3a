"""Does it matter which shortcut?"""

from experiments.reporting import markdown
from experiments.reporting.question import Question
from experiments.shortcuts.claims import check, notes, read, table

QUESTION = Question(
    slug="shortcuts",
    title="Shortcuts: does it matter which one?",
    read=read,
    label=lambda runs: markdown.label_of(runs.records),
    claims=check,
    tables=lambda runs: [table(runs)],
    notes=notes,
)
