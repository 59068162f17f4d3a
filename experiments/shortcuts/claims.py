"""Does it matter which shortcut? `python -m experiments.shortcuts.claims results/shortcuts/quick`.

Differences are taken within seeds, which share batches and, but for the projections, initial weights. What the depth experiment has
measured of plain and of option A under the very same configuration counts too.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.depth.claims import MARGIN, counted
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.text import columns
from plainres.records.files import CONFIG_FILE, read_json, read_runs
from plainres.records.schema import Record

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
DEPTHS = (20, 56, 110)
CONTRASTS = ((20, 56), (20, 110))
DEEPEST = DEPTHS[-1]
ESSENTIAL = 0.1  # the options differ by less than a tenth of what shortcuts bring: which of them is not essential
STATEMENTS = (
    "plain degrades with depth; with option A, B or C it does not",
    "B errs less than A on test images",
    "C errs less than B on test images",
    "which of A, B and C is not essential",
    "a shortcut times 0.5 brings degradation back",
    "a shortcut in every second block lies between plain and A",
)

Cells = Mapping[tuple[str, int, int], Record]  # arm, depth and seed → record


def read_shortcuts(folder: Path) -> list[Record]:
    """The records of results/shortcuts/<protocol>, and of the depth experiment those that it lacks.

    Raises:
        ValueError: there are no records, or a table is damaged.
    """
    found = read_runs(folder)
    if not found:
        raise ValueError(
            f"no records in {folder}; make sweep-shortcuts PROTOCOL={folder.name} measures them"
        )
    found += lent(folder)
    order = [*ARMS, *(record.arm for record in found)]
    return sorted(found, key=lambda record: (order.index(record.arm), record.depth, record.seed))


def depth_folder(folder: Path) -> Path:
    """Where the depth experiment keeps the results of the same protocol."""
    return folder.parent.parent / "depth" / folder.name


def lent(folder: Path) -> list[Record]:
    """Records of the depth experiment that the folder itself lacks, of the very same configuration, images and precision.

    The last two are not of the configuration where it leaves them to the machine.
    """
    config = read_json(folder / CONFIG_FILE)
    if config is None or config != read_json(depth_folder(folder) / CONFIG_FILE):
        return []
    own = read_runs(folder)
    there, like = (
        {record.cell for record in own},
        {(record.data_fingerprint, record.precision) for record in own},
    )
    return [
        record
        for record in read_runs(depth_folder(folder))
        if record.depth in DEPTHS
        and record.cell not in there
        and (record.data_fingerprint, record.precision) in like
    ]


def check(records: Sequence[Record]) -> list[Claim]:
    """The claims in the order of STATEMENTS, each over the seeds that all its cells have; corrected where these are several."""
    cells = {(record.arm, record.depth, record.seed): record for record in records}
    claims = [
        _cured(cells),
        _less(cells, STATEMENTS[1], "projection", "residual"),
        _less(cells, STATEMENTS[2], "projection_everywhere", "projection"),
        _not_essential(cells),
        _broken(cells),
        _between(cells),
    ]
    return verdict.corrected(claims)


def _cured(cells: Cells) -> Claim:
    wanted = [(arm, depth) for arm in ("plain", *OPTIONS) for depth in DEPTHS]
    seeds = _seeds(cells, wanted)
    if not seeds:
        return _lacking(cells, STATEMENTS[0], wanted)
    criteria = []
    for arm in ("plain", *OPTIONS):
        for shallower, deeper in CONTRASTS:
            criteria.append(_rise(cells, seeds, arm, shallower, deeper, above=arm == "plain"))
    return verdict.judge(STATEMENTS[0], criteria, _seen(criteria))


def _less(cells: Cells, statement: str, better: str, worse: str) -> Claim:
    wanted = [(arm, depth) for arm in (better, worse) for depth in DEPTHS]
    seeds = _seeds(cells, wanted)
    if not seeds:
        return _lacking(cells, statement, wanted)
    differences = [
        statistics.fmean(
            _error(cells, worse, depth, seed, "test_error")
            - _error(cells, better, depth, seed, "test_error")
            for depth in DEPTHS
        )
        for seed in seeds
    ]
    criterion = Criterion(f"{worse} - {better}, mean over depths", tuple(differences))
    return verdict.judge(statement, [criterion], _seen([criterion]))


def _not_essential(cells: Cells) -> Claim:
    wanted = [(arm, DEEPEST) for arm in ("plain", *OPTIONS)]
    seeds = _seeds(cells, wanted)
    if not seeds:
        return _lacking(cells, STATEMENTS[3], wanted)
    spreads, gains = [], []
    for seed in seeds:
        errors = [_error(cells, arm, DEEPEST, seed) for arm in OPTIONS]
        spreads.append(max(errors) - min(errors))
        gains.append(_error(cells, "plain", DEEPEST, seed) - max(errors))
    excess = tuple(spread - ESSENTIAL * gain for spread, gain in zip(spreads, gains, strict=True))
    criterion = Criterion(
        f"spread of A, B, C at {DEEPEST} - {ESSENTIAL:g} × what the worst of them gains on plain",
        excess,
        above=False,
    )
    spread, gain = (100 * statistics.fmean(values) for values in (spreads, gains))
    seen = f"at {DEEPEST} layers they lie within {spread:.2f} points of each other; plain lies {gain:.2f} points above"
    return verdict.judge(STATEMENTS[3], [criterion], seen)


def _broken(cells: Cells) -> Claim:
    wanted = [("scaled", DEPTHS[0]), ("scaled", DEEPEST), ("residual", DEEPEST)]
    seeds = _seeds(cells, wanted)
    if not seeds:
        return _lacking(cells, STATEMENTS[4], wanted)
    criteria = [
        _rise(cells, seeds, "scaled", DEPTHS[0], DEEPEST),
        _excess(cells, seeds, "scaled", "residual"),
    ]
    return verdict.judge(STATEMENTS[4], criteria, _seen(criteria))


def _between(cells: Cells) -> Claim:
    wanted = [(arm, DEEPEST) for arm in ("plain", "every_second", "residual")]
    seeds = _seeds(cells, wanted)
    if not seeds:
        return _lacking(cells, STATEMENTS[5], wanted)
    criteria = [
        _excess(cells, seeds, "plain", "every_second"),
        _excess(cells, seeds, "every_second", "residual"),
    ]
    return verdict.judge(STATEMENTS[5], criteria, _seen(criteria))


def _rise(
    cells: Cells, seeds: Sequence[int], arm: str, shallower: int, deeper: int, above: bool = True
) -> Criterion:
    """An arm's error rises from one depth to another by more than the margin; or not, with `above` False."""
    rises = tuple(
        _error(cells, arm, deeper, seed) - _error(cells, arm, shallower, seed) for seed in seeds
    )
    return Criterion(f"{arm} {shallower} → {deeper}", rises, MARGIN, above)


def _excess(cells: Cells, seeds: Sequence[int], worse: str, better: str) -> Criterion:
    """At the deepest, one arm errs more than another by more than the margin."""
    differences = tuple(
        _error(cells, worse, DEEPEST, seed) - _error(cells, better, DEEPEST, seed) for seed in seeds
    )
    return Criterion(f"{worse} - {better} at {DEEPEST}", differences, MARGIN)


def _seeds(cells: Cells, wanted: Sequence[tuple[str, int]]) -> list[int]:
    """The seeds that all of these arms and depths have."""
    return sorted({seed for _, _, seed in cells if all((*pair, seed) in cells for pair in wanted)})


def _lacking(cells: Cells, statement: str, wanted: Sequence[tuple[str, int]]) -> Claim:
    seeds = {pair: sorted(seed for *cell, seed in cells if tuple(cell) == pair) for pair in wanted}
    missing = [f"{arm}-{depth}" for (arm, depth), there in seeds.items() if not there]
    told = "; ".join(
        f"{arm}-{depth} has {', '.join(map(str, there))}" for (arm, depth), there in seeds.items()
    )
    return Claim(
        statement,
        INCONCLUSIVE,
        f"missing: {', '.join(missing) or f'a seed that all have ({told})'}",
    )


def _error(cells: Cells, arm: str, depth: int, seed: int, measure: str = "train_error") -> float:
    return counted(cells[arm, depth, seed], measure)


def _seen(criteria: Sequence[Criterion]) -> str:
    return ", ".join(
        f"{criterion.name}: {verdict.points(criterion.mean)}" for criterion in criteria
    )


def table(records: Sequence[Record]) -> list[list[str]]:
    """One line a shortcut and depth under a row of headings; means over seeds ± standard deviation, errors in per cent.

    Seconds are of one machine, that which most lines have, because those of different ones do not compare.
    """
    machines = Counter(
        machine
        for *_, machine in {(record.arm, record.depth, _machine(record)) for record in records}
    )
    machine = (
        max(machines, key=lambda candidate: (machines[candidate], candidate)) if machines else None
    )
    lines = [
        [
            "shortcut",
            "depth",
            "training error",
            "test error",
            "parameters",
            "multiply-adds",
            "seconds/iteration",
            "seeds",
        ]
    ]
    for arm, depth in dict.fromkeys((record.arm, record.depth) for record in records):
        rows = [record for record in records if (record.arm, record.depth) == (arm, depth)]
        work = next(
            (record.num_multiply_adds for record in rows if record.num_multiply_adds is not None),
            None,
        )
        paces = [
            record.seconds / record.iterations for record in rows if _machine(record) == machine
        ]
        lines.append(
            [
                ARMS.get(arm, arm),
                str(depth),
                *(
                    _mean([counted(record, measure) for record in rows])
                    for measure in ("train_error", "test_error")
                ),
                f"{rows[0].num_parameters:,}",
                "–" if work is None else f"{work:,}",
                f"{statistics.fmean(paces):.3f}" if paces else "–",
                str(len(rows)),
            ]
        )
    return lines


def _machine(record: Record) -> tuple[str, str, int]:
    return record.processor, record.precision, record.threads


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and verdicts; 1 when a claim is not reproduced, 2 and one line where there is nothing to judge."""
    parser = argparse.ArgumentParser(description="Whether it matters which shortcut.")
    parser.add_argument("folder", type=Path, help="results/shortcuts/<protocol>")
    parser.add_argument("--verbose", action="store_true", help="also intervals and p values")
    options = parser.parse_args(arguments)
    try:
        records = read_shortcuts(options.folder)
    except ValueError as failure:
        print(f"plainres: {failure}", file=sys.stderr)
        return 2
    claims = check(records)
    print("\n".join([*columns(table(records), left=True), "", *verdict.lines(claims)]))
    if options.verbose:
        print("\n".join(["", *columns(verdict.details(claims))]))
    return verdict.status(claims)


if __name__ == "__main__":
    sys.exit(main())
