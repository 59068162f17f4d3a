"""What tests compare of trained cells, and how they interrupt one."""

from dataclasses import asdict

import pytest

from plainres.records import files
from plainres.records.schema import Record
from plainres.run import train
from plainres.run.cell import Cell
from plainres.training.module import Classifier

SMOKE = ("protocol=smoke", "model.depth=8")
SHORT = ("protocol.schedule.warmup_iterations=1", "protocol.evaluation_images=64")
OF_THE_RUN = {"seconds", "images_per_second", "peak_memory_mib", "finished_at"}
OF_THE_CODE = {"commit", "clean"}  # a file that is edited while the tests run changes them


class InterruptionError(Exception):
    pass


def numbers(record: Record) -> dict:
    """The fields that are the same in every run of a cell."""
    others = OF_THE_RUN | OF_THE_CODE
    return {name: value for name, value in asdict(record).items() if name not in others}


def curve(cell: Cell) -> str:
    return (cell.folder / files.CURVES_TABLE).read_text()


def interrupt(cell: Cell, iteration: int) -> None:
    """Trains a cell as far as an iteration, in which it fails."""
    step = Classifier.training_step

    def training_step(self, draws, batch_idx):
        if self.iteration == iteration:
            raise InterruptionError
        return step(self, draws, batch_idx)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Classifier, "training_step", training_step)
        with pytest.raises(InterruptionError):
            train.train_cell(cell)
