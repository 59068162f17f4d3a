"""The notebook: what lies in the repository, and a run of it from its first cell to its last."""

import json
import os
import re

import pytest
from composing import ROOT

NOTEBOOK = ROOT / "docs" / "plainres.ipynb"


def text(cell) -> str:
    """What a cell printed and showed."""
    return "".join(
        output.get("text", "") + str(output.get("data", {}).get("text/html", ""))
        for output in cell.outputs
    )


def test_twelve_cells_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 12
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_it_runs_from_the_first_cell_to_the_last(tmp_path, monkeypatch):
    """In a folder of its own, with four networks of a few iterations instead of ten."""
    nbclient, nbformat = map(pytest.importorskip, ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    (tmp_path / "results").mkdir()
    for path in (ROOT / "results").iterdir():
        if path.is_dir() and path.name != "local":
            (tmp_path / "results" / path.name).symlink_to(path)
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"--protocol quick (?=acc)", "--depths 20,56 \\g<0>", cell.source)
            cell.source = cell.source.replace("quick", "smoke")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()

    first, sweep, figures, verdicts, board, changed, table, _ = (
        cell for cell in notebook.cells if cell.cell_type == "code"
    )
    assert not first.outputs, "plainres is here: nothing is fetched"
    assert "plain-56-seed0: train_error" in text(sweep)
    assert {"image/png"} < {kind for each in figures.outputs for kind in each.data}
    assert "(a)" in text(verdicts)
    assert "<iframe" in text(board)
    assert "folder=slower" in text(changed)
    words = "(smoke|slower) +(plain|residual)-(20|56) +[0-9.]+% training error"
    assert len(re.findall(words, text(table))) == 8
    assert list((tmp_path / "results" / "local").iterdir()) == [tmp_path / "results/local/depth"]
    assert not any((tmp_path / "results" / "local" / "depth").iterdir())
