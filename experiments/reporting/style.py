"""The style of figures: palettes and axes. The same numbers give the same bytes.

Whatever the user's matplotlibrc says: every figure starts from matplotlib's defaults.
"""

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "Agg"  # read at import; a backend of the user's may not be installed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from experiments.judging.errors import error_or_chance
from experiments.judging.pairs import grouped
from plainres.records.files import write_text
from plainres.records.schema import CurvePoint, Record

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "plainres",
}

# Okabe and Ito's palette, told apart in every common colour blindness
DEPTH_COLOURS = {
    8: "#999999",
    14: "#F0E442",
    20: "#56B4E9",
    32: "#009E73",
    44: "#E69F00",
    56: "#D55E00",
    110: "#000000",
}
ARM_STYLES = {"plain": ("#D55E00", "o", "-"), "residual": ("#0072B2", "s", "-")}
# Without what changes from day to day
METADATA: Any = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
SEEDS = {"alpha": 0.35, "markersize": 6}
OPEN = "open: "  # a marker that stands for fewer seeds than the others
PERCENT_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def logarithmic_percent(axis: Axes, lowest: float) -> None:
    """A logarithmic y axis for errors in per cent, from a little below `lowest` to 110."""
    bottom = max(PERCENT_TICKS[0], lowest / 1.5)
    axis.set_yscale("log")
    axis.set_ylim(bottom, 110)
    axis.set_yticks([tick for tick in PERCENT_TICKS if tick >= bottom])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("error (%), logarithmic")


def depth_axis(axis: Axes, depths: Sequence[int]) -> None:
    """A logarithmic x axis with a tick at each depth."""
    axis.set_xlabel("depth (weighted layers)")
    axis.set_xscale("log")
    axis.set_xticks(list(depths), [str(depth) for depth in depths])
    axis.xaxis.set_minor_locator(NullLocator())


def errors_by_depth(records: Sequence[Record], arm: str, measure: str) -> dict[int, list[float]]:
    """Depth → errors of one arm in per cent, one per seed."""
    rows = sorted((row for row in records if row.arm == arm), key=lambda row: (row.depth, row.seed))
    by_depth = grouped(rows, lambda row: row.depth)
    return {d: [100 * error_or_chance(row, measure) for row in by_depth[d]] for d in by_depth}


def mean_curve(
    points: Iterable[CurvePoint], measure: str = "train_error"
) -> tuple[list[int], list[float]]:
    """Iterations, and the mean error in per cent over the seeds that were measured then."""
    measured = (point for point in points if getattr(point, measure) is not None)
    by_iteration = grouped(measured, lambda point: point.iteration)
    steps = sorted(by_iteration)
    errors = ([100 * getattr(p, measure) for p in by_iteration[step]] for step in steps)
    return steps, list(map(statistics.fmean, errors))


def draw_seeds(
    axis: Axes,
    values: Mapping[int, Sequence[float]],
    points: Mapping[str, Any],
    line: Mapping[str, Any],
    **style: Any,
) -> None:
    """Seeds as points, and the line of their means: open where there are fewer than elsewhere.

    Args:
        values: x → one value per seed.
        points, line: style of each, beside the `style` of both.
    """
    for x, seeds in values.items():
        axis.plot([x] * len(seeds), seeds, linestyle="none", **points, **style)
    means = {x: statistics.fmean(seeds) for x, seeds in values.items()}
    axis.plot(list(means), list(means.values()), **line, **style)
    most = max(map(len, values.values()), default=0)
    if few := {x: means[x] for x, seeds in values.items() if len(seeds) < most}:
        counts = sorted({len(values[x]) for x in few})
        numbers = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
        marks: Any = {"linestyle": "none", "markersize": 7, "markerfacecolor": "white"}
        axis.plot(list(few), list(few.values()), **{**style, **marks})
        key: Any = {"marker": "o", "color": "grey", "label": f"{OPEN}{numbers} of {most} seeds"}
        axis.plot([], [], **{**marks, **key})


def labelled(axes: Iterable[Axes]) -> dict[str, Any]:
    """Label → what a legend shows for it, each once, over several axes; open markers last."""
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    return {label: handles[label] for label in sorted(handles, key=lambda each: OPEN in each)}


def titled(figure: Figure, *lines: str) -> Figure:
    """The figure with a title; lines that are wider than the figure are wrapped."""
    figure.suptitle("\n".join(lines), fontsize=11, wrap=True)
    return figure


def depth_colour(depth: int) -> str:
    return DEPTH_COLOURS.get(depth, "#CC79A7")


def key_line(label: str, **style: Any) -> Line2D:
    """A line of a legend that stands for no single line of the figure."""
    return Line2D([], [], label=label, **style)


def publish(folder: Path, figures: Mapping[str, Callable[[], Figure]], readme: str) -> list[Path]:
    """Writes figures/<name>.png and .svg and README.md of a results folder; returns their paths."""
    written = []
    for name, draw in figures.items():
        (folder / "figures").mkdir(exist_ok=True)
        with plt.style.context(STYLE, after_reset=True):
            figure = draw()
            for suffix, metadata in METADATA.items():
                written.append(folder / "figures" / f"{name}{suffix}")
                figure.savefig(written[-1], metadata=metadata)
            plt.close(figure)
    path = folder / "README.md"
    write_text(path, readme)
    return [*written, path]
