"""The figures of inserted blocks."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.identity.claims import Child, IdentityRuns, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import ARM_STYLES, draw_seeds, key_line, labelled, titled

LINES: dict[str, Any] = {"middle": "-", "end": "--"}
DECAY_COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")  # Okabe and Ito


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

    Above before further training, below after it; one column per depth.
    """
    rows: dict[str, Callable[[Child], float | None]] = {
        "before further training, batch statistics": lambda child: child.insertion.excess_batch,
        "after further training": runs.excess,
    }
    depths = sorted({child.record.depth for child in runs.children})
    panels: Any = {"figsize": (4.8 * len(depths), 7), "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(2, len(depths), sharex=True, **panels)
    for column, depth in enumerate(depths):
        for axis, (name, value) in zip(axes[:, column], rows.items(), strict=True):
            axis.axhline(0, color="grey", linewidth=0.8)
            for arm, (colour, marker, _) in ARM_STYLES.items():
                style: Any = {"color": colour, "marker": marker, "markersize": 5}
                for position, line in LINES.items():
                    points = _points(runs, (arm, depth, position), value)
                    draw_seeds(axis, points, {"alpha": 0.25}, {"linestyle": line}, **style)
            axis.set_xscale("log", base=2)
            axis.set_xticks(sorted({child.insertion.blocks for child in runs.children}))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(f"{depth} layers, {name}", fontsize=10)
        axes[1, column].set_xlabel("inserted blocks")
    for axis in axes[:, 0]:
        axis.set_ylabel("training error, child - parent (points)")
    styles = ARM_STYLES.items()
    handles = [key_line(arm, color=colour, marker=marker) for arm, (colour, marker, _) in styles]
    for position, line in LINES.items():
        handles.append(key_line(f"{position} of the stage", color="grey", linestyle=line))
    handles += labelled(axes.flat).values()
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    label = label_of(runs, [child.record for child in runs.children])
    return titled(figure, "Near-identity blocks inserted into trained networks", label)


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
    """‖F(x)‖/‖x‖ against iteration, one colour per weight decay, one panel per depth.

    Inserted blocks are solid, the others dotted.
    """
    children = runs.measured_decays
    depths = sorted({child.record.depth for child in children})
    decays = sorted({child.weight_decay for child in children})
    panels: Any = {"figsize": (6.4 * len(depths), 4.4), "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(1, len(depths), sharey=True, **panels)
    for axis, depth in zip(axes[0], depths, strict=True):
        for place, decay in enumerate(decays):
            cells = [c for c in children if (c.record.depth, c.weight_decay) == (depth, decay)]
            iterations = cells[0].iterations if cells else []
            colour = DECAY_COLOURS[place % len(DECAY_COLOURS)]
            for inserted, line in ((True, "-"), (False, ":")):
                ratios = [
                    statistics.fmean(c.ratio(i, inserted) for c in cells if i in c.iterations)
                    for i in iterations
                ]
                label = f"weight decay {decay:g}" if inserted else None
                axis.plot(iterations, ratios, color=colour, linestyle=line, label=label)
        axis.set(yscale="log", xlabel="iteration after the insertion")
        axis.set_title(f"{depth} layers and fresh blocks", fontsize=10)
    axes[0, 0].set_ylabel("‖F(x)‖ / ‖x‖, mean over blocks")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    handles.append(key_line("blocks of the parent", color="grey", linestyle=":"))
    axes[0, 0].legend(handles=handles, loc="best", fontsize=8)
    label = label_of(runs, [child.record for child in children])
    return titled(figure, "Residual branches during training", label)
