"""The figures of the horizon: cosines by depth, measured beside predicted, and in training."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.horizon.claims import EARLY, FLOAT32, FLOAT64, GROUPS, ORDER, check, label_of
from experiments.horizon.parts import (
    APART,
    BEFORE_TRAINING,
    LOST,
    SIZES,
    WITHIN,
    Part,
    horizon,
    loss_distances,
    updates_until_apart,
    weight_distances,
)
from experiments.horizon.prediction import UNITS, predictions
from experiments.reporting import style
from experiments.reporting.question import Drawing
from experiments.theory import NAMES
from plainres.records.rows import CONTIGUOUS

COLOURS = {"bf16": style.VERMILLION, "float16": style.ORANGE, "float32": style.BLUE}
MARKERS = dict(zip(ORDER, "osD^v", strict=True))
LINES = {"plain": "--", "residual": "-"}
IN_WORDS = {FLOAT64: "in float64", FLOAT32: "in float32"}
PRECISION_STYLES = {FLOAT64: (style.GREEN, "D", ":"), FLOAT32: (style.BLUE, "s", "-")}


def drawings(part: Part) -> list[Drawing]:
    made = {
        "training": ("cosine along training", training_figure),
        "quick": ("errors by precision of training", errors_figure),
        "rounding": ("difference of two runs' losses", rounding_figure),
        "weights": ("distance of two runs' weights", weights_figure),
        "layout": ("cosine by depth and layout", layout_figure),
    }
    if part.name in made:
        alt, draw = made[part.name]
        return [Drawing(part.name, alt, partial(draw, part))]
    drawn = []
    if "relu" in part.by_variant:
        draw = partial(cosines_figure, part)
        drawn.append(Drawing(f"{part.name}-cosines", "cosine by depth", draw))
    if part.name in BEFORE_TRAINING[:2]:
        alt = "measured beside predicted horizon"
        drawn.append(Drawing(f"{part.name}-predicted", alt, partial(predicted_figure, part)))
    return drawn


def cosines_figure(part: Part) -> Figure:
    """Median cosine by depth with ReLU, a panel for each arm; dotted: the predicted horizon."""
    arms = [arm for arm in LINES if any(r.arm == arm for r in part.by_variant.get("relu", ()))]
    figure, axes = plt.subplots(1, len(arms), sharey=True, squeeze=False, layout="constrained")
    for axis, arm in zip(axes[0], arms, strict=True):
        for precision in UNITS:
            by_seed = part.by_depth("relu", arm, precision)
            _draw(axis, by_seed, color=COLOURS[precision], label=precision)
            if arm == "plain":
                axis.axvline(
                    predictions()["relu", precision].depth, color=COLOURS[precision], linestyle=":"
                )
        axis.axhline(LOST, **style.REFERENCE)
        axis.set(title=f"{arm} networks", xscale="log", ylim=(-0.3, 1.05))
        _plain_numbers(axis, (8, 20, 56, 110, 302, 1202))
        axis.set_xlabel("depth (weighted layers)")
        style.label_ends(axis)
    axes[0][0].set_ylabel("cosine with the exact gradient")
    title = style.message(
        "The first gradient loses its direction where λ and the precision say",
        "Does the first gradient lose its direction where λ and the precision say?",
        check(part)[:1],
    )
    note = f"ReLU; dotted: cosine {LOST:g}, predicted depth; thin: one seed"
    return style.titled(figure, title, label_of(part), note)


def layout_figure(part: Part) -> Figure:
    """Median cosine by depth in float32, a panel for each layout, a line for each image size."""
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    panels = {"float32": "sums in float32", CONTIGUOUS: "sums in float64"}
    for axis, (precision, title) in zip(axes, panels.items(), strict=True):
        for size, colour in zip(SIZES, (style.GREEN, style.BLUE, style.VERMILLION), strict=True):
            if by_seed := part.by_depth(size, "plain", precision):
                _draw(axis, by_seed, color=colour, label=f"{size}×{size}")
            own = part.predicted_by_error(size, precision).values()
            if own and precision != CONTIGUOUS:
                axis.axvline(statistics.geometric_mean(own), color=colour, linestyle=":")
        if precision == CONTIGUOUS:
            axis.axvline(predictions()["relu", "float32"].depth, color=style.GREY, linestyle=":")
        axis.axhline(LOST, **style.REFERENCE)
        axis.set(title=title, ylim=(-0.3, 1.05), xlabel="depth (weighted layers)")
        style.label_ends(axis)
    axes[0].set_ylabel("cosine with the exact gradient")
    title = style.message(
        "With sums in float64 float32 loses the direction where λ says",
        "With sums in float64, does float32 lose the direction where λ says?",
        check(part)[:1],
    )
    note = f"plain networks, ReLU; numbers at lines: pixels; dotted: cosine {LOST:g}, prediction"
    return style.titled(figure, title, label_of(part), note)


def predicted_figure(part: Part) -> Figure:
    """Measured against predicted horizon: a point for each activation and precision."""
    figure, axis = plt.subplots(layout="constrained")
    ends = (18.0, 400.0)
    axis.plot(ends, ends, color=style.GREY, linewidth=1.5)
    axis.fill_between(ends, [e / WITHIN for e in ends], [e * WITHIN for e in ends], color="#eeeeee")
    for precisions in GROUPS.values():
        for name, measured_in in precisions.items():
            for precision in measured_in:
                found = [
                    each
                    for cosines in part.by_depth(name, "plain", precision).values()
                    if (each := horizon(cosines)) is not None
                ]
                for each in found:
                    colour = COLOURS[precision]
                    mark: Any = {"marker": MARKERS[name], "color": colour, **style.SEEDS}
                    mark["markerfacecolor"] = "none" if each.at_least else colour
                    axis.plot(predictions()[name, precision].depth, each.depth, **mark)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    _plain_numbers(axis, (20, 50, 100, 200, 400))
    axis.set_yticks([20, 50, 100, 200, 400], ["20", "50", "100", "200", "400"])
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("predicted: ln(1/ε) / ln √λ layers")
    axis.set_ylabel("measured horizon (layers)")
    keys = [style.key_line(p, color=c, marker="o", linestyle="none") for p, c in COLOURS.items()]
    keys += [
        style.key_line(NAMES[n], color=style.GREY, marker=m, linestyle="none")
        for n, m in MARKERS.items()
    ]
    title = style.message(
        "One number, λ, predicts where each precision loses the direction",
        "Does one number, λ, predict where each precision loses the direction?",
        check(part)[: len(GROUPS)],
    )
    note = f"a point is a seed; grey: factor {WITHIN:g}"
    return style.titled(figure, title, label_of(part), note, keys=keys)


def training_figure(part: Part) -> Figure:
    """Median cosine after so many updates, a panel for each precision.

    Of networks with shortcuts the deepest; the table has the others.
    """
    figure, axes = plt.subplots(1, len(UNITS), sharey=True, layout="constrained")
    plain, residual = ({r.depth for r in part.records if r.arm == arm} for arm in LINES)
    networks = [("plain", depth) for depth in sorted(plain)]
    networks += [("residual", max(residual))] if residual else []
    points = [point for each in part.points.values() for point in each]
    for axis, precision in zip(axes, UNITS, strict=True):
        for arm, depth in networks:
            by_seed: dict[int, dict[int, float]] = {}
            for p in points:
                if (p.arm, p.depth, p.precision) == (arm, depth, precision):
                    by_seed.setdefault(p.seed, {})[p.iteration] = p.median_cosine
            _draw(axis, by_seed, color=style.depth_colour(depth), linestyle=LINES[arm])
        axis.axhline(LOST, **style.REFERENCE)
        axis.set(title=precision, xlabel="updates")
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xticks([0, 10, 1000], ["0", "10", "1000"])
        axis.set_xlim(left=-0.2)
    axes[0].set_ylabel("cosine with the exact gradient")
    keys = [
        style.key_line(f"{depth} layers", color=style.depth_colour(depth))
        for depth in sorted({depth for _, depth in networks})
    ]
    keys += [style.key_line(arm, color=style.GREY, linestyle=line) for arm, line in LINES.items()]
    title = style.message(
        "In float32 training brings back the direction that rounding takes at the start",
        "In float32, does training bring back the direction that rounding takes at the start?",
        check(part)[:1],
    )
    note = f"dotted: cosine {LOST:g}; float16 has no loss scaling"
    return style.titled(figure, title, label_of(part), note, keys=keys)


def errors_figure(part: Part) -> Figure:
    """Training error by depth, a line for each precision of training; seeds as points."""
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    notes = set()
    for axis, arm in zip(axes, LINES, strict=True):
        for precision, (colour, marker, line) in PRECISION_STYLES.items():
            records = part.by_variant.get(precision, ())
            errors = style.errors_by_depth(records, arm, "train_error")
            drawn = {"color": colour, "marker": marker}
            means = {"linestyle": line, "label": IN_WORDS[precision]}
            notes.add(style.draw_seeds(axis, errors, style.SEEDS, means, **drawn))
        style.depth_axis(axis, sorted({row.depth for row in part.records}))
        axis.set(title=f"{arm} networks")
        axis.set_ylim(bottom=0)
    style.label_ends(axes[0])
    axes[0].set_ylabel("running training error (%)")
    title = style.message(
        "Degradation stays in float64",
        "Does degradation stay in float64?",
        check(part)[:1],
    )
    return style.titled(figure, title, label_of(part), *sorted(notes))


def rounding_figure(part: Part) -> Figure:
    """How far the losses of two runs are apart, median over seeds, by update; a panel per arm."""
    figure, axes = _distances_figure(part, loss_distances)
    for axis, arm in zip(axes, LINES, strict=True):
        axis.axhline(100 * APART, **style.REFERENCE)
        for depth in sorted({row.depth for row in part.records if row.arm == arm}):
            if updates := list(updates_until_apart(part, arm, depth).values()):
                first = math.exp(statistics.fmean(updates))
                axis.plot(first, 100 * APART, color=style.depth_colour(depth), marker="o")
    style.label_ends(*axes)
    axes[0].set_ylabel("difference of the losses (%)")
    title = style.message(
        "One changed digit: the deeper a plain network, the sooner its loss is 1 % off",
        "One changed digit: is a plain network's loss 1 % off the sooner, the deeper it is?",
        check(part)[:1],
    )
    note = "numbers at lines: depth; lines: medians of seeds; points: mean update that passes 1 %"
    return style.titled(figure, title, label_of(part), note)


def weights_figure(part: Part) -> Figure:
    """How far the weights of two runs are apart, median over seeds, by update; a panel per arm."""
    figure, axes = _distances_figure(part, weight_distances)
    for axis in axes:
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        axis.set_xlim(left=-0.2)
        axis.axvline(EARLY, **style.REFERENCE)
    style.label_ends(*axes)
    axes[0].set_ylabel("distance of the weights (% of their norm)")
    title = style.message(
        f"After {EARLY} updates one changed digit has moved deeper plain networks farther",
        f"After {EARLY} updates, has one changed digit moved deeper plain networks farther?",
        check(part)[:1],
    )
    note = f"numbers at lines: depth; median over seeds; dotted: {EARLY} updates"
    return style.titled(figure, title, label_of(part), note)


def _distances_figure(
    part: Part, distances_of: Callable[[Part, str, int], dict[int, dict[int, float]]]
) -> tuple[Figure, Sequence[Axes]]:
    """By update, at least 1e-5 per cent; a panel per arm, a line per depth, not yet labelled."""
    figure, axes = plt.subplots(1, 2, sharey=True, layout="constrained")
    for axis, arm in zip(axes, LINES, strict=True):
        for depth in sorted({row.depth for row in part.records if row.arm == arm}):
            by_update: dict[int, list[float]] = {}
            for distances in distances_of(part, arm, depth).values():
                for update, distance in distances.items():
                    by_update.setdefault(update, []).append(max(100 * distance, 1e-5))
            medians = [statistics.median(each) for each in by_update.values()]
            line = {"color": style.depth_colour(depth), "label": str(depth)}
            axis.plot(list(by_update), medians, **line)
        axis.set(title=f"{arm} networks", xlabel="updates", yscale="log")
    return figure, axes


def _draw(axis: Axes, by_seed: Mapping[int, Mapping[int, float]], **line: Any) -> None:
    """The mean over seeds, and each seed thin."""
    places = sorted({place for values in by_seed.values() for place in values})
    for values in by_seed.values():
        own = {"color": line["color"], "linestyle": line.get("linestyle", "-")}
        axis.plot(list(values), list(values.values()), **own, **style.SEED_LINE)
    means = [
        statistics.fmean(values[place] for values in by_seed.values() if place in values)
        for place in places
    ]
    axis.plot(places, means, **line)


def _plain_numbers(axis: Axes, ticks: Sequence[int]) -> None:
    """Numbers without powers at these places of a logarithmic x axis."""
    low, high = axis.get_xlim()
    axis.set_xticks([tick for tick in ticks if low <= tick <= high])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
