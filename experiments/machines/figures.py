"""The figure of errors by machine and seed."""

from functools import partial

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.judging.pairs import grouped
from experiments.machines.claims import ARMS, Part, check, label_of, machine_of, percent_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import GREY, PALETTE, SEED_LINE, key_line, message, titled

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 0.6  # of the places of one depth


def drawings(part: Part) -> list[Drawing]:
    alt = "training error by depth, machine and seed; lines join the rows of one seed"
    return [Drawing("errors", alt, partial(errors_figure, part))]


def errors_figure(part: Part) -> Figure:
    """One panel per arm: a point per seed and machine, and a grey line per seed."""
    figure, axes = plt.subplots(1, len(ARMS), layout="constrained")
    for axis, arm in zip(axes, ARMS, strict=True):
        _panel(axis, part, arm)
    axes[0].set_ylabel("running training error (%)")
    handles = [
        key_line(name, color=colour, marker=marker, linestyle="none")
        for name, (colour, marker) in _styles(part).items()
    ]
    title = message(
        "Another machine moves the error of plain-56, not that of residual networks",
        "Does another machine move the error of plain-56, and not that of residual networks?",
        check(part)[:2],
    )
    joined = "lines: one seed on several machines"
    return titled(figure, title, label_of(part), joined, keys=handles)


def _styles(part: Part) -> dict[str, tuple[str, str]]:
    """Colour and marker by machine; they repeat after eight."""
    return {
        name: (PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(part.machines)
    }


def _panel(axis: Axes, part: Part, arm: str) -> None:
    depths = sorted(depth for each, depth in part.networks if each == arm)
    styles = _styles(part)
    step = WIDTH / max(1, len(styles) - 1)
    offsets = {name: place * step - WIDTH / 2 for place, name in enumerate(styles)}
    for place, depth in enumerate(depths):
        for rows in grouped(part.networks[arm, depth], lambda row: row.seed).values():
            points = sorted((place + offsets[machine_of(row)], percent_of(row)) for row in rows)
            axis.plot(*zip(*points, strict=True), color=GREY, **SEED_LINE)
            for row in rows:
                colour, marker = styles[machine_of(row)]
                x = place + offsets[machine_of(row)]
                axis.plot(x, percent_of(row), marker, color=colour, alpha=0.8)
    axis.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    axis.set(title=arm, xlabel="depth (weighted layers)")
    axis.set_ylim(bottom=0)
