"""Figures and README of inserted blocks from the committed tables: `python -m experiments.identity.figures results/identity/quick`."""

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.depth.claims import counted
from experiments.depth.figures import ARM_STYLES
from experiments.identity.claims import (
    Child,
    Family,
    check,
    decay_table,
    parent_table,
    read_family,
    table,
)
from experiments.reporting.style import (
    judged,
    label_with,
    markdown,
    measured_on,
    publish,
    regenerate,
)
from plainres.records.schema import Record

LINES: dict[str, Any] = {"middle": "-", "end": "--"}
BRANCH_LINES: tuple[Any, ...] = ("-", ":")  # inserted blocks, those of the parent
DECAY_COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")  # Okabe and Ito


def label_of(records: Sequence[Record]) -> str:
    """Data label, the protocol that all folders share, and number of seeds."""
    protocols = ", ".join(sorted({record.protocol.split("/")[0] for record in records}))
    return label_with(records, f"protocol {protocols}")


def children_figure(family: Family) -> Figure:
    """Child minus parent against inserted blocks: before training on (above), after it (below); seeds as points, means as lines."""

    def before(child: Child) -> float:
        return child.insertion.error_batch - child.insertion.parent_error_batch

    def after(child: Child) -> float | None:
        parent = family.error_trained_on(child.record.arm, child.record.depth, child.record.seed)
        return None if parent is None else counted(child.record) - parent

    rows: tuple[tuple[str, Callable[[Child], float | None]], ...] = (
        ("before training on, batch statistics", before),
        ("after it", after),
    )
    depths = sorted({child.record.depth for child in family.children})
    figure, axes = plt.subplots(
        2,
        len(depths),
        figsize=(4.8 * len(depths), 7),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for column, depth in enumerate(depths):
        for axis, (name, value) in zip(axes[:, column], rows, strict=True):
            axis.axhline(0, color="grey", linewidth=0.8)
            for arm, (colour, marker, _) in ARM_STYLES.items():
                for position, line in LINES.items():
                    points = _points(family, (arm, depth, position), value)
                    for blocks, seeds in points.items():
                        axis.plot(
                            [blocks] * len(seeds),
                            seeds,
                            linestyle="none",
                            color=colour,
                            marker=marker,
                            markersize=5,
                            alpha=0.25,
                        )
                    means = [statistics.fmean(seeds) for seeds in points.values()]
                    axis.plot(
                        list(points),
                        means,
                        color=colour,
                        marker=marker,
                        linestyle=line,
                        markersize=5,
                    )
            axis.set_xscale("log", base=2)
            axis.set_xticks(sorted({child.insertion.blocks for child in family.children}))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(f"{depth} layers, {name}", fontsize=10)
        axes[1, column].set_xlabel("inserted blocks")
    for axis in axes[:, 0]:
        axis.set_ylabel("training error, child - parent (points)")
    handles = [
        Line2D([], [], color=colour, marker=marker, label=arm)
        for arm, (colour, marker, _) in ARM_STYLES.items()
    ]
    handles += [
        Line2D([], [], color="grey", linestyle=line, label=f"{position} of the stage")
        for position, line in LINES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    records = [child.record for child in family.children]
    figure.suptitle(
        f"Blocks as near to the identity as can be, in trained networks\n{label_of(records)}",
        fontsize=11,
    )
    return figure


def _points(
    family: Family, wanted: tuple[str, int, str], value: Callable[[Child], float | None]
) -> dict[int, list[float]]:
    """Of an arm, depth and position: inserted blocks → points of the error, one a seed."""
    found: dict[int, list[float]] = {}
    for child in family.children:
        row, each = child.insertion, value(child)
        if (row.arm, row.depth, row.position) == wanted and each is not None:
            found.setdefault(row.blocks, []).append(100 * each)
    return dict(sorted(found.items()))


def branches_figure(family: Family) -> Figure:
    """‖F(x)‖/‖x‖ against the iteration, one colour a weight decay: inserted blocks solid, the others dotted; a panel a depth."""
    usable = [child for child in family.decays if child.looks]
    depths, decays = (
        sorted({of(child) for child in usable})
        for of in (lambda c: c.record.depth, lambda c: c.weight_decay)
    )
    figure, axes = plt.subplots(
        1,
        len(depths),
        figsize=(6.4 * len(depths), 4.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, depth in zip(axes[0], depths, strict=True):
        for place, decay in enumerate(decays):
            children = [
                child
                for child in usable
                if (child.record.depth, child.weight_decay) == (depth, decay)
            ]
            colour = DECAY_COLOURS[place % len(DECAY_COLOURS)]
            for inserted, line in zip((True, False), BRANCH_LINES, strict=True):
                looks = children[0].looks if children else []
                ratios = [
                    statistics.fmean(c.ratio(look, inserted) for c in children if look in c.looks)
                    for look in looks
                ]
                axis.plot(
                    looks,
                    ratios,
                    color=colour,
                    linestyle=line,
                    label=f"weight decay {decay:g}" if inserted else None,
                )
        axis.set_yscale("log")
        axis.set_xlabel("iteration after the insertion")
        axis.set_title(f"{depth} layers and fresh blocks", fontsize=10)
    axes[0, 0].set_ylabel("‖F(x)‖ / ‖x‖, mean over blocks")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].legend(
        handles=[
            *handles,
            Line2D([], [], color="grey", linestyle=":", label="blocks of the parent"),
        ],
        loc="best",
        fontsize=8,
    )
    figure.suptitle(
        f"The branch of a residual block along training\n{label_of([child.record for child in usable])}",
        fontsize=11,
    )
    return figure


def readme(family: Family) -> str:
    """The generated README.md of a results folder."""
    lines = [
        f"# Blocks inserted into trained networks: {label_of(family.records)}",
        "",
        "Generated from the folders' tables by `make figures`; not edited by hand.",
        "",
        *judged(check(family)),
    ]
    if family.children:
        lines += [
            "",
            "![training error of children minus their parent's, against inserted blocks](figures/children.png)",
            "",
            *markdown(table(family)),
            "",
            "*logits*: largest change of a logit before training on, over seeds; in evaluation mode on test images, and in training",
            "mode (*batch*: each batch normalised by its own statistics). *error*: training error of the child minus its parent's before",
            "training on, in points. *train_error*: running training error after training on, in %; *- parent's*: minus that of the parent",
            "trained on, in points. Means over seeds.",
        ]
    if len(parent_table(family)) > 1:
        lines += [
            "",
            "Running training error of the parents, in %:",
            "",
            *markdown(parent_table(family)),
        ]
    if any(child.looks for child in family.decays):
        lines += [
            "",
            "![size of residual branches along training, by weight decay](figures/branches.png)",
            "",
            *markdown(decay_table(family)),
            "",
            "Fresh (He) blocks in a trained residual network, trained on at the full learning rate. ‖F(x)‖/‖x‖: mean over blocks, all test",
            "images, evaluation mode.",
        ]
    return "\n".join([*lines, "", measured_on(family.records)]) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/children.*, figures/branches.* where there is something to show, and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    family = read_family(folder)
    figures = {}
    if family.children:
        figures["children"] = partial(children_figure, family)
    if any(child.looks for child in family.decays):
        figures["branches"] = partial(branches_figure, family)
    return publish(folder, figures, readme(family))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/identity/<protocol>", arguments)


if __name__ == "__main__":
    sys.exit(main())
