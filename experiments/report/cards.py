"""What the page says of each question, from its claims: verdicts, one sentence, one figure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from urllib.parse import quote

from experiments.judging import verdict
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting import pages
from experiments.reporting.markdown import cautions, measured_on
from experiments.reporting.question import EXPERIMENTS, Question, Table, questions

# Verdict → how the page marks it: a class of its style sheet and a sign
MARKS = {
    REPRODUCED: ("held", "✓"),
    NOT_REPRODUCED: ("failed", "✗"),
    INCONCLUSIVE: ("open", "?"),
}
# Questions that come first; all others follow by name
ORDER = (
    *("depth", "shortcuts", "identity", "signal", "rate", "dose", "horizon", "cures", "autopsy"),
    *("thousand", "landscape"),
)
UNQUOTED = " !$'()*+,/:;=?@[]{}"  # in a data URI
LINK = re.compile(r"\[([^]]+)\]\([^)]*\)")
SHORTEST = 80  # characters of "one sentence": a shorter one gets the next sentence too


@dataclass(frozen=True)
class Verdict:
    """A claim as a line of the page."""

    letter: str
    statement: str
    words: str
    kind: str  # a class of the style sheet
    sign: str
    n: int  # seeds; 0 where nothing is tested
    headline: str  # effect, interval, n and p; "" where none is tested
    summary: str


@dataclass(frozen=True)
class Part:
    """What is judged together: its label has data, protocol and number of seeds."""

    label: str
    verdicts: list[Verdict]
    claims: list[list[str]]  # as a table, with effects and what was measured
    details: list[list[str]]  # what the verdicts rest on, as a table; none with one seed
    tables: Sequence[Table]
    notes: list[str]


@dataclass(frozen=True)
class Figure:
    """A committed figure, as a data URI."""

    source: str
    caption: str
    alt: str  # what it shows, and the answer


@dataclass(frozen=True)
class Card:
    """A question: the part that its figure shows, the other parts, and what this machine has."""

    slug: str
    title: str
    sentence: str  # the first one of the question's page
    rest: str  # of its first paragraph
    figure: Figure | None
    main: Part
    others: list[Part]
    own: list[Part]
    unusable: list[str]  # of this machine, and why

    @property
    def tally(self) -> list[tuple[str, str, int, str]]:
        """Class, sign, number and words of the verdicts, over all committed parts."""
        verdicts = [v for part in (self.main, *self.others) for v in part.verdicts]
        counts = Counter((v.kind, v.sign, v.words) for v in verdicts)
        order = [kind for kind, _ in MARKS.values()]
        found = sorted(counts, key=lambda each: (order.index(each[0]), each[2]))
        return [(kind, sign, counts[kind, sign, words], words) for kind, sign, words in found]


def verdict_lines(claims: Sequence[Claim]) -> list[Verdict]:
    """The claims as lines of the page; every word of a verdict is the claim's own."""
    return [
        Verdict(
            letter,
            claim.statement,
            claim.words,
            *MARKS[claim.verdict],
            claim.num_seeds,
            claim.headline,
            claim.summary,
        )
        for letter, claim in zip(ascii_lowercase, claims, strict=False)
    ]


def cards(results: Path, local: Path | None) -> list[Card]:
    """A card for each question that has committed tables."""
    asked = questions()
    slugs = [slug for slug in ORDER if slug in asked]
    slugs += [slug for slug in asked if slug not in slugs]
    return [_card(asked[slug], results, local) for slug in slugs if asked[slug].folders(results)]


def _card(question: Question, results: Path, local: Path | None) -> Card:
    page = EXPERIMENTS / question.slug / "README.md"
    folder_name, _, figure_name = _figure_of(page).rpartition("/")
    answer = lead(pages.by_hand(page))
    parts: list[Part] = []
    figure, main = None, 0
    for folder in question.folders(results):
        for part in question.read(folder):
            label = question.label(part)
            for drawing in question.drawings(part):
                if (folder.relative_to(results).as_posix(), drawing.name) == (
                    folder_name,
                    figure_name,
                ):
                    caption = f"{drawing.alt} · {label}"
                    path = folder / "figures" / f"{drawing.name}.svg"
                    figure = _figure(path, caption, f"{caption}. {answer[0]}")
                    main = len(parts)
            parts.append(_part(question, part, label))
    own, unusable = _own(question, local)
    others = [*parts[:main], *parts[main + 1 :]]
    return Card(question.slug, question.title, *answer, figure, parts[main], others, own, unusable)


def _part(question: Question, part: Any, label: str) -> Part:
    claims = question.claims(part)
    details = verdict.details(claims) if verdict.rests_on_several(claims) else []
    tables = [
        Table(without_markup(table.title), table.rows, [*map(without_markup, table.notes)])
        for table in question.tables(part)
    ]
    records = question.records(part)
    provenance = [*cautions(records), measured_on(records)]
    notes = [*question.introduction, *question.notes(part), *provenance]
    lines, rows = verdict_lines(claims), verdict.rows(claims)
    return Part(label, lines, rows, details, tables, [*map(without_markup, notes)])


def _figure_of(page: Path) -> str:
    """The first figure block of a question's page, as <folder>/<name> below the results."""
    blocks = pages.BLOCK.finditer(page.read_text(encoding="utf-8"))
    return next((block[3] for block in blocks if block[2] == "figure"), "")


def _figure(path: Path, caption: str, alt: str) -> Figure | None:
    if not path.exists():
        return None
    text = " ".join(path.read_text(encoding="utf-8").split())
    return Figure(f"data:image/svg+xml,{quote(text, safe=UNQUOTED)}", caption, alt)


def _own(question: Question, local: Path | None) -> tuple[list[Part], list[str]]:
    """What this machine measured; a folder that cannot be read does not stop the page."""
    parts, unusable = [], []
    for folder in question.folders(local) if local else []:
        try:
            parts += [
                _part(question, part, f"{folder.name}: {question.label(part)}")
                for part in question.read(folder)
            ]
        except ValueError as error:
            unusable.append(f"{folder.name}: {error}")
    return parts, unusable


def lead(text: str) -> tuple[str, str]:
    """The first paragraph of a page without markup: its first sentence, and the rest.

    A short sentence is taken together with the next one.
    """
    paragraph = without_markup(" ".join(text.split("\n\n")[1].split()))
    first, rest = "", re.split(r"(?<=[.?!])\s+(?=[A-Z])", paragraph)
    while rest and len(first) < SHORTEST:
        first = f"{first} {rest.pop(0)}".strip()
    return first, " ".join(rest)


def without_markup(text: str) -> str:
    """Text without Markdown's links, code and emphasis."""
    return LINK.sub(r"\1", text).replace("`", "").replace("*", "")
