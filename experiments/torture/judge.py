"""What a results folder holds, and how it differs from that of an undisturbed run.

Files are read without plainres.records: the code under test does not judge itself.
"""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SURVIVED, NOTICED = "survived", "noticed"
LOST, WRONG = "lost", "silently_wrong"
OUTCOMES = (SURVIVED, NOTICED, LOST, WRONG)

# Fields that differ between two runs by nature, and those of the code, which somebody may edit
OF_THE_RUN = (
    *("seconds", "images_per_second", "peak_memory_mib", "finished_at", "commit", "clean"),
    "sha256",  # of all values of the record
)

Held = dict[str, Any]  # what → its value


def held(folder: Path) -> Held:
    """Records, curves and weights of all cells of a results folder, and the rows of its tables.

    A damaged file is held as its error.
    """
    found: Held = {}
    # folders that were set aside have a dot in their name
    for cell in sorted((folder / "runs").glob("*-seed[0-9]*")):
        if "." in cell.name:
            continue
        for name, read in (("record.json", _record), ("curves.csv", _rows), ("weights.pt", _pt)):
            if (cell / name).exists():
                found |= _prefixed(f"{cell.name}/{name}", read, cell / name)
    for name in ("runs.csv", "curves.csv"):
        if (folder / name).exists():
            found |= _prefixed(name, _rows, folder / name)
    return found


def difference(wanted: Held, found: Held) -> tuple[str, str] | None:
    """LOST or WRONG and what it is; None where everything wanted is there and nothing else."""
    for name, value in wanted.items():
        if name not in found:
            return LOST, f"{name} is gone"
        if found[name] != value:
            return WRONG, f"{name}: {_shown(value)} → {_shown(found[name])}"
    for name in found.keys() - wanted.keys():
        return WRONG, f"{name} is there, which no undisturbed run has"
    return None


def _prefixed(name: str, read: Any, path: Path) -> Held:
    try:
        return {f"{name}: {key}": value for key, value in read(path).items()}
    except Exception as error:
        return {name: f"unreadable ({type(error).__name__})"}


def _record(path: Path) -> Mapping[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in record.items() if name not in OF_THE_RUN}


def _rows(path: Path) -> Mapping[str, Any]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    held = {}
    for row in rows:
        kept = {name: text for name, text in row.items() if name not in OF_THE_RUN}
        held[f"{row['arm']}-{row['depth']}-seed{row['seed']} {row.get('iteration', '')}"] = kept
    return held if len(held) == len(rows) else {**held, "rows": len(rows)}


def _pt(path: Path) -> Mapping[str, str]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:12]
        for name, tensor in state.items()
    }


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
