"""Runs the commands of experiments.grid as processes."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.grid import Command
from plainres.records.errors import FAILED


def run(command: Command, places: Path | None = None, part: str = "") -> int:
    """Prints and runs one command, waits for it and returns its status.

    A signal to stop is passed on, each once. Where the process finishes all the same, the status is
    that of the signal, because nothing is to follow.

    Args:
        places: a file for the folders into which the command measures
            (plainres.run.config.announce).
        part: which of several commands it is, for the sweep's title.
    """
    print(shown(command), flush=True)
    words = [sys.executable, "-m", command.module, *command.words]
    environment = {**os.environ, **command.environment}
    if places:
        environment["PLAINRES_PLACES"] = str(places)
    if part:
        environment["PLAINRES_PART"] = part
    processes: list[subprocess.Popen] = []
    with (
        _passed_on(processes) as signals,
        subprocess.Popen(words, env=environment) as process,
    ):
        processes.append(process)
        for number in signals:  # sent before there was a process
            process.send_signal(number)
        status = status_of_process(process.wait())
    return 128 + signals[0] if signals and not status else status


@contextmanager
def _passed_on(processes: Sequence[subprocess.Popen]) -> Iterator[list[int]]:
    """Passes signals on to processes meanwhile; one that is ignored stays ignored.

    Yields:
        The numbers of the signals that came, each once.
    """
    signals: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if number not in signals:
            signals.append(number)
            for process in processes:
                process.send_signal(number)

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    legal = [name for name in names if signal.getsignal(name) != signal.SIG_IGN]
    before = {name: signal.signal(name, pass_on) for name in legal}
    try:
        yield signals
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def status_of_process(returned: int) -> int:
    """The status to end with after a process of ours that ended with `returned`."""
    if returned == 1:  # by Python itself: our own commands use 1 for nothing else
        return FAILED
    return 128 - returned if returned < 0 else returned


def shown(command: Command) -> str:
    variables = [f"{name}={value}" for name, value in command.environment.items()]
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.join([*variables, str(python), "-m", command.module, *command.words])
