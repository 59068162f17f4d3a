"""Locks of files: who trains a cell, which sweep runs. A lock ends with its process."""

import errno
import fcntl
import logging
from functools import cache
from pathlib import Path
from typing import IO

LOG = logging.getLogger(__name__)
# What a file system without locks answers, as Lustre without the option flock
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


def try_lock(file: IO) -> bool:
    """Whether this process now has the lock of an open file; False: another process has it.

    Where the file system has no locks, the answer is True, with one warning for a folder.

    Raises:
        OSError: any other error.
    """
    taken = _flock(file, fcntl.LOCK_EX)
    if taken is None:
        _warn(Path(file.name).parent)
    return taken is not False


def is_locked(path: Path) -> bool | None:
    """Whether a process has the lock of a file; None where the file system has no locks."""
    with path.open("rb") as file:
        taken = _flock(file, fcntl.LOCK_SH)
    return None if taken is None else not taken


def _flock(file: IO, operation: int) -> bool | None:
    """Whether the lock could be taken; None where the file system has no locks."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


@cache
def _warn(folder: Path) -> None:
    LOG.warning("%s: the file system has no locks; start no second sweep over its cells", folder)
