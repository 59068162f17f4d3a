"""Curves, their means over seeds, and final errors, as TensorBoard's events."""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from experiments.judging.pairs import cell_of, grouped
from experiments.reporting.markdown import label_of
from plainres.records import tags
from plainres.records.files import read_curves, read_runs
from plainres.records.schema import CurvePoint, Record

ARMS = ("plain", "residual")  # the first of a chart's row; others follow
ERRORS = {"train_error": "training error", "test_error": "test error"}
EDGES = ("mean", "lower", "upper")
IN_CELLS = ("train_error", "train_loss", "learning_rate", "test_error", "test_loss", "val_error")


@dataclass(frozen=True)
class Tables:
    """The tables of one results folder.

    Args:
        place: `<question>/<folder>`.
        own: measured on this machine.
    """

    place: str
    own: bool
    records: Sequence[Record]
    curves: Sequence[CurvePoint]

    @property
    def name(self) -> str:
        """With which its tags begin; TensorBoard takes what is in brackets for a run."""
        return re.sub("[()]", "", self.place) + (", this machine" if self.own else "")

    @property
    def label(self) -> str:
        return label_of(self.records) + (", this machine" if self.own else "")

    @property
    def arms(self) -> list[str]:
        present = {point.arm for point in self.curves}
        return sorted(present, key=lambda arm: (arm not in ARMS, arm))


def read(results: Path, place: str, own: bool = False) -> Tables:
    """The tables of results/`place`."""
    return Tables(place, own, read_runs(results / place), read_curves(results / place))


def time_of(record: Record) -> float:
    """When a cell was finished, in seconds since the epoch."""
    return datetime.fromisoformat(record.finished_at.replace("Z", "+00:00")).timestamp()


def newest(several: Sequence[Tables]) -> float:
    """When the last of all cells was finished."""
    return max(time_of(record) for tables in several for record in tables.records)


def event(time: float, step: int, values: dict[str, float]) -> Event:
    """Scalars of one step, by tag."""
    shown = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return Event(wall_time=time, step=step, summary=Summary(value=shown))


def strings(*values: bytes) -> TensorProto:
    """One string as a scalar, several as a vector."""
    size = [TensorShapeProto.Dim(size=len(values))] if len(values) > 1 else []
    return TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(dim=size), string_val=values)


def tag_of(tables: Tables, name: str, edge: str, arm: str) -> str:
    """Tag of a mean over seeds or an edge of its band, or of one seed."""
    return f"{tables.name}/{name}/{edge}/{arm}"


def means(several: Sequence[Tables]) -> dict[int, list[Event]]:
    """Depth → each seed's errors, their mean, and the mean ± their standard deviation.

    Both arms and all folders of a depth are one run, so that TensorBoard gives them one colour. The
    band of one seed has no width.
    """
    values: dict[int, dict[int, dict[str, float]]] = {}  # depth → iteration → tag → value
    for tables in several:
        for (arm, depth), points in grouped(tables.curves, lambda p: (p.arm, p.depth)).items():
            for iteration, measured in grouped(points, lambda p: p.iteration).items():
                at = values.setdefault(depth, {}).setdefault(iteration, {})
                for measure in ERRORS:
                    for edge, percent in _over_seeds(measured, measure).items():
                        for name, value in tags.percent_and_log10(measure, percent).items():
                            at[tag_of(tables, name, edge, arm)] = value
    time = newest(several)
    return {
        depth: [event(time, step, steps[step]) for step in sorted(steps)]
        for depth, steps in values.items()
    }


def _over_seeds(points: Sequence[CurvePoint], measure: str) -> dict[str, float]:
    """Errors of one network at one iteration in per cent: of seeds, their mean and band."""
    errors = {f"seed {p.seed}": 100 * e for p in points if (e := getattr(p, measure)) is not None}
    if not errors:
        return {}
    mean = statistics.fmean(errors.values())
    half = statistics.stdev(errors.values()) if len(errors) > 1 else 0.0
    return {**dict(zip(EDGES, (mean, mean - half, mean + half), strict=True)), **errors}


def layout(tables: Tables) -> tags.Layout:
    """Custom Scalars of one folder: for each error its means with their bands, and its seeds."""
    shown: dict[str, dict[str, tuple[str, list[str]]]] = {}
    for measure, title in ERRORS.items():
        bands, seeds = {}, {}
        for name, unit in tags.names(measure).items():
            for arm in tables.arms:
                chart = f"{arm} · {title}, {unit}"
                bands[chart] = "Margin", [tag_of(tables, name, edge, arm) for edge in EDGES]
                each = rf"{re.escape(tables.name)}/{name}/seed \d+/{re.escape(arm)}"
                seeds[chart] = "Multiline", [f"^{each}$"]
        # TensorBoard 2.21 puts the margin charts of a category in reverse order
        shown[f"{tables.label} · {title}: mean ± standard deviation"] = dict(
            reversed(bands.items())
        )
        shown[f"{tables.label} · {title}: each seed"] = seeds
    return shown


def cells(tables: Tables) -> dict[str, list[Event]]:
    """Run → curves and results of a cell, under the tags of a run in training."""
    curves = grouped(tables.curves, cell_of)
    return {
        (run := f"{tables.place}/{record.cell}"): [
            *_cell(run, record, curves.get(cell_of(record), ()))
        ]
        for record in tables.records
    }


def _cell(run: str, record: Record, curve: Sequence[CurvePoint]) -> Iterator[Event]:
    time = time_of(record)
    for point in curve:
        values = {n: v for n in IN_CELLS if (v := getattr(point, n)) is not None}
        yield event(time, point.iteration, tags.scalars(values, record.arm))
    yield event(time, record.iterations, tags.final(record))
    yield Event(wall_time=time, summary=hparams_pb(tags.hyperparameters(record), run, time))


def columns(time: float) -> Event:
    """What the HParams tab shows of each cell."""
    kinds = {"depth": api_pb2.DATA_TYPE_FLOAT64, "seed": api_pb2.DATA_TYPE_FLOAT64}
    experiment = api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(name=name, type=kinds.get(name, api_pb2.DATA_TYPE_STRING))
            for name in tags.HYPERPARAMETERS
        ],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title)
            for tag, title in zip(tags.FINAL_TAGS, tags.FINAL.values(), strict=True)
        ],
    )
    value = Summary.Value(
        tag=metadata.EXPERIMENT_TAG,
        metadata=metadata.create_summary_metadata(HParamsPluginData(experiment=experiment)),
        tensor=metadata.NULL_TENSOR,
    )
    return Event(wall_time=time, summary=Summary(value=[value]))
