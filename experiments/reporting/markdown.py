"""Markdown of generated reports: tables, verdicts, labels, provenance."""

import textwrap
from collections.abc import Sequence
from typing import Any

from experiments.judging.verdict import Claim
from experiments.reporting.text import seeds_of
from plainres.records.schema import Record, is_limited

SELECTION = (
    "`cpu` was chosen on seed 0, after `cpu16` had spoken there against the claims that training "
    "error does not rise, and falls, with depth in residual networks"
)

# Cells of these commits that ended since then (docs/registered.md, "To ten seeds")
ADDED_AT, ADDED_SINCE = ("22040951f", "5cc5fbd7a"), "2026-11-29T12"
ADDED = "registered when verdicts over the other seeds had been seen"


def paragraph(text: str) -> list[str]:
    """The lines of a paragraph, or of list items that begin with `- `, wrapped at 100 columns."""
    lines = []
    for line in text.splitlines():
        indent = "  " if line.startswith("- ") else ""
        lines += textwrap.wrap(
            line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    return lines


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; the first row is its heading; `|` in a cell is escaped."""
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    head, *body = ("| " + " | ".join(row) + " |" for row in escaped)
    return [head, "|" + " --- |" * len(rows[0]), *body]


def word(claim: Claim, about: str = "", mark: str = "") -> str:
    """The verdict between two marks, its number of seeds, and what it is `about`."""
    number = f"n = {claim.num_seeds}" if claim.num_seeds else ""
    brackets = "; ".join(filter(None, (number, about)))
    return f"{mark}{claim.words}{mark}" + (f" ({brackets})" if brackets else "")


def label_of(records: Sequence[Record], variant: str = "") -> str:
    """Data label, protocol and number of seeds: what every figure says.

    Args:
        variant: how all records differ from the protocol that they are based on.
    """
    labels = ", ".join(sorted({record.data_label for record in records}))
    protocols = ", ".join(protocols_of(records))
    variant = f", {variant}" if variant else ""
    return f"{labels} · protocol {protocols}{variant} · {seeds_of(records)}"


def cautions(records: Sequence[Any]) -> list[str]:
    """What was decided after results had been seen: the protocol, or to measure more seeds.

    Args:
        records: or other rows with protocol, seed, data_label and commit; without iterations they
            are of no training, without finished_at no seed counts as added.
    """
    return [*filter(None, (_selection(records), _added_seeds(records)))]


def _selection(records: Sequence[Any]) -> str:
    trained = [
        row
        for row in records
        if getattr(row, "iterations", 0) > 1 and row.data_label.startswith("CIFAR-10")
    ]
    protocols, seeds = {row.protocol for row in trained}, {row.seed for row in trained}
    if not protocols & {"cpu", "cpu-bf16", "cpu16"}:
        return ""
    free = [] if "cpu16" in protocols else sorted(seeds - {0})
    numbers = f"seed{'s' * (len(free) > 1)} {', '.join(map(str, free))}"
    return f"{SELECTION}{f'; {numbers} had no part in the choice' if free else ''}."


def _added_seeds(records: Sequence[Any]) -> str:
    seeds = {
        row.seed
        for row in records
        if row.commit.startswith(ADDED_AT) and getattr(row, "finished_at", "") > ADDED_SINCE
    }
    numbers = ", ".join(map(str, sorted(seeds)))
    return f"Seed{'s' * (len(seeds) > 1)} {numbers}: {ADDED}." if seeds else ""


def protocols_of(records: Sequence[Record]) -> list[str]:
    """By their names of today: what is cpu-bf16 now was called cpu."""
    names = sorted({record.protocol for record in records})
    former = (r.precision == "bf16-mixed" and not is_limited(r.instruction_set) for r in records)
    return ["cpu-bf16"] if names == ["cpu"] and any(former) else names


def measured_on(records: Sequence[Any]) -> str:
    """Commits, machines and versions as a sentence.

    Args:
        records: or other rows with commit, clean, processor, precision, kernels and torch.
    """
    commits, machines = set(), set()
    for row in records:
        commits.add(commit_of(row))
        kernels = "" if row.kernels in ("", "library") else f", {row.kernels} kernels"
        machines.add(f"{row.processor}, {row.precision}{kernels}, torch {row.torch}")
    return f"Measured at commit {', '.join(sorted(commits))} on {'; '.join(sorted(machines))}."


def commit_of(row: Any) -> str:
    """The commit of a row, shortened, and whether files differed from it, as far as git knew.

    Of a run that went on with other code the commits, with + between.
    """
    commits = "+".join(commit[:12] for commit in row.commit.split("+"))
    return commits + (" (tree not clean)" if row.clean is False else "")
