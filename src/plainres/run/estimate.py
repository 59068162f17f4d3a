"""How long a sweep still takes. Imports no torch."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean, median

from plainres.records.plan import Plan, PlannedCell
from plainres.records.schema import Record


def expected_seconds(rows: Sequence[Record], arm: str, depth: int, iterations: int) -> float | None:
    """Of training a cell, from what cells of its arm took (of any, without them).

    An iteration takes a constant time and a time for each layer: Theil and Sen's line (medians of
    slopes and intercepts) through the fastest cell of each depth, because a cell may have shared
    its machine. With one depth alone there is no constant. None without rows.
    """
    alike = [row for row in rows if row.arm == arm] or rows
    fastest: dict[int, float] = {}
    for row in alike:
        pace = row.seconds / row.iterations
        fastest[row.depth] = min(pace, fastest.get(row.depth, pace))
    if not fastest:
        return None
    slopes = [
        (pace - other_pace) / (deep - shallow)
        for (deep, pace), (shallow, other_pace) in combinations(fastest.items(), 2)
    ] or [pace / only for only, pace in fastest.items()]
    slope = max(0.0, median(slopes))
    constant = max(0.0, median(pace - slope * deep for deep, pace in fastest.items()))
    return (constant + slope * depth) * iterations


def measured_seconds(
    plan: Plan, cell: PlannedCell, measured: Mapping[PlannedCell, tuple[float, float]]
) -> float | None:
    """Of training a cell of a sweep; None before anything is measured, now or earlier.

    The plan's expectation, times a mean of what the cells of the same network took as a multiple of
    theirs (of all cells, while there are none). A cell counts by what is done of it and by how near
    its depth is.

    Args:
        measured: of each cell that runs or has run, the seconds that it takes as a whole, and the
            share of it that is done.
    """
    network = (cell.arm, cell.results)
    alike = [other for other in measured if (other.arm, other.results) == network] or measured
    ratios = [measured[other][0] / other.work for other in alike]
    weights = [measured[other][1] / _distance(cell.depth, other.depth) ** 3 for other in alike]
    if not any(weights):
        return cell.work if plan.in_seconds else None
    return cell.work * fmean(ratios, weights)


def end_of(jobs: int, running: Iterable[float], waiting: Iterable[float]) -> float:
    """Seconds until the last cell ends.

    Args:
        running: seconds that each running cell still takes.
        waiting: the same of those that are launched after them, in this order.
    """
    ends = sorted([0.0] * jobs + list(running))[-jobs:]
    for seconds in waiting:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def _distance(depth: int, other: int) -> float:
    return max(depth / other, other / depth)
