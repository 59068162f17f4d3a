"""The plan of a sweep: which cells it has and whether it still runs, for whoever watches it.

A file beside the cells' folders, one JSON object a line: the plan, then what only the sweep's own
process knows. That process holds the file's lock, so no clock and no process id says whether it
lives, where the file system has locks. Imports no torch.
"""

import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from plainres.records.checks import row_of
from plainres.records.files import PART_SUFFIX, write_errors
from plainres.records.identity import cell_name
from plainres.records.locks import is_locked, try_lock

PLANS = "sweep-*.jsonl"


@dataclass(frozen=True)
class PlannedCell:
    """A cell of a sweep.

    Args:
        results: name of its results folder.
        folder: of its files, as seen from the folder of the plan.
        iterations: of the whole run.
        config_hash: of the record that finishes it.
        keep_weights: whether it is finished only with its weights.
        expected: seconds of training, from earlier cells; None: there are none.
        finished: whether it was before the sweep began.
    """

    arm: str
    depth: int
    seed: int
    results: str
    folder: str
    iterations: int
    config_hash: str
    keep_weights: bool
    expected: float | None
    finished: bool

    @property
    def name(self) -> str:
        return cell_name(self.arm, self.depth, self.seed)


@dataclass
class Plan:
    """The cells of a sweep, in the order in which they are launched.

    Args:
        sweep: its id.
        title: what is swept.
        jobs: cells at once.
        pid, host: of the sweep's process.
        path: of the file.
        failures: why workers ended that could not write it, by `PlannedCell.folder`.
        notices: lines for the display.
        ended: whether the sweep's process has said so.
    """

    sweep: str
    title: str
    jobs: int
    cells: Sequence[PlannedCell]
    path: Path
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    failures: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    ended: bool = False
    _file: IO[str] | None = None  # in the sweep's process: open, with its lock

    @property
    def several_folders(self) -> bool:
        return len({cell.results for cell in self.cells}) > 1

    def folder(self, cell: PlannedCell) -> Path:
        return self.path.parent / cell.folder

    def write(self) -> None:
        """Writes the file and keeps its lock; deletes the plans of sweeps that have ended.

        Raises:
            NotWrittenError: the file system refuses.
        """
        for path in self.path.parent.glob(PLANS):
            if (old := read(path)) and old.is_running() is False:
                path.unlink(missing_ok=True)
        names = ("sweep", "title", "jobs", "pid", "host")
        values = {name: getattr(self, name) for name in names}
        values["cells"] = [asdict(cell) for cell in self.cells]
        part = self.path.with_name(f".{self.path.name}{PART_SUFFIX}")
        with write_errors(self.path):
            self._file = part.open("w", encoding="utf-8")
            try_lock(self._file)
            self._append(values)
            part.replace(self.path)

    def close(self) -> None:
        """The sweep has ended, if its process has not yet."""
        if self._file is not None:
            self.ended = True
            self._tell({"ended": True})
            with suppress(OSError):
                self._file.close()
            self._file = None

    def fail(self, folder: Path, text: str) -> None:
        """Says why the worker of a cell ended, which it could not do itself."""
        relative = os.path.relpath(folder, self.path.parent)
        self.failures[relative] = text
        self._tell({"folder": relative, "failure": text})

    def notify(self, notice: str) -> None:
        """Says a line in every display."""
        self.notices.append(notice)
        self._tell({"notice": notice})

    def refresh(self) -> None:
        """Reads what has been said since, in a process that watches."""
        if self._file is None and (new := read(self.path)):
            self.failures, self.notices, self.ended = new.failures, new.notices, new.ended

    def is_running(self) -> bool | None:
        """Whether the sweep's process lives; None where this cannot be known on this machine.

        Some file systems have no locks, or locks for the processes of one machine only.
        """
        if self._file is not None:
            return True
        if self.ended:
            return False
        try:
            locked = is_locked(self.path)
        except OSError:  # a later sweep has deleted it
            return False
        if locked:
            return True
        if self.host != socket.gethostname():
            return None
        return locked is None and _lives(self.pid)

    def _tell(self, event: dict[str, Any]) -> None:
        with suppress(OSError):  # a full disk: the sweep's own display knows it all the same
            self._append(event)

    def _append(self, value: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
            self._file.flush()


def path_of(folder: Path, sweep: str) -> Path:
    """The plan of a sweep whose first cells lie in a results folder."""
    return folder / "runs" / PLANS.replace("*", sweep[:12])


def find(results: Path, slug: str = "*") -> list[Plan]:
    """The plans below results/<slug>/<folder>, sorted by their paths."""
    paths = [
        path
        for depth in ("*", "*/*")  # of the folder, which may have a folder itself
        for path in results.glob(f"{slug}/{depth}/runs/{PLANS}")
    ]
    return [plan for path in sorted(paths) if (plan := read(path))]


def read(path: Path) -> Plan | None:
    """The plan in a file; None where it is gone or not one."""
    try:
        first, *lines = path.read_text(encoding="utf-8").split("\n")  # no other ends of lines
        values = json.loads(first)
        cells = [row_of(PlannedCell, cell, str(path)) for cell in values.pop("cells")]
        plan = Plan(**values, cells=cells, path=path)
        for line in lines:
            # A torn line, which the next look finds whole; or one of other code
            with suppress(ValueError, TypeError, KeyError):
                event = json.loads(line)
                if "ended" in event:
                    plan.ended = True
                elif "failure" in event:
                    plan.failures[event["folder"]] = event["failure"]
                else:
                    plan.notices.append(event["notice"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return plan


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True
