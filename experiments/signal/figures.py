"""The figures of what flows forward and backward."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.judging.pairs import grouped
from experiments.reporting import style
from experiments.reporting.question import Drawing
from experiments.signal import claims
from plainres.records.schema import DIVERGED

NORM_NAMES = {"batch": "batch normalisation", "none": "no normalisation"}
Value = Callable[[claims.ProbePoint], float | None]


@dataclass(frozen=True)
class During:
    """What one figure of training shows: a measure, and its unit."""

    question: str
    quantity: str
    measure: claims.Measure
    scaled: Callable[[float], float]
    logarithmic: bool = True


DURING = {
    "gradients": During(
        "Do gradients vanish or explode during training?",
        "gradient, second / last layer",
        claims.gradient_gain,
        lambda power: 10**power,
    ),
    "responses": During(
        "How large do responses grow during training?",
        "mean response",
        lambda layers: claims.power(claims.mean_response(layers)),
        lambda power: 10**power,
    ),
    "correlation": During(
        "Do gradients stay shattered during training?",
        "correlation of gradients",
        claims.correlation,
        lambda value: value,
        logarithmic=False,
    ),
    "dead": During(
        "How many channels die during training?",
        "dead channels (%)",
        claims.dead,
        lambda value: 100 * value,
        logarithmic=False,
    ),
}


GAPS = "no line where a seed has no value"


def drawings(signal: claims.Signal) -> list[Drawing]:
    draw = {
        "responses": partial(responses_figure, signal),
        "gradients": partial(gradients_figure, signal),
        "by_depth": partial(depth_figure, signal),
    }
    if signal.trained:
        draw["gradients_end"] = partial(gradients_figure, signal, at_end=True)
        for name, during in DURING.items():
            draw[f"training_{name}"] = partial(training_figure, signal, during)
    return [Drawing(f"{signal.scale}-{n}", n.replace("_", " "), draw[n]) for n in draw]


def responses_figure(signal: claims.Signal) -> Figure:
    """The paper's Figure 7: standard deviation of each layer's response.

    With batch normalisation after training, where there was any; else at the start.
    """
    figure, panels = _panels(signal)
    for (norm, arm), axis in panels.items():
        at_end = signal.trained and norm == "batch"
        _layers(axis, signal, norm, arm, lambda point: point.response, at_end)
        if not signal.trained and norm == "batch":  # where all are 1
            axis.set_yscale("linear")
            axis.set_ylim(0, 2)
    title = "How large is each layer's response at the start?"
    if signal.trained:
        title = style.message(
            "After training, responses are smaller with shortcuts",
            "After training, are responses smaller with shortcuts?",
            claims.check(signal)[4:5],
        )
    note = "without normalisation: at the start" if signal.trained else "at the start"
    return _finished(figure, panels, signal, title, "standard deviation of response", note)


def gradients_figure(signal: claims.Signal, at_end: bool = False) -> Figure:
    """Norms of the gradients of convolutions' outputs, by layer."""
    figure, panels = _panels(signal)
    for (norm, arm), axis in panels.items():
        _layers(axis, signal, norm, arm, lambda point: point.response_gradient, at_end)
    moment = "after the last iteration" if at_end else "at the start"
    title = f"How large are gradients {moment}, by layer?"
    if not signal.trained:  # else the claims are about the end too
        title = style.message(
            "Gradients are healthy in plain networks with normalisation",
            "Are gradients healthy in plain networks with normalisation?",
            claims.check(signal)[:2],
        )
    note = moment
    if at_end:
        lost = sum(record.status == DIVERGED for record in signal.all_records)
        note = f"{GAPS}; without {lost} runs that diverged" if lost else GAPS
    return _finished(figure, panels, signal, title, "gradient of the output (norm)", note)


def training_figure(signal: claims.Signal, during: During) -> Figure:
    """One measure during training, one line per network."""
    figure, panels = _panels(signal)
    for (norm, arm), axis in panels.items():
        for depth in style.shown(signal.depths(norm, arm)):
            means = _means(signal, norm, arm, depth, during.measure)
            values = [during.scaled(mean) for mean in means.values()]
            axis.plot(
                list(means), values, color=style.depth_colour(depth), marker=".", label=str(depth)
            )
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xticks([0, 1, 10, 100, 1000])
        if during.logarithmic:
            axis.set_yscale("log")
    quantity = during.quantity
    return _finished(figure, panels, signal, during.question, quantity, GAPS, of="iteration")


def depth_figure(signal: claims.Signal) -> Figure:
    """By depth, at the start: correlation of neighbouring gradients, and dead channels.

    Seeds as points, means as lines.
    """
    figure, axes = plt.subplots(1, 2, layout="constrained")
    panels: tuple[tuple[str, claims.Measure, float], ...] = (
        ("correlation of neighbouring gradients", claims.correlation, 1),
        ("dead channels (%)", claims.dead, 100),
    )
    styles: Any = [(arm, *style.ARM_STYLES[arm]) for arm in claims.ARMS]
    keys = [style.key_line(arm, color=colour, marker=marker) for arm, colour, marker, _ in styles]
    lines = dict(zip(claims.NORMS, ("-", ":"), strict=True))
    keys += [style.key_line(NORM_NAMES[n], color=style.GREY, linestyle=lines[n]) for n in lines]
    notes = set()
    for axis, (name, measure, factor) in zip(axes, panels, strict=True):
        for arm, colour, marker, _ in styles:
            for norm, line in lines.items():
                depths = signal.depths(norm, arm)
                series = {d: signal.series(claims.Quantity(measure, norm, arm, d)) for d in depths}
                measured = {d: values.values() for d, values in series.items() if values}
                scaled = {d: [factor * v for v in values] for d, values in measured.items()}
                drawn = {"color": colour, "marker": marker}
                notes.add(style.draw_seeds(axis, scaled, style.SEEDS, {"linestyle": line}, **drawn))
        axis.set(xlabel="depth (weighted layers)", title=name)
    title = style.message(
        "Gradients shatter with depth in plain networks, less with shortcuts",
        "Do gradients shatter with depth in plain networks, and less with shortcuts?",
        claims.check(signal)[3:4],
    )
    label = claims.label_of(signal)
    return style.titled(figure, title, label, "at the start", *sorted(notes), keys=keys)


def _panels(signal: claims.Signal) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Panels by normalisation (rows) and arm (columns)."""
    figure, axes = plt.subplots(2, 2, sharex=True, sharey="row", layout="constrained")
    panels = {}
    for row, norm in zip(axes, claims.NORMS, strict=True):
        for axis, arm in zip(row, claims.ARMS, strict=True):
            axis.set_title(f"{arm}, {NORM_NAMES[norm]}")
            panels[norm, arm] = axis
    return figure, panels


def _or_gap(value: float | None) -> float:
    """NaN where there is no value: the line has a gap."""
    return math.nan if value is None else value


def _layers(
    axis: Axes, signal: claims.Signal, norm: str, arm: str, value: Value, at_end: bool
) -> None:
    """One line per depth: value against layer, geometric mean over seeds, logarithmic axis.

    A gap where the value of any seed is 0.
    """
    for depth in style.shown(signal.depths(norm, arm)):
        snapshots = signal.by_seed(norm, arm, depth, at_end).values()
        points = (point for snapshot in snapshots for point in snapshot[1:])
        by_layer = grouped(points, lambda point: point.layer)
        powers = (
            [_or_gap(claims.power(value(point))) for point in layer] for layer in by_layer.values()
        )
        means = [10 ** statistics.fmean(seeds) for seeds in powers]
        named: Any = {"color": style.depth_colour(depth), "label": str(depth), "linewidth": 2}
        axis.plot(list(by_layer), means, **named)
    axis.set_yscale("log")


def _means(
    signal: claims.Signal, norm: str, arm: str, depth: int, measure: claims.Measure
) -> dict[int, float]:
    """Iteration → mean over the seeds that were measured then; NaN, a gap, where one has none."""
    values: dict[int, list[float]] = {}
    for cell, snapshots in signal.snapshots.items():
        if cell[:3] == (norm, arm, depth):
            for iteration, snapshot in snapshots.items():
                values.setdefault(iteration, []).append(_or_gap(measure(snapshot)))
    return {iteration: statistics.fmean(values[iteration]) for iteration in sorted(values)}


def _finished(
    figure: Figure,
    panels: Mapping[tuple[str, str], Axes],
    signal: claims.Signal,
    title: str,
    quantity: str,
    note: str = "",
    of: str = "layer",
) -> Figure:
    """With title, caption, and the names of axes and lines."""
    for (norm, _), axis in panels.items():
        if norm == claims.NORMS[-1]:
            axis.set_xlabel(of)
    figure.supylabel(quantity)
    depths = sorted({depth for cell in panels for depth in style.shown(signal.depths(*cell))})
    keys = [style.key_line(f"{depth} layers", color=style.depth_colour(depth)) for depth in depths]
    return style.titled(figure, title, claims.label_of(signal), note, keys=keys)
