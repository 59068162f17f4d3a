"""TensorBoard's tags: a run names what it logs as the events that are made of tables later."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from plainres.records.schema import Record

LOWEST_PERCENT = 0.01  # smaller errors are shown as this one: 0 has no logarithm
HYPERPARAMETERS = ("arm", "depth", "seed", "protocol")
FINAL = {  # of a record
    "train_error": "training error, %",
    "train_error_eval": "training error in evaluation mode, %",
    "test_error": "test error, %",
    "train_loss": "training loss",
}
SIGNALS = ("response", "weight_gradient", "response_gradient")  # of a layer, in probes.csv

# Category → chart → its kind and tags (for Multiline: regular expressions)
Layout = Mapping[str, Mapping[str, tuple[str, list[str]]]]


def names(measure: str) -> dict[str, str]:
    """The two names under which an error is shown, and their units."""
    return {f"{measure}_percent": "%", f"{measure}_log10_percent": "log10 of %"}


def percent_and_log10(measure: str, percent: float) -> dict[str, float]:
    """An error in per cent and its logarithm to base 10, by name."""
    values = percent, math.log10(max(percent, LOWEST_PERCENT))
    return dict(zip(names(measure), values, strict=True))


def scalars(values: Mapping[str, float], arm: str) -> dict[str, float]:
    """Values by tag; errors, which are fractions, in per cent and as logarithms.

    Tags end with the arm, so that TensorBoard shows plain and residual side by side.
    """
    shown: dict[str, float] = {}
    for name, value in values.items():
        is_error = name.endswith("_error")
        shown |= percent_and_log10(name, 100 * value) if is_error else {name: value}
    return {f"{name}/{arm}": value for name, value in shown.items()}


def hyperparameters(record: Record) -> dict[str, Any]:
    """The columns of a cell in the HParams tab."""
    return {name: getattr(record, name) for name in HYPERPARAMETERS}


def final(record: Record) -> dict[str, float]:
    """The metrics of a cell in the HParams tab, by tag: errors in per cent; none if it diverged."""
    return {
        tag: value * (100 if tag.endswith("_percent") else 1)
        for name, tag in zip(FINAL, FINAL_TAGS, strict=True)
        if (value := getattr(record, name)) is not None
    }


FINAL_TAGS = [f"final/{name}_percent" if "error" in name else f"final/{name}" for name in FINAL]


def distributions(
    points: Iterable[Any], network: str = "all_layers"
) -> dict[tuple[int, str], list[float]]:
    """Iteration and tag → log10 of a signal in each layer that has one.

    Args:
        points: rows of probes.csv.
        network: with which the tags end.
    """
    values: dict[tuple[int, str], list[float]] = {}
    for point in points:
        for name in SIGNALS if point.layer else ():  # 0 is the image
            if signal := getattr(point, name):
                key = point.iteration, f"log10_{name}/{network}"
                values.setdefault(key, []).append(math.log10(signal))
    return values


def layout_of_cells() -> Layout:
    """Custom Scalars of single cells: plain beside residual."""
    shown = {
        f"{title}, {unit}": name
        for measure, title in (("train_error", "training error"), ("test_error", "test error"))
        for name, unit in names(measure).items()
    }
    return {
        f"each cell: {title}": {
            f"{arm} · {title}": ("Multiline", [f"^{name}/{arm}$"]) for arm in ("plain", "residual")
        }
        for title, name in {**shown, "training loss": "train_loss"}.items()
    }
