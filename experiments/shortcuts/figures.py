"""The figures of the shortcuts experiment."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.judging.pairs import rows_of
from experiments.reporting import style
from experiments.reporting.markdown import label_of
from experiments.reporting.question import Drawing
from experiments.shortcuts.claims import ARMS, DEEPEST, ShortcutRuns
from plainres.records.schema import CurvePoint, Record

# Okabe and Ito's palette; the markers repeat the colours
STYLES = {
    "plain": ("#D55E00", "o"),
    "residual": ("#0072B2", "s"),
    "projection": ("#009E73", "^"),
    "projection_everywhere": ("#56B4E9", "v"),
    "scaled": ("#CC79A7", "P"),
    "every_second": ("#E69F00", "D"),
}
OTHER_STYLE = ("#999999", "*")


def drawings(runs: ShortcutRuns) -> list[Drawing]:
    records, curves = runs.comparable, runs.curves
    by_depth = partial(depth_figure, records)
    shown = [Drawing("error_by_depth", "error against depth by shortcut", by_depth)]
    if any(record.depth == DEEPEST for record in records):
        alt = f"training error of {DEEPEST} layers against iteration"
        shown.append(Drawing("curves", alt, partial(curves_figure, records, curves)))
    return shown


def depth_figure(records: Sequence[Record]) -> Figure:
    """Error against depth by shortcut: seeds as points, their mean as line.

    Training left, test right.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True, layout="constrained")
    lowest = 100.0
    titles = {"train_error": "running training error", "test_error": "test error"}
    for axis, (measure, title) in zip(axes, titles.items(), strict=True):
        for arm in dict.fromkeys(record.arm for record in records):
            colour, marker = STYLES.get(arm, OTHER_STYLE)
            values = style.errors_by_depth(records, arm, measure)
            lowest = min([lowest, *(e for seeds in values.values() for e in seeds if e > 0)])
            means = {"markersize": 4, "label": ARMS.get(arm, arm)}
            style.draw_seeds(axis, values, style.SEEDS, means, color=colour, marker=marker)
        axis.set_title(title)
        style.depth_axis(axis, sorted({record.depth for record in records}))
    style.logarithmic_percent(axes[0], lowest)
    axes[0].yaxis.set_minor_locator(NullLocator())
    handles = style.labelled(axes)
    beside: Any = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": 8}
    axes[1].legend(handles.values(), handles, **beside)
    return style.titled(figure, "Error against depth by shortcut", label_of(records))


def curves_figure(records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """Running training error of the deepest networks against iteration, one line per seed."""
    figure, axis = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    shown = [record for record in records if record.depth == DEEPEST]
    labelled = set()
    for record in shown:
        if points := rows_of(record, curves):
            label = None if record.arm in labelled else ARMS.get(record.arm, record.arm)
            labelled.add(record.arm)
            colour, _ = STYLES.get(record.arm, OTHER_STYLE)
            axis.plot(*style.mean_curve(points), color=colour, linewidth=1.3, label=label)
    axis.set(xlabel="iteration", ylabel="running training error (%)", ylim=(0, 100))
    axis.legend(loc="best", fontsize=8)
    return style.titled(figure, f"Training with {DEEPEST} layers", label_of(shown))
