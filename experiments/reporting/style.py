"""What every generated report is made with: figures and tables that are the same bytes for the same numbers."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging import verdict
from experiments.judging.verdict import Claim
from experiments.reporting.text import seeds_of
from plainres.records.files import write_text
from plainres.records.schema import Record

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
    for suffix, metadata in (
        (".png", {"Software": None}),
        (".svg", {"Date": None, "Creator": None}),
    ):
        written.append(path.with_name(path.name + suffix))
        figure.savefig(written[-1], metadata=metadata)
    plt.close(figure)
    return written


def publish(folder: Path, figures: Mapping[str, Callable[[], Figure]], readme: str) -> list[Path]:
    """Writes what a results folder shows: figures/<name>.png and .svg, each drawn in the reports' style, and README.md.

    Returns:
        What it wrote.
    """
    with plt.rc_context(STYLE):
        written = [
            path
            for name, draw in figures.items()
            for path in save(draw(), folder / "figures" / name)
        ]
    path = folder / "README.md"
    write_text(path, readme)
    return [*written, path]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; the first row is its heading."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return [head, "|" + " --- |" * len(rows[0]), *body]


def judged(claims: Sequence[Claim]) -> list[str]:
    """Verdicts as a Markdown table; where there are several seeds, folded away below it what they rest on."""
    lines = markdown(verdict.rows(claims))
    if verdict.rests_on_several(claims):
        lines += [
            "",
            "<details><summary>Intervals and p values</summary>",
            "",
            *markdown(verdict.details(claims)),
            "",
            "</details>",
        ]
    return lines


def label_of(records: Sequence[Record]) -> str:
    """Data label, protocol and number of seeds: what every figure says."""
    labels = ", ".join(sorted({row.data_label for row in records}))
    protocols = ", ".join(sorted({row.protocol for row in records}))
    return f"{labels} · protocol {protocols} · {seeds_of(records)}"


def label_with(records: Sequence[Record], shared: str) -> str:
    """Data label, what all records share in the words of their question, and number of seeds."""
    labels = ", ".join(sorted({record.data_label for record in records}))
    return f"{labels} · {shared} · {seeds_of(records)}"


def measured_on(records: Sequence[Record]) -> str:
    """Commits, machines and versions as a sentence."""
    commits = sorted(
        {row.commit[:12] + ("" if row.clean else " (tree not clean)") for row in records}
    )
    machines = sorted(
        {f"{row.processor}, {row.precision}{_kernels(row)}, torch {row.torch}" for row in records}
    )
    return f"Measured at commit {', '.join(commits)} on {'; '.join(machines)}."


def _kernels(row: Record) -> str:
    return "" if row.kernels in ("", "library") else f", {row.kernels} kernels"


def regenerate(
    make: Callable[[Path], list[Path]], what: str, arguments: Sequence[str] | None = None
) -> int:
    """A command that makes the reports of the folders it is given; 1 and one line where one has no usable tables.

    Args:
        make: writes a folder's figures and README and returns what it wrote; ValueError says what is wrong with the folder.
        what: the kind of folder, for the command's help.
        arguments: None for those of the process.
    """
    parser = argparse.ArgumentParser(
        description="Figures and README of results folders, from their committed tables."
    )
    parser.add_argument("folders", type=Path, nargs="+", help=what)
    for folder in parser.parse_args(arguments).folders:
        try:
            written = make(folder)
        except ValueError as error:
            print(f"plainres: {error}", file=sys.stderr)
            return 1
        print("\n".join(map(str, written)))
    return 0
