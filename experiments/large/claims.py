"""Do the large networks train at their own size? `python -m experiments.large.claims results/large`.

Each folder below results/large is one network, which made some updates on one fixed batch; its curve holds the loss before each of them.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import verdict
from experiments.inference import Criterion
from experiments.text import columns, tell
from experiments.verdict import Claim
from plainres.record import FINISHED, RUNS_TABLE, CurvePoint, Record, read_curves, read_runs

ENDS = 5  # iterations at either end of a run whose mean loss is compared: dropout makes single ones scatter


@dataclass(frozen=True)
class Run:
    """One cell: its record and the losses of its iterations, nats per image."""

    record: Record
    losses: tuple[float, ...]

    @property
    def first(self) -> float:
        """Mean loss of the first iterations."""
        return statistics.fmean(self.losses[:ENDS])

    @property
    def last(self) -> float:
        """Mean loss of the last iterations; infinite where the run diverged."""
        return statistics.fmean(self.losses[-ENDS:]) if self.record.status == FINISHED else float("inf")


Runs = Mapping[str, Sequence[Run]]  # network → its cells


def read_large(folder: Path) -> dict[str, list[Run]]:
    """The cells by network, the fewest multiply-adds first.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    found = {}
    for table in sorted(folder.glob(f"*/{RUNS_TABLE}")):
        curves = read_curves(table.parent)
        found[table.parent.name] = [Run(record, _losses(record, curves)) for record in read_runs(table.parent)]
    if not found:
        raise ValueError(f"no records in {folder}; make sweep-large measures them")
    return dict(sorted(found.items(), key=lambda item: item[1][0].record.num_multiply_adds or 0))


def _losses(record: Record, curves: Sequence[CurvePoint]) -> tuple[float, ...]:
    return tuple(point.train_loss for point in curves if (point.arm, point.depth, point.seed) == (record.arm, record.depth, record.seed))


def check(runs: Runs) -> list[Claim]:
    """One claim a network: the loss of its fixed batch falls. Not corrected: each is a claim of its own, of one network."""
    claims = []
    for network, cells in runs.items():
        fall = Criterion("first - last loss", tuple(run.first - run.last for run in cells))
        seen = f"{statistics.fmean(run.first for run in cells):.3f} → {statistics.fmean(run.last for run in cells):.3f} nats"
        claims.append(verdict.judge(f"{network}: the loss of a fixed batch falls", [fall], seen))
    return claims


def table(runs: Runs) -> list[list[str]]:
    """One line a cell under a row of headings."""
    lines = [["network", "seed", "parameters", "multiply-adds", "first loss", "last loss", "seconds/iteration", "MiB", "threads"]]
    for network, cells in runs.items():
        for run in cells:
            record = run.record
            work = "–" if record.num_multiply_adds is None else f"{record.num_multiply_adds:,}"
            numbers = [f"{run.first:.3f}", f"{run.last:.3f}", f"{record.seconds / record.iterations:.2f}", f"{record.peak_memory_mib:,.0f}"]
            lines.append([network, str(record.seed), f"{record.num_parameters:,}", work, *numbers, str(record.threads)])
    return lines


def _report(folder: Path) -> tuple[list[str], int]:
    runs = read_large(folder)
    claims = check(runs)
    return [*columns(table(runs)), "", *verdict.lines(claims)], verdict.status(claims)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and verdicts; 1 when a loss does not fall, 2 and one line where there is nothing to judge."""
    return tell(_report, "Whether the large networks train at their own size.", "results/large", arguments)


if __name__ == "__main__":
    sys.exit(main())
