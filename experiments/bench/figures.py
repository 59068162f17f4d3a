"""Tables → figures and generated README: `python -m experiments.bench.figures results/bench`.

Needs the tables and no torch. The same tables give the same bytes.
"""

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from scipy import stats

from experiments.bench import floor
from experiments.bench.parts import (
    BARE_LOOP,
    CELL,
    COMMAND,
    DIGITS,
    EAGER,
    LIBRARIES,
    ONE_AT_A_TIME,
    ONE_SWEEP,
    PARTS,
    PLAINRES,
    SIDE_BY_SIDE,
    TEN_COMMANDS,
    TEXTBOOK,
    THOUSAND,
)
from experiments.bench.tables import (
    Measurement,
    Spread,
    against_target,
    by_round,
    distinct,
    measured_ways,
    number,
    ratio,
    spread,
)
from experiments.reporting.markdown import markdown
from experiments.reporting.style import publish
from plainres.records.files import read_table

Rows = Sequence[Measurement]

COLOURS = {TEXTBOOK: "#999999", BARE_LOOP: "#E69F00", PLAINRES: "#0072B2", SIDE_BY_SIDE: "#009E73"}
LABELS = {**{way: way for way in COLOURS}, BARE_LOOP: "bare loop"}
SERIES_STYLES = (("#0072B2", "o"), ("#D55E00", "s"))
SPEED = "images_per_second"

# Targets: what the project wants of itself on any machine.
PLAINRES_TO_TEXTBOOK, SIDE_BY_SIDE_TO_TEXTBOOK = 2.1, 2.5
PLAINRES_TO_BARE_LOOP, PLAINRES_TO_BARE_LOOP_ON_DIGITS = 0.95, 0.85
SWEEP_GAIN, SWEEP_TO_WORK = 1.4, 1.1
COMMAND_SECONDS, FIGURES_SECONDS = 1.0, 5.0
FIRST_CELL_SECONDS, LATER_CELL_SECONDS = 4.0, 1.0
THOUSAND_GIB = 16


@dataclass(frozen=True)
class Series:
    """Points of part scaling that differ in `name` only; medians over rounds, as in `values`."""

    case: str
    name: str
    values: list[int]
    seconds: list[float]
    mib: list[float]
    multiply_adds: list[float]

    @property
    def fit(self) -> tuple[float, float, float]:
        """Slope (seconds per multiply-add), intercept (seconds) and r²."""
        return _line(self.multiply_adds, self.seconds)


def columns(rows: Rows) -> list[str]:
    heads = ["plainres / textbook", "side by side / textbook", "plainres / bare loop"]
    speeds = [["images/s", *LABELS.values()]]
    ratios = [["ratio", *(cell for head in heads for cell in (head, ""))]]
    for case in distinct(row.case for row in rows):
        speed = {way: by_round(rows, case, way, SPEED) for way in LABELS}
        medians = (_shown(spread(values)) for values in speed.values())
        speeds.append([case + _precision(rows, case), *medians])
        on_digits = DIGITS.name in case
        for_loop = PLAINRES_TO_BARE_LOOP_ON_DIGITS if on_digits else PLAINRES_TO_BARE_LOOP
        line = [case]
        for way, base, target in (
            (PLAINRES, TEXTBOOK, PLAINRES_TO_TEXTBOOK),
            (SIDE_BY_SIDE, TEXTBOOK, SIDE_BY_SIDE_TO_TEXTBOOK),
            (PLAINRES, BARE_LOOP, for_loop),
        ):
            measured = ratio(speed[way], speed[base])
            line += [_shown(measured), against_target(measured, least=target)]
        ratios.append(line)
    figure = "![images per second, relative to the textbook loop](figures/columns.png)"
    return [figure, "", *markdown(speeds), "", *markdown(ratios)]


def sweep(rows: Rows) -> list[str]:
    case = rows[0].case
    heads = ["", "seconds", "cells per hour", "seconds within cells"]
    table = [[*heads, f"cells per hour / {ONE_AT_A_TIME}", "seconds / (work / cores)"]]
    reference = by_round(rows, case, ONE_AT_A_TIME, "cells_per_hour")
    gains, loads = {}, {}
    for way in (ONE_SWEEP, ONE_AT_A_TIME, TEN_COMMANDS):
        names = ("wall_seconds", "cells_per_hour", "work_seconds")
        wall, per_hour, work = (by_round(rows, case, way, name) for name in names)
        slots = rows[0].cores if way == ONE_SWEEP else 1
        gains[way] = ratio(per_hour, reference)
        loads[way] = ratio(wall, {at: value / slots for at, value in work.items()})
        spreads = (spread(wall), spread(per_hour), spread(work), gains[way], loads[way])
        table.append([way, *map(_shown, spreads)])
    gain = against_target(gains[ONE_SWEEP], least=SWEEP_GAIN)
    load = against_target(loads[ONE_SWEEP], most=SWEEP_TO_WORK)
    return [
        f"{case.capitalize()}.",
        f"Each cell has all cores; with `{ONE_SWEEP}` it has one thread.",
        "",
        *markdown(table),
        "",
        f"- {ONE_SWEEP} / {ONE_AT_A_TIME}: {gain}",
        f"- whole sweep / (work / cores): {load}",
    ]


def startup(rows: Rows) -> list[str]:
    def lines_of(way: str, quantity: str, most: float | None, text: str = "{}") -> list[list[str]]:
        lines = []
        for case in distinct(row.case for row in rows if row.way == way):
            measured = spread(by_round(rows, case, way, quantity))
            at_most = FIGURES_SECONDS if "figures" in case else most
            target = "" if at_most is None else against_target(measured, most=at_most)
            imports = by_round(rows, case, COMMAND, "imports_torch")
            torch = ("**yes**" if any(imports.values()) else "no") if imports else ""
            lines.append([text.format(case), _shown(measured), target, torch])
        return lines

    first = "{}: from the start of the process to the end of the first iteration"
    cells = zip(
        lines_of(CELL, "first_cell_seconds", FIRST_CELL_SECONDS, first),
        lines_of(CELL, "later_cell_seconds", LATER_CELL_SECONDS, "{}: a later cell of the process"),
        strict=True,
    )
    return markdown(
        [
            ["", "seconds", "", "imports torch"],
            *lines_of(COMMAND, "seconds", COMMAND_SECONDS, "`{}`"),
            *lines_of(LIBRARIES, "seconds", None, "`{}`, which every first cell needs"),
            *(line for pair in cells for line in pair),
        ]
    )


def scaling(rows: Rows) -> list[str]:
    points = [["series", "", "10⁹ multiply-adds", "seconds per iteration", "MiB"]]
    fits = [["series", "against", "slope", "intercept", "r²"]]
    for one in series_of(rows):
        for value, seconds, mib, work in zip(
            one.values, one.seconds, one.mib, one.multiply_adds, strict=True
        ):
            size = [number(work / 1e9), number(seconds), f"{mib:,.0f}"]
            points.append([one.case, f"{value:,}", *size])
        lines = {("multiply-adds", "10⁹", 1e9): one.fit} if len(one.values) > 2 else {}
        if lines and one.name == "depth":
            lines["depth", "layer", 1] = _line(one.values, one.seconds)
        for (against, unit, scale), (slope, intercept, r_squared) in lines.items():
            per_unit = f"{_ms(slope * scale)} per {unit}"
            fits.append([one.case, against, per_unit, _ms(intercept), f"{r_squared:.4f}"])
    peak = spread(by_round(rows, THOUSAND, BARE_LOOP, "peak_memory_mib"))
    taken = spread(_seconds_per_iteration(rows, THOUSAND, BARE_LOOP))
    thousand = f"{THOUSAND}: not measured; `make bench PARTS=scaling THOUSAND=1` measures it."
    if peak and taken:
        gib = Spread(peak.median / 1024, peak.low / 1024, peak.high / 1024, peak.rounds)
        target = against_target(gib, most=THOUSAND_GIB)
        thousand = f"{THOUSAND}: the first iteration takes {taken} s and {gib} GiB ({target})."
    return [
        "The bare loop in float32 on all cores. Fits are least squares.",
        "",
        "![time and memory by depth, width, image size and batch size](figures/scaling.png)",
        "",
        *markdown(fits),
        "",
        *markdown(points),
        "",
        *_paragraph(thousand),
    ]


def agreement(rows: Rows) -> list[str]:
    reference = rows[0].way
    numbers = (row.quantity.removeprefix("loss ") for row in rows if row.value is not None)
    steps = sorted({int(text) for text in numbers})
    ends = (steps[0], steps[-1])
    heads = [f"loss of iteration {step}" for step in ends]
    table = [["", *heads, f"largest relative deviation from {reference}"]]
    for case in distinct(row.case for row in rows):
        expected = {step: by_round(rows, case, reference, f"loss {step}") for step in steps}
        for way in measured_ways(rows, case):
            losses = {step: by_round(rows, case, way, f"loss {step}") for step in steps}
            deviations = [
                abs(losses[step][at] / expected[step][at] - 1)
                for step in steps
                for at in losses[step].keys() & expected[step].keys()
            ]
            medians = [f"{statistics.median(losses[step].values()):.4f}" for step in ends]
            table.append([f"{case}, {way}", *medians, f"{max(deviations, default=math.nan):.1e}"])
    return [
        f"The first {steps[-1]} iterations at the paper's shapes, random pixels and labels; losses",
        "in nats per image. Rounding differs, and the differences grow over the iterations.",
        "",
        *markdown(table),
    ]


def gpu(rows: Rows) -> list[str]:
    heads = ["", "images/s, all cells", "ms per iteration of one cell", "× floor"]
    table = [[*heads, "first iterations, s", "MiB per cell"]]
    for case in distinct(row.case for row in rows):
        for way in measured_ways(rows, case):
            speed = by_round(rows, case, way, SPEED)
            shape = next(row for row in rows if (row.case, row.way) == (case, way))
            first_word = way.split(" ")[0]
            copies = int(first_word) if first_word.isdigit() else 1
            images = 1e3 * copies * (shape.batch_size or 0)
            milliseconds = {at: images / value for at, value in speed.items()}
            lowest = 1e3 * max(floor.seconds(shape.depth or 0)) / floor.ITERATIONS
            share = {at: value / copies / lowest for at, value in milliseconds.items()}
            first, peak = (
                by_round(rows, case, way, name)
                for name in ("first_iteration_seconds", "peak_memory_mib")
            )
            spreads = map(spread, (speed, milliseconds, share, first, peak))
            table.append([f"{case}, {way}", *map(_shown, spreads)])
    return [
        f"plainres in bf16. `{EAGER}` starts each kernel from Python; otherwise one CUDA graph",
        "holds an iteration. × floor is GPU time per iteration over that of",
        "`python -m experiments.bench.floor`, which was counted for an H100.",
        "",
        *markdown(table),
    ]


SECTIONS = {section.__name__: section for section in (columns, sweep, startup, scaling)}
SECTIONS |= {"agreement": agreement, "gpu": gpu}


def series_of(rows: Rows) -> list[Series]:
    """The series of part scaling that have a point."""
    series = []
    for case in distinct(row.case for row in rows if row.case != THOUSAND):
        ways = measured_ways(rows, case)
        if not ways:
            continue
        columns = (
            [_seconds_per_iteration(rows, case, way) for way in ways],
            [by_round(rows, case, way, "peak_memory_mib") for way in ways],
            [by_round(rows, case, way, "multiply_adds") for way in ways],
        )
        medians = ([statistics.median(one.values()) for one in column] for column in columns)
        name = ways[0].split(" ")[0]
        series.append(Series(case, name, [int(way.split(" ")[1]) for way in ways], *medians))
    return series


def columns_figure(rows: Rows) -> Figure:
    """Images per second of each way relative to the textbook's of the same round."""
    cases = distinct(row.case for row in rows)
    figure, axis = plt.subplots(figsize=(10, 4.4), layout="constrained")
    ways = [way for way in COLOURS if way != TEXTBOOK]
    for place, way in enumerate(ways):
        for position, case in enumerate(cases):
            speeds = [by_round(rows, case, one, SPEED) for one in (way, TEXTBOOK)]
            if measured := ratio(*speeds):
                x = position + (place - (len(ways) - 1) / 2) * 0.27
                median = measured.median
                ends = [[median - measured.low], [measured.high - median]]
                axis.bar(x, median, 0.25, yerr=ends, color=COLOURS[way], capsize=3)
    axis.axhline(1, color=COLOURS[TEXTBOOK], linewidth=1.2)
    labels = [(case + _precision(rows, case)).replace(", ", "\n") for case in cases]
    axis.set_xticks(range(len(cases)), labels)
    axis.set_ylabel("images/s, textbook = 1")
    patches = [Patch(color=COLOURS[way], label=label) for way, label in LABELS.items()]
    axis.legend(handles=patches, frameon=True, fontsize=9)
    title = "Training speed relative to a textbook loop"
    figure.suptitle(f"{title}\n{_machine(rows)}", fontsize=11)
    return figure


def scaling_figure(rows: Rows) -> Figure:
    """Seconds per iteration with the fit above, peak memory below; one column per dimension."""
    every = series_of(rows)
    names = distinct(one.name for one in every)
    size = (3 * len(names), 6)
    figure, axes = plt.subplots(
        2, len(names), figsize=size, layout="constrained", squeeze=False, sharex="col"
    )
    for (above, below), name in zip(axes.T, names, strict=True):
        group = [one for one in every if one.name == name]
        for one, (colour, marker) in zip(group, SERIES_STYLES, strict=False):
            points = {"marker": marker, "color": colour}
            above.plot(one.values, one.seconds, linestyle="none", label=one.case, **points)
            below.plot(one.values, one.mib, linestyle=":", **points)
            if len(one.values) > 2:
                slope, intercept, _ = one.fit
                fitted = [intercept + slope * work for work in one.multiply_adds]
                above.plot(one.values, fitted, color=colour, linewidth=1)
        for axis in (above, below):
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
        ticks = sorted({value for one in group for value in one.values})
        below.set_xticks(ticks, [str(tick) for tick in ticks])
        below.xaxis.set_minor_locator(NullLocator())
        below.tick_params(axis="x", labelsize=8)
        above.legend(frameon=True, fontsize=7, loc="best")
        below.set_xlabel(name.replace("_", " "))
    axes[0, 0].set_ylabel("seconds per iteration")
    axes[1, 0].set_ylabel("peak memory (MiB)")
    title = "Time and memory of one iteration of the bare loop"
    figure.suptitle(f"{title}\n{_machine(rows)}", fontsize=11)
    return figure


def readme(tables: Mapping[str, Rows]) -> str:
    """The generated README.md; it names the parts that have no measurement."""
    lines = [
        "# Bench: what training costs",
        "",
        "Generated from `*.csv` by `make figures`; not edited by hand. What is compared, how, and",
        "what earlier parts answered: [experiments/bench](/experiments/bench/README.md).",
        "Numbers are medians over rounds with [smallest, largest]; ratios are taken within a",
        "round; targets are for the median.",
        "",
    ]
    for part, section in SECTIONS.items():
        rows = tables[part]
        lines += [f"## {part}: {PARTS[part].question}", ""]
        if failures := distinct(f"- {row.case}, {row.way}: {row.note}" for row in rows if row.note):
            failures = ["Without a number:", "", *failures, ""]
        if any(row.value is not None for row in rows):
            lines += [*section(rows), "", *failures, *_provenance(rows, part)]
        else:
            lines += [*failures, f"Not measured; `make bench PARTS={part}` measures it."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def write_report(folder: Path) -> list[Path]:
    """Writes README.md and figures/ of a folder of tables; returns what it wrote.

    Raises:
        ValueError: the folder has no tables, or one is damaged.
    """
    tables = {part: read_table(folder / f"{part}.csv", Measurement) for part in SECTIONS}
    if not any(tables.values()):
        raise ValueError(f"no tables in {folder}; make bench measures them")
    figures = {}
    if any(row.value is not None for row in tables["columns"]):
        figures["columns"] = partial(columns_figure, tables["columns"])
    if series_of(tables["scaling"]):
        figures["scaling"] = partial(scaling_figure, tables["scaling"])
    return publish(folder, figures, readme(tables))


def _paragraph(text: str) -> list[str]:
    """Wrapped at 100 columns."""
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _seconds_per_iteration(rows: Rows, case: str, way: str) -> dict[int, float]:
    sizes = [row.batch_size or 0 for row in rows if (row.case, row.way) == (case, way)]
    return {at: sizes[0] / speed for at, speed in by_round(rows, case, way, SPEED).items()}


def _precision(rows: Rows, case: str) -> str:
    """What to add to the name of a case whose bare loop multiplies in bf16."""
    return ", bf16" if any(by_round(rows, case, BARE_LOOP, "bf16").values()) else ""


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    fitted = stats.linregress(x, y)
    return float(fitted.slope), float(fitted.intercept), float(fitted.rvalue**2)


def _shown(measured: Spread | None) -> str:
    return "–" if measured is None else str(measured)


def _ms(seconds: float) -> str:
    return f"{number(1e3 * seconds)} ms"


def _machine(rows: Rows) -> str:
    machines = distinct(
        f"{row.processor}, {row.cores} core{'s' * (row.cores != 1)}, torch {row.torch}"
        for row in rows
    )
    return "; ".join(machines)


def _provenance(rows: Rows, part: str) -> list[str]:
    commits = ", ".join(
        distinct(row.commit[:12] + ("" if row.clean else " (tree not clean)") for row in rows)
    )
    times = sorted(row.measured_at for row in rows)
    rounds = max(row.round for row in rows)
    return _paragraph(
        f"`make bench PARTS={part}`: {rounds} round{'s' * (rounds != 1)}, {times[0]} to "
        f"{times[-1]}, commit {commits}, on {_machine(rows)}."
    )
