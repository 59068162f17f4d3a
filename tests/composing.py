"""What tests take from the repository itself."""

import copy
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from plainres.run import cell as cells
from plainres.run.config import CONF, ROOT

__all__ = ["CONF", "ROOT", "committed", "compose_cell", "python", "run", "variants"]


def compose_cell(results: Path, *overrides: str) -> cells.Cell:
    """As that of plainres.run.cell; Hydra composes the same words once, because it takes 0.1 s."""
    cell = _composed(overrides)
    config = copy.deepcopy(cell.config)
    if not any(override.startswith("results_dir=") for override in overrides):
        config.results_dir = str(results)
    return cells.Cell(config, cell.arm)


@cache
def _composed(overrides: tuple[str, ...]) -> cells.Cell:
    return cells.compose_cell(Path("results"), *overrides)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in the repository, to its end, whatever its status."""
    words, merged = list(map(str, command)), os.environ | environment
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(words, env=merged, check=False, **options)


def python(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, *words, **environment)


def committed(path: str) -> str:
    """A file as the last commit has it, whatever a sweep on this machine has made of it since."""
    shown = run("git", "show", f"HEAD:{path}")
    if shown.returncode:
        pytest.skip(f"no committed {path}")
    return shown.stdout


def variants(group: str) -> list[str]:
    """Names of the variants of one question, sorted."""
    return sorted(map(str, OmegaConf.load(CONF / "variants" / f"{group}.yaml")))
