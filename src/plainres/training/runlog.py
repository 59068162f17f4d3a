"""Files written during a run: curve, TensorBoard events, progress, checkpoints."""

import math
import os
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from plainres.data.batches import WHOLE, Share
from plainres.records import files, stopping, tags
from plainres.records.files import CHECKPOINT_FILE
from plainres.records.schema import CurvePoint, Progress, Record
from plainres.records.seal import is_intact
from plainres.training import machine
from plainres.training.machine import Kernels, Precision

PROGRESS_SECONDS = 1.0
PROGRESS_POINTS = 64  # of the curve, at most

# Seconds since the epoch, iteration, values by name
Event = tuple[float, int, dict[str, float]]


@dataclass(frozen=True)
class Start:
    """Where a run starts: at a checkpoint, or at iteration 0 where `path` is None.

    A run that continues keeps `updates_per_step`, because Lightning counts training steps, and
    `precision` and `kernels`, whatever machine it is on. `instruction_set` is that of
    training.machine.arithmetic, `torch` PyTorch's minor version, `images` the fingerprint of the
    data, `config_hash` that of the cell, `processor` that of training.machine.unlimited_processor.
    `commit` names all code so far, and `clean` is of all of it (records.files.repository_state).
    `notice` is what the user has to know of it.
    """

    path: Path | None
    iteration: int
    updates_per_step: int
    precision: Precision
    instruction_set: str
    config_hash: str
    kernels: Kernels = "library"  # of older checkpoints on a CPU
    torch: str = ""  # of older checkpoints, and so are no images
    images: str = ""
    processor: str = ""  # nor this
    commit: str = ""  # nor these two
    clean: bool | None = None
    notice: str = ""

    def continued(self, commit: str, clean: bool | None) -> "Start":
        """The same, continued by this code."""
        commits = dict.fromkeys([*(self.commit or "unknown").split("+"), commit])
        states = (self.clean, clean)
        both = False if False in states else None if None in states else True
        return replace(self, commit="+".join(commits), clean=both)

    def saved(self) -> dict[str, Any]:
        """The part of it that a checkpoint keeps."""
        unsaved = ("path", "iteration", "notice")
        return {name: value for name, value in vars(self).items() if name not in unsaved}


def read_checkpoint(path: Path, config_hash: str, iterations: int) -> Start:
    """Reads what `RunLog` saved.

    Args:
        config_hash: of the cell.
        iterations: length of the whole run.

    Raises:
        ValueError: it is damaged, of another cell, or contradicts itself; says which.
        OtherCodeError: newer code wrote it.
        Exception: any other, where another program wrote the file.
    """
    if not is_intact(path):
        raise ValueError("not the bytes that were written")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    state = saved["callbacks"][RunLog.__qualname__]
    if unknown := sorted(state["start"].keys() - Start.__dataclass_fields__.keys()):
        raise OtherCodeError(f"unknown: {', '.join(unknown)}")
    start = Start(path, saved["iteration"], **state["start"])
    if start.config_hash != config_hash:
        raise ValueError("of another configuration")
    progress = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    points = [point["iteration"] for point in state["curve"]]
    if (
        not 0 < start.iteration < iterations
        or start.iteration != progress["processed"] * start.updates_per_step
        or points != sorted(set(points))
        or not all(0 < point <= start.iteration for point in points)
    ):
        raise ValueError(f"iteration {start.iteration} contradicts the rest of it")
    return start


class OtherCodeError(Exception):
    """A checkpoint that newer code wrote; says what is unknown here."""


class RunLog(pl.Callback):
    """Logs, writes checkpoints, and ends a run that is to stop or whose loss is not finite.

    A checkpoint holds the curve, the events, the seconds so far and the state of torch's generators
    (dropout draws from them). None is taken between an update and the evaluation after it, because
    Lightning would count that evaluation as done. A resumed run ends with the record, and in
    TensorBoard with the curves, of an undisturbed one. Of several devices the first one writes.

    Args:
        cell: arm, depth and seed.
        folder: of the cell's files.
        start: where the run begins.
        log_every, evaluate_every: iterations between two.
        checkpoint_seconds: seconds between two checkpoints, at least.
        iterations: length of the whole run.
        batch_size: images per iteration.
        share: of the device of this process.
    """

    def __init__(
        self,
        cell: tuple[str, int, int],
        folder: Path,
        start: Start,
        log_every: int,
        evaluate_every: int,
        checkpoint_seconds: float,
        iterations: int,
        batch_size: int,
        share: Share = WHOLE,
    ):
        self.cell = cell
        self.folder = folder
        self.log_every = log_every
        self.evaluate_every = evaluate_every
        self.checkpoint_seconds = checkpoint_seconds
        self.iterations = iterations
        self.batch_size = batch_size
        self.start = start
        self.share = share
        self.curve: list[CurvePoint] = []
        self.diverged = False
        self._events: list[Event] = []
        self._seconds_before = 0.0
        self._generators: list[torch.Tensor] = []
        self._started: float | None = None
        self._start_iteration = 0
        self._first_mark: float | None = None
        self._marks: deque[tuple[float, int]] = deque()  # times, with the iterations done by then
        self._last_checkpoint = self._last_progress = time.monotonic()

    @classmethod
    def of(cls, trainer: Any) -> "RunLog":
        """The RunLog among a trainer's callbacks."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, cls))

    @property
    def running(self) -> bool:
        """Whether training has begun and not ended."""
        return self._started is not None

    @property
    def seconds(self) -> float:
        """Seconds of training and evaluation so far, over all interruptions."""
        return self._seconds_before + (
            0.0 if self._started is None else time.monotonic() - self._started
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "curve": [asdict(point) for point in self.curve],
            "events": self._events,
            "seconds": self.seconds,
            "generators": generator_states(),
            "start": self.start.saved(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = [CurvePoint(**point) for point in state_dict["curve"]]
        self._events = state_dict["events"]
        self._seconds_before = state_dict["seconds"]
        self._generators = state_dict["generators"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._generators:
            set_generator_states(self._generators)  # not earlier: building the run draws too
        self._started = self._last_checkpoint = self._last_progress = time.monotonic()
        self._start_iteration = pl_module.iteration
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_custom_scalars(tags.layout_of_cells())
            for event in self._events:
                self._write_event(trainer.logger, event)
        self._write_progress(pl_module, None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        iteration = pl_module.iteration
        if self._first_mark is None:
            self._first_mark = time.monotonic()
            self._marks.append((self._first_mark, iteration))
        if iteration % self.log_every == 0 or iteration == self.iterations:
            point = self._point(pl_module)
            if not math.isfinite(point.train_loss):
                self.diverged = True
                trainer.should_stop = True
                return
            self.curve.append(point)
            values = {
                name: getattr(point, name)
                for name in ("train_error", "train_loss", "learning_rate")
            }
            values["images_per_second"] = (
                (iteration - self._start_iteration) * self.batch_size / self._seconds_here()
            )
            self._log(trainer, pl_module, values)
            self._write_progress(pl_module, point.train_error)
        elif time.monotonic() - self._last_progress >= PROGRESS_SECONDS:
            self._write_progress(pl_module, self.curve[-1].train_error if self.curve else None)
        asked = stopping.requested()
        due = asked or time.monotonic() - self._last_checkpoint >= self.checkpoint_seconds
        due = self._first_device_says(trainer, due)
        if due and iteration < self.iterations and iteration % self.evaluate_every != 0:
            trainer.save_checkpoint(self.folder / CHECKPOINT_FILE)
            self._last_checkpoint = time.monotonic()
            if self._first_device_says(trainer, asked):
                raise stopping.Stopped if self.share.rank == 0 else SystemExit

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit" or self.diverged:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._log(trainer, pl_module, values)
        if not self.curve or self.curve[-1].iteration != pl_module.iteration:
            point = self._point(pl_module)
            if not math.isfinite(point.train_loss):
                return  # the next logged iteration ends the run
            self.curve.append(point)
        loss = values["test_loss"]
        self.curve[-1] = replace(
            self.curve[-1],
            test_error=values["test_error"],
            test_loss=loss if math.isfinite(loss) else None,
            val_error=values.get("val_error"),
        )

    def close(self) -> None:
        """Stops the clock."""
        self._seconds_before = self.seconds
        self._started = None

    def write_summary(self, logger: Any, record: Record) -> None:
        """TensorBoard's HParams tab: which cell it is, and its final errors."""
        logger.log_hyperparams(tags.hyperparameters(record), tags.final(record))
        logger.finalize("success")

    def _point(self, pl_module: Any) -> CurvePoint:
        error, loss = pl_module.running_error_and_loss()
        rate = pl_module.learning_rate(pl_module.iteration - 1)
        return CurvePoint(*self.cell, pl_module.iteration, error, loss, rate)

    def _log(self, trainer: pl.Trainer, pl_module: Any, values: dict[str, float]) -> None:
        self._events.append((time.time(), pl_module.iteration, values))
        if isinstance(trainer.logger, TensorBoardLogger):
            self._write_event(trainer.logger, self._events[-1])

    def _write_event(self, logger: TensorBoardLogger, event: Event) -> None:
        seconds, iteration, values = event
        # A checkpoint of an older version names a value with the arm behind it
        values = {name.partition("/")[0]: value for name, value in values.items()}
        for tag, value in tags.scalars(values, self.cell[0]).items():
            logger.experiment.add_scalar(tag, value, iteration, seconds)

    def _seconds_here(self) -> float:
        """Seconds since this process began to train."""
        assert self._started is not None
        return time.monotonic() - self._started

    def _write_progress(self, pl_module: Any, error: float | None) -> None:
        self._last_progress = time.monotonic()
        if self.share.rank:
            return
        pace = self._pace(self._last_progress, pl_module.iteration)
        remaining = None if pace is None else (self.iterations - pl_module.iteration) * pace
        progress = Progress(
            pid=os.getpid(),
            sweep=os.environ.get(files.SWEEP_VARIABLE),
            iteration=pl_module.iteration,
            iterations=self.iterations,
            train_error=error,
            seconds=self.seconds,
            seconds_remaining=remaining,
            notice=self.start.notice,
            train_errors=self._thinned_curve(),
        )
        files.write_json(self.folder / files.PROGRESS_FILE, asdict(progress))

    def _pace(self, now: float, iteration: int) -> float | None:
        """Seconds per iteration over the later half of the time since the first iteration.

        That one may have to compile, and what else the machine does changes. None before there are
        two iterations.
        """
        if self._first_mark is None:
            return None
        half = (self._first_mark + now) / 2
        while len(self._marks) > 1 and self._marks[1][0] <= half:
            self._marks.popleft()
        since, before = self._marks[0]
        self._marks.append((now, iteration))
        return (now - since) / (iteration - before) if iteration > before else None

    def _first_device_says(self, trainer: Any, yes: bool) -> bool:
        """What the first device says, on all devices: they save and stop at one iteration."""
        if self.share.devices == 1:
            return yes
        return trainer.strategy.reduce_boolean_decision(yes and self.share.rank == 0, all=False)

    def _thinned_curve(self) -> list[float]:
        step = math.ceil(len(self.curve) / PROGRESS_POINTS) or 1
        thinned = self.curve[::-1][::step][::-1]
        return [float(f"{point.train_error:.4g}") for point in thinned]


def generator_states() -> list[torch.Tensor]:
    """States of torch's generators: the CPU's, then those of the GPUs that there are."""
    return [
        torch.get_rng_state(),
        *(torch.get_device_module(gpu).get_rng_state(gpu) for gpu in machine.gpus()),
    ]


def set_generator_states(states: list[torch.Tensor]) -> None:
    """Sets what `generator_states` returned; skips GPUs that this machine lacks."""
    torch.set_rng_state(states[0].cpu())
    for gpu, state in zip(machine.gpus(), states[1:], strict=False):
        torch.get_device_module(gpu).set_rng_state(state.cpu(), gpu)
