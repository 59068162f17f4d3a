"""The command `python -m plainres.run.train`, run again and again in forks of a process.

All imports are done once, so a run of a small cell takes a second instead of five. A fork does what
a process does that was started with these words: it parses them, trains, prints, and has a status.
"""

import atexit
import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from plainres.run.config import ROOT
from plainres.training.instructions import limit_instructions

LIMIT = 60.0  # seconds
POLL_SECONDS = 0.01
PR_SET_PDEATHSIG = 1
HANGS = 1000  # status of a command that did not end


@dataclass(frozen=True)
class Ended:
    """How a command ended; `status` is negative for a signal, HANGS if it had to be killed."""

    status: int
    output: str

    @property
    def says_why(self) -> bool:
        """Whether a command that gave up said in one line why."""
        return self.last_line.startswith("plainres: ") and "Traceback" not in self.output

    @property
    def last_line(self) -> str:
        """Its own last line, or else the last of all, for a message."""
        lines = [line for line in self.output.splitlines() if line.strip()] or ["no output"]
        return ([line for line in lines if line.startswith("plainres: ")] or lines)[-1][:300]


def load() -> None:
    """Imports what a run imports, before anything is computed."""
    limit_instructions("AVX2")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # under nohup: it would stay ignored
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, handler)
    for name in ("sklearn.datasets", "torch.utils.tensorboard", "plainres.run.train"):
        import_module(name)
    import_module("torch").set_num_threads(1)


def fork(task: Callable[[], int]) -> int:
    """Runs `task` in a fork and a session of its own, which ends with this process.

    Returns its id.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if not pid:
        atexit._clear()  # what the parent wants done at its end
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _leave(task)
    return pid


def _leave(task: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        status = task()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter ends
            atexit._run_exitfuncs()
            sys.stdout.flush()
        finally:
            os._exit(status & 0xFF)


def train(
    words: Sequence[str],
    output: Path,
    environment: Mapping[str, str],
    before: Callable[[], object] | None = None,
    strike: tuple[float, int] | None = None,
    limit: float = LIMIT,
) -> Ended:
    """The command with these words.

    Args:
        output: what the command prints goes there.
        before: called in the fork before the command begins.
        strike: seconds after which it gets a signal, and the signal.
        limit: seconds; a command that takes longer hangs.
    """

    def task() -> int:
        os.chdir(ROOT)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.environ.update(environment)
        tempfile.tempdir = None
        if before is not None:
            before()
        from plainres.run import train

        sys.argv = ["train.py", *words]
        train.main()
        return 0

    with output.open("wb") as file:
        status = wait(fork(task), strike, limit)
    return Ended(status, output.read_text(encoding="utf-8", errors="replace"))


def wait(pid: int, strike: tuple[float, int] | None = None, limit: float = LIMIT) -> int:
    """The status of a process that `fork` started; what is left of its session is killed."""
    began = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - began
        if ended:
            kill_session(pid)
            return os.waitstatus_to_exitcode(status)
        if strike is not None and seconds >= strike[0]:
            os.kill(pid, strike[1])
            strike = None
        if seconds > limit:
            kill_session(pid)
            os.waitpid(pid, 0)
            return HANGS
        time.sleep(POLL_SECONDS)


def kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
