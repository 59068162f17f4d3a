"""Do 302, 602 and 1,202 layers train, and at what memory? `python -m experiments.thousand.claims results/thousand`.

Folders below results/thousand: one for each protocol that networks were trained under, and `stored` and `recomputed`, which measure
memory. How a verdict follows from differences within seeds: experiments.judging.verdict.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.depth.claims import MARGIN, counted
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import read_folders
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting.text import columns, seeds_of, tell
from plainres.records.schema import Record

DEPTHS = (302, 602, 1202)
DEEPEST, SHALLOWER = 1202, 110
PLAIN = ("plain", 56)
TRAINED = 0.1  # training error of a network of 110 layers that has been trained; the paper: below 0.1 %, of 1,202 too
STORED, RECOMPUTED = "stored", "recomputed"
MEMORY = f"{RECOMPUTED}, {STORED}"
SAME_NUMBERS = (
    "train_error",
    "train_loss",
    "test_error",
)  # losses in evaluation mode need not be finite after so few iterations


@dataclass(frozen=True)
class Thousand:
    """What was measured.

    Args:
        trained: protocol → its records.
        stored, recomputed: records of memory without and with checkpointing of activations.
    """

    trained: dict[str, list[Record]]
    stored: list[Record]
    recomputed: list[Record]


def read_thousand(folder: Path) -> Thousand:
    """The records of all folders.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    found = read_folders(folder, "sweep-thousand")
    stored, recomputed = (found.pop(name, []) for name in (STORED, RECOMPUTED))
    return Thousand(found, stored, recomputed)


def label_of(records: Sequence[Record], folders: str) -> str:
    """Data label, folders with their iterations, and number of seeds."""
    labels = ", ".join(sorted({record.data_label for record in records}))
    iterations = max(record.iterations for record in records)
    return f"{labels} · protocol {folders}, {iterations:,} iterations · {seeds_of(records)}"


def check_training(records: Sequence[Record]) -> list[Claim]:
    """The claims on training error under one protocol; corrected together where there are several seeds."""
    asked = [
        (
            f"residual-{depth}: training error below that of plain-56 at the same iterations",
            PLAIN,
            ("residual", depth),
            0.0,
        )
        for depth in DEPTHS
    ]
    asked.append(
        (
            f"residual-{DEEPEST}: training error not above that of residual-{SHALLOWER}",
            ("residual", SHALLOWER),
            ("residual", DEEPEST),
            -MARGIN,
        )
    )
    claims = [_compared(records, *question) for question in asked]
    shallower = [counted(row) for row in records if (row.arm, row.depth) == ("residual", SHALLOWER)]
    if claims[-1].criteria and max(shallower) > TRAINED:
        untrained = f"residual-{SHALLOWER} still errs on {max(shallower):.1%}: so early the deeper network is behind, not worse"
        claims[-1] = Claim(claims[-1].statement, INCONCLUSIVE, f"{claims[-1].seen}; {untrained}")
    return verdict.corrected(claims)


def _compared(
    records: Sequence[Record],
    statement: str,
    other: tuple[str, int],
    deep: tuple[str, int],
    bound: float,
) -> Claim:
    errors = [
        {row.seed: counted(row) for row in records if (row.arm, row.depth) == cell}
        for cell in (other, deep)
    ]
    names = ["-".join(map(str, cell)) for cell in (other, deep)]
    seeds = sorted(errors[0].keys() & errors[1].keys())
    if not seeds:
        missing = [name for name, found in zip(names, errors, strict=True) if not found]
        return Claim(
            statement, INCONCLUSIVE, f"missing: {', '.join(missing) or 'a seed that both have'}"
        )
    criterion = Criterion(
        f"{names[0]} - {names[1]}",
        tuple(errors[0][seed] - errors[1][seed] for seed in seeds),
        bound=bound,
    )
    return verdict.judge(
        statement, [criterion], f"{criterion.name}: {verdict.points(criterion.mean)}"
    )


def check_memory(thousand: Thousand) -> list[Claim]:
    """The claims on checkpointing: it more than halves the memory of 1,202 layers, and changes no number."""
    pairs = _pairs(thousand)
    halves = f"residual-{DEEPEST}: with checkpointing of activations the peak of memory is below half of that without"
    same = "checkpointing changes no number"
    deepest = [(stored, recomputed) for stored, recomputed in pairs if stored.depth == DEEPEST]
    if deepest:
        saved = Criterion(
            "half of memory without - memory with",
            tuple(stored.peak_memory_mib / 2 - again.peak_memory_mib for stored, again in deepest),
            unit="MiB",
        )
        means = [
            statistics.fmean(pair[place].peak_memory_mib for pair in deepest) for place in (0, 1)
        ]
        first = verdict.judge(halves, [saved], f"{means[0]:,.0f} → {means[1]:,.0f} MiB")
    else:
        first = Claim(
            halves, INCONCLUSIVE, f"missing: residual-{DEEPEST} in {STORED} and {RECOMPUTED}"
        )
    if pairs:
        differing = [
            stored.cell
            for stored, again in pairs
            if any(getattr(stored, n) != getattr(again, n) for n in SAME_NUMBERS)
        ]
        seen = f"{', '.join(SAME_NUMBERS)} to six digits the same in {len(pairs) - len(differing)} of {len(pairs)} pairs of cells"
        second = Claim(same, NOT_REPRODUCED if differing else REPRODUCED, seen)
    else:
        second = Claim(same, INCONCLUSIVE, f"missing: cells that {STORED} and {RECOMPUTED} share")
    return verdict.corrected([first, second])


def _pairs(thousand: Thousand) -> list[tuple[Record, Record]]:
    """Cells that are there without and with checkpointing, the shallowest first."""
    again = {(row.arm, row.depth, row.seed): row for row in thousand.recomputed}
    there = sorted(
        (row.depth, row.seed, row.arm)
        for row in thousand.stored
        if (row.arm, row.depth, row.seed) in again
    )
    stored = {(row.arm, row.depth, row.seed): row for row in thousand.stored}
    return [(stored[arm, depth, seed], again[arm, depth, seed]) for depth, seed, arm in there]


def training_table(records: Sequence[Record]) -> list[list[str]]:
    """One line a cell under a row of headings; errors in per cent."""
    heads = ["training error", "in evaluation mode", "training loss", "test error"]
    lines = [["network", "seed", "parameters", *heads, "seconds/iteration", "MiB"]]
    for row in sorted(records, key=lambda row: (row.arm, row.depth, row.seed)):
        errors = [_percent(row.train_error), _percent(row.train_error_eval)]
        loss = "–" if row.train_loss is None else f"{row.train_loss:.3f}"
        pace = f"{row.seconds / row.iterations:.2f}"
        network = f"{row.arm}-{row.depth}" + (
            "" if row.train_error is not None else f" ({row.status})"
        )
        numbers = [*errors, loss, _percent(row.test_error), pace, f"{row.peak_memory_mib:,.0f}"]
        lines.append([network, str(row.seed), f"{row.num_parameters:,}", *numbers])
    return lines


def memory_table(thousand: Thousand) -> list[list[str]]:
    """One line a pair of cells under a row of headings."""
    lines = [
        [
            "network",
            "seed",
            "MiB without",
            "MiB with",
            "with / without",
            "seconds/iteration without",
            "with",
        ]
    ]
    for stored, again in _pairs(thousand):
        memory = [f"{row.peak_memory_mib:,.0f}" for row in (stored, again)]
        pace = [f"{row.seconds / row.iterations:.2f}" for row in (stored, again)]
        share = f"{again.peak_memory_mib / stored.peak_memory_mib:.2f}"
        lines.append([f"{stored.arm}-{stored.depth}", str(stored.seed), *memory, share, *pace])
    return lines


def _percent(error: float | None) -> str:
    return "–" if error is None else f"{100 * error:.2f}"


def _report(folder: Path) -> tuple[list[str], int]:
    thousand = read_thousand(folder)
    lines, judged = [], []
    for name, records in thousand.trained.items():
        claims = check_training(records)
        lines += [
            f"Training: {label_of(records, name)}",
            "",
            *columns(training_table(records)),
            "",
            *verdict.lines(claims),
            "",
        ]
        judged += claims
    claims = check_memory(thousand)
    if memory := [*thousand.stored, *thousand.recomputed]:
        lines += [f"Memory: {label_of(memory, MEMORY)}", "", *columns(memory_table(thousand)), ""]
    return [*lines, *verdict.lines(claims)], verdict.status([*judged, *claims])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints tables and verdicts; 1 when a claim is not reproduced, 2 and one line where there is nothing to judge."""
    return tell(
        _report,
        "Whether a thousand layers train, and at what memory.",
        "results/thousand",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
