"""The figures of the lineage."""

import statistics
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.errors import error_or_chance
from experiments.lineage.claims import VGG, Lineage, label_of, mean_error, name_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import SEEDS, draw_seeds, key_line, labelled, titled

# Okabe and Ito's palette by family; the markers repeat what the colours say
STYLES = {
    "lenet": ("#000000", "v"),
    "alexnet": ("#E69F00", "D"),
    "vgg": ("#009E73", "^"),
    "plain": ("#D55E00", "o"),
    "residual": ("#0072B2", "s"),
    "se": ("#CC79A7", "P"),
}
OTHER_STYLE = ("#999999", "*")


def drawings(lineage: Lineage) -> list[Drawing]:
    alt = "error against parameters and multiply-adds"
    shown = [Drawing("error", alt, partial(error_figure, lineage))]
    if sum(network in lineage for network in VGG) > 1:
        shown.append(Drawing("vgg", "VGG: error against depth", partial(vgg_figure, lineage)))
    return shown


def error_figure(lineage: Lineage) -> Figure:
    """Error against parameters (left) and multiply-adds (right), one marker per network.

    Filled: test error; open: training error; means over seeds.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.4), sharey=True, layout="constrained")
    panels = {"num_parameters": "parameters", "num_multiply_adds": "multiply-adds of one image"}
    for axis, (field, quantity) in zip(axes, panels.items(), strict=True):
        ends = {}
        for network, records in lineage.items():
            x = getattr(records[0], field)
            if x is None:
                continue
            colour, marker = style_of(network)
            test, train = (mean_error(records, m) for m in ("test_error", "train_error"))
            axis.plot([x, x], [test, train], color=colour, linewidth=0.8, alpha=0.5)
            style: Any = {"marker": marker, "color": colour, "markersize": 8}
            axis.plot(x, test, linestyle="none", **style)
            axis.plot(x, train, linestyle="none", fillstyle="none", **style)
            ends[network] = (x, test)
        axis.set_xscale("log")
        low, high = axis.get_ylim()
        heights = spread([height for _, height in ends.values()], 0.045 * (high - low))
        for (network, end), height in zip(ends.items(), heights, strict=True):
            colour, _ = style_of(network)
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6}
            style = {"textcoords": axis.get_yaxis_transform(), "fontsize": 8, "va": "center"}
            name = name_of(network).replace(", half width", "")
            axis.annotate(name, end, (1.03, height), arrowprops=line, **style)
        axis.set_xlabel(f"{quantity} (logarithmic)")
    axes[0].set_ylabel("error (%)")
    grey: Any = {"color": "grey", "marker": "o", "linestyle": "none"}
    training = "training (running: augmented, dropout on)"
    handles = [key_line("test", **grey), key_line(training, fillstyle="none", **grey)]
    axes[0].legend(handles=handles, loc="best", fontsize=8)
    return titled(figure, "Error against size and work", label_of(lineage))


def style_of(network: str) -> tuple[str, str]:
    """Colour and marker of a network's family."""
    styles = (style for family, style in STYLES.items() if network.startswith(family))
    return next(styles, OTHER_STYLE)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights for labels: in the order of the given ones, near them, and at least `gap` apart."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    placed = list(heights)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    drift = statistics.fmean(new - old for new, old in zip(placed, heights, strict=True))
    return [height - drift for height in placed]


def vgg_figure(lineage: Lineage) -> Figure:
    """Training and test error of VGG without normalisation against depth.

    Seeds as points, means as lines.
    """
    networks = {network: lineage[network] for network in VGG if lineage.get(network)}
    by_depth = {records[0].depth: records for records in networks.values()}
    figure, axis = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
    for measure, label, line in (
        ("test_error", "test", "-"),
        ("train_error", "training (running)", "--"),
    ):
        errors = {d: [100 * error_or_chance(r, measure) for r in by_depth[d]] for d in by_depth}
        colour, marker = STYLES["vgg"]
        means = {"linestyle": line, "markersize": 4, "label": label}
        draw_seeds(axis, errors, SEEDS, means, color=colour, marker=marker)
    axis.set(xticks=list(by_depth), xlabel="depth (weighted layers in the paper's count)")
    axis.set(ylabel="error (%)")
    handles = labelled([axis])
    axis.legend(handles.values(), handles, loc="best", fontsize=9)
    return titled(figure, "VGG at half width", label_of(networks))
