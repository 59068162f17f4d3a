"""Figure and README of the large networks from the committed tables: `python -m experiments.large.figures results/large`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.large.claims import Run, Runs, check, read_large, table
from experiments.reporting.style import (
    judged,
    label_with,
    markdown,
    measured_on,
    publish,
    regenerate,
)


def label_of(runs: Sequence[Run]) -> str:
    """Data label, what all networks share, and number of seeds."""
    return label_with(
        [run.record for run in runs],
        f"one batch, {max(run.record.iterations for run in runs)} updates",
    )


def losses_figure(runs: Runs) -> Figure:
    """Loss of the fixed batch against iteration, one line a cell, coloured by network."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for number, (network, cells) in enumerate(runs.items()):
        colour = colormaps["viridis"](number / max(1, len(runs) - 1))
        for place, run in enumerate(cells):
            steps, marker, label = (
                range(1, len(run.losses) + 1),
                "osD^v"[number % 5],
                network if place == 0 else None,
            )
            axis.plot(
                steps,
                run.losses,
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                label=label,
            )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("iteration")
    axis.set_ylabel("training loss (nats per image)")
    axis.legend(loc="upper right", fontsize=8, ncols=2)
    axis.set_title(
        f"Large networks at their own size\n{label_of([run for cells in runs.values() for run in cells])}",
        fontsize=11,
    )
    return figure


def readme(runs: Runs) -> str:
    """The generated README.md of results/large."""
    every = [run for cells in runs.values() for run in cells]
    lines = [
        f"# Large networks: {label_of(every)}",
        "",
        "Generated from the networks' tables by `make figures`; not edited by hand.",
        "",
        *judged(check(runs)),
        "",
        "![loss against iteration](figures/losses.png)",
        "",
        *markdown(table(runs)),
        "",
        "First loss: before the first update; last loss: mean of the last five iterations; nats per image. Multiply-adds are of one",
        "picture's forward pass.",
        "",
        measured_on([run.record for run in every]),
    ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/losses.png, .svg and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    runs = read_large(folder)
    return publish(folder, {"losses": partial(losses_figure, runs)}, readme(runs))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/large", arguments)


if __name__ == "__main__":
    sys.exit(main())
