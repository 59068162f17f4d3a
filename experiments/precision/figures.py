"""The figures of gradients in low precision, and of what training makes of them."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.pairs import grouped
from experiments.precision import claims
from experiments.precision.claims import (
    FLOAT32,
    MEASURED,
    GradientCosine,
    Scale,
    check,
    label_of,
)
from experiments.reporting import style
from experiments.reporting.question import Drawing

ARM_LINES: Any = {"plain": "--", "residual": "-"}
# Colour, marker and line of the precision of training
PRECISION_STYLES: Any = {
    claims.FLOAT32: (style.BLUE, "s", "-"),
    claims.BF16: (style.VERMILLION, "o", "--"),
}


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
    """Cosine of each layer's gradient before the first update; means over seeds; a row per arm."""
    figure, axes = plt.subplots(2, 3, sharex=True, sharey=True, layout="constrained")
    for row, arm in zip(axes, ARM_LINES, strict=True):
        row[0].set_ylabel(arm)
        for axis, measured in zip(row, MEASURED, strict=True):
            for depth in (depth for each, depth in scale.networks(FLOAT32) if each == arm):
                rows = [
                    r for r in _rows(scale, FLOAT32, arm, depth) if r.iteration == 0 and r.layer
                ]
                line = {"color": style.depth_colour(depth), "linewidth": 2}
                axis.plot(*_means(rows, lambda row: row.layer, measured), **line)
    for axis, name in zip(axes[0], MEASURED.values(), strict=True):
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    figure.supylabel("cosine with the exact gradient")
    title = style.message(
        "bf16 changes the direction of plain-56's first gradient more than residual-56's",
        "Does bf16 change the direction of plain-56's first gradient more than residual-56's?",
        check(scale)[:1],
    )
    depths = sorted({depth for _, depth in scale.networks(FLOAT32)})
    keys = [style.key_line(f"{depth} layers", color=style.depth_colour(depth)) for depth in depths]
    note = "exact, other images: two exact gradients"
    return style.titled(figure, title, label_of(scale), note, keys=keys)


def training_figure(scale: Scale) -> Figure:
    """Cosine of all parameters' gradient along training: rows by the precision of training."""
    precisions = scale.precisions
    figure, axes = plt.subplots(
        len(precisions), 3, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for row, precision in zip(axes, precisions, strict=True):
        row[0].set_ylabel(f"trained in\n{precision}")
        for axis, measured in zip(row, MEASURED, strict=True):
            for arm, depth in scale.networks(precision):
                points = [r for r in _rows(scale, precision, arm, depth) if r.layer == 0]
                line = {
                    "linestyle": ARM_LINES[arm],
                    "color": style.depth_colour(depth),
                    "marker": ".",
                }
                axis.plot(*_means(points, lambda row: row.iteration, measured), **line)
            axis.set_xscale("symlog", linthresh=1)
            axis.set_xticks([0, 10, 1000])
    for axis, name in zip(axes[0], MEASURED.values(), strict=True):
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    figure.supylabel("cosine with the exact gradient")
    depths = sorted({depth for each in precisions for _, depth in scale.networks(each)})
    keys = [style.key_line(f"{depth} layers", color=style.depth_colour(depth)) for depth in depths]
    keys += [
        style.key_line(arm, color=style.GREY, linestyle=line) for arm, line in ARM_LINES.items()
    ]
    title = "How exact is the direction of the gradient during training?"
    note = "exact, other images: two exact gradients"
    return style.titled(figure, title, label_of(scale), note, keys=keys)


def errors_figure(scale: Scale) -> Figure:
    """Training error by depth, one line for each precision of training; seeds as points."""
    figure, axes = plt.subplots(1, 2, layout="constrained")
    notes = set()
    for axis, arm in zip(axes, ARM_LINES, strict=True):
        for precision in scale.precisions:
            colour, marker, line = PRECISION_STYLES[precision]
            errors = style.errors_by_depth(scale.trained_records(precision), arm, "train_error")
            means = {"linestyle": line, "label": f"in {precision}"}
            drawn = {"color": colour, "marker": marker}
            notes.add(style.draw_seeds(axis, errors, style.SEEDS, means, **drawn))
        style.depth_axis(axis, sorted({depth for _, depth in scale.networks(scale.precisions[0])}))
        axis.set(title=f"{arm} networks")
        axis.set_ylim(bottom=0)
        style.label_ends(axis)
    axes[0].set_ylabel("running training error (%)")
    title = style.message(
        "Training in bf16 makes degradation worse",
        "Does training in bf16 make degradation worse?",
        check(scale)[:1],
    )
    return style.titled(figure, title, label_of(scale), *sorted(notes))


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
