"""The shipped configuration, as the command line composes it. Imports no torch."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from plainres.cell import Cell

ROOT = Path(__file__).resolve().parents[2]


def compose_cell(results: Path, *overrides: str) -> Cell:
    """The cell that `python -m plainres.train <overrides>` would train, with its results below `results`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [f"results_dir={results}", *overrides], return_hydra_config=True)
    arm = config.hydra.runtime.choices["model"]
    with open_dict(config):
        del config["hydra"]
    return Cell(config, arm)
