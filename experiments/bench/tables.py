"""What a measurement leaves: rows of numbers with their provenance, and what is made of them. Imports no torch."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plainres.records.files import read_table, write_table


@dataclass(frozen=True)
class Row:
    """One measured number: a line of results/bench/<part>.csv.

    `case` is what was measured, `way` how; ways of one case are compared with each other, within a round. `quantity` names the number
    with its unit. A measurement that did not come about has no value, and `note` says why. `threads` are those of each process.
    """

    case: str
    way: str
    round: int
    quantity: str
    value: float | None
    note: str
    depth: int | None
    width: int | None
    image_size: int | None
    batch_size: int | None
    threads: int
    processor: str
    cores: int
    torch: str
    commit: str
    clean: bool | None
    measured_at: str


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest over rounds."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        text = number(self.median)
        return f"{text} [{number(self.low)}, {number(self.high)}]" if self.rounds > 1 else text


def table_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.csv"


def write_rows(folder: Path, part: str, rows: Sequence[Row]) -> None:
    """Atomically."""
    write_table(table_path(folder, part), rows, Row)


def read_rows(folder: Path, part: str) -> list[Row]:
    """The rows of a part, none where it was not measured.

    Raises:
        ValueError: the table is damaged; names file, line and column.
    """
    return read_table(table_path(folder, part), Row)


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))


def by_round(rows: Iterable[Row], case: str, way: str, quantity: str) -> dict[int, float]:
    """Round → value."""
    wanted = (case, way, quantity)
    return {
        row.round: row.value
        for row in rows
        if (row.case, row.way, row.quantity) == wanted and row.value is not None
    }


def spread(values: Mapping[int, float]) -> Spread | None:
    """Over rounds; None where there is no value."""
    if not values:
        return None
    return Spread(
        statistics.median(values.values()), min(values.values()), max(values.values()), len(values)
    )


def ratio(upper: Mapping[int, float], lower: Mapping[int, float]) -> Spread | None:
    """Of upper / lower, divided within each round that has both."""
    return spread({at: upper[at] / lower[at] for at in sorted(upper.keys() & lower.keys())})


def judged(found: Spread | None, least: float | None = None, most: float | None = None) -> str:
    """The bar, and whether the median meets it."""
    bar = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
    if found is None:
        return f"{bar}: not measured"
    met = (least is None or found.median >= least) and (most is None or found.median <= most)
    return f"{bar}: met" if met else f"{bar}: **not met**"


def number(value: float) -> str:
    """Three significant digits, thousands grouped, no exponent."""
    if value == 0:
        return "0"
    digits = 2 - _exponent(value)
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def _exponent(value: float) -> int:
    return int(f"{abs(value):.2e}".split("e")[1])
