"""Does it matter which shortcut?

Differences are taken within seeds, which share batches and, except for the projections, initial
weights. Rows of other questions, under the same configuration and the same conditions, count too.
"""

import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from experiments.judging import pairs, verdict
from experiments.judging.conditions import conditions_of, largest_comparable
from experiments.judging.errors import MARGIN, chance_error, error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.verdict import Claim
from experiments.reporting.question import Table
from experiments.reporting.text import cells_of, mean_and_deviation
from plainres.records.files import read_config, read_curves
from plainres.records.schema import CurvePoint, Record

# Arm → name, in the order in which tables have them
ARMS = {
    "plain": "none (plain)",
    "residual": "A: zero padding",
    "projection": "B: projection where the shape changes",
    "projection_everywhere": "C: projection everywhere",
    "scaled": "A times 0.5",
    "every_second": "A in every second block",
}
OPTIONS = ("residual", "projection", "projection_everywhere")
DEPTHS = (20, 44, 56, 110)
COMPARED = (20, 56, 110)  # B against A, and C against B
CONTRASTS = ((20, 56), (20, 110))
DEEPEST = DEPTHS[-1]
HALFWAY = 44  # where plain networks still learn: of those at chance none lies between
# "Not essential": the options differ by less than a tenth of what shortcuts gain
ESSENTIAL = 0.1
TRAINED = 0.05  # below guessing: networks at chance do not degrade either
STATEMENTS = (
    "plain degrades with depth; with option A, B or C it does not",
    "B errs less than A on test images",
    "C errs less than B on test images",
    "the choice among A, B and C is not essential",
    "a shortcut scaled by 0.5 brings degradation back",
    f"at {HALFWAY} layers a shortcut in every second block lies between plain and A",
)

Errors = dict[str, pairs.Series]  # <arm>-<depth> → seed → error


@dataclass(frozen=True)
class ShortcutRuns:
    """The records of one protocol and their curves."""

    records: list[Record]  # sorted by arm, depth and seed
    borrowed: dict[str, list[Record]]  # those of them that other folders have, by folder
    curves: list[CurvePoint]

    @property
    def comparable(self) -> list[Record]:
        """Those that may be shown together: of each seed, the rows of one kind of machine."""
        return largest_comparable(self.records)


def read(folder: Path) -> list[ShortcutRuns]:
    """The records of one protocol, and the cells that it lacks from wherever they were measured."""
    own = pairs.read_records(folder)
    if not own:
        target = f"make sweep-shortcuts PROTOCOL={folder.name}"
        raise ValueError(f"no records in {folder}; {target} measures them")
    config = read_config(folder)
    results = folder.parents[1]
    places = pairs.where_measured(results, config) if config else {}
    others = _counterparts(places, own)
    order = [*ARMS, *(record.arm for record in own)]
    records = sorted([*own, *others], key=lambda row: (order.index(row.arm), row.depth, row.seed))
    curves = [*read_curves(folder), *pairs.curves_of(others, places)]
    borrowed = pairs.grouped(others, lambda row: os.path.relpath(places[row], results))
    return [ShortcutRuns(records, borrowed, curves)]


def _counterparts(candidates: Iterable[Record], own: Sequence[Record]) -> list[Record]:
    """Cells that `own` lacks of its seeds, on the same images."""
    cells, seeds = {record.cell for record in own}, {record.seed for record in own}
    lacking = (
        row
        for row in candidates
        if row.arm in ARMS and row.depth in DEPTHS and row.seed in seeds and row.cell not in cells
    )
    images = own[0].data_fingerprint
    return pairs.counterparts((row for row in lacking if row.data_fingerprint == images), own)


def check(runs: ShortcutRuns) -> list[Claim]:
    """The claims in the order of STATEMENTS, each over the seeds that all its cells have."""
    records = runs.records
    claims = [
        _cured(records),
        _less(records, STATEMENTS[1], "projection", "residual"),
        _less(records, STATEMENTS[2], "projection_everywhere", "projection"),
        _not_essential(records),
        _degrades_again(records),
        _between(records),
    ]
    return verdict.corrected(claims)


def _errors(
    records: Sequence[Record],
    arms: Sequence[str],
    depths: Sequence[int] = COMPARED,
    measure: str = "train_error",
) -> Errors:
    networks = product(arms, depths)
    return {f"{arm}-{d}": pairs.errors_by_seed(records, arm, d, measure) for arm, d in networks}


def _cured(records: Sequence[Record]) -> Claim:
    arms = ("plain", *OPTIONS)
    errors = _errors(records, arms)
    rises = [_rise(errors, arm, *pair, arm == "plain") for arm in arms for pair in CONTRASTS]
    chance = chance_error(records[0].num_classes)
    seeds = pairs.shared_seeds(errors)
    trained = [
        Criterion(
            f"{arm}-{DEEPEST} - guessing",
            tuple(errors[f"{arm}-{DEEPEST}"][seed] - chance for seed in seeds),
            -TRAINED,
            above=False,
        )
        for arm in OPTIONS
    ]
    return pairs.judge(
        STATEMENTS[0], errors, lambda: [*rises, *trained], lambda: pairs.means(rises)
    )


def _less(records: Sequence[Record], statement: str, better: str, worse: str) -> Claim:
    errors = _errors(records, (better, worse), measure="test_error")
    by_depth = [pairs.difference(errors, f"{worse}-{d}", f"{better}-{d}").values for d in COMPARED]
    name = f"{worse} - {better}, mean over depths"
    criterion = Criterion(name, pairs.mean_over(by_depth), MARGIN)
    return pairs.judge(statement, errors, lambda: [criterion])


def _not_essential(records: Sequence[Record]) -> Claim:
    errors = _errors(records, ("plain", *OPTIONS), (DEEPEST,))
    spreads, gains = [], []
    for seed in pairs.shared_seeds(errors):
        plain, *options = (values[seed] for values in errors.values())
        spreads.append(max(options) - min(options))
        gains.append(plain - max(options))
    excess = tuple(spread - ESSENTIAL * gain for spread, gain in zip(spreads, gains, strict=True))
    gain = f"{ESSENTIAL:g} × what the worst of them gains on plain"
    criterion = Criterion(f"spread of A, B, C at {DEEPEST} - {gain}", excess, -MARGIN, above=False)

    def summary() -> str:
        spread, gain = (100 * statistics.fmean(values) for values in (spreads, gains))
        return (
            f"at {DEEPEST} layers the errors of A, B and C span {spread:.2f} points; plain lies "
            f"{gain:.2f} points above the highest of them"
        )

    return pairs.judge(STATEMENTS[3], errors, lambda: [criterion], summary)


def _degrades_again(records: Sequence[Record]) -> Claim:
    errors = _errors(records, ("scaled",), (DEPTHS[0], DEEPEST))
    errors |= _errors(records, ("residual",), (DEEPEST,))
    rise = _rise(errors, "scaled", DEPTHS[0], DEEPEST)
    return pairs.judge(STATEMENTS[4], errors, lambda: [rise, _excess(errors, "scaled", "residual")])


def _between(records: Sequence[Record]) -> Claim:
    errors = _errors(records, ("plain", "every_second", "residual"), (HALFWAY,))
    differences = (("plain", "every_second"), ("every_second", "residual"))
    return pairs.judge(
        STATEMENTS[5],
        errors,
        lambda: [_excess(errors, *pair, HALFWAY) for pair in differences],
        learned=[f"plain-{HALFWAY}"],
    )


def _rise(errors: Errors, arm: str, shallower: int, deeper: int, above: bool = True) -> Criterion:
    """The error of `arm` rises with depth by more than the margin; or not, with `above` False."""
    name = f"{arm} {shallower} → {deeper}"
    return pairs.difference(errors, f"{arm}-{deeper}", f"{arm}-{shallower}", MARGIN, above, name)


def _excess(errors: Errors, worse: str, better: str, depth: int = DEEPEST) -> Criterion:
    """At a depth, `worse` errs more than `better` by more than the margin."""
    name = f"{worse} - {better} at {depth}"
    return pairs.difference(errors, f"{worse}-{depth}", f"{better}-{depth}", MARGIN, name=name)


def table(runs: ShortcutRuns) -> Table:
    """One line per shortcut and depth; means over seeds ± standard deviation, errors in per cent.

    Seconds are of the machine and kernels that most lines have: others do not compare.
    """
    groups = pairs.grouped(runs.comparable, lambda record: (record.arm, record.depth))
    lines = Counter(machine for rows in groups.values() for machine in set(map(_machine, rows)))
    machine = max(lines, key=lambda candidate: (lines[candidate], candidate))
    size = ["parameters", "multiply-adds", "seconds/iteration", "seeds"]
    table = [["shortcut", "depth", "training error", "test error", *size]]
    for (arm, depth), rows in groups.items():
        counts = [row.num_multiply_adds for row in rows if row.num_multiply_adds is not None]
        seconds = [row.seconds / row.iterations for row in rows if _machine(row) == machine]
        errors = [
            mean_and_deviation([100 * error_or_chance(row, measure) for row in rows])
            for measure in ("train_error", "test_error")
        ]
        size = [f"{rows[0].num_parameters:,}", f"{counts[0]:,}" if counts else "–"]
        pace = f"{statistics.fmean(seconds):.3f}" if seconds else "–"
        table.append([ARMS.get(arm, arm), str(depth), *errors, *size, pace, str(len(rows))])
    return Table("", table)


def _machine(record: Record) -> tuple[str, ...]:
    return record.processor, *conditions_of(record)


def notes(runs: ShortcutRuns) -> list[str]:
    sentences = [
        "Errors in %, means over seeds. Training error is the running one, test error that of the "
        "final weights. The claims rest on training error. Only B against A and C against B rest "
        "on test error, as the paper's Table 3 does. Seconds are of one machine and "
        "its kernels; – means that a line was measured with others."
    ]
    if runs.borrowed:
        folders = "; ".join(f"{cells_of(rows)} ({place})" for place, rows in runs.borrowed.items())
        sentences.append(f"Cells of this configuration in tables of other questions: {folders}.")
    shown = set(runs.comparable)
    if unlike := [row for row in runs.records if row not in shown]:
        rows = ", ".join(f"{row.cell} ({', '.join(conditions_of(row))})" for row in unlike)
        sentences.append(f"Not comparable with the others of their seed, and not shown: {rows}.")
    return sentences
