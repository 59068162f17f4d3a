"""Files of a results folder: records, tables, atomic writing, gathering. Imports no torch."""

import csv
import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import IO, Any, get_type_hints

from plainres.records.identity import cell_name, shared_config
from plainres.records.schema import CurvePoint, Record

RECORD_FILE = "record.json"
CONFIG_FILE = "config.json"
PROGRESS_FILE = "progress.json"
FAILURE_FILE = "failure.json"  # why the cell failed
SWEEP_VARIABLE = "PLAINRES_SWEEP"  # names the sweep of a process in its environment
CHECKPOINT_FILE = "last.ckpt"
WEIGHTS_FILE = "weights.pt"
PREPARATION_FILE = "preparation.pt"
PREVIOUS_CHECKPOINT_FILE = "previous.ckpt"
CHECKPOINT_FILES = (CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE)  # the newest first
DAMAGED_SUFFIX = ".corrupt"  # of a checkpoint that is set aside
RUNS_TABLE = "runs.csv"
PART_SUFFIX = ".part"  # of files that are being written; a kill leaves them
CURVES_TABLE = "curves.csv"  # in a results folder; a cell's folder has its own part of it

_CELL_COLUMNS = ("arm", "depth", "seed")


def write_json(path: Path, value: Any) -> None:
    """Atomically: a reader sees the old file or the new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomically, in UTF-8; makes the folder."""
    with atomic(path) as part:
        part.write(text.encode())


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends; an error deletes it.

    Raises:
        NotWrittenError: the file system refuses; names `path` and what to do.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=PART_SUFFIX, delete=False
        ) as part:
            yield part
            part.flush()
            with _where_supported():
                os.fsync(part.fileno())
        with _where_supported():
            Path(part.name).chmod(0o644)
        os.replace(part.name, path)
    except BaseException as error:
        if part is not None:
            with suppress(OSError):
                Path(part.name).unlink()
        if isinstance(error, OSError) and error.errno and not isinstance(error, NotWrittenError):
            raise NotWrittenError(error.errno, error.strerror, str(path)) from error
        raise


def remove_parts(folder: Path) -> None:
    """Deletes what killed processes left of files that they wrote; for the holder of the lock."""
    for path in folder.glob(f".*{PART_SUFFIX}"):
        path.unlink(missing_ok=True)


class NotWrittenError(OSError):
    """A file that could not be written. The message names it and what to do."""

    def __str__(self) -> str:
        hint = _HINTS.get(self.errno or 0, "repeat the command when this is mended")
        return f"{self.filename} could not be written: {self.strerror}; {hint}"


_FREE = "free some space there; the same command continues"
_OPEN = "make its folder writable, or give another folder (results_dir=…)"
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FREE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _OPEN),
}


@contextmanager
def _where_supported() -> Iterator[None]:
    """Skips what the file system does not offer: fsync on some, modes on many."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise


def read_json(path: Path) -> Any:
    """The file's value, or None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def read_record(cell_folder: Path) -> Record | None:
    """The record of a finished cell, or None; unknown values are skipped.

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
    """A CSV file, one column per field; six significant digits; None is an empty field."""
    names = [field.name for field in fields(row_type)]
    write_lines(path, names, [[_written(getattr(row, name)) for name in names] for row in rows])


def write_lines(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A CSV file of texts."""
    lines = [",".join(map(_quoted, row)) for row in (columns, *rows)]
    write_text(path, "\n".join(lines) + "\n")


def read_table(path: Path, row_type: type) -> list[Any]:
    """The rows of a CSV file as `row_type`; none without a file. Unknown columns are skipped.

    Raises:
        ValueError: a column without default is missing, or a value has another type; names file,
            line and column.
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


def gather(folder: Path, into: Path | None = None) -> list[Record]:
    """Takes the finished cells of `folder`/runs into the tables of `into`; returns all its records.

    The records go into runs.csv. Every CSV file of a cell with the columns arm, depth and seed goes
    into the table of the same name. Rows are sorted by arm, depth and seed; rows of other cells
    stay. Cells of another configuration than `into`/config.json are skipped.

    Args:
        into: a results folder; None: `folder` itself.

    Raises:
        ValueError: a table is damaged; names file, line and column. Nothing is written then.
    """
    into = into or folder
    runs, tables = gathered(folder, into, read_json(into / CONFIG_FILE))
    if runs:
        write_table(into / RUNS_TABLE, runs, Record)
    for name, (columns, rows) in tables.items():
        write_lines(into / name, columns, [[row.get(key, "") for key in columns] for row in rows])
    return runs


def gathered(
    folder: Path, into: Path, shared: Mapping[str, Any] | None
) -> tuple[list[Record], dict[str, tuple[list[str], list[dict[str, str]]]]]:
    """What `gather` writes: the records, and columns and rows of the other tables by name."""
    records = finished_cells(folder, shared)
    runs = [record for record in read_runs(into) if record.cell not in records]
    runs = sorted([*runs, *records.values()], key=lambda row: (row.arm, row.depth, row.seed))
    tables = {}
    for name in _gathered_names(folder, into, records):
        kept = read_texts(into / name)
        rows = [row for row in kept if cell_name(*_cell_of(row)) not in records]
        new = [row for cell in records for row in read_texts(folder / "runs" / cell / name)]
        if rows or new:
            columns = list(dict.fromkeys(key for row in (*new, *rows) for key in row))
            tables[name] = columns, sorted([*rows, *new], key=_cell_of)  # stable within a cell
    return runs, tables


def finished_cells(folder: Path, shared: Mapping[str, Any] | None) -> dict[str, Record]:
    """The records in `folder`/runs by cell; where `shared` is given, of cells that share it.

    Args:
        shared: a `shared_config`.
    """
    records = {}
    for path in sorted((folder / "runs").glob("*/" + RECORD_FILE)):
        record, own = read_record(path.parent), read_json(path.parent / CONFIG_FILE)
        if shared and own and shared_config(own) != shared:
            continue
        # a folder that was set aside has another name than its cell
        if record and record.cell == path.parent.name:
            records[record.cell] = record
    return records


def _gathered_names(folder: Path, into: Path, cells: Iterable[str]) -> list[str]:
    """Names of the tables that hold rows of cells, beside runs.csv."""
    paths = [path for cell in cells for path in (folder / "runs" / cell).glob("*.csv")]
    paths += into.glob("*.csv")
    names = {path.name for path in paths if set(_CELL_COLUMNS) <= set(_header(path))}
    return sorted((names | {CURVES_TABLE}) - {RUNS_TABLE})


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def read_texts(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text by column, none where there is no file.

    Raises:
        ValueError: a row lacks its cell or a value; names file, line and column.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in _CELL_COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
        rows = []
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row.values() or None in row:
                raise ValueError(f"{where}: not as many values as columns")
            for name in ("depth", "seed"):
                _read(row[name], int, f"{where}, {name}")
            rows.append(row)
        return rows


def _cell_of(row: Mapping[str, str]) -> tuple[str, int, int]:
    return row["arm"], int(row["depth"]), int(row["seed"])


def repository_state(folder: Path) -> tuple[str, bool | None]:
    """The commit of `folder`, and whether all files outside results are as committed.

    ("unknown", None) outside git.
    """

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
