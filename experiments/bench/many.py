"""Tables of very many cells: gathered, judged and drawn, each by a command of its own.

The cells are made up from the committed ones of `depth/quick`: other seeds, errors a little moved.
Imports no torch.
"""

import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from experiments.bench.window import Process
from plainres.records.files import (
    CONFIG_FILE,
    CURVES_TABLE,
    gather,
    read_config,
    read_runs,
    write_json,
    write_record,
    write_table,
)
from plainres.records.identity import row_hash
from plainres.records.schema import CurvePoint, Record
from plainres.run.config import ROOT

TEMPLATE = Path("results", "depth", "quick")
SCATTER = 0.005  # standard deviation of an error over seeds, a fraction
KIB = 1024
# As a person starts them, in a folder that has results/depth/quick; a sweep gathers in its process
COMMANDS = {
    "gather": ["experiments.bench.many", str(TEMPLATE)],
    "gather_again": ["experiments.bench.many", str(TEMPLATE)],  # one cell more
    "check": ["experiments", "check", "depth"],
    "figures": ["experiments", "figures", "depth"],
}


def tables(process: Process, cells: int, points: int) -> dict[str, float]:
    """Seconds, seconds of a processor and peak memory of each command.

    Args:
        points: of each cell's curve.
    """
    folder = process.folder / TEMPLATE
    make(folder, cells, points)
    numbers: dict[str, float] = {}
    for name, words in COMMANDS.items():
        seconds, processor, mib = _run(words, process.folder)
        numbers |= {f"{name}_seconds": seconds, f"{name}_processor_seconds": processor}
        numbers[f"{name}_mib"] = mib
        if name == "gather":
            _finish(folder, cells + 1, points, skip=cells)
    return numbers


def make(folder: Path, cells: int, points: int) -> None:
    """A results folder of finished cells, none of them gathered."""
    write_json(folder / CONFIG_FILE, read_config(ROOT / TEMPLATE))
    _finish(folder, cells, points)


def _finish(folder: Path, cells: int, points: int, skip: int = 0) -> None:
    with patch("os.fsync"):  # else the disk is waited for twice a cell
        for number, record in enumerate(_records(cells)):
            if number >= skip:
                own = folder / "runs" / record.cell
                write_table(own / CURVES_TABLE, _curve(record, points), CurvePoint)
                write_record(own, record)


def _records(cells: int) -> Iterator[Record]:
    shared = read_config(ROOT / TEMPLATE)
    rows = [row for row in read_runs(ROOT / TEMPLATE) if row.seed == 0 and row.depth >= 20]
    assert shared is not None
    generator = random.Random(0)
    for number in range(cells):
        seed, place = divmod(number, len(rows))
        error = min(1.0, max(0.0, (rows[place].train_error or 0) + generator.gauss(0, SCATTER)))
        row = replace(rows[place], seed=seed, train_error=error)
        yield replace(row, config_hash=row_hash(shared, row))


def _curve(record: Record, points: int) -> list[CurvePoint]:
    """From guessing to the record's error."""
    cell, error = (record.arm, record.depth, record.seed), record.train_error or 0.0
    return [
        CurvePoint(
            *cell,
            iteration=record.iterations * number // points,
            train_error=error + (0.9 - error) * math.exp(-5 * number / points),
            train_loss=2.3 * math.exp(-number / points),
            learning_rate=0.1 * (1 - number / points),
            test_error=record.test_error,
            test_loss=record.test_loss,
        )
        for number in range(1, points + 1)
    ]


def _run(words: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of a processor and peak memory (MiB) of a Python module."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python -m {' '.join(words)} ended with {process.returncode}")
    processor = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, processor, usage.ru_maxrss / KIB


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
