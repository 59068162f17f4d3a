"""The figures of a thousand layers."""

from functools import partial

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.pairs import grouped
from experiments.reporting import style
from experiments.reporting.question import Drawing
from experiments.thousand.claims import (
    DEEPEST,
    LONG,
    LONG_DEPTHS,
    MEMORY,
    PLAIN,
    RECOMPUTED,
    STORED,
    DeepRuns,
    MemoryRuns,
    Part,
    check,
    label_of,
)

# The styles of the lines repeat what the colours say
STYLES = {
    PLAIN: (style.VERMILLION, "--"),
    ("residual", 110): (style.BLACK, "-"),
    ("residual", 302): (style.PURPLE, "-"),
    ("residual", 602): (style.GREEN, "-."),
    ("residual", 1202): (style.BLUE, ":"),
}
OTHER_STYLE = (style.SKY, "-")


def drawings(part: Part) -> list[Drawing]:
    if isinstance(part, MemoryRuns):
        return [Drawing(MEMORY, "memory against depth", partial(memory_figure, part))]
    if part.name == LONG:
        alt = "training error by depth; thin lines join the networks of one seed"
        return [Drawing(f"errors_{LONG}", alt, partial(errors_figure, part))]
    alt = f"running training error against iteration, {part.name}"
    return [Drawing(f"curves_{part.name}", alt, partial(curves_figure, part))]


def curves_figure(runs: DeepRuns) -> Figure:
    """Running training error against iteration, one line per network, means over seeds."""
    figure, axis = plt.subplots(layout="constrained")
    for arm, depth in sorted({(row.arm, row.depth) for row in runs.records}):
        means = style.mean_curve(p for p in runs.curves if (p.arm, p.depth) == (arm, depth))
        colour, line = STYLES.get((arm, depth), OTHER_STYLE)
        axis.plot(*means, color=colour, linestyle=line, label=f"{arm}-{depth}")
    axis.set(xlabel="iteration", ylabel="running training error (%)")
    style.label_ends(axis)
    title = style.message(
        f"Residual networks of up to {DEEPEST:,} layers train, plain-{PLAIN[1]} falls behind",
        f"Do residual networks of up to {DEEPEST:,} layers train better than plain-{PLAIN[1]}?",
        check(runs)[:-1],
    )
    return style.titled(figure, title, label_of(runs))


def errors_figure(runs: DeepRuns) -> Figure:
    """Running training error against depth: each seed, and the mean over seeds."""
    figure, axis = plt.subplots(layout="constrained")
    for rows in grouped(runs.records, lambda row: row.seed).values():
        own = style.errors_by_depth(rows, "residual", "train_error")
        axis.plot(
            list(own), [errors[0] for errors in own.values()], color=style.GREY, **style.SEED_LINE
        )
    errors = style.errors_by_depth(runs.records, "residual", "train_error")
    few = style.draw_seeds(
        axis, errors, style.SEEDS, {"label": "residual"}, color=style.BLUE, marker="o"
    )
    style.depth_axis(axis, LONG_DEPTHS)
    axis.set_ylabel("running training error (%)")
    style.label_ends(axis)
    title = style.message(
        f"Residual error goes on falling to {LONG_DEPTHS[-1]} layers",
        f"Does residual error go on falling to {LONG_DEPTHS[-1]} layers?",
        check(runs),
    )
    return style.titled(figure, title, label_of(runs), few or "thin: one seed")


def memory_figure(runs: MemoryRuns) -> Figure:
    """Peak of memory against depth without and with checkpointing, one marker per cell."""
    figure, axis = plt.subplots(layout="constrained")
    for records, name, colour, marker in (
        (runs.stored, STORED, style.VERMILLION, "o"),
        (runs.recomputed, RECOMPUTED, style.BLUE, "s"),
    ):
        rows = sorted(records, key=lambda row: (row.depth, row.seed))
        depths, memory = [r.depth for r in rows], [r.peak_memory_mib / 1024 for r in rows]
        axis.plot(depths, memory, color=colour, marker=marker, label=name)
    axis.set(xlabel="depth (weighted layers)", ylabel="peak of the process's memory (GiB)")
    axis.set_ylim(bottom=0)
    style.label_ends(axis)
    title = style.message(
        f"Recomputed activations take less than half of the memory of {DEEPEST:,} layers",
        f"Do recomputed activations take less than half of the memory of {DEEPEST:,} layers?",
        check(runs)[:1],
    )
    return style.titled(figure, title, label_of(runs))
