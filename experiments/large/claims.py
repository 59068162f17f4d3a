"""Can the large networks be built and trained at their own size? A smoke test without a verdict.

Each folder below results/large is one network, which made some updates on one fixed batch; its
curve holds the loss before each of them.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging.pairs import read_folders, rows_of
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.files import read_curves
from plainres.records.schema import DIVERGED, Record

LAST = 5  # iterations whose mean loss is the last one: with dropout single ones scatter


@dataclass(frozen=True)
class Run:
    """One cell: its record and the losses of its iterations, nats per image."""

    record: Record
    losses: tuple[float, ...]

    @property
    def first(self) -> float:
        """Loss before the first update; no mean of several, because some networks leap up first."""
        return self.losses[0]

    @property
    def last(self) -> float:
        """Mean loss of the last iterations."""
        return statistics.fmean(self.losses[-LAST:])

    @property
    def diverged(self) -> bool:
        return self.record.status == DIVERGED

    @property
    def learned(self) -> bool:
        """Whether the loss of the batch fell."""
        return not self.diverged and self.last < self.first


Runs = Mapping[str, Sequence[Run]]  # network → its cells


def read(folder: Path) -> list[Runs]:
    """The cells by network, the fewest multiply-adds first.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    runs = {}
    for network, records in read_folders(folder, "sweep-large").items():
        curves = read_curves(folder / network)
        runs[network] = [
            Run(record, tuple(point.train_loss for point in rows_of(record, curves)))
            for record in records
        ]
    return [dict(sorted(runs.items(), key=lambda item: item[1][0].record.num_multiply_adds or 0))]


def records_of(runs: Runs) -> list[Record]:
    """The records of all networks."""
    return [run.record for cells in runs.values() for run in cells]


def label_of(runs: Runs) -> str:
    records = records_of(runs)
    updates = max(record.iterations for record in records)
    return markdown.label_of(records, f"one batch, {updates} updates")


def table(runs: Runs) -> Table:
    """One line per cell."""
    heads = ["network", "seed", "parameters", "multiply-adds", "first loss", "last loss"]
    rows = [[*heads, "seconds/iteration", "MiB", "threads"]]
    for network, cells in runs.items():
        for run in cells:
            record = run.record
            work = "–" if record.num_multiply_adds is None else f"{record.num_multiply_adds:,}"
            losses = ["–", DIVERGED]
            if not run.diverged:
                losses = [f"{run.first:.3f}", f"{run.last:.3f}"]
            pace = f"{record.seconds / record.iterations:.2f}"
            size = [f"{record.num_parameters:,}", work]
            machine = [pace, f"{record.peak_memory_mib:,.0f}", str(record.threads)]
            rows.append([network, str(record.seed), *size, *losses, *machine])
    learned = sum(all(run.learned for run in cells) for cells in runs.values())
    shows = (
        f"A smoke test: it shows that {learned} of {len(runs)} networks can be built and trained "
        "at their own size (the loss of a fixed batch falls), and nothing about the paper's claims."
    )
    note = (
        f"First loss: before the first update. Last loss: mean of the last {LAST} iterations. Nats "
        "per image. Multiply-adds: forward pass of one image."
    )
    return Table("", rows, [shows, note])
