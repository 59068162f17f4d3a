"""The figures of a thousand layers."""

from functools import partial

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.reporting.question import Drawing
from experiments.reporting.style import mean_curve, titled
from experiments.thousand.claims import MEMORY, DeepRuns, MemoryRuns, Part, label_of

# Okabe and Ito's palette; the styles of the lines repeat what the colours say
STYLES = {
    ("plain", 56): ("#D55E00", "--"),
    ("residual", 110): ("#000000", "-"),
    ("residual", 302): ("#56B4E9", "-"),
    ("residual", 602): ("#009E73", "-."),
    ("residual", 1202): ("#0072B2", ":"),
}
OTHER_STYLE = ("#CC79A7", "-")


def drawings(part: Part) -> list[Drawing]:
    if isinstance(part, MemoryRuns):
        return [Drawing(MEMORY, "memory against depth", partial(memory_figure, part))]
    alt = f"running training error against iteration, {part.name}"
    return [Drawing(f"curves_{part.name}", alt, partial(curves_figure, part))]


def curves_figure(runs: DeepRuns) -> Figure:
    """Running training error against iteration, one line per network, means over seeds."""
    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for arm, depth in sorted({(row.arm, row.depth) for row in runs.records}):
        means = mean_curve(p for p in runs.curves if (p.arm, p.depth) == (arm, depth))
        colour, line = STYLES.get((arm, depth), OTHER_STYLE)
        label = f"{arm}-{depth}"
        axis.plot(*means, color=colour, linestyle=line, linewidth=1.6, label=label)
    axis.set(xlabel="iteration", ylabel="running training error (%)")
    axis.legend(loc="best", fontsize=9)
    return titled(figure, "A thousand layers: training error against iteration", label_of(runs))


def memory_figure(runs: MemoryRuns) -> Figure:
    """Peak of memory against depth without and with checkpointing, one marker per cell."""
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for records, name, colour, marker in (
        (runs.stored, "activations stored", "#D55E00", "o"),
        (runs.recomputed, "activations recomputed (checkpointing)", "#0072B2", "s"),
    ):
        rows = sorted(records, key=lambda row: (row.depth, row.seed))
        depths, memory = [r.depth for r in rows], [r.peak_memory_mib / 1024 for r in rows]
        axis.plot(depths, memory, color=colour, marker=marker, label=name, linewidth=1.4)
    axis.set(xlabel="depth (weighted layers)", ylabel="peak of the process's memory (GiB)")
    axis.set_ylim(bottom=0)
    axis.legend(loc="best", fontsize=9)
    return titled(figure, "Memory against depth", label_of(runs))
