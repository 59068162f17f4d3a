"""Records → figures and the generated README of a results folder: `python -m experiments.depth.figures results/depth/quick`.

Needs the committed tables and no torch. The same tables give the same bytes.
"""

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from experiments.depth.claims import (
    ARMS,
    MEASURES,
    Grid,
    check,
    complete_part,
    counted,
    disagreements,
    grid_of,
    table,
)
from experiments.depth.simulation import Rate, power_table, read_power
from experiments.judging import verdict
from experiments.judging.verdict import Claim
from experiments.reporting.style import label_of, markdown, measured_on, publish, regenerate
from plainres.records.files import read_curves, read_runs
from plainres.records.schema import DIVERGED, CurvePoint, Record

# Okabe and Ito's palette, told apart in every common colour blindness; the markers repeat what the colours say.
DEPTH_STYLES = {
    8: ("#999999", "v"),
    14: ("#F0E442", "^"),
    20: ("#56B4E9", "o"),
    32: ("#009E73", "s"),
    44: ("#E69F00", "D"),
    56: ("#D55E00", "P"),
    110: ("#000000", "X"),
}
OTHER_DEPTH_STYLE = ("#CC79A7", "*")
ARM_STYLES = {"plain": ("#D55E00", "o", "-"), "residual": ("#0072B2", "s", "-")}
PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_STYLES = {  # by kind: marker, its size, what the legend calls it
    "paper": ("D", 7, "He et al. 2015"),
    "bound": ("^", 9, "He et al. 2015: higher than this"),
    "reproduction": ("_", 12, "other reproductions"),
}
COMPARABLE_DATA = ("CIFAR-10", "CIFAR-10 (JPEG copy)")
COMPARABLE_PROTOCOLS = ("paper",)  # published errors are of 64,000 iterations on CIFAR-10 at 32×32


def curves_figure(records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """The paper's Figure 6: error against iteration, training dashed, test solid; plain left, residual right. Means over seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    depths = sorted({point.depth for point in curves})
    for axis, arm in zip(axes, ARMS, strict=True):
        for depth in depths:
            points = [point for point in curves if (point.arm, point.depth) == (arm, depth)]
            colour, _ = DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)
            axis.plot(
                *_mean_by_iteration(points, lambda point: point.train_error),
                color=colour,
                linestyle="--",
                linewidth=1.1,
            )
            axis.plot(
                *_mean_by_iteration(points, lambda point: point.test_error),
                color=colour,
                linestyle="-",
                linewidth=1.6,
            )
        axis.set_title(f"{arm} networks")
        axis.set_xlabel("iteration")
    errors = [
        100 * error for point in curves for error in (point.train_error, point.test_error) if error
    ]
    _logarithmic_percent(axes[0], min(errors, default=1.0))
    handles = [
        Line2D([], [], color=DEPTH_STYLES.get(d, OTHER_DEPTH_STYLE)[0], label=f"{d} layers")
        for d in reversed(depths)
    ]
    handles += [
        Line2D([], [], color="grey", linestyle="--", label="training (running)"),
        Line2D([], [], color="grey", label="test"),
    ]
    axes[1].legend(handles=handles, loc="best", frameon=True, fontsize=9)
    figure.suptitle(f"Error against iteration\n{label_of(records)}", fontsize=11)
    return figure


def depth_figure(records: Sequence[Record], published: Sequence[dict[str, str]]) -> Figure:
    """Error against depth, training left and test right: seeds as points, their mean as line, published values where comparable."""
    figure, axes = plt.subplots(
        1, 2, figsize=(12.5, 5.4) if published else (10, 4.4), sharey=True, layout="constrained"
    )
    lowest = min([100.0, *(float(row["error_percent"]) for row in published)])
    for axis, split, name in zip(
        axes, ("train", "test"), ("running training error", "test error"), strict=True
    ):
        for arm in ARMS:
            colour, marker, line = ARM_STYLES[arm]
            values = _errors_by_depth(records, arm, split)
            lowest = min(
                [lowest, *(value for column in values.values() for value in column if value > 0)]
            )
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
            means = {depth: statistics.fmean(column) for depth, column in values.items()}
            axis.plot(
                list(means),
                list(means.values()),
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                label=arm,
            )
            for kind, (sign, size, told) in PUBLISHED_STYLES.items():
                rows = [
                    row
                    for row in published
                    if (row["arm"], row["split"], row["kind"]) == (arm, split, kind)
                ]
                theirs = [(int(row["depth"]), float(row["error_percent"])) for row in rows]
                style: Any = {
                    "linestyle": "none",
                    "marker": sign,
                    "markersize": size,
                    "color": colour,
                    "fillstyle": "none",
                }
                if theirs:
                    axis.plot(*zip(*theirs, strict=True), label=f"{arm}, {told}", **style)
        depths = sorted(
            {row.depth for row in records}
            | {int(row["depth"]) for row in published if row["split"] == split}
        )
        guess = 100 * (1 - 1 / records[0].num_classes)
        axis.axhline(guess, color="grey", linewidth=0.8, linestyle=":")
        axis.text(depths[0], guess, "guessing", va="top", ha="left", color="grey", fontsize=8)
        axis.set_title(name)
        axis.set_xlabel("depth (weighted layers)")
        axis.set_xscale("log")
        axis.set_xticks(depths, [str(depth) for depth in depths])
        axis.xaxis.set_minor_locator(NullLocator())
    _logarithmic_percent(axes[0], lowest)
    handles = {
        text: handle
        for axis in axes
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if published:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9
        )
    else:
        axes[1].legend(loc="center right", frameon=True, fontsize=9)
    diverged = (
        " · diverged runs count as guessing"
        if any(row.status == DIVERGED for row in records)
        else ""
    )
    figure.suptitle(f"Error against depth\n{label_of(records)}{diverged}", fontsize=11)
    return figure


def readme(records: Sequence[Record], power: Sequence[Rate] = ()) -> str:
    """The generated README.md of a results folder.

    Args:
        power: what experiments.depth.simulation found for this folder.
    """
    grid = grid_of(records)
    part = complete_part(records, grid)
    claims = check(part)
    lines = [
        f"# Depth experiment: {label_of(records)}",
        "",
        "Generated from `runs.csv` and `curves.csv` by `make figures`; not edited by hand.",
        "",
        "![error against depth](figures/error_by_depth.png)",
        "",
        "![error against iteration](figures/curves.png)",
        "",
        *(
            ["Published errors, marked in the first figure, are of the original CIFAR-10.", ""]
            if published_for(records)
            else []
        ),
        "## Verdicts",
        "",
        "On running training error (training mode, augmented batches); differences are taken within seeds.",
        "",
        *(
            [f"Missing cells: {', '.join(grid.missing)}. Judged where none is: {part.where}.", ""]
            if part != grid
            else []
        ),
        *markdown(verdict.rows(claims)),
        "",
        f"## Running training error in % (last {'/'.join(map(str, sorted({row.error_window for row in records})))} iterations)",
        "",
        *markdown(table(grid)),
        "",
        *_other_measures(records, grid),
        *_statistics(part, claims, power),
        "## Every cell",
        "",
        *markdown(_cell_rows(records)),
        "",
        f"{measured_on(records)} Errors in %; `eval` is evaluation mode on unaugmented",
        "training images; test error is that of the final weights and selects nothing.",
    ]
    return "\n".join(lines) + "\n"


def _other_measures(records: Sequence[Record], grid: Grid) -> list[str]:
    lines = ["## Other measures of training", ""]
    for measure, name in list(MEASURES.items())[1:]:
        unit = (
            "nats per image, running"
            if measure == "train_loss"
            else "%, unaugmented training images"
        )
        lines += [
            f"{name.capitalize()} ({unit}):",
            "",
            *markdown(table(grid_of(records, grid.depths, grid.seeds, measure))),
            "",
        ]
    part = complete_part(records, grid)
    if not part.missing:
        found = disagreements(records, part)
        lines += [f"- {line}" for line in found] or [
            "They agree with running training error on every verdict."
        ]
        lines.append("")
    return lines


def _statistics(grid: Grid, claims: Sequence[Claim], power: Sequence[Rate]) -> list[str]:
    if grid.missing or len(grid.seeds) < 2:
        return []
    lines = [
        "## What the verdicts rest on",
        "",
        "Each criterion by Student's one-sided t over seeds; all of a claim's criteria must hold; Holm's correction over the four claims.",
        "",
        *markdown(verdict.details(claims)),
        "",
    ]
    if power:
        lines += [
            f"How often the verdicts are right, in {power[0].simulations:,} simulated sweeps each (`make power`):",
            "",
            *markdown(power_table(power)),
            "",
        ]
    return lines


def published_for(records: Sequence[Record]) -> list[dict[str, str]]:
    """Published errors where the protocol is comparable, else none."""
    if not all(
        row.protocol in COMPARABLE_PROTOCOLS and row.data_label in COMPARABLE_DATA
        for row in records
    ):
        return []
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make(folder: Path) -> list[Path]:
    """Writes figures/*.png, figures/*.svg and README.md of a results folder; returns what it wrote.

    Raises:
        ValueError: the folder has no records, or its tables are damaged.
    """
    records, curves = read_runs(folder), read_curves(folder)
    if not records:
        raise ValueError(
            f"no records in {folder}; make sweep-depth PROTOCOL={folder.name} measures them"
        )
    figures = {
        "curves": partial(curves_figure, records, curves),
        "error_by_depth": partial(depth_figure, records, published_for(records)),
    }
    return publish(folder, figures, readme(records, read_power(folder)))


def _logarithmic_percent(axis: Axes, lowest: float) -> None:
    """A logarithmic axis for errors in per cent from a little below `lowest` to 100, shared by the axes beside it."""
    bottom = max(0.01, lowest / 1.5)
    axis.set_yscale("log")
    axis.set_ylim(bottom, 110)
    axis.set_yticks(
        [
            tick
            for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
            if tick >= bottom
        ]
    )
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("error (%), logarithmic")


def _mean_by_iteration(
    points: Sequence[CurvePoint], value: Callable[[CurvePoint], float | None]
) -> tuple[list[int], list[float]]:
    columns: dict[int, list[float]] = defaultdict(list)
    for point in points:
        error = value(point)
        if error is not None:
            columns[point.iteration].append(100 * error)
    return sorted(columns), [statistics.fmean(columns[iteration]) for iteration in sorted(columns)]


def _errors_by_depth(records: Sequence[Record], arm: str, split: str) -> dict[int, list[float]]:
    columns: dict[int, list[float]] = defaultdict(list)
    for row in sorted(records, key=lambda row: (row.depth, row.seed)):
        if row.arm == arm:
            guess = 1 - 1 / row.num_classes
            error = (
                counted(row)
                if split == "train"
                else guess
                if row.test_error is None
                else row.test_error
            )
            columns[row.depth].append(100 * error)
    return columns


def _cell_rows(records: Sequence[Record]) -> list[list[str]]:
    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    head = [
        "arm",
        "depth",
        "seed",
        "status",
        "train_error",
        "eval",
        "train loss",
        "test_error",
        "parameters",
        "iterations",
        "precision",
        "minutes",
        "MiB",
    ]
    rows = [head]
    for row in records:
        rows.append(
            [
                row.arm,
                str(row.depth),
                str(row.seed),
                row.status,
                percent(row.train_error),
                percent(row.train_error_eval),
                "–" if row.train_loss is None else f"{row.train_loss:.3f}",
                percent(row.test_error),
                f"{row.num_parameters:,}",
                f"{row.iterations:,}",
                row.precision,
                f"{row.seconds / 60:.1f}",
                f"{row.peak_memory_mib:.0f}",
            ]
        )
    return rows


def summary(records: Sequence[Record]) -> str:
    """Mean training error by arm and depth, and the verdicts, as the main README shows them; on what is complete."""
    grid = grid_of(records)
    part = complete_part(records, grid)
    where = f" ({part.where})" if grid.missing and not part.missing else ""
    verdicts = [f"- {claim.statement}: **{claim.words}**{where}" for claim in check(part)]
    return "\n".join([*markdown(table(grid)), "", *verdicts])


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/depth/<protocol>", arguments)


if __name__ == "__main__":
    sys.exit(main())
