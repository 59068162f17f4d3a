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

from experiments.landscape.claims import CEILING, Plane, Planes, check, label_of, statistics_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import message, titled

NUM_LEVELS = 21
MOST_SEEDS = 3  # with more, a panel is too small for its title
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

    Every pair of directions where there is one training seed, else the first pair of each of the
    first MOST_SEEDS seeds.
    """
    first: dict[int, int] = {}
    for seed, directions in sorted({plane.draw for plane in planes}):
        first.setdefault(seed, directions)
    shown = sorted(first.items())[:MOST_SEEDS]
    drawn = [plane for plane in planes if len(first) == 1 or plane.draw in shown]
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
    """Contours of the loss, one column per trained network and pair of directions, one row per arm.

    Levels are logarithmic and the same for all. The white line is the loss of guessing.
    """
    places, guessing = selected(planes), planes[0].surface.guessing
    draws = sorted({draw for draw, _ in places})
    networks = sorted({network for _, network in places})
    low, high = bounds(planes)
    levels, norm = np.geomspace(low, high, NUM_LEVELS), LogNorm(low, high)
    panels: Any = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(len(networks), len(draws), **panels)
    for row, network in enumerate(networks):
        for column, draw in enumerate(draws):
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
                axis.contour(at, at, losses, levels=[guessing], colors="white", linewidths=2.5)
            axis.plot(0, 0, marker="+", color="red", markersize=10, markeredgewidth=2)
            axis.set_title(_name(plane, draws))
            ticks = [share * plane.surface.radius for share in (-0.5, 0, 0.5)]
            axis.set(xticks=ticks, yticks=ticks)
    figure.colorbar(ScalarMappable(norm=norm, cmap=COLOURS), ax=axes, label="training loss (nats)")
    drawn = list(places.values())
    return _titled(
        figure, planes, drawn, f"white: guessing, {guessing:.2f} nats", "red: the trained network"
    )


def _name(plane: Plane, draws: list[Draw]) -> str:
    """The network, and its seed or, of one seed, its pair of directions."""
    seed, directions = plane.draw
    several = len({seed for seed, _ in draws}) > 1
    return f"{plane.surface.network}, {f'seed {seed}' if several else f'pair {directions}'}"


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
    figure = plt.figure(layout="constrained")
    for column, plane in enumerate(drawn):
        axis = figure.add_subplot(1, len(drawn), column + 1, projection="3d")
        at, heights = plane.surface.coordinates, np.log10(clipped(plane, low, high))
        axis.plot_surface(*np.meshgrid(at, at), heights, **mesh)
        axis.set_zlim(lowest, highest)
        axis.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.3g}"))
        for ticks in (axis.set_xticks, axis.set_yticks):
            ticks([-plane.surface.radius, 0, plane.surface.radius])
        axis.zaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.tick_params(axis="z", pad=8)
        axis.set_title(f"{plane.surface.network}: loss (nats)")
        axis.set_box_aspect(None, zoom=0.9)
    return _titled(figure, planes, drawn)


def _titled(figure: Figure, planes: Planes, drawn: Planes, *notes: str) -> Figure:
    """With the verdict on smoothness, and what is drawn, which may be less than was measured."""
    title = message(
        "The loss around a residual network is smoother",
        "Is the loss around a residual network smoother?",
        check(planes)[1:2],
    )
    judged, shown = ({plane.surface.seed for plane in part} for part in (planes, drawn))
    of_all = f"the title is about all {len(judged)} seeds" if shown < judged else ""
    _, high = bounds(planes)
    above = any(np.nanmax(plane.losses) > high for plane in planes)
    cut = f"larger losses are drawn as {high:.0f}" if above else ""
    axes = "axes: two random directions"
    return titled(figure, title, label_of(drawn), statistics_of(drawn), of_all, axes, cut, *notes)
