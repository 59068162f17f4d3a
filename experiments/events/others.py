"""Figures with their captions, and the layers' signals, as TensorBoard's events."""

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.image import metadata

from experiments.events.curves import strings
from experiments.judging.pairs import LOCAL, grouped
from experiments.signal.claims import PROBES_TABLE
from plainres.records import tags
from plainres.records.files import read_table
from plainres.records.rows import ProbePoint

IN_README = re.compile(r"!\[(.*?)\]\(figures/([\w.-]+)\.png\)")


def figures(results: Path, places: Sequence[str], time: float) -> Iterator[Event]:
    """The figures of these places, then the first one of each other question.

    Args:
        places: below `results`; one without a README is skipped.
        time: that the events get.
    """
    shown = [each for place in places for each in _in_readme(results / place)]
    for number, (folder, caption, name) in enumerate(shown, 1):
        yield _image(f"curves/{number:02} {folder.name} {name}", caption, folder, name, time)
    without = {LOCAL, *(place.partition("/")[0] for place in places)}
    for slug in sorted({path.name for path in results.iterdir()} - without):
        folders = [results / slug, *sorted((results / slug).glob("*/"))]
        for folder, caption, name in islice(chain(*map(_in_readme, folders)), 1):
            yield _image(f"questions/{slug} {name}", caption, folder, name, time)


def _in_readme(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """The figures of a results README: folder, caption and name."""
    path = folder / "README.md"
    if path.exists():
        for caption, name in IN_README.findall(path.read_text(encoding="utf-8")):
            yield folder, caption, name


def _image(tag: str, caption: str, folder: Path, name: str, time: float) -> Event:
    png = (folder / "figures" / f"{name}.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])  # of the header
    value = Summary.Value(
        tag=tag,
        tensor=strings(str(width).encode(), str(height).encode(), png),
        metadata=metadata.create_summary_metadata(
            display_name=caption, description=caption, converted_to_tensor=True
        ),
    )
    return Event(wall_time=time, summary=Summary(value=[value]))


def layers(results: Path, time: float) -> list[Event]:
    """Signals of the layers of networks that were looked at more than once during training.

    For each network and iteration the distribution over its layers and over its seeds.
    """
    events = []
    for path in sorted((results / "signal").glob(f"*/{PROBES_TABLE}")):
        points: list[ProbePoint] = read_table(path, ProbePoint)
        for (arm, depth), own in grouped(points, lambda p: (p.arm, p.depth)).items():
            values = tags.distributions(own, f"{path.parent.name}, {arm}-{depth}")
            if len({iteration for iteration, _ in values}) > 1:
                events += [
                    Event(wall_time=time, step=step, summary=histogram_pb(tag, each))
                    for (step, tag), each in values.items()
                ]
    return sorted(events, key=lambda event: event.step)
