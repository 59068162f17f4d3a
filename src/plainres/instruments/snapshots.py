"""Looks at a network at a few moments of its training: what the callbacks that take them share."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from plainres.data.batches import Batch, TrainingBatches, evenly_spaced
from plainres.data.device import memory_format
from plainres.records import files
from plainres.training.runlog import RunLog


class Snapshots(pl.Callback):
    """Takes snapshots during training; writes them as a table into the cell's folder at the end.

    The images are the same for every snapshot and every network: training images, spread evenly
    over the set, without augmentation. Where a training step has several updates (on a GPU), a
    snapshot comes after the step; its rows name the iteration at which it was taken.

    Args:
        images: their number.
        at: numbers of updates after which to take one; None: `powers_of_ten`.

    Raises:
        ValueError: fewer than two images, or a negative number of updates.
    """

    table: str  # name of the file
    row_type: Any  # dataclass of its rows: arm, depth, seed, iteration, layer, …, seconds

    def __init__(self, images: int = 64, at: Sequence[int] | None = None):
        if images < 2:
            raise ValueError(f"images {images} is below 2: {self.table} compares images")
        if at is not None and min(at, default=-1) < 0:
            raise ValueError(f"at {list(at)} is not a list of numbers of updates, from 0")
        self.images = images
        self.at = at
        self.points: list[Any] = []
        self._last_iteration = -1  # up to which snapshots are taken

    def snapshot(
        self, place: tuple[str, int, int, int], network: nn.Module, stream: TrainingBatches
    ) -> list[Any]:
        """The rows of one snapshot, or none; the first row will also hold its `seconds`.

        Args:
            place: arm, depth, seed and iteration, the first columns.
        """
        raise NotImplementedError

    def show(self, logger: TensorBoardLogger, points: Sequence[Any]) -> None:
        """What TensorBoard shows of these rows: nothing, unless a kind of snapshot says more."""

    def state_dict(self) -> dict[str, Any]:
        points = [asdict(point) for point in self.points]
        return {"points": points, "last_iteration": self._last_iteration}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [self.row_type(**point) for point in state_dict["points"]]
        self._last_iteration = state_dict["last_iteration"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._show(trainer, self.points)  # those from before a checkpoint
        # Also after a checkpoint, which may have been taken just before a snapshot
        self._take_if_due(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._take_if_due(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        files.write_table(Path(trainer.default_root_dir) / self.table, self.points, self.row_type)

    def _take_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        runlog, iteration = RunLog.of(trainer), pl_module.iteration
        due = any(
            self._last_iteration < number <= iteration
            for number in self.at or powers_of_ten(runlog.iterations)
        )
        self._last_iteration = iteration
        if not due:
            return
        stream: Any = trainer.train_dataloader
        if not stream.images.is_cpu:  # the device's earlier work does not count as the snapshot's
            torch.accelerator.synchronize()
        start = time.perf_counter()
        rows = self.snapshot((*runlog.cell, iteration), pl_module.network, stream)
        if rows:
            rows[0] = replace(rows[0], seconds=time.perf_counter() - start)
        self.points += rows
        self._show(trainer, rows)

    def _show(self, trainer: pl.Trainer, points: Sequence[Any]) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            self.show(trainer.logger, points)


def powers_of_ten(iterations: int) -> list[int]:
    """0, 1, 10, 100, … below `iterations`, and `iterations`: dense where most changes."""
    exponents = range(len(str(iterations - 1)))
    return [0, *(10**e for e in exponents if 10**e < iterations), iterations]


def fixed_images(stream: TrainingBatches, count: int) -> Batch:
    """`count` training images, spread evenly over the set, normalised and not augmented.

    Raises:
        ValueError: the set has fewer.
    """
    if count > len(stream.images):
        raise ValueError(f"images {count}: the training set has {len(stream.images)}")
    places = evenly_spaced(len(stream.images), count)
    images = stream.normaliser(stream.images[places].float() / 255)
    images = images.contiguous(memory_format=memory_format(images.device))
    return Batch(images, stream.labels[places])


def finite(value: float) -> float | None:
    """The value, or None for one that is not finite."""
    return value if math.isfinite(value) else None
