"""Cells as plainres trains them (plainres.run.train.train_cell), timed by a callback."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from experiments.bench.window import Process, Window
from plainres.records.files import CHECKPOINT_FILE
from plainres.run.cell import Cell, compose_cell
from plainres.run.train import train_cell
from plainres.training.machine import peak_memory_mib

UNREACHED = 10**7  # iterations
NEVER = 1e9  # seconds


class Measured(BaseException):
    """Ends a run when everything is measured; no handler of errors catches it."""

    def __init__(self, numbers: dict[str, float]):
        super().__init__("everything is measured")
        self.numbers = numbers


class Clock(pl.Callback):
    """Times a window of iterations and then one checkpoint; ends the run with Measured."""

    def __init__(self, folder: str, copies: int, seconds: float):
        self.process, self.seconds = Process(Path(folder), copies=copies), seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.window = Window(self.process, self.seconds)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.window.iteration_ends():
            return
        began = time.monotonic()
        trainer.save_checkpoint(Path(trainer.default_root_dir) / CHECKPOINT_FILE)
        numbers = {
            "checkpoint_seconds": time.monotonic() - began,
            "first_iteration_seconds": self.window.first_iteration_seconds,
            "peak_memory_mib": peak_memory_mib(pl_module.device),
            "bf16": float(pl_module.multiplied_in == torch.bfloat16),
            "seconds_per_iteration": self.window.seconds_per_iteration / batch.num_updates,
            "ended": self.window.ended,
        }
        raise Measured(numbers)


class FirstLosses(pl.Callback):
    """Ends a run with Measured after its first training step: the loss of each update."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        losses = pl_module.window_losses[: batch.num_updates].tolist()
        raise Measured({f"loss {number}": loss for number, loss in enumerate(losses, start=1)})


def train(process: Process, overrides: list[str], seconds: float) -> dict[str, float]:
    """Trains one cell for a window, without evaluations, and then writes one checkpoint.

    The checkpoint counts at the rate of the configuration's checkpoint_seconds. The cell runs on a
    CPU, unless the overrides name another accelerator.
    """
    never = (f"protocol.iterations={UNREACHED}", f"protocol.evaluate_every={UNREACHED}")
    cell = _compose(process, *overrides, *never)
    checkpoint_every, cell.config.checkpoint_seconds = cell.config.checkpoint_seconds, NEVER
    numbers = _timed(process, cell, seconds)
    share = numbers["checkpoint_seconds"] / checkpoint_every
    seconds_per_iteration = numbers.pop("seconds_per_iteration") * (1 + share)
    del numbers["ended"]
    return {"images_per_second": cell.config.protocol.batch_size / seconds_per_iteration, **numbers}


def start(process: Process, overrides: list[str]) -> dict[str, float]:
    """Seconds to the end of the first iteration.

    Of the first cell from the start of the process, of a later cell from the call that trains it.
    """
    first = _timed(process, _compose(process, *overrides), seconds=0)
    called = time.monotonic()
    later = _timed(process, _compose(process, *overrides, "seed=1"), seconds=0)
    return {
        "first_cell_seconds": first["ended"] - process.spawned,
        "later_cell_seconds": later["ended"] - called,
    }


def losses(process: Process, overrides: list[str], iterations: int, tf32: bool) -> dict[str, float]:
    """Loss of each of the first iterations, in nats per image.

    Args:
        tf32: convolutions may round float32 to 10 bits, the default of torch on a GPU.
    """
    torch.backends.cudnn.allow_tf32 = tf32
    return _run(_compose(process, *overrides, f"updates_per_step={iterations}"), FirstLosses)


def _compose(process: Process, *overrides: str) -> Cell:
    folder = process.folder / f"results-{os.getpid()}"
    options = ("instruction_set=native", f"threads={process.threads}")  # as the loops beside it
    return compose_cell(folder, *options, *overrides)


def _timed(process: Process, cell: Cell, seconds: float) -> dict[str, float]:
    return _run(cell, Clock, folder=str(process.folder), copies=process.copies, seconds=seconds)


def _run(cell: Cell, callback: type[pl.Callback], **arguments: Any) -> dict[str, float]:
    """The numbers with which the callback ends the training of a cell."""
    if cell.config.accelerator == "auto":
        cell.config.accelerator = "cpu"
    target = f"{__name__}.{callback.__name__}"
    cell.config.callbacks = {"measuring": {"_target_": target, **arguments}}
    try:
        train_cell(cell)
    except Measured as measured:
        return measured.numbers
    raise RuntimeError("the run ended before it was measured")
