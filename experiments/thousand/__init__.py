"""Do residual networks of 302, 602 and 1,202 layers train, and at what memory?"""

from functools import partial

from experiments.reporting.question import Drawing, Question
from experiments.thousand.claims import MEMORY, MemoryRuns, Part, check, heading, read, table


def drawings(part: Part) -> list[Drawing]:
    """Training error against iteration, or memory against depth."""
    from experiments.thousand.figures import curves_figure, memory_figure

    if isinstance(part, MemoryRuns):
        return [Drawing(MEMORY, "memory against depth", partial(memory_figure, part))]
    alt = f"running training error against iteration, {part.name}"
    return [Drawing(f"curves_{part.name}", alt, partial(curves_figure, part))]


QUESTION = Question(
    slug="thousand",
    title="A thousand layers: do they train, and at what memory?",
    read=read,
    label=heading,
    records=lambda part: part.records,
    claims=check,
    tables=lambda part: [table(part)],
    drawings=drawings,
    levels=2,
)
