"""The figures of the autopsy."""

import statistics
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments.autopsy import convergence
from experiments.autopsy.claims import DEPTH, REMEDIES, UNTREATED, ProtocolRuns, label_of
from experiments.autopsy.run_status import runs_of
from experiments.judging.errors import chance_error, error_or_chance
from experiments.reporting import markdown
from experiments.reporting.question import Drawing
from experiments.reporting.style import ARM_STYLES, depth_colour, key_line, labelled, titled

# Okabe and Ito's palette; untreated is black
COLOURS = dict(
    zip(REMEDIES, ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00"), strict=True)
)
OTHER_COLOUR = "#999999"
DASHED = "dashed: no untreated run under the same conditions"


def drawings(runs: ProtocolRuns) -> list[Drawing]:
    """Two figures where remedies were tried, and one of all depths."""
    shown = []
    if runs.remedies:
        shown += [
            ("errors", "errors by remedy", errors_figure),
            ("curves", "training error against images seen", curves_figure),
        ]
    loss = "training loss of plain networks by depth"
    shown.append(("convergence", loss, convergence_figure))
    return [Drawing(f"{runs.protocol}_{n}", alt, partial(draw, runs)) for n, alt, draw in shown]


def curves_figure(runs: ProtocolRuns) -> Figure:
    """Running training error of plain-110 against images seen, by remedy; one line per seed.

    Dashed where no untreated network was measured under the same conditions.
    """
    figure, axis = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    handles = []
    for remedy in runs.all_runs:
        untreated = remedy is runs.untreated
        colour = "#000000" if untreated else COLOURS.get(remedy.name, OTHER_COLOUR)
        handles.append(key_line(remedy.title, color=colour))
        for record in remedy.records:
            batch = record.images_per_second * record.seconds / record.iterations
            points = [point for point in remedy.curves if point.seed == record.seed]
            images = [batch * point.iteration / 1000 for point in points]
            errors = [100 * point.train_error for point in points]
            dashes = "-" if untreated or record.seed in remedy.compared else "--"
            axis.plot(images, errors, color=colour, linewidth=1.3, linestyle=dashes)
    axis.axhline(_chance(runs), color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("thousands of images seen")
    axis.set_ylabel("running training error (%)")
    axis.set_ylim(0, 100)
    axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    heading = f"plain-{DEPTH}, one remedy at a time"
    return titled(figure, heading, label_of(runs), f"{DASHED} · dotted: guessing")


def errors_figure(runs: ProtocolRuns) -> Figure:
    """Final errors of plain-110 by remedy, one marker per seed, and those of the references.

    A line leads to the untreated network of the seed under the same conditions; grey where there is
    none.
    """
    rows = runs.all_runs
    figure, axis = plt.subplots(figsize=(9.5, 1.6 + 0.45 * len(rows)), layout="constrained")
    for place, remedy in enumerate(rows):
        untreated = remedy.errors[UNTREATED]
        for record in remedy.records:
            compared = record.seed in remedy.compared
            colour = "#D55E00" if compared or remedy is runs.untreated else OTHER_COLOUR
            style: dict[str, Any] = {"color": colour, "markersize": 7}
            error = 100 * error_or_chance(record)
            axis.plot(error, -place, "o", **style)
            test = 100 * error_or_chance(record, "test_error")
            axis.plot(test, -place, "o", fillstyle="none", **style)
            if compared:
                before = 100 * untreated[record.seed]
                axis.plot([before, error], [-place] * 2, color=colour, linewidth=1)
                axis.plot(before, -place, "|", color="#000000", markersize=12)
    for (name, records), line in zip(runs.references.items(), ("--", "-"), strict=True):
        if records:
            mean = 100 * statistics.fmean(error_or_chance(record) for record in records)
            colour, label = ARM_STYLES[records[0].arm][0], f"{name}, untreated, training"
            axis.axvline(mean, color=colour, linestyle=line, linewidth=1.2, label=label)
    axis.axvline(_chance(runs), color="grey", linewidth=0.8, linestyle=":", label="guessing")
    handles, _ = axis.get_legend_handles_labels()
    keys = {"linestyle": "none", "color": "#D55E00", "marker": "o"}
    handles += [
        key_line("running training error", **keys),
        key_line("test error", **(keys | {"fillstyle": "none"})),
        key_line("untreated, same conditions", **(keys | {"color": "#000000", "marker": "|"})),
        key_line("without such an untreated run", **(keys | {"color": OTHER_COLOUR})),
    ]
    axis.set_yticks([-place for place in range(len(rows))], [remedy.title for remedy in rows])
    axis.set_xlim(0, 100)
    axis.set_xlabel("error (%)")
    axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return titled(figure, f"What remedies bring plain-{DEPTH}", label_of(runs))


def _chance(runs: ProtocolRuns) -> float:
    return 100 * chance_error(runs.untreated.records[0].num_classes)


def convergence_figure(runs: ProtocolRuns) -> Figure:
    """Training loss of plain networks by iteration; where rates compare, rates by depth."""
    size = (11 if runs.rated else 6.5, 4.4)
    figure, axes = plt.subplots(
        1, 1 + runs.rated, figsize=size, layout="constrained", squeeze=False
    )
    left, handles = axes[0, 0], {}
    for (arm, depth, _), points in sorted(runs_of(runs.depth_curves).items()):
        if arm == "plain":
            colour = depth_colour(depth)
            steps, losses = [p.iteration for p in points], [p.train_loss for p in points]
            left.plot(steps, losses, color=colour, linewidth=1.1)
            handles[depth] = Line2D([], [], color=colour, label=f"{depth} layers")
    left.set_yscale("log")
    left.set_xlabel("iteration")
    left.set_ylabel("running training loss (nats), logarithmic")
    left.set_title("plain networks")
    left.legend(handles=handles.values(), loc="best", fontsize=8)
    if runs.rated:
        _draw_rates(axes[0, 1], runs)
    what = "Convergence" if runs.rated else "Training loss"
    return titled(figure, f"{what} by depth", markdown.label_of(runs.depth_records))


def _draw_rates(axis: Axes, runs: ProtocolRuns) -> None:
    """Filled where the rate is in a fit, open where not; lines over the depths that were fitted."""
    for (arm, seed), rates in runs.rates.items():
        colour, marker, _ = ARM_STYLES[arm]
        lines = convergence.fits_of(runs.rates, arm, runs.unmeasured).get(seed)
        fitted = lines.rates if lines else {}
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none"}
        for depth, rate in rates.items():
            if rate > 0:
                fill, label = ("full", arm) if depth in fitted else ("none", f"{arm}, in no fit")
                axis.plot(depth, 1000 * rate, alpha=0.7, fillstyle=fill, label=label, **style)
        if arm == "plain" and lines:
            first, last = min(fitted), max(fitted)
            grid = [first + (last - first) * step / 100 for step in range(101)]
            laws = ((lines.exponential, "-", "exponential"), (lines.power, ":", "power law"))
            for line, dashes, name in laws:
                style = {"color": colour, "linestyle": dashes, "label": f"plain, {name}"}
                axis.plot(grid, [1000 * line.rate(depth) for depth in grid], linewidth=1.0, **style)
    depths = sorted({depth for rates in runs.rates.values() for depth in rates})
    axis.set_yscale("log")
    axis.set_xticks(depths, [str(depth) for depth in depths])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("depth (weighted layers)")
    axis.set_ylabel("rate (1 / 1,000 iterations), logarithmic")
    axis.set_title("-d ln(training loss) / d iteration")
    handles = labelled([axis])
    axis.legend(handles.values(), handles, loc="best", fontsize=8)
