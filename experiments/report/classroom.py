"""Exercises for a class: predict, run, compare. What comes out is taken from committed tables.

results/class/<name> has runs.csv and config.json of results/local/depth/<name>, which the command
of an exercise with NAME=<name> writes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from experiments.judging.pairs import counterparts, measured_alike, read_records
from experiments.reporting.markdown import label_of, measured_on
from experiments.reporting.text import percent
from plainres.records.files import read_config
from plainres.records.schema import Record

CORES = 2  # what the times are for
USUAL = "depth/quick"  # the setting that the exercises change


@dataclass(frozen=True)
class Exercise:
    """One thing to change.

    Args:
        compare: what to look at in the numbers.
        command: a target of the Makefile with its variables.
        folder: of the committed tables, with the cells that the command trains.
        beside: cells of the usual setting stand beside them.
    """

    title: str
    predict: str
    compare: str
    command: str
    folder: str
    arms: Collection[str] = ("plain", "residual")
    depths: Collection[int] = (20, 56)
    seeds: Collection[int] = (0,)
    beside: bool = False


EXERCISES = (
    Exercise(
        "Change the depth",
        "A network of 56 layers can do all that one of 20 layers can. Which has the lower "
        "training error: plain-20 or plain-56? residual-20 or residual-56?",
        "In which of the two rows does the error grow to the right? Both networks of a column have "
        "the same number of parameters.",
        "make sweep-depth DEPTHS=20,56",
        "depth/quick",
    ),
    Exercise(
        "Change the shortcut",
        "Half of a shortcut (scaled), a convolution on every shortcut (projection_everywhere), a "
        "shortcut around every second block (every_second): which of them is as good as the whole "
        "identity (residual)?",
        "Order the five networks by their error. How far is each from plain, and from residual?",
        "make sweep-shortcuts DEPTHS=56 "
        "ARMS=plain,residual,scaled,projection_everywhere,every_second",
        "shortcuts/quick",
        ("plain", "residual", "scaled", "projection_everywhere", "every_second"),
        (56,),
    ),
    Exercise(
        "Change the activation",
        "A ReLU puts out 0 for everything negative. What does plain-56 do with an activation that "
        "passes half of it on (slope 0.5)? Are shortcuts still needed then?",
        "By how much did the error of plain-56 fall, without any shortcut? What is left between "
        "plain and residual networks? Try 110 layers next.",
        "make sweep-dose VARIANTS=leaky_50 DEPTHS=20,56",
        "dose/quick-leaky_50",
        beside=True,
    ),
    Exercise(
        "Change the width",
        "Twice the channels means about four times the parameters. Which of the four networks "
        "gain by that? Was plain-56 only too small?",
        "What did the width do to 20 layers, and what to 56, without and with shortcuts?",
        "make sweep-depth NAME=wider DEPTHS=20,56 ARGS='protocol.width=8'",
        "class/wider",
        beside=True,
    ),
    Exercise(
        "Change the learning rate",
        "Perhaps the steps are too large for a deep network. Does a fifth of the learning rate "
        "cure plain-56?",
        "What did the lower rate do to each of the four networks? Is the rise from left to right "
        "gone?",
        "make sweep-depth NAME=slower DEPTHS=20,56 ARGS='protocol.learning_rate=0.02'",
        "class/slower",
        beside=True,
    ),
    Exercise(
        "Change the seed",
        "Other initial weights, other batches. How far will the errors of the two networks move?",
        "Compare two differences: between the seeds of one network, and between the two networks.",
        "make sweep-depth DEPTHS=56 SEEDS=1,2",
        "depth/quick",
        depths=(56,),
        seeds=(1, 2),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What came out, measured by committed code."""

    exercise: Exercise
    table: list[list[str]]  # the first row is the headings; training errors in %
    label: str
    provenance: str
    minutes: float  # of training, on CORES cores


def outcomes(results: Path) -> list[Outcome]:
    """Every exercise whose table is there."""
    usual = read_records(results / USUAL)
    found = []
    for exercise in EXERCISES:
        rows = cells(exercise, committed(exercise, results))
        if rows:
            table = _table(exercise, rows, usual)
            minutes = sum(row.seconds for row in rows) / 60 / CORES
            found.append(Outcome(exercise, table, label_of(rows), measured_on(rows), minutes))
    return found


def committed(exercise: Exercise, results: Path) -> list[Record]:
    """The rows of the exercise's folder, and cells that other questions have measured alike."""
    folder = results / exercise.folder
    own, config = read_records(folder), read_config(folder)
    if config is None:
        return own
    have = {row.cell for row in own}
    alike = measured_alike(results, config)
    return [*own, *(row for row in counterparts(alike, own) if row.cell not in have)]


def cells(exercise: Exercise, records: Sequence[Record]) -> list[Record]:
    """The rows that the exercise trains."""
    asked = set(product(exercise.arms, exercise.depths, exercise.seeds))
    return [row for row in records if (row.arm, row.depth, row.seed) in asked]


def _table(exercise: Exercise, rows: Sequence[Record], usual: Sequence[Record]) -> list[list[str]]:
    """Training errors: a row for each arm and seed, a column for each depth."""
    groups = [("", rows)]
    if exercise.beside:
        groups = [("as usual", cells(exercise, usual)), ("changed", rows)]
    table = [["", *(f"{depth} layers" for depth in exercise.depths)]]
    for arm, (name, found), seed in product(exercise.arms, groups, exercise.seeds):
        errors = {row.depth: row.train_error for row in found if (row.arm, row.seed) == (arm, seed)}
        seeds = f"seed {seed}" if len(exercise.seeds) > 1 else ""
        title = ", ".join(filter(None, (arm, name, seeds)))
        table.append([title, *(percent(errors.get(depth)) for depth in exercise.depths)])
    return table
