"""When a measurement begins and ends: a warm-up, then a window of whole iterations, at the same time as other processes. No torch."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

WARM_ITERATIONS = 2
WARM_SHARE = 0.2  # of the window: libraries and caches need more iterations of a fast loop than of a slow one
LEAST_ITERATIONS = 5
WAIT_SECONDS = 900
LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Process:
    """What a measuring process knows of itself.

    Args:
        folder: its own, shared with the copies that run at the same time.
        copies: how many there are.
        spawned: time.monotonic() before it was started; Linux and macOS count it for all processes alike.
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
                raise TimeoutError(
                    f"a process beside this one was not {event} within {WAIT_SECONDS} s"
                )
            time.sleep(LOOK_SECONDS)


class Window:
    """Times iterations from the end of a warm-up on; windows of copies open together, and each runs on until all have closed.

    Args:
        seconds: at least so long.
        warm_iterations: at least so many before; 0 opens the window at once.
        least_iterations: at least so many within.
    """

    def __init__(
        self,
        process: Process,
        seconds: float,
        warm_iterations: int = WARM_ITERATIONS,
        least_iterations: int = LEAST_ITERATIONS,
    ):
        self.process = process
        self.seconds = seconds
        self.warm_iterations = warm_iterations
        self.least_iterations = least_iterations
        self.first_iteration_seconds = 0.0
        self.ended = 0.0  # time.monotonic() at the window's end
        self._iterations = 0  # in all
        self._counted = 0  # within the window
        self._created = time.monotonic()
        self._opened = None if warm_iterations else self._created

    def iteration_ends(self) -> bool:
        """To be called after each iteration; True when everything is measured."""
        now = time.monotonic()
        if not self._iterations:
            self.first_iteration_seconds = now - self._created
        self._iterations += 1
        if self._opened is None:
            if (
                self._iterations >= self.warm_iterations
                and now - self._created >= WARM_SHARE * self.seconds
            ):
                self.process.wait_for_all("warm")
                self._opened = time.monotonic()
            return False
        if not self.ended:
            self._counted += 1
            if self._counted >= self.least_iterations and now - self._opened >= self.seconds:
                self.ended = now
                self.process.announce("done")
        return bool(self.ended) and self.process.all_have("done")

    @property
    def seconds_per_iteration(self) -> float:
        assert self.ended, "the window has not closed"
        assert self._opened is not None
        return (self.ended - self._opened) / self._counted
