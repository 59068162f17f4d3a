"""Errors of records as numbers to compare: a diverged run counts as a network at chance."""

import math

from plainres.records.schema import Record

MARGIN = 0.005  # half a percentage point: a smaller difference is called none
LEARNED = 0.05  # of the error at chance removed: what removed less has not learned


def chance_error(num_classes: int) -> float:
    """The error, a fraction, of a network that draws its answer at random: 1 - 1 / num_classes."""
    return 1 - 1 / num_classes


def error_or_chance(record: Record, measure: str = "train_error") -> float:
    """A record's error (a fraction) or loss (nats per image); that of chance for a diverged run.

    Args:
        measure: `train_error`, `train_error_eval`, `train_loss` or `test_error`.
    """
    value: float | None = getattr(record, measure)
    if value is not None:
        return value
    classes = record.num_classes
    return math.log(classes) if measure == "train_loss" else chance_error(classes)


def has_learned(error: float, num_classes: int) -> bool:
    """Whether a network is more than hardly better than guessing: LEARNED of chance is removed."""
    return error_removed(error, num_classes) >= LEARNED


def error_removed(error: float, num_classes: int) -> float:
    """The share of the error at chance that training removed; negative above chance."""
    return 1 - error / chance_error(num_classes)
