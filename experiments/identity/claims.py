"""Do extra blocks do no harm?

Folders below results/identity/<protocol>: parent (the networks that blocks are inserted into),
trained_on (the parents, trained further without more blocks), one folder per position and number
of blocks (children), and decay_… (children with fresh blocks, by weight decay). Children are
compared with their parent trained further, within seeds, which share batches. A diverged run
counts as chance.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path

from experiments.judging import pairs, verdict
from experiments.judging.errors import MARGIN, error_or_chance
from experiments.judging.inference import Criterion, page_trend
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.files import CONFIG_FILE, read_json, read_table
from plainres.records.schema import Record

INSERTIONS_TABLE, BRANCHES_TABLE = "insertions.csv", "branches.csv"
PARENT, TRAINED_ON, DECAY = "parent", "trained_on", "decay_"
CHANGED = 0.01  # of the logits' size: rounding never reaches it
SMALL = 0.1  # ‖F(x)‖ / ‖x‖ of a block that is nearly the identity
STATEMENTS = (
    "residual: no insertion changes a logit, in evaluation mode or in training mode",
    "plain: every insertion changes logits in training mode, although the blocks are as close to "
    "the identity as convolutions allow",
    "residual: after further training, no child is worse than its parent after the same training",
    "plain: after further training, children are worse than their parent after the same training, "
    "the more so the more blocks were inserted",
    "residual: weight decay drives branches that nothing needs towards zero, and so their blocks "
    "to the identity",
)


@dataclass(frozen=True)
class Insertion:
    """What is read of a row of insertions.csv (plainres.training.grafting.Insertion)."""

    arm: str
    depth: int
    seed: int
    blocks: int
    position: str
    logit_difference_eval: float
    logit_difference_batch: float
    logit_size: float
    error_eval: float
    parent_error_eval: float
    error_batch: float
    parent_error_batch: float

    @property
    def excess_batch(self) -> float:
        """Error before further training minus the parent's, in training mode."""
        return self.error_batch - self.parent_error_batch

    @property
    def place(self) -> tuple[str, int, str, int]:
        """The network, and where how many blocks were inserted."""
        return self.arm, self.depth, self.position, self.blocks


@dataclass(frozen=True)
class BranchNorm:
    """What is read of a row of branches.csv (plainres.instruments.branch_norms.BranchNorm)."""

    arm: str
    depth: int
    seed: int
    iteration: int
    inserted: bool
    ratio: float


@dataclass(frozen=True)
class Child:
    """One cell that continued a parent."""

    record: Record
    insertion: Insertion
    weight_decay: float
    branches: tuple[BranchNorm, ...] = ()  # of residual children

    @property
    def iterations(self) -> list[int]:
        """The iterations at which branches were measured; 0 is before the first update."""
        return sorted({row.iteration for row in self.branches})

    def ratio(self, iteration: int, inserted: bool = True) -> float:
        """Mean ‖F(x)‖ / ‖x‖ of the inserted blocks, or of the other ones, at an iteration."""
        place = (iteration, inserted)
        return statistics.fmean(
            row.ratio for row in self.branches if (row.iteration, row.inserted) == place
        )

    def last_ratio(self, inserted: bool = True) -> float:
        """`ratio` at the last iteration that was measured."""
        return self.ratio(self.iterations[-1], inserted)


@dataclass(frozen=True)
class IdentityRuns:
    """What lies in one results folder."""

    protocol: str
    parents: Sequence[Record]
    trained_further: Sequence[Child]
    children: Sequence[Child]  # with blocks as close to the identity as the arm allows
    decays: Sequence[Child]  # with fresh blocks

    @property
    def records(self) -> list[Record]:
        cells = (*self.trained_further, *self.children, *self.decays)
        return [*self.parents, *(child.record for child in cells)]

    @cached_property
    def parent_errors(self) -> dict[pairs.Cell, float]:
        """Running training error of each parent after further training."""
        records = (child.record for child in self.trained_further)
        return {pairs.cell_of(record): error_or_chance(record) for record in records}

    def excess(self, child: Child) -> float | None:
        """Running training error of a child minus its parent's after further training.

        None where the latter is missing.
        """
        parent = self.parent_errors.get(pairs.cell_of(child.record))
        return None if parent is None else error_or_chance(child.record) - parent

    @property
    def measured_decays(self) -> list[Child]:
        """Those of `decays` whose branches were measured."""
        return [child for child in self.decays if child.branches]


# (depth, blocks, position) → `IdentityRuns.excess` of one arm, one value per complete seed
Excess = Mapping[tuple[int, int, str], tuple[float, ...]]


def read(folder: Path) -> list[IdentityRuns]:
    """All cells of a results folder; ValueError also where there are no children."""
    target = f"sweep-identity PROTOCOL={folder.name}"
    tables = pairs.read_folders(folder, target)
    pairs.require_same_images(tables)
    parents = tables.pop(PARENT, [])
    groups: dict[str, list[Child]] = {TRAINED_ON: [], DECAY: [], "": []}
    for name, records in tables.items():
        group = next(start for start in groups if name.startswith(start))
        groups[group] += _read_children(folder / name, records)
    trained_on, decays, children = groups.values()
    if not children and not decays:
        raise ValueError(f"no children in {folder}; make {target} measures them")
    return [IdentityRuns(folder.name, parents, trained_on, children, decays)]


def _read_children(folder: Path, records: Sequence[Record]) -> list[Child]:
    insertions = {
        pairs.cell_of(row): row for row in read_table(folder / INSERTIONS_TABLE, Insertion)
    }
    branches = read_table(folder / BRANCHES_TABLE, BranchNorm)
    config = read_json(folder / CONFIG_FILE) or {}
    decay = float(config.get("protocol", {}).get("weight_decay", 0))
    children = []
    for record in records:
        if pairs.cell_of(record) not in insertions:
            raise ValueError(f"{folder / INSERTIONS_TABLE} lacks {record.cell}")
        own = tuple(pairs.rows_of(record, branches))
        children.append(Child(record, insertions[pairs.cell_of(record)], decay, own))
    return children


def label_of(runs: IdentityRuns, records: Sequence[Record] = ()) -> str:
    """Data label, protocol and number of seeds; of `records` where only these are shown."""
    return markdown.label_of(records or runs.records)


def complete_seeds(runs: IdentityRuns, arm: str) -> tuple[list[Insertion], Excess]:
    """The insertions of an arm in its complete seeds, and what its children's errors exceed.

    A seed is complete when it has every number of blocks at every position and depth that any seed
    has, and the parents trained further. No insertions where there is no such seed.
    """
    children = [child for child in runs.children if child.record.arm == arm]
    depths = sorted({child.record.depth for child in children})
    blocks = sorted({child.insertion.blocks for child in children})
    positions = sorted({child.insertion.position for child in children})
    places = product(depths, blocks, positions)
    series: dict[tuple[int, int, str], dict[int, float]] = {place: {} for place in places}
    for child in children:
        if (excess := runs.excess(child)) is not None:
            row = child.insertion
            series[row.depth, row.blocks, row.position][row.seed] = excess
    seeds = pairs.shared_seeds(series)
    insertions = [child.insertion for child in children if child.record.seed in seeds]
    return insertions, {key: tuple(values[s] for s in seeds) for key, values in series.items()}


def check(runs: IdentityRuns) -> list[Claim]:
    """The five claims with their verdicts, corrected together where there are several seeds."""
    residual, residual_excess = complete_seeds(runs, "residual")
    plain, plain_excess = complete_seeds(runs, "plain")
    claims = [
        _unchanged(residual) if residual else _missing(STATEMENTS[0], "residual"),
        _changed(plain) if plain else _missing(STATEMENTS[1], "plain"),
        _no_worse(residual_excess) if residual else _missing(STATEMENTS[2], "residual"),
        _worse(plain_excess) if plain else _missing(STATEMENTS[3], "plain"),
        _shrinks(runs),
    ]
    return verdict.corrected(claims)


def _missing(statement: str, arm: str) -> Claim:
    missing = f"a seed with every insertion of the {arm} arm and its parents trained further"
    return Claim(statement, INCONCLUSIVE, f"missing: {missing}")


def _unchanged(insertions: Sequence[Insertion]) -> Claim:
    differences = [(row.logit_difference_eval, row.logit_difference_batch) for row in insertions]
    changed = sum(max(pair) != 0 for pair in differences)
    summary = f"{changed} of {len(insertions)} insertions change a logit; counted, not tested"
    return Claim(STATEMENTS[0], NOT_REPRODUCED if changed else REPRODUCED, summary)


def _changed(insertions: Sequence[Insertion]) -> Claim:
    batch = [row.logit_difference_batch / row.logit_size for row in insertions]
    unchanged = sum(change <= CHANGED for change in batch)
    largest_eval = max(row.logit_difference_eval / row.logit_size for row in insertions)
    summary = (
        f"{unchanged} of {len(insertions)} insertions stay within rounding in training mode; "
        f"largest change of a logit over the mean size of logits: {min(batch):.2g} to "
        f"{max(batch):.2g} in training mode, at most {largest_eval:.1g} in evaluation mode; "
        "counted, not tested"
    )
    return Claim(STATEMENTS[1], NOT_REPRODUCED if unchanged else REPRODUCED, summary)


def _no_worse(excess: Excess) -> Claim:
    criteria = [
        Criterion(f"residual-{depth}, {_blocks(blocks)}, {position}", values, MARGIN, above=False)
        for (depth, blocks, position), values in excess.items()
    ]
    worst = max(criteria, key=lambda criterion: criterion.mean)
    summary = f"child - parent at most {verdict.points(worst.mean)} ({worst.name})"
    return verdict.judge(STATEMENTS[2], criteria, summary)


def _worse(excess: Excess) -> Claim:
    depths = sorted({depth for depth, _, _ in excess})
    blocks = sorted({number for _, number, _ in excess})
    few, many = blocks[0], blocks[-1]
    # (depth, blocks) → mean over positions, one value per seed
    places = pairs.grouped(excess, lambda place: place[:2])
    means = {pair: pairs.mean_over(excess[place] for place in places[pair]) for pair in places}
    criteria, texts = [], []
    for depth in depths:
        name = f"plain-{depth}, {_blocks(many)}"
        rise = _differences(means[depth, many], means[depth, few])
        criteria.append(Criterion(name, means[depth, many], MARGIN))
        criteria.append(Criterion(f"{name} - {_blocks(few)}", rise))
        points = (f"{n}: {verdict.points(statistics.fmean(means[depth, n]))}" for n in blocks)
        texts.append(f"plain-{depth} child - parent by blocks {', '.join(points)}")
    by_blocks = [pairs.mean_over([means[depth, number] for depth in depths]) for number in blocks]
    trend = page_trend(list(zip(*by_blocks, strict=True)))
    return verdict.judge(STATEMENTS[3], criteria, "; ".join(texts), trend)


def _blocks(number: int) -> str:
    return f"{number} block{'s' * (number != 1)}"


def _shrinks(runs: IdentityRuns) -> Claim:
    usable = [child for child in runs.measured_decays if child.record.train_error is not None]
    children = {(c.record.depth, c.weight_decay, c.record.seed): c for c in usable}
    depths = sorted({child.record.depth for child in usable})
    decays = sorted({child.weight_decay for child in usable})
    cells = list(product(depths, decays))
    seeds = sorted({child.record.seed for child in usable})
    seeds = [seed for seed in seeds if all((*pair, seed) in children for pair in cells)]
    if len(decays) < 2 or not seeds:
        return Claim(STATEMENTS[4], INCONCLUSIVE, "missing: a seed with two weight decays or more")
    none, most = decays[0], decays[-1]
    criteria, texts = [], []
    below = partial(Criterion, above=False, unit="")
    for depth in depths:
        by_decay = {d: [children[depth, d, seed] for seed in seeds] for d in decays}
        starts = [child.ratio(0) for child in by_decay[most]]
        ends = {d: [child.last_ratio() for child in by_decay[d]] for d in decays}
        others = {d: [child.last_ratio(inserted=False) for child in by_decay[d]] for d in decays}
        ratios = {d: zip(ends[d], others[d], strict=True) for d in (none, most)}
        logs = {d: [math.log(one / other) for one, other in ratios[d]] for d in ratios}
        name, change = f"residual-{depth}", f"end, {most:g} - {none:g}"
        log_change = _differences(logs[most], logs[none])
        criteria += [
            below(f"{name}: {change}", _differences(ends[most], ends[none])),
            below(f"{name}, {most:g}: end - start", _differences(ends[most], starts)),
            below(f"{name}: log(inserted / others), {change}", log_change),
            below(f"{name}, {most:g}: end", tuple(ends[most]), SMALL),
        ]
        values = ", ".join(f"{decay:g}: {statistics.fmean(ends[decay]):.3f}" for decay in decays)
        texts.append(
            f"{name}: ‖F(x)‖/‖x‖ of inserted blocks {statistics.fmean(starts):.3f} at the start, "
            f"at the end by weight decay {values} (of the other blocks "
            f"{statistics.fmean(others[none]):.3f} and {statistics.fmean(others[most]):.3f})"
        )
    return verdict.judge(STATEMENTS[4], criteria, "; ".join(texts))


def _differences(ones: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(one - other for one, other in zip(ones, others, strict=True))


def parent_table(runs: IdentityRuns) -> Table:
    """Running training errors of parents, before and after further training; means over seeds."""
    rows = [["network", "parent", "trained further", "seeds"]]
    networks = pairs.grouped(runs.parents, lambda record: (record.arm, record.depth))
    for (arm, depth), parents in sorted(networks.items()):
        cells = map(pairs.cell_of, parents)
        further = [runs.parent_errors[cell] for cell in cells if cell in runs.parent_errors]
        errors = [_percent(map(error_or_chance, parents)), _percent(further) if further else "–"]
        rows.append([f"{arm}-{depth}", *errors, str(len(parents))])
    return Table("Running training error of the parents, in %", rows)


def insertion_table(runs: IdentityRuns) -> Table:
    """One row per network, position and number of blocks."""
    heads = ["logits, eval", "logits, batch", "error, eval", "error, batch"]
    rows = [["network", "position", "blocks", *heads, "train_error", "minus parent"]]
    groups = pairs.grouped(runs.children, lambda child: child.insertion.place)
    for (arm, depth, position, blocks), children in sorted(groups.items()):
        insertions = [child.insertion for child in children]
        excess = [value for value in map(runs.excess, children) if value is not None]
        row = [f"{arm}-{depth}", position, str(blocks)]
        for name in ("logit_difference_eval", "logit_difference_batch"):
            row.append(f"{max(getattr(each, name) for each in insertions):.2g}")
        row.append(_percent((each.error_eval - each.parent_error_eval for each in insertions), "+"))
        row.append(_percent((each.excess_batch for each in insertions), "+"))
        row.append(_percent(error_or_chance(child.record) for child in children))
        rows.append([*row, _percent(excess, "+") if excess else "–"])
    note = (
        "*logits*: largest change of a logit before further training, over seeds; *eval*: "
        "evaluation mode, on test images; *batch*: training mode, where each batch is normalised "
        "by its own statistics. *error*: training error of the child minus its parent's before "
        "further training, in points. *train_error*: running training error after further "
        "training, in %; *minus parent*: minus that of the parent after the same training, in "
        "points. Means over seeds."
    )
    return Table("Inserted blocks", rows, [note])


def decay_table(runs: IdentityRuns) -> Table:
    """‖F(x)‖/‖x‖ of fresh blocks by weight decay; means over seeds."""
    heads = ["inserted, at the start", "inserted, at the end", "others, at the end"]
    rows = [["network", "weight decay", *heads, "train_error"]]
    groups = pairs.grouped(runs.measured_decays, lambda c: (c.record.depth, c.weight_decay))
    for (depth, decay), children in sorted(groups.items()):
        starts = [child.ratio(child.iterations[0]) for child in children]
        ends, others = ([c.last_ratio(inserted) for c in children] for inserted in (True, False))
        means = [f"{statistics.fmean(values):.3f}" for values in (starts, ends, others)]
        error = _percent(error_or_chance(child.record) for child in children)
        rows.append([f"residual-{depth}", f"{decay:g}", *means, error])
    note = (
        "Fresh blocks (He's initialisation) in a trained residual network, which is trained "
        "further at the full learning rate. ‖F(x)‖/‖x‖: mean over blocks, all test images, "
        "evaluation mode. *train_error*: running training error, in %."
    )
    return Table("‖F(x)‖/‖x‖ of fresh blocks", rows, [note])


def _percent(values: Iterable[float], sign: str = "") -> str:
    return f"{100 * statistics.fmean(values):{sign}.2f}"


def tables(runs: IdentityRuns) -> list[Table]:
    """The tables that have rows."""
    shown = (parent_table(runs), insertion_table(runs), decay_table(runs))
    return [table for table in shown if len(table.rows) > 1]
