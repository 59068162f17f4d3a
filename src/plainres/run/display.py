"""Shows sweeps while they run: the board on a terminal, plain lines elsewhere. Imports no torch."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text

from plainres.run.board import board
from plainres.run.watch import RUNNING, State, Watch

REFRESH_SECONDS = 1.0
PLAIN_LINE_SECONDS = 60.0  # between two status lines in a log file


class Display:
    """Shows sweeps, and says one lasting line for each cell that ends meanwhile.

    Args:
        console: where lines are printed.
        gather: called when cells have ended; what it raises is reported at the end of the sweep.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        console: Console,
        gather: Callable[[], object] = lambda: None,
    ):
        self.watches = watches
        self.console = console
        self.gather = gather
        self._ended = threading.Event()
        self._reported: set[str] = set()  # lines
        self._thread = threading.Thread(target=self._show, args=(self._wait,), daemon=True)

    def start(self) -> None:
        """Shows until `stop`, from a thread of its own."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Prints what has ended since the last look, and ends; waits so long at most."""
        self._ended.set()
        self._thread.join(seconds)

    def follow(self) -> None:
        """Shows until no sweep runs; what has ended before is not said again."""
        for watch in self.watches:
            states = watch.states()
            self._reported.update(watch.notices(states), _ends(states))
        self._show(self._follow)

    def _wait(self) -> bool:
        return self._ended.wait(REFRESH_SECONDS)

    def _follow(self) -> bool:
        time.sleep(REFRESH_SECONDS)
        return all(watch.plan.is_running() is False for watch in self.watches)

    def _show(self, wait: Callable[[], bool]) -> None:
        """Until `wait`, which is called between two looks, says that it is over."""
        live = None
        if self.console.file.isatty() and not self.console.is_dumb_terminal:
            live = Live(console=self.console, auto_refresh=False, transient=True)
        next_line = time.monotonic()
        over = False
        with live or nullcontext():
            while True:
                seen = [(watch, watch.states()) for watch in self.watches]
                for watch, states in seen:
                    self._report(watch, states)
                if over:
                    return
                if live:
                    live.update(self._board(seen), refresh=True)
                elif time.monotonic() >= next_line:
                    for watch, states in seen:
                        if watch.seconds_remaining(states) is None:
                            continue
                        next_line = time.monotonic() + PLAIN_LINE_SECONDS
                        running = [state.progress for state in states if state.status == RUNNING]
                        self._print("; ".join([watch.headline(states), *running]))
                over = wait()

    def _board(self, seen: Sequence[tuple[Watch, list[State]]]) -> Text:
        width, height = self.console.size
        share = (height - 1) // len(seen)
        ascii_only = self.console.options.ascii_only
        lines = [
            line
            for watch, states in seen
            for line in board(states, watch.headline(states), width, share, ascii_only)
        ]
        return Text("\n").join(lines)

    def _report(self, watch: Watch, states: Sequence[State]) -> None:
        """One lasting line for each cell that ended, or has a notice, since the last."""
        ended = _ends(states)
        new = [line for line in (*watch.notices(states), *ended) if line not in self._reported]
        for line in new:
            self._print(line)
            self._reported.add(line)
        if not set(new).isdisjoint(ended):
            with suppress(ValueError, OSError):
                self.gather()

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False)


def _ends(states: Sequence[State]) -> list[str]:
    """The lines of the cells that this sweep has brought to an end."""
    return [state.line for state in states if state.ended and not state.cell.finished]
