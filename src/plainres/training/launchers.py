"""Keeps from Lightning what Slurm, torchrun and others put into the environment.

Lightning takes number and rank of processes from it, and with them signal handlers and checkpoints
of its own; it also takes arguments of its Trainer (PL_TRAINER_…). Here a process is that of
one device, whoever started it, and all its settings are in its configuration.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_PREFIXES = ("PL_", "SLURM_")
_NAMES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE")


@contextmanager
def no_launcher() -> Iterator[None]:
    """Hides these variables from this process within the block."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
