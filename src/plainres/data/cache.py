"""What is costly to compute from images, kept on this machine: decoded pixels, and statistics."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from plainres.records.files import atomic
from plainres.records.seal import Sealing, is_intact


def cache_folder() -> Path:
    """$PLAINRES_CACHE, else plainres in $XDG_CACHE_HOME or ~/.cache."""
    if folder := os.environ.get("PLAINRES_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plainres"


def kept(key: str, make: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The tensors and texts in the cache, else what `make` returns, which is then kept.

    A cache that is damaged or cannot be used is no reason to stop: beside it stands why nothing
    could be kept, else "".

    Args:
        key: of all that the values depend on.
    """
    try:
        path = cache_folder() / f"{key}.pt"
        if is_intact(path):  # torch reads no checksum
            return torch.load(path, weights_only=True), ""
    except Exception:
        pass
    values = make()
    try:
        with atomic(cache_folder() / f"{key}.pt") as part:
            save_sealed(values, part)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = getattr(error, "strerror", None)
        return values, f"in {cache_folder()} ({reason})" if reason else f"({error})"
    return values, ""


def save_sealed(value: Any, file: IO[bytes]) -> None:
    """Writes what torch.load reads, with its seal.

    Raises:
        OSError: the file system refuses.
    """
    sealing: Any = Sealing(file)
    try:
        torch.save(value, sealing)
    except RuntimeError as error:  # torch's own, which hides what the file system says
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    sealing.end()
