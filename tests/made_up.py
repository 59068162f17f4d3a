"""Records and curves that no run has measured, for tests of what reads them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from plainres.records.files import (
    CONFIG_FILE,
    CURVES_TABLE,
    RUNS_TABLE,
    read_json,
    read_runs,
    write_json,
    write_table,
)
from plainres.records.identity import row_hash
from plainres.records.schema import DIVERGED, FINISHED, CurvePoint, Record

NO_ERRORS = dict.fromkeys(  # what a diverged run has of these
    ("train_error", "train_error_eval", "train_loss", "test_error", "test_loss")
)


def made_up_record(**changes) -> Record:
    """A complete record of residual-20-seed0, with the given fields; no errors if diverged."""
    plain = changes.get("arm") == "plain"
    values = {
        "arm": "residual",
        "depth": 20,
        "seed": 0,
        "shortcut": "none" if plain else "zero_pad",
        "num_parameters": 269722,
        "protocol": "quick",
        "data_label": "digits",
        "num_classes": 10,
        "status": FINISHED,
        "train_error": 0.02,
        "train_error_eval": 0.01,
        "train_loss": 0.05,
        "test_error": 0.03,
        "test_loss": 0.08,
        "val_error": None,
        "iterations": 2000,
        "error_window": 200,
        "seconds": 41.5,
        "images_per_second": 6168.5,
        "peak_memory_mib": 800.25,
        "precision": "32-true",
        "processor": "a processor, 2 GHz",
        "threads": 1,
        "config_hash": "0123456789ab",
        "data_fingerprint": "ba9876543210",
        "commit": "c0ffee" * 6 + "c0ff",
        "clean": True,
        "python": "3.11.7",
        "torch": "2.9.0",
        "lightning": "2.6.0",
        "finished_at": "2026-01-01T00:00:00Z",
        "num_multiply_adds": 2_567_168,
        "kernels": "library",
        "instruction_set": "ATen AVX2 / oneDNN AVX2",
        "parent": "",
    }
    if changes.get("status") == DIVERGED:
        values |= NO_ERRORS
    assert not changes.keys() - values.keys()
    return Record(**(values | changes))


def made_up_curve(record: Record, points: int = 20) -> list[CurvePoint]:
    """A curve that falls from guessing to the record's errors."""
    train, test = record.train_error or 0.9, record.test_error or 0.9
    curve = []
    for number in range(1, points + 1):
        remaining = math.exp(-5 * number / points)
        iteration = record.iterations * number // points
        error = train + (0.9 - train) * remaining
        cell = (record.arm, record.depth, record.seed)
        point = CurvePoint(*cell, iteration, error, train_loss=1.0, learning_rate=0.1)
        if number % 2 == 0:
            point = replace(point, test_error=test + (0.9 - test) * remaining, test_loss=1.0)
        curve.append(point)
    return curve


def write_made_up(
    folder: Path, records: list[Record], curves: bool = False, config: Any = None
) -> None:
    """The tables of a results folder; records say what its configuration says, if it has one.

    Args:
        config: is written beside the tables.
    """
    if config:
        write_json(folder / CONFIG_FILE, config)
    if shared := read_json(folder / CONFIG_FILE):
        records = [_configured(record, shared) for record in records]
    write_table(folder / RUNS_TABLE, records, Record)
    if curves:
        points = [point for record in records for point in made_up_curve(record)]
        write_table(folder / CURVES_TABLE, points, CurvePoint)


def _configured(record: Record, shared: Any) -> Record:
    stated = {
        "data_label": shared.get("data", {}).get("label", record.data_label),
        "iterations": shared.get("protocol", {}).get("iterations", record.iterations),
    }
    return replace(record, config_hash=row_hash(shared, record), **stated)


def elsewhere(folder: Path, *cells: str, **changes: Any) -> None:
    """Makes cells of a table measured on another machine, or under other conditions."""
    changes = changes or {"processor": "another", "instruction_set": ""}
    rows = read_runs(folder)
    assert {row.cell for row in rows} >= set(cells)
    write_made_up(folder, [replace(row, **changes) if row.cell in cells else row for row in rows])
