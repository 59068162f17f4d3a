"""Errors as one line on the terminal, or as a traceback where HYDRA_FULL_ERROR=1 is set."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

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


def run_command(task: Callable[[], None], interrupted: str = "interrupted") -> None:
    """Runs a Hydra task as a command; an error is one line on stderr and exit status 1.

    Hydra must pass errors on unchanged, so HYDRA_FULL_ERROR is set here; whether the user had set
    it, to see tracebacks, is remembered.

    Args:
        interrupted: the line that Ctrl-C prints.
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
    """The message without line breaks; of a Hydra error with its cause, without search paths."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None and type(error).__module__.startswith("hydra"):
        text = f"{text} ({str(error.__cause__).split('full_key:')[0].strip()})"
    text = " ".join(text.split("Config search path")[0].split())
    if mismatch := _TYPE_MISMATCH.match(text):
        key, value, kind = mismatch.groups()
        return f"{key} {value!r} is not {_KINDS[kind]}"
    return text


def give_up(reasons: Sequence[BaseException | str]) -> NoReturn:
    """Prints one line per reason on stderr and exits with status 1."""
    for reason in reasons:
        if isinstance(reason, str):
            print(f"plainres: {reason}", file=sys.stderr)
            continue
        if os.environ.get(_TRACEBACK) == "1":
            traceback.print_exception(reason)
        print(f"plainres: {one_line(reason)}", file=sys.stderr)
    sys.exit(1)
