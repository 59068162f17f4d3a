"""Figures and README of a thousand layers from the committed tables: `python -m experiments.thousand.figures results/thousand`."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.reporting.style import judged, markdown, measured_on, publish, regenerate
from experiments.thousand.claims import (
    MEMORY,
    Thousand,
    check_memory,
    check_training,
    label_of,
    memory_table,
    read_thousand,
    training_table,
)
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

# Okabe and Ito's palette; the lines' styles repeat what the colours say
STYLES = {
    ("plain", 56): ("#D55E00", "--"),
    ("residual", 110): ("#000000", "-"),
    ("residual", 302): ("#56B4E9", "-"),
    ("residual", 602): ("#009E73", "-."),
    ("residual", 1202): ("#0072B2", ":"),
}
OTHER_STYLE = ("#CC79A7", "-")


def curves_figure(name: str, records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """Running training error against iteration, one line a network, means over seeds."""
    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for arm, depth in sorted({(row.arm, row.depth) for row in records}):
        errors: dict[int, list[float]] = defaultdict(list)
        for point in curves:
            if (point.arm, point.depth) == (arm, depth):
                errors[point.iteration].append(100 * point.train_error)
        colour, line = STYLES.get((arm, depth), OTHER_STYLE)
        iterations = sorted(errors)
        means = [statistics.fmean(errors[iteration]) for iteration in iterations]
        axis.plot(
            iterations, means, color=colour, linestyle=line, linewidth=1.6, label=f"{arm}-{depth}"
        )
    axis.set_xlabel("iteration")
    axis.set_ylabel("running training error (%)")
    axis.legend(loc="best", fontsize=9)
    axis.set_title(
        f"A thousand layers: training error against iteration\n{label_of(records, name)}",
        fontsize=11,
    )
    return figure


def memory_figure(thousand: Thousand) -> Figure:
    """Peak of memory against depth without and with checkpointing of activations, one marker a cell."""
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for records, name, colour, marker in (
        (thousand.stored, "activations stored", "#D55E00", "o"),
        (thousand.recomputed, "activations recomputed (checkpointing)", "#0072B2", "s"),
    ):
        rows = sorted(records, key=lambda row: (row.depth, row.seed))
        axis.plot(
            [row.depth for row in rows],
            [row.peak_memory_mib / 1024 for row in rows],
            color=colour,
            marker=marker,
            label=name,
            linewidth=1.4,
        )
    axis.set_xlabel("depth (weighted layers)")
    axis.set_ylabel("peak of the process's memory (GiB)")
    axis.set_ylim(bottom=0)
    axis.legend(loc="best", fontsize=9)
    axis.set_title(
        f"Memory against depth\n{label_of([*thousand.stored, *thousand.recomputed], MEMORY)}",
        fontsize=11,
    )
    return figure


def readme(thousand: Thousand) -> str:
    """The generated README.md of results/thousand."""
    lines = [
        "# A thousand layers",
        "",
        "Generated from the tables of the folders below by `make figures`; not edited by hand.",
    ]
    for name, records in thousand.trained.items():
        lines += [
            "",
            f"## Training: {label_of(records, name)}",
            "",
            *judged(check_training(records)),
            "",
            f"![running training error against iteration, {name}](figures/curves_{name}.png)",
            "",
            *markdown(training_table(records)),
            "",
            "Errors in %. Training error is the running one (training mode, augmented); test errors are shown, not judged.",
        ]
    memory = [*thousand.stored, *thousand.recomputed]
    if memory:
        lines += [
            "",
            f"## Memory: {label_of(memory, MEMORY)}",
            "",
            *judged(check_memory(thousand)),
            "",
            "![memory against depth](figures/memory.png)",
            "",
            *markdown(memory_table(thousand)),
            "",
            "Peak of the whole process, one process a cell; *with* and *without* checkpointing of activations. Seconds include evaluation.",
        ]
    lines += [
        "",
        measured_on([*(row for records in thousand.trained.values() for row in records), *memory]),
    ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/curves_<protocol>.*, figures/memory.* and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    thousand = read_thousand(folder)
    figures = {
        f"curves_{name}": partial(curves_figure, name, records, read_curves(folder / name))
        for name, records in thousand.trained.items()
    }
    if thousand.stored or thousand.recomputed:
        figures["memory"] = partial(memory_figure, thousand)
    return publish(folder, figures, readme(thousand))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/thousand", arguments)


if __name__ == "__main__":
    sys.exit(main())
