"""Figures and README of the autopsy from the committed tables: `python -m experiments.autopsy.figures results/autopsy`."""

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments.autopsy import convergence
from experiments.autopsy.claims import (
    DEPTH,
    REMEDIES,
    Case,
    bases,
    check,
    check_rates,
    label_of,
    prices_told,
    read_case,
    table,
)
from experiments.autopsy.kinds import runs_of
from experiments.autopsy.kinds import table as kinds_table
from experiments.depth.claims import counted
from experiments.depth.figures import ARM_STYLES, DEPTH_STYLES, OTHER_DEPTH_STYLE
from experiments.reporting.style import judged, markdown, measured_on, publish, regenerate
from experiments.reporting.style import label_of as depth_label_of

# Okabe and Ito's palette; untreated is black
COLOURS = dict(
    zip(REMEDIES, ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00"), strict=True)
)
OTHER_COLOUR = "#999999"
BRACKETS = (
    "In brackets: of a network at chance, whose loss settles onto that of guessing. A depth with such a network is in no fit but those of",
    "the last column, which decide nothing.",
)


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
            axis.plot(
                images,
                [100 * point.train_error for point in points],
                color=colour,
                linewidth=1.3,
                label=label,
            )
    axis.axhline(_guess(case), color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("thousands of images seen")
    axis.set_ylabel("running training error (%)")
    axis.set_ylim(0, 100)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    axis.set_title(
        f"plain-{DEPTH}, one remedy at a time\n{label_of(case)} · dotted: guessing", fontsize=11
    )
    return figure


def errors_figure(case: Case) -> Figure:
    """Final errors of plain-110 by remedy, training filled and test open, one marker a seed; lines for what they are held against."""
    rows = [case.untreated, *case.treated.values()]
    figure, axis = plt.subplots(figsize=(9.5, 1.4 + 0.45 * len(rows)), layout="constrained")
    for place, treated in enumerate(rows):
        for record in treated.records:
            axis.plot(100 * counted(record), -place, "o", color="#D55E00", markersize=7)
            axis.plot(
                100 * counted(record, "test_error"),
                -place,
                "o",
                color="#D55E00",
                markersize=7,
                fillstyle="none",
            )
    for (name, records), style in zip(case.references.items(), ("--", "-"), strict=True):
        if records:
            colour = ARM_STYLES[records[0].arm][0]
            mean = 100 * statistics.fmean(counted(record) for record in records)
            axis.axvline(
                mean,
                color=colour,
                linestyle=style,
                linewidth=1.2,
                label=f"{name}, untreated, training",
            )
    axis.axvline(_guess(case), color="grey", linewidth=0.8, linestyle=":", label="guessing")
    axis.set_yticks(
        [-place for place in range(len(rows))],
        [REMEDIES.get(treated.name, treated.name) for treated in rows],
    )
    axis.set_xlim(0, 100)
    axis.set_xlabel("error (%): running training error filled, test error open")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    axis.set_title(f"What remedies bring plain-{DEPTH}\n{label_of(case)}", fontsize=11)
    return figure


def convergence_figure(case: Case) -> Figure:
    """Training loss of plain networks against iteration by depth; right of it, where rates compare, rate of convergence against depth."""
    rated = case.base not in convergence.UNRATED
    figure, axes = plt.subplots(
        1, 1 + rated, figsize=(11 if rated else 6.5, 4.4), layout="constrained", squeeze=False
    )
    left = axes[0, 0]
    runs = runs_of(case.depth_curves)
    depths = sorted({depth for arm, depth, _ in runs if arm == "plain"})
    for (arm, depth, _), points in sorted(runs.items()):
        if arm == "plain":
            colour, _ = DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)
            left.plot(
                [p.iteration for p in points],
                [p.train_loss for p in points],
                color=colour,
                linewidth=1.1,
            )
    left.set_yscale("log")
    left.set_xlabel("iteration")
    left.set_ylabel("running training loss (nats), logarithmic")
    left.set_title("plain networks")
    handles = [
        Line2D([], [], color=DEPTH_STYLES.get(depth, OTHER_DEPTH_STYLE)[0], label=f"{depth} layers")
        for depth in depths
    ]
    left.legend(handles=handles, loc="best", fontsize=8)
    if rated:
        _rates(axes[0, 1], case)
    what = "Convergence" if rated else "Training loss"
    figure.suptitle(f"{what} by depth\n{depth_label_of(case.depth_records)}", fontsize=11)
    return figure


def _rates(axis: Axes, case: Case) -> None:
    """Filled where the rate is in a fit, open where it is not; lines over the depths that were fitted."""
    kinds = case.depth_kinds
    all_rates = convergence.rates_of(case.depth_curves, kinds)
    labelled: set[str] = set()

    def once(label: str) -> str | None:
        found = None if label in labelled else label
        labelled.add(label)
        return found

    for (arm, seed), rates in all_rates.items():
        colour, marker, _ = ARM_STYLES[arm]
        found = convergence.fits_of(all_rates, arm, convergence.unmeasured(kinds)).get(seed)
        fitted = found.rates if found else {}
        for depth, rate in rates.items():
            if rate > 0:
                style, label = ("full", arm) if depth in fitted else ("none", f"{arm}, in no fit")
                axis.plot(
                    depth,
                    1000 * rate,
                    linestyle="none",
                    marker=marker,
                    color=colour,
                    alpha=0.7,
                    fillstyle=style,
                    label=once(label),
                )
        if arm == "plain" and found:
            first, last = min(fitted), max(fitted)
            grid = [first + (last - first) * step / 100 for step in range(101)]
            for line, dashes, name in (
                (found.exponential, "-", "exponential"),
                (found.power, ":", "power law"),
            ):
                values = [1000 * line.rate(depth) for depth in grid]
                axis.plot(
                    grid,
                    values,
                    color=colour,
                    linestyle=dashes,
                    linewidth=1.0,
                    label=once(f"plain, {name}"),
                )
    depths = sorted({depth for rates in all_rates.values() for depth in rates})
    axis.set_yscale("log")
    axis.set_xticks(depths, [str(depth) for depth in depths])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("depth (weighted layers)")
    axis.set_ylabel("rate (1 / 1,000 iterations), logarithmic")
    axis.set_title("-d ln(training loss) / d iteration")
    axis.legend(loc="best", fontsize=8)


def _guess(case: Case) -> float:
    return 100 * (1 - 1 / case.untreated.records[0].num_classes)


def readme(cases: Sequence[Case]) -> str:
    """The generated README.md of results/autopsy."""
    lines = [
        f"# Autopsy of plain-{DEPTH}",
        "",
        "Generated from the tables of the remedies and of the depth experiment by `make figures`; not edited by hand. Kinds of run and",
        "criteria of the claims: [experiments/autopsy](../../experiments/autopsy/README.md).",
        "",
    ]
    for case in cases:
        if case.treated:
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
                "guessing were undone.",
                "",
                prices_told(case),
                "",
                measured_on(case.records),
                "",
            ]
    lines += [
        "## Kinds of run, untreated",
        "",
        "By depth; in brackets the most of the errors of guessing that were undone at any time, in %. Below 5 % a run is *at chance*.",
        "",
    ]
    for case in cases:
        lines += [
            f"**{depth_label_of(case.depth_records)}**",
            "",
            *markdown(kinds_table(case.depth_records, case.depth_curves)),
            "",
        ]
    for case in cases:
        rates = check_rates(case)
        lines += [
            f"## {'Rates of convergence' if rates else 'Convergence'}: {depth_label_of(case.depth_records)}",
            "",
            f"![training loss of plain networks by depth](figures/{case.base}_convergence.png)",
            "",
        ]
        if rates:
            lines += [
                *judged(rates),
                "",
                *markdown(convergence.table(case.depth_curves, case.depth_kinds)),
                "",
                "Rates per 1,000 iterations: minus the slope of ln(running training loss) against iteration after the warm-up.",
                *(BRACKETS if convergence.unmeasured(case.depth_kinds) else []),
                "",
            ]
        else:
            lines += [
                f"No rates under {case.base} and no claims about them: {convergence.UNRATED[case.base]}.",
                "",
            ]
        lines += [
            f"Iterations until the running training loss was at most {case.easy_loss:.2f} nats:",
            "",
            *markdown(convergence.times(case.depth_curves, case.easy_loss)),
            "",
        ]
    return "\n".join(lines).rstrip("\n") + "\n"


def make(folder: Path) -> list[Path]:
    """Writes README.md and the figures, two for each protocol with remedies and one for each with the depth experiment; returns them.

    Raises:
        ValueError: there are no records, or their tables are damaged.
    """
    cases = [read_case(folder, base) for base in bases(folder)]
    if not any(case.treated for case in cases):
        raise ValueError(f"no records in {folder}; make sweep-autopsy measures them")
    figures = {}
    for case in cases:
        if case.treated:
            figures[f"{case.base}_errors"] = partial(errors_figure, case)
            figures[f"{case.base}_curves"] = partial(curves_figure, case)
        figures[f"{case.base}_convergence"] = partial(convergence_figure, case)
    return publish(folder, figures, readme(cases))


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerates the given folders; 1 and one line where one has no usable tables."""
    return regenerate(make, "results/autopsy", arguments)


if __name__ == "__main__":
    sys.exit(main())
