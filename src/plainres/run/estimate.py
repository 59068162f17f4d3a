"""How long a sweep still takes. Imports no torch.

The time of an iteration is taken to be proportional to depth: what it has beside its layers takes
as long as zero to four layers on most CPUs, and as nine on an H100. Measured times are no better
guide to the ratio of two depths, because cells share their machine with other programs.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from plainres.records.plan import PlannedCell
from plainres.records.schema import Record


def expected_seconds(rows: Sequence[Record], arm: str, depth: int, iterations: int) -> float | None:
    """Of training a cell, from what cells of its arm took (of any, without them); or None."""
    alike = [row for row in rows if row.arm == arm] or rows
    paces = [row.seconds / row.iterations / row.depth for row in alike]
    return median(paces) * depth * iterations if paces else None


def measured_seconds(
    cell: PlannedCell, measured: Mapping[PlannedCell, tuple[float, float]]
) -> float | None:
    """Of training a cell of a sweep; None before anything is measured, now or earlier.

    From what the cells of the same network took (all cells, while there are none), each weighted by
    what is done of it and by how near its depth is.

    Args:
        measured: of each cell that runs or has run, the seconds that it takes as a whole, and the
            share of it that is done.
    """
    network = (cell.arm, cell.results)
    alike = [other for other in measured if (other.arm, other.results) == network] or measured
    paces = [measured[other][0] / other.iterations / other.depth for other in alike]
    weights = [measured[other][1] / _distance(cell.depth, other.depth) ** 3 for other in alike]
    if not any(weights):
        return cell.expected
    weighted = sum(pace * weight for pace, weight in zip(paces, weights, strict=True))
    return weighted / sum(weights) * cell.depth * cell.iterations


def end_of(jobs: int, running: Iterable[float], waiting: Iterable[float]) -> float:
    """Seconds until the last cell ends.

    Args:
        running: seconds that each running cell still takes.
        waiting: the same of those that are launched after them, in this order.
    """
    running, waiting = list(running), list(waiting)
    jobs = max(1, min(jobs, len(running) + len(waiting)))
    ends = sorted([0.0] * jobs + running)[-jobs:]
    for seconds in waiting:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def _distance(depth: int, other: int) -> float:
    return max(depth / other, other / depth)
