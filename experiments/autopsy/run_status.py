"""The status of a run, by its running training error: did it learn, when, and did it last?"""

from collections.abc import Mapping, Sequence

from experiments.judging.errors import error_removed
from experiments.judging.pairs import Cell, cell_of, grouped
from plainres.records.identity import cell_name
from plainres.records.schema import DIVERGED, CurvePoint, Record

AT_CHANCE, LOST, PLATEAU = "at chance", "lost what it learned", "plateau"
LATE, LEARNING = "learning late", "learning"
STATUSES = (DIVERGED, AT_CHANCE, LOST, PLATEAU, LATE, LEARNING)
# Shares of the error at chance. A run that never removed MIN_REMOVED has learned nothing; the
# noise of the running error is a tenth of that. A run that removed HALF has little left to remove
MIN_REMOVED, HALF = 0.05, 0.5
# A plateau's second half takes less than this share off the error at half of the run
STANDSTILL = 0.05


def run_status(points: Sequence[CurvePoint], num_classes: int, diverged: bool = False) -> str:
    """The status of a run, one of STATUSES; shares are of the error at chance.

    `diverged`: its loss was not finite. `at chance`: training never removed 5 %. `lost what it
    learned`: at the end less than half of the largest share is removed. `plateau`: less than half
    is removed, and the second half of the run took less than 5 % off the error. `learning late`:
    less than half of what is removed at the end was removed by half of the run. `learning`: all
    others.

    Args:
        points: at least one, of a run that did not diverge.
    """
    if diverged:
        return DIVERGED
    ordered = sorted(points, key=lambda point: point.iteration)
    last = ordered[-1]
    first_half = [point for point in ordered if 2 * point.iteration <= last.iteration]
    middle = (first_half or ordered[:1])[-1]
    half_way, end = (error_removed(point.train_error, num_classes) for point in (middle, last))
    largest = largest_removed(ordered, num_classes)
    if largest < MIN_REMOVED:
        return AT_CHANCE
    if end < largest / 2:
        return LOST
    if end < HALF and last.train_error > (1 - STANDSTILL) * middle.train_error:
        return PLATEAU
    return LATE if half_way < end / 2 else LEARNING


def largest_removed(points: Sequence[CurvePoint], num_classes: int) -> float:
    """The largest share of the error at chance that was removed at any time of a run."""
    return error_removed(min(point.train_error for point in points), num_classes)


def statuses_of(records: Sequence[Record], curves: Sequence[CurvePoint]) -> dict[Cell, str]:
    """The status of every run of one protocol, in the order of the records.

    Raises:
        ValueError: a run that did not diverge has no curve; names it.
    """
    points, statuses = grouped(curves, cell_of), {}
    for row in records:
        cell = cell_of(row)
        if row.status != DIVERGED and cell not in points:
            raise ValueError(f"{cell_name(*cell)} has a row of {row.protocol}, but no curve")
        statuses[cell] = run_status(points.get(cell, ()), row.num_classes, row.status == DIVERGED)
    return statuses


def rows_by_depth(texts: Mapping[Cell, str]) -> list[list[str]]:
    """One row per arm and seed under a row of headings, one column per depth; – for no run."""
    depths = sorted({depth for _, depth, _ in texts})
    rows = [["arm", "seed", *map(str, depths)]]
    for arm, seed in sorted({(arm, seed) for arm, _, seed in texts}):
        rows.append([arm, str(seed), *(texts.get((arm, depth, seed), "–") for depth in depths)])
    return rows


def status_rows(records: Sequence[Record], curves: Sequence[CurvePoint]) -> list[list[str]]:
    """Status and largest share removed, in per cent, of every run, by depth."""
    runs, num_classes = grouped(curves, cell_of), records[0].num_classes
    texts = statuses_of(records, curves)
    for run in texts.keys() & runs.keys():
        texts[run] += f" ({100 * largest_removed(runs[run], num_classes):.1f})"
    return rows_by_depth(texts)
