"""What tests take from the repository itself."""

import subprocess

import pytest
from omegaconf import OmegaConf

from plainres.run.cell import compose_cell
from plainres.run.config import CONF, ROOT

__all__ = ["CONF", "ROOT", "committed", "compose_cell", "variants"]


def committed(path: str) -> str:
    """A file as the last commit has it, whatever a sweep on this machine has made of it since."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:{path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if shown.returncode:
        pytest.skip(f"no committed {path}")
    return shown.stdout


def variants(group: str) -> list[str]:
    """Names of the variants of one question, sorted."""
    return sorted(map(str, OmegaConf.load(CONF / "variants" / f"{group}.yaml")))
