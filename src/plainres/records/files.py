"""Files of a results folder: records, tables, atomic writing, gathering. Imports no torch."""

import csv
import errno
import hashlib
import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields
from io import StringIO
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

from plainres.records.checks import reader, row_of, text_check
from plainres.records.identity import cell_name, row_hash
from plainres.records.locks import one_at_once
from plainres.records.schema import CurvePoint, Progress, Record
from plainres.records.seal import is_intact

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
DAMAGED_SUFFIX = ".corrupt"  # of a checkpoint or record that is set aside
RUNS_TABLE = "runs.csv"
GATHER_LOCK = "gather.lock"  # in the folder of the cells
PART_SUFFIX = ".part"  # of files that are being written; a kill leaves them
CURVES_TABLE = "curves.csv"  # in a results folder; a cell's folder has its own part of it

_CELL_COLUMNS = ("arm", "depth", "seed")
# Of rows that a table has once: of a curve, or of what an instrument or inserted blocks give
KEY = (*_CELL_COLUMNS, "iteration", "layer", "precision", "stage", "block", "blocks", "position")
_SPECIAL = frozenset('"\r\n')


def write_json(path: Path, value: Any) -> None:
    """Atomically: a reader sees the old file or the new one."""
    write_text(path, _json(value))


def update_json(path: Path, value: Any) -> None:
    """As `write_json`, but a file that has this value stays: it may be read-only."""
    update_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Atomically, in UTF-8; makes the folder."""
    with atomic(path) as part:
        part.write(text.encode())


def update_text(path: Path, text: str) -> None:
    """As `write_text`, but a file that has this text stays: it may be read-only."""
    with suppress(OSError):
        if path.is_file() and path.read_bytes() == text.encode():
            return
    write_text(path, text)


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends; an error deletes it.

    Raises:
        NotWrittenError: the file system refuses; names `path` and what to do.
    """
    part = None
    try:
        with write_errors(path):
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
    except BaseException:
        if part is not None:
            with suppress(OSError):
                Path(part.name).unlink()
        raise


def remove_parts(folder: Path) -> None:
    """Deletes what killed processes left of files that they wrote; for the holder of the lock."""
    for path in folder.glob(f".*{PART_SUFFIX}"):
        path.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Makes an OSError of writing `path` a NotWrittenError."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, NotWrittenError):
            raise
        raise NotWrittenError(error.errno, error.strerror, str(path)) from error


def check_writable(folder: Path) -> None:
    """Makes a folder; raises NotWrittenError where no file can be made in it."""
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


class NotWrittenError(OSError):
    """A file that could not be written. The message names it and what to do."""

    def __str__(self) -> str:
        hint = _HINTS.get(self.errno or 0, "repeat the command when this is mended")
        return f"{self.filename} could not be written: {self.strerror}; {hint}"


_FREE = "free some space there; the same command continues"
_OPEN = "make it writable, or name another folder (results_dir=…)"
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


class DamagedFileError(ValueError):
    """A file that cannot be what was written. The message names it, what is wrong, what to do."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{what}; {_remedy(path)}")


class DamagedCellsError(ValueError):
    """Finished cells that cannot be gathered, by the line of each."""


def _remedy(path: Path) -> str:
    if path.name == RECORD_FILE:
        return "the same sweep sets it aside and measures the cell again"
    if path.name == CONFIG_FILE:
        return "restore it, or delete it: the same sweep writes it again"
    if path.parent.parent.name == "runs":
        return f"restore it, or delete {path.parent}: the same sweep measures the cell again"
    if not (path.parent / "runs").exists():  # committed, so nothing else has its rows
        return f"restore it (where it is committed, git checkout {path})"
    return "restore it, or delete it: the same sweep writes it again from the folders of its cells"


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's values by name, or None where there is no such file.

    Raises:
        DamagedFileError: it is not a JSON object in UTF-8.
    """
    with _named(path), suppress(FileNotFoundError):
        if _is_there(path):
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError(f"{path} is damaged: it has no named values")
            return values
    return None


def read_row(path: Path, row_type: type) -> Any:
    """A JSON file as `row_type`, or None where there is no such file; unknown values are skipped.

    Raises:
        DamagedFileError: a value is missing, of another type or out of its bounds, or the file has
            a sha256 that is not that of its values.
    """
    values = _sealed(path)
    if values is None:
        return None
    with _named(path):
        return row_of(row_type, values, str(path))


def _sealed(path: Path) -> dict[str, Any] | None:
    """The values of a JSON file, whose sha256 is theirs if it has one; None without a file."""
    values = read_json(path)
    if values is None:
        return None
    with _named(path):
        if values.pop("sha256", None) not in (None, _digest(values)):
            raise ValueError(f"{path} is damaged: its sha256 is that of other values")
    return values


def read_config(folder: Path) -> dict[str, Any] | None:
    """The configuration in a folder, of a cell or what its cells share; None without one.

    Raises:
        DamagedFileError: it is no configuration.
    """
    path = folder / CONFIG_FILE
    config = read_json(path)
    if config is None:
        return None
    if not isinstance(config.get("model"), dict):
        raise DamagedFileError(path, f"{path} is damaged: it has no configuration of a model")
    for section in ("data", "protocol"):
        if not isinstance(config.get(section, {}), dict):
            raise DamagedFileError(path, f"{path} is damaged: {section} is no section")
    return config


def read_progress(cell_folder: Path) -> Progress | None:
    """How far a cell is; None without such a file, or where it is of something else.

    A run writes it again every second.
    """
    try:
        return read_row(cell_folder / PROGRESS_FILE, Progress)
    except (OSError, ValueError):
        return None


def lock_of(cell_folder: Path) -> Path:
    """The file whose lock a process has that trains the cell; it writes its id into it first."""
    return cell_folder.with_name(f".{cell_folder.name}.lock")


def read_failure(cell_folder: Path, sweep: str) -> str | None:
    """Why a cell failed in the sweep of this id; None: it did not."""
    try:
        failure = read_json(cell_folder / FAILURE_FILE)
    except (OSError, DamagedFileError):
        return None
    if failure is None or failure.get("sweep") != sweep:
        return None
    return str(failure.get("text"))


def read_record(cell_folder: Path) -> Record | None:
    """The record of a finished cell, or None; unknown values are skipped.

    Raises:
        DamagedFileError: it cannot be what was written.
    """
    return read_row(cell_folder / RECORD_FILE, Record)


def write_record(cell_folder: Path, record: Record) -> None:
    """Finishes a cell: its record, with digests of its tables, its weights, and itself."""
    paths = [path for path in sorted(cell_folder.glob("*.csv")) if path.is_file()]
    values = {**asdict(record), "tables": {path.name: _digest_of(path) for path in paths}}
    if (cell_folder / WEIGHTS_FILE).is_file():
        values["weights"] = _digest_of(cell_folder / WEIGHTS_FILE)
    write_json(cell_folder / RECORD_FILE, {**values, "sha256": _digest(values)})


def has_checkpoint(cell_folder: Path) -> bool:
    """Whether a cell that has not ended can be continued."""
    return any((cell_folder / name).exists() for name in CHECKPOINT_FILES)


def has_weights(cell_folder: Path) -> bool:
    """Whether a finished cell has the weights that it ended with, undamaged."""
    path = cell_folder / WEIGHTS_FILE
    try:
        digest = (read_json(cell_folder / RECORD_FILE) or {}).get("weights")
    except DamagedFileError:
        return False
    if digest is None:  # an older record; still older weights have no seal
        return is_intact(path, unsealed=True)
    return path.is_file() and _digest_of(path) == digest


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_table(path: Path, rows: Sequence[Any], row_type: type) -> None:
    """A CSV file, one column per field; six significant digits; None is an empty field."""
    names = [field.name for field in fields(row_type)]
    write_lines(path, names, [[_written(getattr(row, name)) for name in names] for row in rows])


def write_lines(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A CSV file of texts."""
    update_text(path, "\n".join(map(_line, (columns, *rows))) + "\n")


def read_table(path: Path, row_type: type) -> list[Any]:
    """The rows of a CSV file as `row_type`; none without a file. Unknown columns are skipped.

    Raises:
        DamagedFileError: a column without default or a value is missing, a value has another type
            or is out of its bounds; names line and column. Or what is measured once has two rows.
    """
    names = [field.name for field in fields(row_type)]
    required = {field.name for field in fields(row_type) if field.default is MISSING}
    rows = []
    with _named(path):
        lines = _lines(path, required)
        _, columns = next(lines, (0, []))
        known = [
            (columns.index(name), name, reader(row_type, name)) for name in names if name in columns
        ]
        for number, texts in lines:
            values, name = {}, ""
            try:
                for place, name, read in known:
                    values[name] = read(texts[place])
            except ValueError as error:
                raise ValueError(f"{path}, line {number}, {name}: {error}") from None
            row = row_type(**values)
            if problem := getattr(row, "contradiction", ""):
                raise ValueError(f"{path}, line {number}: {problem}")
            rows.append(row)
        _require_one_each(path, rows, [name for name in KEY if name in names])
    return rows


def _require_one_each(path: Path, rows: Sequence[Any], key: Sequence[str]) -> None:
    """Raises ValueError where a table of several rows a cell has two rows of one key."""
    if not {"iteration", "blocks"} & set(key):
        return
    for values, count in Counter(map(attrgetter(*key), rows)).items():
        if count > 1:
            named = ", ".join(f"{name} {value}" for name, value in zip(key, values, strict=True))
            raise ValueError(f"{path} has {count} rows of {named}; legal: one")


def _lines(path: Path, required: Collection[str]) -> Iterator[tuple[int, list[str]]]:
    """Number and texts of each line of a table, its columns first; none where there is no file."""
    if not _is_there(path):
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        columns = next(rows, [])
        if missing := sorted(set(required) - set(columns)):
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
        yield rows.line_num, columns
        for row in rows:
            if len(row) == len(columns):
                yield rows.line_num, row
            elif row:
                where = f"{path}, line {rows.line_num}"
                raise ValueError(f"{where}: not as many values as columns")


def _is_there(path: Path) -> bool:
    """Whether there is such a file; ValueError for anything else, as a FIFO that never ends."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is damaged: it is no file")
    return path.exists()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of a file's content name the file, what is wrong and what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        what = f"{path} is damaged: byte {error.start} is no UTF-8"
        raise DamagedFileError(path, what) from None
    except (json.JSONDecodeError, csv.Error, RecursionError) as error:
        raise DamagedFileError(path, f"{path} is damaged: {error}") from None
    except ValueError as error:
        raise DamagedFileError(path, str(error)) from None


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
    stay. Cells of another configuration than `into`/config.json are skipped. A table that stays as
    it is is not written.

    Args:
        into: a results folder; None: `folder` itself.

    Raises:
        DamagedFileError: a table of `into`, or its configuration, is damaged. Nothing is written.
        DamagedCellsError: cells are damaged. The others are gathered; the rows that the tables had
            of the damaged ones stay.
    """
    into = into or folder
    with one_at_once(folder / "runs" / GATHER_LOCK):  # else the older view may be written last
        found = gathered(folder, into, read_config(into))
        if found.runs:
            write_table(into / RUNS_TABLE, found.runs, Record)
        for name, text in found.tables.items():
            update_text(into / name, text)
    if found.damaged:
        raise DamagedCellsError("; ".join(found.damaged))
    return found.runs


class Gathered(NamedTuple):
    """What `gather` writes.

    Args:
        records: of the gathered cells, by cell.
        runs: the rows of runs.csv.
        tables: text of the other tables, by name.
        damaged: a line for each cell that is not gathered because a file of it is damaged.
    """

    records: dict[str, Record]
    runs: list[Record]
    tables: dict[str, str]
    damaged: list[str]


def gathered(folder: Path, into: Path, shared: Mapping[str, Any] | None) -> Gathered:
    """What `gather` writes into the tables of a configuration."""
    records, digests, damaged = _finished(folder, shared)
    new: dict[str, list[Block]] = {CURVES_TABLE: []}
    for cell in list(records):
        try:
            for name, blocks in _cell_tables(folder / "runs" / cell, digests[cell]).items():
                new.setdefault(name, []).extend(blocks)
        except DamagedFileError as error:
            del records[cell]
            damaged.append(str(error))
    # before runs.csv, which another sweep writes first
    old = {name: _blocks(into / name) for name in sorted(new.keys() | _names(into))}
    runs = [record for record in read_runs(into) if record.cell not in records]
    runs = sorted([*runs, *records.values()], key=lambda row: (row.arm, row.depth, row.seed))
    cells = {record.cell for record in runs}
    tables = {}
    for name, blocks in old.items():
        if unknown := next((block for block in blocks if block.name not in cells), None):
            line = f"{into / name} has rows of {unknown.name}, and {RUNS_TABLE} has none"
            raise DamagedFileError(into / name, line)
        kept = [block for block in blocks if block.name not in records]
        if rows := [*new.get(name, []), *kept]:
            tables[name] = _joined(rows)
    return Gathered(records, runs, tables, damaged)


class Block(NamedTuple):
    """The rows of one cell in a table, as lines of CSV."""

    cell: tuple[str, int, int]  # arm, depth, seed
    columns: tuple[str, ...]
    lines: str

    @property
    def name(self) -> str:
        return cell_name(*self.cell)


def _joined(blocks: Sequence[Block]) -> str:
    """The table of all blocks, sorted by arm, depth and seed; a column that one lacks is empty."""
    columns = tuple(dict.fromkeys(chain.from_iterable(block.columns for block in blocks)))
    parts = [_line(columns)]
    for block in sorted(blocks, key=lambda block: block.cell):  # stable within a cell
        if block.columns == columns:
            parts.append(block.lines)
            continue
        for row in csv.reader(StringIO(block.lines, newline=""), strict=True):
            values = dict(zip(block.columns, row, strict=True))
            parts.append(_line([values.get(name, "") for name in columns]))
    return "\n".join(parts) + "\n"


def finished_cells(
    folder: Path, shared: Mapping[str, Any] | None
) -> tuple[dict[str, Record], list[str]]:
    """The records in `folder`/runs by cell, and a line for each damaged one.

    Args:
        shared: a `shared_config`; records of other configurations are left out.
    """
    records, _, damaged = _finished(folder, shared)
    return records, damaged


def _finished(
    folder: Path, shared: Mapping[str, Any] | None
) -> tuple[dict[str, Record], dict[str, dict[str, str]], list[str]]:
    """As `finished_cells`, with the digests of each cell's tables, by cell and name of table."""
    records: dict[str, Record] = {}
    digests: dict[str, dict[str, str]] = {}
    damaged = []
    for path in sorted((folder / "runs").glob("*/" + RECORD_FILE)):
        try:
            if (values := _sealed(path)) is None:  # gone since
                continue
            with _named(path):
                record: Record = row_of(Record, values, str(path))
        except DamagedFileError as error:
            damaged.append(str(error))
            continue
        # a folder that was set aside has another name than its cell
        if record.cell != path.parent.name:
            continue
        if shared is None or row_hash(shared, record) == record.config_hash:
            records[record.cell] = record
            digests[record.cell] = values.get("tables", {})
    return records, digests, damaged


def _cell_tables(folder: Path, digests: Mapping[str, str]) -> dict[str, list[Block]]:
    """The rows of a finished cell's tables, by name.

    Raises:
        DamagedFileError: a table is not what it was when the cell ended, or has wrong rows.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFileError(path, f"{path} is gone")
        if _digest_of(path) != digest:
            raise DamagedFileError(path, f"{path} is damaged: the record has another sha256 of it")
    tables = {name: _blocks(folder / name) for name in _names(folder)}
    for name, blocks in tables.items():
        if any(block.name != folder.name for block in blocks):
            raise DamagedFileError(folder / name, f"{folder / name} has rows of another cell")
    return tables


def _names(folder: Path) -> set[str]:
    """Names of the tables that hold rows of cells, beside runs.csv."""
    names = {path.name for path in folder.glob("*.csv") if _has_cells(path)}
    return (names | {CURVES_TABLE}) - {RUNS_TABLE}


def _has_cells(path: Path) -> bool:
    with _named(path):
        if not _is_there(path):
            return False
        with path.open(encoding="utf-8", newline="") as file:
            return set(_CELL_COLUMNS) <= set(next(csv.reader(file), []))


def read_texts(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text by column, none where there is no file.

    Raises:
        DamagedFileError: a row lacks its cell or a value, or a number is out of its bounds; names
            line and column.
    """
    with _named(path):
        rows = _checked(path)
        columns = next(rows, [])
        return [dict(zip(columns, row, strict=True)) for row in rows]


def _blocks(path: Path) -> list[Block]:
    """The rows of `read_texts`, those of each cell together, in the order of their first rows."""
    found: dict[tuple[str, str, str], list[str]] = {}
    with _named(path):
        rows = _checked(path)
        columns = next(rows, [])
        places = [columns.index(name) for name in _CELL_COLUMNS] if columns else []
        for row in rows:
            arm, depth, seed = (row[place] for place in places)
            found.setdefault((arm, depth, seed), []).append(_line(row))
    return [
        Block((arm, int(depth), int(seed)), tuple(columns), "\n".join(lines))
        for (arm, depth, seed), lines in found.items()
    ]


def _checked(path: Path) -> Iterator[list[str]]:
    """The columns of a table, then its rows; ValueError names line and column of a wrong value."""
    lines = _lines(path, _CELL_COLUMNS)
    _, columns = next(lines, (0, []))
    checks = [(columns.index(n), n, check) for n in columns if (check := text_check(n))]
    numbers = [(columns.index(name), name) for name in _CELL_COLUMNS[1:] if name in columns]
    if columns:
        yield columns
    for number, row in lines:
        for place, name in numbers:
            try:
                int(row[place])
            except ValueError:
                where = f"{path}, line {number}, {name}"
                raise ValueError(f"{where}: {row[place]!r} is no int") from None
        for place, name, check in checks:
            if row[place] and (problem := check(row[place])):
                raise ValueError(f"{path}, line {number}, {name}: {problem}")
        yield row


def repository_state(folder: Path) -> tuple[str, bool | None]:
    """The commit of `folder`, and whether all files outside results are as committed.

    ("unknown", None) where `folder` is not the root of a repository, as a copy without .git inside
    another repository, or where git cannot say.
    """
    # GIT_DIR and its like name a repository whatever the folder
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(folder), *words]
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 30}
        return subprocess.run(command, env=environment, check=True, **options).stdout

    try:
        root, commit = git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        if not Path(root).samefile(folder):
            return "unknown", None
        outside = ("--", ".", ":(top,exclude)results")
        return commit, not git("status", "--porcelain", "--untracked-files=normal", *outside)
    except (OSError, ValueError, subprocess.SubprocessError):
        return "unknown", None


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(row: Sequence[str]) -> str:
    """A line of CSV; what has a comma, a quote or an end of line stands in quotes."""
    line = ",".join(row)
    if line.count(",") < len(row) and not _SPECIAL & set(line):
        return line
    return ",".join(_quoted(text) for text in row)


def _quoted(text: str) -> str:
    special = "," in text or _SPECIAL & set(text)
    return '"' + text.replace('"', '""') + '"' if special else text
