"""What ails plain-110, and what rescues it? `python -m experiments.autopsy.claims results/autopsy --base quick`.

Each folder results/autopsy/<base>-<remedy> is plain-110 under the protocol <base> with one choice changed. The untreated network,
plain-20 and residual-110 are those of results/depth/<base>. Differences are taken within seeds.
"""

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.autopsy import convergence
from experiments.autopsy.kinds import KINDS, LEARNED, Run, kinds_of
from experiments.autopsy.kinds import table as kinds_table
from experiments.depth.claims import MARGIN, counted
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.text import columns
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, read_curves, read_json, read_runs
from plainres.records.identity import config_differences
from plainres.records.schema import CurvePoint, Record

REMEDIED = ("quick", "cpu")  # protocols for which conf/variants/rescue.yaml says what a remedy is
BASES = (*REMEDIED, "cpu16", "cpu32", "paper")
DEPTH, SHALLOW = 110, 20
UNTREATED = "untreated"
# Folder → what is done, in the order in which tables have it
REMEDIES = {
    "learning_rate": "a learning rate of 0.01",
    "clipping": "gradient clipping",
    "warmup": "a longer warm-up",
    "dirac": "Dirac initialisation",
    "batch": "a smaller batch",
    "longer": "three times the iterations",
}
NOT_A_CHOICE = ("protocol.name",)
FOLLOWS = {  # what a choice brings with it
    "protocol.batch_size": (
        "protocol.iterations",
        "protocol.schedule.warmup_iterations",
        "protocol.error_window",
    ),
    "protocol.iterations": ("protocol.schedule.warmup_iterations",),
}
PAPERS_ERROR = 0.60  # Figure 6 leaves plain-110 out because its error is higher than 60 %
RESCUED = 0.10  # ten points below the untreated network's error


@dataclass(frozen=True)
class Treated:
    """plain-110 with one choice changed, or untreated: records and curves of its seeds.

    Args:
        name: a key of REMEDIES, UNTREATED, or a folder of one's own.
        change: what differs from the untreated network's configuration.
    """

    name: str
    change: str
    records: tuple[Record, ...]
    curves: tuple[CurvePoint, ...]

    @property
    def errors(self) -> dict[int, float]:
        """Running training error, a fraction, by seed."""
        return {record.seed: counted(record) for record in self.records}

    @property
    def kinds(self) -> list[str]:
        """Kind of run of each record."""
        return list(kinds_of(self.records, self.curves).values())


@dataclass(frozen=True)
class Case:
    """Everything about plain-110 under one protocol.

    Args:
        references: records of plain-20 and residual-110.
        timed: records of untreated plain-110 wherever it was measured, which seconds are held against.
        depth_records: of all networks of the depth experiment, and their curves.
    """

    base: str
    untreated: Treated
    treated: dict[str, Treated]
    references: dict[str, list[Record]]
    timed: list[Record]
    depth_records: list[Record] = field(repr=False)
    depth_curves: list[CurvePoint] = field(repr=False)

    @property
    def depth_kinds(self) -> dict[Run, str]:
        """Kind of every run of the depth experiment."""
        return kinds_of(self.depth_records, self.depth_curves)

    @property
    def easy_loss(self) -> float:
        """What "iterations to" counts, nats per image."""
        return convergence.EASY * math.log(self.untreated.records[0].num_classes)

    @property
    def records(self) -> list[Record]:
        """Of plain-110, untreated and treated."""
        return [
            *self.untreated.records,
            *(record for treated in self.treated.values() for record in treated.records),
        ]


def read_case(folder: Path, base: str) -> Case:
    """The untreated networks of the depth experiment and what was measured of each remedy.

    Raises:
        ValueError: there is no untreated network, a remedy was tried on other images, or a table is damaged.
    """
    depth = folder.parent / "depth" / base
    records, curves = read_runs(depth), read_curves(depth)
    config = read_json(depth / CONFIG_FILE) or {}

    def only(arm: str, layers: int) -> list[Record]:
        return [record for record in records if (record.arm, record.depth) == (arm, layers)]

    if not only("plain", DEPTH):
        raise ValueError(
            f"no plain-{DEPTH} in {depth}; make sweep-depth PROTOCOL={base} DEPTHS={DEPTH} ARMS=plain measures it"
        )
    untreated = Treated(UNTREATED, "–", tuple(only("plain", DEPTH)), _of_the_patient(curves))
    images = {record.data_fingerprint for record in untreated.records}
    treated = {}
    for path in sorted(folder.glob(f"{base}-*/{RUNS_TABLE}")):
        name = path.parent.name.removeprefix(f"{base}-")
        rows = tuple(
            record
            for record in read_runs(path.parent)
            if (record.arm, record.depth) == ("plain", DEPTH)
        )
        if others := sorted(
            {record.data_label for record in rows if record.data_fingerprint not in images}
        ):
            known = ", ".join(sorted({record.data_label for record in untreated.records}))
            raise ValueError(
                f"{path.parent} is of {', '.join(others)}, {depth} of other images ({known}): they cannot be compared"
            )
        change = _change(config, read_json(path.parent / CONFIG_FILE) or {})
        treated[name] = Treated(name, change, rows, _of_the_patient(read_curves(path.parent)))
    order = [*REMEDIES, *treated]
    treated = {name: treated[name] for name in sorted(treated, key=order.index)}
    references = {
        f"plain-{SHALLOW}": only("plain", SHALLOW),
        f"residual-{DEPTH}": only("residual", DEPTH),
    }
    return Case(
        base,
        untreated,
        treated,
        references,
        _timed(folder.parent / "shortcuts" / base, untreated.records),
        records,
        curves,
    )


def _timed(shortcuts: Path, untreated: Sequence[Record]) -> list[Record]:
    """The untreated networks, and the same cells where the experiment on shortcuts measured them for itself, maybe on another processor."""
    hashes = {record.config_hash for record in untreated}
    return [
        *untreated,
        *(record for record in read_runs(shortcuts) if record.config_hash in hashes),
    ]


def bases(folder: Path) -> list[str]:
    """The protocols under which the depth experiment measured plain-110, or remedies were tried."""
    depth = folder.parent / "depth"

    def measured(base: str) -> bool:
        return any((row.arm, row.depth) == ("plain", DEPTH) for row in read_runs(depth / base))

    return [base for base in BASES if measured(base) or any(folder.glob(f"{base}-*/{RUNS_TABLE}"))]


def _of_the_patient(curves: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    return tuple(point for point in curves if (point.arm, point.depth) == ("plain", DEPTH))


def _change(untreated: dict, treated: dict) -> str:
    differences = {line.split(":")[0]: line for line in config_differences(untreated, treated)}
    followers = [
        name for chosen, brought in FOLLOWS.items() if chosen in differences for name in brought
    ]
    return (
        "; ".join(
            line for name, line in differences.items() if name not in (*NOT_A_CHOICE, *followers)
        )
        or "nothing"
    )


def check_rates(case: Case) -> list[Claim]:
    """The claims about rates of convergence; none where rates do not compare."""
    if case.base in convergence.UNRATED:
        return []
    kinds = case.depth_kinds
    return convergence.check(
        convergence.rates_of(case.depth_curves, kinds), convergence.unmeasured(kinds)
    )


def check(case: Case) -> list[Claim]:
    """That the untreated network does not train; what each remedy does; what none does. Those with several seeds corrected together."""
    untreated = case.untreated.errors
    statement = f"plain-{DEPTH} ends above {100 * PAPERS_ERROR:g} % training error"
    criterion = Criterion("training error", tuple(untreated.values()), PAPERS_ERROR)
    kinds = ", ".join(dict.fromkeys(case.untreated.kinds))
    claims = [verdict.judge(statement, [criterion], f"{100 * criterion.mean:.2f} %: {kinds}")]
    for name, title in REMEDIES.items():
        statement = f"with {title} plain-{DEPTH} learns: at least {100 * RESCUED:g} points less training error"
        claims.append(_lowered(statement, untreated, case.treated.get(name), title))
    shallow, residual = (
        {record.seed: counted(record) for record in rows} for rows in case.references.values()
    )
    statement = (
        f"three times the iterations do not cure it: it stays above plain-{SHALLOW} of one time"
    )
    claims.append(_above(statement, case, ["longer"], shallow, f"plain-{SHALLOW}"))
    statement = f"no remedy brings it down to residual-{DEPTH}"
    claims.append(_above(statement, case, list(REMEDIES), residual, f"residual-{DEPTH}"))
    return verdict.corrected(claims)


def _lowered(
    statement: str, untreated: dict[int, float], treated: Treated | None, title: str
) -> Claim:
    errors = treated.errors if treated else {}
    seeds = sorted(untreated.keys() & errors.keys())
    if not treated:
        return Claim(statement, INCONCLUSIVE, f"missing: {title}")
    if not seeds:
        one, other = (", ".join(map(str, sorted(found))) for found in (errors, untreated))
        return Claim(
            statement,
            INCONCLUSIVE,
            f"missing: a seed that both have (treated {one}; untreated {other})",
        )
    criterion = Criterion(
        "untreated - treated", tuple(untreated[seed] - errors[seed] for seed in seeds), RESCUED
    )
    seen = f"{criterion.name}: {verdict.points(criterion.mean)}; {', '.join(dict.fromkeys(treated.kinds))}"
    return verdict.judge(statement, [criterion], seen)


def _above(
    statement: str, case: Case, names: Sequence[str], reference: dict[int, float], name: str
) -> Claim:
    """Each of the remedies ends above a reference by more than the margin."""
    missing = [remedy for remedy in names if remedy not in case.treated]
    seeds = set(reference)
    for remedy in names:
        seeds &= case.treated[remedy].errors.keys() if remedy in case.treated else set()
    if missing or not seeds:
        return Claim(
            statement,
            INCONCLUSIVE,
            f"missing: {', '.join(missing) or f'a seed that all have, {name} too'}",
        )
    criteria = []
    for remedy in names:
        errors = case.treated[remedy].errors
        criteria.append(
            Criterion(
                f"{remedy} - {name}",
                tuple(errors[seed] - reference[seed] for seed in sorted(seeds)),
                MARGIN,
            )
        )
    least = min(criteria, key=lambda criterion: criterion.mean)
    return verdict.judge(
        statement,
        criteria,
        f"{least.name}: {verdict.points(least.mean)}{', the least' if len(criteria) > 1 else ''}",
    )


def table(case: Case) -> list[list[str]]:
    """One line a remedy under a row of headings: what it brings and what it costs; errors in per cent, means over seeds.

    Seconds are told where processor and precision are those of an untreated network, and held against it; where the depth experiment
    has none of them, one that the experiment on shortcuts measured will do.
    """
    heads = [
        "training error",
        "test error",
        "learned after",
        "iterations",
        "images",
        "seconds/iteration",
        "seconds",
        "seeds",
    ]
    lines = [["", "change", "kind of run", *heads]]
    first = case.untreated.records[0]
    for treated in (case.untreated, *case.treated.values()):
        for_all = treated.records
        if not for_all:
            continue
        images = (
            for_all[0].images_per_second
            * for_all[0].seconds
            / (first.images_per_second * first.seconds)
        )
        counts = treated.kinds
        kinds = ", ".join(
            f"{counts.count(kind)}× {kind}" if len(counts) > 1 else kind
            for kind in KINDS
            if kind in counts
        )
        lines.append(
            [
                REMEDIES.get(treated.name, treated.name),
                treated.change,
                kinds,
                *(
                    f"{100 * statistics.fmean(counted(row, measure) for row in for_all):.2f}"
                    for measure in ("train_error", "test_error")
                ),
                _learned_after(treated),
                f"{max(record.iterations for record in for_all):,}",
                f"× {images:.2g}",
                *price(for_all, case.timed),
                str(len(for_all)),
            ]
        )
    for name, rows in case.references.items():
        if rows:
            lines.append(
                [
                    f"{name}, untreated",
                    "–",
                    "–",
                    *(
                        f"{100 * statistics.fmean(counted(row, measure) for row in rows):.2f}"
                        for measure in ("train_error", "test_error")
                    ),
                    "–",
                    f"{rows[0].iterations:,}",
                    "–",
                    *price(rows, case.timed),
                    str(len(rows)),
                ]
            )
    return lines


def price(rows: Sequence[Record], untreated: Sequence[Record]) -> tuple[str, str]:
    """Mean seconds an iteration and in all, and how many times those of untreated plain-110 they are; "–" where that cannot be told.

    Both are of one processor and precision: of those that the rows share with the untreated ones the one with most rows.
    """
    machine = _shared_machine(rows, untreated)
    if not machine:
        return "–", "–"
    ours, theirs = (
        [record for record in records if _machine(record) == machine]
        for records in (rows, untreated)
    )
    seconds, before = (
        statistics.fmean(record.seconds for record in records) for records in (ours, theirs)
    )
    each, each_before = (
        statistics.fmean(record.seconds / record.iterations for record in records)
        for records in (ours, theirs)
    )
    return f"{each:.3f} (× {each / each_before:.2g})", f"{seconds:.0f} (× {seconds / before:.2g})"


def prices_told(case: Case) -> str:
    """Where seconds of the table come from, and why some are not there, as a sentence or two."""
    named = {
        REMEDIES.get(treated.name, treated.name): treated.records
        for treated in (case.untreated, *case.treated.values())
    }
    named |= {name: tuple(rows) for name, rows in case.references.items() if rows}
    told: list[str] = []
    elsewhere: dict[str, list[str]] = {}
    for name, rows in named.items():
        if machine := _shared_machine(rows, case.timed):
            told.append(machine)
        elif rows:
            elsewhere.setdefault(" and ".join(sorted({_machine(row) for row in rows})), []).append(
                name
            )
    lacking = [f"{machine}: {', '.join(names)}" for machine, names in elsewhere.items()]
    text = f"Seconds, and how many times those of untreated plain-{DEPTH}, are of {'; '.join(dict.fromkeys(told))}."
    return (
        f"{text} –: measured where no untreated plain-{DEPTH} was ({'; '.join(lacking)})."
        if lacking
        else text
    )


def _machine(record: Record) -> str:
    return f"{record.processor}, {record.precision}"


def _shared_machine(rows: Sequence[Record], untreated: Sequence[Record]) -> str | None:
    """Processor and precision of most of the rows, out of those of an untreated one; None where they share none."""
    counts = Counter(_machine(row) for row in rows)
    shared = counts.keys() & {_machine(row) for row in untreated}
    return min(shared, key=lambda machine: (-counts[machine], machine), default=None)


def _learned_after(treated: Treated) -> str:
    """Iterations until half of the errors of guessing were undone, by seed."""
    found = []
    for record in treated.records:
        target = (1 - LEARNED) * (1 - 1 / record.num_classes)
        reached = [
            point.iteration
            for point in treated.curves
            if point.seed == record.seed and point.train_error <= target
        ]
        found.append(f"{min(reached):,}" if reached else "never")
    return " / ".join(found) if len(set(found)) > 1 else found[0]


def label_of(case: Case) -> str:
    """Data label, protocol, and number of seeds, untreated and treated."""
    labels = ", ".join(sorted({record.data_label for record in case.records}))
    seeds = f"{len(case.untreated.records)} seed{'s' * (len(case.untreated.records) != 1)}"
    if case.treated:
        counts = sorted({len(treated.records) for treated in case.treated.values()})
        treated = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        seeds += f" untreated, {treated} treated"
    return f"{labels} · protocol {case.base} · {seeds}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints tables and verdicts of one protocol, or of all; 1 when a claim is not reproduced, 2 and one line where nothing is."""
    parser = argparse.ArgumentParser(
        description="What ails plain-110, and what rescues it at what price."
    )
    parser.add_argument("folder", type=Path, help="results/autopsy")
    parser.add_argument(
        "--base",
        choices=BASES,
        help="the protocol (default: each with an untreated network or a remedy)",
    )
    parser.add_argument("--verbose", action="store_true", help="also intervals and p values")
    options = parser.parse_args(arguments)
    try:
        cases = [
            read_case(options.folder, base)
            for base in ([options.base] if options.base else bases(options.folder))
        ]
        if not cases:
            raise ValueError(
                f"no plain-{DEPTH} in {options.folder.parent / 'depth'}; make sweep-depth measures it"
            )
    except ValueError as failure:
        print(f"plainres: {failure}", file=sys.stderr)
        return 2
    reports = [_report(case, options.verbose) for case in cases]
    print("\n\n\n".join(text for text, _ in reports))
    return max(status for _, status in reports)


def _report(case: Case, verbose: bool) -> tuple[str, int]:
    claims, rates = check(case), check_rates(case)
    told = (
        verdict.lines(claims)
        if case.treated
        else [*verdict.lines(claims[:1]), "no remedy was tried under this protocol"]
    )
    lines = [label_of(case), "", *columns(table(case), left=True), "", prices_told(case), "", *told]
    lines += [
        "",
        "Kinds of run, untreated, and % of the errors of guessing that were undone at most, by depth",
        "",
    ]
    lines += columns(kinds_table(case.depth_records, case.depth_curves), left=True)
    if rates:
        lines += [
            "",
            "Rates of convergence per 1,000 iterations, by depth; in brackets: at chance",
            "",
        ]
        lines += [
            *columns(convergence.table(case.depth_curves, case.depth_kinds)),
            "",
            *verdict.lines(rates),
        ]
    else:
        lines += [
            "",
            f"No rates of convergence under {case.base}: {convergence.UNRATED[case.base]}",
        ]
    lines += [
        "",
        f"Iterations to {case.easy_loss:.2f} nats, by depth",
        "",
        *columns(convergence.times(case.depth_curves, case.easy_loss)),
    ]
    if verbose:
        lines += ["", *columns(verdict.details(claims))]
        lines += ["", *columns(verdict.details(rates))] if rates else []
    return "\n".join(lines), verdict.status([*claims, *rates])


if __name__ == "__main__":
    sys.exit(main())
