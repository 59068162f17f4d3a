"""How long a sweep still takes. Imports no torch."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median

from plainres.records.plan import Plan, PlannedCell
from plainres.records.schema import Record


def expected_seconds(rows: Sequence[Record], arm: str, depth: int, iterations: int) -> float | None:
    """Of training a cell, from what the nearest depths of its arm took; None without rows.

    The time of an iteration is taken to be proportional to depth.
    """
    alike = [row for row in rows if row.arm == arm] or rows
    if not alike:
        return None
    nearest = min((row.depth for row in alike), key=lambda other: _distance(other, depth))
    paces = [row.seconds / row.iterations for row in alike if row.depth == nearest]
    return median(paces) * depth / nearest * iterations


class Pace:
    """Seconds that cells of a sweep take, by what its other cells took.

    Args:
        measured: seconds that cells take as a whole, or will by their own estimate.
        beside: seconds that cells took beside training: start, last evaluation.
    """

    def __init__(
        self, plan: Plan, measured: Mapping[PlannedCell, float], beside: Iterable[float] = ()
    ):
        self.in_seconds = plan.in_seconds
        self.beside = mean(beside) if (beside := list(beside)) else 0.0
        # measured seconds as a multiple of the expected ones
        self._ratios = {cell: seconds / cell.work for cell, seconds in measured.items()}

    def seconds(self, cell: PlannedCell) -> float | None:
        """Of a whole cell; None before anything is measured, now or earlier.

        The multiple is that of the nearest depth, in the same network if one was measured.
        """
        alike = [
            other
            for other in self._ratios
            if (other.arm, other.results) == (cell.arm, cell.results)
        ] or list(self._ratios)
        if not alike:
            return cell.work if self.in_seconds else None
        nearest = min(_distance(other.depth, cell.depth) for other in alike)
        ratios = [
            self._ratios[other] for other in alike if _distance(other.depth, cell.depth) == nearest
        ]
        return mean(ratios) * cell.work


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
