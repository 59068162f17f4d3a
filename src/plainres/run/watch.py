"""Terminal display of a sweep: where its cells stand, read from their files.

Imports no torch.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from plainres.records import files
from plainres.records.errors import one_line
from plainres.records.schema import describe, duration
from plainres.run.cell import Cell
from plainres.run.processes import deaths, notices

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
REFRESH_SECONDS = 1.0
PLAIN_LINE_SECONDS = 60.0  # between two status lines in a log file


@dataclass
class State:
    """Where a cell stands; `seconds_remaining` is its own estimate, None without one."""

    name: str
    depth: int
    total: int
    status: str = WAITING
    iteration: int = 0
    train_error: float | None = None
    seconds_remaining: float | None = None
    text: str = ""

    @property
    def failure(self) -> str:
        """The line of a cell that was not finished."""
        text = f"failed: {self.text}" if self.status == FAILED else "is not finished"
        return f"{self.name} {text}"


class Watch:
    """Reads the cells' files and says where the sweep stands.

    Args:
        cells: the cells of the sweep.
        jobs: how many run at once.
        sweep: its id; what other sweeps wrote into a cell's folder says nothing about this one.
        several_folders: names of cells start with their folder.
    """

    def __init__(self, cells: Sequence[Cell], jobs: int, sweep: str, several_folders: bool = False):
        self.cells = list(cells)
        self.jobs = jobs
        self.sweep = sweep
        self.several_folders = several_folders
        self._finished: dict[Path, State] = {}
        # seconds per iteration and weighted layer, by the cell's folder
        self._pace: dict[Path, float] = {}

    def states(self) -> list[State]:
        """One state a cell, in the sweep's order."""
        return [self._state(cell) for cell in self.cells]

    def _state(self, cell: Cell) -> State:
        if cell.folder in self._finished:
            return self._finished[cell.folder]
        prefix = f"{cell.config.folder}/" if self.several_folders else ""
        name = prefix + cell.name
        state = State(name, cell.config.model.depth, cell.config.protocol.iterations)
        try:
            record = cell.finished()
        except (ValueError, OSError) as error:
            state.status, state.text = FAILED, one_line(error)
            return state
        if record:
            state.status, state.iteration = DONE, record.iterations
            state.text = prefix + describe(record)
            self._finished[cell.folder] = state
            return state
        text = cell.failure(self.sweep) or deaths.get(cell.folder)
        if text is not None:
            state.status, state.text = FAILED, text
            return state
        self._add_progress(state, cell)
        return state

    def notices(self) -> list[str]:
        """What runs of this sweep have to say, beside how far they are."""
        return [
            f"{cell.name}: {notice}"
            for cell in self.cells
            if (progress := files.read_progress(cell.folder))
            and progress.sweep == self.sweep
            and (notice := progress.notice)
        ]

    def _add_progress(self, state: State, cell: Cell) -> None:
        progress = files.read_progress(cell.folder)
        if progress is None:
            return
        state.iteration, state.train_error = progress.iteration, progress.train_error
        if progress.sweep == self.sweep:
            state.status, state.seconds_remaining = RUNNING, progress.seconds_remaining
        if state.seconds_remaining is not None and state.iteration < state.total:
            self._pace[cell.folder] = (
                state.seconds_remaining / (state.total - state.iteration) / state.depth
            )

    def seconds_remaining(self, states: Sequence[State]) -> float | None:
        """Of the whole sweep, from the measured seconds per iteration and layer.

        None before the first cell has an estimate.
        """
        if not self._pace:
            return None
        left = [
            self._pace_of(cell) * state.depth * (state.total - state.iteration)
            if state.seconds_remaining is None
            else state.seconds_remaining
            for cell, state in zip(self.cells, states, strict=True)
            if state.status in (RUNNING, WAITING)
        ]
        return max(sum(left) / self.jobs, *left) if left else 0.0

    def _pace_of(self, cell: Cell) -> float:
        """Mean pace of the measured cells of the same network, or of all while there is none."""
        alike = [
            other.folder
            for other in self.cells
            if (other.arm, other.results_folder) == (cell.arm, cell.results_folder)
        ]
        paces = [self._pace[folder] for folder in alike if folder in self._pace] or list(
            self._pace.values()
        )
        return sum(paces) / len(paces)


class Display:
    """Shows a sweep until it is stopped, from a thread of its own.

    Args:
        title: what is swept.
        console: where lines are printed.
        gather: called when cells have ended; what it raises is reported at the end of the sweep.
    """

    def __init__(self, watch: Watch, title: str, console: Console, gather: Callable[[], object]):
        self.watch = watch
        self.title = title
        self.console = console
        self.gather = gather
        self._ended = threading.Event()
        self._reported: set[str] = set()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Prints what has ended since the last look, and ends; waits so long at most."""
        self._ended.set()
        self._thread.join(seconds)

    def _show(self) -> None:
        live = None
        if self.console.file.isatty() and not self.console.is_dumb_terminal:
            live = Live(console=self.console, auto_refresh=False, transient=True)
        next_line = time.monotonic()
        with live or nullcontext():
            while True:
                ended = self._ended.wait(REFRESH_SECONDS)
                states = self.watch.states()
                self._report(states)
                if ended:
                    return
                if live:
                    drawn = picture(states, self._headline(states), self.console.width)
                    live.update(drawn, refresh=True)
                elif time.monotonic() >= next_line and any(state.iteration for state in states):
                    next_line = time.monotonic() + PLAIN_LINE_SECONDS
                    running = [_running_line(state) for state in states if state.status == RUNNING]
                    self._print("; ".join([self._headline(states), *running]))

    def _report(self, states: Sequence[State]) -> None:
        """One lasting line for each cell that ended, or has a notice, since the last."""
        for notice in [*notices, *self.watch.notices()]:
            if notice not in self._reported:
                self._print(notice)
                self._reported.add(notice)
        ended = [
            state
            for state in states
            if state.status in (DONE, FAILED) and state.name not in self._reported
        ]
        for state in ended:
            self._print(state.text if state.status == DONE else state.failure)
            self._reported.add(state.name)
        if ended:
            with suppress(ValueError, OSError):
                self.gather()

    def _headline(self, states: Sequence[State]) -> str:
        count = {
            status: sum(state.status == status for state in states)
            for status in (DONE, RUNNING, WAITING, FAILED)
        }
        parts = [f"{count[status]} {status}" for status in (DONE, RUNNING, WAITING)]
        if count[FAILED]:
            parts.append(f"{count[FAILED]} failed")
        left = duration(self.watch.seconds_remaining(states))
        return f"{self.title}: {', '.join(parts)}; {left} left"

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False)


def picture(states: Sequence[State], headline: str, width: int) -> Group:
    """What the terminal shows: a headline and one row for each running cell."""
    table = Table.grid(padding=(0, 2))
    for state in states:
        if state.status == RUNNING:
            error = "" if state.train_error is None else f"train_error {state.train_error:.1%}"
            bar = ProgressBar(
                total=state.total, completed=state.iteration, width=max(10, min(40, width - 70))
            )
            remaining = f"{duration(state.seconds_remaining)} left"
            table.add_row(state.name, bar, f"{state.iteration}/{state.total}", error, remaining)
    return Group(headline, table)


def _running_line(state: State) -> str:
    error = "" if state.train_error is None else f", train_error {state.train_error:.1%}"
    left = duration(state.seconds_remaining)
    return f"{state.name} {state.iteration}/{state.total}{error}, {left} left"
