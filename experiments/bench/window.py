"""When a measurement begins and ends: a warm-up, then a window of whole iterations. No torch."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

WARM_ITERATIONS = 2
WARM_SHARE = 0.2  # of the window: caches need more iterations of a fast loop than of a slow one
MIN_ITERATIONS = 5
WAIT_SECONDS = 900
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Process:
    """A measuring process."""

    folder: Path  # shared with its copies, which run at the same time
    threads: int = 1
    copies: int = 1  # number of these processes, this one included
    spawned: float = 0.0  # time.monotonic() before the start, the same clock for all processes

    def all_have(self, event: str) -> bool:
        """Says that this process has; whether its copies have too."""
        (self.folder / f"{event}-{os.getpid()}").touch()
        return len(list(self.folder.glob(f"{event}-*"))) >= self.copies

    def wait_for_all(self, event: str) -> None:
        """Raises TimeoutError when another copy does not come."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.all_have(event):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process was not {event} within {WAIT_SECONDS} s")
            time.sleep(POLL_SECONDS)


class Window:
    """Times iterations after a warm-up.

    The windows of copies open together, and each process runs on until all windows have closed.

    Args:
        seconds: length of the window, at least; 0: the first iteration alone, without a warm-up.
    """

    def __init__(self, process: Process, seconds: float):
        self.process, self.seconds = process, seconds
        self.first_iteration_seconds = self.seconds_per_iteration = 0.0
        self.ended = 0.0  # time.monotonic()
        self._iterations = self._warm_iterations = 0
        self._created = time.monotonic()
        self._opened = None if seconds else self._created

    def iteration_ends(self) -> bool:
        """To be called after each iteration; True when everything is measured."""
        now = time.monotonic()
        self._iterations += 1
        if self._iterations == 1:
            self.first_iteration_seconds = now - self._created
        if self._opened is None:
            warm = now - self._created >= WARM_SHARE * self.seconds
            if warm and self._iterations >= WARM_ITERATIONS:
                self.process.wait_for_all("warm")
                self._opened, self._warm_iterations = time.monotonic(), self._iterations
            return False
        iterations, passed = self._iterations - self._warm_iterations, now - self._opened
        enough = passed >= self.seconds and iterations >= MIN_ITERATIONS
        if not self.ended and (enough or not self.seconds):
            self.ended, self.seconds_per_iteration = now, passed / iterations
        return bool(self.ended) and self.process.all_have("done")
