"""The figure of LeNet-5."""

import statistics
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.errors import error_or_chance
from experiments.lenet.claims import (
    DIGITS,
    FASHION,
    MODERN,
    OLD,
    ROUND_FIGURE,
    SIGMOID,
    Runs,
    check,
    label_of,
)
from experiments.reporting import style
from experiments.reporting.question import Drawing

NAMES = {FASHION: "Fashion-MNIST", DIGITS: "digits"}
VARIANTS = {
    MODERN: (style.BLUE, "ReLU, max pooling"),
    OLD: (style.VERMILLION, "tanh, average pooling"),
    SIGMOID: (style.PURPLE, "sigmoid, average pooling"),
}
LINES: dict[str, tuple[dict[str, Any], str]] = {
    "train_error": ({"linestyle": "--", "linewidth": 1.2}, "training"),
    "test_error": ({"linestyle": "-"}, "test"),
}


def drawings(runs: Runs) -> list[Drawing]:
    return [Drawing("curves", "error against iteration", partial(curves_figure, runs))]


def curves_figure(runs: Runs) -> Figure:
    """Error against iteration, means over seeds: one panel per data set, one colour per variant.

    Training error is dashed, test error solid.
    """
    figure, axes = plt.subplots(1, 2, layout="constrained")
    for axis, (data, title) in zip(axes, NAMES.items(), strict=True):
        for variant, (colour, _) in VARIANTS.items():
            points = runs.curves.get(f"{data}-{variant}", ())
            for measure, (line, _) in LINES.items():
                axis.plot(*style.mean_curve(points, measure), color=colour, **line)
            rows = runs.records.get(f"{data}-{variant}", ())
            if errors := [100 * error_or_chance(row, "test_error") for row in rows]:
                end = max(row.iterations for row in rows)
                axis.plot(end, statistics.fmean(errors), color=colour, marker="o")
        axis.axhline(100 * ROUND_FIGURE, **style.REFERENCE)
        axis.set(title=title, xlabel="iteration", ylim=(0, 30))
    axes[0].set_ylabel("error (%)")
    keys = [style.key_line(name, color=colour) for colour, name in VARIANTS.values()]
    keys += [style.key_line(name, color=style.GREY, **line) for line, name in LINES.values()]
    title = style.message(
        "LeNet-5 errs on at most 10 % of Fashion-MNIST's test images",
        "Does LeNet-5 err on at most 10 % of Fashion-MNIST's test images?",
        check(runs)[:1],
    )
    note = "points: test error at the end; dotted: 10 %"
    return style.titled(figure, title, label_of(runs), note, keys=keys)
