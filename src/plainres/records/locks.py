"""The lock that keeps two processes from training one cell. It ends with the process."""

import errno
import fcntl
import logging
from typing import IO

LOG = logging.getLogger(__name__)
# What a file system without locks answers, as Lustre without the option flock
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


def try_lock(file: IO) -> bool:
    """Whether this process now has the lock of an open file; False: another process has it.

    Where the file system has no locks, the answer is True, with a warning.

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
        LOG.warning(
            "%s: the file system has no locks (%s); start no second sweep over the same cells",
            file.name,
            error.strerror,
        )
    return True
