"""What the fork server of a sweep imports for its workers; imported nowhere else."""
# ruff: noqa: F401

import atexit
import os
from contextlib import suppress

import pytorch_lightning.loggers
import sklearn.datasets
import torch.utils.tensorboard

import plainres.data.batches
import plainres.data.sources
import plainres.networks.summary
import plainres.run.cell
import plainres.training.module
import plainres.training.runlog

with suppress(Exception):  # of Numba, which is optional
    import plainres.training.fused_cpu

atexit.register(os._exit, 0)  # to take the modules apart takes seconds, and nobody waits for it
