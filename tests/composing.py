"""What tests take from the repository itself."""

import subprocess

import pytest

from plainres.run.cell import CONF, ROOT, compose_cell

__all__ = ["CONF", "ROOT", "committed", "compose_cell"]


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
