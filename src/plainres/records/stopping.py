"""One way to stop: a signal asks, what is being measured is saved, one line says what stands.

SIGINT, SIGTERM, SIGHUP and, in a worker, the death of its parent mean the same. Where nothing can
be lost, the process ends at once. Within `deferred` the work looks at `requested` and ends itself.
A thread ends the process when it has not ended in time.
"""

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS = 4.6  # from a request to the end of the process, at most
WORKER_SECONDS = 3.6  # the same of a worker, so that its parent can say what it left

_signal: int | None = None
_deferred = False
# What is finished and what continues, in words for the last line; "" before anything is known
what_stands: Callable[[], str] = str


class Stopped(SystemExit):
    """Ends a process that was asked to stop; the status is 128 + the `number` of the signal."""

    def __init__(self) -> None:
        assert _signal is not None
        self.number = _signal
        super().__init__(128 + _signal)


def listen(parent: int | None = None, seconds: float = SECONDS) -> None:
    """Answers requests from now on; a signal that was ignored at the start stays ignored.

    Args:
        seconds: from a request to the end of the process, at most; a worker has its own.
        parent: of a worker, a file descriptor that is readable when its parent is dead. A worker
            leaves the terminal's signals to its parent, and the last line too.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for name in SIGNALS:
        if parent is not None:
            signal.signal(name, _answer if name == signal.SIGTERM else signal.SIG_IGN)
        elif signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, _answer)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if parent is None:
        atexit.register(_leave)  # the first one registered runs last
    threading.Thread(target=_watch, args=(reading, parent, seconds), daemon=True).start()


def heed(number: int) -> None:
    """Answers another signal in the same way; whoever sends it sets the time that is left."""
    signal.signal(number, _answer)


def requested() -> bool:
    """Whether the process was asked to stop."""
    return _signal is not None


@contextmanager
def deferred() -> Iterator[None]:
    """Within this block a request waits for work that looks at `requested`; after it, it acts."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    if requested():
        raise Stopped


def _answer(number: int, frame: object) -> None:
    """The signal handler; the first request counts."""
    global _signal
    if _signal is None:
        _signal = number
        if not _deferred:
            raise Stopped


def _watch(requests: int, parent: int | None, seconds: float) -> None:
    """Ends the process in time, even while the main thread computes outside Python."""
    sources = {requests} if parent is None else {requests, parent}
    number = 0
    while number not in SIGNALS:
        if requests in select.select(sources, [], [])[0]:
            number = os.read(requests, 1)[0]
        else:
            sources = {requests}
            os.kill(os.getpid(), signal.SIGTERM)  # which comes back as a request
    if parent is not None:
        time.sleep(WORKER_SECONDS)
    else:
        time.sleep(seconds)
        _say(number)
    os._exit(128 + number)


def _leave() -> None:
    """The end of a process that was asked to stop, whatever became of `Stopped` on the way."""
    if _signal is not None:
        _say(_signal)
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(128 + _signal)


def _say(number: int) -> None:
    stands = ""
    with suppress(Exception):  # a file that cannot be read is no reason to say nothing
        stands = what_stands()
    line = f"interrupted ({signal.Signals(number).name}){': ' if stands else ''}{stands}"
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"plainres: {line}; the same command continues\n".encode())
