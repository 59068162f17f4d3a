"""Differences within seeds: which seeds two or more networks share, or what is missing.

Networks of one seed share batches and, where shapes allow, initial weights. So a difference is
taken between runs of one seed, measured under the same conditions (experiments.judging.conditions),
and a claim is judged over the seeds for which all its networks have such runs.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments.judging import verdict
from experiments.judging.conditions import Conditions, Measured, conditions_of, differences
from experiments.judging.errors import MARGIN, error_or_chance, has_learned
from experiments.judging.inference import POINTS, Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from plainres.records.files import (
    CONFIG_FILE,
    RUNS_TABLE,
    read_config,
    read_curves,
    read_runs,
    read_table,
)
from plainres.records.identity import cell_name, config_differences, row_hash
from plainres.records.schema import FINISHED, CurvePoint, Record

NO_CHANGE = "nothing"
LOCAL = "local"  # results/local holds what this machine measured, laid out as results
NO_RESULTS = re.compile(rf"{LOCAL}|.*\.old\d+")  # names of folders that hold no results
SHORTCUTS = {"plain": "none", "residual": "zero_pad"}  # of conf/model; a row says its own
# Network, by its name in config.json → option → what null means
NULL_MEANS = {"plainres.network.CifarNetwork": {"norm": "batch", "padding": "zeros"}}

Cell = tuple[str, int, int]  # arm, depth, seed
Row = TypeVar("Row")
Key = TypeVar("Key")


class Series(dict[int, float]):
    """Values by seed, and the rows that each value was computed from.

    Args:
        rows: by seed, at least for the same seeds.
    """

    def __init__(self, values: Mapping[int, float], rows: Mapping[int, Sequence[Measured]]):
        super().__init__(values)
        self.rows = rows

    @classmethod
    def of(cls, rows: Iterable[Any], value: Callable[[Any], float]) -> "Series":
        """One value per row; rows have a seed.

        Raises:
            ValueError: a seed has two rows; names them.
        """
        by_seed = grouped(rows, lambda row: row.seed)
        for own in by_seed.values():
            if len(own) > 1:
                cells = " and ".join(row.cell for row in own)
                raise ValueError(f"{cells} stand in one place; legal: one row a seed")
        return cls({seed: value(*own) for seed, own in by_seed.items()}, by_seed)

    def minus(self, other: "Series") -> "Series":
        """The differences, over the seeds that both have."""
        seeds = sorted(self.keys() & other.keys())
        values = {seed: self[seed] - other[seed] for seed in seeds}
        return Series(values, {seed: [*self.rows[seed], *other.rows[seed]] for seed in seeds})


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
) -> Series:
    """The errors of one network; a diverged run counts as chance."""
    rows = (record for record in records if (record.arm, record.depth) == (arm, depth))
    return Series.of(rows, lambda record: error_or_chance(record, measure))


def shared_seeds(series: Mapping[Any, Series], treatment: Collection[str] = ()) -> list[int]:
    """The seeds that all series have under the same conditions, ascending; none without series.

    Args:
        treatment: names of conditions that are compared, and so may differ.
    """
    return [seed for seed in _common_seeds(series) if not _unlike(series, seed, treatment)]


def _common_seeds(series: Mapping[Any, Series]) -> list[int]:
    return sorted(set.intersection(*map(set, series.values()))) if series else []


def _unlike(series: Mapping[Any, Series], seed: int, treatment: Collection[str]) -> list[str]:
    return differences((row for each in series.values() for row in each.rows[seed]), treatment)


def what_is_missing(series: Mapping[str, Series], treatment: Collection[str] = ()) -> str:
    """Names the empty series, or the rows that cannot be compared, or the seeds of each one."""
    if empty := [name for name, values in series.items() if not values]:
        return f"missing: {', '.join(empty)}"
    if line := not_comparable(series, treatment):
        return line
    seeds = "; ".join(f"{name}: {', '.join(map(str, sorted(v)))}" for name, v in series.items())
    return f"missing: a seed that all have ({seeds})"


def not_comparable(series: Mapping[str, Series], treatment: Collection[str] = ()) -> str:
    """Names the rows of common seeds that were measured under unlike conditions; "" for none."""
    texts: dict[str, list[int]] = {}
    for seed in _common_seeds(series):
        if unlike := _unlike(series, seed, treatment):
            names = [line.split(":")[0] for line in unlike]
            rows = (f"{name}: {_places(each.rows[seed], names)}" for name, each in series.items())
            texts.setdefault("; ".join(rows), []).append(seed)
    lines = [f"seed {', '.join(map(str, seeds))} ({text})" for text, seeds in texts.items()]
    return f"not comparable: {'; '.join(lines)}" if lines else ""


def _places(rows: Iterable[Measured], names: Sequence[str]) -> str:
    """The named conditions of the rows."""
    found = (tuple(getattr(conditions_of(row), name) for name in names) for row in rows)
    return " and ".join(dict.fromkeys(", ".join(values) for values in found))


def difference(
    series: Mapping[str, Series],
    larger: str,
    smaller: str,
    bound: float = MARGIN,
    above: bool = True,
    name: str = "",
    treatment: Collection[str] = (),
    unit: str = POINTS,
) -> Criterion:
    """The criterion "`larger` - `smaller` lies above (or below) `bound`", over shared seeds."""
    seeds = shared_seeds(series, treatment)
    values = tuple(series[larger][seed] - series[smaller][seed] for seed in seeds)
    return Criterion(name or f"{larger} - {smaller}", values, bound, above, unit)


def mean_over(series: Iterable[Sequence[float]]) -> tuple[float, ...]:
    """The mean of several series over the same seeds, seed by seed."""
    return tuple(map(statistics.fmean, zip(*series, strict=True)))


def judge(
    statement: str,
    series: Mapping[str, Series],
    criteria: Callable[[], Sequence[Criterion]],
    summary: Callable[[], str] | None = None,
    treatment: Collection[str] = (),
    learned: Collection[str] = (),
) -> Claim:
    """A claim over the seeds that all series share; inconclusive where they share none.

    Criteria and summary are made where they share some. Without a summary: each criterion's mean.
    Seeds whose rows cannot be compared are named.

    Args:
        learned: names of series of training errors that others are held against. Where one of them
            is hardly better than guessing in a seed, the claim is inconclusive.
    """
    seeds = shared_seeds(series, treatment)
    if not seeds:
        return Claim(statement, INCONCLUSIVE, what_is_missing(series, treatment))
    line = _several_precisions(series, seeds) or _at_guessing(series, seeds, learned)
    if line:
        return Claim(statement, INCONCLUSIVE, line)
    judged = criteria()
    text = summary() if summary else means(judged)
    dropped = not_comparable(series, treatment)
    return verdict.judge(statement, judged, f"{text}; {dropped}" if dropped else text)


def _several_precisions(series: Mapping[str, Series], seeds: Sequence[int]) -> str:
    """Names the seeds by precision, where the seeds of one series have several."""
    for name, each in series.items():
        by_precision: dict[str, list[int]] = {}
        for seed in seeds:
            by_precision.setdefault(each.rows[seed][0].precision, []).append(seed)
        if len(by_precision) > 1:
            texts = (f"{key}: seed {', '.join(map(str, of))}" for key, of in by_precision.items())
            return f"not comparable: {name} has several precisions ({'; '.join(texts)})"
    return ""


def _at_guessing(
    series: Mapping[str, Series], seeds: Sequence[int], learned: Collection[str]
) -> str:
    """Names the networks, and their seeds, that are hardly better than guessing."""
    texts = []
    for name in learned:
        rows: Any = series[name].rows
        of = [s for s in seeds if not has_learned(series[name][s], rows[s][0].num_classes)]
        texts += [f"{name}, seed {', '.join(map(str, of))}"] if of else []
    return f"hardly better than guessing: {'; '.join(texts)}" if texts else ""


def compare(
    statement: str,
    series: Mapping[str, Series],
    bound: float = MARGIN,
    measure: str = "test error",
    learned: Collection[str] = (),
) -> Claim:
    """The claim that the first of two series lies above the second, by more than `bound`.

    Args:
        learned: as of `judge`.
    """
    larger, smaller = series
    return judge(
        statement,
        series,
        lambda: [difference(series, larger, smaller, bound)],
        lambda: mean_errors(series, measure),
        learned=learned,
    )


def means(criteria: Sequence[Criterion]) -> str:
    """The mean of each criterion, by name."""
    return ", ".join(f"{c.name}: {verdict.amount(c.mean, c.unit)}" for c in criteria)


def shared_means(series: Mapping[str, Series], treatment: Collection[str] = ()) -> dict[str, float]:
    """The mean of each series over the seeds that all share; there must be one."""
    seeds = shared_seeds(series, treatment)
    return {name: statistics.fmean(each[s] for s in seeds) for name, each in series.items()}


def mean_errors(series: Mapping[str, Series], measure: str, treatment: Collection[str] = ()) -> str:
    """`training error 70.87 % (plain-56), 8.38 % (residual-302)`: means over the shared seeds."""
    means = shared_means(series, treatment)
    return f"{measure} " + ", ".join(f"{100 * mean:.2f} % ({n})" for n, mean in means.items())


def read_records(folder: Path) -> list[Record]:
    """The records of a results folder, checked: what they say together must make sense.

    Raises:
        ValueError: a file is damaged, a cell has two rows, an arm two shortcuts, images differ, or
            a row is not of the configuration beside the table. One line that names what.
    """
    records, shared = read_runs(folder), read_config(folder)
    table = folder / RUNS_TABLE
    for cell, rows in grouped(records, lambda record: record.cell).items():
        if len(rows) > 1:
            raise ValueError(f"{table} has {len(rows)} rows of {cell}; legal: one")
    for arm, rows in grouped(records, lambda record: record.arm).items():
        if len(kinds := sorted({row.shortcut for row in rows})) > 1:
            raise ValueError(f"{table}: {arm} has shortcuts {' and '.join(kinds)}; legal: one")
    for record in records:
        if record.data_fingerprint != records[0].data_fingerprint:
            pair = f"{records[0].cell} and {record.cell}"
            raise ValueError(f"{table}: {pair} were measured on different images")
        if shared is not None and (line := _contradiction(shared, record)):
            raise ValueError(f"{table}, {record.cell}: {line} (of {CONFIG_FILE} beside it)")
    return records


def _contradiction(shared: Mapping[str, Any], record: Record) -> str:
    """What a row says otherwise than the configuration of its folder; "" for nothing."""
    stated = {
        "config_hash": row_hash(shared, record),
        "data_label": shared.get("data", {}).get("label"),
        "iterations": shared.get("protocol", {}).get("iterations"),
    }
    if record.status != FINISHED:
        del stated["iterations"]
    for name, value in stated.items():
        if value not in (None, own := getattr(record, name)):
            return f"{name} {own} is not {value}"
    return ""


def read_beside(table: Path, row_type: type, records: Iterable[Record]) -> list[Any]:
    """The rows of a table that lies beside runs.csv.

    Raises:
        ValueError: it has a cell that `records` lack, lacks a finished one of them or an iteration
            of it that others have, or has an iteration in part; names it.
    """
    rows = read_table(table, row_type)
    by_cell, known = grouped(rows, cell_of), {cell_of(record): record for record in records}
    if unknown := sorted(by_cell.keys() - known.keys()):
        raise ValueError(f"{table} has {cell_name(*unknown[0])}, {RUNS_TABLE} does not")
    iterations = {_iteration(row) for row in rows} or {0}
    for cell, record in known.items():
        counts = Counter(map(_iteration, by_cell.get(cell, ())))
        missing = sorted(iterations - counts.keys()) if record.status == FINISHED else []
        if missing:
            of = f"iteration {missing[0]} of " if counts else ""
            raise ValueError(f"{table} lacks {of}{record.cell}")
        most = max(counts.values(), default=0)
        for iteration, count in counts.items():
            if count < most:
                raise ValueError(
                    f"{table} has {count} of {most} rows of {record.cell} at iteration {iteration}"
                )
    return rows


def _iteration(row: Any) -> int:
    """0 of a row that is read without one."""
    return getattr(row, "iteration", 0)


def read_folders(folder: Path, target: str) -> dict[str, list[Record]]:
    """The records of each folder below `folder` that has a table, by the folder's name.

    Where there are none, the message names the Makefile's target that measures them.
    """
    tables = sorted(folder.glob(f"*/{RUNS_TABLE}"))
    records = {path.parent.name: read_records(path.parent) for path in tables}
    if not records:
        raise ValueError(f"no records in {folder}; make {target} measures them")
    for name, rows in records.items():
        if not rows:
            raise ValueError(f"{folder / name / RUNS_TABLE} has no rows; make {target} makes some")
    return records


def folders_of_records(root: Path) -> list[Path]:
    """The folders at or below `root` with a table of records, sorted.

    Without those of a folder `local`, and without tables that a sweep set aside (*.old1).
    """
    found = []
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        found += [table.parent for table in root.glob(f"{depth}{RUNS_TABLE}")]
    return sorted(
        folder
        for folder in found
        if not any(NO_RESULTS.fullmatch(part) for part in folder.relative_to(root).parts)
    )


def where_measured(results: Path, config: Mapping[str, Any]) -> dict[Record, Path]:
    """All rows of one configuration, wherever they were measured, each with its results folder.

    Larger tables come first. Below results/local, folders of the committed results count too, after
    the local ones. The name of a row's folder may differ; its shortcut is the one that its arm has.

    Args:
        results: the folder of all questions.
        config: a `shared_config`.
    """
    local = results.name == LOCAL
    found: dict[tuple[str, str, Conditions], tuple[Record, Path]] = {}
    for root in (results, results.parent) if local else (results,):
        alike = [
            (read_records(place), place)
            for place in folders_of_records(root)
            if _configured_as(config, read_config(place))
        ]
        for rows, place in sorted(alike, key=lambda each: -len(each[0])):
            for row in rows:
                if row.shortcut == SHORTCUTS.get(row.arm, row.shortcut):
                    run = row.cell, row.finished_at, conditions_of(row)
                    found.setdefault(run, (row, place))
    return dict(found.values())


def _configured_as(config: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether nothing but the folder's name differs; not for a folder without configuration."""
    if other is None:
        return False
    return change_of(_without_defaults(config), _without_defaults(other), {}) == NO_CHANGE


def _without_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without options of the network that say what null means too."""
    model = config.get("model", {})
    nulls = NULL_MEANS.get(model.get("_target_", ""), {}).items()
    return {**config, "model": dict(item for item in model.items() if item not in nulls)}


def measured_alike(results: Path, config: Mapping[str, Any]) -> list[Record]:
    """The rows of `where_measured`."""
    return list(where_measured(results, config))


def curves_of(rows: Iterable[Record], places: Mapping[Record, Path]) -> list[CurvePoint]:
    """The curves of rows, each from its results folder; cells differ."""
    points = []
    for place, found in grouped(rows, lambda row: places[row]).items():
        cells = set(map(cell_of, found))
        points += [point for point in read_curves(place) if cell_of(point) in cells]
    return points


def counterparts(candidates: Iterable[Record], rows: Iterable[Measured]) -> list[Record]:
    """One row per cell: the first one under the conditions that most rows of its seed have.

    Where a cell has none, one under conditions of fewer rows, and then its first candidate, which
    no rule takes for comparable.
    """
    wanted = Counter((row.seed, conditions_of(row)) for row in rows)
    first: dict[Cell, Record] = {}
    for row in sorted(candidates, key=lambda row: -wanted[row.seed, conditions_of(row)]):
        first.setdefault(cell_of(row), row)
    return list(first.values())


def change_of(
    old: Mapping[str, Any], new: Mapping[str, Any], brings: Mapping[str, Sequence[str]]
) -> str:
    """The choice in which two configurations differ, as `name: old → new`.

    Args:
        brings: choice → what changes with it, and is no choice of its own.
    """
    lines = {line.split(":")[0]: line for line in config_differences(old, new)}
    ignored = {"protocol.name", *(name for choice in lines for name in brings.get(choice, ()))}
    return "; ".join(line for name, line in lines.items() if name not in ignored) or NO_CHANGE


def require_alike(folder: Path, names: Iterable[str], legal: str) -> None:
    """Raises ValueError where configurations of folders differ in more than is compared.

    Args:
        names: of folders below `folder`; those without a configuration are not looked at.
        legal: what may differ, as a regular expression for names as `protocol.precision`.
    """
    configs = {name: config for name in names if (config := read_config(folder / name))}
    may_differ = re.compile(rf"({legal}|protocol\.name): ")
    for name, config in configs.items():
        first = next(iter(configs))
        for line in config_differences(configs[first], config):
            if not may_differ.match(line):
                raise ValueError(f"{folder / name} differs from {first} in {line}: not comparable")


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
