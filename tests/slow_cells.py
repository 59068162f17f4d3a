"""A Lightning callback that makes cells slow, and changes no number of them."""

import time
from pathlib import Path

from pytorch_lightning import Callback


class Slow(Callback):
    """A cell takes three seconds an iteration while the file with its name is there."""

    def __init__(self, folder: str):
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        if Path(self.folder, Path(trainer.default_root_dir).name).exists():
            time.sleep(3)
