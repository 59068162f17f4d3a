"""How soon residual networks reach a training error: `python -m experiments.pace.claims results/pace`.

Each folder below results/pace is one width, batch size and learning rate; all see as many images. Seconds are those of the record, spread
evenly over its iterations, and compare on one kind of processor only; the error is the running one, which looks back one epoch.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging.pairs import read_folders, require_same_images
from experiments.reporting.text import columns, tell
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

TARGETS = (0.30, 0.25)
DEEPER, SHALLOWER = 110, 20


@dataclass(frozen=True)
class Pace:
    """One cell: seconds until the running training error was at most each of TARGETS, None where it never was."""

    setting: str
    record: Record
    seconds_to: tuple[float | None, ...]

    @property
    def machine(self) -> str:
        """What its seconds were measured on: processor and precision."""
        return f"{self.record.processor}, {self.record.precision}"


def pace_of(setting: str, record: Record, curve: Sequence[CurvePoint]) -> Pace:
    """The pace of one cell.

    Args:
        curve: the cell's points, in any order.
    """
    per_iteration = record.seconds / record.iterations
    reached = []
    for target in TARGETS:
        iterations = [point.iteration for point in curve if point.train_error <= target]
        reached.append(min(iterations) * per_iteration if iterations else None)
    return Pace(setting, record, tuple(reached))


def read_paces(folder: Path) -> list[Pace]:
    """The cells of all settings, by depth, then by how soon they reach the last target, then by final error.

    Raises:
        ValueError: there are no records, a table is damaged, or settings were measured on different images.
    """
    found = read_folders(folder, "sweep-pace")
    require_same_images(found)
    paces = []
    for setting, records in found.items():
        curves = read_curves(folder / setting)
        for record in records:
            points = [
                point
                for point in curves
                if (point.arm, point.depth, point.seed) == (record.arm, record.depth, record.seed)
            ]
            paces.append(pace_of(setting, record, points))
    return sorted(paces, key=_order)


def _order(pace: Pace) -> tuple[int, float, float]:
    last, error = pace.seconds_to[-1], pace.record.train_error
    return (
        pace.record.depth,
        float("inf") if last is None else last,
        1.0 if error is None else error,
    )


def table(paces: Sequence[Pace]) -> list[list[str]]:
    """One line a cell under a row of headings; seconds of one core where the record says one thread."""
    heads = [f"seconds to {100 * target:g} %" for target in TARGETS]
    lines = [
        ["depth", "setting", "seed", *heads, "final train_error", "seconds in all", "threads", "on"]
    ]
    for pace in paces:
        record = pace.record
        error = record.status if record.train_error is None else f"{100 * record.train_error:.2f} %"
        seconds = ["never" if value is None else f"{value:.0f}" for value in pace.seconds_to]
        lines.append(
            [
                str(record.depth),
                pace.setting,
                str(record.seed),
                *seconds,
                error,
                f"{record.seconds:.0f}",
                str(record.threads),
                pace.machine,
            ]
        )
    return lines


def summary(paces: Sequence[Pace]) -> str:
    """Which setting reaches each target soonest at each depth and machine, and in which the deeper network ends below the shallower."""
    machines = {pace.machine for pace in paces}
    lines = []
    for depth, machine in sorted({(pace.record.depth, pace.machine) for pace in paces}):
        where = f" on {machine}" if len(machines) > 1 else ""
        for number, target in enumerate(TARGETS):
            reached = [
                (pace.seconds_to[number], pace.setting)
                for pace in paces
                if (pace.record.depth, pace.machine) == (depth, machine)
            ]
            soonest = min(
                ((seconds, setting) for seconds, setting in reached if seconds is not None),
                default=None,
            )
            told = (
                "no setting got there"
                if soonest is None
                else f"soonest is {soonest[1]}, after {soonest[0]:.0f} seconds"
            )
            lines.append(
                f"- residual-{depth} to {100 * target:g} % running training error{where}: {told}"
            )
    errors = {
        (pace.setting, pace.record.depth): pace.record.train_error
        for pace in paces
        if pace.record.train_error is not None
    }
    both = sorted(
        {setting for setting, depth in errors if depth == DEEPER and (setting, SHALLOWER) in errors}
    )
    if both:
        better = [
            setting for setting in both if errors[setting, DEEPER] < errors[setting, SHALLOWER]
        ]
        lines.append(
            f"- residual-{DEEPER} ends below residual-{SHALLOWER} in: {', '.join(better) or 'none'} (of {', '.join(both)})"
        )
    else:
        lines.append(f"- residual-{DEEPER} beside residual-{SHALLOWER}: not measured")
    return "\n".join(lines)


def _report(folder: Path) -> tuple[list[str], int]:
    paces = read_paces(folder)
    return [*columns(table(paces)), "", summary(paces)], 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and summary; 2 and one line where there is nothing to judge."""
    return tell(
        _report, "How soon residual networks reach a training error.", "results/pace", arguments
    )


if __name__ == "__main__":
    sys.exit(main())
