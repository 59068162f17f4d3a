"""When a measurement begins and ends: a warm-up, then a window of whole iterations. No torch."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

WARM_ITERATIONS = 2
WARM_SHARE = 0.2  # of the window: caches need more iterations of a fast loop than of a slow one
MIN_ITERATIONS = 5
WAIT_SECONDS = 900
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Process:
    """A measuring process.

    Args:
        folder: shared with its copies, which run at the same time.
        copies: number of these processes, this one included.
        spawned: time.monotonic() before its start; Linux and macOS count it for all processes.
    """

    folder: Path
    copies: int = 1
    spawned: float = 0.0

    def announce(self, event: str) -> None:
        (self.folder / f"{event}-{os.getpid()}").touch()

    def all_have(self, event: str) -> bool:
        return len(list(self.folder.glob(f"{event}-*"))) >= self.copies

    def wait_for_all(self, event: str) -> None:
        """Raises TimeoutError when another copy does not come."""
        self.announce(event)
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.all_have(event):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process was not {event} within {WAIT_SECONDS} s")
            time.sleep(POLL_SECONDS)


@dataclass
class Window:
    """Times iterations after a warm-up.

    The windows of copies open together, and each process runs on until all windows have closed.

    Args:
        seconds: length of the window, at least.
        warm_iterations: number of iterations before it, at least; 0 opens the window at once.
        min_iterations: number of iterations within it, at least.
    """

    process: Process
    seconds: float
    warm_iterations: int = WARM_ITERATIONS
    min_iterations: int = MIN_ITERATIONS
    first_iteration_seconds: float = field(default=0.0, init=False)
    ended: float = field(default=0.0, init=False)  # time.monotonic()

    def __post_init__(self):
        self._all_iterations = self._window_iterations = 0
        self._created = time.monotonic()
        self._opened = None if self.warm_iterations else self._created

    def iteration_ends(self) -> bool:
        """To be called after each iteration; True when everything is measured."""
        now = time.monotonic()
        if not self._all_iterations:
            self.first_iteration_seconds = now - self._created
        self._all_iterations += 1
        if self._opened is None:
            warm_seconds = WARM_SHARE * self.seconds
            if self._all_iterations >= self.warm_iterations and now - self._created >= warm_seconds:
                self.process.wait_for_all("warm")
                self._opened = time.monotonic()
            return False
        if not self.ended:
            self._window_iterations += 1
            long_enough = now - self._opened >= self.seconds
            if self._window_iterations >= self.min_iterations and long_enough:
                self.ended = now
                self.process.announce("done")
        return bool(self.ended) and self.process.all_have("done")

    @property
    def seconds_per_iteration(self) -> float:
        assert self.ended and self._opened is not None, "the window has not closed"
        return (self.ended - self._opened) / self._window_iterations
