"""A sweep as one person at one terminal sees it: a Hydra callback in the parent of the workers. Imports no torch before it must.

It refuses what cannot run before anything runs, shows how far the cells are, gathers their records, and reports failures.
"""

import atexit
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from plainres.records import files
from plainres.records.errors import give_up
from plainres.records.schema import describe, duration
from plainres.run.cell import Cell, claim_tables

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
REFRESH_SECONDS = 1.0
PLAIN_LINE_SECONDS = 60.0  # between two status lines in a log file


def cells_of(config: DictConfig) -> list[Cell]:
    """The cells of a sweep, in the order in which Hydra's basic sweeper launches them.

    Args:
        config: what Hydra composed for the sweep itself, its `hydra` node included.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    loader = GlobalHydra.instance().config_loader()
    arguments = [
        f"{name}={values}" for name, values in (config.hydra.sweeper.params or {}).items()
    ] + list(config.hydra.overrides.task)
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    cells = []
    for job in BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]:
        job_config = loader.load_sweep_config(config, list(job))
        arm = job_config.hydra.runtime.choices["model"]
        with open_dict(job_config):
            del job_config["hydra"]
        cells.append(Cell(job_config, arm))
    return cells


@dataclass
class State:
    """Where a cell stands; `seconds_remaining` is the cell's own estimate, None while it has none."""

    name: str
    depth: int
    total: int
    status: str = WAITING
    iteration: int = 0
    train_error: float | None = None
    seconds_remaining: float | None = None
    text: str = ""


class Watch:
    """Reads the cells' files and says where the sweep stands.

    Args:
        cells: the cells of the sweep.
        jobs: how many run at once.
        since: seconds since the epoch; progress files older than that are of an earlier sweep.
    """

    def __init__(self, cells: Sequence[Cell], jobs: int, since: float):
        self.cells = list(cells)
        self.jobs = jobs
        self.since = since
        self._one_folder = len({cell.results_folder for cell in cells}) == 1
        self._finished: dict[Path, State] = {}
        self._pace: dict[
            Path, float
        ] = {}  # seconds per iteration and weighted layer, by the cell's folder

    def states(self) -> list[State]:
        """One state a cell, in the sweep's order."""
        return [self._state(cell) for cell in self.cells]

    def _state(self, cell: Cell) -> State:
        if cell.folder in self._finished:
            return self._finished[cell.folder]
        prefix = "" if self._one_folder else f"{cell.config.folder}/"
        name = prefix + cell.name
        state = State(name, cell.config.model.depth, cell.config.protocol.iterations)
        if record := cell.finished():
            state.status, state.iteration = DONE, record.iterations
            state.text = prefix + describe(record)
            self._finished[cell.folder] = state
            return state
        failure = cell.folder / files.FAILURE_FILE
        if _newer(failure, self.since):
            state.status, state.text = FAILED, failure.read_text(encoding="utf-8").strip()
            return state
        progress_file = cell.folder / files.PROGRESS_FILE
        progress = files.read_json(progress_file)
        if progress:
            state.iteration, state.train_error = progress["iteration"], progress["train_error"]
            if _newer(progress_file, self.since):
                state.status, state.seconds_remaining = RUNNING, progress["seconds_remaining"]
                if state.seconds_remaining is not None and state.iteration < state.total:
                    self._pace[cell.folder] = (
                        state.seconds_remaining / (state.total - state.iteration) / state.depth
                    )
        return state

    def seconds_remaining(self, states: Sequence[State]) -> float | None:
        """Of the whole sweep, from the measured seconds per iteration and layer; None before the first cell has an estimate."""
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
        """Mean pace of the measured cells of the same network at any depth, or of all while there is none."""
        alike = [
            other.folder
            for other in self.cells
            if (other.arm, other.results_folder) == (cell.arm, cell.results_folder)
        ]
        paces = [self._pace[folder] for folder in alike if folder in self._pace] or list(
            self._pace.values()
        )
        return sum(paces) / len(paces)


class Sweep(Callback):
    """Hydra callback: checks, shows, gathers, reports."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.console = Console(soft_wrap=True)
        self._stop = threading.Event()
        self._display: threading.Thread | None = None
        self._watch: Watch | None = None

    def __reduce__(self) -> tuple[type["Sweep"], tuple[()]]:
        return Sweep, ()  # Hydra sends its callbacks to every worker; the display stays here

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            self.cells = cells_of(config)
            left = self._prepare()
        except Exception as error:  # Hydra turns an exception of a callback into a warning and goes on; an exit it lets through
            give_up([error])
        if not left:
            finished = f"all {len(self.cells)} cells are finished; FORCE=1 with another configuration measures anew"
            self.console.print(finished if self.cells else "no cell is left to train", markup=False)
            sys.exit(0)
        from plainres.training.machine import num_cores

        jobs = config.hydra.launcher.get("n_jobs", 1)
        self._watch = Watch(left, min(jobs if jobs > 0 else num_cores(), len(left)), time.time())
        self._display = threading.Thread(target=self._show, daemon=True)
        self._display.start()
        atexit.register(self._end_display)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._end_display()
        failures: list[Exception | str] = [*self._failures()]
        try:
            self._gather()
        except Exception as error:  # which Hydra would make a warning of
            failures.append(error)
        if failures:
            give_up(failures)

    def _prepare(self) -> list[Cell]:
        """Refuses what cannot run, names what is finished, returns the cells that are left."""
        folders = [cell.folder for cell in self.cells]
        for folder in folders:
            if folders.count(folder) > 1:
                raise ValueError(
                    f"two cells of this sweep share the folder {folder}: sweep over arm, depth and seed only"
                )
        for cell in [cell for cell in self.cells if cell.parent_diverged]:
            self.console.print(
                f"passed over: {cell.name}, whose parent {cell.parent_folder} diverged",
                markup=False,
                highlight=False,
            )
            self.cells.remove(cell)
        for cell in self.cells:
            cell.check()
            if (refusal := cell.refusal()) and not cell.config.force:
                raise ValueError(refusal)
        left = []
        for cell in self.cells:
            if record := cell.finished():
                prefix = f"{cell.config.folder}/" if len(self._results_folders()) > 1 else ""
                skipped = f"skipped, finished: {prefix}{describe(record)}"
                self.console.print(skipped, markup=False, highlight=False)
            else:
                left.append(cell)
        if left:
            # Faults of the data show here, once, and the workers find the decoded images
            left[0].load_images()
        for folder in self._results_folders():
            if line := claim_tables([cell for cell in self.cells if cell.results_folder == folder]):
                self.console.print(line, markup=False, highlight=False)
        self._gather()  # a damaged table shows here, and not after hours
        return left

    def _results_folders(self) -> list[Path]:
        return sorted({cell.results_folder for cell in self.cells})

    def _gather(self) -> None:
        for folder in self._results_folders():
            files.gather(folder)

    def _failures(self) -> list[str]:
        """A line for each failed cell."""
        if self._watch is None:
            return []
        return [
            f"{state.name} failed: {state.text}"
            for state in self._watch.states()
            if state.status == FAILED
        ]

    def _end_display(self) -> None:
        self._stop.set()
        if self._display is not None:
            self._display.join(timeout=5)
            self._display = None

    def _show(self) -> None:
        assert self._watch is not None
        reported: set[str | Path] = set()
        live = (
            Live(console=self.console, auto_refresh=False, transient=True)
            if self.console.is_terminal
            else None
        )
        next_line = time.monotonic()
        with live or nullcontext():
            while True:
                last = self._stop.wait(REFRESH_SECONDS)
                states = self._watch.states()
                self._report(states, reported)
                if last:
                    return
                if live:
                    live.update(
                        picture(states, self._headline(states), self.console.width), refresh=True
                    )
                elif time.monotonic() >= next_line and any(state.iteration for state in states):
                    next_line = time.monotonic() + PLAIN_LINE_SECONDS
                    running = [_running_line(state) for state in states if state.status == RUNNING]
                    self.console.print(
                        "; ".join([self._headline(states), *running]), markup=False, highlight=False
                    )

    def _report(self, states: Sequence[State], reported: set[str | Path]) -> None:
        """One lasting line for each cell that has ended, or lost its checkpoint, since the last call."""
        assert self._watch is not None
        for cell in self._watch.cells:
            damaged = cell.folder / files.DAMAGED_CHECKPOINT_FILE
            if damaged not in reported and _newer(damaged, self._watch.since):
                self.console.print(f"{cell.name}: {files.DAMAGED}", markup=False, highlight=False)
                reported.add(damaged)
        new = [
            state
            for state in states
            if state.status in (DONE, FAILED) and state.name not in reported
        ]
        for state in new:
            text = state.text if state.status == DONE else f"{state.name} failed: {state.text}"
            self.console.print(text, markup=False, highlight=False)
            reported.add(state.name)
        if new:
            with suppress(ValueError, OSError):  # told at the end; the display and the cells go on
                self._gather()

    def _headline(self, states: Sequence[State]) -> str:
        assert self._watch is not None
        count = {
            status: sum(state.status == status for state in states)
            for status in (DONE, RUNNING, WAITING, FAILED)
        }
        cell = self.cells[0]
        parts = [f"{count[status]} {status}" for status in (DONE, RUNNING, WAITING)]
        if count[FAILED]:
            parts.append(f"{count[FAILED]} failed")
        folders = self._results_folders()
        name = cell.config.folder if len(folders) == 1 else f"{len(folders)} folders"
        where = f"{cell.config.slug}/{name} on {cell.config.data.label}"
        return (
            f"{where}: {', '.join(parts)}; {duration(self._watch.seconds_remaining(states))} left"
        )


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
    return f"{state.name} {state.iteration}/{state.total}{error}, {duration(state.seconds_remaining)} left"


def _newer(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except FileNotFoundError:
        return False
