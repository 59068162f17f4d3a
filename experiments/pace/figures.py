"""The figure of the pace experiment."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.pace.claims import TARGETS, Pace, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import key_line, titled

# Okabe and Ito's palette
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
    "#999999",
    "#F0E442",
)
STROKES = ("-", "--", ":", "-.")


def drawings(paces: Sequence[Pace]) -> list[Drawing]:
    alt = "running training error against seconds"
    return [Drawing("curves", alt, partial(curves_figure, paces))]


def curves_figure(paces: Sequence[Pace]) -> Figure:
    """Running training error against seconds.

    One panel per depth, one colour per setting, one stroke per machine.
    """
    depths = sorted({pace.record.depth for pace in paces})
    panels: Any = {"figsize": (5.2 * len(depths), 4.4), "layout": "constrained"}
    figure, axes = plt.subplots(1, len(depths), sharey=True, squeeze=False, **panels)
    settings = sorted({pace.setting for pace in paces})
    colours = dict(zip(settings, itertools.cycle(COLOURS), strict=False))
    machines = sorted({pace.machine for pace in paces})
    strokes: dict[str, Any] = dict(zip(machines, itertools.cycle(STROKES), strict=False))
    for axis, depth in zip(axes[0], depths, strict=True):
        for pace in paces:
            if pace.record.depth == depth:
                total, count = pace.record.seconds, pace.record.iterations
                seconds = [point.iteration * total / count for point in pace.curve]
                errors = [100 * point.train_error for point in pace.curve]
                style = {"color": colours[pace.setting], "linestyle": strokes[pace.machine]}
                axis.plot(seconds, errors, **style, linewidth=1.3)
        for target in TARGETS:
            axis.axhline(100 * target, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=f"residual, {depth} layers", xlabel="seconds", ylim=(15, 70))
    axes[0][0].set_ylabel("running training error (%)")
    handles = [key_line(setting, color=colours[setting]) for setting in settings]
    if len(machines) > 1:
        handles += [key_line(each, color="grey", linestyle=strokes[each]) for each in machines]
    axes[0][-1].legend(handles=handles, loc="best", fontsize=8)
    return titled(figure, "Training error against time", label_of(paces))
