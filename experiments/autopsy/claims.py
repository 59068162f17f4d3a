"""Why does plain-110 fail, and which remedy helps, at what cost?

Each folder results/autopsy/<protocol>-<remedy> is plain-110 under a protocol with one choice
changed. The untreated network, plain-20 and residual-110 are those of the depth experiment.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.autopsy import convergence
from experiments.autopsy.run_status import HALF, STATUSES, Run, status_rows, statuses_of
from experiments.judging import verdict
from experiments.judging.errors import MARGIN, chance_error, error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.pairs import (
    Series,
    borrowed_folder,
    change_of,
    difference,
    errors_by_seed,
    judge,
    mean_errors,
    require_same_images,
)
from experiments.judging.verdict import Claim
from experiments.reporting.question import Table
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, read_curves, read_json, read_runs
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

    @property
    def title(self) -> str:
        """The name for a reader."""
        return REMEDIES.get(self.name, self.name)

    @property
    def errors(self) -> dict[int, float]:
        """Running training error, a fraction, by seed."""
        return errors_by_seed(self.records, "plain", DEPTH)

    @property
    def statuses(self) -> list[str]:
        """The status of each run."""
        return list(statuses_of(self.records, self.curves).values())


@dataclass(frozen=True)
class ProtocolRuns:
    """What was measured of plain-110 under one protocol, and the depth experiment's networks."""

    protocol: str
    untreated: RemedyRuns
    remedies: dict[str, RemedyRuns]
    references: dict[str, list[Record]]  # of plain-20 and residual-110, by name
    timed: list[Record]  # untreated plain-110 wherever measured: seconds are compared with it
    depth_records: list[Record]  # of all networks of the depth experiment
    depth_curves: list[CurvePoint]

    @cached_property
    def statuses(self) -> dict[Run, str]:
        """The status of every run of the depth experiment."""
        return statuses_of(self.depth_records, self.depth_curves)

    @cached_property
    def rates(self) -> convergence.Rates:
        """The rate of convergence of every run of the depth experiment."""
        return convergence.rates_of(self.depth_curves, self.statuses)

    @property
    def unmeasured(self) -> tuple[int, ...]:
        """The depths that are in no fit, because a network learned nothing."""
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
    return bool(_plain(depth_records)) or any(folder.glob(f"{protocol}-*/{RUNS_TABLE}"))


def _read_protocol(folder: Path, protocol: str) -> ProtocolRuns:
    depth, shortcuts = (
        borrowed_folder(folder, "autopsy", slug, protocol) for slug in ("depth", "shortcuts")
    )
    records, curves = read_runs(depth), read_curves(depth)
    untreated = RemedyRuns(UNTREATED, "–", _plain(records), _plain(curves))
    if not untreated.records:
        raise ValueError(
            f"no plain-{DEPTH} in {depth}; "
            f"make sweep-depth PROTOCOL={protocol} DEPTHS={DEPTH} ARMS=plain measures it"
        )
    remedies = {}
    for place in (path.parent for path in sorted(folder.glob(f"{protocol}-*/{RUNS_TABLE}"))):
        name = place.name.removeprefix(f"{protocol}-")
        before, after = (read_json(each / CONFIG_FILE) or {} for each in (depth, place))
        change = change_of(before, after, FOLLOWS)
        rows, points = _plain(read_runs(place)), _plain(read_curves(place))
        remedies[name] = RemedyRuns(name, change, rows, points)
        require_same_images({f"depth/{protocol}": untreated.records, place.name: rows})
    order = [*REMEDIES, *remedies]
    # The experiment on shortcuts measured the same cells itself, perhaps on another processor
    hashes = {record.config_hash for record in untreated.records}
    again = [record for record in read_runs(shortcuts) if record.config_hash in hashes]
    return ProtocolRuns(
        protocol,
        untreated,
        {name: remedies[name] for name in sorted(remedies, key=order.index)},
        {
            f"{arm}-{depth}": [row for row in records if (row.arm, row.depth) == (arm, depth)]
            for arm, depth in (("plain", SHALLOW), ("residual", DEPTH))
        },
        [*untreated.records, *again],
        records,
        curves,
    )


def _plain(rows: Sequence[Any]) -> list[Any]:
    """The rows of plain-110."""
    return [row for row in rows if (row.arm, row.depth) == ("plain", DEPTH)]


def records_of(runs: ProtocolRuns) -> list[Record]:
    """The depth experiment's records and those of the remedies."""
    treated = (record for remedy in runs.remedies.values() for record in remedy.records)
    return [*runs.depth_records, *treated]


def label_of(runs: ProtocolRuns) -> str:
    """Data label, protocol, and number of seeds, untreated and treated."""
    labels = sorted({record.data_label for each in runs.all_runs for record in each.records})
    untreated = len(runs.untreated.records)
    seeds = f"{untreated} seed{'s' * (untreated != 1)}"
    if runs.remedies:
        counts = sorted({len(remedy.records) for remedy in runs.remedies.values()})
        treated = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
        seeds += f" untreated, {treated} treated"
    return f"{', '.join(labels)} · protocol {runs.protocol} · {seeds}"


def check(runs: ProtocolRuns) -> list[Claim]:
    """The claims about remedies, and those about rates where rates compare."""
    rates = convergence.check(runs.rates, runs.unmeasured) if runs.rated else []
    return [*check_remedies(runs), *rates]


def check_remedies(runs: ProtocolRuns) -> list[Claim]:
    """The untreated network fails; what each remedy does; what none does. Corrected together.

    Where no remedy was tried, only the first.
    """
    errors = tuple(runs.untreated.errors.values())
    criterion = Criterion("training error", errors, PAPERS_ERROR)
    fails = f"plain-{DEPTH} ends above {100 * PAPERS_ERROR:g} % training error"
    summary = f"training error {100 * criterion.mean:.2f} %{_statuses(runs.untreated)}"
    shallow, residual = runs.references
    no_cure = f"three times the iterations do not cure it: it stays above {shallow} of one time"
    no_remedy = f"no remedy brings it down to {residual}"
    claims = verdict.corrected(
        [
            verdict.judge(fails, [criterion], summary),
            *(_helps(runs, name) for name in REMEDIES),
            _stays_above(runs, no_cure, ["longer"], shallow),
            _stays_above(runs, no_remedy, list(REMEDIES), residual),
        ]
    )
    return claims if runs.remedies else claims[:1]


def _statuses(runs: RemedyRuns) -> str:
    return f"; run status: {', '.join(dict.fromkeys(runs.statuses))}"


def _helps(runs: ProtocolRuns, name: str) -> Claim:
    """With the remedy the error is at least ten points lower."""
    title, remedy = REMEDIES[name], runs.remedies.get(name)
    series: dict[str, Series] = {
        UNTREATED: runs.untreated.errors,
        title: remedy.errors if remedy else {},
    }
    return judge(
        f"with {title} plain-{DEPTH} learns: at least {100 * RESCUED:g} points less training error",
        series,
        lambda: [difference(series, UNTREATED, title, RESCUED)],
        lambda: mean_errors(series, "training error") + (_statuses(remedy) if remedy else ""),
    )


def _stays_above(runs: ProtocolRuns, statement: str, names: Sequence[str], reference: str) -> Claim:
    """With each of the remedies the error is higher than the reference's, by the margin."""
    series: dict[str, Series] = {
        name: runs.remedies[name].errors if name in runs.remedies else {} for name in names
    }
    series[reference] = {row.seed: error_or_chance(row) for row in runs.references[reference]}
    return judge(
        statement,
        series,
        lambda: sorted(  # the lowest first: the verdict hangs on it
            (difference(series, name, reference, MARGIN) for name in names),
            key=lambda criterion: criterion.mean,
        ),
        lambda: mean_errors(series, "training error"),
    )


def remedies_table(runs: ProtocolRuns) -> Table:
    """One line per remedy: what it brings and what it costs; errors in per cent, means over seeds.

    Seconds are shown where processor and precision are those of an untreated network, and compared
    with it; one that the experiment on shortcuts measured serves too.
    """
    heads = ["training error", "test error", "learned after", "iterations", "images"]
    rows = [["", "change", "run status", *heads, "seconds/iteration", "seconds", "seeds"]]

    def add(what: list[str], records: Sequence[Record], learned: str = "–", images: str = "–"):
        iterations = f"{max(record.iterations for record in records):,}"
        cost = [learned, iterations, images, *seconds_of(records, runs.timed), str(len(records))]
        rows.append([*what, *_errors(records), *cost])

    images = _images(runs.untreated.records[0])
    for remedy in runs.all_runs:
        if remedy.records:
            what = [remedy.title, remedy.change, _counted_statuses(remedy.statuses)]
            more = f"× {_images(remedy.records[0]) / images:.2g}"
            add(what, remedy.records, _learned_after(remedy), more)
    for name, records in runs.references.items():
        if records:
            add([f"{name}, untreated", "–", "–"], records)
    notes = [
        "Errors in %, means over seeds; training error: running. Learned after: iterations until "
        "training had removed half of the error at chance.",
        machines_note(runs),
    ]
    if not runs.remedies:
        notes.append(
            "No remedy was tried under this protocol; claim (a) is corrected over all nine claims "
            "about remedies all the same."
        )
    return Table(f"plain-{DEPTH} by remedy", rows, notes)


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


def _learned_after(remedy: RemedyRuns) -> str:
    """Iterations until half of the error at chance was removed, by seed."""
    target = (1 - HALF) * chance_error(remedy.records[0].num_classes)
    texts = []
    for record in remedy.records:
        points = [point for point in remedy.curves if point.seed == record.seed]
        texts.append(convergence.first_iteration(points, lambda point: point.train_error <= target))
    return " / ".join(texts) if len(set(texts)) > 1 else texts[0]


def seconds_of(rows: Sequence[Record], untreated: Sequence[Record]) -> list[str]:
    """Mean seconds per iteration and in all, with their ratio to untreated plain-110.

    Both are from one processor and precision: of those that the rows share with the untreated ones
    the one with most rows. "–" where they share none.
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
    shared = {name: _shared_machine(rows, runs.timed) for name, rows in named.items()}
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
    return f"{record.processor}, {record.precision}"


def _shared_machine(rows: Sequence[Record], untreated: Sequence[Record]) -> str | None:
    """Processor and precision of most of the rows, out of those of an untreated network."""
    counts = Counter(_machine(row) for row in rows)
    shared = counts.keys() & {_machine(row) for row in untreated}
    return min(shared, key=lambda machine: (-counts[machine], machine), default=None)


def tables(runs: ProtocolRuns) -> list[Table]:
    """Remedies; then, of all untreated networks by depth, run status, rates and iterations."""
    brackets = (
        "In brackets: the largest share of the error at chance that training removed at any time, "
        "in %. Below 5 % a run is at chance."
    )
    status = status_rows(runs.depth_records, runs.depth_curves)
    shown = [remedies_table(runs), Table("Run status of untreated networks", status, [brackets])]
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
