"""Terminal output of verdicts. Imports nothing slow, so that they appear at once."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from plainres.records.schema import Record


def columns(rows: Sequence[Sequence[str]], left: bool = False) -> list[str]:
    """One line per row, columns as wide as their widest cell; cells stand right, or `left`."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    side = str.ljust if left else str.rjust
    return [
        "  ".join(side(text, width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def percent(error: float | None) -> str:
    """A fraction in per cent; – where there is none."""
    return "–" if error is None else f"{100 * error:.2f}"


def mean_and_deviation(values: Iterable[float], digits: int = 2) -> str:
    """Mean ± standard deviation over seeds; with one seed the mean alone, with none –."""
    if not (numbers := list(values)):
        return "–"
    spread = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.{digits}f}{spread}"


def cells_of(records: Sequence[Record]) -> str:
    """Which cells these are: networks, then seeds if each network has all; else one by one."""
    networks = dict.fromkeys(f"{record.arm}-{record.depth}" for record in records)
    seeds = dict.fromkeys(str(record.seed) for record in records)
    cells = dict.fromkeys(record.cell for record in records)
    if len(seeds) < 2 or len(cells) < len(networks) * len(seeds):
        return ", ".join(cells)
    return f"{', '.join(networks)}; seeds {', '.join(seeds)}"


def seeds_of(records: Sequence[Record]) -> str:
    """How many seeds each network has, from the fewest to the most.

    A network may stand in several folders of one protocol. Every folder has the first seeds, so
    the seeds that occur most often are those that each of the folders has.
    """
    seeds: dict[tuple[str, str, int], Counter[int]] = {}
    for record in records:
        network = (record.protocol, record.arm, record.depth)
        seeds.setdefault(network, Counter())[record.seed] += 1
    most = max(map(len, seeds.values()))
    fewest = min(list(one.values()).count(max(one.values())) for one in seeds.values())
    return f"{most} seed{'s' * (most != 1)}" if fewest == most else f"{fewest} to {most} seeds"
