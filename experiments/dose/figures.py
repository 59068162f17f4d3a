"""The figure of the dose: error over depth and λ, with the predicted border."""

import math
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.dose.claims import SLOPES, Dose, check, label_of
from experiments.dose.prediction import predictions
from experiments.reporting import style
from experiments.reporting.question import Drawing
from experiments.theory import NAMES

COLOURS = (style.VERMILLION, style.ORANGE, style.BLUE)  # of SLOPES


def drawings(dose: Dose) -> list[Drawing]:
    if dose.slopes_alone:
        alt = "error by depth and slope, plain networks"
        return [Drawing(f"{dose.protocol}_errors", alt, partial(errors_figure, dose))]
    alt = "error over depth and λ, plain and residual, with the predicted border"
    return [Drawing(f"{dose.protocol}_map", alt, partial(map_figure, dose))]


def map_figure(dose: Dose) -> Figure:
    """Running training error, means over seeds: a row for each activation, a column for each depth.

    Of plain networks the white line is the predicted trainable depth, the black one the measured.
    """
    names, arms = list(dose.by_activation), sorted({row.arm for row in dose.records})
    figure, grid = plt.subplots(1, len(arms), sharey=True, squeeze=False, layout="constrained")
    axes = grid[0]
    norm = LogNorm(0.5, 90)
    image: Any = None
    for axis, arm in zip(axes, arms, strict=True):
        depths = sorted({row.depth for row in dose.records if row.arm == arm})
        errors = [[_mean(dose, name, arm, depth) for depth in depths] for name in names]
        image = axis.imshow(errors, norm=norm, cmap="viridis", aspect="auto")
        axis.grid(False)
        axis.set(title=arm, xlabel="depth (weighted layers)")
        axis.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        if arm == "plain":
            rows = [row for row, name in enumerate(names) if name in predictions()]
            rows = [row for row in rows if predictions()[names[row]].depth <= depths[-1]]
            border = [predictions()[names[row]].depth for row in rows]
            axis.plot(_places(border, depths), rows, color="white", linewidth=3)
            found = [[each.depth for each in dose.depths(name).values()] for name in names]
            rows = [row for row, own in enumerate(found) if own]
            means = [statistics.fmean(found[row]) for row in rows]
            axis.plot(_places(means, depths), rows, color="black", linewidth=3)
    labels = []
    for name in names:
        theory = predictions().get(name)
        labels.append(NAMES.get(name, name) + (f", λ = {theory.growth:.2f}" if theory else ""))
    axes[0].set_yticks(range(len(names)), labels)
    bar = figure.colorbar(image, ax=axes, label="running training error (%)")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    title = style.message(
        "λ says how deep plain networks train",
        "Does λ say how deep plain networks train?",
        check(dose)[3:4],
    )
    line = "trainable depth, black: measured; white: predicted from ReLU alone (ends where deeper)"
    return style.titled(figure, title, label_of(dose), line)


def errors_figure(dose: Dose) -> Figure:
    """Running training error by depth, a line for each slope; seeds as points."""
    figure, axis = plt.subplots(layout="constrained")
    notes, depths = set(), sorted({row.depth for row in dose.records})
    for name, colour in zip(SLOPES, COLOURS, strict=True):
        errors = {d: own for d in depths if (own := dose.compared(name, "plain", d))}
        mean = {"label": NAMES[name]}
        notes.add(style.draw_seeds(axis, errors, style.SEEDS, mean, color=colour, marker="o"))
    style.depth_axis(axis, depths)
    axis.set_ylabel("running training error (%)")
    axis.set_ylim(bottom=0)
    style.label_ends(axis)
    title = style.message(
        "Without a shortcut: the larger the slope, the less depth hurts",
        "Without a shortcut: does depth hurt less, the larger the slope?",
        check(dose),
    )
    return style.titled(figure, title, label_of(dose), "plain networks", *sorted(notes))


def _places(borders: Sequence[float], depths: Sequence[int]) -> Any:
    """Of depths among the columns."""
    return np.interp(borders, depths, range(len(depths)))


def _mean(dose: Dose, name: str, arm: str, depth: int) -> float:
    """In per cent; nan without a record."""
    errors = dose.compared(name, arm, depth)
    return statistics.fmean(errors) if errors else math.nan
