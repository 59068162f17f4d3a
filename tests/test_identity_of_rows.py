"""Committed rows keep their identity: config_hash follows from the configuration beside them.

Where a class lives in the code is no part of that identity (plainres.records.identity).
"""

import json

import pytest
from composing import ROOT, committed

from plainres.records import files, schema
from plainres.records.files import RUNS_TABLE, read_table
from plainres.records.identity import config_hash

PATHS = sorted((ROOT / "results").rglob(RUNS_TABLE))
FOLDERS = [
    path.parent for path in PATHS if not {"runs", "local"} & set(path.relative_to(ROOT).parts)
]


def parent_hash(folder, config, row) -> str | None:
    """The config_hash of the row's parent, which a child's identity holds."""
    if "child" not in config:
        return None
    table = folder.parent / config["child"]["parent"].rpartition("/")[2] / RUNS_TABLE
    return next(
        parent.config_hash for parent in read_table(table, schema.Record) if parent.cell == row.cell
    )


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT / "results").as_posix()
)
def test_every_committed_row_has_the_identity_of_its_recorded_configuration(folder, tmp_path):
    name = folder.relative_to(ROOT)
    config = json.loads(committed(f"{name}/{files.CONFIG_FILE}"))
    (tmp_path / RUNS_TABLE).write_text(committed(f"{name}/{RUNS_TABLE}"))
    rows = files.read_runs(tmp_path)
    assert rows
    for row in rows:
        model = {
            **config["model"],
            "depth": row.depth,
            **({"shortcut": row.shortcut} if row.shortcut else {}),
        }
        identity = {**config, "arm": row.arm, "seed": row.seed, "model": model}
        if parent := parent_hash(folder, config, row):
            identity["parent"] = parent
        assert config_hash(identity) == row.config_hash, row.cell
