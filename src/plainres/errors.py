"""An error as one line for the person at the terminal, or as a traceback for the one who sets HYDRA_FULL_ERROR=1."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

_TRACEBACK = "PLAINRES_TRACEBACK"


def take_over_from_hydra() -> None:
    """Makes Hydra hand its errors on as they are, and remembers whether HYDRA_FULL_ERROR asked for tracebacks."""
    os.environ.setdefault(_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "0"))
    os.environ["HYDRA_FULL_ERROR"] = "1"


def one_line(error: BaseException) -> str:
    """The message without line breaks; Hydra's are cut where their search path begins, and carry their cause."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None and type(error).__module__.startswith("hydra"):
        text = f"{text} ({error.__cause__})"
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
