"""The rows of results/bench/<part>.csv, and their medians and ratios over rounds. No torch."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One measured number: one line of results/bench/<part>.csv.

    `case` is what was measured, `way` how; the ways of a case are compared within each round.
    `quantity` names the number with its unit. A failed measurement has no value, and `note` says
    why. `threads` are those of each process.
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
    """Median, smallest and largest value over rounds."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        text = number(self.median)
        return f"{text} [{number(self.low)}, {number(self.high)}]" if self.rounds > 1 else text


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))


def measured_ways(rows: Iterable[Measurement], case: str) -> list[str]:
    """The ways of a case that have a number."""
    return distinct(row.way for row in rows if row.case == case and row.value is not None)


def by_round(rows: Iterable[Measurement], case: str, way: str, quantity: str) -> dict[int, float]:
    """Round → value."""
    key = (case, way, quantity)
    return {
        row.round: row.value
        for row in rows
        if (row.case, row.way, row.quantity) == key and row.value is not None
    }


def spread(values: Mapping[int, float]) -> Spread | None:
    """Over rounds; None without a value."""
    if not values:
        return None
    numbers = list(values.values())
    return Spread(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def ratio(upper: Mapping[int, float], lower: Mapping[int, float]) -> Spread | None:
    """upper / lower, taken within each round that has both."""
    return spread({at: upper[at] / lower[at] for at in sorted(upper.keys() & lower.keys())})


def against_target(
    measured: Spread | None, least: float | None = None, most: float | None = None
) -> str:
    """The target, and whether the median meets it."""
    target = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
    if measured is None:
        return f"{target}: not measured"
    met = (least is None or measured.median >= least) and (most is None or measured.median <= most)
    return f"{target}: met" if met else f"{target}: **not met**"


def number(value: float) -> str:
    """Three significant digits, thousands grouped, no exponent."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:.2e}".split("e")[1])
    return f"{round(value, digits):,.{max(digits, 0)}f}"
