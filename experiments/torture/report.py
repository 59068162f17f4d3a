"""results/torture: the table of outcomes and what its words mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.reporting.markdown import markdown, paragraph
from plainres.records.files import read_table, write_table, write_text
from plainres.records.schema import duration

TABLE = "campaign.csv"
COLUMNS = ("injected", "survived", "noticed", "lost", "silently_wrong")
GROUPS = {
    "killed": ("crash", "torn", "kill", "kill-elsewhere", "worker-killed", "parent-killed"),
    "told to stop": ("stop-run", "stop-sweep"),
    "disk full, failing, gone": ("disk-full", "disk-error", "read-only", "vanished"),
    "files damaged or foreign": ("flip", "cut", "empty", "zero", "foreign", "wrong-type"),
    "hostile pictures, archives": ("picture", "archive"),
    "others": ("four-sweeps", "clock", "memory"),
}
WORDS = """
A small cell (plain-8, digits, 24 iterations, a checkpoint after each) or a sweep of two cells meets
a fault. Then the same command is given again, up to three times, and the results are compared with
those of an undisturbed run. A finished cell beside it, and the tables, are compared too.

- **injected**: faults of this kind that were done.
- **survived**: record, curve and final weights of every cell, and the rows of the tables, equal
those of the undisturbed run to the bit. Fields that differ by nature are left out: seconds, images
per second, peak memory, the time of the end, the commit.
- **noticed**: the command did not get there by itself, but it ended with a status that is not 0
and one line that says why. When what was damaged is taken away (a damaged picture: put back), or
what that line says is to be deleted, the same command gets there. Nothing else is lost.
- **lost**: something that was finished is gone, or cannot be finished; or the command hangs, gives
up without a line that says why, or leaves processes behind for more than 10 s.
- **silently wrong**: the command ended with status 0, and the results are others.
- **seconds**: of all faults of the kind, one after another.
"""


@dataclass
class Row:
    """A kind of fault: how many were done, and how they ended (judge.OUTCOMES).

    Args:
        seconds: of all its faults together; faults of other kinds ran beside them.
    """

    kind: str
    injected: int = 0
    survived: int = 0
    noticed: int = 0
    lost: int = 0
    silently_wrong: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Facts:
    """Of a campaign; `jobs`: faults at a time, `seconds`: from its start to its end."""

    seed: int
    jobs: int
    seconds: float


def table(rows: Sequence[Row], texts: Mapping[str, str] | None = None) -> list[str]:
    """The outcomes as a Markdown table, with their sums; `texts`: what each kind is."""
    head = ["kind", *(name.replace("_", " ") for name in COLUMNS), "seconds"]
    body = [
        [row.kind, *(str(getattr(row, name)) for name in COLUMNS), f"{row.seconds:.0f}"]
        for row in rows
    ]
    sums = [str(sum(getattr(row, name) for row in rows)) for name in COLUMNS]
    body.append(["**all**", *sums, f"{sum(row.seconds for row in rows):.0f}"])
    if texts is not None:
        head.append("what is done")
        body = [[*row, texts.get(row[0], "")] for row in body]
    return markdown([head, *body])


def write(
    folder: Path,
    rows: Sequence[Row],
    texts: Mapping[str, str],
    not_run: Mapping[str, str],
    facts: Facts,
) -> None:
    """The table, and README.md beside it."""
    import torch

    from plainres.training.machine import provenance

    write_table(folder / TABLE, rows, Row)
    made = provenance(torch.device("cpu"))
    clean = "" if made["clean"] else " (with changes)"
    sentence = (
        f"Seed {facts.seed}, {facts.jobs} faults at a time; took {duration(facts.seconds)} on "
        f"{made['processor']}. Commit {made['commit'][:12]}{clean}, Python {made['python']}, "
        f"torch {made['torch']}, Lightning {made['lightning']}. `make torture` does it again; "
        f"`plainres torture --kinds flip --only 17 --seed {facts.seed}` repeats one fault."
    )
    blocks = [block.replace("\n", " ").replace(" - **", "\n- **") for block in WORDS.split("\n\n")]
    lines = ["# What it survives", "", *paragraph(sentence), ""]
    for block in blocks:
        lines += [*paragraph(block.strip()), ""]
    lines += table(rows, texts)
    if not_run:
        lines += ["", "Not run here:", ""]
        lines += [f"- {name}: {reason}" for name, reason in not_run.items()]
    write_text(folder / "README.md", "\n".join(lines) + "\n")


def summary(folder: Path) -> str:
    """The table of a folder in short: a row for each of GROUPS, as a block of another page."""
    kinds = read_table(folder / TABLE, Row)
    lines = table(
        [
            Row(name, *(sum(getattr(r, c) for r in kinds if r.kind in members) for c in COLUMNS))
            for name, members in GROUPS.items()
        ]
    )
    return "\n".join("|".join(line.split("|")[:-2]) + "|" for line in lines)  # without seconds
