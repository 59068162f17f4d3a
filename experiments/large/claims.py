"""Do the large networks train at their own size? `python -m experiments.large.claims results/large`.

Each folder below results/large is one network, which made some updates on one fixed batch; its curve holds the loss before each of them.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import read_folders
from experiments.judging.verdict import NOT_REPRODUCED, Claim
from experiments.reporting.text import columns, tell
from plainres.records.files import read_curves
from plainres.records.schema import DIVERGED, CurvePoint, Record

LAST = 5  # iterations whose mean loss is the last one: dropout makes single ones scatter


@dataclass(frozen=True)
class Run:
    """One cell: its record and the losses of its iterations, nats per image."""

    record: Record
    losses: tuple[float, ...]

    @property
    def first(self) -> float:
        """Loss before the first update. Not a mean of several: some networks leap up first, and would look as if they had begun there."""
        return self.losses[0]

    @property
    def last(self) -> float:
        """Mean loss of the last iterations."""
        return statistics.fmean(self.losses[-LAST:])

    @property
    def diverged(self) -> bool:
        return self.record.status == DIVERGED


Runs = Mapping[str, Sequence[Run]]  # network → its cells


def read_large(folder: Path) -> dict[str, list[Run]]:
    """The cells by network, the fewest multiply-adds first.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    found = {}
    for network, records in read_folders(folder, "sweep-large").items():
        curves = read_curves(folder / network)
        found[network] = [Run(record, _losses(record, curves)) for record in records]
    return dict(sorted(found.items(), key=lambda item: item[1][0].record.num_multiply_adds or 0))


def _losses(record: Record, curves: Sequence[CurvePoint]) -> tuple[float, ...]:
    return tuple(
        point.train_loss
        for point in curves
        if (point.arm, point.depth, point.seed) == (record.arm, record.depth, record.seed)
    )


def check(runs: Runs) -> list[Claim]:
    """One claim a network: the loss of its fixed batch falls. Each is judged alone; one cell that diverged contradicts it."""
    claims = []
    for network, cells in runs.items():
        statement = f"{network}: the loss of a fixed batch falls"
        if diverged := [f"seed {run.record.seed}" for run in cells if run.diverged]:
            claims.append(Claim(statement, NOT_REPRODUCED, f"diverged: {', '.join(diverged)}"))
            continue
        fall = Criterion(
            "first - last loss", tuple(run.first - run.last for run in cells), unit="nats"
        )
        seen = f"{statistics.fmean(run.first for run in cells):.3f} → {statistics.fmean(run.last for run in cells):.3f} nats"
        claims += verdict.corrected([verdict.judge(statement, [fall], seen)])
    return claims


def table(runs: Runs) -> list[list[str]]:
    """One line a cell under a row of headings."""
    lines = [
        [
            "network",
            "seed",
            "parameters",
            "multiply-adds",
            "first loss",
            "last loss",
            "seconds/iteration",
            "MiB",
            "threads",
        ]
    ]
    for network, cells in runs.items():
        for run in cells:
            record = run.record
            work = "–" if record.num_multiply_adds is None else f"{record.num_multiply_adds:,}"
            losses = ["–", DIVERGED] if run.diverged else [f"{run.first:.3f}", f"{run.last:.3f}"]
            numbers = [
                *losses,
                f"{record.seconds / record.iterations:.2f}",
                f"{record.peak_memory_mib:,.0f}",
            ]
            lines.append(
                [
                    network,
                    str(record.seed),
                    f"{record.num_parameters:,}",
                    work,
                    *numbers,
                    str(record.threads),
                ]
            )
    return lines


def _report(folder: Path) -> tuple[list[str], int]:
    runs = read_large(folder)
    claims = check(runs)
    return [*columns(table(runs)), "", *verdict.lines(claims)], verdict.status(claims)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and verdicts; 1 when a loss does not fall, 2 and one line where there is nothing to judge."""
    return tell(
        _report, "Whether the large networks train at their own size.", "results/large", arguments
    )


if __name__ == "__main__":
    sys.exit(main())
