"""Cells as plainres trains them (plainres.run.train.train_cell), timed by a callback."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from experiments.bench.window import Process, Window
from plainres.records.files import CHECKPOINT_FILE
from plainres.run.cell import compose_cell
from plainres.run.train import train_cell
from plainres.training.machine import peak_memory_mib
from plainres.training.module import Classifier

UNREACHED = 10**7  # iterations


class Measured(BaseException):
    """Ends a run when everything is measured; no handler of errors catches it.

    Args:
        numbers: what the clock saw.
    """

    def __init__(self, numbers: dict[str, float]):
        super().__init__("everything is measured")
        self.numbers = numbers


class Clock(pl.Callback):
    """Times a window of iterations and then one checkpoint; ends the run with Measured."""

    def __init__(self, folder: str, copies: int, **options: Any):
        self.process = Process(Path(folder), copies)
        self.options = options  # of the window

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.window = Window(self.process, **self.options)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Classifier)
        if not self.window.iteration_ends():
            return
        began = time.monotonic()
        trainer.save_checkpoint(Path(trainer.default_root_dir) / CHECKPOINT_FILE)
        numbers = {
            "checkpoint_seconds": time.monotonic() - began,
            "first_iteration_seconds": self.window.first_iteration_seconds,
            "peak_memory_mib": peak_memory_mib(pl_module.device),
            "bf16": float(pl_module.bf16),
            "seconds_per_iteration": self.window.seconds_per_iteration / batch.num_updates,
            "ended": self.window.ended,
        }
        raise Measured(numbers)


def train(process: Process, overrides: list[str], threads: int, seconds: float) -> dict[str, float]:
    """Trains one cell for a window, without evaluations, and then writes one checkpoint.

    The checkpoint counts at the rate of the configuration's checkpoint_seconds. The cell runs on a
    CPU, unless the overrides name another accelerator.
    """
    overrides = [*overrides, f"threads={threads}", f"protocol.iterations={UNREACHED}"]
    overrides.append(f"protocol.evaluate_every={UNREACHED}")
    default = compose_cell(process.folder, *overrides).config
    numbers = _run(process, [*overrides, "checkpoint_seconds=inf"], seconds=seconds)
    share = numbers["checkpoint_seconds"] / default.checkpoint_seconds
    seconds_per_iteration = numbers.pop("seconds_per_iteration") * (1 + share)
    del numbers["ended"]
    return {"images_per_second": default.protocol.batch_size / seconds_per_iteration, **numbers}


def start(process: Process, overrides: list[str], threads: int) -> dict[str, float]:
    """Seconds to the end of the first iteration.

    Of the first cell from the start of the process, of a later cell from the call that trains it.
    """
    overrides = [*overrides, f"threads={threads}"]
    once = {"seconds": 0, "warm_iterations": 0, "min_iterations": 1}
    first = _run(process, overrides, **once)
    called = time.monotonic()
    later = _run(process, [*overrides, "seed=1"], **once)
    return {
        "first_cell_seconds": first["ended"] - process.spawned,
        "later_cell_seconds": later["ended"] - called,
    }


def _run(process: Process, overrides: list[str], **window: float) -> dict[str, float]:
    cell = compose_cell(process.folder / f"results-{os.getpid()}", *overrides)
    if cell.config.accelerator == "auto":
        cell.config.accelerator = "cpu"
    clock = {"_target_": f"{__name__}.{Clock.__name__}", "folder": str(process.folder)}
    cell.config.callbacks = {"clock": {**clock, "copies": process.copies, **window}}
    try:
        train_cell(cell)
    except Measured as measured:
        return measured.numbers
    raise RuntimeError("the run ended before its window")
