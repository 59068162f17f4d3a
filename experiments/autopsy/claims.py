"""Why does plain-110 fail, and which remedy helps, at what cost?

Each folder results/autopsy/<protocol>-<remedy> is plain-110 under a protocol with one choice
changed. It is compared with untreated networks of its seed that were measured under the same
conditions, wherever they were measured.
"""

import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.autopsy import convergence
from experiments.autopsy.run_status import HALF, STATUSES, status_rows, statuses_of
from experiments.judging import verdict
from experiments.judging.conditions import conditions_of, largest_comparable
from experiments.judging.errors import MARGIN, chance_error, error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.pairs import (
    LOCAL,
    Cell,
    Series,
    cell_of,
    change_of,
    counterparts,
    curves_of,
    difference,
    errors_by_seed,
    judge,
    mean_errors,
    read_records,
    require_same_images,
    shared_seeds,
    where_measured,
)
from experiments.judging.verdict import Claim
from experiments.reporting.question import Table
from plainres.records.files import RUNS_TABLE, read_config, read_curves, read_runs
from plainres.records.schema import CurvePoint, Record

PROTOCOLS = ("quick", "cpu", "cpu-bf16", "cpu16", "cpu32", "paper")
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
WARM_UP = "protocol.schedule.warmup_iterations"
FOLLOWS = {  # what a choice brings with it
    "protocol.batch_size": ("protocol.iterations", WARM_UP, "protocol.error_window"),
    "protocol.iterations": (WARM_UP,),
}
PAPERS_ERROR = 0.60  # Figure 6 leaves plain-110 out because its error is higher than 60 %
RESCUED = 0.10  # ten points below the untreated network's error


@dataclass(frozen=True)
class RemedyRuns:
    """plain-110 with one choice changed, or untreated: records and curves of its seeds."""

    name: str  # a key of REMEDIES, UNTREATED, or a folder of one's own
    change: str  # what differs from the untreated network's configuration
    records: Sequence[Record]
    curves: Sequence[CurvePoint]
    untreated: Sequence[Record] = ()  # where there are such, under the conditions of `records`

    @property
    def title(self) -> str:
        """The name for a reader."""
        return REMEDIES.get(self.name, self.name)

    @property
    def errors(self) -> dict[str, Series]:
        """Running training error, a fraction, by seed: untreated and treated."""
        named = ((UNTREATED, self.untreated), (self.title, self.records))
        return {name: errors_by_seed(rows, "plain", DEPTH) for name, rows in named}

    @property
    def compared(self) -> list[int]:
        """The seeds with an untreated network under the same conditions."""
        return shared_seeds(self.errors) if self.untreated else []

    @property
    def comparable(self) -> list[Record]:
        """The records of these seeds."""
        return [row for row in self.records if row.seed in self.compared]

    def statuses(self, records: Sequence[Record]) -> list[str]:
        """The status of each of these runs."""
        return list(statuses_of(records, self.curves).values())


@dataclass(frozen=True)
class ProtocolRuns:
    """What was measured of plain-110 under one protocol, and the depth experiment's networks."""

    protocol: str
    untreated: RemedyRuns  # under the conditions of the remedies, else of the depth experiment
    remedies: dict[str, RemedyRuns]
    references: dict[str, list[Record]]  # of plain-20 and residual-110, by name, likewise
    alike: list[Record]  # untreated networks wherever they were measured
    depth_records: list[Record]  # of all networks of the depth experiment that may be compared
    depth_curves: list[CurvePoint]
    incomparable: list[str]  # the others, and how they were measured
    sources: list[str]  # the tables of the untreated networks and the references

    @cached_property
    def statuses(self) -> dict[Cell, str]:
        """The status of every run of the depth experiment."""
        return statuses_of(self.depth_records, self.depth_curves)

    @cached_property
    def rates(self) -> convergence.Rates:
        """The rate of convergence of every run of the depth experiment."""
        return convergence.rates_of(self.depth_curves, self.statuses)

    @property
    def unmeasured(self) -> tuple[int, ...]:
        """The depths that are in no fit, because a network is at chance."""
        return convergence.unmeasured(self.statuses)

    @property
    def rated(self) -> bool:
        """Whether rates of convergence compare under this protocol."""
        return self.protocol not in convergence.UNRATED

    @property
    def all_runs(self) -> list[RemedyRuns]:
        """Untreated first, then the remedies."""
        return [self.untreated, *self.remedies.values()]


def read(folder: Path, protocol: str = "") -> list[ProtocolRuns]:
    """The protocols under which plain-110 was measured or remedies were tried.

    Args:
        protocol: read this one alone.

    Raises:
        ValueError: there are no records, there is no untreated network, a remedy was tried on other
            images, or a table is damaged.
    """
    if protocol and protocol not in PROTOCOLS:
        raise ValueError(f"{protocol!r} has no plain-{DEPTH}; choose {', '.join(PROTOCOLS)}")
    names = [protocol] if protocol else [name for name in PROTOCOLS if _is_measured(folder, name)]
    if not names:
        raise ValueError(f"no records in {folder}; make sweep-autopsy measures them")
    return [_read_protocol(folder, name) for name in names]


def _is_measured(folder: Path, protocol: str) -> bool:
    depth_records = read_runs(folder.parent / "depth" / protocol)
    return bool(_plain(depth_records)) or bool(_remedy_folders(folder, protocol))


def _remedy_folders(folder: Path, protocol: str) -> list[Path]:
    """Those of this protocol, and not of a longer name as cpu-bf16."""
    longer = tuple(f"{name}-" for name in PROTOCOLS if name.startswith(f"{protocol}-"))
    places = (path.parent for path in sorted(folder.glob(f"{protocol}-*/{RUNS_TABLE}")))
    found = [place for place in places if not place.name.startswith(longer)]
    for place in found:
        if place.name == f"{protocol}-{UNTREATED}":
            raise ValueError(f"{place}: {UNTREATED!r} names no remedy; name the folder otherwise")
    return found


def _read_protocol(folder: Path, protocol: str) -> ProtocolRuns:
    depth = folder.parent / "depth" / protocol
    if folder.parent.name == LOCAL and not _plain(read_runs(depth)):
        depth = folder.parents[1] / "depth" / protocol
    every = read_records(depth)
    if not _plain(every):
        raise ValueError(
            f"no plain-{DEPTH} in {depth}; "
            f"make sweep-depth PROTOCOL={protocol} DEPTHS={DEPTH} ARMS=plain measures it"
        )
    config = read_config(depth) or {}
    places = where_measured(folder.parent, config) or dict.fromkeys(every, depth)
    alike = [row for row in places if row.data_fingerprint == every[0].data_fingerprint]
    remedies = {}
    for place in _remedy_folders(folder, protocol):
        name = place.name.removeprefix(f"{protocol}-")
        change = change_of(config, read_config(place) or {}, FOLLOWS)
        rows, points = _plain(read_records(place)), _plain(read_curves(place))
        beside = counterparts(_plain(alike), rows)
        remedies[name] = RemedyRuns(name, change, rows, points, beside)
        require_same_images({f"depth/{protocol}": every, place.name: rows})
    order = [*REMEDIES, *remedies]
    treated = [row for remedy in remedies.values() for row in remedy.records]
    records = largest_comparable(every)
    cells = set(map(cell_of, records))

    def beside_them(arm: str, layers: int) -> list[Record]:
        """Under the conditions of the treated networks; where there are none, of depth."""
        wanted = {(row.seed, conditions_of(row)) for row in treated}
        found = counterparts(_network(alike, arm, layers), treated)
        alike_them = [row for row in found if (row.seed, conditions_of(row)) in wanted]
        return alike_them or _network(every, arm, layers)

    untreated = beside_them("plain", DEPTH)
    references = {
        f"{arm}-{layers}": beside_them(arm, layers)
        for arm, layers in (("plain", SHALLOW), ("residual", DEPTH))
    }
    shown = [*untreated, *(row for rows in references.values() for row in rows)]
    return ProtocolRuns(
        protocol,
        RemedyRuns(UNTREATED, "–", untreated, curves_of(untreated, places)),
        {name: remedies[name] for name in sorted(remedies, key=order.index)},
        references,
        alike,
        records,
        [point for point in read_curves(depth) if cell_of(point) in cells],
        [f"{r.cell} ({', '.join(conditions_of(r))})" for r in every if r not in set(records)],
        sorted({os.path.relpath(places.get(row, depth), folder.parent) for row in shown}),
    )


def _network(rows: Iterable[Any], arm: str, depth: int) -> list[Any]:
    return [row for row in rows if (row.arm, row.depth) == (arm, depth)]


def _plain(rows: Iterable[Any]) -> list[Any]:
    """The rows of plain-110."""
    return _network(rows, "plain", DEPTH)


def records_of(runs: ProtocolRuns) -> list[Record]:
    """The depth experiment's records, those of the remedies, and what these are compared with.

    Each once: the depth experiment has the untreated ones too.
    """
    beside = (row for rows in runs.references.values() for row in rows)
    remedies = (row for remedy in runs.all_runs for row in remedy.records)
    return list(dict.fromkeys([*runs.depth_records, *beside, *remedies]))


def label_of(runs: ProtocolRuns) -> str:
    """Data label, protocol and number of seeds, and those with remedies where they are others."""
    return _label(runs, len({row.seed for row in [*runs.depth_records, *runs.untreated.records]}))


def remedies_label_of(runs: ProtocolRuns) -> str:
    """The same where only plain-110 is shown, untreated under the conditions of the remedies."""
    return _label(runs, len(runs.untreated.records))


def _label(runs: ProtocolRuns, seeds: int) -> str:
    labels = sorted({record.data_label for each in runs.all_runs for record in each.records})
    counts = sorted({len(remedy.records) for remedy in runs.remedies.values()})
    treated = " to ".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]])))
    beside = f", {treated} with remedies" if treated not in ("", str(seeds)) else ""
    number = f"{seeds} seed{'s' * (seeds != 1)}{beside}"
    return f"{', '.join(labels)} · protocol {runs.protocol} · {number}"


def check(runs: ProtocolRuns) -> list[Claim]:
    """The claims about remedies, and those about rates where rates compare."""
    rates = convergence.check(runs.rates, runs.unmeasured, runs.incomparable) if runs.rated else []
    return [*check_remedies(runs), *rates]


def check_remedies(runs: ProtocolRuns) -> list[Claim]:
    """The untreated network fails; what each remedy does; what none does. Corrected together.

    Where no remedy was tried, only the first. It is about the depth experiment's network, the
    others are about differences under the same conditions.
    """
    shallow, residual = runs.references
    no_cure = f"three times the iterations do not cure it: it stays above {shallow} of one time"
    no_remedy = f"no remedy brings it down to {residual}"
    claims = verdict.corrected(
        [
            _fails(runs),
            *(_helps(runs, name) for name in REMEDIES),
            _stays_above(runs, no_cure, ["longer"], ("plain", SHALLOW)),
            _stays_above(runs, no_remedy, list(REMEDIES), ("residual", DEPTH)),
        ]
    )
    return claims if runs.remedies else claims[:1]


def _fails(runs: ProtocolRuns) -> Claim:
    series = {f"plain-{DEPTH}": errors_by_seed(runs.depth_records, "plain", DEPTH)}
    (errors,) = series.values()
    found = [status for run, status in runs.statuses.items() if run[:2] == ("plain", DEPTH)]
    return judge(
        f"plain-{DEPTH} ends above {100 * PAPERS_ERROR:g} % training error",
        series,
        lambda: [Criterion("training error", tuple(errors.values()), PAPERS_ERROR)],
        lambda: mean_errors(series, "training error") + _listed(found),
    )


def _listed(statuses: Iterable[str]) -> str:
    return f"; run status: {', '.join(dict.fromkeys(statuses))}"


def _helps(runs: ProtocolRuns, name: str) -> Claim:
    """With the remedy the error is at least ten points lower."""
    remedy = runs.remedies.get(name) or RemedyRuns(name, "", (), (), runs.untreated.records)
    title, series = remedy.title, remedy.errors
    return judge(
        f"with {title} plain-{DEPTH} learns: at least {100 * RESCUED:g} points less training error",
        series,
        lambda: [difference(series, UNTREATED, title, RESCUED)],
        lambda: mean_errors(series, "training error") + _listed(remedy.statuses(remedy.comparable)),
    )


def _stays_above(
    runs: ProtocolRuns, statement: str, names: Sequence[str], reference: tuple[str, int]
) -> Claim:
    """With each of the remedies the error is higher than the reference's, by the margin."""
    treated = {name: runs.remedies[name].records if name in runs.remedies else () for name in names}
    series = {name: errors_by_seed(rows, "plain", DEPTH) for name, rows in treated.items()}
    rows = [row for rows in treated.values() for row in rows]
    arm, depth = reference
    below = f"{arm}-{depth}"
    beside = counterparts(_network(runs.alike, arm, depth), rows)
    series[below] = errors_by_seed(beside, arm, depth)
    return judge(
        statement,
        series,
        lambda: sorted(  # the lowest first: the verdict hangs on it
            (difference(series, name, below, MARGIN) for name in names),
            key=lambda criterion: criterion.mean,
        ),
        lambda: mean_errors(series, "training error"),
    )


def remedies_table(runs: ProtocolRuns) -> Table:
    """One line per remedy: what it brings and what it costs; errors in per cent, means over seeds.

    Seconds are shown where processor and precision are those of an untreated network, and compared
    with it.
    """
    heads = ["training error", "untreated", "difference", "test error", "learned after"]
    cost = ["iterations", "images", "seconds/iteration", "seconds", "seeds"]
    rows = [["", "change", "run status", *heads, *cost]]
    timed, images = _plain(runs.alike), _images(runs.untreated.records[0])
    for remedy in runs.all_runs:
        if remedy.records:
            records = remedy.comparable or remedy.records
            train, test = _errors(records)
            statuses = _counted_statuses(remedy.statuses(records))
            errors = [train, *_beside(remedy), test, _learned_after(records, remedy.curves)]
            more = f"× {_images(records[0]) / images:.2g}"
            cost = [_iterations(records), more, *seconds_of(records, timed), str(len(records))]
            rows.append([remedy.title, remedy.change, statuses, *errors, *cost])
    for name, records in runs.references.items():
        if records:
            train, test = _errors(records)
            cost = [_iterations(records), "–", *seconds_of(records, timed), str(len(records))]
            errors = [train, "–", "–", test, "–"]
            rows.append([f"{name}, untreated", "–", "–", *errors, *cost])
    notes = [
        "Errors in %, means over seeds; training error: running. Learned after: iterations until "
        "training had removed half of the error at chance.",
        machines_note(runs),
    ]
    if runs.remedies:
        notes.insert(
            0,
            "A remedy's line has the seeds of which an untreated network was measured under the "
            "same conditions: processor or limited instruction set, precision, PyTorch, kernels. "
            "Difference: untreated - treated, in points. Where there is no such seed, the line has "
            "all seeds and no difference. The untreated networks in this table are those under "
            "the conditions of the remedies; where there are none, the depth experiment's. They "
            f"are from {' and '.join(runs.sources)}.",
        )
    else:
        notes.append(
            "No remedy was tried under this protocol; claim (a) is corrected over all nine claims "
            "about remedies all the same."
        )
    return Table(f"plain-{DEPTH} by remedy", rows, notes)


def _beside(remedy: RemedyRuns) -> list[str]:
    """Mean error untreated, and minus treated, over the seeds that can be compared."""
    if not remedy.compared:
        return ["–", "not comparable" if remedy.untreated else "–"]
    untreated, treated = (
        100 * statistics.fmean(values[seed] for seed in remedy.compared)
        for values in remedy.errors.values()
    )
    return [f"{untreated:.2f}", f"{untreated - treated:+.2f}"]


def _iterations(records: Iterable[Record]) -> str:
    return f"{max(record.iterations for record in records):,}"


def _images(record: Record) -> float:
    return record.images_per_second * record.seconds


def _errors(records: Sequence[Record]) -> list[str]:
    measures = ("train_error", "test_error")
    means = (statistics.fmean(error_or_chance(row, each) for row in records) for each in measures)
    return [f"{100 * mean:.2f}" for mean in means]


def _counted_statuses(statuses: Sequence[str]) -> str:
    if len(statuses) == 1:
        return statuses[0]
    counts = Counter(statuses)
    return ", ".join(f"{counts[status]}× {status}" for status in STATUSES if counts[status])


def _learned_after(records: Sequence[Record], curves: Sequence[CurvePoint]) -> str:
    """Iterations until half of the error at chance was removed, by seed."""
    target = (1 - HALF) * chance_error(records[0].num_classes)
    texts = []
    for record in records:
        points = [point for point in curves if point.seed == record.seed]
        texts.append(convergence.first_iteration(points, lambda point: point.train_error <= target))
    return " / ".join(texts) if len(set(texts)) > 1 else texts[0]


def seconds_of(rows: Sequence[Record], untreated: Sequence[Record]) -> list[str]:
    """Mean seconds per iteration and in all, with their ratio to untreated plain-110.

    Both are from one processor under the same conditions: of those that the rows share with the
    untreated ones the one with most rows. "–" where they share none.
    """
    machine = _shared_machine(rows, untreated)
    if not machine:
        return ["–", "–"]
    ours, theirs = ([r for r in each if _machine(r) == machine] for each in (rows, untreated))
    texts = []
    for digits, iterations in ((3, lambda r: r.iterations), (0, lambda r: 1)):
        mean, before = (
            statistics.fmean(r.seconds / iterations(r) for r in each) for each in (ours, theirs)
        )
        texts.append(f"{mean:.{digits}f} (× {mean / before:.2g})")
    return texts


def machines_note(runs: ProtocolRuns) -> str:
    """On which machines seconds were measured, and why some are missing."""
    named = {remedy.title: remedy.records for remedy in runs.all_runs} | runs.references
    shared = {name: _shared_machine(rows, _plain(runs.alike)) for name, rows in named.items()}
    machines = dict.fromkeys(machine for machine in shared.values() if machine)
    text = (
        f"Seconds, and in brackets their ratio to untreated plain-{DEPTH} on the same machine, "
        f"are from {'; '.join(machines)}."
    )
    elsewhere: dict[str, list[str]] = {}
    for name, rows in named.items():
        if rows and not shared[name]:
            place = " and ".join(sorted({_machine(row) for row in rows}))
            elsewhere.setdefault(place, []).append(name)
    if elsewhere:
        places = "; ".join(f"{place}: {', '.join(names)}" for place, names in elsewhere.items())
        text += f" –: no untreated plain-{DEPTH} was measured on that machine ({places})."
    return text


def _machine(record: Record) -> str:
    return ", ".join(dict.fromkeys([record.processor, *conditions_of(record)]))


def _shared_machine(rows: Sequence[Record], untreated: Sequence[Record]) -> str | None:
    """The machine of most of the rows, out of those of an untreated network."""
    counts = Counter(_machine(row) for row in rows)
    shared = counts.keys() & {_machine(row) for row in untreated}
    return min(shared, key=lambda machine: (-counts[machine], machine), default=None)


def tables(runs: ProtocolRuns) -> list[Table]:
    """Remedies; then, of all untreated networks by depth, run status, rates and iterations."""
    brackets = (
        "In brackets: the largest share of the error at chance that training removed at any time, "
        "in %. Below 5 % a run is at chance."
    )
    status, unlike = status_rows(runs.depth_records, runs.depth_curves), []
    if runs.incomparable:
        unlike = [f"Not comparable with the others, and left out: {', '.join(runs.incomparable)}."]
    title = "Run status of the depth experiment's networks"
    shown = [remedies_table(runs), Table(title, status, [brackets, *unlike])]
    notes = ["Rate: minus the slope of ln(running training loss) after the warm-up."]
    if runs.unmeasured:
        notes.append(
            "In brackets: a network at chance, whose loss settles at that of chance. Its depth "
            "is in no fit except those of the last column, which decide nothing."
        )
    if runs.rated:
        rates = convergence.rate_rows(runs.rates, runs.statuses)
        shown.append(Table("Rates of convergence per 1,000 iterations", rates, notes))
    easy = convergence.EASY * math.log(runs.untreated.records[0].num_classes)  # nats per image
    title = f"Iterations until the running training loss was at most {easy:.2f} nats"
    reason = f"No rates of convergence under {runs.protocol}, and no claims: "
    unrated = [] if runs.rated else [f"{reason}{convergence.UNRATED[runs.protocol]}."]
    return [*shown, Table(title, convergence.iteration_rows(runs.depth_curves, easy), unrated)]
