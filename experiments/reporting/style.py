"""The style of figures: palettes and axes. The same numbers give the same bytes.

Whatever the user's matplotlibrc says: every figure starts from matplotlib's defaults.
"""

import math
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

os.environ["MPLBACKEND"] = "Agg"  # read at import; a backend of the user's may not be installed
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullFormatter, NullLocator
from scipy.optimize import isotonic_regression

from experiments.judging.errors import error_or_chance
from experiments.judging.pairs import grouped
from experiments.judging.verdict import AGAINST, INCONCLUSIVE, REPRODUCED, Claim
from plainres.records.files import write_text
from plainres.records.schema import CurvePoint, Record

SIZE = (10.0, 5.6)  # inches, of every figure: a slide of 16:9
TYPE = 14  # points: at half size it can still be read
LETTERS, TITLE_LETTERS = 9.2, 7.2  # an inch of a caption, and of a title, has about as many
STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.figsize": SIZE,
    "figure.labelsize": "medium",
    "figure.titlesize": TYPE + 2,
    "figure.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": TYPE,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.5,
    "lines.markersize": 8,
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "plainres",
}

# Okabe and Ito's palette, told apart in every common colour blindness, where it has a contrast of 3
# against white (WCAG 2.1, 1.4.11); its orange, sky blue and grey are darker here, for that
BLUE, VERMILLION, GREEN, PURPLE, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"
ORANGE, SKY, GREY = "#B87A00", "#3A93D0", "#6E6E6E"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, BLACK, ORANGE, SKY, GREY)
DEPTH_COLOURS = {
    8: GREY,
    14: ORANGE,
    20: BLUE,
    32: GREEN,
    44: PURPLE,
    56: VERMILLION,
    110: BLACK,
}
ARM_STYLES = {"plain": (VERMILLION, "o", "-"), "residual": (BLUE, "s", "-")}
# Without what changes from day to day
METADATA: Any = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
SEEDS = {"alpha": 0.35}  # style of the points of single seeds
SEED_LINE: Any = {"alpha": 0.5, "linewidth": 1}  # style of their lines
REFERENCE: Any = {"color": GREY, "linestyle": ":", "linewidth": 1.5}
OUTLINE = withStroke(linewidth=3, foreground="white")  # of labels over lines
NOT_MEASURED = "not measured"
MOST_LINES = 5  # of a panel, without thin ones
SHOWN_FIRST = (20, 56, 110, 32, 44)  # depths, where a panel has no room for all
PERCENT_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def shown(depths: Iterable[int]) -> list[int]:
    """The depths that a panel has lines for, at most five; tables have the others."""
    return sorted(sorted(set(depths), key=_rank)[:MOST_LINES])


def _rank(depth: int) -> tuple[int, int]:
    place = SHOWN_FIRST.index(depth) if depth in SHOWN_FIRST else len(SHOWN_FIRST)
    return place, depth


def message(finding: str, question: str, claims: Iterable[Claim]) -> str:
    """The title of a figure: the finding where all these claims hold by a test, else the question.

    With its answer: the verdict; or, where claims have several verdicts, how many have which.
    """
    claims = list(claims)
    counts = Counter(map(_answer, claims))
    if counts.keys() == {REPRODUCED}:
        return finding
    if len(counts) > 1:
        each = ", ".join(f"{count} {answer}" for answer, count in counts.items())
        answer = f"of {len(claims)} claims {each}"
    else:
        answer = next(iter(counts), NOT_MEASURED)
    untested = ", not tested" if claims and all(claim.is_direction for claim in claims) else ""
    return f"{question} {answer[0].upper()}{answer[1:]}{untested}"


def _answer(claim: Claim) -> str:
    if not claim.criteria and claim.summary.startswith("missing"):
        return NOT_MEASURED
    if claim.verdict == INCONCLUSIVE and claim.reason == AGAINST:
        return f"{INCONCLUSIVE}{AGAINST}"
    return {"supports": "supported", "contradicts": "contradicted"}.get(claim.words, claim.words)


def logarithmic_percent(axis: Axes, lowest: float) -> None:
    """A logarithmic y axis for errors in per cent, from a little below `lowest` to 110."""
    bottom = max(PERCENT_TICKS[0], lowest / 1.5)
    axis.set_yscale("log")
    axis.set_ylim(bottom, 110)
    axis.set_yticks([tick for tick in PERCENT_TICKS if tick >= bottom])
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("error (%), logarithmic")


def depth_axis(axis: Axes, depths: Sequence[int]) -> None:
    """A logarithmic x axis with a line at each depth, and a number where there is room for it."""
    axis.set_xlabel("depth (weighted layers)")
    axis.set_xscale("log")
    numbered: list[int] = []
    room = 0.1 * math.log(max(depths) / min(depths))
    for depth in sorted(depths, key=lambda depth: (depth not in _ends(depths), _rank(depth))):
        if all(abs(math.log(depth / other)) >= room for other in numbered):
            numbered.append(depth)
    axis.set_xticks(list(depths), [str(d) if d in numbered else "" for d in depths])
    axis.xaxis.set_minor_locator(NullLocator())


def _ends(depths: Sequence[int]) -> tuple[int, int]:
    return min(depths), max(depths)


def errors_by_depth(records: Sequence[Record], arm: str, measure: str) -> dict[int, list[float]]:
    """Depth → errors of one arm in per cent, one per seed."""
    rows = sorted((row for row in records if row.arm == arm), key=lambda row: (row.depth, row.seed))
    by_depth = grouped(rows, lambda row: row.depth)
    return {d: [100 * error_or_chance(row, measure) for row in by_depth[d]] for d in by_depth}


def mean_curve(
    points: Iterable[CurvePoint], measure: str = "train_error", factor: float = 100
) -> tuple[list[int], list[float]]:
    """Iterations, and the mean over the seeds that were measured then; errors in per cent."""
    measured = (point for point in points if getattr(point, measure) is not None)
    by_iteration = grouped(measured, lambda point: point.iteration)
    steps = sorted(by_iteration)
    values = ([factor * getattr(p, measure) for p in by_iteration[step]] for step in steps)
    return steps, list(map(statistics.fmean, values))


def draw_curves(
    axis: Axes,
    points: Sequence[CurvePoint],
    measure: str = "train_error",
    factor: float = 100,
    **style: Any,
) -> None:
    """The mean over seeds as a line, and behind it each seed as a thin one."""
    seeds = grouped(points, lambda point: point.seed).values()
    for own in seeds if len(seeds) > 1 else ():
        thin = {**style, **SEED_LINE, "label": None}
        axis.plot(*mean_curve(own, measure, factor), **thin)
    axis.plot(*mean_curve(points, measure, factor), **style)


def draw_seeds(
    axis: Axes,
    values: Mapping[int, Sequence[float]],
    points: Mapping[str, Any],
    line: Mapping[str, Any],
    **style: Any,
) -> str:
    """Seeds as points, and the line of their means: open where there are fewer than elsewhere.

    Args:
        values: x → one value per seed.
        points, line: style of each, beside the `style` of both.

    Returns:
        What open markers stand for; "" where there are none.
    """
    for x, seeds in values.items():
        axis.plot([x] * len(seeds), seeds, linestyle="none", **points, **style)
    means = {x: statistics.fmean(seeds) for x, seeds in values.items()}
    axis.plot(list(means), list(means.values()), **line, **style)
    most = max(map(len, values.values()), default=0)
    few = {x: means[x] for x, seeds in values.items() if len(seeds) < most}
    if not few:
        return ""
    marks: Any = {"linestyle": "none", "markersize": 9, "markerfacecolor": "white"}
    axis.plot(list(few), list(few.values()), **{**style, **marks})
    counts = sorted({len(values[x]) for x in few})
    numbers = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return f"open: {numbers} of {most} seeds"


def label_ends(*axes: Axes) -> None:
    """The label of each line at its right end, in its colour; labels keep apart from each other.

    Call it when everything is drawn: it needs the limits of the axes.
    """
    for axis in axes:
        _label_ends(axis)


def _label_ends(axis: Axes) -> None:
    ends: dict[str, tuple[Any, float, float]] = {}  # label → colour and end of its first line
    axis.get_ylim()  # brings the limits up to date
    to_axis = axis.transScale + axis.transLimits
    for line in axis.get_lines():
        label, points = str(line.get_label()), np.asarray(line.get_xydata(), float)
        drawn = points[np.isfinite(points[:, 1])]
        named = not label.startswith("_") and line.get_linestyle() != "None"
        if named and len(drawn) and label not in ends:
            ends[label] = (line.get_color(), *to_axis.transform(drawn[-1]))
    rows = axis.get_subplotspec().get_gridspec().nrows  # type: ignore[union-attr]
    gap = 1.25 * TYPE / (72 * SIZE[1] * (0.62 if rows == 1 else 0.52) / rows)
    for labels in grouped(ends, lambda label: round(ends[label][1], 1)).values():
        heights = spread([ends[label][2] for label in labels], gap)
        for label, height in zip(labels, heights, strict=True):
            colour, x, _ = ends[label]
            text = axis.text(x + 0.035, height, label, color=colour, va="center")
            text.set(transform=axis.transAxes, fontweight="bold", path_effects=[OUTLINE])


def spread(
    heights: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0
) -> list[float]:
    """Heights for labels, of one or more: in their order, near them, at least `gap` apart.

    The sum of squared moves is the smallest. Within `low` and `high`, where there is room.
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    steps = [gap * place for place in range(len(order))]
    lowest = isotonic_regression([heights[i] - s for i, s in zip(order, steps, strict=True)]).x
    inside = np.clip(lowest, low, max(low, high - steps[-1]))
    placed = {i: float(x) + s for i, x, s in zip(order, inside, steps, strict=True)}
    return [placed[place] for place in range(len(heights))]


def _plain(text: str) -> str:
    """A label may have dollars, which are not to begin a formula."""
    return text.replace("$", r"\$")


def titled(figure: Figure, title: str, *caption: str, keys: Sequence[Artist] = ()) -> Figure:
    """The figure with the title that says its message, a caption below, and keys above that.

    Lines that are wider than the figure are wrapped.

    Args:
        caption: what the data are, which other figures need not have.
        keys: of a legend, where lines cannot have their labels.
    """
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width = figure.get_figwidth()
    figure.suptitle(_plain(_broken_title(title, int(TITLE_LETTERS * width))), wrap=True)
    text = _broken_caption([*filter(None, caption)], int(LETTERS * width))
    below = figure.supxlabel(_plain(text), color=GREY, wrap=True)
    below.set_in_layout(False)  # the layout would draw it over the legend
    bottom = 0.02 + below.get_window_extent(renderer).height / figure.bbox.height
    if keys:
        shape: Any = {"ncols": _columns(keys, int(LETTERS * width)), "frameon": False}
        place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, bottom)}
        legend = figure.legend(handles=keys, borderaxespad=0, borderpad=0, **shape, **place)
        bottom += 0.02 + legend.get_window_extent(renderer).height / figure.bbox.height
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(rect=(0, bottom, 1, 1 - bottom))
    return figure


def _broken_title(title: str, width: int) -> str:
    """In lines of about the same length; the answer to a question in a line of its own."""
    question, mark, answer = title.partition("? ")
    if len(title) > width and mark and max(len(question) + 1, len(answer)) <= width:
        return f"{question}?\n{answer}"
    lines = wrap(title, width)
    while len(lines) > 1 and len(wrap(title, width - 1)) == len(lines):
        width -= 1
    return "\n".join(wrap(title, width))


def _broken_caption(parts: Sequence[str], width: int) -> str:
    """Parts with a point between them, broken between parts where there is room."""
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines += wrap(part, width)
    return "\n".join(filter(None, lines))


def _columns(keys: Sequence[Artist], letters: int) -> int:
    """Of a legend: all in one row where they fit, else rows of about the same length."""
    widths = [8 + len(str(key.get_label())) for key in keys]
    if sum(widths) <= letters:
        return len(keys)
    rows = math.ceil(len(keys) / max(1, letters // max(widths)))
    return math.ceil(len(keys) / rows)


def depth_colour(depth: int) -> str:
    return DEPTH_COLOURS.get(depth, SKY)


def key_line(label: str, **style: Any) -> Line2D:
    """A line of a legend that stands for no single line of the figure."""
    return Line2D([], [], label=label, **style)


def _settle(figure: Figure) -> None:
    """Lays the figure out for good: the last digits of positions differ from process to process.

    SVG files would have them in the names of their clipping paths.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis in figure.axes:
        left, bottom, width, height = axis.get_position(original=True).bounds
        axis.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))


def publish(folder: Path, figures: Mapping[str, Callable[[], Figure]], readme: str) -> list[Path]:
    """Writes figures/<name>.png and .svg and README.md of a results folder; returns their paths."""
    written = []
    for name, draw in figures.items():
        (folder / "figures").mkdir(exist_ok=True)
        with plt.style.context(STYLE, after_reset=True):
            figure = draw()
            _settle(figure)
            for suffix, metadata in METADATA.items():
                written.append(folder / "figures" / f"{name}{suffix}")
                figure.savefig(written[-1], metadata=metadata)
            plt.close(figure)
    path = folder / "README.md"
    write_text(path, readme)
    return [*written, path]
