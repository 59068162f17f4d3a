"""Figures and README of the autopsy from the committed tables: `python -m experiments.autopsy.figures results/autopsy`."""

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.autopsy import convergence
from experiments.autopsy.claims import BASES, DEPTH, REMEDIES, Case, bases, check, label_of, read_case, table
from experiments.depth.claims import counted
from experiments.depth.figures import ARM_STYLES, DEPTH_STYLES, OTHER_DEPTH_STYLE
from experiments.report import judged, markdown, measured_on, publish, regenerate
from experiments.report import label_of as depth_label_of
from plainres.record import CURVES_TABLE, CurvePoint, Record, read_curves, read_runs

# Okabe and Ito's palette; untreated is black
COLOURS = dict(zip(REMEDIES, ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00"), strict=True))
OTHER_COLOUR = "#999999"


def curves_figure(case: Case) -> Figure:
    """Running training error of plain-110 against images seen, untreated and with each remedy; one line a seed."""
    figure, axis = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    for treated in (case.untreated, *case.treated.values()):
        colour = "#000000" if treated is case.untreated else COLOURS.get(treated.name, OTHER_COLOUR)
        for number, record in enumerate(treated.records):
            batch = record.images_per_second * record.seconds / record.iterations
            points = [point for point in treated.curves if point.seed == record.seed]
            label = REMEDIES.get(treated.name, treated.name) if number == 0 else None
            images = [batch * point.iteration / 1000 for point in points]
            axis.plot(images, [100 * point.train_error for point in points], color=colour, linewidth=1.3, label=label)
    axis.axhline(_guess(case), color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("thousands of images seen")
    axis.set_ylabel("running training error (%)")
    axis.set_ylim(0, 100)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    axis.set_title(f"plain-{DEPTH}, one remedy at a time\n{label_of(case)} · dotted: guessing", fontsize=11)
    return figure


def errors_figure(case: Case) -> Figure:
    """Final errors of plain-110 by remedy, training filled and test open, one marker a seed; lines for what they are held against."""
    rows = [case.untreated, *case.treated.values()]
    figure, axis = plt.subplots(figsize=(9.5, 1.4 + 0.45 * len(rows)), layout="constrained")
    for place, treated in enumerate(rows):
        for record in treated.records:
            axis.plot(100 * counted(record), -place, "o", color="#D55E00", markersize=7)
            axis.plot(100 * counted(record, "test_error"), -place, "o", color="#D55E00", markersize=7, fillstyle="none")
    for (name, records), style in zip(case.references.items(), ("--", "-"), strict=True):
        if records:
            colour = ARM_STYLES[records[0].arm][0]
            mean = 100 * statistics.fmean(counted(record) for record in records)
            axis.axvline(mean, color=colour, linestyle=style, linewidth=1.2, label=f"{name}, untreated, training")
    axis.axvline(_guess(case), color="grey", linewidth=0.8, linestyle=":", label="guessing")
    axis.set_yticks([-place for place in range(len(rows))], [REMEDIES.get(treated.name, treated.name) for treated in rows])
    axis.set_xlim(0, 100)
    axis.set_xlabel("error (%): running training error filled, test error open")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    axis.set_title(f"What remedies bring plain-{DEPTH}\n{label_of(case)}", fontsize=11)
    return figure


def convergence_figure(records: Sequence[Record], curves: Sequence[CurvePoint]) -> Figure:
    """Left: training loss of plain networks against iteration by depth. Right: rate of convergence against depth, with both lines."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    depths = sorted({point.depth for point in curves})
    for depth in depths:
        colour, _ = DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)
        for number, seed in enumerate(sorted({point.seed for point in curves})):
            points = [point for point in curves if (point.arm, point.depth, point.seed) == ("plain", depth, seed)]
            label = f"{depth} layers" if number == 0 else None
            left.plot([p.iteration for p in points], [p.train_loss for p in points], color=colour, linewidth=1.1, label=label)
    left.set_yscale("log")
    left.set_xlabel("iteration")
    left.set_ylabel("running training loss (nats), logarithmic")
    left.set_title("plain networks")
    left.legend(loc="best", fontsize=8)
    shown = False
    all_rates = convergence.rates_of(curves)
    for (arm, seed), rates in all_rates.items():
        colour, marker, _ = ARM_STYLES.get(arm, ("#999999", "*", "-"))
        falling = {depth: 1000 * rate for depth, rate in rates.items() if rate > 0}
        label = arm if seed == min(point.seed for point in curves if point.arm == arm) else None
        right.plot(list(falling), list(falling.values()), linestyle="none", marker=marker, color=colour, alpha=0.7, label=label)
        found = convergence.fits_of(all_rates, arm).get(seed)
        if arm == "plain" and found:
            grid = [depths[0] + (depths[-1] - depths[0]) * step / 100 for step in range(101)]
            for line, style, name in ((found.exponential, "-", "exponential"), (found.power, ":", "power law")):
                values = [1000 * line.rate(depth) for depth in grid]
                right.plot(grid, values, color=colour, linestyle=style, linewidth=1.0, label=None if shown else f"plain, {name}")
            shown = True
    right.set_yscale("log")
    right.set_xticks(depths, [str(depth) for depth in depths])
    right.xaxis.set_minor_locator(NullLocator())
    right.set_xlabel("depth (weighted layers)")
    right.set_ylabel("rate (1 / 1,000 iterations), logarithmic")
    right.set_title("-d ln(training loss) / d iteration")
    right.legend(loc="best", fontsize=8)
    figure.suptitle(f"Convergence by depth\n{depth_label_of(records)}", fontsize=11)
    return figure


def _guess(case: Case) -> float:
    return 100 * (1 - 1 / case.untreated.records[0].num_classes)


def readme(cases: Sequence[Case], depths: dict[str, tuple[list[Record], list[CurvePoint]]]) -> str:
    """The generated README.md of results/autopsy.

    Args:
        depths: records and curves of the depth experiment, by protocol.
    """
    lines = [
        f"# Autopsy of plain-{DEPTH}",
        "",
        "Generated from the tables of the remedies and of the depth experiment by `make figures`; not edited by hand. Kinds of run and",
        "criteria of the claims: [experiments/autopsy](../../experiments/autopsy/README.md).",
        "",
    ]
    for case in cases:
        lines += [
            f"## Remedies: {label_of(case)}",
            "",
            f"![errors by remedy](figures/{case.base}_errors.png)",
            "",
            f"![training error against images seen](figures/{case.base}_curves.png)",
            "",
            *judged(check(case)),
            "",
            *markdown(table(case)),
            "",
            "Errors in %, means over seeds; training error is the running one. *learned after*: iterations until half of the errors of",
            "guessing were undone. Seconds are held against those of the untreated networks where processor and precision are the same.",
            "",
            measured_on(case.records),
            "",
        ]
    for base, (records, curves) in depths.items():
        lines += [
            f"## Rates of convergence: {depth_label_of(records)}",
            "",
            f"![training loss, and rate of convergence against depth](figures/{base}_convergence.png)",
            "",
            *judged(convergence.check(convergence.rates_of(curves))),
            "",
            *markdown(convergence.table(curves, records[0].num_classes)),
            "",
            "Rates per 1,000 iterations: minus the slope of ln(running training loss) against iteration after the warm-up.",
            "",
        ]
    return "\n".join(lines).rstrip("\n") + "\n"


def make(folder: Path) -> list[Path]:
    """Writes three figures a protocol and README.md; returns what it wrote.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    cases = [read_case(folder, base) for base in bases(folder)]
    if not cases:
        raise ValueError(f"no records in {folder}; make sweep-autopsy measures them")
    depth = folder.parent / "depth"
    depths = {base: (read_runs(depth / base), read_curves(depth / base)) for base in BASES if (depth / base / CURVES_TABLE).exists()}
    figures = {}
    for case in cases:
        figures[f"{case.base}_errors"] = partial(errors_figure, case)
        figures[f"{case.base}_curves"] = partial(curves_figure, case)
    for base, (records, curves) in depths.items():
        figures[f"{base}_convergence"] = partial(convergence_figure, records, curves)
    return publish(folder, figures, readme(cases, depths))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/autopsy", arguments)


if __name__ == "__main__":
    sys.exit(main())
