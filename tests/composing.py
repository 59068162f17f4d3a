"""Composes the shipped configuration for tests."""

import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from plainres.cell import Cell

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"


def compose_cell(results: Path, *overrides: str) -> Cell:
    """The cell that `python -m plainres.train <overrides>` would train, with its results below `results`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"results_dir={results}", *overrides], return_hydra_config=True)
    arm = config.hydra.runtime.choices["model"]
    with open_dict(config):
        del config["hydra"]
    return Cell(config, arm)


def committed(path: str) -> str:
    """A file as the last commit has it, whatever a sweep on this machine has made of it since."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    if shown.returncode:
        pytest.skip(f"no committed {path}")
    return shown.stdout
