"""The figures of the depth experiment."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.depth.claims import ARMS, DepthRuns, check, complete_part, grid_of, published_for
from experiments.judging.errors import chance_error
from experiments.judging.verdict import Claim
from experiments.reporting import style
from experiments.reporting.markdown import label_of
from experiments.reporting.question import Drawing
from plainres.records.files import read_curves
from plainres.records.schema import DIVERGED, CurvePoint, Record

PUBLISHED_STYLES = {  # by kind: marker, its size, what the legend calls it
    "paper": ("D", 9, "He et al. 2015"),
    "bound": ("^", 11, "He et al. 2015: higher than this"),
    "reproduction": ("_", 14, "other reproductions"),
}


def drawings(runs: DepthRuns) -> list[Drawing]:
    records = runs.records
    by_depth = partial(depth_figure, records, published_for(records))
    by_iteration: list[CurvePoint] = read_curves(runs.folder)
    return [
        Drawing("error_by_depth", "error against depth", by_depth),
        Drawing("curves", "error against iteration", partial(curves_figure, records, by_iteration)),
    ]


def curves_figure(records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """The paper's Figure 6: running training error against iteration, means over seeds.

    Plain left, residual right; at most five depths.
    """
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    depths = style.shown(point.depth for point in curves)
    drawn = [point for point in curves if point.depth in depths]
    for axis, arm in zip(axes, ARMS, strict=True):
        for depth in depths:
            points = [point for point in drawn if (point.arm, point.depth) == (arm, depth)]
            named = {"color": style.depth_colour(depth), "label": f"{depth} layers"}
            if points:
                axis.plot(*style.mean_curve(points), **named)
        axis.set(title=f"{arm} networks", xlabel="iteration")
    errors = [100 * point.train_error for point in drawn if point.train_error]
    style.logarithmic_percent(axes[0], min(errors, default=1.0))
    axes[0].set_ylabel("running training error (%), log.")
    style.label_ends(*axes)
    title = style.message(
        "Deep plain networks end with higher training error, residual ones do not",
        "Do deep plain networks end with higher training error, and residual ones not?",
        _claims(records)[:2],
    )
    return style.titled(figure, title, label_of(records))


def depth_figure(records: Sequence[Record], published: Sequence[dict[str, str]]) -> Figure:
    """Error against depth: seeds as points, their mean as line. Training left, test right.

    Rows of published.csv are drawn too.
    """
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    lowest = min([100.0, *(float(row["error_percent"]) for row in published)])
    chance = 100 * chance_error(records[0].num_classes)
    titles = {"train": "running training error", "test": "test error"}
    notes, kinds = set(), {}
    for axis, (split, title) in zip(axes, titles.items(), strict=True):
        for arm in ARMS:
            colour, marker, line = style.ARM_STYLES[arm]
            values = style.errors_by_depth(records, arm, f"{split}_error")
            lowest = min([lowest, *(e for seeds in values.values() for e in seeds if e > 0)])
            means = {"linestyle": line, "label": arm}
            drawn = {"color": colour, "marker": marker}
            notes.add(style.draw_seeds(axis, values, style.SEEDS, means, **drawn))
            for kind, (sign, markersize, source) in PUBLISHED_STYLES.items():
                key = (arm, split, kind)
                rows = [r for r in published if (r["arm"], r["split"], r["kind"]) == key]
                theirs = [(int(row["depth"]), float(row["error_percent"])) for row in rows]
                if theirs:
                    marks: Any = {"marker": sign, "markersize": markersize, "fillstyle": "none"}
                    marks |= {"linestyle": "none", "markeredgewidth": 1.8}
                    axis.plot(*zip(*theirs, strict=True), color=colour, label=source, **marks)
                    kinds[kind] = style.key_line(source, color=style.GREY, **marks)
        ticks = {row.depth for row in records}
        ticks |= {int(row["depth"]) for row in published if row["split"] == split}
        axis.axhline(chance, **style.REFERENCE)
        axis.text(min(ticks), chance, "guessing", va="top", ha="left", color=style.GREY)
        axis.set_title(title)
        style.depth_axis(axis, sorted(ticks))
    style.logarithmic_percent(axes[0], lowest)
    style.label_ends(*axes)
    title = style.message(
        "Plain networks get worse with depth, residual ones do not",
        "Do plain networks get worse with depth, and residual ones not?",
        _claims(records)[:2],
    )
    diverged = any(row.status == DIVERGED for row in records)
    notes.add("diverged runs count as guessing" if diverged else "")
    notes.add("the title is about training error")
    caption = (label_of(records), *sorted(notes))
    return style.titled(figure, title, *caption, keys=[*kinds.values()])


def _claims(records: Sequence[Record]) -> list[Claim]:
    return check(complete_part(records, grid_of(records)))
