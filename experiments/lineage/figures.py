"""Figure and README of the lineage from the committed tables: `python -m experiments.lineage.figures results/lineage`."""

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.lineage.claims import Lineage, check, error, name_of, read_lineage, table
from experiments.reporting.style import (
    judged,
    label_with,
    markdown,
    measured_on,
    publish,
    regenerate,
)
from plainres.records.schema import Record

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
VGG = ("vgg11", "vgg13", "vgg16", "vgg19")


def label_of(records: Sequence[Record]) -> str:
    """Data label, what all networks share, and number of seeds."""
    return label_with(records, f"one protocol, {max(r.iterations for r in records):,} iterations")


def error_figure(lineage: Lineage) -> Figure:
    """Error against parameters (left) and multiply-adds (right), one marker a network: test filled, training open; means over seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.4), sharey=True, layout="constrained")
    for axis, what, name in zip(
        axes,
        ("num_parameters", "num_multiply_adds"),
        ("parameters", "multiply-adds of one image"),
        strict=True,
    ):
        ends = {}
        for network, records in lineage.items():
            x = getattr(records[0], what)
            if x is None:
                continue
            colour, marker = style_of(network)
            test, train = (
                100 * statistics.fmean(error(record, measure) for record in records)
                for measure in ("test_error", "train_error")
            )
            axis.plot([x, x], [test, train], color=colour, linewidth=0.8, alpha=0.5)
            axis.plot(x, test, marker=marker, color=colour, markersize=8, linestyle="none")
            axis.plot(
                x,
                train,
                marker=marker,
                color=colour,
                markersize=8,
                linestyle="none",
                fillstyle="none",
            )
            ends[network] = (x, test)
        axis.set_xscale("log")
        low, high = axis.get_ylim()
        heights = spread([height for _, height in ends.values()], 0.045 * (high - low))
        for (network, end), height in zip(ends.items(), heights, strict=True):
            line = {
                "arrowstyle": "-",
                "color": style_of(network)[0],
                "linewidth": 0.6,
                "alpha": 0.6,
            }
            label = name_of(network).replace(", half width", "")
            axis.annotate(
                label,
                end,
                (1.03, height),
                textcoords=axis.get_yaxis_transform(),
                arrowprops=line,
                fontsize=8,
                va="center",
            )
        axis.set_xlabel(f"{name} (logarithmic)")
    axes[0].set_ylabel("error (%)")
    handles = [
        Line2D([], [], color="grey", marker="o", linestyle="none", label="test"),
        Line2D(
            [],
            [],
            color="grey",
            marker="o",
            linestyle="none",
            fillstyle="none",
            label="training (running: augmented, dropout on)",
        ),
    ]
    axes[0].legend(handles=handles, loc="best", fontsize=8)
    figure.suptitle(
        f"Error against size and work\n{label_of([row for rows in lineage.values() for row in rows])}",
        fontsize=11,
    )
    return figure


def style_of(network: str) -> tuple[str, str]:
    """Colour and marker of a network's family."""
    return next(
        (style for family, style in STYLES.items() if network.startswith(family)), OTHER_STYLE
    )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights for labels: in the order of the given ones, near them, and at least `gap` apart."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    placed = list(heights)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    drift = statistics.fmean(new - old for new, old in zip(placed, heights, strict=True))
    return [height - drift for height in placed]


def vgg_figure(lineage: Lineage) -> Figure:
    """Error of the VGG networks without normalisation against depth, training and test; means over seeds."""
    there = {network: records for network in VGG if (records := lineage.get(network))}
    figure, axis = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
    for measure, name, fill in (
        ("test_error", "test", "full"),
        ("train_error", "training (running)", "none"),
    ):
        values = [
            100 * statistics.fmean(error(record, measure) for record in records)
            for records in there.values()
        ]
        depths = [records[0].depth for records in there.values()]
        colour, marker = STYLES["vgg"]
        axis.plot(
            depths, values, color=colour, marker=marker, markersize=8, fillstyle=fill, label=name
        )
    axis.set_xticks([records[0].depth for records in there.values()])
    axis.set_xlabel("depth (weighted layers in the paper's count)")
    axis.set_ylabel("error (%)")
    axis.legend(loc="best", fontsize=9)
    axis.set_title(
        f"VGG at half width\n{label_of([row for rows in there.values() for row in rows])}",
        fontsize=11,
    )
    return figure


def readme(lineage: Lineage) -> str:
    """The generated README.md of results/lineage."""
    records = [record for rows in lineage.values() for record in rows]
    lines = [
        f"# Lineage: {label_of(records)}",
        "",
        "Generated from the networks' `runs.csv` by `make figures`; not edited by hand.",
        "",
        "![error against parameters and multiply-adds](figures/error.png)",
        *(
            ["", "![VGG: error against depth](figures/vgg.png)"]
            if sum(network in lineage for network in VGG) > 1
            else []
        ),
        "",
        *judged(check(lineage)),
        "",
        *markdown(table(lineage)),
        "",
        "Errors in %, means over seeds. Training error is the running one: training mode, augmented, in AlexNet with dropout; beside it",
        "the same network in evaluation mode on unaugmented training images. Test error is that of the final weights.",
        "",
        measured_on(records),
    ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/error.*, figures/vgg.* where there are several of VGG's depths, and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    lineage = read_lineage(folder)
    figures = {"error": partial(error_figure, lineage)}
    if sum(network in lineage for network in VGG) > 1:
        figures["vgg"] = partial(vgg_figure, lineage)
    return publish(folder, figures, readme(lineage))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/lineage", arguments)


if __name__ == "__main__":
    sys.exit(main())
