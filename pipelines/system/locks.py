"""Locks on open files, which the system releases when their process ends."""

from __future__ import annotations

import errno
import fcntl

# Of a network file system without locks, such as NFS whose server runs no lock daemon.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class NoLocksError(OSError):
    """The file system has no locks."""


def lock(file: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file for this process alone, or together with others that share it.

    file: its descriptor. wait: until no other process is in the way; else False is returned where one is. Raises
    NoLocksError where the file system has none.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise NoLocksError(error.errno, "the file system has no locks") from error
        if not wait and error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
