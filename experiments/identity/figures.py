"""The figures of inserted blocks."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.identity.claims import Child, IdentityRuns, check, label_of
from experiments.reporting import style
from experiments.reporting.question import Drawing

LINES: dict[str, Any] = {"middle": "-", "end": "--"}
BLOCKS = {True: "inserted blocks", False: "the parent's blocks"}


def drawings(runs: IdentityRuns) -> list[Drawing]:
    shown = []
    if runs.children:
        alt = "training error of children minus their parent's, against inserted blocks"
        shown.append(Drawing("children", alt, partial(children_figure, runs)))
    if runs.measured_decays:
        alt = "size of residual branches during training, by weight decay"
        shown.append(Drawing("branches", alt, partial(branches_figure, runs)))
    return shown


def children_figure(runs: IdentityRuns) -> Figure:
    """Child minus parent against inserted blocks; seeds as points, means as lines.

    Above before further training, with batch statistics, below after it; one column per depth.
    """
    rows: dict[str, Callable[[Child], float | None]] = {
        "before training": lambda child: child.insertion.excess_batch,
        "after training": runs.excess,
    }
    depths = sorted({child.record.depth for child in runs.children})
    panels: Any = {"squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(2, len(depths), sharex=True, **panels)
    notes = set()
    for column, depth in enumerate(depths):
        for axis, (name, value) in zip(axes[:, column], rows.items(), strict=True):
            axis.axhline(0, **style.REFERENCE)
            for arm, (colour, marker, _) in style.ARM_STYLES.items():
                for position, line in LINES.items():
                    points = _points(runs, (arm, depth, position), value)
                    drawn = {"color": colour, "marker": marker}
                    notes.add(
                        style.draw_seeds(axis, points, style.SEEDS, {"linestyle": line}, **drawn)
                    )
            axis.set_xscale("log", base=2)
            axis.set_xticks(sorted({child.insertion.blocks for child in runs.children}))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(f"{depth} layers, {name}")
        axes[1, column].set_xlabel("inserted blocks")
    figure.supylabel("training error, child - parent (points)")
    styles = style.ARM_STYLES.items()
    handles = [
        style.key_line(arm, color=colour, marker=marker) for arm, (colour, marker, _) in styles
    ]
    for position, line in LINES.items():
        handles.append(style.key_line(f"{position} of the stage", color=style.GREY, linestyle=line))
    title = style.message(
        "Extra blocks harm plain networks, and not residual ones",
        "Do extra blocks harm plain networks, and not residual ones?",
        check(runs)[2:4],
    )
    label = label_of(runs, [child.record for child in runs.children])
    return style.titled(figure, title, label, *sorted(notes), keys=handles)


def _points(
    runs: IdentityRuns, place: tuple[str, int, str], value: Callable[[Child], float | None]
) -> dict[int, list[float]]:
    """Of an arm, depth and position: inserted blocks → points of the error, one per seed."""
    points: dict[int, list[float]] = {}
    for child in runs.children:
        difference = value(child)
        if child.insertion.place[:3] == place and difference is not None:
            points.setdefault(child.insertion.blocks, []).append(100 * difference)
    return dict(sorted(points.items()))


def branches_figure(runs: IdentityRuns) -> Figure:
    """‖F(x)‖/‖x‖ against iteration, one line per weight decay, one row per depth.

    Inserted blocks left, those of the parent right.
    """
    children = runs.measured_decays
    depths = sorted({child.record.depth for child in children})
    decays = sorted({child.weight_decay for child in children})
    panels: Any = {"sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(len(depths), 2, **panels)
    for row, depth in zip(axes, depths, strict=True):
        for axis, (inserted, name) in zip(row, BLOCKS.items(), strict=True):
            for decay, colour in zip(decays, style.PALETTE, strict=False):
                cells = [c for c in children if (c.record.depth, c.weight_decay) == (depth, decay)]
                iterations = cells[0].iterations if cells else []
                ratios = [
                    statistics.fmean(c.ratio(i, inserted) for c in cells if i in c.iterations)
                    for i in iterations
                ]
                axis.plot(iterations, ratios, color=colour, label=f"{decay:g}")
            axis.set(yscale="log", xlabel="iteration after the insertion")
            axis.set_title(f"{depth} layers: {name}")
    style.label_ends(*axes.flat)
    figure.supylabel("‖F(x)‖ / ‖x‖, mean over blocks")
    title = style.message(
        "Weight decay drives unneeded branches towards zero",
        "Does weight decay drive unneeded branches towards zero?",
        check(runs)[4:],
    )
    label = label_of(runs, [child.record for child in children])
    return style.titled(figure, title, label, "numbers at lines: weight decay")
