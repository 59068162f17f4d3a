"""Committed rows keep their identity: config_hash follows from the configuration beside them.

Where a class lives in the code is no part of that identity (plainres.records.identity).
"""

import json

import pytest
from composing import ROOT, committed

from plainres.records import files
from plainres.records.files import RUNS_TABLE
from plainres.records.identity import row_hash

PATHS = sorted((ROOT / "results").rglob(RUNS_TABLE))
FOLDERS = [
    path.parent for path in PATHS if not {"runs", "local"} & set(path.relative_to(ROOT).parts)
]


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
        assert row_hash(config, row) == row.config_hash, row.cell
        assert bool(row.parent) == ("child" in config), row.cell
