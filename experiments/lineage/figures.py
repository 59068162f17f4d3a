"""The figures of the lineage."""

from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.errors import error_or_chance
from experiments.lineage.claims import VGG, Lineage, check, label_of, mean_error, name_of
from experiments.reporting import style
from experiments.reporting.question import Drawing
from experiments.reporting.style import key_line

# By family; the markers repeat what the colours say
STYLES = {
    "lenet": (style.BLACK, "v"),
    "alexnet": (style.ORANGE, "D"),
    "vgg": (style.GREEN, "^"),
    "plain": (style.VERMILLION, "o"),
    "residual": (style.BLUE, "s"),
    "se": (style.PURPLE, "P"),
}
OTHER_STYLE = (style.GREY, "*")
SIZES = {  # figure → field of the records, what it counts
    "error": ("num_parameters", "parameters"),
    "work": ("num_multiply_adds", "multiply-adds of one image"),
}


def drawings(lineage: Lineage) -> list[Drawing]:
    shown = [
        Drawing(name, f"error against {quantity}", partial(error_figure, lineage, name))
        for name, (_, quantity) in SIZES.items()
    ]
    if sum(network in lineage.networks for network in VGG) > 1:
        shown.append(Drawing("vgg", "VGG: error against depth", partial(vgg_figure, lineage)))
    return shown


def error_figure(lineage: Lineage, name: str) -> Figure:
    """Error against parameters or multiply-adds, one marker per network.

    Filled: test error; open: training error; means over seeds.
    """
    field, quantity = SIZES[name]
    figure, axis = plt.subplots(layout="constrained")
    ends = {}
    for network, records in lineage.networks.items():
        x = getattr(records[0], field)
        if x is None:
            continue
        colour, marker = style_of(network)
        test, train = (mean_error(records, m) for m in ("test_error", "train_error"))
        axis.plot([x, x], [test, train], color=colour, linewidth=1, alpha=0.5)
        points: Any = {"marker": marker, "color": colour, "markersize": 10, "linestyle": "none"}
        axis.plot(x, test, **points)
        axis.plot(x, train, fillstyle="none", **points)
        ends[network] = (x, test)
    axis.set_xscale("log")
    low, high = axis.get_ylim()
    gap = 0.075 * (high - low)
    heights = style.spread([height for _, height in ends.values()], gap, low, high)
    for (network, end), height in zip(ends.items(), heights, strict=True):
        colour, _ = style_of(network)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.6}
        line |= {"relpos": (0, 0.5), "shrinkB": 0}
        place: Any = {"textcoords": axis.get_yaxis_transform(), "va": "center", "color": colour}
        short = name_of(network).replace(", half width", "")
        axis.annotate(short, end, (1.03, height), arrowprops=line, **place)
    axis.set(xlabel=f"{quantity}, logarithmic", ylabel="error (%)")
    grey: Any = {"color": style.GREY, "marker": "o", "linestyle": "none"}
    training = "training (running: augmented, dropout on)"
    keys = [key_line("test", **grey), key_line(training, fillstyle="none", **grey)]
    title = style.message(
        "residual-56 errs less than VGG-16, with fewer parameters",
        "Does residual-56 err less than VGG-16, with fewer parameters?",
        check(lineage)[7:8],
    )
    if name == "work":
        title = "What error for how much work?"
    half = "AlexNet, VGG: half width"
    return style.titled(figure, title, label_of(lineage), half, keys=keys)


def style_of(network: str) -> tuple[str, str]:
    """Colour and marker of a network's family."""
    styles = (each for family, each in STYLES.items() if network.startswith(family))
    return next(styles, OTHER_STYLE)


def vgg_figure(lineage: Lineage) -> Figure:
    """Training and test error of VGG without normalisation against depth.

    Seeds as points, means as lines.
    """
    networks = {n: lineage.networks[n] for n in VGG if lineage.networks.get(n)}
    by_depth = {records[0].depth: records for records in networks.values()}
    figure, axis = plt.subplots(layout="constrained")
    colour, marker = STYLES["vgg"]
    notes = set()
    for measure, label, line in (
        ("test_error", "test", "-"),
        ("train_error", "training (running)", "--"),
    ):
        errors = {d: [100 * error_or_chance(r, measure) for r in by_depth[d]] for d in by_depth}
        means = {"linestyle": line, "label": label}
        drawn = {"color": colour, "marker": marker}
        notes.add(style.draw_seeds(axis, errors, style.SEEDS, means, **drawn))
    axis.set(xticks=list(by_depth), xlabel="depth (weighted layers in the paper's count)")
    axis.set(ylabel="error (%)")
    style.label_ends(axis)
    title = style.message(
        "VGG gets better from 11 to 16 layers, and not beyond",
        "Does VGG get better from 11 to 16 layers, and not beyond?",
        check(lineage)[2:4],
    )
    return style.titled(
        figure, title, label_of(replace(lineage, networks=networks)), "half width", *sorted(notes)
    )
