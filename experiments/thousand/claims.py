"""Do residual networks of 302, 602 and 1,202 layers train, and at what memory?

Folders below results/thousand: one for each protocol that networks were trained under, among them
`long` for networks of 56 to 164 layers, and `stored` and `recomputed`, which measure memory without
and with checkpointing of activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from experiments.judging import pairs, verdict
from experiments.judging.conditions import differences
from experiments.judging.errors import MARGIN
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Series, compare, errors_by_seed
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from experiments.reporting.text import cells_of, percent
from plainres.records.files import read_curves
from plainres.records.schema import CurvePoint, Record

DEPTHS = (302, 602, 1202)
DEEPEST, SHALLOWER = 1202, 110
PLAIN = ("plain", 32)  # it learns with as few iterations; plain-56 hardly does
# Training error of a network of 110 layers that has been trained; the paper: below 0.1 %, of 1,202
# layers too
TRAINED = 0.1
LONG, LONG_DEPTHS = "long", (56, 110, 164)
RATES = {"quick": 0.1, "slow": 0.02, "cpu": 0.1, "cpu_slow": 0.02, LONG: 0.1}  # of learning
STORED, RECOMPUTED, MEMORY = "stored", "recomputed", "memory"
# Losses in evaluation mode need not be finite after so few iterations
SAME_NUMBERS = ("train_error", "train_loss", "test_error")
HALVES = (
    f"residual-{DEEPEST}: with checkpointing of activations the peak of memory is below half of "
    "that without"
)
SAME = "checkpointing changes no number"


@dataclass(frozen=True)
class DeepRuns:
    """Networks that were trained under one protocol, with their curves."""

    name: str
    records: Sequence[Record]
    curves: Sequence[CurvePoint]


@dataclass(frozen=True)
class MemoryRuns:
    """A few iterations without (`stored`) and with checkpointing of activations (`recomputed`)."""

    stored: Sequence[Record]
    recomputed: Sequence[Record]
    name: str = MEMORY

    @property
    def records(self) -> list[Record]:
        return [*self.stored, *self.recomputed]

    @property
    def pairs(self) -> list[tuple[Record, Record]]:
        """Cells that were measured without and with checkpointing under the same conditions.

        The shallowest first.
        """
        return [pair for pair in self._both if not differences(pair)]

    @property
    def unlike(self) -> list[str]:
        """The cells that were measured under unlike conditions, and what differs."""
        both = ((pair[0].cell, "; ".join(differences(pair))) for pair in self._both)
        return [f"{cell} ({line})" for cell, line in both if line]

    @property
    def _both(self) -> list[tuple[Record, Record]]:
        recomputed = {record.cell: record for record in self.recomputed}
        stored = sorted(self.stored, key=lambda row: (row.depth, row.seed, row.arm))
        return [(row, recomputed[row.cell]) for row in stored if row.cell in recomputed]


Part = DeepRuns | MemoryRuns


def read(folder: Path) -> list[Part]:
    """Each protocol that networks were trained under, and the measurement of memory if any."""
    records = pairs.read_folders(folder, "sweep-thousand")
    pairs.require_same_images({n: rows for n, rows in records.items() if n in (STORED, RECOMPUTED)})
    memory = MemoryRuns(records.pop(STORED, []), records.pop(RECOMPUTED, []))
    trained = [DeepRuns(name, rows, read_curves(folder / name)) for name, rows in records.items()]
    return [*trained, *([memory] if memory.records else [])]


def label_of(part: Part) -> str:
    name = f"{RECOMPUTED} and {STORED}" if isinstance(part, MemoryRuns) else part.name
    iterations = max(record.iterations for record in part.records)
    rate = f", rate {RATES[name]:g}" if name in RATES else ""
    return markdown.label_of(part.records, f"variant {name}{rate}, {iterations:,} iterations")


def heading(part: Part) -> str:
    return f"{'Memory' if isinstance(part, MemoryRuns) else 'Training'}: {label_of(part)}"


def check(part: Part) -> list[Claim]:
    """The claims about training or about memory; corrected together."""
    if isinstance(part, MemoryRuns):
        return verdict.corrected(check_memory(part))
    judged = check_long if part.name == LONG else check_training
    return verdict.corrected(judged(part))


def check_long(runs: DeepRuns) -> list[Claim]:
    """Each deeper network errs less than the one before it; training error."""
    residual = {d: errors_by_seed(runs.records, "residual", d) for d in LONG_DEPTHS}
    return [
        compare(
            f"residual: training error goes on falling from {shallower} to {deeper} layers",
            {f"residual-{depth}": residual[depth] for depth in (shallower, deeper)},
            measure="training error",
        )
        for shallower, deeper in pairwise(LONG_DEPTHS)
    ]


def check_training(runs: DeepRuns) -> list[Claim]:
    """Each deep network against plain-32, and the deepest against 110 layers; training error."""
    network, plain = "{}-{}".format(*PLAIN), errors_by_seed(runs.records, *PLAIN)
    residual = {d: errors_by_seed(runs.records, "residual", d) for d in (SHALLOWER, *DEPTHS)}
    claims = []
    for depth in DEPTHS:
        below = f"training error below that of {network} at the same iterations"
        series = {network: plain, f"residual-{depth}": residual[depth]}
        statement = f"residual-{depth}: {below}"
        claims.append(compare(statement, series, measure="training error", learned=[network]))
    statement = f"residual-{DEEPEST}: training error not above that of residual-{SHALLOWER}"
    series = {f"residual-{depth}": residual[depth] for depth in (SHALLOWER, DEEPEST)}
    last = compare(statement, series, -MARGIN, "training error")
    shallower = max((residual[SHALLOWER][seed] for seed in pairs.shared_seeds(series)), default=0)
    if last.criteria and shallower > TRAINED:
        early = "so it is too early to compare the deeper network with it"
        untrained = f"residual-{SHALLOWER} still errs on {shallower:.1%}, {early}"
        last = Claim(statement, INCONCLUSIVE, f"{last.summary}; {untrained}")
    return [*claims, last]


def check_memory(runs: MemoryRuns) -> list[Claim]:
    """Checkpointing more than halves the memory of 1,202 layers, and changes no number."""
    return [_halves(runs), _same(runs)]


def _halves(runs: MemoryRuns) -> Claim:
    without, with_it = (f"residual-{DEEPEST} {name}" for name in (STORED, RECOMPUTED))
    rows = {without: runs.stored, with_it: runs.recomputed}
    series = {
        name: Series.of(
            (r for r in own if (r.arm, r.depth) == ("residual", DEEPEST)),
            lambda r: r.peak_memory_mib,
        )
        for name, own in rows.items()
    }
    seeds = pairs.shared_seeds(series)

    def criterion() -> Criterion:
        saved = tuple(series[without][seed] / 2 - series[with_it][seed] for seed in seeds)
        return Criterion("half of memory without - memory with", saved, unit="MiB")

    def summary() -> str:
        means = pairs.shared_means(series).values()
        return f"{' → '.join(f'{mean:,.0f}' for mean in means)} MiB"

    return pairs.judge(HALVES, series, lambda: [criterion()], summary)


def _same(runs: MemoryRuns) -> Claim:
    lost = [
        a.cell
        for a, b in runs.pairs
        if a.train_error is None and b.train_error is None and a.iterations == b.iterations
    ]
    counted = [pair for pair in runs.pairs if pair[0].cell not in lost]
    beside = [f"not comparable: {', '.join(runs.unlike)}"] if runs.unlike else []
    beside += [f"diverged: {', '.join(lost)}"] if lost else []
    if not counted:
        missing = f"missing: cells that {STORED} and {RECOMPUTED} share"
        return Claim(SAME, INCONCLUSIVE, "; ".join(beside) or missing)
    equal = sum(
        all(getattr(a, name) == getattr(b, name) for name in ("iterations", *SAME_NUMBERS))
        for a, b in counted
    )
    cells = cells_of([stored for stored, _ in counted])
    count = f"in {equal} of {len(counted)} pairs of cells ({cells}), counted, not tested"
    summary = "; ".join([f"{', '.join(SAME_NUMBERS)} to six digits the same {count}", *beside])
    return Claim(SAME, REPRODUCED if equal == len(counted) else NOT_REPRODUCED, summary)


def table(part: Part) -> Table:
    """One line per cell, or per pair of cells for memory; errors in per cent."""
    return _memory_table(part) if isinstance(part, MemoryRuns) else _training_table(part)


def _training_table(runs: DeepRuns) -> Table:
    heads = ["training error", "in evaluation mode", "training loss", "test error"]
    rows = [["network", "seed", "parameters", *heads, "seconds/iteration", "MiB"]]
    for row in sorted(runs.records, key=lambda row: (row.arm, row.depth, row.seed)):
        network = f"{row.arm}-{row.depth}"
        network += "" if row.train_error is not None else f" ({row.status})"
        errors = [percent(error) for error in (row.train_error, row.train_error_eval)]
        loss = "–" if row.train_loss is None else f"{row.train_loss:.3f}"
        cost = [f"{row.seconds / row.iterations:.2f}", f"{row.peak_memory_mib:,.0f}"]
        numbers = [*errors, loss, percent(row.test_error), *cost]
        rows.append([network, str(row.seed), f"{row.num_parameters:,}", *numbers])
    note = (
        "Errors in %. Training error: running (training mode, augmented images). Test errors are "
        "shown and not judged."
    )
    return Table("", rows, [note])


def _memory_table(runs: MemoryRuns) -> Table:
    heads = ["MiB without", "MiB with", "with / without", "seconds/iteration without", "with"]
    rows = [["network", "seed", *heads]]
    for pair in runs.pairs:
        stored, recomputed = pair
        memory = [f"{row.peak_memory_mib:,.0f}" for row in pair]
        pace = [f"{row.seconds / row.iterations:.2f}" for row in pair]
        known = stored.peak_memory_mib > 0
        share = f"{recomputed.peak_memory_mib / stored.peak_memory_mib:.2f}" if known else "–"
        rows.append([f"{stored.arm}-{stored.depth}", str(stored.seed), *memory, share, *pace])
    note = (
        "Peak of the whole process, one process per cell, without and with checkpointing of "
        "activations. Seconds include evaluation."
    )
    return Table("", rows, [note])
