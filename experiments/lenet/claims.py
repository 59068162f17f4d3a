"""How well LeNet-5 does today: `python -m experiments.lenet.claims results/lenet`.

Each folder below results/lenet is one data set and era. How a verdict follows from differences within seeds: experiments.judging.verdict.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import read_folders
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.text import columns, tell
from plainres.records.schema import Record

FASHION, DIGITS = "fashion_mnist", "digits"
MODERN, OLD = "modern", "1998"
ROUND_FIGURE = 0.10  # networks with two convolutions err on 6.8 to 12.4 % in the README of github.com/zalandoresearch/fashion-mnist
STATEMENTS = (
    "LeNet-5 with ReLU and max pooling errs on at most 10 % of Fashion-MNIST's test images",
    "with tanh and average pooling it errs more, on the same images",
)

Cells = Mapping[str, Sequence[Record]]  # folder → its records


def read_cells(folder: Path) -> dict[str, list[Record]]:
    """The records by folder.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    return read_folders(folder, "sweep-lenet")


def errors_by_seed(cells: Cells, data: str, era: str) -> dict[int, float]:
    """Test error by seed, as a fraction; that of guessing for a diverged run."""
    records = cells.get(f"{data}-{era}", ())
    return {
        r.seed: 1 - 1 / r.num_classes if r.test_error is None else r.test_error for r in records
    }


def check(cells: Cells) -> list[Claim]:
    """The two claims, in the order of STATEMENTS."""
    modern, old = (errors_by_seed(cells, FASHION, era) for era in (MODERN, OLD))
    claims = []
    if modern:
        below = Criterion(
            "10 % - test error", tuple(ROUND_FIGURE - modern[seed] for seed in sorted(modern))
        )
        claims.append(
            verdict.judge(
                STATEMENTS[0],
                [below],
                f"test error {100 * statistics.fmean(modern.values()):.2f} %",
            )
        )
    else:
        claims.append(Claim(STATEMENTS[0], INCONCLUSIVE, f"missing: {FASHION}-{MODERN}"))
    if seeds := sorted(modern.keys() & old.keys()):
        more = Criterion("1998 - modern", tuple(old[seed] - modern[seed] for seed in seeds))
        claims.append(
            verdict.judge(STATEMENTS[1], [more], f"{more.name}: {verdict.points(more.mean)}")
        )
    else:
        claims.append(
            Claim(
                STATEMENTS[1],
                INCONCLUSIVE,
                f"missing: {FASHION}-{OLD} and {FASHION}-{MODERN} of one seed",
            )
        )
    return verdict.corrected(claims)


def table(cells: Cells) -> list[list[str]]:
    """One line a cell under a row of headings; errors in per cent."""
    lines = [
        [
            "data and era",
            "seed",
            "parameters",
            "training error",
            "in evaluation mode",
            "test error",
            "iterations",
            "seconds",
        ]
    ]
    for name, records in cells.items():
        for record in records:
            measured = (record.train_error, record.train_error_eval, record.test_error)
            errors = [
                record.status if value is None else f"{100 * value:.2f}" for value in measured
            ]
            rest = [f"{record.iterations:,}", f"{record.seconds:.0f}"]
            lines.append([name, str(record.seed), f"{record.num_parameters:,}", *errors, *rest])
    return lines


def _report(folder: Path) -> tuple[list[str], int]:
    cells = read_cells(folder)
    claims = check(cells)
    return [*columns(table(cells)), "", *verdict.lines(claims)], verdict.status(claims)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and verdicts; 1 when a claim is not reproduced, 2 and one line where there is nothing to judge."""
    return tell(_report, "How well LeNet-5 does today.", "results/lenet", arguments)


if __name__ == "__main__":
    sys.exit(main())
