"""Cells as plainres trains them, plainres.run.train.train_cell and all it does, with a clock that looks on."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from experiments.bench.window import LEAST_ITERATIONS, WARM_ITERATIONS, Process, Window
from plainres.records.files import CHECKPOINT_FILE
from plainres.run.cell import compose_cell
from plainres.run.train import train_cell
from plainres.training.machine import peak_memory_mib
from plainres.training.module import Classifier

UNREACHED = 10**7  # iterations; evaluations lie beyond the window


class Over(BaseException):
    """Everything is measured: ends the run where it stands, past all that handles errors.

    Args:
        window: closed.
        checkpoint_seconds: what one checkpoint took.
        updates_per_step: what the window takes for one iteration.
        peak_memory_mib: of the device.
        bf16: trained in bf16.
    """

    def __init__(
        self,
        window: Window,
        checkpoint_seconds: float,
        updates_per_step: int,
        peak_memory_mib: float,
        bf16: bool,
    ):
        super().__init__("the window is over")
        self.window = window
        self.checkpoint_seconds = checkpoint_seconds
        self.updates_per_step = updates_per_step
        self.peak_memory_mib = peak_memory_mib
        self.bf16 = bf16


class Clock(pl.Callback):
    """Times a window of iterations and then one checkpoint; ends the run with Over."""

    def __init__(
        self, folder: str, copies: int, seconds: float, warm_iterations: int, least_iterations: int
    ):
        self.process = Process(Path(folder), copies)
        self.choices = (seconds, warm_iterations, least_iterations)
        self.window: Window | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.window = Window(self.process, *self.choices)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert self.window is not None and isinstance(pl_module, Classifier)
        if self.window.iteration_ends():
            began = time.monotonic()
            trainer.save_checkpoint(Path(trainer.default_root_dir) / CHECKPOINT_FILE)
            seconds, memory = time.monotonic() - began, peak_memory_mib(pl_module.device)
            raise Over(self.window, seconds, batch.num_updates, memory, pl_module.bf16)


def train(process: Process, overrides: list[str], threads: int, seconds: float) -> dict[str, float]:
    """Trains one cell for a window, then takes one checkpoint, which counts at the rate of the configuration's checkpoint_seconds.

    Evaluations lie beyond the window. On a CPU, unless the overrides name another accelerator.
    """
    overrides = [
        *overrides,
        f"threads={threads}",
        f"protocol.iterations={UNREACHED}",
        f"protocol.evaluate_every={UNREACHED}",
    ]
    default = compose_cell(process.folder, *overrides).config
    over = _run(process, [*overrides, "checkpoint_seconds=inf"], seconds)
    share = over.checkpoint_seconds / default.checkpoint_seconds
    return {
        "images_per_second": default.protocol.batch_size
        * over.updates_per_step
        / (over.window.seconds_per_iteration * (1 + share)),
        "checkpoint_seconds": over.checkpoint_seconds,
        "first_iteration_seconds": over.window.first_iteration_seconds,
        "peak_memory_mib": over.peak_memory_mib,
        "bf16": float(over.bf16),
    }


def start(process: Process, overrides: list[str], threads: int) -> dict[str, float]:
    """Seconds to the end of the first iteration: from the start of the process, and from the call that trains a later cell in it."""
    overrides = [*overrides, f"threads={threads}"]
    first = _run(process, overrides, 0, warm_iterations=0, least_iterations=1)
    called = time.monotonic()
    later = _run(process, [*overrides, "seed=1"], 0, warm_iterations=0, least_iterations=1)
    return {
        "first_cell_seconds": first.window.ended - process.spawned,
        "later_cell_seconds": later.window.ended - called,
    }


def _run(
    process: Process,
    overrides: list[str],
    seconds: float,
    warm_iterations: int = WARM_ITERATIONS,
    least_iterations: int = LEAST_ITERATIONS,
) -> Over:
    cell = compose_cell(process.folder / f"results-{os.getpid()}", *overrides)
    if cell.config.accelerator == "auto":
        cell.config.accelerator = "cpu"
    cell.config.callbacks = {
        "clock": {
            "_target_": f"{__name__}.{Clock.__name__}",
            "folder": str(process.folder),
            "copies": process.copies,
            "seconds": seconds,
            "warm_iterations": warm_iterations,
            "least_iterations": least_iterations,
        }
    }
    try:
        train_cell(cell)
    except Over as over:
        return over
    raise RuntimeError("the run ended before its window")
