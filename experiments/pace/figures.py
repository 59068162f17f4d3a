"""Figure and README of the pace table from the committed tables: `python -m experiments.pace.figures results/pace`."""

import itertools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.pace.claims import TARGETS, Pace, read_paces, summary, table
from experiments.reporting.style import label_with, markdown, measured_on, publish, regenerate
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
    "#999999",
    "#F0E442",
)  # Okabe and Ito

STROKES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")


def label_of(records: Sequence[Record]) -> str:
    """Data label, what all settings share, and number of seeds."""
    return label_with(records, "cpu protocol by width, batch and learning rate")


def curves_figure(paces: Sequence[Pace], curves: dict[str, list[CurvePoint]]) -> Figure:
    """Running training error against seconds, one panel a depth, one colour a setting, one stroke a machine."""
    depths = sorted({pace.record.depth for pace in paces})
    figure, axes = plt.subplots(
        1,
        len(depths),
        figsize=(5.2 * len(depths), 4.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    settings = sorted({pace.setting for pace in paces})
    strokes = dict(
        zip(sorted({pace.machine for pace in paces}), itertools.cycle(STROKES), strict=False)
    )
    for axis, depth in zip(axes[0], depths, strict=True):
        for pace in paces:
            record = pace.record
            if record.depth != depth:
                continue
            points = [
                point
                for point in curves[pace.setting]
                if (point.depth, point.seed) == (depth, record.seed)
            ]
            seconds = [point.iteration * record.seconds / record.iterations for point in points]
            colour = COLOURS[settings.index(pace.setting) % len(COLOURS)]
            errors = [100 * point.train_error for point in points]
            axis.plot(
                seconds,
                errors,
                strokes[pace.machine],
                color=colour,
                linewidth=1.3,
                label=pace.setting,
            )
        for target in TARGETS:
            axis.axhline(100 * target, color="grey", linewidth=0.8, linestyle=":")
        axis.set_title(f"residual, {depth} layers")
        axis.set_xlabel("seconds")
        axis.set_ylim(15, 70)
    axes[0][0].set_ylabel("running training error (%)")
    shown = {
        line.get_label(): line
        for axis in axes[0]
        for line in axis.get_lines()
        if line.get_label() in settings
    }
    handles = [
        Line2D([], [], color=shown[setting].get_color(), label=setting) for setting in settings
    ]
    if len(strokes) > 1:
        handles += [
            Line2D([], [], color="grey", linestyle=stroke, label=machine)
            for machine, stroke in strokes.items()
        ]
    axes[0][-1].legend(handles=handles, loc="best", fontsize=8)
    figure.suptitle(
        f"Training error against time\n{label_of([pace.record for pace in paces])}", fontsize=11
    )
    return figure


def readme(paces: Sequence[Pace]) -> str:
    """The generated README.md of results/pace."""
    records = [pace.record for pace in paces]
    lines = [
        f"# Pace: {label_of(records)}",
        "",
        "Generated from the settings' tables by `make figures`; not edited by hand.",
        "",
        summary(paces),
        "",
        "![running training error against seconds](figures/curves.png)",
        "",
        *markdown(table(paces)),
        "",
        measured_on(records),
    ]
    return "\n".join(lines) + "\n"


def make(folder: Path) -> list[Path]:
    """Writes figures/curves.png, .svg and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    paces = read_paces(folder)
    curves = {
        setting: read_curves(folder / setting) for setting in {pace.setting for pace in paces}
    }
    return publish(folder, {"curves": partial(curves_figure, paces, curves)}, readme(paces))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/pace", arguments)


if __name__ == "__main__":
    sys.exit(main())
