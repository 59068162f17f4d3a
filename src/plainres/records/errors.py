"""An error as one line for the person at the terminal, or as a traceback for the one who sets HYDRA_FULL_ERROR=1."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

_TRACEBACK = "PLAINRES_TRACEBACK"


def run_command(task: Callable[[], None], interrupted: str = "interrupted") -> None:
    """Runs a task of Hydra's as a command: one line on stderr and a status other than 0 for whatever cannot be done.

    Makes Hydra hand its errors on as they are, and remembers whether HYDRA_FULL_ERROR asked for tracebacks.

    Args:
        interrupted: what Ctrl-C leaves the person with.
    """
    os.environ.setdefault(_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "0"))
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        task()
    except KeyboardInterrupt:
        print(f"plainres: {interrupted}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        give_up([error])


def one_line(error: BaseException) -> str:
    """The message without line breaks; Hydra's are cut where their search path begins, and carry their cause."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None and type(error).__module__.startswith("hydra"):
        text = f"{text} ({str(error.__cause__).split('full_key:')[0].strip()})"
    return " ".join(text.split("Config search path")[0].split())


def give_up(reasons: Sequence[BaseException | str]) -> NoReturn:
    """Ends the process with status 1 and one line a reason on stderr."""
    for reason in reasons:
        if isinstance(reason, str):
            print(f"plainres: {reason}", file=sys.stderr)
            continue
        if os.environ.get(_TRACEBACK) == "1":
            traceback.print_exception(reason)
        print(f"plainres: {one_line(reason)}", file=sys.stderr)
    sys.exit(1)
