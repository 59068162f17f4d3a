"""Whether what this machine measured is, or lies in the range of, the committed results.

A cell under the conditions of the committed one gives its numbers digit by digit.

The range of a network is the 95 % prediction interval for one more run, from Student's t over the
committed seeds: mean ± t·s·√(1 + 1/n), joined with the smallest and largest committed error.
So it says whether a run is one of the same kind; it tests no claim. Only seeds that were measured
under the conditions of the run count: seeds on one machine say nothing about the range on another.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from experiments.judging.conditions import conditions_of, differences
from experiments.judging.errors import error_or_chance
from experiments.judging.inference import CONFIDENCE
from experiments.judging.pairs import folders_of_records, read_records
from experiments.reporting.markdown import protocols_of
from plainres.records.files import CONFIG_FILE, read_config
from plainres.records.identity import config_differences
from plainres.records.schema import Record

NUMBERS = ("train_error", "train_loss", "test_error")
MOST_NAMES = 10  # more cells than these are counted, not named


def reference_range(errors: Sequence[float]) -> tuple[float, float]:
    """The range, fractions in [0, 1], of one more run's error, from two committed seeds or more."""
    count = len(errors)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    half_width = quantile * statistics.stdev(errors) * math.sqrt(1 + 1 / count)
    mean = statistics.fmean(errors)
    low, high = min(mean - half_width, *errors), max(mean + half_width, *errors)
    return max(low, 0.0), min(high, 1.0)


def compare(local: Path, committed: Path) -> list[str]:
    """How many of the local cells are, or lie in the range of, the committed ones, and which not.

    Args:
        local: a folder below results/local; the tables in it and below it are compared.
        committed: the folder of the same name below results.

    Returns:
        One line with each count; one per cell outside; one for the cells that were measured under
        other conditions; one per number of seeds for the networks without a range; one for the
        cells that were measured before training, whose error says nothing; one per folder that
        cannot be compared, with the reason.
    """
    outside, without, reasons = [], dict[int, list[str]](), []
    untrained: list[str] = []
    unlike: dict[str, list[str]] = {}
    compared: list[Record] = []
    equal = both = 0
    unpublished: list[Path] = []
    seeds = set()
    for folder in folders_of_records(local):
        reference = committed / folder.relative_to(local)
        records, references = read_records(folder), read_records(reference)
        if not references:
            unpublished.append(folder)
        elif difference := _difference(folder, records, reference, references):
            reasons.append(f"{folder} cannot be compared with {reference}: {difference}")
        else:
            prefix = "" if folder == local else f"{folder.relative_to(local).as_posix()}/"
            twins = {reference.cell: _numbers(reference) for reference in references}
            both += sum(record.cell in twins for record in records)
            equal += sum(twins.get(record.cell) == _numbers(record) for record in records)
            for record in records:
                if record.iterations <= 1:  # it was measured before training
                    untrained.append(prefix + record.cell)
                    continue
                network = (record.arm, record.depth)
                rows = [row for row in references if (row.arm, row.depth) == network]
                alike = [row for row in rows if not differences((row, record))]
                if len(rows) < 2:
                    without.setdefault(len(rows), []).append(prefix + record.cell)
                    continue
                if len(alike) < 2:
                    unlike.setdefault(_unlike(record, rows), []).append(prefix + record.cell)
                    continue
                compared.append(record)
                seeds.add(len(alike))
                low, high = reference_range([*map(error_or_chance, alike)])
                error = error_or_chance(record)
                if not low <= error <= high:
                    outside.append(
                        f"outside the reference: {prefix}{record.cell}, training error "
                        f"{100 * error:.2f} %, {100 * low:.2f} to {100 * high:.2f} % expected"
                    )
    lines = (
        [f"{equal} of {both} cells have the committed errors and training loss, digit by digit"]
        if equal
        else []
    )
    if compared:
        count = f"{len(compared) - len(outside)} of {len(compared)} cells inside the reference"
        lines.append(f"{count} ({_label(compared, sorted(seeds))})")
    lines += outside
    lines += [
        f"not comparable ({conditions}): {_names(cells)}" for conditions, cells in unlike.items()
    ]
    for number, cells in sorted(without.items()):
        lines.append(f"no range ({number} seed{'s' * (number != 1)}): {_names(cells)}")
    if untrained:
        lines.append(f"no range (not trained): {_names(untrained)}")
    if unpublished:
        place = unpublished[0] if len(unpublished) == 1 else f"{len(unpublished)} tables in {local}"
        lines.append(f"no reference for {place}: no records of it are committed")
    return lines + reasons


def _numbers(record: Record) -> list[float | None]:
    return [getattr(record, name) for name in NUMBERS]


def _names(cells: Sequence[str]) -> str:
    return ", ".join(cells) if len(cells) <= MOST_NAMES else f"{len(cells)} cells"


def _unlike(record: Record, references: Sequence[Record]) -> str:
    """In which conditions a record differs from the committed ones."""
    names = [line.split(":")[0] for line in differences([record, *references])]
    here, *there = (
        ", ".join(getattr(conditions_of(row), name) for name in names)
        for row in (record, *references)
    )
    return f"here {here}, the reference {' and '.join(dict.fromkeys(there))}"


def _difference(
    folder: Path, records: Sequence[Record], reference: Path, references: Sequence[Record]
) -> str:
    """What keeps two folders from being compared; "" for nothing."""
    labels = [", ".join(sorted({row.data_label for row in rows})) for rows in (records, references)]
    if labels[0] != labels[1]:
        return f"data {labels[0]}, not {labels[1]}"
    configs = []
    for place in (reference, folder):
        if not (config := read_config(place)):
            return f"no {CONFIG_FILE} in {place}"
        configs.append(config)
    old, new = configs
    return "; ".join(config_differences(old, new))


def _label(records: Sequence[Record], seeds: Sequence[int]) -> str:
    data = ", ".join(sorted({record.data_label for record in records}))
    protocol = ", ".join(protocols_of(records))
    numbers = " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
    return f"{data}, protocol {protocol}, {numbers} seeds"
