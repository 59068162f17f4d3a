"""Figures and README of loss surfaces from the committed tables: `python -m experiments.landscape.figures results/landscape/quick`."""

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.landscape.claims import (
    BASIN,
    STATISTICS,
    Look,
    Looks,
    check,
    label_of,
    of_statistics,
    read_looks,
    table,
)
from experiments.reporting.style import judged, markdown, publish, regenerate

NUM_LEVELS = 21
CEILING = 100  # times the loss of guessing; what lies above is drawn at it: some planes reach a million and more
COLOURS = "viridis"


def shown(looks: Looks) -> dict[tuple[tuple[int, int], tuple[str, int]], Look]:
    """By (seed, direction seed) and network: every pair of directions where there is one training seed, else the first pair of each."""
    seeds = {look.surface.seed for look in looks}
    first = {
        seed: min(look.surface.direction_seed for look in looks if look.surface.seed == seed)
        for seed in seeds
    }
    return {
        ((look.surface.seed, look.surface.direction_seed), look.network): look
        for look in looks
        if len(seeds) == 1 or look.surface.direction_seed == first[look.surface.seed]
    }


def bounds(looks: Looks) -> tuple[float, float]:
    """Smallest loss of all surfaces, and the largest or the ceiling, whichever is less; the same for both arms."""
    finite = np.concatenate([look.losses[np.isfinite(look.losses)] for look in looks])
    if not finite.size:
        raise ValueError("no surface has a finite loss")
    lowest = max(float(finite.min()), 1e-6)
    return lowest, max(min(float(finite.max()), CEILING * guessing(looks)), 1.01 * lowest)


def guessing(looks: Looks) -> float:
    """Loss of equal odds, in nats."""
    return math.log(looks[0].surface.num_classes)


def clipped(look: Look, low: float, high: float) -> np.ndarray:
    """Losses within the bounds; what is not finite lies at the upper one."""
    return np.clip(np.where(np.isfinite(look.losses), look.losses, high), low, high)


def contour_figure(looks: Looks) -> Figure:
    """Contours of the loss, one row a trained network and pair of directions, one column an arm; levels, logarithmic, are the same for all.

    The white line is the loss of guessing.
    """
    places = shown(looks)
    planes, networks = (
        sorted({plane for plane, _ in places}),
        sorted({network for _, network in places}),
    )
    low, high = bounds(looks)
    levels = np.geomspace(low, high, NUM_LEVELS)
    size = (0.6 + 4.2 * len(networks), 0.9 + 3.6 * len(planes))
    figure, axes = plt.subplots(
        len(planes),
        len(networks),
        figsize=size,
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    norm = LogNorm(low, high)
    for row, plane in enumerate(planes):
        for column, network in enumerate(networks):
            axis = axes[row, column]
            axis.grid(False)
            axis.set_aspect("equal")
            if (look := places.get((plane, network))) is None:
                axis.set_axis_off()
                continue
            at = np.linspace(-look.surface.radius, look.surface.radius, look.surface.points)
            losses = clipped(look, low, high)
            axis.contourf(at, at, losses, levels=levels, norm=norm, cmap=COLOURS)
            axis.contour(at, at, losses, levels=levels, colors="black", linewidths=0.3, alpha=0.5)
            if losses.min() < guessing(looks) < losses.max():
                axis.contour(
                    at, at, losses, levels=[guessing(looks)], colors="white", linewidths=1.6
                )
            axis.plot(0, 0, marker="+", color="red", markersize=8)
            axis.set_title(_name(look), fontsize=10)
        axes[row, 0].set_ylabel("second direction")
    for axis in axes[-1]:
        axis.set_xlabel("first direction")
    mapped = plt.cm.ScalarMappable(norm=norm, cmap=COLOURS)
    bar = figure.colorbar(mapped, ax=axes, shrink=0.8)
    bar.set_label(
        f"training loss (nats per image, logarithmic); white: guessing, {guessing(looks):.2f}"
    )
    return _titled(figure, list(places.values()))


def relief_figure(looks: Looks) -> Figure:
    """The loss as a height, logarithmic, first seed and pair of directions, one panel a network with the same axes."""
    places = shown(looks)
    plane = min(plane for plane, _ in places)
    networks = sorted({network for other, network in places if other == plane})
    low, high = bounds(looks)
    figure = plt.figure(figsize=(5.6 * len(networks), 5.2), layout="constrained")
    for column, network in enumerate(networks):
        look = places[plane, network]
        axis = figure.add_subplot(1, len(networks), column + 1, projection="3d")
        at = np.linspace(-look.surface.radius, look.surface.radius, look.surface.points)
        heights = np.log10(clipped(look, low, high))
        x, y = np.meshgrid(at, at)
        norm = Normalize(math.log10(low), math.log10(high))
        axis.plot_surface(
            x,
            y,
            heights,
            cmap=COLOURS,
            norm=norm,
            rstride=1,
            cstride=1,
            linewidth=0.1,
            edgecolor="black",
            antialiased=True,
        )
        axis.set_zlim(math.log10(low), math.log10(high))
        axis.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.3g}"))
        axis.set_xlabel("first direction")
        axis.set_ylabel("second direction")
        for ticks in (axis.set_xticks, axis.set_yticks):
            ticks([-look.surface.radius, 0, look.surface.radius])
        axis.zaxis.set_major_locator(MaxNLocator(5))
        axis.set_zlabel("training loss (nats)", labelpad=9)
        axis.set_title(_name(look), fontsize=10, y=0.98)
        axis.set_box_aspect(None, zoom=0.88)
    return _titled(figure, [places[plane, network] for network in networks])


def _name(look: Look) -> str:
    surface = look.surface
    return (
        f"{surface.arm}-{surface.depth}, seed {surface.seed}, directions {surface.direction_seed}"
    )


def _titled(figure: Figure, drawn: Looks) -> Figure:
    """With a title that says what is drawn, which may be less than was measured."""
    figure.suptitle(
        f"Loss around the trained network\n{label_of(drawn)}\n{STATISTICS[drawn[0].surface.statistics]}",
        fontsize=11,
    )
    return figure


def readme(looks: Looks) -> str:
    """The generated README.md of a folder of surfaces."""
    first = looks[0].surface
    lines = [
        f"# Loss surfaces: {label_of(looks)}",
        "",
        "Generated from the `surface-*` tables by `make figures`; not edited by hand.",
    ]
    for name, chosen in of_statistics(looks).items():
        lines += [
            "",
            f"## Batch normalisation with {STATISTICS[name]}",
            "",
            f"{label_of(chosen)}",
            "",
            *judged(check(chosen)),
            "",
            f"![contours of the loss, {name}](figures/contour_{name}.png)",
            "",
            f"![the loss as a height, {name}](figures/relief_{name}.png)",
            "",
            *markdown(table(chosen)),
        ]
    lines += [
        "",
        f"Each surface: {first.points}×{first.points} points from {-first.radius:g} to {first.radius:g} (at 1 every filter has moved",
        f"by its own norm), {first.images:,} training images, float32. *Negative curvature*: share of inner points where the smaller",
        "eigenvalue of the surface's Hessian is negative and more than a tenth of the larger one's size. *Roughness*: how far a point",
        "lies off its four neighbours' mean, over the spread of all (log10 loss). *Basin*: share of points that keep more than",
        f"{1 - BASIN:.0%} of what training has gained over guessing. *Cosine* of the two directions. Losses beyond",
        f"{CEILING:g} times that of guessing have its colour and its height in the figures.",
        "",
        measured_on(looks),
    ]
    return "\n".join(lines) + "\n"


def measured_on(looks: Looks) -> str:
    """Commits, machines and seconds as a sentence."""
    surfaces = [look.surface for look in looks]
    commits = sorted(
        {one.commit[:12] + ("" if one.clean else " (tree not clean)") for one in surfaces}
    )
    machines = sorted({f"{one.processor}, torch {one.torch}" for one in surfaces})
    minutes = sum(one.seconds for one in surfaces) / 60
    return f"Measured at commit {', '.join(commits)} on {'; '.join(machines)}, in {minutes:.1f} minutes of one core."


def make(folder: Path) -> list[Path]:
    """Writes figures/contour_<statistics>.*, figures/relief_<statistics>.* and README.md; returns what it wrote.

    Raises:
        ValueError: there are no surfaces, or their tables are damaged.
    """
    looks = read_looks(folder)
    figures = {}
    for name, chosen in of_statistics(looks).items():
        figures[f"contour_{name}"] = partial(contour_figure, chosen)
        figures[f"relief_{name}"] = partial(relief_figure, chosen)
    return publish(folder, figures, readme(looks))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/landscape/<protocol>", arguments)


if __name__ == "__main__":
    sys.exit(main())
