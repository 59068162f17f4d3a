"""Locks of files: who trains a cell, which sweep runs. A lock ends with its process."""

import errno
import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, ClassVar

LONGEST_WAIT = 30.0  # seconds; a process that was stopped is not waited for for ever
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


@contextmanager
def one_at_once(path: Path) -> Iterator[None]:
    """Of the processes that enter such a block one at once is inside.

    All are where the file cannot be written or the file system has no locks, and those that have
    waited for LONGEST_WAIT seconds.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            _wait_for(stack.enter_context(path.open("a")), fcntl.LOCK_EX)
        yield


class Users:
    """Which processes use a folder: each has a shared lock of one file until it ends.

    Args:
        path: of the file.
    """

    _files: ClassVar[dict[Path, IO]] = {}  # of this process

    def __init__(self, path: Path):
        self.path = path.absolute()

    def join(self) -> bool:
        """Makes this process a user; whether it is the only one, which it stays until `share`.

        It is where nothing can be written, or where the file system has no locks.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self._files.get(self.path) or self.path.open("a")
        except OSError:
            return True
        self._files[self.path] = file
        if _flock(file, fcntl.LOCK_EX) is not False:
            return True
        _wait_for(file, fcntl.LOCK_SH)
        return False

    def share(self) -> None:
        """Lets others become users too."""
        if file := self._files.get(self.path):
            _flock(file, fcntl.LOCK_SH)

    def leave(self) -> None:
        """This process is no user any more."""
        if file := self._files.pop(self.path, None):
            file.close()


def _wait_for(file: IO, operation: int) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while _flock(file, operation) is False and time.monotonic() < deadline:
        time.sleep(0.02)


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
