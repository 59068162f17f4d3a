"""The figures of gradients in low precision, and of what training makes of them."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.pairs import grouped
from experiments.precision import claims
from experiments.precision.claims import FLOAT32, MEASURED, GradientCosine, Scale, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import (
    SEEDS,
    depth_axis,
    depth_colour,
    draw_seeds,
    errors_by_depth,
    key_line,
    titled,
)

ARM_LINES: Any = {"plain": "--", "residual": "-"}
# Colour, marker and line of the precision of training
PRECISION_STYLES: Any = {claims.FLOAT32: ("#0072B2", "s", "-"), claims.BF16: ("#D55E00", "o", "--")}


def drawings(scale: Scale) -> list[Drawing]:
    if not scale.trained:
        return [
            Drawing(f"{scale.name}-layers", "cosine by layer", partial(layers_figure, scale)),
        ]
    return [
        Drawing(f"{scale.name}-errors", "errors by precision", partial(errors_figure, scale)),
        Drawing(f"{scale.name}-training", "cosine in training", partial(training_figure, scale)),
    ]


def layers_figure(scale: Scale) -> Figure:
    """Cosine of each layer's gradient before the first update; means over seeds."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), sharey=True, layout="constrained")
    for axis, (measured, name) in zip(axes, MEASURED.items(), strict=True):
        for arm, depth in scale.networks(FLOAT32):
            rows = [r for r in _rows(scale, FLOAT32, arm, depth) if r.iteration == 0 and r.layer]
            style = {"linestyle": ARM_LINES[arm], "color": depth_colour(depth), "linewidth": 1.2}
            axis.plot(*_means(rows, lambda row: row.layer, measured), **style)
        axis.set(title=name, xlabel="layer")
    axes[0].set_ylabel("cosine with the exact gradient")
    return _finished(figure, scale, "Direction of each layer's gradient at the start")


def training_figure(scale: Scale) -> Figure:
    """Cosine of all parameters' gradient along training: rows by the precision of training."""
    precisions = scale.precisions
    size = (12, 1.2 + 3.2 * len(precisions))
    figure, axes = plt.subplots(
        len(precisions), 3, figsize=size, sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, precision in zip(axes, precisions, strict=True):
        row[0].set_ylabel(f"cosine, trained in {precision}")
        for axis, measured in zip(row, MEASURED, strict=True):
            for arm, depth in scale.networks(precision):
                points = [r for r in _rows(scale, precision, arm, depth) if r.layer == 0]
                style = {"linestyle": ARM_LINES[arm], "color": depth_colour(depth), "marker": "."}
                axis.plot(*_means(points, lambda row: row.iteration, measured), **style)
            axis.set_xscale("symlog", linthresh=1)
    for axis, name in zip(axes[0], MEASURED.values(), strict=True):
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    return _finished(figure, scale, "Direction of the gradient during training")


def errors_figure(scale: Scale) -> Figure:
    """Training error by depth, one line for each precision of training; seeds as points."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axis, arm in zip(axes, ARM_LINES, strict=True):
        for precision in scale.precisions:
            colour, marker, line = PRECISION_STYLES[precision]
            errors = errors_by_depth(scale.trained_records(precision), arm, "train_error")
            means = {"linestyle": line, "label": f"trained in {precision}"}
            draw_seeds(axis, errors, SEEDS, means, color=colour, marker=marker)
        depth_axis(axis, sorted({depth for _, depth in scale.networks(scale.precisions[0])}))
        axis.set(title=f"{arm} networks", ylabel="running training error (%)")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=9)
    return titled(figure, "Training error by precision", label_of(scale))


def _rows(scale: Scale, precision: str, arm: str, depth: int) -> list[GradientCosine]:
    """The rows of all seeds of a network."""
    cells = [
        cell for trained, cell in scale.rows if (trained, *cell[:2]) == (precision, arm, depth)
    ]
    return [row for cell in cells for row in scale.rows[precision, cell]]


def _means(
    rows: list[GradientCosine], key: Callable[[GradientCosine], int], measured: str
) -> tuple[list[int], list[float]]:
    """Keys, ascending, and the mean cosine of the rows of each."""
    groups = grouped(sorted(rows, key=key), key)
    return list(groups), [statistics.fmean(r.cosine(measured) for r in g) for g in groups.values()]


def _finished(figure: Figure, scale: Scale, title: str) -> Figure:
    """With the title, and below it the legend of depths (colours) and arms (lines)."""
    depths = sorted({depth for each in scale.precisions for _, depth in scale.networks(each)})
    handles = [key_line(f"{depth} layers", color=depth_colour(depth)) for depth in depths]
    handles += [key_line(arm, color="grey", linestyle=line) for arm, line in ARM_LINES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return titled(figure, title, label_of(scale))
