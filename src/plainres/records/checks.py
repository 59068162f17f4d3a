"""What a value of a record or of a table may be, by the name of its column."""

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache, partial
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

_FRACTION = (0.0, 1.0)
_COUNT = (1.0, math.inf)
_NOT_NEGATIVE = (0.0, math.inf)
_COSINE = (-1.001, 1.001)  # rounding

# Column → least and largest number. Other numbers have no bounds.
BOUNDS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(
        (
            *("train_error", "train_error_eval", "test_error", "val_error", "error", "error_eval"),
            *("parent_error_eval", "error_batch", "parent_error_batch", "dead", "train_errors"),
        ),
        _FRACTION,
    ),
    **dict.fromkeys(
        (
            *("depth", "num_parameters", "num_classes", "iterations", "error_window", "threads"),
            "devices",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        (
            *("seed", "iteration", "layer", "stage", "block", "blocks", "num_multiply_adds"),
            *("train_loss", "test_loss", "learning_rate", "ratio", "response"),
            *("weight_gradient", "response_gradient", "logit_size", "logit_difference_eval"),
            *("logit_difference_batch", "error_float32", "error_bf16", "seconds"),
            *("seconds_remaining", "images_per_second", "peak_memory_mib", "expected"),
        ),
        _NOT_NEGATIVE,
    ),
    **dict.fromkeys(("correlation", "cosine_float32", "cosine_bf16", "cosine_images"), _COSINE),
}
# Numbers are finite but for the loss of a surface, far from where the network was trained
MAY_BE_INFINITE = frozenset({"loss"})

NUMERALS = frozenset("0123456789+-.einfa")  # also of nan and inf

# Column → what its whole text looks like, in words and as a regular expression
PATTERNS: Mapping[str, tuple[str, str]] = {
    "arm": ("a name", r"\w[\w.-]*"),
    "status": ("finished or diverged", "finished|diverged"),
    "config_hash": ("twelve hexadecimal digits", "[0-9a-f]{12}"),
    "data_fingerprint": ("twelve hexadecimal digits", "[0-9a-f]{12}"),
    "parent": ("twelve hexadecimal digits or empty", "([0-9a-f]{12})?"),
    "commit": (
        "a commit, several with + between, or unknown",
        r"([0-9a-f]{40,64}|unknown)(\+([0-9a-f]{40,64}|unknown))*",
    ),
    "finished_at": ("a time in UTC", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
}


def row_of(row_type: type, values: Mapping[str, Any], where: str) -> Any:
    """A row of `row_type`; unknown values are skipped.

    Args:
        where: file, and line where there are several rows; begins every message.

    Raises:
        ValueError: a value is missing, of another type or out of its bounds.
    """
    known = {}
    for name, (required, wrong) in _checks(row_type).items():
        if name not in values:
            if required:
                raise ValueError(f"{where} lacks {name}")
            continue
        if problem := wrong(value := values[name]):
            raise ValueError(f"{where}, {name}: {problem}")
        known[name] = value
    row = row_type(**known)
    if problem := getattr(row, "contradiction", ""):
        raise ValueError(f"{where}: {problem}")
    return row


@cache
def text_check(column: str) -> Callable[[str], str] | None:
    """What says what is wrong with a text of a column; None where any text may stand in it."""
    return partial(_wrong_text, column, *BOUNDS[column]) if column in BOUNDS else None


def _wrong_text(column: str, least: float, largest: float, text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return f"{text!r} is no number"
    fine = least <= value <= largest and value < math.inf
    return "" if fine else _wrong_number(column, value)


@cache
def reader(row_type: type, column: str) -> Callable[[str], Any]:
    """What makes a text the value of a column; it raises ValueError that says what is wrong."""
    kind = get_type_hints(row_type)[column]
    kinds = get_args(kind) or (kind,)
    (target,) = (each for each in kinds if each is not NoneType)
    wrong = _checker(column, kind)
    booleans = {"True": True, "False": False}

    def read(text: str) -> Any:
        if not text and NoneType in kinds:
            return None
        try:
            if target in (int, float) and not NUMERALS.issuperset(text):
                raise ValueError  # int reads "12 " and "1_2" too
            value = booleans[text] if target is bool else target(text)
        except (ValueError, KeyError):
            raise ValueError(f"{text!r} is no {target.__name__}") from None
        if problem := wrong(value):
            raise ValueError(problem)
        return sys.intern(text) if target is str else value  # most stand in many rows

    return read


@cache
def _checks(row_type: type) -> dict[str, tuple[bool, Callable[[Any], str]]]:
    """Whether a row needs each of its columns, and what is wrong with a value of it."""
    kinds = get_type_hints(row_type)
    return {
        field.name: (
            field.default is MISSING and field.default_factory is MISSING,
            _checker(field.name, kinds[field.name]),
        )
        for field in fields(row_type)
    }


def _checker(column: str, kind: Any) -> Callable[[Any], str]:
    """What says what is wrong with a value of a column; "" for nothing.

    Rows are many, so all that depends on the column alone is found once.
    """
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is list:
        wrong = _checker(column, kinds[0])

        def wrong_list(value: Any) -> str:
            if type(value) is not list:
                return f"{value!r} is no list"
            return next(filter(None, map(wrong, value)), "")

        return wrong_list
    (target,) = (each for each in kinds if each is not NoneType)
    legal = {target, int} if target is float else {target}
    least, largest = BOUNDS.get(column, (-math.inf, math.inf))
    words, pattern = PATTERNS.get(column, ("", ""))
    matches = re.compile(pattern).fullmatch

    def wrong_value(value: Any) -> str:
        if value is None and NoneType in kinds:
            return ""
        if type(value) not in legal:
            return f"{value!r} is no {target.__name__}"
        if target is int or target is float:
            fine = least <= value <= largest and -math.inf < value < math.inf
            return "" if fine else _wrong_number(column, value)
        return f"{value!r} is not {words}" if words and not matches(value) else ""

    return wrong_value


def _wrong_number(column: str, value: float) -> str:
    if not abs(value) < math.inf:  # math.isfinite refuses whole numbers beyond floats
        return "" if column in MAY_BE_INFINITE else f"{value} is not a finite number"
    least, largest = BOUNDS.get(column, (-math.inf, math.inf))
    if least <= value <= largest:
        return ""
    return f"{value} is {f'below {least:g}' if value < least else f'above {largest:g}'}"
