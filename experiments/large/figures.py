"""The figure of the large networks."""

from functools import partial
from typing import Any

from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.large.claims import Runs, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import titled


def drawings(runs: Runs) -> list[Drawing]:
    return [Drawing("losses", "loss against iteration", partial(losses_figure, runs))]


def losses_figure(runs: Runs) -> Figure:
    """Loss of the fixed batch against iteration, one line per cell, coloured by network."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for number, (network, cells) in enumerate(runs.items()):
        colour = colormaps["viridis"](number / max(1, len(runs) - 1))
        for place, run in enumerate(cells):
            steps, label = range(1, len(run.losses) + 1), network if place == 0 else None
            style: Any = {"color": colour, "marker": "osD^v"[number % 5]}
            axis.plot(steps, run.losses, **style, markersize=4, linewidth=1.2, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("iteration")
    axis.set_ylabel("training loss (nats per image)")
    axis.legend(loc="upper right", fontsize=8, ncols=2)
    return titled(figure, "Large networks at their own size", label_of(runs))
