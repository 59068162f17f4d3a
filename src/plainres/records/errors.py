"""How a command ends: with one line on the terminal, and a status that means one thing.

0: done. 1: a claim is contradicted (`check --strict` alone). 2: cannot be done as asked. 3: began
and did not finish, or met an error of its own. 128 + n: ended by signal n; 141: nobody reads the
output any more. Tracebacks are shown where HYDRA_FULL_ERROR=1 is set.
"""

import argparse
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

CONTRADICTED = 1
UNUSABLE = 2
FAILED = 3
INTERRUPTED = 130
CLOSED = 141  # as if SIGPIPE had ended it

# What Hydra says of a value of the wrong type, and what it wants in plain words
_KINDS = {
    "converted to Integer": "a whole number",
    "type hint 'Union[int, float]'": "a number",
    "not a valid bool": "true or false",
}
_TYPE_MISMATCH = re.compile(
    rf"Error merging override ([^=\s]+)=(.*?) \(.*({'|'.join(map(re.escape, _KINDS))})"
)
_TRACEBACK = "PLAINRES_TRACEBACK"
# They ask for escape codes in files too
_FORCED_COLOURS = ("FORCE_COLOR", "PYTHON_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class Parser(argparse.ArgumentParser):
    """Ends with one line on stderr where a command line is illegal."""

    def error(self, message: str) -> NoReturn:
        give_up([f"{message}; see {self.prog} --help"], UNUSABLE)


def run_command(task: Callable[[], None]) -> NoReturn:
    """Runs a Hydra task as a command.

    Hydra must pass errors on unchanged, so HYDRA_FULL_ERROR is set here; whether the user had set
    it, to see tracebacks, is remembered.
    """
    os.environ.setdefault(_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "0"))
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.exit(status_of(task))


def status_of(task: Callable[[], int | None]) -> int:
    """Runs a task as a command; returns the status to end with (None of the task: 0).

    Characters that the output's encoding lacks are replaced. No library finds a reason to write
    escape codes into a file, or to open a window.

    Raises:
        SystemExit: the task ended itself, or failed with an error, which is one line on stderr.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if sys.stdout is None or not sys.stdout.isatty():
        for name in _FORCED_COLOURS:
            os.environ.pop(name, None)
    os.environ["MPLBACKEND"] = "Agg"  # torchmetrics imports matplotlib too
    try:
        try:
            return task() or 0
        finally:
            _flush()
    except KeyboardInterrupt:
        print("plainres: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        give_up([error])


def _flush() -> None:
    """Writes what is left of the output, where errors can still be told."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would try again at its end
        raise


def one_line(error: BaseException) -> str:
    """The message without line breaks; of a Hydra error with its cause, without search paths."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None and type(error).__module__.startswith("hydra"):
        text = f"{text} ({str(error.__cause__).split('full_key:')[0].strip()})"
    text = " ".join(text.split("Config search path")[0].split())
    if mismatch := _TYPE_MISMATCH.match(text):
        key, value, kind = mismatch.groups()
        return f"{key} {value!r} is not {_KINDS[kind]}"
    return text


def give_up(reasons: Sequence[BaseException | str], status: int | None = None) -> NoReturn:
    """Prints one line per reason on stderr and ends the process.

    Args:
        status: None: UNUSABLE where every reason is an error of what was asked for, else FAILED.
    """
    if any(isinstance(reason, BrokenPipeError) for reason in reasons):
        sys.exit(CLOSED)
    for reason in reasons:
        if isinstance(reason, str):
            print(f"plainres: {reason}", file=sys.stderr)
            continue
        if os.environ.get(_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR")) == "1":
            traceback.print_exception(reason)
        line = one_line(reason)
        if not (is_unusable(reason) or isinstance(reason, OSError)):
            line = f"{type(reason).__name__}: {line}; HYDRA_FULL_ERROR=1 shows where"
        print(f"plainres: {line}", file=sys.stderr)
    if status is None:
        status = UNUSABLE if all(map(is_unusable, reasons)) else FAILED
    sys.exit(status)


def is_unusable(reason: BaseException | str) -> bool:
    """Whether what was asked for is at fault, and not the machine or the program."""
    return isinstance(reason, (ValueError, FileNotFoundError)) or type(reason).__module__.split(
        "."
    )[0] in ("hydra", "omegaconf")
