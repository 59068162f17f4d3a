"""The finding of each protocol: sentence, verdicts, charts, and what they show in words."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.depth import claims
from experiments.depth.claims import ARMS, DepthRuns, label_of
from experiments.report.cards import Verdict, verdict_lines, without_markup
from experiments.report.charts import SPLITS, charts, lowest_error
from experiments.reporting import style
from experiments.reporting.markdown import cautions
from experiments.reporting.reference import compare

# The first is what the main README shows, and so the page before a choice; others follow by name
ORDER = ("cpu", "quick", "cpu32", "paper")
UNIT = "\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Finding:
    """One results folder of the depth experiment.

    Args:
        alts: split → chart → what it shows, in words.
        reference: how this machine's cells compare with the committed ones.
        table: split → its rows, the first is the headings.
    """

    name: str
    own: bool  # measured on this machine alone, under a name of its own
    label: str
    sentence: str
    scope: str  # depths and seeds of the verdicts
    verdicts: list[Verdict]
    notes: list[str]
    tables: dict[str, list[list[str]]]
    alts: dict[str, dict[str, str]]
    charts: dict[str, Any]
    lowest: float
    depths: list[int]
    seeds: list[int]
    published: bool
    reference: list[str]


def findings(results: Path, local: Path | None) -> tuple[list[Finding], list[str]]:
    """Each committed folder with this machine's rows over it; then this machine's other folders.

    Returns:
        them, and a line per folder of this machine that cannot be read.
    """
    question = "depth"
    committed = {path.name: path for path in _folders(results / question)}
    names = [name for name in ORDER if name in committed]
    names += [name for name in committed if name not in names]
    own: dict[str, DepthRuns] = {}
    unusable = []
    for path in _folders(local / question) if local else []:
        try:
            own[path.name] = claims.read(path)[0]
        except ValueError as error:
            unusable.append(f"{path.name}: {error}")
    found = []
    for name in names:
        mine, theirs = own.pop(name, None), claims.read(committed[name])[0]
        try:
            lines = compare(mine.folder, committed[name]) if mine else []
            found.append(_finding(theirs, mine, lines))
        except ValueError as error:  # of a table beside the records
            if mine is None:
                raise
            unusable.append(f"{name}: {error}")
            found.append(_finding(theirs, None, []))
    found += [_finding(runs, None, [], own=True) for runs in own.values()]
    return found, unusable


def _folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/runs.csv"))


def _finding(
    runs: DepthRuns, mine: DepthRuns | None, lines: Sequence[str], own: bool = False
) -> Finding:
    judged, figures = runs.judged, charts(runs, mine)
    shown = [*runs.records, *(mine.records if mine else [])]
    return Finding(
        runs.folder.name,
        own,
        label_of(runs),
        sentence(runs),
        f"judged: {judged.extent}",
        verdict_lines(claims.check(judged, runs.margin)),
        _notes(runs),
        {split: _table(runs, split) for split in SPLITS},
        {split: _alts(runs, split) for split in SPLITS},
        {name: figure.to_plotly_json() for name, figure in figures.items()},
        lowest_error(figures.values()),
        sorted({row.depth for row in shown}),
        sorted({row.seed for row in shown}),
        bool(claims.published_for(runs.records)),
        list(lines),
    )


def _notes(runs: DepthRuns) -> list[str]:
    grid, notes = runs.grid, []
    if grid.diverged:
        notes.append(f"Diverged, counted as guessing: {', '.join(grid.diverged)}.")
    if grid.missing:
        notes.append(f"Not measured, or not comparable: {', '.join(grid.missing)}.")
    return [*notes, *map(without_markup, cautions(runs.records))]


def sentence(runs: DepthRuns) -> str:
    """What training error does from the shallowest to the deepest judged networks, in each arm."""
    grid = runs.judged
    depths = [d for d in grid.depths if all(grid.has(arm, d) for arm in ARMS)]
    if len(depths) < 2 or not grid.seeds:
        return "Too few networks are measured to say what depth does."
    first, last = depths[0], depths[-1]
    said = {}
    for arm in ARMS:
        start, end = (100 * statistics.fmean(grid.of(arm, depth)) for depth in (first, last))
        numbers = f"from {_percent(start)} to {_percent(end)}"
        said[arm] = f"{'rises' if end > start else 'falls'} {numbers}"
        if abs(end - start) <= 100 * runs.margin:
            said[arm] = f"hardly changes ({numbers})"
    return (
        f"From {first} to {last} layers, training error {said['plain']} in plain networks. "
        f"With shortcuts it {said['residual']}."
    )


def _percent(error: float) -> str:
    digits = 0 if error >= 10 else 1 if error >= 1 else 2
    return f"{error:.{digits}f}{UNIT}"


def _table(runs: DepthRuns, split: str) -> list[list[str]]:
    return claims.table(
        claims.grid_of(runs.records, runs.grid.measured, runs.grid.seeds, f"{split}_error")
    )


def _alts(runs: DepthRuns, split: str) -> dict[str, str]:
    """What each chart shows, with its numbers."""
    label, measure = label_of(runs), SPLITS[split]
    said = {}
    for arm in ARMS:
        values = style.errors_by_depth(runs.records, arm, f"{split}_error")
        said[arm] = ", ".join(
            f"{depth} layers {statistics.fmean(errors):.1f} %" for depth, errors in values.items()
        )
    both = "; ".join(f"{arm}: {text}" for arm, text in said.items())
    return {
        "depth": f"Line chart, {measure} against depth, means over seeds. {both}. {label}.",
        **{
            arm: f"Line chart, {measure} of {arm} networks against iteration, one line a depth. "
            f"At the end: {text}. {label}."
            for arm, text in said.items()
        },
    }
