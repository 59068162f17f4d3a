"""What kind of run it was, by its running training error."""

from collections.abc import Sequence

from plainres.records.schema import DIVERGED, CurvePoint, Record

Run = tuple[str, int, int]  # arm, depth, seed

LEARNING, LATE, PLATEAU, LOST, AT_CHANCE = (
    "learning",
    "learning late",
    "plateau",
    "lost what it learned",
    "at chance",
)
KINDS = (DIVERGED, AT_CHANCE, LOST, PLATEAU, LATE, LEARNING)
CHANCE = 0.05  # of the errors of guessing; who never undid as much has learned nothing. The running error's own noise is a tenth of it
STANDSTILL = (
    0.05  # of the error at half of the run; who took no more off in the second half stands still …
)
LEARNED = 0.5  # … unless half of the errors of guessing were undone: then there is not much left


def classify(points: Sequence[CurvePoint], num_classes: int, diverged: bool = False) -> str:
    """What kind of run it was; one of KINDS.

    `diverged`: its loss was not finite. `at chance`: it never undid 5 % of the errors of guessing. `lost what it learned`: in the end less
    than half of the most it ever undid is undone. `plateau`: it undid less than half of the errors, and the second half of the run took
    less than 5 % off its error. `learning late`: less than half of what it undid in the end was undone by half of the run. `learning`:
    the rest.

    Raises:
        ValueError: there are no points of a run that did not diverge.
    """
    if diverged:
        return DIVERGED
    if not points:
        raise ValueError("a run without a curve cannot be classified")
    ordered = sorted(points, key=lambda point: point.iteration)
    last = ordered[-1]
    middle = next(
        (point for point in reversed(ordered) if 2 * point.iteration <= last.iteration), ordered[0]
    )
    most, half_way, end = (
        most_undone(ordered, num_classes),
        undone(middle.train_error, num_classes),
        undone(last.train_error, num_classes),
    )
    if most < CHANCE:
        return AT_CHANCE
    if end < most / 2:
        return LOST
    if end < LEARNED and last.train_error > (1 - STANDSTILL) * middle.train_error:
        return PLATEAU
    return LATE if half_way < end / 2 else LEARNING


def undone(error: float, num_classes: int) -> float:
    """The share of the errors of guessing that are none any more; below 0 where it errs more often than guessing does."""
    return 1 - error / (1 - 1 / num_classes)


def most_undone(points: Sequence[CurvePoint], num_classes: int) -> float:
    """The largest such share of a run, at any time."""
    return undone(min(point.train_error for point in points), num_classes)


def kinds_of(records: Sequence[Record], curves: Sequence[CurvePoint]) -> dict[Run, str]:
    """Kind of every run of one protocol, in the order of the records."""
    runs = runs_of(curves)
    keys = {(record.arm, record.depth, record.seed): record for record in records}
    return {
        key: classify(runs.get(key, ()), record.num_classes, record.status == DIVERGED)
        for key, record in keys.items()
    }


def runs_of(curves: Sequence[CurvePoint]) -> dict[Run, list[CurvePoint]]:
    """The points of every run."""
    runs: dict[Run, list[CurvePoint]] = {}
    for point in curves:
        runs.setdefault((point.arm, point.depth, point.seed), []).append(point)
    return runs


def table(records: Sequence[Record], curves: Sequence[CurvePoint]) -> list[list[str]]:
    """One line an arm and seed under a row of headings, one column a depth: the kind, and the most that was undone at any time."""
    kinds, runs = kinds_of(records, curves), runs_of(curves)
    num_classes = records[0].num_classes
    depths = sorted({depth for _, depth, _ in kinds})
    rows = [["arm", "seed", *map(str, depths)]]
    for arm, seed in sorted({(arm, seed) for arm, _, seed in kinds}):
        cells = []
        for depth in depths:
            key = (arm, depth, seed)
            cell = kinds.get(key, "–")
            cells.append(
                f"{cell} ({100 * most_undone(runs[key], num_classes):.1f})"
                if key in kinds and key in runs
                else cell
            )
        rows.append([arm, str(seed), *cells])
    return rows
