"""What tests take from the repository itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from plainres.run.cell import compose_cell
from plainres.run.config import CONF, ROOT

__all__ = ["CONF", "ROOT", "committed", "compose_cell", "python", "run", "variants"]


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
