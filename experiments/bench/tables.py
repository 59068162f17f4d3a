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


Rounds = Mapping[int, float]  # round → value


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


def ratio(upper: Rounds, lower: Rounds) -> dict[int, float]:
    """upper / lower, taken within each round that has both."""
    return {at: upper[at] / lower[at] for at in sorted(upper.keys() & lower.keys())}


def shown(values: Rounds) -> str:
    """The median with [smallest, largest]; the value alone of one round; "–" of none."""
    if not values:
        return "–"
    median, low, high = map(number, median_and_range(values))
    return f"{median} [{low}, {high}]" if len(values) > 1 else median


def median_and_range(values: Rounds) -> tuple[float, float, float]:
    """Median, smallest and largest value over one round or more."""
    return statistics.median(values.values()), min(values.values()), max(values.values())


def against_target(values: Rounds, target: str) -> str:
    """The target, as "≥ 2.1" or "≤ 1", and whether the median meets it."""
    if not values:
        return f"{target}: not measured"
    sign, bound = target.split()
    median = statistics.median(values.values())
    met = median >= float(bound) if sign == "≥" else median <= float(bound)
    return f"{target}: met" if met else f"{target}: **not met**"


def number(value: float) -> str:
    """Three significant digits, thousands grouped, no exponent."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:.2e}".split("e")[1])
    return f"{round(value, digits):,.{max(digits, 0)}f}"
