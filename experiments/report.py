"""What every generated report is made with: figures and tables that are the same bytes for the same numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from plainres.record import Record

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "plainres",
}


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes `path`.png and .svg without anything that differs from run to run, and closes the figure."""
    path.parent.mkdir(exist_ok=True)
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        written.append(path.with_name(path.name + suffix))
        figure.savefig(written[-1], metadata=metadata)
    plt.close(figure)
    return written


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; the first row is its heading."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return [head, "|" + " --- |" * len(rows[0]), *body]


def measured_on(records: Sequence[Record]) -> str:
    """Commits, machines and versions as a sentence."""
    commits = sorted({row.commit[:12] + ("" if row.clean else " (tree not clean)") for row in records})
    machines = sorted({f"{row.processor}, {row.precision}, torch {row.torch}" for row in records})
    return f"Measured at commit {', '.join(commits)} on {'; '.join(machines)}."
