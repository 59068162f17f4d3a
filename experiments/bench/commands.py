"""Whole commands, timed as a person at a terminal waits for them. Imports no torch."""

import shutil
import subprocess
import sys
import time
from itertools import product

from experiments.bench.floor import ARMS, DEPTHS
from experiments.bench.window import Process
from plainres.records.files import read_runs
from plainres.run.cell import ROOT


def sweep(process: Process, iterations: int, jobs: int | None) -> dict[str, float]:
    """The depth sweep on digits, one seed.

    Args:
        jobs: cells at once in one sweep; None for one command per cell, one after another.
    """
    train = ["-m", "plainres.run.train"]
    shared = ["protocol=quick", f"protocol.iterations={iterations}", "accelerator=cpu"]
    shared.append(f"results_dir={process.folder}")
    if jobs is None:
        cells = product(ARMS, sorted(DEPTHS, reverse=True))
        commands = [[*train, f"model={a}", f"model.depth={d}", *shared] for a, d in cells]
    else:
        commands = [[*train, "-m", "+experiment=depth", *shared, f"jobs={jobs}"]]
    wall = sum(_seconds(words) for words in commands)
    records = read_runs(process.folder / "depth" / "quick")
    if len(records) != len(ARMS) * len(DEPTHS):
        raise RuntimeError(f"{len(records)} of {len(ARMS) * len(DEPTHS)} cells have a record")
    return {
        "wall_seconds": wall,
        "cells_per_hour": 3600 * len(records) / wall,
        "work_seconds": sum(record.seconds for record in records),
    }


def command(
    process: Process, words: list[str], copied: str | None = None, max_status: int = 0
) -> dict[str, float]:
    """Seconds of a Python command, and whether it imports torch.

    Args:
        words: after `python`; `{copy}` stands for the copy of `copied`.
        copied: a folder of the repository, which is copied without its runs.
        max_status: the largest exit status that is no failure.
    """
    copy = process.folder / "copy"
    if copied is not None:
        shutil.copytree(ROOT / copied, copy, ignore=shutil.ignore_patterns("runs"))
    words = [word.replace("{copy}", str(copy)) for word in words]
    times = _run(["-X", "importtime", *words], max_status).stderr.splitlines()
    imports_torch = "torch" in (line.rpartition("|")[2].strip() for line in times)
    return {"seconds": _seconds(words, max_status), "imports_torch": float(imports_torch)}


def _seconds(words: list[str], max_status: int = 0) -> float:
    began = time.monotonic()
    _run(words, max_status)
    return time.monotonic() - began


def _run(words: list[str], max_status: int) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not 0 <= done.returncode <= max_status or "Traceback" in done.stderr:
        reason = f"ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
        raise RuntimeError(f"python {' '.join(words)} {reason}")
    return done
