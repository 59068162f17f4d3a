"""Writes the event files below results/local/events, and says what to look at first."""

import base64
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from experiments.events import curves, others
from experiments.events.curves import Tables
from experiments.grid import SLUGS
from plainres.records import tags

FOLDER = "events"  # below results/local
FIGURES, LAYERS = "figures", "layers"
HERE = "this machine"  # the runs below results/local, as a folder of links
FILE = "events.out.tfevents.tables"
MEANS = "all seeds/{} layers"
# Custom Scalars gives its seven colours to the runs in the order in which they began: orange, blue,
# red, light blue, pink, green, grey. In this order they are nearest to those of the figures
# (experiments/reporting/style.py), which have black for 110 layers
COLOURED = (14, 20, 56, 110, 44, 32, 8)
# Time Series colours runs by what this finds in their names
DEPTH_IN_NAME = r"(\d+)(?: layers|-seed)"


def write(local: Path, results: Path, shown: Sequence[Tables]) -> str:
    """Writes everything anew; returns the address of the finding below TensorBoard's own.

    Args:
        local: results/local; its runs are linked, so that TensorBoard sees them grow.
        shown: the first one and those of this machine are open in Custom Scalars, on top.
    """
    folder = local / FOLDER
    if folder.exists():
        shutil.rmtree(folder)
    means, time = curves.means(shown), curves.newest(shown)
    runs: dict[str, Iterable[Event]] = {
        FIGURES: others.figures(results, [tables.place for tables in shown], time),
        LAYERS: others.layers(results, time),
    }
    for tables in shown:
        runs |= {} if tables.own else curves.cells(tables)
    training = any(local.glob("depth/*/runs/*"))
    first, *_ = names = [MEANS.format(depth) for depth in means]
    starts = _starts(means, runs)
    for name, events in zip(names, means.values(), strict=True):
        head = [_layout_event(shown, training, time), curves.columns(time)] if name == first else []
        write_run(folder / name, starts[name], [*head, *events])
    for name, of_run in runs.items():
        write_run(folder / name, starts[name], of_run)
    _link(folder / HERE, local)
    return address([*names, FIGURES, LAYERS], shown[0])


def write_run(folder: Path, start: float, events: Iterable[Event]) -> None:
    """One run of TensorBoard: a folder with one file; the same events give the same bytes.

    Args:
        start: when the run began; runs get their colours in this order.
    """
    folder.mkdir(parents=True)
    with (folder / FILE).open("wb") as file:
        writer = RecordWriter(file)
        for event in chain([Event(wall_time=start, file_version="brain.Event:2")], events):
            writer.write(event.SerializeToString())


def _starts(depths: Iterable[int], further: Iterable[str]) -> dict[str, int]:
    """Run → place among all; the places of depths that are not there go to other runs."""
    places = {MEANS.format(depth): COLOURED.index(depth) for depth in depths if depth in COLOURED}
    free = (place for place in count() if place not in places.values())
    rest = [name for name in map(MEANS.format, depths) if name not in places]
    return places | dict(zip([*further, *rest], free, strict=False))


def _link(folder: Path, local: Path) -> None:
    folder.mkdir()
    own = (each.name for each in local.iterdir() if each.is_dir())
    for name in {*SLUGS, *own} - {FOLDER}:  # also those that begin later
        (folder / name).symlink_to(os.path.relpath(local / name, folder))


def _layout_event(shown: Sequence[Tables], training: bool, time: float) -> Event:
    """Custom Scalars: plain beside residual, first what is open.

    Args:
        training: whether this machine has runs, finished or not.
    """
    layouts = [(curves.layout(tables), tables.own or tables is shown[0]) for tables in shown]
    categories: list[layout_pb2.Category] = []
    for each, opened in [*layouts, (tags.layout_of_cells(), training)]:
        first, *rest = _categories(each)
        first.closed = not opened
        categories += [first, *rest]
    categories.sort(key=lambda category: category.closed)
    layout = layout_pb2.Layout(category=categories)
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata.create_summary_metadata(),
        tensor=curves.strings(layout.SerializeToString()),
    )
    return Event(wall_time=time, summary=Summary(value=[value]))


def _categories(layout: tags.Layout) -> Iterator[layout_pb2.Category]:
    """Closed categories."""
    for title, charts in layout.items():
        category = layout_pb2.Category(title=title, closed=True)
        for name, (kind, shown) in charts.items():
            chart = category.chart.add(title=name)
            if kind == "Margin":
                value, lower, upper = shown
                chart.margin.series.add(value=value, lower=lower, upper=upper)
            else:
                chart.multiline.tag.extend(shown)
        yield category


def address(names: Sequence[str], tables: Tables) -> str:
    """Path, query and fragment: Custom Scalars with the means and this machine's runs, unsmoothed.

    Time Series has the means of `tables` on top.

    Args:
        names: of the runs that are ticked, however many there are; TensorBoard ticks none of the
            others where they are more than 40.
    """
    pinned = [
        {"plugin": "scalars", "tag": curves.tag_of(tables, "train_error_percent", "mean", arm)}
        for arm in tables.arms
    ]
    query: dict[str, Any] = {
        "runColorGroup": f"regex:{DEPTH_IN_NAME}",
        "pinnedCards": json.dumps(pinned, separators=(",", ":")),
        "smoothing": 0,
    }
    ticked = json.dumps(dict.fromkeys(names, True), separators=(",", ":"))
    fragment: Mapping[str, Any] = {
        "_smoothingWeight": 0,
        "regexInput": f"^({'|'.join(('all seeds', FIGURES, LAYERS, HERE))})",
        "runSelectionState": base64.b64encode(ticked.encode()).decode(),
    }
    parts = [f"{name}={quote(str(value), safe='')}" for name, value in fragment.items()]
    return f"/?{urlencode(query)}#custom_scalars&{'&'.join(parts)}"
