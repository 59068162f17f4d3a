"""The charts of the depth experiment as Plotly figures: error against depth, and Figure 6.

Every trace says in `meta` what it shows, so that the page can pick traces; it makes none itself.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from experiments.depth.claims import ARMS, DepthRuns, published_rows
from experiments.judging.errors import chance_error
from experiments.judging.pairs import grouped
from experiments.reporting import style
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

SPLITS = {"train": "training error", "test": "test error"}
MEAN, SEED, PUBLISHED = "mean", "seed", "published"  # what a trace shows: its view
SYMBOLS = {"plain": "circle", "residual": "square"}
PUBLISHED_STYLES = {  # by kind: symbol, what the legend calls it
    "paper": ("diamond-open", "He et al. 2015"),
    "bound": ("triangle-up-open", "higher than this"),
    "reproduction": ("line-ew-open", "others"),
}
OWN = " (yours)"
Traces = list[go.Scatter]


def charts(runs: DepthRuns, own: DepthRuns | None = None) -> dict[str, go.Figure]:
    """Chart → figure: `depth`, and one of each arm with error against iteration.

    Args:
        own: what this machine measured under the same name, drawn over it.
    """
    sources = [(runs, False), *([(own, True)] if own else [])]
    depths = sorted({row.depth for each, _ in sources for row in each.records})
    by_depth = [
        trace
        for each, mine in sources
        for split in SPLITS
        for arm in ARMS
        for trace in _of_arm(each.records, split, arm, mine)
    ]
    by_depth += [trace for split in SPLITS for trace in _published(split)]
    by_depth.append(_guessing(runs.records[0], depths))
    figures = {"depth": _figure(by_depth, "depth (weighted layers), logarithmic")}
    ticks = {"tickvals": depths, "ticktext": list(map(str, depths)), "tickangle": 0}
    figures["depth"].update_layout(showlegend=True, xaxis={"type": "log", **ticks}, margin_r=76)
    points = [(read_curves(each.folder), mine) for each, mine in sources]
    for arm in ARMS:
        curves = [trace for read, mine in points for trace in _of_curves(read, arm, mine)]
        figures[arm] = _figure(curves, "iteration")
    return figures


def lowest_error(figures: Iterable[go.Figure]) -> float:
    """The smallest error above zero that any trace shows, in per cent: where a log axis begins."""
    return min(y for figure in figures for trace in figure.data for y in trace.y if y)


def _figure(traces: Traces, across: str) -> go.Figure:
    layout = {
        "template": None,
        "hovermode": "closest",
        "margin": {"l": 56, "r": 60, "t": 30, "b": 48},
        "showlegend": False,
        "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "font_size": 12},
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": "error (%)"}},
    }
    return go.Figure(traces, layout)


def _of_arm(records: Sequence[Record], split: str, arm: str, own: bool) -> Traces:
    """Error against depth: the mean with the range of its seeds, and each seed."""
    rows = [row for row in records if row.arm == arm]
    values = {
        depth: {row.seed: error for row, error in zip(of_one, errors, strict=True)}
        for depth, of_one, errors in _errors(rows, arm, f"{split}_error")
    }
    if not values:
        return []
    iterations = {(row.depth, row.seed): row.iterations for row in rows}
    means = {depth: statistics.fmean(seeds.values()) for depth, seeds in values.items()}
    colour, _, _ = style.ARM_STYLES[arm]
    look: dict[str, Any] = {
        "name": "yours",
        "legendgroup": f"{arm}{own}",
        "showlegend": False,
        "line": {"color": colour, "dash": "dot" if own else "solid", "width": 3},
        "marker": {"symbol": "x" if own else SYMBOLS[arm], "size": 10, "color": colour},
        "mode": "lines+markers+text",
        "textposition": "middle right",
        "cliponaxis": False,
    }
    depths = list(values)
    highest = [max(values[d].values()) - means[d] for d in depths]
    lowest = [means[d] - min(values[d].values()) for d in depths]
    of_mean = go.Scatter(
        x=depths,
        y=_rounded(means.values()),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": _rounded(highest),
            "arrayminus": _rounded(lowest),
            "visible": any(len(seeds) > 1 for seeds in values.values()),
        },
        text=_at_the_end(depths, arm, own),
        customdata=[
            [
                d,
                _of_seeds(values[d]),
                f"{min(values[d].values()):.2f} to {max(values[d].values()):.2f} %",
            ]
            for d in depths
        ],
        hovertemplate=(
            f"<b>{arm}-%{{customdata[0]}}</b>{OWN * own}, %{{customdata[1]}}<br>"
            f"{SPLITS[split]} %{{y:.2f}} %<br>seeds: %{{customdata[2]}}<extra></extra>"
        ),
        meta=_meta(split, MEAN, arm, own=own),
        **{**look, "showlegend": own and arm == ARMS[0]},
    )
    of_seeds = []
    for seed in sorted({seed for seeds in values.values() for seed in seeds}):
        shown = [d for d in depths if seed in values[d]]
        of_seeds.append(
            go.Scatter(
                x=shown,
                y=_rounded(values[d][seed] for d in shown),
                text=_at_the_end(shown, arm, own),
                customdata=[[d, f"{iterations[d, seed]:,}"] for d in shown],
                hovertemplate=(
                    f"<b>{arm}-%{{customdata[0]}}</b>{OWN * own}, seed {seed}<br>"
                    f"after %{{customdata[1]}} iterations<br>"
                    f"{SPLITS[split]} %{{y:.2f}} %<extra></extra>"
                ),
                meta=_meta(split, SEED, arm, seed=seed, own=own),
                **{**look, "line": {**look["line"], "width": 1.5}},
            )
        )
    return [of_mean, *of_seeds]


def _at_the_end(depths: Sequence[int], arm: str, own: bool) -> list[str]:
    """The name of the arm as the text of the last point; the legend names a line of one's own."""
    return [*[""] * (len(depths) - 1), "" if own else f" {arm}"]


def _errors(rows: Sequence[Record], arm: str, measure: str) -> list[tuple[int, list[Record], Any]]:
    """Depth, its rows by seed, and their errors in per cent."""
    by_depth = style.errors_by_depth(rows, arm, measure)
    ordered = grouped(sorted(rows, key=lambda row: (row.depth, row.seed)), lambda row: row.depth)
    return [(depth, ordered[depth], errors) for depth, errors in by_depth.items()]


def _published(split: str) -> Traces:
    """The paper's values and those of others: original CIFAR-10, 64,000 iterations."""
    traces = []
    rows = [row for row in published_rows() if row["split"] == split]
    for (arm, kind), found in grouped(rows, lambda row: (row["arm"], row["kind"])).items():
        symbol, source = PUBLISHED_STYLES[kind]
        colour, _, _ = style.ARM_STYLES[arm]
        traces.append(
            go.Scatter(
                x=[int(row["depth"]) for row in found],
                y=[float(row["error_percent"]) for row in found],
                mode="markers",
                marker={"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2}},
                name=source,
                legendgroup=kind,
                showlegend=arm == rows[0]["arm"] or kind == "bound",
                customdata=[
                    [
                        int(row["depth"]),
                        row["source"].replace(" (arXiv", "<br>(arXiv"),
                        f" ± {row['spread']}" * bool(row["spread"]),
                        f"<br>{row['note']}" * bool(row["note"]),
                    ]
                    for row in found
                ],
                hovertemplate=(
                    f"<b>{arm}-%{{customdata[0]}}</b>, CIFAR-10, 64,000 iterations<br>"
                    f"%{{customdata[1]}}<br>{SPLITS[split]} %{{y}}%{{customdata[2]}} %"
                    "%{customdata[3]}<extra></extra>"
                ),
                meta=_meta(split, PUBLISHED, arm),
            )
        )
    return traces


def _guessing(record: Record, depths: Sequence[int]) -> go.Scatter:
    chance = 100 * chance_error(record.num_classes)
    return go.Scatter(
        x=[depths[0], depths[-1]],
        y=[chance, chance],
        mode="lines+text",
        text=["guessing", ""],
        textposition="bottom right",
        line={"color": "grey", "dash": "dot", "width": 1.5},
        showlegend=False,
        hovertemplate=f"guessing: {chance:g} %<extra></extra>",
        meta={},
    )


def _of_curves(curves: Sequence[CurvePoint], arm: str, own: bool) -> Traces:
    """Error against iteration: of each depth the mean, its range over seeds, and each seed."""
    traces = []
    by_depth = grouped((point for point in curves if point.arm == arm), lambda point: point.depth)
    for split in SPLITS:
        for depth in sorted(by_depth, reverse=True):
            points = [p for p in by_depth[depth] if getattr(p, f"{split}_error") is not None]
            traces += _of_network(points, split, arm, depth, own) if points else []
    return traces


def _of_network(
    points: Sequence[CurvePoint], split: str, arm: str, depth: int, own: bool
) -> Traces:
    colour = style.depth_colour(depth)
    look: dict[str, Any] = {
        "line": {"color": colour, "width": 2.5, "dash": "dot" if own else "solid"},
        "textposition": "middle right",
        "cliponaxis": False,
        "name": f"{depth}{OWN * own}",
    }

    def error(point: CurvePoint) -> float:
        return 100 * getattr(point, f"{split}_error")

    by_iteration = grouped(points, lambda point: point.iteration)
    steps = sorted(by_iteration)
    errors = [[error(point) for point in by_iteration[step]] for step in steps]
    seeds = sorted({point.seed for point in points})
    cell = f"<b>{arm}-{depth}</b>{OWN * own}"
    number = _of_seeds(seeds)
    meta = _meta(split, MEAN, arm, depth, own=own)
    traces = []
    if len(seeds) > 1:
        around = [*map(max, errors), *reversed([*map(min, errors)])]
        traces.append(
            go.Scatter(
                x=[*steps, *reversed(steps)],
                y=_rounded(around),
                fill="toself",
                fillcolor=_faint(colour),
                mode="lines",
                line={"width": 0, "color": colour},
                hoverinfo="skip",
                meta={**meta, "band": True},
            )
        )
    traces.append(
        _line(steps, map(statistics.fmean, errors), f"{cell}, {number}", split, meta, look)
    )
    for seed in seeds:
        of_seed = [point for point in points if point.seed == seed]
        meta = _meta(split, SEED, arm, depth, seed, own)
        thin = {**look, "line": {**look["line"], "width": 1.5}}
        name = f"{cell}, seed {seed}"
        across = [point.iteration for point in of_seed]
        traces.append(_line(across, map(error, of_seed), name, split, meta, thin))
    return traces


def _line(
    across: Sequence[int],
    errors: Iterable[float],
    name: str,
    split: str,
    meta: dict[str, Any],
    look: dict[str, Any],
) -> go.Scatter:
    """A curve with its depth written at its end."""
    hover = f"{name}<br>iteration %{{x:,}}<br>{SPLITS[split]} %{{y:.2f}} %<extra></extra>"
    return go.Scatter(
        x=list(across),
        y=_rounded(errors),
        mode="lines+text",
        text=[*[""] * (len(across) - 1), f" {meta['depth']}"],
        hovertemplate=hover,
        meta=meta,
        **look,
    )


def _meta(
    split: str,
    view: str,
    arm: str,
    depth: int | None = None,
    seed: int | None = None,
    own: bool = False,
) -> dict[str, Any]:
    return {
        "split": split,
        "view": view,
        "arm": arm,
        "depth": depth,
        "seed": seed,
        "own": own,
    }


def _of_seeds(seeds: Iterable[Any]) -> str:
    number = len(list(seeds))
    return f"mean of {number} seeds" if number > 1 else "1 seed"


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
