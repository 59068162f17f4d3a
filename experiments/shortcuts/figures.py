"""Figures and README of a shortcuts folder from the committed tables: `python -m experiments.shortcuts.figures results/shortcuts/quick`."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.depth.claims import counted
from experiments.reporting.style import judged, label_of, markdown, measured_on, publish, regenerate
from experiments.shortcuts.claims import (
    ARMS,
    DEEPEST,
    check,
    depth_folder,
    lent,
    read_shortcuts,
    table,
)
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

# Okabe and Ito's palette; the markers repeat what the colours say
STYLES = {
    "plain": ("#D55E00", "o"),
    "residual": ("#0072B2", "s"),
    "projection": ("#009E73", "^"),
    "projection_everywhere": ("#56B4E9", "v"),
    "scaled": ("#CC79A7", "P"),
    "every_second": ("#E69F00", "D"),
}
OTHER_STYLE = ("#999999", "*")


def depth_figure(records: Sequence[Record]) -> Figure:
    """Error against depth, training left and test right, one line a shortcut: seeds as points, their mean as line."""
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True, layout="constrained")
    depths = sorted({record.depth for record in records})
    lowest = 100.0
    for axis, measure, name in zip(
        axes, ("train_error", "test_error"), ("running training error", "test error"), strict=True
    ):
        for arm in dict.fromkeys(record.arm for record in records):
            colour, marker = STYLES.get(arm, OTHER_STYLE)
            values: dict[int, list[float]] = defaultdict(list)
            for record in records:
                if record.arm == arm:
                    values[record.depth].append(100 * counted(record, measure))
            for depth, column in values.items():
                axis.plot(
                    [depth] * len(column),
                    column,
                    linestyle="none",
                    marker=marker,
                    color=colour,
                    alpha=0.35,
                    markersize=6,
                )
            means = [statistics.fmean(column) for column in values.values()]
            lowest = min(
                [lowest, *(value for column in values.values() for value in column if value > 0)]
            )
            axis.plot(
                list(values),
                means,
                color=colour,
                marker=marker,
                markersize=4,
                label=ARMS.get(arm, arm),
            )
        axis.set_title(name)
        axis.set_xlabel("depth (weighted layers)")
        axis.set_xscale("log")
        axis.set_xticks(depths, [str(depth) for depth in depths])
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0].set_yscale("log")
    axes[0].set_ylim(lowest / 1.5, 110)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick >= lowest / 1.5]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("error (%), logarithmic")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    figure.suptitle(f"Error against depth by shortcut\n{label_of(records)}", fontsize=11)
    return figure


def curves_figure(records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """Running training error of the deepest networks against iteration, one line a seed."""
    figure, axis = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    shown = [record for record in records if record.depth == DEEPEST]
    labelled = set()
    for record in shown:
        points = [
            point
            for point in curves
            if (point.arm, point.depth, point.seed) == (record.arm, record.depth, record.seed)
        ]
        if points:
            label = None if record.arm in labelled else ARMS.get(record.arm, record.arm)
            labelled.add(record.arm)
            colour, _ = STYLES.get(record.arm, OTHER_STYLE)
            errors = [100 * point.train_error for point in points]
            axis.plot(
                [point.iteration for point in points],
                errors,
                color=colour,
                linewidth=1.3,
                label=label,
            )
    axis.set_xlabel("iteration")
    axis.set_ylabel("running training error (%)")
    axis.set_ylim(0, 100)
    axis.legend(loc="best", fontsize=8)
    axis.set_title(f"Training with {DEEPEST} layers\n{label_of(shown)}", fontsize=11)
    return figure


def readme(records: Sequence[Record], taken: Sequence[Record]) -> str:
    """The generated README.md of a folder.

    Args:
        taken: those of the records that are the depth experiment's.
    """
    claims = check(records)
    lines = [
        f"# Shortcuts: {label_of(records)}",
        "",
        "Generated from `runs.csv` and `curves.csv` by `make figures`; not edited by hand.",
        "",
        "![error against depth by shortcut](figures/error_by_depth.png)",
        "",
    ]
    if any(record.depth == DEEPEST for record in records):
        lines += [
            f"![training error of {DEEPEST} layers against iteration](figures/curves.png)",
            "",
        ]
    lines += [
        *judged(claims),
        "",
        *markdown(table(records)),
        "",
        "Errors in %, means over seeds; training error is the running one, test error that of the final weights. Claims rest on training",
        "error, but for B against A and C against B, which rest on test error as the paper's Table 3 does. Seconds are of one machine;",
        "– where a line was measured on another.",
        "",
    ]
    if taken:
        cells = ", ".join(record.cell for record in taken)
        lines += [
            f"Taken from the depth experiment, which measured them under the same configuration, at another time: {cells}.",
            "",
        ]
    lines += [measured_on(records)]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/error_by_depth.*, figures/curves.* where there are cells of the deepest, and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    records, taken = read_shortcuts(folder), lent(folder)
    curves = read_curves(folder)
    if taken:
        cells = {(record.arm, record.depth, record.seed) for record in taken}
        curves += [
            point
            for point in read_curves(depth_folder(folder))
            if (point.arm, point.depth, point.seed) in cells
        ]
    figures = {"error_by_depth": partial(depth_figure, records)}
    if any(record.depth == DEEPEST for record in records):
        figures["curves"] = partial(curves_figure, records, curves)
    return publish(folder, figures, readme(records, taken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/shortcuts/<protocol>", arguments)


if __name__ == "__main__":
    sys.exit(main())
