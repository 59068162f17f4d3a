"""One way to stop, in processes that import neither torch nor Hydra."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NUMBERS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
START = """
import hashlib, os, signal, sys, time
from plainres.records import stopping
stopping.SECONDS = stopping.WORKER_SECONDS = {seconds}
stopping.what_stands = lambda: "3 of 10 cells are finished"
stopping.listen()
def ready():
    print("ready", flush=True)
"""
IDLE = """
ready()
time.sleep(30)
"""
SWALLOWED = """
try:
    ready()
    time.sleep(30)
except BaseException:
    pass
"""
SAVES = """
with stopping.deferred():
    ready()
    while not stopping.requested():
        time.sleep(0.01)
    time.sleep(0.3)
    print("saved", flush=True)
"""
HANGS = """
with stopping.deferred():
    ready()
    time.sleep(30)
"""
COMPUTES = """
ready()
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # the handler is called when this has ended
"""


@contextmanager
def started(script: str, *fds: int) -> Iterator[subprocess.Popen]:
    """A process that is ready."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], pass_fds=fds, **pipes) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("script", "seconds", "said"),
    [
        (IDLE, 9, ""),
        (SWALLOWED, 9, ""),
        (SAVES, 9, "saved\n"),
        (HANGS, 0.3, ""),
        (COMPUTES, 0.3, ""),
    ],
    ids=("idle", "swallowed", "saves", "hangs", "computes"),
)
def test_every_end_has_its_status_and_one_line_however_often_it_is_asked(
    number, script, seconds, said
):
    with started(START.format(seconds=seconds) + script) as process:
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.05)
        since = time.monotonic()
        stdout, stderr = process.communicate(timeout=20)
        assert time.monotonic() - since < 8
    assert process.returncode == NUMBERS[number]
    assert stdout == said
    name = signal.Signals(number).name
    line = f"interrupted ({name}): 3 of 10 cells are finished; the same command continues"
    assert stderr == f"plainres: {line}\n"


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with started(ignored + START.format(seconds=3) + IDLE) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=20) == 143


def test_what_stands_is_left_out_where_it_cannot_be_read():
    unreadable = "stopping.what_stands = lambda: 1 / 0"
    with started(START.format(seconds=3) + unreadable + IDLE) as idle:
        idle.terminate()
        line = "plainres: interrupted (SIGTERM); the same command continues\n"
        assert idle.communicate(timeout=20) == ("", line)


@pytest.mark.parametrize(("script", "said"), [(IDLE, ""), (SAVES, "saved\n"), (HANGS, "")])
def test_a_worker_ends_when_its_parent_is_gone_and_leaves_the_line_to_it(script, said):
    """The parent is whoever has the other end of the pipe."""
    reading, writing = os.pipe()
    listens = START.format(seconds=1).replace("listen()", f"listen({reading})")
    with started(listens + script, reading) as worker:
        worker.send_signal(signal.SIGINT)  # of the terminal: the parent's to answer
        worker.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert worker.poll() is None
        os.close(reading)
        os.close(writing)
        assert worker.communicate(timeout=20) == (said, "")
    assert worker.returncode == 143
