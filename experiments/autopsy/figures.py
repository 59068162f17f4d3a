"""The figures of the autopsy."""

import statistics
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from experiments.autopsy import convergence
from experiments.autopsy.claims import (
    DEPTH,
    REMEDIES,
    UNTREATED,
    ProtocolRuns,
    RemedyRuns,
    check_remedies,
    remedies_label_of,
)
from experiments.judging.errors import chance_error, error_or_chance
from experiments.judging.verdict import INCONCLUSIVE, REPRODUCED
from experiments.reporting import markdown, style
from experiments.reporting.question import Drawing
from experiments.reporting.style import ARM_STYLES, BLACK, GREY, VERMILLION, key_line

ROWS = 2  # of panels, one panel for each remedy


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
    """Running training error of plain-110 against images seen: one panel per remedy.

    A line per seed; black: untreated. Dashed where no untreated network was measured under the same
    conditions.
    """
    panels: Any = {"sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(ROWS, -(-len(runs.remedies) // ROWS), **panels)
    for axis in axes.flat[len(runs.remedies) :]:
        axis.set_axis_off()
    for axis, remedy in zip(axes.flat, runs.remedies.values(), strict=False):
        _draw_runs(axis, runs.untreated, BLACK)
        _draw_runs(axis, remedy, VERMILLION)
        axis.axhline(_chance(runs), **style.REFERENCE)
        axis.set_title(remedy.title)
        axis.set_ylim(0, 100)
        axis.xaxis.set_major_locator(MaxNLocator(4))
    figure.supylabel("running training error (%)")
    for axis in axes[-1]:
        axis.set_xlabel("images seen (thousands)")
    judged = zip(REMEDIES, check_remedies(runs)[1:], strict=False)
    claims = [claim for remedy, claim in judged if remedy in runs.remedies]
    gain = sum(claim.verdict == REPRODUCED for claim in claims)
    undecided = sum(claim.verdict == INCONCLUSIVE for claim in claims)
    untested = " (not tested)" if any(claim.is_direction for claim in claims) else ""
    title = (
        f"Remedies of plain-{DEPTH} that gain 10 points: {gain} of {len(claims)}, "
        f"{undecided} open{untested}"
    )
    notes = ["black: untreated", "a line per seed", "dotted: guessing"]
    if _incomparable(runs):
        notes.append("dashed: no untreated run under the same conditions")
    return style.titled(figure, title, remedies_label_of(runs), *notes)


def _draw_runs(axis: Axes, remedy: RemedyRuns, colour: str) -> None:
    for record in remedy.records:
        batch = record.images_per_second * record.seconds / record.iterations
        points = [point for point in remedy.curves if point.seed == record.seed]
        images = [batch * point.iteration / 1000 for point in points]
        errors = [100 * point.train_error for point in points]
        comparable = remedy.name == UNTREATED or record.seed in remedy.compared
        axis.plot(images, errors, "-" if comparable else "--", color=colour, linewidth=1.5)


def errors_figure(runs: ProtocolRuns) -> Figure:
    """Final training errors of plain-110 by remedy, a row for each seed, and of the references.

    A line leads to the untreated network of the seed under the same conditions; grey where there is
    none.
    """
    rows = runs.all_runs
    figure, axis = plt.subplots(layout="constrained")
    for place, remedy in enumerate(rows):
        untreated = remedy.errors[UNTREATED]
        step = min(0.22, 0.8 / max(1, len(remedy.records)))
        for number, record in enumerate(remedy.records):
            y = -place + step * ((len(remedy.records) - 1) / 2 - number)
            compared = record.seed in remedy.compared
            colour = VERMILLION if compared or remedy is runs.untreated else GREY
            points: dict[str, Any] = {"color": colour, "markersize": 7}
            error = 100 * error_or_chance(record)
            axis.plot(error, y, "o", **points)
            if compared:
                before = 100 * untreated[record.seed]
                axis.plot([before, error], [y, y], color=colour, linewidth=1.5)
                axis.plot(before, y, "|", color=BLACK, markersize=10, markeredgewidth=2)
    keys = {"linestyle": "none", "color": VERMILLION, "marker": "o"}
    handles = [
        key_line("a seed", **keys),
        key_line(
            "the same, untreated", **(keys | {"color": BLACK, "marker": "|", "markersize": 10})
        ),
    ]
    for (name, records), line in zip(runs.references.items(), ("--", "-"), strict=True):
        if records:
            mean = 100 * statistics.fmean(error_or_chance(record) for record in records)
            drawn: Any = {"color": ARM_STYLES[records[0].arm][0], "linestyle": line}
            axis.axvline(mean, **drawn)
            handles.append(key_line(name, **drawn))
    if _incomparable(runs):
        handles.append(key_line("no such untreated run", **(keys | {"color": GREY})))
    axis.axvline(_chance(runs), **style.REFERENCE)
    axis.set_yticks([-place for place in range(len(rows))], [remedy.title for remedy in rows])
    axis.set_xlim(0, 100)
    axis.set_xlabel("running training error (%)")
    reference = list(runs.references)[-1]
    title = style.message(
        f"No remedy brings plain-{DEPTH} down to {reference}",
        f"Does plain-{DEPTH} stay above {reference} with every remedy?",
        check_remedies(runs)[-1:],
    )
    return style.titled(figure, title, remedies_label_of(runs), "dotted: guessing", keys=handles)


def _incomparable(runs: ProtocolRuns) -> bool:
    """Whether a treated run has no untreated one under the same conditions."""
    return any(len(remedy.comparable) < len(remedy.records) for remedy in runs.remedies.values())


def _chance(runs: ProtocolRuns) -> float:
    return 100 * chance_error(runs.untreated.records[0].num_classes)


def convergence_figure(runs: ProtocolRuns) -> Figure:
    """Training loss of plain networks by iteration; where rates compare, rates by depth."""
    figure, axes = plt.subplots(1, 1 + runs.rated, layout="constrained", squeeze=False)
    left = axes[0, 0]
    plain = [point for point in runs.depth_curves if point.arm == "plain"]
    for depth in style.shown(point.depth for point in plain):
        points = [point for point in plain if point.depth == depth]
        named: Any = {"color": style.depth_colour(depth), "label": f"{depth} layers"}
        style.draw_curves(left, points, "train_loss", 1, **named)
    left.set_yscale("log")
    left.set(xlabel="iteration", ylabel="running training loss (nats), log.")
    style.label_ends(left)
    label = markdown.label_of(runs.depth_records)
    if not runs.rated:
        title = "How does the training loss of plain networks fall, by depth?"
        return style.titled(figure, title, label)
    left.set_title("training loss of plain networks")
    title = style.message(
        "Plain networks converge exponentially more slowly with depth",
        "Do plain networks converge exponentially more slowly with depth?",
        convergence.check(runs.rates, runs.unmeasured, runs.incomparable)[:1],
    )
    return style.titled(figure, title, label, keys=_draw_rates(axes[0, 1], runs))


def _draw_rates(axis: Axes, runs: ProtocolRuns) -> list[Any]:
    """Filled where the rate is in a fit, open where not; lines over the depths that were fitted.

    Returns the keys of the legend.
    """
    for (arm, seed), rates in runs.rates.items():
        colour, marker, _ = ARM_STYLES[arm]
        lines = convergence.fits_of(runs.rates, arm, runs.unmeasured).get(seed)
        fitted = lines.rates if lines else {}
        points: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none"}
        for depth, rate in rates.items():
            if rate > 0:
                fill, label = ("full", arm) if depth in fitted else ("none", f"{arm}, in no fit")
                axis.plot(depth, 1000 * rate, alpha=0.7, fillstyle=fill, label=label, **points)
        if arm == "plain" and lines:
            first, last = min(fitted), max(fitted)
            grid = [first + (last - first) * step / 100 for step in range(101)]
            for line, law_colour, name in (
                (lines.exponential, colour, "exponential"),
                (lines.power, GREY, "power law"),
            ):
                law: Any = {"color": law_colour, "linewidth": 1, "label": name}
                axis.plot(grid, [1000 * line.rate(depth) for depth in grid], **law)
    depths = sorted({depth for rates in runs.rates.values() for depth in rates})
    axis.set_yscale("log")
    axis.set_xlabel("depth (weighted layers)")
    axis.set_xticks(depths, [str(d) if d in style.shown(depths) else "" for d in depths])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylabel("rate (1 / 1,000 iterations), log.")
    axis.set_title("rate of convergence")
    handles, labels = axis.get_legend_handles_labels()
    return [*dict(zip(labels, handles, strict=True)).values()]
