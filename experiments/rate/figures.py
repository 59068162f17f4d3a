"""The figures of growth: λ against theory, gradients by layer and by block, shattering."""

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.rate.claims import (
    DEEPEST,
    DEPTH,
    DEPTHS,
    border_theory,
    check,
    correlation,
    label_of,
    ladder,
)
from experiments.rate.measured import (
    PADDINGS,
    REFERENCE,
    STAGES,
    Rate,
    Snapshot,
    log_growth,
    mean_log_growth,
)
from experiments.rate.walk import residual_signals
from experiments.reporting import style
from experiments.reporting.question import Drawing

PADDING_STYLES: Any = {"circular": (style.BLUE, "o"), "zeros": (style.VERMILLION, "s")}
PADDING_NAMES = {"circular": "circular padding", "zeros": "zero padding"}
STAGE_COLOURS = (style.BLUE, style.GREEN, style.PURPLE)
THEORY: Any = {"color": style.BLACK, "linestyle": "--", "linewidth": 1.5}
SEEDS: Any = style.SEEDS
CLOSE = 0.02  # of λ: activations that are nearer share a name in the figure


def drawings(rate: Rate) -> list[Drawing]:
    made: dict[str, tuple[str, Callable[[Rate], Figure]]] = {
        "growth": ("λ, measured against theory", growth_figure),
        "border": ("λ by stage with zero padding, against both theories", border_figure),
        "layers": ("squared gradient by layer, plain and residual", layers_figure),
        "blocks": ("variance and squared gradient by block", blocks_figure),
        "shattering": ("correlation of gradients by depth", shattering_figure),
    }
    return [Drawing(name, alt, partial(draw, rate)) for name, (alt, draw) in made.items()]


def growth_figure(rate: Rate) -> Figure:
    """λ of plain networks against that of theory: seeds as points, means as larger ones."""
    figure, axis = plt.subplots(layout="constrained")
    settings = ladder(PADDINGS[0])
    ends = [0.98 * min(each.growth for each in settings.values()), 1.5]
    axis.plot(ends, ends, **style.REFERENCE)
    for padding, (colour, marker) in PADDING_STYLES.items():
        for setting in ladder(padding).values():
            series = rate.series(mean_log_growth, setting, "plain", DEPTH).values()
            values, drawn = [math.exp(value) for value in series], {"color": colour}
            axis.plot([setting.growth] * len(values), values, ".", **SEEDS, **drawn)
            if values:
                axis.plot(setting.growth, statistics.fmean(values), marker, **drawn)
    axis.set(xlabel="λ of theory", ylabel="λ measured")
    names: list[tuple[float, str]] = []
    for name, setting in sorted(settings.items(), key=lambda item: item[1].growth):
        if names and setting.growth - names[-1][0] < CLOSE:
            names[-1] = (names[-1][0], f"{names[-1][1]}\n{name}")
        else:
            names.append((setting.growth, name))
    top = axis.secondary_xaxis("top")
    top.set_xticks([place for place, _ in names], [name for _, name in names], rotation=90)
    keys: list[Any] = [
        style.key_line(PADDING_NAMES[padding], color=colour, marker=marker, linestyle="none")
        for padding, (colour, marker) in PADDING_STYLES.items()
    ]
    keys.append(style.key_line("as theory says", **style.REFERENCE))
    title = style.message(
        "Where there is no border, λ is within 10 % of theory",
        "Is λ within 10 % of theory where there is no border?",
        check(rate)[:1],
    )
    return style.titled(figure, title, label_of(rate), f"plain-{DEPTH}", keys=keys)


def border_figure(rate: Rate) -> Figure:
    """λ of each stage with zero padding against theory: that without a border, that with one."""
    figure, axes = plt.subplots(1, 2, sharex=True, sharey=True, layout="constrained")
    growths = []
    for setting in ladder("zeros").values():
        for stage, colour in enumerate(STAGE_COLOURS):
            series = rate.series(partial(log_growth, stage=stage), setting, "plain", DEPTH)
            values = [math.exp(value) for value in series.values()]
            theories = (setting.growth, border_theory(setting, stage).growth)
            growths += [*values, *theories]
            for axis, theory in zip(axes, theories, strict=True):
                axis.plot([theory] * len(values), values, ".", color=colour, **SEEDS)
                if values:
                    axis.plot(theory, statistics.fmean(values), "s", color=colour)
    for axis, name in zip(axes, ("without a border", "with a border"), strict=True):
        ends = [min(growths, default=1), max(growths, default=1)]
        axis.plot(ends, ends, **style.REFERENCE)
        axis.set(xlabel="λ of theory", title=f"theory {name}")
    axes[0].set_ylabel("λ measured")
    sides = [REFERENCE.pixels >> stage for stage in range(STAGES)]
    keys: list[Any] = [
        style.key_line(f"{side}×{side} pixels", color=colour, marker="s", linestyle="none")
        for side, colour in zip(sides, STAGE_COLOURS, strict=True)
    ]
    keys.append(style.key_line("as theory says", **style.REFERENCE))
    title = style.message(
        "With a border of zeros λ is within 10 % of the theory with a border",
        "With a border of zeros, is λ within 10 % of the theory with a border?",
        check(rate)[9:10],
    )
    caption = f"plain-{DEPTH}, zero padding, eight activations"
    return style.titled(figure, title, label_of(rate), caption, keys=keys)


def layers_figure(rate: Rate) -> Figure:
    """Squared gradient of each layer over that of the last; mean over seeds, and theory."""
    figure, axes = plt.subplots(1, 2, sharex=True, layout="constrained")
    blocks = (DEEPEST - 2) // (2 * STAGES)
    last = 6 * blocks + 1
    growth = REFERENCE.growth
    firsts = {2 + 2 * blocks * stage for stage in range(1, STAGES)}
    plain = {n: growth ** (last - n) * (2 if n in firsts else 1) for n in range(2, last + 1)}
    walked = [each.gradient for each in residual_signals(blocks)]
    residual = {3 + 2 * number: value / walked[-1] for number, value in enumerate(walked)}
    for axis, (arm, theory) in zip(axes, (("plain", plain), ("residual", residual)), strict=True):
        colour = style.ARM_STYLES[arm][0]
        snapshots = _snapshots(rate, arm)
        layers = list(theory)
        logs = [[_log_ratio(each, layer, last) for layer in layers] for each in snapshots]
        for seed in logs:
            axis.plot(layers, [math.exp(value) for value in seed], color=colour, **style.SEED_LINE)
        if logs:
            means = [math.exp(statistics.fmean(values)) for values in zip(*logs, strict=True)]
            axis.plot(layers, means, color=colour)
        axis.plot(layers, list(theory.values()), **THEORY)
        axis.set(yscale="log", xlabel="layer", title=f"{arm}-{DEEPEST}")
    axes[1].set_title(f"residual-{DEEPEST}, second layers")
    axes[0].set_ylabel("squared gradient, last layer: 1")
    keys = [style.key_line("theory", **THEORY)]
    title = style.message(
        "Gradients grow as powers with shortcuts, exponentially without",
        "Do gradients grow as powers with shortcuts, exponentially without?",
        check(rate)[5:6],
    )
    caption = f"ReLU, circular padding; {len(_snapshots(rate, 'residual'))} seeds drawn"
    return style.titled(figure, title, label_of(rate), caption, keys=keys)


def blocks_figure(rate: Rate) -> Figure:
    """By block of a stage, on axes of logarithms: variance of the output, and squared gradient."""
    figure, axes = plt.subplots(1, 2, sharex=True, layout="constrained")
    blocks = (DEEPEST - 2) // (2 * STAGES)
    theory = residual_signals(blocks)
    snapshots, numbers = _snapshots(rate, "residual"), list(range(1, blocks + 1))
    last = 6 * blocks + 1
    for stage, colour in enumerate(STAGE_COLOURS):
        own = theory[stage * blocks : (stage + 1) * blocks]
        layers = [2 * (stage * blocks + number) + 1 for number in numbers]
        variances = [[(each[n].passed or math.nan) ** 2 for n in layers] for each in snapshots]
        squares = [[math.exp(_log_ratio(each, n, last)) for n in layers] for each in snapshots]
        _by_block(axes[0], numbers, variances, colour)
        _by_block(axes[1], numbers, squares, colour)
        axes[0].plot(numbers, [each.variance for each in own], **THEORY)
        gradients = [each.gradient / theory[-1].gradient for each in own]
        axes[1].plot(numbers, gradients, **THEORY)
    names = ("variance of the block's output", "squared gradient, last block: 1")
    for axis, name in zip(axes, names, strict=True):
        axis.set(xscale="log", yscale="log", xlabel="block of the stage", title=name)
        _plain_ticks(axis.xaxis, (1, 2, 5))
        _plain_ticks(axis.yaxis, (1, 3) if axis is axes[0] else (1,))
    keys = [
        style.key_line(f"stage {stage + 1}", color=colour, marker=".")
        for stage, colour in enumerate(STAGE_COLOURS)
    ]
    keys.append(style.key_line("theory", **THEORY))
    title = style.message(
        "With shortcuts, variance and gradient have the exponents of theory",
        "With shortcuts, do variance and gradient have the exponents of theory?",
        check(rate)[6:7],
    )
    drawn = len(_snapshots(rate, "residual"))
    caption = f"residual-{DEEPEST}, ReLU, circular padding; {drawn} seeds drawn"
    return style.titled(figure, title, label_of(rate), caption, keys=keys)


def shattering_figure(rate: Rate) -> Figure:
    """Correlation of gradients at neighbouring inputs by depth, and the two laws from depth 8."""
    figure, axis = plt.subplots(layout="constrained")
    notes = set()
    for arm, (colour, marker, linestyle) in style.ARM_STYLES.items():
        series = {depth: rate.series(correlation, REFERENCE, arm, depth) for depth in DEPTHS}
        found = {depth: list(own.values()) for depth, own in series.items() if own}
        drawn = {"color": colour, "marker": marker}
        line = {"linestyle": linestyle, "label": arm}
        notes.add(style.draw_seeds(axis, found, style.SEEDS, line, **drawn))
    start = DEPTHS[0]
    laws = {
        "$2^{-L}$": [2.0 ** (start - depth) for depth in DEPTHS],
        "$1/\\sqrt{L}$": [math.sqrt(start / depth) for depth in DEPTHS],
    }
    keys = []
    for (name, law), dashes in zip(laws.items(), (":", "--"), strict=True):
        axis.plot(DEPTHS, law, color=style.GREY, linestyle=dashes, linewidth=1.5)
        keys.append(style.key_line(name, color=style.GREY, linestyle=dashes))
    for arm, (colour, marker, _) in style.ARM_STYLES.items():
        keys.append(style.key_line(arm, color=colour, marker=marker))
    style.depth_axis(axis, DEPTHS)
    axis.set_ylabel("correlation of gradients")
    title = style.message(
        "Gradients shatter as theory says: by halves without shortcuts, slowly with them",
        "Do gradients shatter by half in each layer without shortcuts, as 1/√L with them?",
        check(rate)[7:9],
    )
    caption = "ReLU, circular padding"
    return style.titled(figure, title, label_of(rate), caption, *sorted(notes), keys=keys)


def _snapshots(rate: Rate, arm: str) -> list[Snapshot]:
    """Of the deepest networks, one per seed."""
    own = rate.snapshots.get(REFERENCE, {})
    return [snapshot for cell, snapshot in own.items() if cell[:2] == (arm, DEEPEST)]


def _log_ratio(snapshot: Snapshot, layer: int, last: int) -> float:
    """ln of the squared gradient of a layer over that of the last."""
    one, other = (snapshot[n].response_gradient or math.nan for n in (layer, last))
    return 2 * math.log(one / other)


def _by_block(
    axis: Axes, numbers: Sequence[int], seeds: Sequence[Sequence[float]], colour: str
) -> None:
    """Seeds as points."""
    for values in seeds:
        axis.plot(numbers, values, ".", color=colour, **SEEDS)


def _plain_ticks(axis: Any, digits: Sequence[float]) -> None:
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
