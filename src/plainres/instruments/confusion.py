"""Which classes the trained network takes for which: a callback."""

from typing import Any

import pytorch_lightning as pl
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from plainres.records import confusion
from plainres.run.trained import class_names
from plainres.training.runlog import RunLog


class ConfusionMatrix(pl.Callback):
    """Counts the evaluated test images by true and predicted class, with the final weights.

    Writes confusion.csv and classes.csv into the cell's folder; their errors are those of the
    record's test error. It draws no random number and changes no number of the run. A run that
    diverged has no table. Needs keep_weights, which keeps the names of the classes.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        class_names(RunLog.of(trainer).folder)  # an error shows before training

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        runlog, loaders = RunLog.of(trainer), trainer.val_dataloaders
        if runlog.diverged or pl_module.iteration < runlog.iterations:
            return
        assert isinstance(loaders, list)
        names = class_names(runlog.folder)
        counts = MulticlassConfusionMatrix(len(names)).to(pl_module.device)
        pl_module.eval()
        # As an evaluation of the run computes (Classifier.validation_step), to the last bit
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            for batch in loaders[0]:
                counts.update(pl_module(batch.images).argmax(1), batch.labels)
        pl_module.train()
        arm, depth, seed = runlog.cell
        matrix = confusion.Confusion(arm, depth, (seed,), names, counts.compute().tolist())
        confusion.write(runlog.folder, matrix)
