"""Whole commands, timed as a person at a terminal waits for them. Imports no torch."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from experiments.bench.floor import ARMS, DEPTHS
from experiments.bench.window import Process
from plainres.records.files import read_runs
from plainres.run.config import ROOT


def sweep(process: Process, iterations: int, jobs: int | None) -> dict[str, float]:
    """The depth sweep on digits, one seed.

    Args:
        jobs: cells at once in one sweep; None for one command per cell, one after another.
    """
    train = ["-m", "plainres.run.train"]
    shared = ["protocol=quick", f"protocol.iterations={iterations}", "accelerator=cpu"]
    shared += [f"results_dir={process.folder}", f"threads={process.threads}"]
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


def first_sweep(process: Process, compiled: bool) -> dict[str, float]:
    """Seconds of the whole command of `make sweep-depth`, with figures and verdicts.

    Args:
        compiled: the fused kernels are in Numba's cache, which is empty otherwise.
    """
    cache = {"NUMBA_CACHE_DIR": str(process.folder / "numba")}
    words = ["-m", "experiments", "sweep", "depth", "accelerator=cpu"]
    if compiled:
        few = ["protocol.iterations=20", "protocol.schedule.warmup_iterations=1"]
        few += ["protocol.error_window=20", f"results_dir={process.folder / 'before'}"]
        _run([*words, *few], ROOT, cache)
    began = time.monotonic()
    _run([*words, f"results_dir={process.folder / 'results'}"], ROOT, cache)
    return {"seconds": time.monotonic() - began}


def command(process: Process, words: list[str]) -> dict[str, float]:
    """Seconds of a Python command, and whether it imports torch.

    It runs in a folder of its own that holds a copy of the committed results.

    Args:
        words: after `python`.
    """
    results = process.folder / "results"
    shutil.copytree(ROOT / "results", results, ignore=shutil.ignore_patterns("runs", "local"))
    times = _run(["-X", "importtime", *words], process.folder).stderr.splitlines()
    imports_torch = "torch" in (line.rpartition("|")[2].strip() for line in times)
    return {"seconds": _seconds(words, process.folder), "imports_torch": float(imports_torch)}


def _seconds(words: list[str], folder: Path = ROOT) -> float:
    began = time.monotonic()
    _run(words, folder)
    return time.monotonic() - began


def _run(
    words: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "Traceback" in done.stderr:
        reason = f"ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
        raise RuntimeError(f"python {' '.join(words)} {reason}")
    return done
