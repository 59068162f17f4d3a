"""`plainres status`: what the sweeps of this machine are doing. Imports no torch."""

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from plainres.records import files, plan
from plainres.run.board import board
from plainres.run.display import REFRESH_SECONDS, Display
from plainres.run.watch import DONE, FAILED, State, Watch


def status(results: Path, slug: str | None, as_json: bool, follow: bool) -> int:
    """Prints the boards of the sweeps that run, and one line for each of the others.

    As JSON: {"sweeps": [...]}, each with

    - sweep (its id), title, jobs (cells at once), pid and host of its process
    - running: true, false, or null where only its own machine can know
    - seconds_remaining: of the whole sweep; null: not known yet, or it does not run
    - cells, in the order of their launch: arm, depth, seed, results (its results folder), status
      (waiting, running, done, failed, or stopped: it ran when the sweep's process ended),
      iteration, iterations (of the whole run), train_error (fraction, now or of the record),
      train_errors (its curve so far, at equal intervals), seconds (of training so far),
      seconds_remaining (its own estimate, or null), text (the line of a cell that has ended).

    Args:
        results: the folder that sweeps measure into.
        slug: of one question; None: all.
        follow: shows them until none runs. As JSON: one object a line, one line a second.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # the terminal gets its cursor back
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    watches = [Watch(each) for each in plan.find(results, slug or "*")]
    if as_json:
        return _print_json(watches, follow)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    running = [watch for watch in watches if watch.plan.is_running() is not False]
    if follow and running:
        Display(running, console).follow()
        return 0
    if not running:
        where = f"{results}/{slug}" if slug else str(results)
        none = "" if watches else f", and none has left a plan in {where}"
        console.print(f"no sweep is running{none}")
    for watch in watches:
        states = watch.states()
        if watch in running:
            ascii_only = console.options.ascii_only
            lines = board(states, watch.headline(states), console.width, sys.maxsize, ascii_only)
            console.print(*lines, sep="\n")
            console.print()
        else:
            console.print(_standing(watch, states))
    return 0


def _print_json(watches: Sequence[Watch], follow: bool) -> int:
    while True:
        seen = [watch.to_json() for watch in watches]
        text = json.dumps({"sweeps": seen}, ensure_ascii=False, indent=None if follow else 1)
        print(text, flush=True)
        if not follow or not any(each["running"] is not False for each in seen):
            return 0
        time.sleep(REFRESH_SECONDS)


def _standing(watch: Watch, states: Sequence[State]) -> str:
    """A sweep that has ended."""
    done = sum(state.status == DONE for state in states)
    said = [f"{done} of {len(states)} cells are finished"]
    folders = [watch.plan.folder(state.cell) for state in states if state.status != DONE]
    continued = sum(map(files.has_checkpoint, folders))
    said += [f"{continued} continue from a checkpoint"] if continued else []
    said += [state.line for state in states if state.status == FAILED]
    stopped = "" if done == len(states) else "stopped; "
    return f"{watch.plan.title}: {stopped}{', '.join(said)}"
