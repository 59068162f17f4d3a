"""The figures of the cures: error against the growth of gradients; the deepest networks."""

from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.cures.claims import (
    CURES,
    DEEPEST,
    DEPTHS,
    FOLDERS,
    NOT_NORMALISED,
    WITHOUT_SHORTCUT,
    Cures,
    check,
    label_of,
)
from experiments.judging.pairs import Series
from experiments.reporting import style
from experiments.reporting.question import Drawing

COLOURS = {True: style.BLUE, False: style.VERMILLION}  # with a shortcut, without
MARKERS = {True: "o", False: "s"}  # with normalisation, without


def drawings(cures: Cures) -> list[Drawing]:
    if cures.deep:
        return [Drawing("deep", "error of 302 and 602 layers", partial(deep_figure, cures))]
    alt = f"error of {DEEPEST} layers against the growth of gradients at the start"
    return [Drawing(f"{cures.protocol}_growth", alt, partial(growth_figure, cures))]


def growth_figure(cures: Cures) -> Figure:
    """Means over seeds; a panel for each depth, a point for each network."""
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    for axis, depth in zip(axes, DEPTHS, strict=True):
        points = []
        for name in cures.by_cure:
            growth, errors = cures.growth(name, depth), cures.errors(name, depth)
            if not growth or not errors:
                continue
            x, y = 10 ** _mean(growth), 100 * _mean(errors)
            shortcut = name not in WITHOUT_SHORTCUT
            look: Any = {"color": COLOURS[shortcut], "marker": MARKERS[name not in NOT_NORMALISED]}
            axis.plot(x, y, linestyle="none", **look)
            points.append((x, y, CURES.get(name, name)))
        axis.set(title=f"{depth} layers", xlabel="growth of gradients at the start", xscale="log")
        for x, y, name in points:
            near = {"xytext": (5, 3), "textcoords": "offset points", "fontsize": 8}
            axis.annotate(name, (x, y), **near)
        axis.margins(x=0.2)
    style.logarithmic_percent(axes[0], 0.5)
    axes[0].set_ylabel("running training error (%), log.")
    title = style.message(
        "The less gradients grow in a plain network, the deeper it trains",
        "Do plain networks train the deeper, the less gradients grow in them?",
        check(cures)[1:2],
    )
    keys = [
        style.key_line("no shortcuts", color=COLOURS[False], marker="", linestyle="-"),
        style.key_line("shortcuts", color=COLOURS[True], marker="", linestyle="-"),
        style.key_line("normalised", color=style.GREY, marker=MARKERS[True], linestyle="none"),
        style.key_line("not normalised", color=style.GREY, marker=MARKERS[False], linestyle="none"),
    ]
    return style.titled(figure, title, label_of(cures), "means over seeds", keys=keys)


def deep_figure(cures: Cures) -> Figure:
    """Seeds as points, their mean as line."""
    figure, axis = plt.subplots(layout="constrained")
    depths = sorted({row.depth for row in cures.records})
    looks = {"option_a": (style.VERMILLION, "o"), "preactivation": (style.BLUE, "s")}
    for name in cures.by_cure:
        colour, marker = looks.get(name, (style.GREY, "^"))
        values = {d: [100 * error for error in cures.errors(name, d).values()] for d in depths}
        label = {"label": FOLDERS.get(name, name)}
        style.draw_seeds(axis, values, style.SEEDS, label, color=colour, marker=marker)
    style.depth_axis(axis, depths)
    axis.set(ylabel="running training error (%)", ylim=(0, 100))
    style.label_ends(axis)
    title = style.message(
        "Pre-activation trains hundreds of layers, the form of 2015 does not as well",
        "Does pre-activation train hundreds of layers better?",
        check(cures),
    )
    return style.titled(figure, title, label_of(cures))


def _mean(series: Series) -> float:
    return sum(series.values()) / len(series)
