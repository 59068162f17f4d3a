"""How soon do residual networks reach a training error?

Each folder below results/pace is one width, batch size and learning rate; all see as many images.
Seconds are those of the record, spread evenly over its iterations. They compare on one kind of
processor and under the same conditions only, final errors under the same conditions. The error is
the running one, which looks back one epoch.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.judging.conditions import conditions_of
from experiments.judging.errors import MARGIN
from experiments.judging.pairs import (
    errors_by_seed,
    grouped,
    not_comparable,
    read_folders,
    require_same_images,
    rows_of,
    shared_seeds,
)
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

TARGETS = (0.30, 0.25)
DEEPER, SHALLOWER = 110, 20


@dataclass(frozen=True)
class Pace:
    """One cell with its curve."""

    setting: str
    record: Record
    curve: list[CurvePoint]

    @property
    def machine(self) -> str:
        """What its seconds were measured on: the processor, and the conditions."""
        machine, precision, torch, kernels, threads = conditions_of(self.record)
        usual = conditions_of(replace(self.record, instruction_set="")).machine
        limit = [] if machine == usual else [machine]
        own = [] if kernels == "library" else [f"{kernels} kernels"]
        own += [] if threads == "1 thread" else [threads]
        return ", ".join([self.record.processor, *limit, precision, f"torch {torch}", *own])

    @property
    def seconds_to(self) -> list[float | None]:
        """Seconds until the running training error was at most each of TARGETS; None: never."""
        per_iteration = self.record.seconds / self.record.iterations
        seconds = []
        for target in TARGETS:
            iterations = [point.iteration for point in self.curve if point.train_error <= target]
            seconds.append(min(iterations) * per_iteration if iterations else None)
        return seconds


def read(folder: Path) -> list[list[Pace]]:
    """The cells of all settings, by depth, seconds to the last target, and final error."""
    folders = read_folders(folder, "sweep-pace")
    require_same_images(folders)
    paces = []
    for setting, records in folders.items():
        curves = read_curves(folder / setting)
        for record in records:
            paces.append(Pace(setting, record, rows_of(record, curves)))
    return [sorted(paces, key=_order)]


def _order(pace: Pace) -> tuple[int, float, float]:
    last, error = pace.seconds_to[-1], pace.record.train_error
    return pace.record.depth, math.inf if last is None else last, 1.0 if error is None else error


def label_of(paces: Sequence[Pace]) -> str:
    records = [pace.record for pace in paces]
    return markdown.label_of(records, "by width, batch and learning rate")


def fastest(paces: Sequence[Pace]) -> Table:
    """Which setting reaches each target first, by depth and machine; and whether depth pays."""
    rows = [["depth", "machine", "training error", "fastest setting", "seconds"]]
    for depth, machine in sorted({(pace.record.depth, pace.machine) for pace in paces}):
        compared = [pace for pace in paces if (pace.record.depth, pace.machine) == (depth, machine)]
        for number, target in enumerate(TARGETS):
            times = [(pace.seconds_to[number], pace.setting) for pace in compared]
            reached = [(seconds, setting) for seconds, setting in times if seconds is not None]
            seconds, setting = min(reached, default=(math.nan, "none reaches it"))
            texts = [setting, f"{seconds:.0f}" if reached else "–"]
            rows.append([str(depth), machine, f"{100 * target:g} %", *texts])
    return Table("The fastest setting to a running training error", rows, _depth_pays(paces))


def _depth_pays(paces: Sequence[Pace]) -> list[str]:
    """In which settings the deeper network ends below the shallower one; what cannot be compared.

    By more than the margin, as mean over the seeds that both have. A diverged run counts as chance.
    """
    differences, unlike, incomplete = {}, [], []
    for setting, own in sorted(grouped(paces, lambda pace: pace.setting).items()):
        records = [pace.record for pace in own]
        series = {
            f"residual-{depth}": errors_by_seed(records, "residual", depth)
            for depth in (DEEPER, SHALLOWER)
        }
        if seeds := shared_seeds(series):
            deeper, shallower = series.values()
            differences[setting] = statistics.fmean(deeper[s] - shallower[s] for s in seeds)
        if line := not_comparable(series):
            unlike.append(f"{setting}, {line}.")
        if not all(series.values()):
            incomplete.append(setting)
    if incomplete:
        unlike.append(f"Without one of the two depths: {', '.join(incomplete)}.")
    if not differences:
        nowhere = f"No setting has residual-{DEEPER} and residual-{SHALLOWER} that can be compared."
        return [nowhere, *unlike]
    better = [setting for setting, difference in differences.items() if difference < -MARGIN]
    settings = f"{', '.join(better) or 'none'} (of {', '.join(differences)})"
    below = f"residual-{DEEPER} ended more than {100 * MARGIN:g} points below residual-{SHALLOWER}"
    return [f"Not tested: {below} in {settings}.", *unlike]


def table(paces: Sequence[Pace]) -> Table:
    """One line per cell; seconds of one core where the record says one thread."""
    goals = [f"seconds to {100 * target:g} %" for target in TARGETS]
    final = ["final training error", "seconds in all", "threads", "machine"]
    rows = [["depth", "setting", "seed", *goals, *final]]
    for pace in paces:
        record = pace.record
        error = record.status if record.train_error is None else f"{100 * record.train_error:.2f} %"
        seconds = ["never" if value is None else f"{value:.0f}" for value in pace.seconds_to]
        cost = [f"{record.seconds:.0f}", str(record.threads), pace.machine]
        rows.append([str(record.depth), pace.setting, str(record.seed), *seconds, error, *cost])
    return Table("Every cell", rows)
