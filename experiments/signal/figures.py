"""Figures and README of what flows, from the committed tables: `python -m experiments.signal.figures results/signal`."""

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.depth.figures import ARM_STYLES, DEPTH_STYLES, OTHER_DEPTH_STYLE
from experiments.reporting.style import (
    judged,
    label_with,
    markdown,
    measured_on,
    publish,
    regenerate,
)
from experiments.signal.claims import (
    ARMS,
    NORMS,
    Measure,
    ProbePoint,
    Signal,
    Wanted,
    check,
    correlation,
    cost,
    dead,
    gradient_gain,
    mean_response,
    power,
    read_signals,
    table,
)
from plainres.records.schema import FINISHED

NORM_NAMES = {"batch": "with batch normalisation", "none": "without"}
ARM_LINES: Any = {"plain": "--", "residual": "-"}
Value = Callable[[ProbePoint], float | None]


def label_of(signal: Signal) -> str:
    """Data label, the folders of one scale, and number of seeds."""
    folders = [f"{signal.scale}-{norm}" for norm in sorted(signal.records) if signal.records[norm]]
    return label_with(signal.all_records, f"protocol {', '.join(folders)}")


def responses_figure(signal: Signal) -> Figure:
    """The paper's Figure 7: standard deviation of each layer's response; with batch normalisation after training where there was any."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axis, norm in zip(axes, NORMS, strict=True):
        at_end = signal.trained and norm == "batch"
        _layers(axis, signal, norm, lambda point: point.response, at_end)
        axis.set_title(
            f"{NORM_NAMES[norm]}, {'after the last iteration' if at_end else 'at the start'}"
        )
        axis.set_xlabel("layer")
    if not signal.trained:
        axes[0].set_yscale("linear")
        axes[0].set_ylim(
            0, 1.4 * axes[0].get_ylim()[1]
        )  # with batch normalisation all are 1: below the edge, and below the legend
    axes[0].set_ylabel("standard deviation of the response")
    _network_legend(axes[0], signal)
    figure.suptitle(f"Responses by layer\n{label_of(signal)}", fontsize=11)
    return figure


def gradients_figure(signal: Signal, at_end: bool = False) -> Figure:
    """Gradient norms by layer, at the start or after training: of convolutions' outputs above, of weights below."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.6), sharex=True, layout="constrained")
    values: dict[str, Value] = {
        "gradient of the convolution's output": lambda point: point.response_gradient,
        "gradient of the weights": lambda point: point.weight_gradient,
    }
    for row, (name, value) in zip(axes, values.items(), strict=True):
        row[0].set_ylabel(f"{name} (norm)")
        for axis, norm in zip(row, NORMS, strict=True):
            _layers(axis, signal, norm, value, at_end)
            axis.set_title(NORM_NAMES[norm])
    for axis in axes[1]:
        axis.set_xlabel("layer")
    _network_legend(axes[0][0], signal)
    when = "after the last iteration" if at_end else "at the start"
    figure.suptitle(f"Gradients by layer {when}\n{label_of(signal)}", fontsize=11)
    return figure


def training_figure(signal: Signal) -> Figure:
    """Along training, one line a network: gradients from the last layer to the second, responses, shattering, dead ReLUs."""
    panels: tuple[tuple[str, Measure, Callable[[float], float]], ...] = (
        ("gradient, second / last layer", gradient_gain, lambda power: 10**power),
        ("mean response", lambda look: power(mean_response(look)), lambda power: 10**power),
        ("correlation of gradients", correlation, lambda value: value),
        ("dead channels (%)", dead, lambda value: 100 * value),
    )
    figure, axes = plt.subplots(len(panels), 2, figsize=(10, 12), sharex=True, layout="constrained")
    for column, norm in enumerate(NORMS):
        axes[0][column].set_title(NORM_NAMES[norm])
        axes[-1][column].set_xlabel("iteration")
        axes[-1][column].set_xscale("symlog", linthresh=1)
        for axis, (_, measure, shown) in zip(axes[:, column], panels, strict=True):
            for arm, depth in _networks(signal, norm):
                means = _along(signal, norm, arm, depth, measure)
                colour = DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)[0]
                axis.plot(
                    list(means),
                    [shown(mean) for mean in means.values()],
                    ARM_LINES[arm],
                    color=colour,
                    marker=".",
                )
            if measure not in (correlation, dead):
                axis.set_yscale("log")
    for axis, (name, _, _) in zip(axes[:, 0], panels, strict=True):
        axis.set_ylabel(name)
    _network_legend(axes[0][0], signal)
    figure.suptitle(f"Along training\n{label_of(signal)}", fontsize=11)
    return figure


def depth_figure(signal: Signal) -> Figure:
    """By depth, at the start: how alike neighbouring gradients are, and how many channels are dead. Seeds as points, means as lines."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    panels: tuple[tuple[str, Measure, float], ...] = (
        ("correlation of gradients at neighbouring inputs", correlation, 1),
        ("dead channels (%)", dead, 100),
    )
    for axis, (name, measure, factor) in zip(axes, panels, strict=True):
        for arm in ARMS:
            colour, marker, _ = ARM_STYLES[arm]
            for norm, line in zip(NORMS, ("-", ":"), strict=True):
                values = {
                    depth: signal.by_seed(Wanted(measure, norm, arm, depth))
                    for depth in signal.depths(norm, arm)
                }
                values = {depth: by_seed for depth, by_seed in values.items() if by_seed}
                for depth, by_seed in values.items():
                    scaled = [factor * value for value in by_seed.values()]
                    axis.plot(
                        [depth] * len(scaled),
                        scaled,
                        linestyle="none",
                        marker=marker,
                        color=colour,
                        alpha=0.3,
                        markersize=5,
                    )
                means = [factor * statistics.fmean(by_seed.values()) for by_seed in values.values()]
                axis.plot(
                    list(values),
                    means,
                    line,
                    color=colour,
                    marker=marker,
                    markersize=4,
                    label=f"{arm}, {NORM_NAMES[norm]}",
                )
        axis.set_xlabel("depth (weighted layers)")
        axis.set_ylabel(name)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    figure.suptitle(
        f"Shattering and dead ReLUs by depth, at the start\n{label_of(signal)}",
        fontsize=11,
    )
    return figure


def _networks(signal: Signal, norm: str) -> list[tuple[str, int]]:
    return [(arm, depth) for arm in ARMS for depth in signal.depths(norm, arm)]


def _layers(axis: Axes, signal: Signal, norm: str, value: Value, at_end: bool) -> None:
    """One line a network: value against layer, geometric mean over seeds, on a logarithmic axis; a gap where a seed's value is 0."""
    ends = {
        (r.arm, r.depth, r.seed): r.iterations
        for r in signal.records.get(norm, ())
        if r.status == FINISHED
    }
    for arm, depth in _networks(signal, norm):
        by_layer: dict[int, list[float]] = defaultdict(list)
        for cell, looks in signal.looks.items():
            if cell[:3] == (norm, arm, depth):
                for point in looks.get(ends.get(cell[1:], -1) if at_end else 0, ()):
                    if point.layer:
                        found = power(value(point))
                        by_layer[point.layer].append(math.nan if found is None else found)
        means = [10 ** statistics.fmean(powers) for powers in by_layer.values()]
        colour = DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)[0]
        axis.plot(list(by_layer), means, ARM_LINES[arm], color=colour, linewidth=1.2)
    axis.set_yscale("log")


def _along(signal: Signal, norm: str, arm: str, depth: int, measure: Measure) -> dict[int, float]:
    """Iteration → mean over the seeds that were looked at then; NaN, a gap, where one has no number."""
    values: dict[int, list[float]] = defaultdict(list)
    for cell, looks in signal.looks.items():
        if cell[:3] == (norm, arm, depth):
            for iteration, look in looks.items():
                value = measure(look)
                values[iteration].append(math.nan if value is None else value)
    return {iteration: statistics.fmean(values[iteration]) for iteration in sorted(values)}


def _network_legend(axis: Axes, signal: Signal) -> None:
    depths = sorted({depth for norm in NORMS for _, depth in _networks(signal, norm)})
    handles = [
        Line2D([], [], color=DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)[0], label=f"{depth} layers")
        for depth in depths
    ]
    handles += [
        Line2D([], [], color="grey", linestyle=line, label=arm) for arm, line in ARM_LINES.items()
    ]
    axis.legend(handles=handles, loc="best", fontsize=8)


def figures_of(signal: Signal) -> dict[str, Callable[[Signal], Figure]]:
    """What draws the figures of one scale, by their names."""
    drawn: dict[str, Callable[[Signal], Figure]] = {
        "responses": responses_figure,
        "gradients": gradients_figure,
        "by_depth": depth_figure,
    }
    if signal.trained:
        drawn |= {
            "gradients_end": partial(gradients_figure, at_end=True),
            "training": training_figure,
        }
    return drawn


def readme(signals: Sequence[Signal]) -> str:
    """The generated README.md of results/signal."""
    lines = [
        "# What flows forward and backward",
        "",
        "Generated from `runs.csv` and `probes.csv` of the folders beside it by `make figures`; not edited by hand. Definitions and",
        "claims: [experiments/signal](../../experiments/signal/README.md). At the start: before the first update. Ratios are geometric",
        "means over seeds; –, and a line that ends: there is a seed whose value is exactly 0, or not finite.",
    ]
    for signal in signals:
        claims = check(signal)
        lines += [
            "",
            f"## {signal.scale}: {label_of(signal)}",
            "",
            *judged(claims),
            "",
            *(
                line
                for name in figures_of(signal)
                for line in (f"![{name.replace('_', ' ')}](figures/{signal.scale}-{name}.png)", "")
            ),
            *markdown(table(signal)),
            "",
            f"{measured_on(signal.all_records)} {cost(signal).capitalize()}.",
        ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/<scale>-*.png, .svg and README.md; returns what it wrote.

    Raises:
        ValueError: there are no probes, or their tables are damaged.
    """
    signals = read_signals(folder)
    figures = {
        f"{signal.scale}-{name}": partial(draw, signal)
        for signal in signals
        for name, draw in figures_of(signal).items()
    }
    return publish(folder, figures, readme(signals))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/signal", arguments)


if __name__ == "__main__":
    sys.exit(main())
