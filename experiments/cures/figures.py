"""The figures of the cures: error against the growth of gradients; the deepest networks."""

from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.cures.claims import (
    CURES,
    DEEPEST,
    FOLDERS,
    LATER,
    NOT_NORMALISED,
    WITHOUT_SHORTCUT,
    Cures,
    check,
    label_of,
    ranked,
)
from experiments.reporting import style
from experiments.reporting.question import Drawing

COLOURS = {True: style.BLUE, False: style.VERMILLION}  # with a shortcut, without
MARKERS = {True: "o", False: "s"}  # with normalisation, without


def drawings(cures: Cures) -> list[Drawing]:
    if cures.deep:
        return [Drawing("deep", "error of the deepest networks", partial(deep_figure, cures))]
    alt = f"error of {DEEPEST} layers, growth of gradients and cosine of images at the start"
    return [Drawing(f"{cures.protocol}_growth", alt, partial(growth_figure, cures))]


def growth_figure(cures: Cures) -> Figure:
    """A row for each network, the lowest error on top: error, growth, and how alike images are.

    Without those at a tenth of the rate, which the table has.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, sharey=True, layout="constrained")
    shown = [name for name in ranked(cures) if not name.endswith("_slow")]
    names = [name for name in shown if cures.errors(name, DEEPEST)]
    for row, name in enumerate(names):
        colour = COLOURS[name not in WITHOUT_SHORTCUT | LATER]
        look: Any = {"color": colour, "marker": MARKERS[name not in NOT_NORMALISED]}
        points: Any = {"linestyle": "none", **look}
        errors = [100 * error for error in cures.errors(name, DEEPEST).values()]
        left.plot(errors, [row] * len(errors), **points)
        growth = [10**power for power in cures.growth(name, DEEPEST).values()]
        middle.plot(growth, [row] * len(growth), **points)
        cosines = list(cures.cosine(name, DEEPEST).values())
        right.plot(cosines, [row] * len(cosines), **points)
    left.set(xscale="log", xlabel=f"error, {DEEPEST} layers (%)")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_yticks(range(len(names)), [CURES.get(name, name) for name in names])
    left.invert_yaxis()
    middle.set(xscale="log", xlabel="growth of gradients")
    right.set(xlim=(0, 1.05), xlabel="cosine of two images")
    title = style.message(
        "The growth of gradients orders the errors",
        "Does the growth of gradients order the errors?",
        check(cures)[1:2],
    )
    lines: Any = {"marker": "", "linestyle": "-"}
    shapes: Any = {"color": style.GREY, "linestyle": "none"}
    keys = [
        style.key_line("no shortcuts", color=COLOURS[False], **lines),
        style.key_line("shortcuts", color=COLOURS[True], **lines),
        style.key_line("normalised", marker=MARKERS[True], **shapes),
        style.key_line("not normalised", marker=MARKERS[False], **shapes),
    ]
    return style.titled(figure, title, label_of(cures), "growth, cosine: at the start", keys=keys)


def deep_figure(cures: Cures) -> Figure:
    """Seeds as points, their mean as line."""
    figure, axis = plt.subplots(layout="constrained")
    notes, depths = set(), sorted({row.depth for row in cures.records})
    looks = {"option_a": (style.VERMILLION, "o"), "preactivation": (style.BLUE, "s")}
    for name in cures.by_cure:
        colour, marker = looks.get(name, (style.GREY, "^"))
        by_depth = {d: cures.errors(name, d).values() for d in depths}
        values = {d: [100 * each for each in errors] for d, errors in by_depth.items() if errors}
        label = {"label": FOLDERS.get(name, name)}
        notes.add(style.draw_seeds(axis, values, style.SEEDS, label, color=colour, marker=marker))
    style.depth_axis(axis, depths)
    axis.set(ylabel="running training error (%)", ylim=(0, 100))
    style.label_ends(axis)
    title = style.message(
        "Pre-activation trains hundreds of layers better",
        "Is pre-activation better at 302 layers and more?",
        check(cures),
    )
    return style.titled(figure, title, label_of(cures), *sorted(notes))
