"""The figures of the depth experiment."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.depth.claims import ARMS, DepthRuns, published_for
from experiments.judging.errors import chance_error
from experiments.reporting import style
from experiments.reporting.markdown import label_of
from experiments.reporting.question import Drawing
from plainres.records.files import read_curves
from plainres.records.schema import DIVERGED, CurvePoint, Record

PUBLISHED_STYLES = {  # by kind: marker, its size, what the legend calls it
    "paper": ("D", 7, "He et al. 2015"),
    "bound": ("^", 9, "He et al. 2015: higher than this"),
    "reproduction": ("_", 12, "other reproductions"),
}


def drawings(runs: DepthRuns) -> list[Drawing]:
    records = runs.records
    by_depth = partial(depth_figure, records, published_for(records))
    by_iteration: list[CurvePoint] = read_curves(runs.folder)
    return [
        Drawing("error_by_depth", "error against depth", by_depth),
        Drawing("curves", "error against iteration", partial(curves_figure, records, by_iteration)),
    ]


def curves_figure(records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """The paper's Figure 6: error against iteration, means over seeds.

    Training dashed, test solid; plain left, residual right.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    depths = sorted({point.depth for point in curves})
    colours = {depth: style.depth_colour(depth) for depth in depths}
    for axis, arm in zip(axes, ARMS, strict=True):
        for depth, colour in colours.items():
            points = [point for point in curves if (point.arm, point.depth) == (arm, depth)]
            train, test = style.mean_curve(points), style.mean_curve(points, "test_error")
            axis.plot(*train, color=colour, linestyle="--", linewidth=1.1)
            axis.plot(*test, color=colour, linestyle="-", linewidth=1.6)
        axis.set(title=f"{arm} networks", xlabel="iteration")
    errors = [100 * error for p in curves for error in (p.train_error, p.test_error) if error]
    style.logarithmic_percent(axes[0], min(errors, default=1.0))
    handles = [
        style.key_line(f"{depth} layers", color=colours[depth]) for depth in reversed(depths)
    ]
    handles.append(style.key_line("training (running)", color="grey", linestyle="--"))
    handles.append(style.key_line("test", color="grey"))
    axes[1].legend(handles=handles, loc="best", frameon=True, fontsize=9)
    return style.titled(figure, "Error against iteration", label_of(records))


def depth_figure(records: Sequence[Record], published: Sequence[dict[str, str]]) -> Figure:
    """Error against depth: seeds as points, their mean as line. Training left, test right.

    Rows of published.csv are drawn too.
    """
    size = (12.5, 5.4) if published else (10, 4.4)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    lowest = min([100.0, *(float(row["error_percent"]) for row in published)])
    chance = 100 * chance_error(records[0].num_classes)
    titles = {"train": "running training error", "test": "test error"}
    for axis, (split, title) in zip(axes, titles.items(), strict=True):
        for arm in ARMS:
            colour, marker, line = style.ARM_STYLES[arm]
            values = style.errors_by_depth(records, arm, f"{split}_error")
            lowest = min([lowest, *(e for seeds in values.values() for e in seeds if e > 0)])
            means = {"linestyle": line, "markersize": 4, "label": arm}
            style.draw_seeds(axis, values, style.SEEDS, means, color=colour, marker=marker)
            for kind, (sign, markersize, source) in PUBLISHED_STYLES.items():
                key = (arm, split, kind)
                rows = [r for r in published if (r["arm"], r["split"], r["kind"]) == key]
                theirs = [(int(row["depth"]), float(row["error_percent"])) for row in rows]
                if theirs:
                    marks: Any = {"marker": sign, "markersize": markersize, "fillstyle": "none"}
                    marks |= {"linestyle": "none", "color": colour, "label": f"{arm}, {source}"}
                    axis.plot(*zip(*theirs, strict=True), **marks)
        ticks = {row.depth for row in records}
        ticks |= {int(row["depth"]) for row in published if row["split"] == split}
        axis.axhline(chance, color="grey", linewidth=0.8, linestyle=":")
        axis.text(min(ticks), chance, "guessing", va="top", ha="left", color="grey", fontsize=8)
        axis.set_title(title)
        style.depth_axis(axis, sorted(ticks))
    style.logarithmic_percent(axes[0], lowest)
    handles = style.labelled(axes)
    if published:
        below: Any = {"loc": "outside lower center", "ncols": 4, "fontsize": 9}
        figure.legend(handles.values(), handles, **below)
    else:
        axes[1].legend(handles.values(), handles, loc="best", frameon=True, fontsize=9)
    diverged = any(row.status == DIVERGED for row in records)
    note = " · diverged runs count as guessing" if diverged else ""
    return style.titled(figure, "Error against depth", f"{label_of(records)}{note}")
