"""Where a sweep stands, read from its plan and the files of its cells. Imports no torch."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any

from plainres.records import files
from plainres.records.errors import one_line
from plainres.records.plan import Plan, PlannedCell
from plainres.records.schema import describe, duration
from plainres.run.estimate import end_of, measured_seconds

TRUSTED = 0.1  # of a cell; from then on its own estimate is believed
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"


@dataclass
class State:
    """Where a cell stands.

    Args:
        name: with the folder where the sweep has several.
        status: STOPPED: it ran when the sweep's process ended.
        train_errors: the curve so far, at equal intervals.
        seconds: of training so far.
        seconds_remaining: its own estimate; None without one.
        text: the line of a cell that is done, or why it failed.
        notice: what its run in this sweep has to say, as of a damaged checkpoint.
    """

    name: str
    cell: PlannedCell
    status: str = WAITING
    iteration: int = 0
    train_error: float | None = None
    train_errors: list[float] = field(default_factory=list)
    seconds: float | None = None
    seconds_remaining: float | None = None
    text: str = ""
    notice: str = ""

    @property
    def ended(self) -> bool:
        return self.status in (DONE, FAILED)

    @property
    def line(self) -> str:
        """What is said of a cell that has ended, or is not going to."""
        if self.status == DONE:
            return self.text
        return f"{self.name} {f'failed: {self.text}' if self.text else 'is not finished'}"

    @property
    def progress(self) -> str:
        """A cell that runs, in a log file."""
        error = "" if self.train_error is None else f", train_error {self.train_error:.1%}"
        left = duration(self.seconds_remaining)
        return f"{self.name} {self.iteration}/{self.cell.iterations}{error}, {left} left"


class Watch:
    """Reads what the processes of a sweep write, and says where it stands.

    What other sweeps wrote into a cell's folder says nothing about this one: sweeps have ids. No
    two clocks are compared: a sweep may run on another machine.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._finished: dict[PlannedCell, State] = {}
        self._beside: dict[PlannedCell, float] = {}  # seconds beside training

    def states(self) -> list[State]:
        """One state a cell, in the sweep's order."""
        self.plan.refresh()
        stopped = self.plan.is_running() is False
        states = [self._state(cell) for cell in self.plan.cells]
        for state in states:
            if stopped and state.status == RUNNING:
                state.status, state.seconds_remaining = STOPPED, None
        return states

    def notices(self, states: Sequence[State]) -> list[str]:
        """What the sweep and its runs have to say, beside how far they are."""
        noticed = [f"{state.cell.name}: {state.notice}" for state in states if state.notice]
        return [*self.plan.notices, *noticed]

    def seconds_remaining(self, states: Sequence[State]) -> float | None:
        """Of the whole sweep; None before the first cell has an estimate."""
        shares = {state.cell: state.iteration / state.cell.iterations for state in states}
        measured = {
            state.cell: (state.cell.iterations * seconds, shares[state.cell])
            for state in states
            if (seconds := _seconds_per_iteration(state))
        }
        done = [state.cell for state in states if state.status == DONE]
        beside = {cell: self._beside[cell] for cell in done if cell in self._beside} or self._beside
        left: dict[str, list[float]] = {RUNNING: [], WAITING: []}
        for state in states:
            if state.status not in left:
                continue
            whole = measured_seconds(state.cell, measured)
            if whole is None:
                return None
            seconds = whole * (1 - shares[state.cell])
            if state.seconds_remaining is not None:
                trust = min(1.0, shares[state.cell] / TRUSTED)
                seconds += trust * (state.seconds_remaining - seconds)
            elif beside and state.status == WAITING:
                seconds += mean(beside.values())
            left[state.status].append(seconds)
        return end_of(self.plan.jobs, left[RUNNING], left[WAITING])

    def headline(self, states: Sequence[State]) -> str:
        """Title, counts, the time that is left and the time of day at which the sweep ends."""
        order = (DONE, RUNNING, WAITING, FAILED, STOPPED)
        counts = {status: sum(state.status == status for state in states) for status in order}
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        left = self.seconds_remaining(states)
        end = ""
        if left is not None and (counts[RUNNING] or counts[WAITING]):
            long = "%a %H:%M" if left > 12 * 3600 else "%H:%M"
            end = f", until {time.strftime(long, time.localtime(time.time() + left))}"
        if self.plan.is_running() is None:
            end += f"; whether it still runs can be seen on {self.plan.host} alone"
        return f"{self.plan.title}: {', '.join(parts)}; {duration(left)} left{end}"

    def to_json(self) -> dict[str, Any]:
        """The state of the sweep, by stable names: see plainres.run.status."""
        states = self.states()
        running = self.plan.is_running()
        names = ("sweep", "title", "jobs", "pid", "host")
        left = None if running is False else self.seconds_remaining(states)
        return {
            **{name: getattr(self.plan, name) for name in names},
            "running": running,
            "seconds_remaining": left,
            "cells": [_cell_json(state) for state in states],
        }

    def _state(self, cell: PlannedCell) -> State:
        if cell in self._finished:
            return self._finished[cell]
        prefix = f"{cell.results}/" if self.plan.several_folders else ""
        state = State(prefix + cell.name, cell)
        folder = self.plan.folder(cell)
        progress = files.read_progress(folder)
        if progress is not None:
            state.iteration, state.seconds = progress.iteration, progress.seconds
            state.train_error, state.train_errors = progress.train_error, progress.train_errors
            state.notice = progress.notice if progress.sweep == self.plan.sweep else ""
        try:
            record = self._record(cell)
        except OSError as error:
            state.status, state.text = FAILED, one_line(error)
            return state
        if record is not None:
            state.status, state.iteration = DONE, record.iterations
            state.train_error, state.seconds = record.train_error, record.seconds
            state.text = prefix + describe(record)
            self._add_beside(cell, files.RECORD_FILE, record.seconds)
        elif cell.finished:  # a committed row is its record
            state.status, state.iteration = DONE, cell.iterations
        if state.status == DONE:
            self._finished[cell] = state
            return state
        text = files.read_failure(folder, self.plan.sweep) or self.plan.failures.get(cell.folder)
        if text is not None:
            state.status, state.text = FAILED, text
        elif progress is not None and progress.sweep == self.plan.sweep:
            state.status, state.seconds_remaining = RUNNING, progress.seconds_remaining
            self._add_beside(cell, files.PROGRESS_FILE, progress.seconds)
        elif not files.has_checkpoint(folder):
            state.iteration = 0  # it will start again
        return state

    def _record(self, cell: PlannedCell) -> Any:
        """The record that finishes a cell, or None; the sweep sets a damaged one aside."""
        folder = self.plan.folder(cell)
        with suppress(files.DamagedFileError):
            record = files.read_record(folder)
            if record is not None and record.config_hash == cell.config_hash:
                return record if not cell.keep_weights or files.has_weights(folder) else None
        return None

    def _add_beside(self, cell: PlannedCell, name: str, seconds: float) -> None:
        """From the times of two files of a cell, which one process wrote: its lock and `name`."""
        folder = self.plan.folder(cell)
        with suppress(OSError):
            began = files.lock_of(folder).stat().st_mtime
            beside = (folder / name).stat().st_mtime - began - seconds
            if beside > 0 and not cell.finished:  # less: it continued, or began again since
                self._beside[cell] = beside


def _seconds_per_iteration(state: State) -> float | None:
    """Of a cell that this sweep has trained, or trains; None before it is known."""
    if state.cell.finished or not state.iteration:
        return None
    if state.status == DONE and state.seconds:
        return state.seconds / state.iteration
    left = state.cell.iterations - state.iteration
    return state.seconds_remaining / left if left > 0 and state.seconds_remaining else None


def _cell_json(state: State) -> dict[str, Any]:
    cell = asdict(state.cell)
    names = ("status", "iteration", "train_error", "train_errors", "seconds", "seconds_remaining")
    return {
        **{name: cell[name] for name in ("arm", "depth", "seed", "results", "iterations")},
        **{name: getattr(state, name) for name in (*names, "text")},
    }
