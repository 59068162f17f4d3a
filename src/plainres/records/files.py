"""Files of a results folder: records, tables, atomic writing, gathering. Imports no torch."""

import csv
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import IO, Any, get_type_hints

from plainres.records.identity import cell_name, shared_config
from plainres.records.schema import BranchSize, CurvePoint, Insertion, ProbePoint, Record

RECORD_FILE = "record.json"
CONFIG_FILE = "config.json"
CURVE_FILE = "curve.csv"
INSERTION_FILE = "insertions.csv"
BRANCH_FILE = "branches.csv"
PROBES_FILE = "probes.csv"
PROGRESS_FILE = "progress.json"
FAILURE_FILE = "failure.txt"
CHECKPOINT_FILE = "last.ckpt"
WEIGHTS_FILE = "weights.pt"
DAMAGED_CHECKPOINT_FILE = "last.corrupt"
DAMAGED = (
    f"its checkpoint is damaged: set aside as {DAMAGED_CHECKPOINT_FILE}, the cell starts again"
)
RUNS_TABLE = "runs.csv"
CURVES_TABLE = "curves.csv"
INSERTIONS_TABLE = "insertions.csv"
BRANCHES_TABLE = "branches.csv"
PROBES_TABLE = "probes.csv"


def write_json(path: Path, value: Any) -> None:
    """Atomically: a reader sees the old file or the new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomically, in UTF-8; makes the folder."""
    with atomic(path) as part:
        part.write(text.encode())


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when the block ends well, and is gone when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as part:
        try:
            yield part
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            os.replace(part.name, path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def read_json(path: Path) -> Any:
    """The file's value, or None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def read_record(cell_folder: Path) -> Record | None:
    """The record of a finished cell, or None; what it holds beyond the schema is passed over.

    Raises:
        ValueError: a value without default is missing; names file and value.
    """
    path = cell_folder / RECORD_FILE
    values = read_json(path)
    if not values:
        return None
    if lacking := sorted(_required(Record) - set(values)):
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    return Record(
        **{field.name: values[field.name] for field in fields(Record) if field.name in values}
    )


def write_record(cell_folder: Path, record: Record) -> None:
    write_json(cell_folder / RECORD_FILE, asdict(record))


def write_table(path: Path, rows: Sequence[Any], row_type: type) -> None:
    """A CSV file with one column per field; six significant digits, empty where there is no value."""
    names = [field.name for field in fields(row_type)]
    lines = [",".join(names)]
    for row in rows:
        lines.append(",".join(_quoted(_written(getattr(row, name))) for name in names))
    write_text(path, "\n".join(lines) + "\n")


def read_table(path: Path, row_type: type) -> list[Any]:
    """The rows of a CSV file as `row_type`, none where there is no file; unknown columns are passed over.

    Raises:
        ValueError: a column without default is missing or a value does not fit; names file, line and column.
    """
    if not path.exists():
        return []
    kinds = get_type_hints(row_type)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        if missing := sorted(_required(row_type) - columns):
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
        kinds = {name: kind for name, kind in kinds.items() if name in columns}
        rows = []
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row.values():
                raise ValueError(f"{where}: the row is cut short")
            rows.append(
                row_type(
                    **{
                        name: _read(row[name], kind, f"{where}, {name}")
                        for name, kind in kinds.items()
                    }
                )
            )
        return rows


def read_runs(folder: Path) -> list[Record]:
    """The records in a results folder's runs.csv."""
    return read_table(folder / RUNS_TABLE, Record)


def read_curves(folder: Path) -> list[CurvePoint]:
    """The points in a results folder's curves.csv."""
    return read_table(folder / CURVES_TABLE, CurvePoint)


def gather(folder: Path) -> list[Record]:
    """Takes the finished cells of `folder`/runs into runs.csv, curves.csv and the other tables; rows of cells that have no folder stay.

    Cells of another configuration than `folder`/config.json are passed over. Returns all records of the table, sorted by arm, depth and
    seed.
    """
    found = {}
    shared = read_json(folder / CONFIG_FILE)
    for path in sorted((folder / "runs").glob("*/" + RECORD_FILE)):
        record, own = read_record(path.parent), read_json(path.parent / CONFIG_FILE)
        if shared and own and shared_config(own) != shared:
            continue
        if (
            record and record.cell == path.parent.name
        ):  # a folder that was set aside has another name
            found[record.cell] = record
    runs = [record for record in read_runs(folder) if record.cell not in found] + list(
        found.values()
    )
    runs.sort(key=lambda row: (row.arm, row.depth, row.seed))
    if runs:
        write_table(folder / RUNS_TABLE, runs, Record)
    for file, table, row_type in (
        (CURVE_FILE, CURVES_TABLE, CurvePoint),
        (INSERTION_FILE, INSERTIONS_TABLE, Insertion),
        (BRANCH_FILE, BRANCHES_TABLE, BranchSize),
        (PROBES_FILE, PROBES_TABLE, ProbePoint),
    ):
        _gather_table(folder, found, file, table, row_type)
    return runs


def _gather_table(
    folder: Path, found: Iterable[str], file: str, table: str, row_type: type
) -> None:
    """Takes the rows that each found cell has in `file` into `folder`/`table`; no rows, no table."""
    old = [
        row
        for row in read_table(folder / table, row_type)
        if cell_name(row.arm, row.depth, row.seed) not in found
    ]
    rows = old + [
        row for cell in found for row in read_table(folder / "runs" / cell / file, row_type)
    ]
    if rows:
        rows.sort(
            key=lambda row: (row.arm, row.depth, row.seed)
        )  # stable: each cell's rows keep their order
        write_table(folder / table, rows, row_type)


def repository_state(folder: Path) -> tuple[str, bool | None]:
    """The commit checked out in `folder` and whether its files, results apart, are as committed; ("unknown", None) outside git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    try:
        return git("rev-parse", "HEAD").strip(), not git(
            "status", "--porcelain", "--", ".", ":(top,exclude)results"
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown", None


def _required(row_type: type) -> set[str]:
    return {field.name for field in fields(row_type) if field.default is MISSING}


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    return (
        '"' + text.replace('"', '""') + '"'
        if any(character in text for character in ',"\r\n')
        else text
    )


def _read(text: str, kind: Any, where: str) -> Any:
    options: Iterable[Any] = getattr(kind, "__args__", (kind,))
    if text == "" and type(None) in options:
        return None
    target = next(option for option in options if option is not type(None))
    try:
        return {"True": True, "False": False}[text] if target is bool else target(text)
    except (ValueError, KeyError):
        raise ValueError(f"{where}: {text!r} is no {target.__name__}") from None
