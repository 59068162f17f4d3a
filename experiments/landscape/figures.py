"""The figures of loss surfaces."""

import math
from functools import partial
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.landscape.claims import CEILING, Plane, Planes, label_of, statistics_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import titled

NUM_LEVELS = 21
COLOURS = "viridis"

Draw = tuple[int, int]  # training seed, direction seed


def drawings(planes: Planes) -> list[Drawing]:
    kind = planes[0].surface.statistics
    relief = "the loss of the first seed as a height"
    return [
        Drawing(f"contour_{kind}", "contours of the loss", partial(contour_figure, planes)),
        Drawing(f"relief_{kind}", relief, partial(relief_figure, planes)),
    ]


def selected(planes: Planes) -> dict[tuple[Draw, tuple[str, int]], Plane]:
    """By (seed, direction seed) and (arm, depth): the surfaces that are drawn.

    Every pair of directions where there is one training seed, else the first pair of each seed.
    """
    first: dict[int, int] = {}
    for seed, directions in sorted({plane.draw for plane in planes}):
        first.setdefault(seed, directions)
    drawn = [plane for plane in planes if len(first) == 1 or plane.draw in first.items()]
    return {(plane.draw, (plane.surface.arm, plane.surface.depth)): plane for plane in drawn}


def bounds(planes: Planes) -> tuple[float, float]:
    """Smallest loss of all surfaces, and the largest or the ceiling, whichever is less."""
    finite = np.concatenate([plane.losses[np.isfinite(plane.losses)] for plane in planes])
    if not finite.size:
        raise ValueError("no surface has a finite loss")
    lowest = max(float(finite.min()), 1e-6)
    ceiling = CEILING * planes[0].surface.guessing
    return lowest, max(min(float(finite.max()), ceiling), 1.01 * lowest)


def clipped(plane: Plane, low: float, high: float) -> np.ndarray:
    """Losses within the bounds; what is not finite lies at the upper one."""
    return np.clip(np.where(np.isfinite(plane.losses), plane.losses, high), low, high)


def contour_figure(planes: Planes) -> Figure:
    """Contours of the loss, one row per trained network and pair of directions, one column per arm.

    Levels are logarithmic and the same for all. The white line is the loss of guessing.
    """
    places, guessing = selected(planes), planes[0].surface.guessing
    draws = sorted({draw for draw, _ in places})
    networks = sorted({network for _, network in places})
    low, high = bounds(planes)
    levels, norm = np.geomspace(low, high, NUM_LEVELS), LogNorm(low, high)
    size = (0.6 + 4.2 * len(networks), 0.9 + 3.6 * len(draws))
    panels: Any = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(len(draws), len(networks), figsize=size, **panels)
    for row, draw in enumerate(draws):
        for column, network in enumerate(networks):
            axis = axes[row, column]
            axis.grid(False)
            axis.set_aspect("equal")
            if (plane := places.get((draw, network))) is None:
                axis.set_axis_off()
                continue
            at, losses = plane.surface.coordinates, clipped(plane, low, high)
            axis.contourf(at, at, losses, levels=levels, norm=norm, cmap=COLOURS)
            axis.contour(at, at, losses, levels=levels, colors="black", linewidths=0.3, alpha=0.5)
            if losses.min() < guessing < losses.max():
                axis.contour(at, at, losses, levels=[guessing], colors="white", linewidths=1.6)
            axis.plot(0, 0, marker="+", color="red", markersize=8)
            axis.set_title(plane.surface.name, fontsize=10)
        axes[row, 0].set_ylabel("second direction")
    for axis in axes[-1]:
        axis.set_xlabel("first direction")
    bar = figure.colorbar(ScalarMappable(norm=norm, cmap=COLOURS), ax=axes, shrink=0.8)
    bar.set_label(f"training loss (nats per image, logarithmic); white: guessing, {guessing:.2f}")
    return _titled(figure, list(places.values()))


def relief_figure(planes: Planes) -> Figure:
    """The loss as a height, logarithmic; first seed and pair of directions, one panel per network.

    All panels have the same axes.
    """
    places = selected(planes)
    first = min(draw for draw, _ in places)
    drawn = [places[place] for place in sorted(places) if place[0] == first]
    low, high = bounds(planes)
    lowest, highest = math.log10(low), math.log10(high)
    mesh: Any = {"rstride": 1, "cstride": 1, "linewidth": 0.1, "edgecolor": "black"}
    mesh |= {"cmap": COLOURS, "norm": Normalize(lowest, highest), "antialiased": True}
    figure = plt.figure(figsize=(5.6 * len(drawn), 5.2), layout="constrained")
    for column, plane in enumerate(drawn):
        axis = figure.add_subplot(1, len(drawn), column + 1, projection="3d")
        at, heights = plane.surface.coordinates, np.log10(clipped(plane, low, high))
        axis.plot_surface(*np.meshgrid(at, at), heights, **mesh)
        axis.set_zlim(lowest, highest)
        axis.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.3g}"))
        axis.set(xlabel="first direction", ylabel="second direction")
        for ticks in (axis.set_xticks, axis.set_yticks):
            ticks([-plane.surface.radius, 0, plane.surface.radius])
        axis.zaxis.set_major_locator(MaxNLocator(5))
        axis.set_zlabel("training loss (nats)", labelpad=9)
        axis.set_title(plane.surface.name, fontsize=10, y=0.98)
        axis.set_box_aspect(None, zoom=0.88)
    return _titled(figure, drawn)


def _titled(figure: Figure, drawn: Planes) -> Figure:
    """With a title that says what is drawn, which may be less than was measured."""
    title = "Loss around the trained network"
    return titled(figure, title, label_of(drawn), statistics_of(drawn))
