"""Whether what this machine measured lies inside the range of the committed results.

The range of a network is the 95 % prediction interval for one more run, from Student's t over the
committed seeds: mean ± t·s·√(1 + 1/n), joined with the smallest and largest committed error. So it
says whether a run is one of the same kind; it tests no claim.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from experiments.judging.errors import error_or_chance
from experiments.judging.inference import CONFIDENCE
from experiments.judging.pairs import errors_by_seed
from experiments.reporting.text import seeds_of
from plainres.records.files import CONFIG_FILE, read_json, read_runs
from plainres.records.identity import config_differences
from plainres.records.schema import Record


def reference_range(errors: Sequence[float]) -> tuple[float, float]:
    """The range, fractions within [0, 1], in which one more run's error is expected.

    Args:
        errors: of two committed seeds or more.
    """
    count = len(errors)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    half_width = quantile * statistics.stdev(errors) * math.sqrt(1 + 1 / count)
    mean = statistics.fmean(errors)
    low, high = min(mean - half_width, *errors), max(mean + half_width, *errors)
    return max(low, 0.0), min(high, 1.0)


def compare(local: Path, committed: Path) -> list[str]:
    """How many of the local cells lie inside the range of the committed ones, and which do not.

    Args:
        local: a folder below results/local with runs.csv and config.json.
        committed: the folder of the same name below results.

    Returns:
        One line with the count; one per cell outside; one per number of seeds for the networks
        without a range. Or one line that says why the folders cannot be compared.

    Raises:
        ValueError: there are no local records, or a table is damaged.
    """
    records, references = read_runs(local), read_runs(committed)
    if not records:
        raise ValueError(f"no records in {local}")
    if not references:
        return [f"no reference: {committed} has no records"]
    if difference := _difference(local, records, committed, references):
        return [f"{local} and {committed} cannot be compared: {difference}"]
    inside, outside, without = 0, [], dict[int, list[str]]()
    for record in records:
        errors = list(errors_by_seed(references, record.arm, record.depth).values())
        if len(errors) < 2:
            without.setdefault(len(errors), []).append(record.cell)
            continue
        low, high = reference_range(errors)
        error = error_or_chance(record)
        if low <= error <= high:
            inside += 1
        else:
            numbers = f"training error {_percent(error)} %, {_percent(low)} to {_percent(high)} %"
            outside.append(f"outside the reference: {record.cell}, {numbers} expected")
    lines = []
    if compared := inside + len(outside):
        lines.append(f"{inside} of {compared} cells inside the reference ({_label(references)})")
    lines += outside
    for count, cells in sorted(without.items()):
        seeds = f"{count} seed{'s' * (count != 1)}"
        lines.append(f"no range ({seeds}): {', '.join(cells)}")
    return lines


def _difference(
    local: Path, records: Sequence[Record], committed: Path, references: Sequence[Record]
) -> str:
    """What keeps two folders from being compared; "" for nothing."""
    labels = [", ".join(sorted({row.data_label for row in rows})) for rows in (records, references)]
    if labels[0] != labels[1]:
        return f"data {labels[0]} and {labels[1]}"
    for folder in (local, committed):
        if not read_json(folder / CONFIG_FILE):
            return f"{folder} has no {CONFIG_FILE}"
    configs = [read_json(folder / CONFIG_FILE) for folder in (committed, local)]
    return "; ".join(config_differences(*configs))


def _label(records: Sequence[Record]) -> str:
    labels, protocols = ({getattr(r, name) for r in records} for name in ("data_label", "protocol"))
    data, protocol = (", ".join(sorted(names)) for names in (labels, protocols))
    return f"{data}, protocol {protocol}, {seeds_of(records)}"


def _percent(error: float) -> str:
    return f"{100 * error:.2f}"
