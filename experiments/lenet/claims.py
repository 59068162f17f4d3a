"""How well does LeNet-5 do today?

Each folder below results/lenet is one data set and one variant of the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.errors import error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.pairs import (
    Series,
    compare,
    grouped,
    judge,
    mean_errors,
    read_folders,
    require_alike,
    require_same_images,
)
from experiments.judging.verdict import Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

FASHION, DIGITS = "fashion_mnist", "digits"
MODERN, OLD, SIGMOID = "modern", "1998", "1998-sigmoid"
# Networks with two convolutions err on 6.8 to 12.4 % in the list of the data set's README
# (github.com/zalandoresearch/fashion-mnist)
ROUND_FIGURE = 0.10
STATEMENTS = (
    "LeNet-5 with ReLU and max pooling errs on at most 10 % of Fashion-MNIST's test images",
    "with tanh and average pooling it errs more, on the same images",
    "with the sigmoid and average pooling it errs more than with tanh, on the same images",
)


@dataclass(frozen=True)
class Runs:
    """Records and curves by folder, which is named <data>-<variant>."""

    records: Mapping[str, Sequence[Record]]
    curves: Mapping[str, Sequence[CurvePoint]]


def read(folder: Path) -> list[Runs]:
    """All cells, as one part.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    records = read_folders(folder, "sweep-lenet")
    for names in grouped(records, lambda name: name.partition("-")[0]).values():
        require_same_images({name: records[name] for name in names})
        require_alike(folder, names, r"model\..*")
    return [Runs(records, {name: read_curves(folder / name) for name in records})]


def records_of(runs: Runs) -> list[Record]:
    """The records of all folders."""
    return [record for records in runs.records.values() for record in records]


def label_of(runs: Runs) -> str:
    records = records_of(runs)
    iterations = max(record.iterations for record in records)
    return markdown.label_of(records, f"32×32, {iterations:,} iterations")


def check(runs: Runs) -> list[Claim]:
    """The claims in the order of STATEMENTS, on test error; corrected together."""
    modern, old, sigmoid = names = [f"{FASHION}-{variant}" for variant in (MODERN, OLD, SIGMOID)]
    series = {
        name: Series.of(runs.records.get(name, ()), lambda r: error_or_chance(r, "test_error"))
        for name in names
    }
    alone = {modern: series[modern]}
    gains = tuple(ROUND_FIGURE - alone[modern][seed] for seed in sorted(alone[modern]))
    below = Criterion("10 % - test error", gains)
    low = judge(STATEMENTS[0], alone, lambda: [below], lambda: mean_errors(alone, "test error"))
    worse = [
        compare(statement, {name: series[name] for name in pair})
        for statement, pair in zip(STATEMENTS[1:], ((old, modern), (sigmoid, old)), strict=True)
    ]
    return verdict.corrected([low, *worse])


def table(runs: Runs) -> Table:
    """One line per cell."""
    heads = ["training error", "in evaluation mode", "test error", "iterations", "seconds"]
    rows = [["data and variant", "seed", "parameters", *heads]]
    for name, records in runs.records.items():
        for row in records:
            measured = (row.train_error, row.train_error_eval, row.test_error)
            errors = [row.status if value is None else f"{100 * value:.2f}" for value in measured]
            cost = [f"{row.iterations:,}", f"{row.seconds:.0f}"]
            rows.append([name, str(row.seed), f"{row.num_parameters:,}", *errors, *cost])
    note = (
        "Errors in %. Training error: running, on augmented images. In evaluation mode: the same "
        "network on unaugmented training images. Test error: final weights."
    )
    return Table("", rows, [note])
