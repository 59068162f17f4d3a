"""Differences within seeds: which seeds two or more networks share, or what is missing.

Networks of one seed share batches and, where shapes allow, initial weights. So a difference is
taken between runs of one seed, and a claim is judged over the seeds that all its networks have.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments.judging import verdict
from experiments.judging.errors import error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from plainres.records.files import RUNS_TABLE, read_runs
from plainres.records.identity import config_differences
from plainres.records.schema import Record

LOCAL = "local"  # results/local holds what this machine measured, laid out as results

Series = Mapping[int, float]  # seed → value
Cell = tuple[str, int, int]  # arm, depth, seed
Row = TypeVar("Row")
Key = TypeVar("Key")


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """The rows of each key, in their order."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def cell_of(row: Any) -> Cell:
    """The cell of a record, or of a row of another table that has these columns."""
    return row.arm, row.depth, row.seed


def rows_of(record: Record, rows: Iterable[Row]) -> list[Row]:
    """The rows of a table, as curves, that belong to the cell of a record."""
    return [row for row in rows if cell_of(row) == cell_of(record)]


def errors_by_seed(
    records: Iterable[Record], arm: str, depth: int, measure: str = "train_error"
) -> dict[int, float]:
    """The errors of one network as a series; a diverged run counts as chance."""
    rows = (record for record in records if (record.arm, record.depth) == (arm, depth))
    return {record.seed: error_or_chance(record, measure) for record in rows}


def shared_seeds(series: Mapping[Any, Series]) -> list[int]:
    """The seeds that all series have, ascending; none where there are no series."""
    return sorted(set.intersection(*map(set, series.values()))) if series else []


def what_is_missing(series: Mapping[str, Series]) -> str:
    """Names the empty series, or says which seeds each one has where they share none."""
    if empty := [name for name, values in series.items() if not values]:
        return f"missing: {', '.join(empty)}"
    seeds = "; ".join(f"{name}: {', '.join(map(str, sorted(v)))}" for name, v in series.items())
    return f"missing: a seed that all have ({seeds})"


def difference(
    series: Mapping[str, Series],
    larger: str,
    smaller: str,
    bound: float = 0.0,
    above: bool = True,
    name: str = "",
) -> Criterion:
    """The criterion "`larger` - `smaller` lies above (or below) `bound`", over shared seeds."""
    values = tuple(series[larger][s] - series[smaller][s] for s in shared_seeds(series))
    return Criterion(name or f"{larger} - {smaller}", values, bound, above)


def mean_over(series: Iterable[Sequence[float]]) -> tuple[float, ...]:
    """The mean of several series over the same seeds, seed by seed."""
    return tuple(map(statistics.fmean, zip(*series, strict=True)))


def judge(
    statement: str,
    series: Mapping[str, Series],
    criteria: Callable[[], Sequence[Criterion]],
    summary: Callable[[], str] | None = None,
) -> Claim:
    """A claim over the seeds that all series share; inconclusive where they share none.

    Criteria and summary are made where they share some. Without a summary: each criterion's mean.
    """
    if not shared_seeds(series):
        return Claim(statement, INCONCLUSIVE, what_is_missing(series))
    judged = criteria()
    return verdict.judge(statement, judged, summary() if summary else means(judged))


def compare(
    statement: str, series: Mapping[str, Series], bound: float = 0.0, measure: str = "test error"
) -> Claim:
    """The claim that the first of two series lies above the second, by more than `bound`."""
    larger, smaller = series
    return judge(
        statement,
        series,
        lambda: [difference(series, larger, smaller, bound)],
        lambda: mean_errors(series, measure),
    )


def means(criteria: Sequence[Criterion]) -> str:
    """The mean of each criterion, by name."""
    return ", ".join(f"{c.name}: {verdict.amount(c.mean, c.unit)}" for c in criteria)


def mean_errors(series: Mapping[str, Series], measure: str) -> str:
    """`training error 70.87 % (plain-56), 8.38 % (residual-302)`: means over the shared seeds."""
    seeds = shared_seeds(series)
    means = {n: statistics.fmean(values[s] for s in seeds) for n, values in series.items()}
    return f"{measure} " + ", ".join(f"{100 * mean:.2f} % ({n})" for n, mean in means.items())


def read_folders(folder: Path, target: str) -> dict[str, list[Record]]:
    """The records of each folder below `folder` that has a table, by the folder's name.

    Where there are none, the message names the Makefile's target that measures them.
    """
    tables = sorted(folder.glob(f"*/{RUNS_TABLE}"))
    records = {path.parent.name: read_runs(path.parent) for path in tables}
    if not any(records.values()):
        raise ValueError(f"no records in {folder}; make {target} measures them")
    return records


def borrowed_folder(folder: Path, slug: str, other: str, name: str) -> Path:
    """The folder of question `other` from which a folder of question `slug` borrows records.

    In results/local that is what was measured on this machine, or else the committed folder.

    Args:
        folder: `<results>/<slug>` or a folder below it.
        name: of the other question's folder, as a protocol's.
    """
    results = next(path for path in [folder, *folder.parents] if path.name == slug).parent
    beside = results / other / name
    if results.name == LOCAL and not (beside / RUNS_TABLE).exists():
        return results.parent / other / name
    return beside


def change_of(
    old: Mapping[str, Any], new: Mapping[str, Any], brings: Mapping[str, Sequence[str]]
) -> str:
    """The choice in which two configurations differ, as `name: old → new`.

    Args:
        brings: choice → what changes with it, and is no choice of its own.
    """
    lines = {line.split(":")[0]: line for line in config_differences(old, new)}
    ignored = {"protocol.name", *(name for choice in lines for name in brings.get(choice, ()))}
    return "; ".join(line for name, line in lines.items() if name not in ignored) or "nothing"


def require_same_images(records: Mapping[str, Sequence[Record]]) -> None:
    """Raises ValueError where folders hold runs on different images; names two of them."""
    rows = [(name, row) for name, records_of_one in records.items() for row in records_of_one]
    for name, row in rows:
        first, reference = rows[0]
        if row.data_fingerprint != reference.data_fingerprint:
            raise ValueError(
                f"{first} was measured on {reference.data_label} and {name} on other images "
                f"({row.data_label}): they cannot be compared"
            )
