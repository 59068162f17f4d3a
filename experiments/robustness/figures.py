"""Figure and README of the robustness table from the committed tables: `python -m experiments.robustness.figures results/robustness`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mode

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.depth.figures import ARM_STYLES
from experiments.reporting.style import label_with, markdown, measured_on, publish, regenerate
from experiments.robustness.claims import DEEP, SHALLOW, Row, read_rows, summary, table
from plainres.records.schema import Record


def label_of(records: Sequence[Record]) -> str:
    """Data label, what a setting is a change of, and number of seeds."""
    iterations = mode(record.iterations for record in records)  # a batch size changes them
    return label_with(records, f"cpu protocol, {iterations:,} iterations")


def rises_figure(rows: Sequence[Row], records: Sequence[Record]) -> Figure:
    """One line a setting and arm, from the error of the shallow network to that of the deep one."""
    figure, axis = plt.subplots(figsize=(8, 0.5 + 0.55 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        for offset, (arm, style) in zip(
            (0.14, -0.14), (("plain", "plain"), (row.cured_by, "residual")), strict=True
        ):
            colour, marker, _ = ARM_STYLES[style]
            points = [
                100 * row.errors[arm, depth]
                for depth in (SHALLOW, DEEP)
                if (arm, depth) in row.errors
            ]
            y = -place + offset
            axis.plot(
                points,
                [y] * len(points),
                linestyle="-",
                marker=marker,
                color=colour,
                markersize=6,
                markevery=[0],
                linewidth=1.6,
            )
            if len(points) == 2:
                axis.plot(
                    points[1], y, marker=marker, color=colour, markersize=6, markerfacecolor="white"
                )
    axis.set_yticks(
        [-place for place in range(len(rows))], [row.name.replace("_", " ") for row in rows]
    )
    axis.set_xlabel(f"running training error (%): {SHALLOW} layers filled, {DEEP} layers open")
    names = {"plain": "plain", "residual": "with shortcuts"}
    handles = [
        Line2D([], [], color=ARM_STYLES[arm][0], marker=ARM_STYLES[arm][1], label=name)
        for arm, name in names.items()
    ]
    axis.legend(handles=handles, loc="best", fontsize=9)
    axis.set_title(f"One choice changed at a time\n{label_of(records)}", fontsize=11)
    return figure


def readme(rows: Sequence[Row], records: Sequence[Record]) -> str:
    """The generated README.md of results/robustness."""
    lines = [
        f"# Robustness: {label_of(records)}",
        "",
        "Generated from the settings' `runs.csv` by `make figures`; not edited by hand. Running training error in %.",
        "",
        summary(rows),
        "",
        "![error of 20 and 56 layers by setting](figures/rises.png)",
        "",
        *markdown(table(rows)),
        "",
        "*degrades*: plain-56 lies more than 0.5 points above plain-20. *smaller*: with shortcuts the rise is smaller, and the deep",
        "network better. *gone*: with shortcuts no rise of more than 0.5 points. In the row `projection` these are of option B.",
        "",
        measured_on(records),
    ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/rises.png, .svg and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    rows, records = read_rows(folder)
    return publish(folder, {"rises": partial(rises_figure, rows, records)}, readme(rows, records))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/robustness", arguments)


if __name__ == "__main__":
    sys.exit(main())
