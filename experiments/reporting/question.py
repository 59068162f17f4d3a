"""One question of the suite as one object: what it reads, claims, tables, figures and notes.

The README of a results folder, the text in a terminal, the JSON and the scoreboard all come from
it. A new question is a folder experiments/<slug> whose __init__.py has one `QUESTION`, and whose
figures.py has `drawings`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from experiments.judging import verdict
from experiments.judging.inference import POINTS
from experiments.judging.verdict import Claim
from experiments.reporting import latex
from experiments.reporting.markdown import cautions, markdown, measured_on, paragraph, word
from experiments.reporting.text import columns
from plainres.records.files import RUNS_TABLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENTS = Path(__file__).parents[1]

Part = TypeVar("Part")


@dataclass(frozen=True)
class Table:
    """A table, its heading ("" for none) and the sentences below it.

    Args:
        rows: the first one is the headings.
        terminal: `check` prints it; else the report and --verbose alone have it.
        name: unique in its folder; `<!-- measured:<folder>/<name> -->` shows it in a page.
    """

    title: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    terminal: bool = True
    name: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure of a results folder: figures/<name>.png and .svg."""

    name: str
    alt: str  # what the figure shows, for a reader who cannot see it; the label follows
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class Question(Generic[Part]):
    """A question, and how it is answered from the tables of a results folder.

    A folder holds one part or several that are judged apart (protocols, scales). Everything below
    is a function of one part.

    Args:
        slug: joins conf/experiment, experiments, results and the command.
        title: the question as a heading.
        read: results folder → its parts; ValueError says what is missing or damaged, or which
            runs cannot be compared.
        label: data label, protocol and number of seeds.
        records: the records, or other rows with provenance, that the part rests on; by default
            `part.records`.
        claims: with their verdicts.
        tables, notes: what `check` and the report show; notes are paragraphs below the tables.
        where: glob pattern of a table below results/<slug>.
        levels: how many folders above that table the one lies that `read` takes.
        options: of `check`, as "protocol", that `read` takes by name besides the folder.
        introduction: paragraphs of the report, as definitions that all parts share.
    """

    slug: str
    title: str
    read: Callable[..., Sequence[Part]]
    label: Callable[[Part], str]
    records: Callable[[Any], Sequence[Any]] = lambda part: part.records
    claims: Callable[[Part], Sequence[Claim]] = lambda part: ()
    tables: Callable[[Part], Sequence[Table]] = lambda part: ()
    notes: Callable[[Part], Sequence[str]] = lambda part: ()
    where: str = "*/runs.csv"
    levels: int = 1
    options: Sequence[str] = ()
    introduction: Sequence[str] = ()

    def drawings(self, part: Part) -> Sequence[Drawing]:
        """What `drawings` of experiments/<slug>/figures.py gives; it alone imports matplotlib."""
        return import_module(f"experiments.{self.slug}.figures").drawings(part)

    def folders(self, results: Path, slug: str | None = None) -> list[Path]:
        """The folders below results/<slug> that have tables of this question.

        Args:
            slug: of a sweep that was told another one; None: the question's own.
        """
        paths = (results / (slug or self.slug)).glob(self.where)
        return sorted({path.parents[self.levels - 1] for path in paths})

    def text(self, folder: Path, verbose: bool = False, **options: Any) -> str:
        """What `check` prints: label, tables and verdicts of each part. `read` gets the options.

        Args:
            verbose: everything that the report has: all tables, intervals, notes.
        """
        parts = [self._part_text(part, verbose) for part in self.read(folder, **options)]
        introduction = ["\n".join(paragraph(text)) for text in self.introduction if verbose]
        return "\n\n\n".join([*introduction, *parts])

    def _part_text(self, part: Part, verbose: bool) -> str:
        claims = self.claims(part)
        lines = [self.label(part), ""]
        for table in self.tables(part):
            if table.terminal or verbose:
                lines += [table.title, ""] if table.title else []
                lines += [*columns(table.rows, left=True), *table.notes, ""]
        lines += verdict.lines(claims)
        for caution in cautions(self.records(part)):
            lines += ["", *paragraph(caution)]
        if verbose and verdict.rests_on_several(claims):
            lines += ["", *columns(verdict.details(claims), left=True)]
        if verbose:
            for note in [*self.notes(part), measured_on(self.records(part))]:
                lines += ["", *paragraph(note)]
        return "\n".join(lines).rstrip()

    def latex(self, folder: Path, verbose: bool = False, **options: Any) -> str:
        """Tables and verdicts of each part as LaTeX, with the same arguments as `text`."""
        lines = [latex.PREAMBLE]
        for part in self.read(folder, **options):
            label = self.label(part)
            for table in self.tables(part):
                if (table.terminal or verbose) and len(table.rows) > 1:
                    caption = f"{table.title or self.title}. {label}."
                    lines += ["", *latex.table(caption, table.rows, table.notes)]
            if claims := self.claims(part):
                caption = f"Claims and verdicts; p after Holm's correction. {label}."
                lines += ["", *latex.table(caption, latex.verdicts(claims))]
        return "\n".join(lines)

    def scores(self, folder: Path, **options: Any) -> list[dict[str, Any]]:
        """One entry per claim for the scoreboard and for JSON: verdict, effect, interval, n, p."""
        return [
            {
                "question": self.slug,
                "folder": folder.as_posix(),
                "label": self.label(part),
                "claim": letter,
                **_score(claim),
            }
            for part in self.read(folder, **options)
            for letter, claim in zip(ascii_lowercase, self.claims(part), strict=False)
        ]

    def verdicts(self, results: Path, page: Path) -> str:
        """The claims as Markdown tables: a row for each, a column for each part of each folder.

        Parts that share no claim are in tables of their own; one part alone is shown with effect,
        interval, n and p.

        Args:
            page: that shows it, for its links to the folders' READMEs.
        """
        groups: list[dict[str, Mapping[str, Claim]]] = []  # in each: head → core → claim
        for folder in self.folders(results):
            link = Path(os.path.relpath(folder / "README.md", page.parent)).as_posix()
            for part in self.read(folder):
                if claims := self.claims(part):
                    label = self.label(part)
                    column = {_core(claim): claim for claim in claims}
                    assert len(column) == len(claims), f"{label}: two claims begin alike"
                    _add(groups, f"[{label}]({link})", column)
        return "\n\n".join("\n".join(markdown(_verdict_rows(group))) for group in groups)

    def measured(self, folder: Path, name: str) -> str:
        """The table of this name in a results folder, as Markdown, without its notes.

        Raises:
            ValueError: there is none; names those that are there.
        """
        tables = {each.name: each for part in self.read(folder) for each in self.tables(part)}
        if name not in tables:
            legal = ", ".join(filter(None, tables))
            raise ValueError(f"{folder} has no table {name!r}; choose {legal}")
        return "\n".join(markdown(tables[name].rows))

    def readme(self, folder: Path) -> str:
        """The generated README.md of a results folder: verdicts and figures."""
        return self._readme(folder, self._drawn(folder))

    def _drawn(self, folder: Path) -> list[tuple[Part, Sequence[Drawing]]]:
        """The parts of a results folder with their figures; tables may be long, so once."""
        return [(part, self.drawings(part)) for part in self.read(folder)]

    def _readme(self, folder: Path, parts: Sequence[tuple[Part, Sequence[Drawing]]]) -> str:
        card = os.path.relpath(EXPERIMENTS / self.slug / "README.md", folder)
        asked = f"[experiments/{self.slug}]({Path(card).as_posix()})"
        origin = f"Generated by `make figures`. The question: {asked}."
        more = f"Tables, intervals and notes: `make report`, or `make check-{self.slug} VERBOSE=1`."
        if (folder / RUNS_TABLE).exists():
            more += f" Every cell: [{RUNS_TABLE}]({RUNS_TABLE})."
        lines = [f"# {self.title}", "", *paragraph(origin), "", *paragraph(more)]
        for part, drawings in parts:
            heading = self.label(part)
            lines += ["", f"## {heading}" if len(parts) > 1 else f"{heading}."]
            lines += self._part_readme(part, drawings)
        return "\n".join(lines) + "\n"

    def _part_readme(self, part: Part, drawings: Sequence[Drawing]) -> list[str]:
        lines: list[str] = []
        if claims := self.claims(part):
            lines += ["", *markdown(verdict.rows(claims))]
        for caution in cautions(self.records(part)):
            lines += ["", *paragraph(caution)]
        for drawing in drawings:
            lines += ["", f"![{drawing.alt} · {self.label(part)}](figures/{drawing.name}.png)"]
        return [*lines, "", *paragraph(measured_on(self.records(part)))]

    def write(self, folder: Path) -> list[Path]:
        """Writes figures and README.md of a results folder; returns what it wrote."""
        from experiments.reporting.style import publish

        parts = self._drawn(folder)
        drawings = {each.name: each.draw for _, own in parts for each in own}
        return publish(folder, drawings, self._readme(folder, parts))


def _add(
    groups: list[dict[str, Mapping[str, Claim]]], head: str, column: Mapping[str, Claim]
) -> None:
    """Puts a column into the group that it shares claims with; such groups become one."""
    akin = [each for each in groups if any(column.keys() & own for own in each.values())]
    joined = {name: own for each in akin for name, own in each.items()} | {head: column}
    place = groups.index(akin[0]) if akin else len(groups)
    groups[:] = [each for each in groups if each not in akin]
    groups.insert(place, joined)


def _verdict_rows(group: Mapping[str, Mapping[str, Claim]]) -> list[list[str]]:
    """Heading and rows of a table; of one column alone also effect, interval, n and p."""
    columns = list(group.values())
    if len(columns) == 1:
        rows = [
            [_lettered(c.statement, core, columns), c.words, c.headline]
            for core, c in columns[0].items()
        ]
        return [["claim", *group, "effect [95 % interval], n, p"], *rows]
    rows = []
    for core in dict.fromkeys(chain(*columns)):
        row = [column.get(core) for column in columns]
        statements = {claim.statement for claim in row if claim}
        shared = statements.pop() if len(statements) == 1 else core
        words = (_word(claim, shared) for claim in row)
        rows.append([_lettered(shared, core, columns), *words])
    return [["claim", *group], *rows]


def _lettered(statement: str, core: str, columns: Sequence[Mapping[str, Claim]]) -> str:
    """The statement behind the letter of its claim, if that is the same in all columns."""
    places = {[*column].index(core) for column in columns if core in column}
    return f"({ascii_lowercase[places.pop()]}) {statement}" if len(places) == 1 else statement


def _core(claim: Claim) -> str:
    """The statement without what it is judged on, which may differ from folder to folder."""
    return claim.statement.partition(" (")[0]


def _word(claim: Claim | None, shared: str) -> str:
    """The verdict, its number of seeds, and what of the statement is not in the `shared` part."""
    return word(claim, claim.statement.removeprefix(shared).strip(" ()")) if claim else "–"


def _score(claim: Claim) -> dict[str, Any]:
    weakest = claim.weakest  # None where nothing is tested
    factor = 100 if weakest and weakest.unit == POINTS else 1  # errors are fractions
    interval = weakest and weakest.interval
    return {
        "statement": claim.statement,
        "verdict": claim.words,
        "contradicted": claim.contradicted,
        "headline": claim.headline,
        "summary": claim.summary,
        "criterion": weakest and weakest.name,
        "effect": weakest and factor * weakest.mean,
        "interval": interval and [factor * end for end in interval],
        "unit": weakest and weakest.unit,
        "n": claim.num_seeds,
        "p": claim.p,
        "p_opposite": claim.p_against,
    }


def question(slug: str) -> Question:
    """The question of experiments/<slug>."""
    return import_module(f"experiments.{slug}").QUESTION


def questions() -> Mapping[str, Question]:
    """Every question, by slug: each folder of experiments/ that has a claims.py."""
    slugs = sorted(path.parent.name for path in EXPERIMENTS.glob("*/claims.py"))
    return {slug: question(slug) for slug in slugs}
