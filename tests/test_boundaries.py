"""Who may know whom: plainres never imports experiments; experiments never import torch, nor anything of plainres that does.

experiments/bench measures running code, so it may; what only reads its tables may not.
"""

import ast

import pytest
from composing import ROOT

TORCH_FREE = {
    "plainres.records",
    *(f"plainres.records.{name}" for name in ("schema", "files", "identity", "errors")),
}
BENCH = ROOT / "experiments" / "bench"
MEASURING = set(BENCH.glob("*.py")) - {
    BENCH / name for name in ("__init__.py", "parts.py", "tables.py", "figures.py")
}


def imports_of(path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_plainres_never_imports_experiments(path):
    assert not {name for name in imports_of(path) if name.split(".")[0] == "experiments"}


@pytest.mark.parametrize(
    "path",
    sorted(set((ROOT / "experiments").rglob("*.py")) - MEASURING),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_experiments_read_records_and_never_train(path):
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & {"torch", "torchvision", "pytorch_lightning", "hydra"}
    assert {name for name in imports_of(path) if name.startswith("plainres")} <= TORCH_FREE


def test_the_module_knows_no_architecture_and_no_data_set():
    names = imports_of(ROOT / "src" / "plainres" / "training" / "module.py")
    assert not names & {
        "plainres.networks.resnet",
        "plainres.networks.blocks",
        "plainres.networks.depth",
        "plainres.data.images",
    }
