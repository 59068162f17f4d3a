"""Every change of a file by this process, one after another, and what is done at one of them.

Wrapped are the functions through which Python changes files: `open`, what is written to the file
that it returns, and the functions of `os`. What C code writes by itself is not seen: here that is
nothing, because torch writes weights and checkpoints to a file that Python opened.
"""

import builtins
import io
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

BY_PATH = (
    *("mkdir", "rmdir", "unlink", "remove", "rename", "replace"),
    *("link", "symlink", "truncate", "chmod", "utime"),
)
BY_FILE = ("write", "fsync", "ftruncate")
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
TEXT = ("encoding", "errors", "newline", "closefd", "opener")  # arguments of `open` after three

# From number (from 1), name of the change, and for a write what writes the first half of it
Action = Callable[[int, str, Callable[[], object] | None], object]


class Changes:
    """Counts the changes below a folder and calls `action` before each of them."""

    def __init__(self, folder: Path, action: Action):
        self.folder = f"{os.path.realpath(folder)}/"
        self.action = action
        self.number = 0
        self._acting = False
        self._open = io.open

    def install(self) -> None:
        """For the rest of the process."""
        for name in BY_PATH:
            setattr(os, name, self._wrapped(name, self._is_ours))
        for name in BY_FILE:
            setattr(os, name, self._wrapped(name, lambda fd: stat.S_ISREG(os.fstat(fd).st_mode)))
        os_open = os.open

        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & FOR_WRITING and self._is_ours(path):
                self.before("open")
            return os_open(path, flags, *args, **kwargs)

        os.open = opened
        for module in (io, builtins):
            module.open = self._opened  # type: ignore[attr-defined]

    def before(self, name: str, half: Callable[[], object] | None = None) -> None:
        if not self._acting:  # the action may change files
            self.number += 1
            self._acting = True
            try:
                self.action(self.number, name, half)
            finally:
                self._acting = False

    def _wrapped(self, name: str, is_ours: Callable[[Any], bool]) -> Callable[..., Any]:
        function = getattr(os, name)

        def changed(first: Any, *args: Any, **kwargs: Any) -> Any:
            if is_ours(first):
                self.before(name)
            return function(first, *args, **kwargs)

        return changed

    def _is_ours(self, path: Any) -> bool:
        return not isinstance(path, int) and os.path.realpath(os.fsdecode(path)).startswith(
            self.folder
        )

    def _opened(
        self, file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any
    ) -> Any:
        """As `open`; of a file that is written every write shows."""
        if not set(mode) & set("wax+") or not self._is_ours(file):
            return self._open(file, mode, buffering, *text, **more)
        more |= dict(zip(TEXT, text, strict=False))
        if not more.get("opener"):  # which calls os.open
            self.before("open")
        kind = "".join(letter for letter in mode if letter not in "bt")
        raw = _Raw(file, kind, more.get("closefd", True), more.get("opener"))
        raw.changes = self
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom if "+" in mode else io.BufferedWriter
        binary = buffered(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        if "b" in mode:
            return binary
        words = {name: more[name] for name in TEXT[:3] if name in more}
        return io.TextIOWrapper(binary, line_buffering=buffering == 1, **words)


class _Raw(io.FileIO):
    changes: Changes

    def write(self, data: Any) -> int:
        half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
        self.changes.before("write", lambda: super(_Raw, self).write(half))
        return super().write(data)


def at(number: int, what: Callable[[], object]) -> Action:
    """Does `what` just before change `number`, so just after the one before it."""
    return lambda now, name, half: what() if now == number else None


def die() -> None:
    """As `kill -9` does it: nothing is flushed, closed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def torn(number: int) -> Action:
    """Dies in the middle of change `number`, a write."""

    def action(now: int, name: str, half: Callable[[], object] | None) -> None:
        if now == number:
            if half is not None:
                half()
            die()

    return action


def fails(number: int, error: int, later: bool = False) -> Action:
    """Change `number` fails with an error of the system; `later`: all after it too."""

    def action(now: int, name: str, half: object) -> None:
        if now == number or (later and now > number):
            raise OSError(error, os.strerror(error))

    return action
