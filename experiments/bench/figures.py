"""Tables → figures and the generated README of results/bench: `python -m experiments.bench.figures results/bench`.

Needs the committed tables and no torch. The same tables give the same bytes.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
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
    BF16,
    CELL,
    COMMAND,
    CONVOLUTION,
    DEFAULT,
    DIGITS,
    EAGER,
    LIBRARIES,
    LIMIT,
    ONE_AT_A_TIME,
    ONE_SWEEP,
    PARTS,
    PLAINRES,
    PRECISIONS,
    SIDE_BY_SIDE,
    TEN_COMMANDS,
    TEXTBOOK,
    THOUSAND,
    limit_way,
    peak_way,
)
from experiments.bench.tables import (
    Row,
    Spread,
    by_round,
    distinct,
    judged,
    number,
    ratio,
    read_rows,
    spread,
)
from experiments.reporting.markdown import markdown
from experiments.reporting.style import publish

WAY_COLOURS = {TEXTBOOK: "#999999", LIMIT: "#E69F00", PLAINRES: "#0072B2", SIDE_BY_SIDE: "#009E73"}
SERIES_STYLES = (("#0072B2", "o"), ("#D55E00", "s"))
LEAST_SHARE = 0.01  # of an operator in the profile's table

# Bars: what the project wants of itself, whatever the machine.
PLAINRES_TO_TEXTBOOK = 2.1
SIDE_BY_SIDE_TO_TEXTBOOK = 2.5
PLAINRES_TO_LIMIT, PLAINRES_TO_LIMIT_ON_DIGITS = 0.95, 0.85
SWEEP_GAIN = 1.4
MAKESPAN_TO_WORK = 1.1
COMMAND_SECONDS, FIGURES_SECONDS = 1.0, 5.0
FIRST_CELL_SECONDS, LATER_CELL_SECONDS = 4.0, 1.0
THOUSAND_GIB = 16


@dataclass(frozen=True)
class Series:
    """Points of part scaling that differ in `name` only; medians over rounds, in the order of `values`."""

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


def columns(rows: Sequence[Row]) -> list[str]:
    def speed(case: str, way: str) -> dict[int, float]:
        return by_round(rows, case, way, "images_per_second")

    speeds = [["images/s", *WAY_COLOURS]]
    ratios = [
        ["ratio", "plainres / textbook", "", "side by side / textbook", "", "plainres / limit", ""]
    ]
    for case in distinct(row.case for row in rows):
        speeds.append(
            [
                case + _precision(rows, case, LIMIT),
                *(_shown(spread(speed(case, way))) for way in WAY_COLOURS),
            ]
        )
        least = PLAINRES_TO_LIMIT_ON_DIGITS if DIGITS.name in case else PLAINRES_TO_LIMIT
        line = [case]
        for way, base, bar in (
            (PLAINRES, TEXTBOOK, PLAINRES_TO_TEXTBOOK),
            (SIDE_BY_SIDE, TEXTBOOK, SIDE_BY_SIDE_TO_TEXTBOOK),
            (PLAINRES, LIMIT, least),
        ):
            found = ratio(speed(case, way), speed(case, base))
            line += [_shown(found), judged(found, least=bar)]
        ratios.append(line)
    return [
        "All train the same residual network in batches of 128 on images of that size (random pixels but for digits), in float32. Where",
        "*bf16* stands, all but the textbook multiply in it, as the protocol does on this processor.",
        "",
        f"- **{TEXTBOOK}**: PIL images, torchvision transforms, a DataLoader with one worker a core, NCHW, loss and error read every step.",
        f"- **{LIMIT}**: a bare loop over batches that are already made; nothing is recorded.",
        f"- **{PLAINRES}**: `plainres.run.train.train_cell` with augmentation, curve, TensorBoard and checkpoints; evaluations excluded.",
        f"- **{SIDE_BY_SIDE}**: as many of those at once as there are cores, one thread each, images per second added.",
        "",
        "![images per second, relative to the textbook](figures/columns.png)",
        "",
        *markdown(speeds),
        "",
        *markdown(ratios),
    ]


def sweep(rows: Sequence[Row]) -> list[str]:
    ways = (ONE_SWEEP, ONE_AT_A_TIME, TEN_COMMANDS)
    table = [
        [
            "",
            "seconds",
            "cells an hour",
            "seconds within cells",
            f"cells an hour / {ONE_AT_A_TIME}",
            "seconds / (work / cores)",
        ]
    ]
    case = rows[0].case
    gain = makespan = None
    for way in ways:
        wall, per_hour, work = (
            by_round(rows, case, way, name)
            for name in ("wall_seconds", "cells_per_hour", "work_seconds")
        )
        gained = ratio(per_hour, by_round(rows, case, ONE_AT_A_TIME, "cells_per_hour"))
        slots = rows[0].cores if way == ONE_SWEEP else 1
        filled = ratio(wall, {at: value / slots for at, value in work.items()})
        if way == ONE_SWEEP:
            gain, makespan = gained, filled
        table.append(
            [way, *map(_shown, (spread(wall), spread(per_hour), spread(work), gained, filled))]
        )
    return [
        f"{case.capitalize()}; `{ONE_SWEEP}` gives each cell one thread, the others all cores. Work is the time within cells; what a",
        "command spends before and after them counts against it.",
        "",
        *markdown(table),
        "",
        f"- {ONE_SWEEP} / {ONE_AT_A_TIME}: {judged(gain, least=SWEEP_GAIN)}",
        f"- whole sweep / (work / cores): {judged(makespan, most=MAKESPAN_TO_WORK)}",
    ]


def roofline(rows: Sequence[Row]) -> list[str]:
    cores = rows[0].cores
    cases = distinct(row.case for row in rows)
    peaks = [
        case
        for case in cases
        if any(row.case == case and row.quantity == "gflop_per_second" for row in rows)
    ]
    ways = distinct(row.way for row in rows if row.case in peaks)
    loops = [
        [
            "bare loop",
            "10⁹ multiply-adds an iteration",
            "ms an iteration",
            "GFLOP/s",
            "of the best convolution",
        ]
    ]
    for precision in PRECISIONS:
        best: dict[int, float] = {}
        for case in peaks:
            if case.startswith(CONVOLUTION):
                for at, value in by_round(
                    rows, case, peak_way(precision, cores), "gflop_per_second"
                ).items():
                    best[at] = max(value, best.get(at, 0.0))
        way = limit_way(precision)
        for case in cases:
            seconds = _seconds_per_iteration(rows, case, way)
            if not seconds:
                continue
            work = by_round(rows, case, way, "multiply_adds")
            achieved = {at: 2e-9 * work[at] / seconds[at] for at in seconds}
            billions = {at: value / 1e9 for at, value in work.items()}
            milliseconds = {at: 1e3 * value for at, value in seconds.items()}
            found = (
                spread(billions),
                spread(milliseconds),
                spread(achieved),
                ratio(achieved, best),
            )
            loops.append([case + _precision(rows, case, way), *map(_shown, found)])
    machine = [["GFLOP/s", *ways]]
    machine += [
        [case, *(_shown(spread(by_round(rows, case, way, "gflop_per_second"))) for way in ways)]
        for case in peaks
    ]
    return [
        "One iteration is forward, backward and update on 128 images, all cores, in float32 where nothing else is said; its multiply-adds",
        "(two FLOP each) are counted operator by operator: convolutions and the linear layer. The best convolution is that of the same",
        "precision. Below: the fastest calls of single operations, forward.",
        "",
        *markdown(loops),
        "",
        *markdown(machine),
    ]


def profile(rows: Sequence[Row]) -> list[str]:
    cases = distinct(row.case for row in rows)
    operators = distinct(row.quantity for row in rows if row.quantity.startswith("share "))
    shares = {
        (name, case): spread(by_round(rows, case, LIMIT, name))
        for name in operators
        for case in cases
    }

    def greatest(name: str) -> float:
        return max(found.median for case in cases if (found := shares[name, case]))

    table = [["% of self CPU time", *cases]]
    for name in sorted(operators, key=greatest, reverse=True):
        if greatest(name) >= LEAST_SHARE:
            found = [shares[name, case] for case in cases]
            table.append(
                [
                    f"`{name.removeprefix('share ')}`",
                    *("–" if share is None else f"{100 * share.median:.1f}" for share in found),
                ]
            )
    milliseconds = [
        spread(by_round(rows, case, LIMIT, "cpu_seconds_per_iteration")) for case in cases
    ]
    table.append(
        [
            "all, ms an iteration",
            *("–" if found is None else number(1e3 * found.median) for found in milliseconds),
        ]
    )
    return [
        "Of the bare loop under torch.profiler, which slows it; `–` is below the twelve largest.",
        "",
        *markdown(table),
    ]


def variants(rows: Sequence[Row]) -> list[str]:
    lines = [
        "The bare loop, in float32 where nothing else is said, with one choice changed; ratios are taken to the default of the same round.",
        "",
    ]
    for case in distinct(row.case for row in rows):
        default = by_round(rows, case, DEFAULT, "images_per_second")
        table = [
            [case + _precision(rows, case, DEFAULT), "images/s", "ratio", "first iteration, s"]
        ]
        for way in distinct(row.way for row in rows if row.case == case):
            speed = by_round(rows, case, way, "images_per_second")
            first = by_round(rows, case, way, "first_iteration_seconds")
            compiling = (
                number(first[min(first)]) if first else "–"
            )  # later rounds find it in the cache
            table.append([way, _shown(spread(speed)), _shown(ratio(speed, default)), compiling])
        lines += [*markdown(table), ""]
    return [*lines, "The first iteration is that of the first round, compilation included."]


def startup(rows: Sequence[Row]) -> list[str]:
    table = [["", "seconds", "", "imports torch"]]
    for case in distinct(row.case for row in rows if row.way == COMMAND):
        found = spread(by_round(rows, case, COMMAND, "seconds"))
        imports = by_round(rows, case, COMMAND, "imports_torch")
        most = FIGURES_SECONDS if "figures" in case else COMMAND_SECONDS
        said = ("**yes**" if any(imports.values()) else "no") if imports else "–"
        table.append([f"`{case}`", _shown(found), judged(found, most=most), said])
    for case in distinct(row.case for row in rows if row.way == LIBRARIES):
        table.append(
            [
                f"`{case}`, which no first cell can do without",
                _shown(spread(by_round(rows, case, LIBRARIES, "seconds"))),
                "",
                "",
            ]
        )
    for case in distinct(row.case for row in rows if row.way == CELL):
        for name, text, most in (
            (
                "first_cell_seconds",
                "from the start of the process to the end of the first iteration",
                FIRST_CELL_SECONDS,
            ),
            ("later_cell_seconds", "a later cell of the same process", LATER_CELL_SECONDS),
        ):
            found = spread(by_round(rows, case, CELL, name))
            table.append([f"{case}: {text}", _shown(found), judged(found, most=most), ""])
    return markdown(table)


def scaling(rows: Sequence[Row]) -> list[str]:
    every = series_of(rows)
    points = [["series", "", "10⁹ multiply-adds", "seconds an iteration", "MiB"]]
    for one in every:
        for value, seconds, mib, work in zip(
            one.values, one.seconds, one.mib, one.multiply_adds, strict=True
        ):
            points.append(
                [one.case, f"{value:,}", number(work / 1e9), number(seconds), f"{mib:,.0f}"]
            )
    fits = [["series", "against", "slope", "intercept", "r²"]]
    for one in every:
        if len(one.values) > 2:
            slope, intercept, r_squared = one.fit
            fits.append(
                [
                    one.case,
                    "multiply-adds",
                    f"{_ms(slope * 1e9)} per 10⁹",
                    _ms(intercept),
                    f"{r_squared:.4f}",
                ]
            )
            if one.name == "depth":
                slope, intercept, r_squared = _line(one.values, one.seconds)
                fits.append(
                    [
                        one.case,
                        "depth",
                        f"{_ms(slope)} per layer",
                        _ms(intercept),
                        f"{r_squared:.4f}",
                    ]
                )
    peak = spread(by_round(rows, THOUSAND, LIMIT, "peak_memory_mib"))
    taken = spread(_seconds_per_iteration(rows, THOUSAND, LIMIT))
    thousand = f"{THOUSAND}: not measured; `make bench PARTS=scaling THOUSAND=1` measures it."
    if peak and taken:
        gib = Spread(peak.median / 1024, peak.low / 1024, peak.high / 1024, peak.rounds)
        thousand = f"{THOUSAND}: one iteration, the first, takes {taken} s and {gib} GiB ({judged(gib, most=THOUSAND_GIB)})."
    return [
        "The bare loop, float32, all cores, batches of 128 where the batch is not what varies; memory is the peak of the whole process.",
        "Lines are least squares of seconds on multiply-adds.",
        "",
        "![time and memory against depth, width, image size and batch size](figures/scaling.png)",
        "",
        *markdown(fits),
        "",
        *markdown(points),
        "",
        thousand,
    ]


def agreement(rows: Sequence[Row]) -> list[str]:
    cases = distinct(row.case for row in rows)
    reference = rows[0].way
    steps = sorted(
        int(row.quantity.removeprefix("loss "))
        for row in rows
        if (row.case, row.way, row.round) == (cases[0], reference, 1)
    )
    table = [
        [
            "",
            *(f"loss of iteration {step}" for step in (1, steps[-1])),
            f"largest deviation from {reference}, of the loss",
        ]
    ]
    for case in cases:
        expected = {step: by_round(rows, case, reference, f"loss {step}") for step in steps}
        for way in distinct(row.way for row in rows if row.case == case and row.value is not None):
            found = {step: by_round(rows, case, way, f"loss {step}") for step in steps}
            deviations = [
                abs(found[step][at] / expected[step][at] - 1)
                for step in steps
                for at in found[step].keys() & expected[step].keys()
            ]
            ends = [f"{statistics.median(found[step].values()):.4f}" for step in (1, steps[-1])]
            table.append([f"{case}, {way}", *ends, f"{max(deviations):.1e}"])
    return [
        f"The first {steps[-1]} iterations of the paper's protocol on random pixels and labels, through the code that trains cells;",
        "losses in nats an image. Rounding differs from way to way and grows from iteration to iteration.",
        "",
        *markdown(table),
    ]


def gpu(rows: Sequence[Row]) -> list[str]:
    table = [
        [
            "",
            "images/s, all cells",
            "ms an iteration of one cell",
            "× floor",
            "first iterations, s",
            "MiB a cell",
        ]
    ]
    for case in distinct(row.case for row in rows):
        for way in distinct(row.way for row in rows if row.case == case and row.value is not None):
            speed = by_round(rows, case, way, "images_per_second")
            row = next(row for row in rows if (row.case, row.way) == (case, way))
            copies = int(way.split(" ")[0]) if way.split(" ")[0].isdigit() else 1
            milliseconds = {
                at: 1e3 * copies * (row.batch_size or 0) / value for at, value in speed.items()
            }
            lowest = 1e3 * max(floor.seconds(row.depth or 0)) / floor.ITERATIONS
            share = {at: value / copies / lowest for at, value in milliseconds.items()}
            others = (
                spread(by_round(rows, case, way, name))
                for name in ("first_iteration_seconds", "peak_memory_mib")
            )
            table.append(
                [
                    f"{case}, {way}",
                    *(
                        _shown(found)
                        for found in (spread(speed), spread(milliseconds), spread(share), *others)
                    ),
                ]
            )
    return [
        "`plainres.run.train.train_cell` at the paper's shapes, bf16, with augmentation, curve, TensorBoard and checkpoints, evaluations",
        f"excluded. `{EAGER}` starts each kernel from Python; otherwise one CUDA graph holds an iteration. `compiled` is torch.compile,",
        "`fused` plainres.training.fused. `6 cells` are processes that share the GPU, by turns, or at the same time under NVIDIA's multi-process",
        "service. × floor is GPU time an iteration over that of `python -m experiments.bench.floor`, which was counted for an H100.",
        "",
        *markdown(table),
    ]


SECTIONS: Mapping[str, Callable[[Sequence[Row]], list[str]]] = {
    "columns": columns,
    "sweep": sweep,
    "roofline": roofline,
    "profile": profile,
    "variants": variants,
    "startup": startup,
    "scaling": scaling,
    "agreement": agreement,
    "gpu": gpu,
}


def series_of(rows: Sequence[Row]) -> list[Series]:
    """The series of part scaling that have a point."""
    found = []
    for case in distinct(
        row.case for row in rows if row.case != THOUSAND and row.value is not None
    ):
        ways = distinct(row.way for row in rows if row.case == case and row.value is not None)
        medians = {
            name: [statistics.median(by_round(rows, case, way, name).values()) for way in ways]
            for name in ("peak_memory_mib", "multiply_adds")
        }
        seconds = [
            statistics.median(_seconds_per_iteration(rows, case, way).values()) for way in ways
        ]
        names, values = zip(*(way.split(" ") for way in ways), strict=True)
        found.append(
            Series(
                case,
                names[0],
                [int(value) for value in values],
                seconds,
                medians["peak_memory_mib"],
                medians["multiply_adds"],
            )
        )
    return found


def columns_figure(rows: Sequence[Row]) -> Figure:
    """Images per second of each way relative to the textbook's of the same round: medians, least and greatest."""
    cases = distinct(row.case for row in rows)
    figure, axis = plt.subplots(figsize=(10, 4.4), layout="constrained")
    ways = [way for way in WAY_COLOURS if way != TEXTBOOK]
    for place, way in enumerate(ways):
        for position, case in enumerate(cases):
            speeds = [by_round(rows, case, one, "images_per_second") for one in (way, TEXTBOOK)]
            if found := ratio(*speeds):
                x = position + (place - (len(ways) - 1) / 2) * 0.27
                ends = [[found.median - found.low], [found.high - found.median]]
                axis.bar(x, found.median, 0.25, yerr=ends, color=WAY_COLOURS[way], capsize=3)
    axis.axhline(1, color=WAY_COLOURS[TEXTBOOK], linewidth=1.2)
    axis.set_xticks(
        range(len(cases)),
        [(case + _precision(rows, case, LIMIT)).replace(", ", "\n") for case in cases],
    )
    axis.set_ylabel("images/s, textbook = 1")
    axis.legend(
        handles=[Patch(color=colour, label=way) for way, colour in WAY_COLOURS.items()],
        frameon=True,
        fontsize=9,
    )
    figure.suptitle(
        f"Training speed relative to the loop of the textbooks\n{_machine(rows)}", fontsize=11
    )
    return figure


def scaling_figure(rows: Sequence[Row]) -> Figure:
    """Seconds an iteration, with the fit, above; peak memory below; one column for each dimension."""
    every = series_of(rows)
    names = distinct(one.name for one in every)
    figure, axes = plt.subplots(
        2,
        len(names),
        figsize=(3 * len(names), 6),
        layout="constrained",
        squeeze=False,
        sharex="col",
    )
    for column, name in enumerate(names):
        above, below = axes[:, column]
        group = [one for one in every if one.name == name]
        for one, (colour, marker) in zip(group, SERIES_STYLES, strict=False):
            above.plot(
                one.values,
                one.seconds,
                linestyle="none",
                marker=marker,
                color=colour,
                label=one.case,
            )
            below.plot(one.values, one.mib, linestyle=":", marker=marker, color=colour)
            if len(one.values) > 2:
                slope, intercept, _ = one.fit
                above.plot(
                    one.values,
                    [intercept + slope * work for work in one.multiply_adds],
                    color=colour,
                    linewidth=1,
                )
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
    axes[0, 0].set_ylabel("seconds an iteration")
    axes[1, 0].set_ylabel("peak memory (MiB)")
    figure.suptitle(
        f"Time and memory of one iteration of the bare loop\n{_machine(rows)}", fontsize=11
    )
    return figure


def readme(tables: Mapping[str, Sequence[Row]]) -> str:
    """The generated README.md; a part without a table is said not to be measured."""
    lines = [
        "# Bench: what training costs",
        "",
        "Generated from `*.csv` by `make figures`; not edited by hand. What is compared and how:",
        "[experiments/bench](../../experiments/bench/README.md). Numbers are medians over rounds with [least, greatest]; ratios are taken",
        "within a round; bars are judged on the median.",
        "",
    ]
    for part, section in SECTIONS.items():
        rows = tables[part]
        lines += [f"## {part}: {PARTS[part].question}", ""]
        if any(row.value is not None for row in rows):
            lines += [*section(rows), "", *_failures(rows), _provenance(rows, part)]
        else:
            lines += [*_failures(rows), f"Not measured; `make bench PARTS={part}` measures it."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def make(folder: Path) -> list[Path]:
    """Writes README.md and figures/ of a folder of tables; returns what it wrote.

    Raises:
        ValueError: the folder has no tables, or one is damaged.
    """
    tables = {part: read_rows(folder, part) for part in SECTIONS}
    if not any(tables.values()):
        raise ValueError(f"no tables in {folder}; make bench measures them")
    figures = {}
    if any(row.value is not None for row in tables["columns"]):
        figures["columns"] = partial(columns_figure, tables["columns"])
    if series_of(tables["scaling"]):
        figures["scaling"] = partial(scaling_figure, tables["scaling"])
    return publish(folder, figures, readme(tables))


def _seconds_per_iteration(rows: Sequence[Row], case: str, way: str) -> dict[int, float]:
    batch_size = (
        next((row.batch_size for row in rows if (row.case, row.way) == (case, way)), None) or 0
    )
    return {
        at: batch_size / speed
        for at, speed in by_round(rows, case, way, "images_per_second").items()
    }


def _precision(rows: Sequence[Row], case: str, way: str) -> str:
    """What to add to a case's name where that way of it multiplies in bf16."""
    return f", {BF16}" if any(by_round(rows, case, way, "bf16").values()) else ""


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    fitted = stats.linregress(x, y)
    return float(fitted.slope), float(fitted.intercept), float(fitted.rvalue**2)


def _shown(found: Spread | None) -> str:
    return "–" if found is None else str(found)


def _ms(seconds: float) -> str:
    return f"{number(1e3 * seconds)} ms"


def _machine(rows: Sequence[Row]) -> str:
    return "; ".join(
        distinct(
            f"{row.processor}, {row.cores} core{'s' * (row.cores != 1)}, torch {row.torch}"
            for row in rows
        )
    )


def _failures(rows: Sequence[Row]) -> list[str]:
    lines = distinct(f"- {row.case}, {row.way}: {row.note}" for row in rows if row.note)
    return ["Without a number:", "", *lines, ""] if lines else []


def _provenance(rows: Sequence[Row], part: str) -> str:
    commits = ", ".join(
        distinct(row.commit[:12] + ("" if row.clean else " (tree not clean)") for row in rows)
    )
    times = sorted(row.measured_at for row in rows)
    rounds = max(row.round for row in rows)
    return f"`make bench PARTS={part}`: {rounds} round{'s' * (rounds != 1)}, {times[0]} to {times[-1]}, commit {commits}, on {_machine(rows)}."
