"""Faults of the file system, on a small one of its own that is really mounted (tmpfs)."""

import ctypes
import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from experiments.torture import zygote
from experiments.torture.changes import at
from experiments.torture.crashes import Kinds, Listed, spread
from experiments.torture.damage import with_pictures
from experiments.torture.places import Place, Result, Site, remove

NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
PRIVATE, RECURSIVE = 1 << 18, 1 << 14  # MS_PRIVATE, MS_REC
READ_ONLY, REMOUNT = 1, 32  # MS_RDONLY, MS_REMOUNT
SIZE, INODES = 2**23, 400  # bytes, files


def mount(folder: Path, flags: int = 0) -> None:
    """A disk that this process and its children alone see, and that goes with them.

    Raises:
        OSError: the system does not allow it.
    """
    if not flags & REMOUNT:
        user, group = os.getuid(), os.getgid()
        _call("unshare", NEW_MOUNTS | (NEW_USERS if user else 0))
        if user:
            own = {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}
            for name, text in own.items():
                Path("/proc/self", name).write_text(text, encoding="utf-8")
        _call("mount", b"none", b"/", None, PRIVATE | RECURSIVE, None)
    options = f"size={SIZE},nr_inodes={INODES}".encode()
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options)


def _call(name: str, *words: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unavailable(folder: Path) -> str:
    """Why nothing can be mounted here; "": it can."""

    def task() -> int:
        try:
            mount(folder)
        except OSError as error:
            return error.errno or 1
        return 0

    number = zygote.wait(zygote.fork(task))
    return f"nothing can be mounted here ({os.strerror(number)})" if number else ""


def fill_space(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def fill_inodes(path: Path) -> None:
    try:
        path.mkdir()
        for number in range(INODES):
            (path / str(number)).touch()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def full(
    fill: Callable[[Path], None], number: int, site: Site, place: Place, rng: Random
) -> Result:
    mount(place.results)
    filler = place.results / "filler"
    place.fill(site.fresh).run(action=at(number, lambda: fill(filler)))
    remove(filler)
    return place.outcome()


def disk_full(site: Site) -> Listed | str:
    numbers = site.numbers("open", "write", "mkdir")
    return unavailable(site.folder) or [
        (f"{text} from change {number} on", partial(full, fill, number, site))
        for text, fill, count in (("no space", fill_space, 120), ("no inode", fill_inodes, 20))
        for number in spread(numbers, count)
    ]


def read_only(site: Site) -> Listed | str:
    """The results of an unfinished and of a finished cell, and the cache of decoded images."""

    def locked(folder: str, prepare: Callable[[Place], object], place: Place, _: Random) -> Result:
        path = getattr(place, folder)
        mount(path)
        prepare(place)
        mount(path, READ_ONLY | REMOUNT)
        return place.outcome(lambda: mount(path, REMOUNT))

    fresh, finished, _ = site.fresh, site.finished, site.of_pictures
    return unavailable(site.folder) or [
        ("an unfinished cell", partial(locked, "results", lambda place: place.fill(fresh))),
        ("a finished cell", partial(locked, "results", lambda place: place.fill(finished))),
        ("the cache", partial(locked, "cache", lambda place: with_pictures(site, place))),
    ]


KINDS: Kinds = {
    "disk-full": ("the disk is full from a change of a file on, and later free again", disk_full),
    "read-only": ("a folder is on a disk that can only be read", read_only),
}
