"""Tables → figures and generated README: `python -m experiments.bench.figures results/bench`.

Needs the tables and no torch. The same tables give the same bytes.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from experiments.bench import floor, parts, tables
from experiments.bench.parts import BARE_LOOP, EAGER, PARTS, PLAINRES, SIDE_BY_SIDE, TEXTBOOK
from experiments.bench.tables import Measurement, against_target, by_round, number, ratio, shown
from experiments.reporting.markdown import commit_of, markdown, paragraph
from experiments.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    depth_axis,
    key_line,
    publish,
    titled,
)
from plainres.records.files import read_table

Rows = Sequence[Measurement]

COLOURS = {TEXTBOOK: GREY, BARE_LOOP: ORANGE, PLAINRES: BLUE, SIDE_BY_SIDE: GREEN}
LABELS = {way: "bare loop" if way == BARE_LOOP else way for way in COLOURS}
SERIES_STYLES = ((BLUE, "o"), (VERMILLION, "s"))
SPEED = "images_per_second"

# Targets: what the project wants of itself on any machine
RATIOS = (
    (PLAINRES, TEXTBOOK, "≥ 2.1"),
    (SIDE_BY_SIDE, TEXTBOOK, "≥ 2.5"),
    (PLAINRES, BARE_LOOP, "≥ 0.95"),
)
PLAINRES_TO_BARE_LOOP_ON_DIGITS = "≥ 0.85"
FUSED_GAIN = {"ResNet-20, digits": "≥ 3", "ResNet-110, digits": "≥ 3.5"}
SWEEP_GAIN, SWEEP_TO_WORK = "≥ 1.4", "≤ 1.1"
FIRST_SWEEP_SECONDS, COMPILATION_SECONDS = "≤ 150", "≤ 10"  # two cores
COMMAND_SECONDS, FIGURES_SECONDS = "≤ 1", "≤ 5"
FIRST_CELL_SECONDS, LATER_CELL_SECONDS = "≤ 4", "≤ 1"
THOUSAND_GIB = "≤ 16"
MANY_SECONDS, MANY_MIB = "≤ 60", "≤ 1024"
STEPS = {
    "gather": "gather",
    "gather_again": "gather again, one cell more",
    "check": "`plainres check depth`",
    "figures": "`plainres figures depth`",
}


def columns(rows: Rows) -> list[str]:
    speeds = [["images/s", *LABELS.values()]]
    ratios = [["ratio"]]
    for way, base, _ in RATIOS:
        ratios[0] += [f"{LABELS[way]} / {LABELS[base]}", ""]
    for case in _cases(rows):
        speed = {way: by_round(rows, case, way, SPEED) for way in LABELS}
        speeds.append([case + _precision(rows, case), *map(shown, speed.values())])
        ratios.append([case])
        for way, base, target in RATIOS:
            if base == BARE_LOOP and parts.DIGITS.name in case:
                target = PLAINRES_TO_BARE_LOOP_ON_DIGITS
            measured = ratio(speed[way], speed[base])
            ratios[-1] += [shown(measured), against_target(measured, target)]
    alt = f"images per second, relative to the textbook loop · {_columns_label(rows)}"
    return [f"![{alt}](figures/columns.png)", "", *markdown(speeds), "", *markdown(ratios)]


def kernels(rows: Rows) -> list[str]:
    table = [["milliseconds per iteration", parts.LIBRARY, parts.FUSED, "ratio", ""]]
    for case in _cases(rows):
        images = next(row.batch_size or 0 for row in rows if row.case == case)
        library, fused = (
            {at: 1e3 * images / speed for at, speed in by_round(rows, case, way, SPEED).items()}
            for way in (parts.LIBRARY, parts.FUSED)
        )
        gain = ratio(library, fused)
        target = next((target for part, target in FUSED_GAIN.items() if part in case), "")
        verdict = against_target(gain, target) if target else ""
        table.append([case, shown(library), shown(fused), shown(gain), verdict])
    return ["plainres in float32 on one core.", "", *markdown(table)]


def sweep(rows: Rows) -> list[str]:
    case, one_sweep, one_at_a_time = rows[0].case, parts.ONE_SWEEP, parts.ONE_AT_A_TIME
    heads = ["", "seconds", "cells per hour", "seconds within cells"]
    table = [[*heads, f"cells per hour / {one_at_a_time}", "seconds / (work / cores)"]]
    reference = by_round(rows, case, one_at_a_time, "cells_per_hour")
    gains, loads = {}, {}
    for way in (one_sweep, one_at_a_time, parts.TEN_COMMANDS):
        names = ("wall_seconds", "cells_per_hour", "work_seconds")
        wall, per_hour, work = (by_round(rows, case, way, name) for name in names)
        slots = rows[0].cores if way == one_sweep else 1
        gains[way] = ratio(per_hour, reference)
        loads[way] = ratio(wall, {at: value / slots for at, value in work.items()})
        table.append([way, *map(shown, (wall, per_hour, work, gains[way], loads[way]))])
    return [
        f"{case.capitalize()}.",
        f"Each cell has all cores; with `{one_sweep}` it has one thread.",
        "",
        *markdown(table),
        "",
        f"- {one_sweep} / {one_at_a_time}: {against_target(gains[one_sweep], SWEEP_GAIN)}",
        f"- whole sweep / (work / cores): {against_target(loads[one_sweep], SWEEP_TO_WORK)}",
    ]


def first(rows: Rows) -> list[str]:
    ways = (parts.NOT_COMPILED, parts.COMPILED_BEFORE)
    cold, warm = (by_round(rows, rows[0].case, way, "seconds") for way in ways)
    compilation = {at: cold[at] - warm[at] for at in sorted(cold.keys() & warm.keys())}
    lines = [
        (ways[0], cold, FIRST_SWEEP_SECONDS),
        (ways[1], warm, FIRST_SWEEP_SECONDS),
        ("compilation, the difference", compilation, COMPILATION_SECONDS),
    ]
    table = [[name, shown(each), against_target(each, target)] for name, each, target in lines]
    return [f"{rows[0].case.capitalize()}.", "", *markdown([["", "seconds", ""], *table])]


def startup(rows: Rows) -> list[str]:
    table = [["", "seconds", "", "imports torch"]]
    for case, way in dict.fromkeys((row.case, row.way) for row in rows):
        if way == parts.COMMAND:
            target = FIGURES_SECONDS if "figures" in case else COMMAND_SECONDS
            lines = [(f"`{case}`", "seconds", target)]
        elif way == parts.LIBRARIES:
            lines = [(f"`{case}`, which every first cell needs", "seconds", "")]
        else:
            first = f"{case}: from the start of the process to the end of the first iteration"
            later = f"{case}: a later cell of the process"
            lines = [(first, "first_cell_seconds", FIRST_CELL_SECONDS)]
            lines += [(later, "later_cell_seconds", LATER_CELL_SECONDS)]
        imports = by_round(rows, case, parts.COMMAND, "imports_torch").values()
        torch = ("**yes**" if any(imports) else "no") if imports else ""
        for text, quantity, target in lines:
            measured = by_round(rows, case, way, quantity)
            verdict = against_target(measured, target) if target else ""
            table.append([text, shown(measured), verdict, torch])
    return [*markdown(table), "", "Commands are named as they were at the commit below."]


def scaling(rows: Rows) -> list[str]:
    points = [["series", "", "10⁹ multiply-adds", "seconds per iteration", "MiB"]]
    fits = [["series", "against", "slope", "intercept", "r²"]]
    for one in series_of(rows):
        columns = zip(one.values, one.seconds, one.mib, one.multiply_adds, strict=True)
        for value, seconds, mib, work in columns:
            size = [number(work / 1e9), number(seconds), f"{mib:,.0f}"]
            points.append([one.case, f"{value:,}", *size])
        if len(one.values) > 2:
            fits.append([one.case, "multiply-adds", *_fit(one.multiply_adds, one, 1e9, "10⁹")])
            if one.name == "depth":
                fits.append([one.case, "depth", *_fit(one.values, one, 1, "layer")])
    case = parts.THOUSAND
    thousand = f"{case}: not measured; `make bench PARTS=scaling THOUSAND=1` measures it."
    peak = by_round(rows, case, BARE_LOOP, "peak_memory_mib")
    if peak:
        gib = {at: mib / 1024 for at, mib in peak.items()}
        taken, target = shown(_seconds_per_iteration(rows, case, BARE_LOOP)), THOUSAND_GIB
        memory = f"{shown(gib)} GiB ({against_target(gib, target)})"
        thousand = f"{case}: the first iteration takes {taken} s and {memory}."
    label = _loop_label(rows)
    return [
        "The bare loop in float32 on all cores. Fits are least squares.",
        "",
        f"![time by depth, width, image size and batch size · {label}](figures/scaling.png)",
        "",
        f"![memory by the same · {label}](figures/scaling_memory.png)",
        "",
        *markdown(fits),
        "",
        *markdown(points),
        "",
        *paragraph(thousand),
    ]


def many(rows: Rows) -> list[str]:
    case = rows[0].case
    table = [["", "seconds", "of a processor", "", "MiB", ""]]
    for name, text in STEPS.items():
        seconds, processor, mib = (
            by_round(rows, case, parts.TABLES, f"{name}_{unit}")
            for unit in ("seconds", "processor_seconds", "mib")
        )
        verdicts = [against_target(processor, MANY_SECONDS), against_target(mib, MANY_MIB)]
        numbers = [shown(seconds), shown(processor), verdicts[0], shown(mib), verdicts[1]]
        table.append([text, *numbers])
    note = (
        f"{case}; the cells are made up. Each line is a command of its own. Seconds are of a clock "
        "on the wall; where other work runs, those of a processor say more."
    )
    return [*paragraph(note), "", *markdown(table)]


def agreement(rows: Rows) -> list[str]:
    reference = rows[0].way
    numbers = (row.quantity.removeprefix("loss ") for row in rows if row.value is not None)
    steps = sorted({int(text) for text in numbers})
    ends = (steps[0], steps[-1])
    heads = [f"loss of iteration {step}" for step in ends]
    table = [["", *heads, f"largest relative deviation from {reference}"]]
    for case in _cases(rows):
        expected = {step: by_round(rows, case, reference, f"loss {step}") for step in steps}
        for way in tables.measured_ways(rows, case):
            losses = {step: by_round(rows, case, way, f"loss {step}") for step in steps}
            ratios = (ratio(losses[step], expected[step]) for step in steps)
            deviations = [abs(value - 1) for each in ratios for value in each.values()]
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
    names = (SPEED, "first_iteration_seconds", "peak_memory_mib")
    for case in _cases(rows):
        for way in tables.measured_ways(rows, case):
            speed, first, peak = (by_round(rows, case, way, name) for name in names)
            shape = next(row for row in rows if (row.case, row.way) == (case, way))
            copies = int(way.split()[0]) if way[0].isdigit() else 1
            images = 1e3 * copies * (shape.batch_size or 0)
            milliseconds = {at: images / value for at, value in speed.items()}
            lowest = 1e3 * max(floor.seconds(shape.depth or 0)) / floor.ITERATIONS
            share = {at: value / copies / lowest for at, value in milliseconds.items()}
            numbers = map(shown, (speed, milliseconds, share, first, peak))
            table.append([f"{case}, {way}", *numbers])
    return [
        f"plainres in bf16. `{EAGER}` starts each kernel from Python; otherwise one CUDA graph",
        "holds an iteration. × floor is GPU time per iteration over that of",
        "`python -m experiments.bench.floor`, which was counted for an H100.",
        "",
        *markdown(table),
    ]


SECTIONS = {
    each.__name__: each
    for each in (columns, kernels, sweep, first, startup, scaling, many, agreement, gpu)
}


@dataclass(frozen=True)
class Series:
    """Points of part scaling that differ in `name` only; medians over rounds, as in `values`."""

    case: str
    name: str
    values: Sequence[int]
    seconds: Sequence[float]
    mib: Sequence[float]
    multiply_adds: Sequence[float]


def series_of(rows: Rows) -> list[Series]:
    """The series of part scaling that have a point."""
    series = []
    for case in _cases(rows):
        ways = tables.measured_ways(rows, case)  # such as "depth 20"
        if ways and case != parts.THOUSAND:
            measured = [[_seconds_per_iteration(rows, case, way) for way in ways]]
            for name in ("peak_memory_mib", "multiply_adds"):
                measured.append([by_round(rows, case, way, name) for way in ways])
            medians = [[statistics.median(one.values()) for one in each] for each in measured]
            values = [int(way.split()[1]) for way in ways]
            series.append(Series(case, ways[0].split()[0], values, *medians))
    return series


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Slope, intercept and r² of the least-squares line."""
    fitted = stats.linregress(x, y)
    return float(fitted.slope), float(fitted.intercept), float(fitted.rvalue**2)


def columns_figure(rows: Rows) -> Figure:
    """Images per second of each way relative to the textbook's of the same round."""
    cases = _cases(rows)
    figure, axis = plt.subplots(layout="constrained")
    gains: list[float] = []
    ways = [way for way in COLOURS if way != TEXTBOOK]
    for place, way in enumerate(ways):
        for position, case in enumerate(cases):
            speeds = [by_round(rows, case, one, SPEED) for one in (way, TEXTBOOK)]
            if measured := ratio(*speeds):
                x = position + (place - (len(ways) - 1) / 2) * 0.27
                median, low, high = tables.median_and_range(measured)
                ends = [[median - low], [high - median]]
                axis.bar(x, median, 0.25, yerr=ends, color=COLOURS[way], capsize=4)
                gains += [median] if way == PLAINRES else []
    axis.axhline(1, color=COLOURS[TEXTBOOK])
    labels = [(case + _precision(rows, case)).replace(", ", "\n") for case in cases]
    axis.set_xticks(range(len(cases)), labels)
    axis.set_ylabel("images/s, textbook = 1")
    bar: Any = {"linestyle": "none", "marker": "s", "markersize": 12}
    keys = [
        key_line(label, color=COLOURS[way], **({} if way == TEXTBOOK else bar))
        for way, label in LABELS.items()
    ]
    times = " to ".join(f"{gain:.1f}" for gain in (min(gains), max(gains))) if gains else "?"
    title = f"plainres trains {times} times as fast as the textbook's loop"
    notes = ("textbook: float32", "bars: medians, with lowest and highest round")
    return titled(figure, title, _columns_label(rows), *notes, keys=keys)


def scaling_figure(rows: Rows, memory: bool = False) -> Figure:
    """Seconds per iteration with the fit, or peak memory; one panel per dimension."""
    every = series_of(rows)
    names = tables.distinct(one.name for one in every)
    shape: Any = {"squeeze": False, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(-(-len(names) // 2), min(len(names), 2), **shape)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    keys = []
    for axis, name in zip(axes.flat, names, strict=False):
        group = [one for one in every if one.name == name]
        for one, (colour, marker) in zip(group, SERIES_STYLES, strict=False):
            points: Any = {"marker": marker, "color": colour, "linestyle": "none"}
            if len(group) > 1:
                keys.append(key_line(one.case, **points))
            axis.plot(one.values, one.mib if memory else one.seconds, **points)
            if memory:
                axis.plot(one.values, one.mib, linestyle=":", color=colour)
            elif len(one.values) > 2:
                slope, intercept, _ = line(one.multiply_adds, one.seconds)
                fitted = [intercept + slope * work for work in one.multiply_adds]
                axis.plot(one.values, [f if f > 0 else math.nan for f in fitted], color=colour)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1,) if not memory else (1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        depth_axis(axis, sorted({value for one in group for value in one.values}))
        axis.set_xlabel(group[0].case if len(group) == 1 else name.replace("_", " "))
    figure.supylabel("peak memory (MiB)" if memory else "seconds per iteration")
    grows = "memory" if memory else "time of an iteration"
    title = f"How does the {grows} grow with the network and its batch?"
    fit = "" if memory else "lines: least squares in multiply-adds"
    return titled(figure, title, _loop_label(rows), "bare loop", fit, keys=keys)


def readme(measured: Mapping[str, Rows]) -> str:
    """The generated README.md; it names the parts that have no measurement."""
    lines = [
        "# Bench: what training costs",
        "",
        "Generated from `*.csv` by `make figures`; not edited by hand. What is compared, how, and",
        "what earlier parts answered: [experiments/bench](/experiments/bench/README.md).",
        "Numbers are medians over rounds with [smallest, largest]; ratios are taken within a",
        "round; targets are for the median.",
    ]
    for part, section in SECTIONS.items():
        rows = measured[part]
        lines += ["", f"## {part}: {PARTS[part].question}", ""]
        notes = (f"- {row.case}, {row.way}: {row.note}" for row in rows if row.note)
        if failures := tables.distinct(notes):
            failures = ["Without a number:", "", *failures, ""]
        if any(row.value is not None for row in rows):
            lines += [*section(rows), "", *failures, *_provenance(rows, part)]
        else:
            lines += [*failures, f"Not measured; `make bench PARTS={part}` measures it."]
    return "\n".join(lines) + "\n"


def write_report(folder: Path) -> list[Path]:
    """Writes README.md and figures/ of a folder of tables; returns what it wrote.

    Raises:
        ValueError: the folder has no tables, or one is damaged.
    """
    measured = {part: read_table(folder / f"{part}.csv", Measurement) for part in SECTIONS}
    if not any(measured.values()):
        raise ValueError(f"no tables in {folder}; make bench measures them")
    figures = {}
    if any(row.value is not None for row in measured["columns"]):
        figures["columns"] = partial(columns_figure, measured["columns"])
    if series_of(measured["scaling"]):
        figures["scaling"] = partial(scaling_figure, measured["scaling"])
        figures["scaling_memory"] = partial(scaling_figure, measured["scaling"], memory=True)
    return publish(folder, figures, readme(measured))


def _fit(x: Sequence[float], one: Series, scale: float, unit: str) -> list[str]:
    slope, intercept, r_squared = line(x, one.seconds)
    per_unit = f"{number(1e3 * (slope * scale))} ms per {unit}"
    return [per_unit, f"{number(1e3 * intercept)} ms", f"{r_squared:.4f}"]


def _cases(rows: Rows) -> list[str]:
    return tables.distinct(row.case for row in rows)


def _seconds_per_iteration(rows: Rows, case: str, way: str) -> dict[int, float]:
    sizes = [row.batch_size or 0 for row in rows if (row.case, row.way) == (case, way)]
    return {at: sizes[0] / speed for at, speed in by_round(rows, case, way, SPEED).items()}


def _precision(rows: Rows, case: str) -> str:
    """What to add to the name of a case whose bare loop multiplies in bf16."""
    return ", bf16" if any(by_round(rows, case, BARE_LOOP, "bf16").values()) else ""


def _label(rows: Rows, what: str) -> str:
    """What a figure says below its title: images and protocols, rounds, machine."""
    return f"{what} · {_rounds(rows)} · {_machine(rows)}"


def _columns_label(rows: Rows) -> str:
    protocols = ", ".join(one.overrides[0].partition("=")[2] for one in parts.SETTINGS)
    return _label(rows, f"digits, random pixels · protocols {protocols}")


def _loop_label(rows: Rows) -> str:
    return _label(rows, "random pixels, no protocol")


def _rounds(rows: Rows) -> str:
    return _counted(max(row.round for row in rows), "round")


def _machine(rows: Rows) -> str:
    names = (f"{row.processor}, {_counted(row.cores, 'core')}, torch {row.torch}" for row in rows)
    return "; ".join(tables.distinct(names))


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"


def _provenance(rows: Rows, part: str) -> list[str]:
    commits = map(commit_of, rows)
    times = sorted(row.measured_at for row in rows)
    return paragraph(
        f"`make bench PARTS={part}`: {_rounds(rows)}, {times[0]} to {times[-1]}, "
        f"commit {', '.join(tables.distinct(commits))}, on {_machine(rows)}."
    )
