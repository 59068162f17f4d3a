"""Figure and README of LeNet-5 from the committed tables: `python -m experiments.lenet.figures results/lenet`."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.lenet.claims import DIGITS, FASHION, MODERN, OLD, Cells, check, read_cells, table
from experiments.reporting.style import (
    judged,
    label_with,
    markdown,
    measured_on,
    publish,
    regenerate,
)
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

COLOURS = {MODERN: "#0072B2", OLD: "#D55E00"}  # Okabe and Ito
NAMES = {FASHION: "Fashion-MNIST", DIGITS: "digits"}


def label_of(records: Sequence[Record]) -> str:
    """Data labels, what all cells share, and number of seeds."""
    return label_with(records, f"32×32, {max(r.iterations for r in records):,} iterations")


def curves_figure(cells: Cells, curves: Mapping[str, Sequence[CurvePoint]]) -> Figure:
    """Error against iteration, one panel a data set, one colour an era; training dashed, test solid, one line a seed."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, data in zip(axes, NAMES, strict=True):
        for era, colour in COLOURS.items():
            points = curves.get(f"{data}-{era}", ())
            for number, seed in enumerate(sorted({point.seed for point in points})):
                line = [point for point in points if point.seed == seed]
                tested = [point for point in line if point.test_error is not None]
                label = "ReLU, max pooling" if era == MODERN else "tanh, average pooling"
                axis.plot(
                    [p.iteration for p in line],
                    [100 * p.train_error for p in line],
                    color=colour,
                    linestyle="--",
                    linewidth=1,
                )
                axis.plot(
                    [p.iteration for p in tested],
                    [100 * (p.test_error or 0) for p in tested],
                    color=colour,
                    linewidth=1.6,
                    label=f"{label} ({era})" if number == 0 else None,
                )
        axis.set_title(NAMES[data])
        axis.set_xlabel("iteration")
        axis.set_ylim(0, 30)
    axes[0].set_ylabel("error (%): training dashed, test solid")
    axes[0].legend(loc="upper right", fontsize=9)
    figure.suptitle(
        f"LeNet-5\n{label_of([row for rows in cells.values() for row in rows])}", fontsize=11
    )
    return figure


def readme(cells: Cells) -> str:
    """The generated README.md of results/lenet."""
    records = [record for rows in cells.values() for record in rows]
    lines = [
        f"# LeNet-5: {label_of(records)}",
        "",
        "Generated from the folders' tables by `make figures`; not edited by hand.",
        "",
        *judged(check(cells)),
        "",
        "![error against iteration](figures/curves.png)",
        "",
        *markdown(table(cells)),
        "",
        "Errors in %. Training error is the running one on augmented images; test error is that of the final weights.",
        "",
        measured_on(records),
    ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/curves.png, .svg and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    cells = read_cells(folder)
    curves = {name: read_curves(folder / name) for name in cells}
    return publish(folder, {"curves": partial(curves_figure, cells, curves)}, readme(cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/lenet", arguments)


if __name__ == "__main__":
    sys.exit(main())
