"""The figures of the shortcuts experiment."""

from collections.abc import Sequence
from functools import partial

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.judging.pairs import rows_of
from experiments.reporting import style
from experiments.reporting.markdown import label_of
from experiments.reporting.question import Drawing
from experiments.shortcuts.claims import ARMS, DEEPEST, OPTIONS, ShortcutRuns, check
from plainres.records.schema import Record

# Colour, marker and name at a line's end; the markers repeat the colours
STYLES = {
    "plain": (style.VERMILLION, "o", "none"),
    "residual": (style.BLUE, "s", "A"),
    "projection": (style.GREEN, "^", "B"),
    "projection_everywhere": (style.PURPLE, "v", "C"),
    "scaled": (style.ORANGE, "P", "A × 0.5"),
    "every_second": (style.SKY, "D", "every 2nd A"),
}
NAMES = ", ".join(ARMS[arm] for arm in OPTIONS)


def drawings(runs: ShortcutRuns) -> list[Drawing]:
    by_depth = partial(depth_figure, runs)
    shown = [Drawing("error_by_depth", "error against depth by shortcut", by_depth)]
    if any(record.depth == DEEPEST for record in runs.comparable):
        alt = f"training error of {DEEPEST} layers against iteration"
        shown.append(Drawing("curves", alt, partial(curves_figure, runs)))
    return shown


def depth_figure(runs: ShortcutRuns) -> Figure:
    """Running training error against depth: seeds as points, their mean as line."""
    records = runs.comparable
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    lowest = 100.0
    for axis, arms in zip(axes, _panels(axes, records), strict=True):
        for arm in arms:
            colour, marker, name = _style(arm)
            values = style.errors_by_depth(records, arm, "train_error")
            lowest = min([lowest, *(e for seeds in values.values() for e in seeds if e > 0)])
            drawn = {"color": colour, "marker": marker}
            style.draw_seeds(axis, values, style.SEEDS, {"label": name}, **drawn)
        style.depth_axis(axis, sorted({record.depth for record in records}))
    style.logarithmic_percent(axes[0], lowest)
    axes[0].set_ylabel("running training error (%), log.")
    axes[0].yaxis.set_minor_locator(NullLocator())
    style.label_ends(*axes)
    title = style.message(
        "Shortcuts A, B and C all stop degradation",
        "Do the shortcuts A, B and C all stop degradation?",
        check(runs)[:1],
    )
    return style.titled(figure, title, label_of(records), NAMES)


def curves_figure(runs: ShortcutRuns) -> Figure:
    """Running training error of the deepest networks against iteration."""
    records = [record for record in runs.comparable if record.depth == DEEPEST]
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    for axis, arms in zip(axes, _panels(axes, records), strict=True):
        for arm in arms:
            rows = [record for record in records if record.arm == arm]
            colour, _, name = _style(arm)
            if points := [point for row in rows for point in rows_of(row, runs.curves)]:
                style.draw_curves(axis, points, color=colour, label=name)
        axis.set(xlabel="iteration", ylim=(0, 100))
        style.label_ends(axis)
    axes[0].set_ylabel("running training error (%)")
    title = f"With which shortcut do {DEEPEST} layers train?"
    return style.titled(figure, title, label_of(records), NAMES)


def _panels(axes: Sequence[Axes], records: Sequence[Record]) -> list[list[str]]:
    """The arms of each panel: the paper's options, and weaker shortcuts beside the best."""
    for axis, title in zip(axes, ("the paper's shortcuts", "weaker shortcuts"), strict=True):
        axis.set_title(title)
    arms = list(dict.fromkeys(record.arm for record in records))
    weaker = [arm for arm in arms if arm not in OPTIONS or arm == "residual"]
    return [[arm for arm in arms if arm in ("plain", *OPTIONS)], weaker]


def _style(arm: str) -> tuple[str, str, str]:
    return STYLES.get(arm, (style.BLACK, "*", arm))
