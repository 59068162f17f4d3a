"""What ails plain-110, and what rescues it? `python -m experiments.autopsy.claims results/autopsy --base quick`.

Each folder results/autopsy/<base>-<remedy> is plain-110 under the protocol <base> with one choice changed. The untreated network,
plain-20 and residual-110 are those of results/depth/<base>. Differences are taken within seeds.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments import verdict
from experiments.autopsy import convergence
from experiments.depth.claims import MARGIN, counted
from experiments.inference import Criterion
from experiments.text import columns
from experiments.verdict import INCONCLUSIVE, Claim
from plainres.record import (
    CONFIG_FILE,
    DIVERGED,
    RUNS_TABLE,
    CurvePoint,
    Record,
    config_differences,
    read_curves,
    read_json,
    read_runs,
)

REMEDIED = ("quick", "cpu")  # protocols for which conf/rescue says what a remedy is
BASES = (*REMEDIED, "cpu16", "paper")
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
    "protocol.batch_size": ("protocol.iterations", "protocol.schedule.warmup_iterations", "protocol.error_window"),
    "protocol.iterations": ("protocol.schedule.warmup_iterations",),
}
PAPERS_ERROR = 0.60  # Figure 6 leaves plain-110 out because its error is higher than 60 %
RESCUED = 0.10  # ten points below the untreated network's error

# Kinds of run
LEARNING, LATE, PLATEAU, LOST, AT_CHANCE = "learning", "learning late", "plateau", "lost what it learned", "at chance"
KINDS = (DIVERGED, AT_CHANCE, LOST, PLATEAU, LATE, LEARNING)
CHANCE = 0.05  # of the errors of guessing; who never undid as much has learned nothing. The running error's own noise is a tenth of it
STANDSTILL = 0.05  # of the error at half of the run; who took no more off in the second half stands still …
LEARNED = 0.5  # … unless half of the errors of guessing were undone: then there is not much left


def classify(points: Sequence[CurvePoint], num_classes: int, diverged: bool = False) -> str:
    """What kind of run it was, by its running training error; one of KINDS.

    `diverged`: its loss was not finite. `at chance`: it never undid 5 % of the errors of guessing. `lost what it learned`: in the end less
    than half of the most it ever undid is undone. `plateau`: it undid less than half of the errors, and the second half of the run took
    less than 5 % off its error. `learning late`: less than half of what it undid in the end was undone by half of the run. `learning`:
    the rest.

    Raises:
        ValueError: there are no points of a run that did not diverge.
    """
    if diverged:
        return DIVERGED
    if not points:
        raise ValueError("a run without a curve cannot be classified")
    ordered = sorted(points, key=lambda point: point.iteration)
    guess = 1 - 1 / num_classes

    def undone(error: float) -> float:
        return 1 - error / guess

    last = ordered[-1]
    middle = next((point for point in reversed(ordered) if 2 * point.iteration <= last.iteration), ordered[0])
    most = undone(min(point.train_error for point in ordered))
    if most < CHANCE:
        return AT_CHANCE
    if undone(last.train_error) < most / 2:
        return LOST
    if undone(last.train_error) < LEARNED and last.train_error > (1 - STANDSTILL) * middle.train_error:
        return PLATEAU
    return LATE if undone(middle.train_error) < undone(last.train_error) / 2 else LEARNING


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
        return [
            classify([point for point in self.curves if point.seed == record.seed], record.num_classes, record.status == DIVERGED)
            for record in self.records
        ]


@dataclass(frozen=True)
class Case:
    """Everything about plain-110 under one protocol; `references`: records of plain-20 and residual-110."""

    base: str
    untreated: Treated
    treated: dict[str, Treated]
    references: dict[str, list[Record]]
    depth_curves: list[CurvePoint] = field(repr=False)

    @property
    def records(self) -> list[Record]:
        """Of plain-110, untreated and treated."""
        return [*self.untreated.records, *(record for treated in self.treated.values() for record in treated.records)]


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
        raise ValueError(f"no plain-{DEPTH} in {depth}; make sweep-depth PROTOCOL={base} DEPTHS={DEPTH} ARMS=plain measures it")
    untreated = Treated(UNTREATED, "–", tuple(only("plain", DEPTH)), _of_the_patient(curves))
    images = {record.data_fingerprint for record in untreated.records}
    treated = {}
    for path in sorted(folder.glob(f"{base}-*/{RUNS_TABLE}")):
        name = path.parent.name.removeprefix(f"{base}-")
        rows = tuple(record for record in read_runs(path.parent) if (record.arm, record.depth) == ("plain", DEPTH))
        if others := sorted({record.data_label for record in rows if record.data_fingerprint not in images}):
            known = ", ".join(sorted({record.data_label for record in untreated.records}))
            raise ValueError(f"{path.parent} is of {', '.join(others)}, {depth} of other images ({known}): they cannot be compared")
        change = _change(config, read_json(path.parent / CONFIG_FILE) or {})
        treated[name] = Treated(name, change, rows, _of_the_patient(read_curves(path.parent)))
    order = [*REMEDIES, *treated]
    treated = {name: treated[name] for name in sorted(treated, key=order.index)}
    references = {f"plain-{SHALLOW}": only("plain", SHALLOW), f"residual-{DEPTH}": only("residual", DEPTH)}
    return Case(base, untreated, treated, references, curves)


def bases(folder: Path) -> list[str]:
    """The protocols under which remedies were tried."""
    return [base for base in BASES if any(folder.glob(f"{base}-*/{RUNS_TABLE}"))]


def untreated_bases(folder: Path) -> list[str]:
    """The protocols under which the depth experiment measured plain-110."""
    depth = folder.parent / "depth"
    return [base for base in BASES if any((row.arm, row.depth) == ("plain", DEPTH) for row in read_runs(depth / base))]


def _of_the_patient(curves: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    return tuple(point for point in curves if (point.arm, point.depth) == ("plain", DEPTH))


def _change(untreated: dict, treated: dict) -> str:
    differences = {line.split(":")[0]: line for line in config_differences(untreated, treated)}
    followers = [name for chosen, brought in FOLLOWS.items() if chosen in differences for name in brought]
    return "; ".join(line for name, line in differences.items() if name not in (*NOT_A_CHOICE, *followers)) or "nothing"


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
    shallow, residual = ({record.seed: counted(record) for record in rows} for rows in case.references.values())
    statement = f"three times the iterations do not cure it: it stays above plain-{SHALLOW} of one time"
    claims.append(_above(statement, case, ["longer"], shallow, f"plain-{SHALLOW}"))
    statement = f"no remedy brings it down to residual-{DEPTH}"
    claims.append(_above(statement, case, list(REMEDIES), residual, f"residual-{DEPTH}"))
    return verdict.corrected(claims)


def _lowered(statement: str, untreated: dict[int, float], treated: Treated | None, title: str) -> Claim:
    errors = treated.errors if treated else {}
    seeds = sorted(untreated.keys() & errors.keys())
    if not treated:
        return Claim(statement, INCONCLUSIVE, f"missing: {title}")
    if not seeds:
        one, other = (", ".join(map(str, sorted(found))) for found in (errors, untreated))
        return Claim(statement, INCONCLUSIVE, f"missing: a seed that both have (treated {one}; untreated {other})")
    criterion = Criterion("untreated - treated", tuple(untreated[seed] - errors[seed] for seed in seeds), RESCUED)
    seen = f"{criterion.name}: {verdict.points(criterion.mean)}; {', '.join(dict.fromkeys(treated.kinds))}"
    return verdict.judge(statement, [criterion], seen)


def _above(statement: str, case: Case, names: Sequence[str], reference: dict[int, float], name: str) -> Claim:
    """Each of the remedies ends above a reference by more than the margin."""
    missing = [remedy for remedy in names if remedy not in case.treated]
    seeds = set(reference)
    for remedy in names:
        seeds &= case.treated[remedy].errors.keys() if remedy in case.treated else set()
    if missing or not seeds:
        return Claim(statement, INCONCLUSIVE, f"missing: {', '.join(missing) or f'a seed that all have, {name} too'}")
    criteria = []
    for remedy in names:
        errors = case.treated[remedy].errors
        criteria.append(Criterion(f"{remedy} - {name}", tuple(errors[seed] - reference[seed] for seed in sorted(seeds)), MARGIN))
    least = min(criteria, key=lambda criterion: criterion.mean)
    return verdict.judge(statement, criteria, f"{least.name}: {verdict.points(least.mean)}{', the least' if len(criteria) > 1 else ''}")


def table(case: Case) -> list[list[str]]:
    """One line a remedy under a row of headings: what it brings and what it costs; errors in per cent, means over seeds."""
    heads = ["training error", "test error", "learned after", "iterations", "images", "seconds/iteration", "seconds", "seeds"]
    lines = [["", "change", "kind of run", *heads]]
    first = case.untreated.records[0]
    for treated in (case.untreated, *case.treated.values()):
        for_all = treated.records
        if not for_all:
            continue
        images = for_all[0].images_per_second * for_all[0].seconds / (first.images_per_second * first.seconds)
        counts = treated.kinds
        kinds = ", ".join(f"{counts.count(kind)}× {kind}" if len(counts) > 1 else kind for kind in KINDS if kind in counts)
        lines.append(
            [
                REMEDIES.get(treated.name, treated.name),
                treated.change,
                kinds,
                *(f"{100 * statistics.fmean(counted(row, measure) for row in for_all):.2f}" for measure in ("train_error", "test_error")),
                _learned_after(treated),
                f"{max(record.iterations for record in for_all):,}",
                f"× {images:.2g}",
                f"{statistics.fmean(record.seconds / record.iterations for record in for_all):.3f}",
                _seconds(for_all, case.untreated.records),
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
                    *(f"{100 * statistics.fmean(counted(row, measure) for row in rows):.2f}" for measure in ("train_error", "test_error")),
                    "–",
                    f"{rows[0].iterations:,}",
                    "–",
                    f"{statistics.fmean(row.seconds / row.iterations for row in rows):.3f}",
                    f"{statistics.fmean(row.seconds for row in rows):.0f}",
                    str(len(rows)),
                ]
            )
    return lines


def _seconds(rows: Sequence[Record], untreated: Sequence[Record]) -> str:
    """Mean seconds, and how many times those of the untreated networks, where both were measured on one processor in one precision."""
    seconds, before = (statistics.fmean(record.seconds for record in records) for records in (rows, untreated))
    machines = {(record.processor, record.precision) for record in (*rows, *untreated)}
    return f"{seconds:.0f} (× {seconds / before:.2g})" if len(machines) == 1 else f"{seconds:.0f}"


def _learned_after(treated: Treated) -> str:
    """Iterations until half of the errors of guessing were undone, by seed."""
    found = []
    for record in treated.records:
        target = (1 - LEARNED) * (1 - 1 / record.num_classes)
        reached = [point.iteration for point in treated.curves if point.seed == record.seed and point.train_error <= target]
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
    parser = argparse.ArgumentParser(description="What ails plain-110, and what rescues it at what price.")
    parser.add_argument("folder", type=Path, help="results/autopsy")
    parser.add_argument("--base", choices=BASES, help="the protocol (default: each that has an untreated network)")
    parser.add_argument("--verbose", action="store_true", help="also intervals and p values")
    options = parser.parse_args(arguments)
    try:
        cases = [read_case(options.folder, base) for base in ([options.base] if options.base else untreated_bases(options.folder))]
        if not cases:
            raise ValueError(f"no plain-{DEPTH} in {options.folder.parent / 'depth'}; make sweep-depth measures it")
    except ValueError as failure:
        print(f"plainres: {failure}", file=sys.stderr)
        return 2
    reports = [_report(case, options.verbose) for case in cases]
    print("\n\n\n".join(text for text, _ in reports))
    return max(status for _, status in reports)


def _report(case: Case, verbose: bool) -> tuple[str, int]:
    claims, rates = check(case), convergence.check(convergence.rates_of(case.depth_curves))
    told = verdict.lines(claims) if case.treated else [*verdict.lines(claims[:1]), "no remedy was tried under this protocol"]
    lines = [label_of(case), "", *columns(table(case), left=True), "", *told]
    lines += ["", "Rates of convergence per 1,000 iterations, by depth", ""]
    lines += [*columns(convergence.table(case.depth_curves, case.untreated.records[0].num_classes)), "", *verdict.lines(rates)]
    if verbose:
        lines += ["", *columns(verdict.details(claims)), "", *columns(verdict.details(rates))]
    return "\n".join(lines), verdict.status([*claims, *rates])


if __name__ == "__main__":
    sys.exit(main())
