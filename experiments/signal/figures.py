"""The figures of what flows forward and backward."""

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.judging.pairs import grouped
from experiments.reporting.question import Drawing
from experiments.reporting.style import (
    ARM_STYLES,
    depth_colour,
    draw_seeds,
    key_line,
    labelled,
    titled,
)
from experiments.signal import claims

NORM_NAMES = {"batch": "with batch normalisation", "none": "without"}
ARM_LINES: Any = {"plain": "--", "residual": "-"}
Value = Callable[[claims.ProbePoint], float | None]


def drawings(signal: claims.Signal) -> list[Drawing]:
    draw = {
        "responses": partial(responses_figure, signal),
        "gradients": partial(gradients_figure, signal),
        "by_depth": partial(depth_figure, signal),
    }
    if signal.trained:
        draw["gradients_end"] = partial(gradients_figure, signal, at_end=True)
        draw["training"] = partial(training_figure, signal)
    return [Drawing(f"{signal.scale}-{n}", n.replace("_", " "), draw[n]) for n in draw]


def responses_figure(signal: claims.Signal) -> Figure:
    """The paper's Figure 7: standard deviation of each layer's response.

    With batch normalisation after training, where there was any; else at the start.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axis, norm in zip(axes, claims.NORMS, strict=True):
        at_end = signal.trained and norm == "batch"
        _layers(axis, signal, norm, lambda point: point.response, at_end)
        when = "after the last iteration" if at_end else "at the start"
        axis.set(title=f"{NORM_NAMES[norm]}, {when}", xlabel="layer")
    if not signal.trained:  # with batch normalisation all are 1: below the edge and the legend
        axes[0].set_yscale("linear")
        axes[0].set_ylim(0, 1.4 * axes[0].get_ylim()[1])
    axes[0].set_ylabel("standard deviation of the response")
    return _finished(figure, axes[0], signal, "Responses by layer")


def gradients_figure(signal: claims.Signal, at_end: bool = False) -> Figure:
    """Gradient norms by layer: of convolutions' outputs above, of weights below."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.6), sharex=True, layout="constrained")
    values: dict[str, Value] = {
        "gradient of the convolution's output": lambda point: point.response_gradient,
        "gradient of the weights": lambda point: point.weight_gradient,
    }
    for row, (name, value) in zip(axes, values.items(), strict=True):
        row[0].set_ylabel(f"{name} (norm)")
        for axis, norm in zip(row, claims.NORMS, strict=True):
            _layers(axis, signal, norm, value, at_end)
            axis.set_title(NORM_NAMES[norm])
    for axis in axes[1]:
        axis.set_xlabel("layer")
    when = "after the last iteration" if at_end else "at the start"
    return _finished(figure, axes[0][0], signal, f"Gradients by layer {when}")


def training_figure(signal: claims.Signal) -> Figure:
    """During training, one line per network: gradients, responses, shattering, dead ReLUs."""
    panels: tuple[tuple[str, claims.Measure, Callable[[float], float]], ...] = (
        ("gradient, second / last layer", claims.gradient_gain, lambda power: 10**power),
        (
            "mean response",
            lambda layers: claims.power(claims.mean_response(layers)),
            lambda power: 10**power,
        ),
        ("correlation of gradients", claims.correlation, lambda value: value),
        ("dead channels (%)", claims.dead, lambda value: 100 * value),
    )
    figure, axes = plt.subplots(len(panels), 2, figsize=(10, 12), sharex=True, layout="constrained")
    for column, norm in enumerate(claims.NORMS):
        axes[0][column].set_title(NORM_NAMES[norm])
        axes[-1][column].set_xlabel("iteration")
        axes[-1][column].set_xscale("symlog", linthresh=1)
        for axis, (_, measure, scaled) in zip(axes[:, column], panels, strict=True):
            for arm, depth in _networks(signal, norm):
                means = _means(signal, norm, arm, depth, measure)
                values = [scaled(mean) for mean in means.values()]
                axis.plot(
                    list(means), values, ARM_LINES[arm], color=depth_colour(depth), marker="."
                )
            if measure not in (claims.correlation, claims.dead):
                axis.set_yscale("log")
    for axis, (name, _, _) in zip(axes[:, 0], panels, strict=True):
        axis.set_ylabel(name)
    return _finished(figure, axes[0][0], signal, "During training")


def depth_figure(signal: claims.Signal) -> Figure:
    """By depth, at the start: correlation of neighbouring gradients, and dead channels.

    Seeds as points, means as lines.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    panels: tuple[tuple[str, claims.Measure, float], ...] = (
        ("correlation of gradients at neighbouring inputs", claims.correlation, 1),
        ("dead channels (%)", claims.dead, 100),
    )
    for axis, (name, measure, factor) in zip(axes, panels, strict=True):
        for arm in claims.ARMS:
            colour, marker, _ = ARM_STYLES[arm]
            for norm, line in zip(claims.NORMS, ("-", ":"), strict=True):
                depths = signal.depths(norm, arm)
                series = {d: signal.series(claims.Quantity(measure, norm, arm, d)) for d in depths}
                measured = {d: values.values() for d, values in series.items() if values}
                scaled = {d: [factor * v for v in values] for d, values in measured.items()}
                seeds = {"alpha": 0.3, "markersize": 5}
                label = f"{arm}, {NORM_NAMES[norm]}"
                means = {"linestyle": line, "markersize": 4, "label": label}
                draw_seeds(axis, scaled, seeds, means, color=colour, marker=marker)
        axis.set(xlabel="depth (weighted layers)", ylabel=name)
    handles = labelled(axes)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, fontsize=8)
    title = "Shattering and dead ReLUs by depth, at the start"
    return titled(figure, title, claims.label_of(signal))


def _networks(signal: claims.Signal, norm: str) -> list[tuple[str, int]]:
    return [(arm, depth) for arm in claims.ARMS for depth in signal.depths(norm, arm)]


def _or_gap(value: float | None) -> float:
    """NaN where there is no value: the line has a gap."""
    return math.nan if value is None else value


def _layers(axis: Axes, signal: claims.Signal, norm: str, value: Value, at_end: bool) -> None:
    """One line per network: value against layer, geometric mean over seeds, logarithmic axis.

    A gap where the value of any seed is 0.
    """
    for arm, depth in _networks(signal, norm):
        snapshots = signal.by_seed(norm, arm, depth, at_end).values()
        points = (point for snapshot in snapshots for point in snapshot[1:])
        by_layer = grouped(points, lambda point: point.layer)
        powers = (
            [_or_gap(claims.power(value(point))) for point in layer] for layer in by_layer.values()
        )
        means = [10 ** statistics.fmean(seeds) for seeds in powers]
        axis.plot(list(by_layer), means, ARM_LINES[arm], color=depth_colour(depth), linewidth=1.2)
    axis.set_yscale("log")


def _means(
    signal: claims.Signal, norm: str, arm: str, depth: int, measure: claims.Measure
) -> dict[int, float]:
    """Iteration → mean over the seeds that were measured then; NaN, a gap, where one has none."""
    values: dict[int, list[float]] = {}
    for cell, snapshots in signal.snapshots.items():
        if cell[:3] == (norm, arm, depth):
            for iteration, snapshot in snapshots.items():
                values.setdefault(iteration, []).append(_or_gap(measure(snapshot)))
    return {iteration: statistics.fmean(values[iteration]) for iteration in sorted(values)}


def _finished(figure: Figure, axis: Axes, signal: claims.Signal, title: str) -> Figure:
    """With the title, and in `axis` the legend of depths (colours) and arms (lines)."""
    depths = sorted({depth for norm in claims.NORMS for _, depth in _networks(signal, norm)})
    handles = [key_line(f"{depth} layers", color=depth_colour(depth)) for depth in depths]
    handles += [key_line(arm, color="grey", linestyle=line) for arm, line in ARM_LINES.items()]
    axis.legend(handles=handles, loc="best", fontsize=8)
    return titled(figure, title, claims.label_of(signal))
