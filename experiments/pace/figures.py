"""The figure of the pace experiment."""

import itertools
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.pace.claims import TARGETS, Pace, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import MOST_LINES, PALETTE, REFERENCE, key_line, titled

STROKES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dash-dotted"}


def drawings(paces: Sequence[Pace]) -> list[Drawing]:
    alt = "running training error against seconds"
    return [Drawing("curves", alt, partial(curves_figure, paces))]


def curves_figure(paces: Sequence[Pace]) -> Figure:
    """Running training error against seconds, the soonest cells of each depth.

    One panel per depth, one colour per setting, one stroke per machine.
    """
    by_depth: dict[int, list[Pace]] = {}
    for pace in paces:  # the soonest first
        by_depth.setdefault(pace.record.depth, []).append(pace)
    drawn = {depth: own[:MOST_LINES] for depth, own in by_depth.items()}
    figure, axes = plt.subplots(
        1, len(drawn), sharey=True, squeeze=False, layout="constrained"
    )  # fmt: skip
    settings = sorted({pace.setting for own in drawn.values() for pace in own})
    colours = dict(zip(settings, itertools.cycle(PALETTE), strict=False))
    machines = sorted({pace.machine for own in drawn.values() for pace in own})
    strokes: dict[str, Any] = dict(zip(machines, itertools.cycle(STROKES), strict=False))
    for axis, (depth, own) in zip(axes[0], drawn.items(), strict=True):
        for pace in own:
            total, count = pace.record.seconds, pace.record.iterations
            seconds = [point.iteration * total / count for point in pace.curve]
            errors = [100 * point.train_error for point in pace.curve]
            line = {"color": colours[pace.setting], "linestyle": strokes[pace.machine]}
            axis.plot(seconds, errors, **line)
        for target in TARGETS:
            axis.axhline(100 * target, **REFERENCE)
        axis.set(title=f"residual-{depth}", xlabel="seconds", ylim=(15, 70))
        axis.locator_params(axis="x", nbins=4)
    axes[0][0].set_ylabel("running training error (%)")
    keys = [key_line(_in_words(each), color=colours[each]) for each in settings]
    named = [f"{STROKES[strokes[each]]}: {each}" for each in machines] if len(machines) > 1 else []
    named += ["these are not comparable"] if len(machines) > 1 else []
    goals = " and ".join(f"{100 * target:g}" for target in TARGETS)
    title = f"How soon do residual networks reach {goals} % training error?"
    return titled(figure, title, label_of(paces), *named, keys=keys)


def _in_words(setting: str) -> str:
    """width8-batch64-rate0.1 as `width 8, batch 64, rate 0.1`."""
    return re.sub(r"([a-z])(\d)", r"\1 \2", setting).replace("-", ", ")
