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
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _warn(Path(file.name).parent, error.strerror)
    return True


def is_locked(path: Path) -> bool | None:
    """Whether a process has the lock of a file; None where the file system has no locks."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return None
    return False


@cache
def _warn(folder: Path, reason: str) -> None:
    LOG.warning(
        "%s: the file system has no locks (%s); start no second sweep over the same cells",
        folder,
        reason,
    )
