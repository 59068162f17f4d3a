"""Whole commands, as a person at a terminal waits for them. Imports no torch."""

import shutil
import subprocess
import sys
import time
from itertools import product

from experiments.bench.window import Process
from experiments.depth.claims import ARMS, DEPTHS
from plainres.records.files import read_runs
from plainres.run.config import ROOT

NAME = "bench"


def sweep(process: Process, iterations: int, jobs: int | None) -> dict[str, float]:
    """The depth sweep on digits, one seed.

    Args:
        jobs: cells at once in one sweep; None for one command per cell, one after another.
    """
    shared = [
        "protocol=quick",
        f"folder={NAME}",
        f"protocol.iterations={iterations}",
        f"results_dir={process.folder}",
    ]
    shared.append("accelerator=cpu")
    if jobs is None:
        cells = product(ARMS, sorted(DEPTHS, reverse=True))
        commands = [[f"model={arm}", f"model.depth={depth}", *shared] for arm, depth in cells]
    else:
        commands = [["-m", "+experiment=depth", *shared, f"jobs={jobs}"]]
    wall = sum(_seconds(["-m", "plainres.run.train", *words]) for words in commands)
    records = read_runs(process.folder / "depth" / NAME)
    if len(records) != len(ARMS) * len(DEPTHS):
        raise RuntimeError(f"{len(records)} of {len(ARMS) * len(DEPTHS)} cells have a record")
    return {
        "wall_seconds": wall,
        "cells_per_hour": 3600 * len(records) / wall,
        "work_seconds": sum(record.seconds for record in records),
    }


def command(
    process: Process, words: list[str], copied: str | None = None, worst_status: int = 0
) -> dict[str, float]:
    """A Python command's seconds, and whether it imports torch.

    Args:
        words: after `python`; `{copy}` is the copy of `copied`.
        copied: a folder of the repository, without its runs.
        worst_status: the greatest exit status that is no failure.
    """
    copy = process.folder / "copy"
    if copied is not None:
        shutil.copytree(ROOT / copied, copy, ignore=shutil.ignore_patterns("runs"))
    words = [word.replace("{copy}", str(copy)) for word in words]
    imported = [
        line.rpartition("|")[2].strip()
        for line in _run(["-X", "importtime", *words], worst_status).stderr.splitlines()
    ]
    return {"seconds": _seconds(words, worst_status), "imports_torch": float("torch" in imported)}


def _seconds(words: list[str], worst_status: int = 0) -> float:
    began = time.monotonic()
    _run(words, worst_status)
    return time.monotonic() - began


def _run(words: list[str], worst_status: int) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not 0 <= done.returncode <= worst_status or "Traceback" in done.stderr:
        raise RuntimeError(
            f"python {' '.join(words)} ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    return done
