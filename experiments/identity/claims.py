"""Do extra blocks do no harm?

Folders below results/identity/<protocol>: parent (the networks that blocks are inserted into),
trained_on (the parents, trained further without more blocks), one folder per position and number
of blocks (children), and decay_… (children with fresh blocks, by weight decay). Children are
compared with their parent trained further, within seeds, which share batches. A diverged run
counts as chance.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path

from experiments.judging import pairs, verdict
from experiments.judging.conditions import differences
from experiments.judging.errors import MARGIN, error_or_chance, has_learned
from experiments.judging.inference import Criterion, page_trend
from experiments.judging.pairs import Series
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.files import read_config, read_table
from plainres.records.rows import BranchNorm
from plainres.records.rows import Insertion as InsertionRow
from plainres.records.schema import Record

INSERTIONS_TABLE, BRANCHES_TABLE = "insertions.csv", "branches.csv"
PARENT, TRAINED_ON, DECAY = "parent", "trained_on", "decay_"
CHANGED = 0.01  # of the logits' size: rounding never reaches it
SMALL = 0.1  # ‖F(x)‖ / ‖x‖ of a block that is nearly the identity
RATIO_MARGIN = 0.05  # half of SMALL: a smaller change of ‖F(x)‖ / ‖x‖ is none
LOG_MARGIN = math.log(1.1)  # inserted blocks shrink by a tenth more than the others
STATEMENTS = (
    "residual: no insertion changes a logit, in evaluation mode or in training mode",
    "plain: every insertion changes logits in training mode, although the blocks are as close to "
    "the identity as convolutions allow",
    "residual: after further training, no child is worse than its parent after the same training",
    "plain: after further training, children with the most blocks are worse than their parent "
    "after the same training, and the more blocks were inserted, the worse",
    "residual: weight decay drives branches that nothing needs towards zero, and so their blocks "
    "to the identity",
)

Place = tuple[str, int, str, int]  # arm, depth, position and number of blocks
Excess = Mapping[Place, tuple[float, ...]]  # child - parent at each place of an arm, one per seed
# What a claim about the excess rests on: criteria, summary, p value of a trend
Basis = tuple[Sequence[Criterion], str, float | None]


@dataclass(frozen=True)
class Insertion(InsertionRow):
    """With what is computed from it."""

    @property
    def excess_batch(self) -> float:
        """Error before further training minus the parent's, in training mode."""
        return self.error_batch - self.parent_error_batch

    @property
    def place(self) -> Place:
        """The network, and where how many blocks were inserted."""
        return self.arm, self.depth, self.position, self.blocks


@dataclass(frozen=True)
class Child:
    """One cell that continued a parent."""

    record: Record
    insertion: Insertion
    weight_decay: float
    branches: tuple[BranchNorm, ...] = ()  # of residual children

    @property
    def parent_learned(self) -> bool:
        """Whether the parent was better than guessing when blocks were inserted."""
        return has_learned(self.insertion.parent_error_eval, self.record.num_classes)

    @property
    def iterations(self) -> list[int]:
        """The iterations at which branches were measured; 0 is before the first update."""
        return sorted({row.iteration for row in self.branches})

    def ratio(self, iteration: int, inserted: bool = True) -> float:
        """Mean ‖F(x)‖ / ‖x‖ of inserted blocks, or of the others, at an iteration."""
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

    def children_of(self, arm: str) -> list[Child]:
        return [child for child in self.children if child.record.arm == arm]

    @cached_property
    def parents_further(self) -> dict[pairs.Cell, Record]:
        """The parents after further training."""
        return {pairs.cell_of(child.record): child.record for child in self.trained_further}

    def excess(self, child: Child) -> float | None:
        """Running training error of a child minus its parent's after further training.

        None where the latter is missing or was measured under other conditions.
        """
        rows = self.rows(child)
        return excess_of(rows) if rows and not differences(rows) else None

    def rows(self, child: Child) -> list[Record]:
        """The child, its parent after further training and before it; none without the second."""
        cell = pairs.cell_of(child.record)
        before = [record for record in self.parents if pairs.cell_of(record) == cell]
        further = self.parents_further.get(cell)
        return [] if further is None else [child.record, further, *before]

    @property
    def measured_decays(self) -> list[Child]:
        """Those of `decays` whose branches were measured."""
        return [child for child in self.decays if child.branches]


def excess_of(rows: Sequence[Record]) -> float:
    """Of `IdentityRuns.rows`: the child's error minus its parent's after further training."""
    child, further, *_ = rows
    return error_or_chance(child) - error_or_chance(further)


def read(folder: Path) -> list[IdentityRuns]:
    """All cells of a results folder; ValueError also where there are no children."""
    target = f"sweep-identity PROTOCOL={folder.name}"
    tables = pairs.read_folders(folder, target)
    pairs.require_same_images(tables)
    parents = tables.pop(PARENT, [])
    decaying = [name for name in tables if name.startswith(DECAY)]
    pairs.require_alike(folder, decaying, r"protocol\.weight_decay")
    pairs.require_alike(folder, tables.keys() - {*decaying}, r"child\..*")
    groups: dict[str, list[Child]] = {TRAINED_ON: [], DECAY: [], "": []}
    for name, records in tables.items():
        group = next(start for start in groups if name.startswith(start))
        groups[group] += _read_children(folder / name, records)
    trained_on, decays, children = groups.values()
    if not children and not decays:
        raise ValueError(f"no children in {folder}; make {target} measures them")
    runs = IdentityRuns(folder.name, parents, trained_on, children, decays)
    _require_one_parent(folder, runs)
    return [runs]


def _require_one_parent(folder: Path, runs: IdentityRuns) -> None:
    """Raises ValueError where a child is not of its control's parent, or stands twice."""
    for child in runs.children:
        control = runs.parents_further.get(pairs.cell_of(child.record))
        if control and child.record.parent not in ("", control.parent):
            raise ValueError(f"{folder}: a child of {child.record.cell} has another parent")
    places = Counter((child.insertion.place, child.record.seed) for child in runs.children)
    for (place, seed), count in places.items():
        if count > 1:
            raise ValueError(f"{folder} has {count} children of {place}, seed {seed}; legal: one")


def _read_children(folder: Path, records: Sequence[Record]) -> list[Child]:
    insertions = {
        pairs.cell_of(row): row for row in read_table(folder / INSERTIONS_TABLE, Insertion)
    }
    branches = read_table(folder / BRANCHES_TABLE, BranchNorm)
    config = read_config(folder) or {}
    decay = float(config.get("protocol", {}).get("weight_decay") or 0)
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


def places_of(children: Sequence[Child]) -> list[Place]:
    """Every number of blocks at every position and depth that any child of the arm has."""
    places = [child.insertion.place for child in children]
    if not places:
        return []
    return [*product(*(sorted(set(values)) for values in zip(*places, strict=True)))]


def excess_by_place(runs: IdentityRuns, arm: str) -> dict[Place, Series]:
    """`excess_of` by seed at each of the arm's places, with the rows, alike or not."""
    children = runs.children_of(arm)
    rows: dict[Place, dict[int, list[Record]]] = {place: {} for place in places_of(children)}
    for child in children:
        if found := runs.rows(child):
            rows[child.insertion.place][child.record.seed] = found
    return {
        place: Series({seed: excess_of(found) for seed, found in by_seed.items()}, by_seed)
        for place, by_seed in rows.items()
    }


def by_network(excess: Mapping[Place, Series]) -> dict[str, Series]:
    """The mean excess of each network over its places, by the seeds that have all of them."""
    networks = {}
    for (arm, depth), places in pairs.grouped(excess, lambda place: place[:2]).items():
        series = [excess[place] for place in places]
        seeds = sorted(set.intersection(*map(set, series)))
        values = {seed: statistics.fmean(each[seed] for each in series) for seed in seeds}
        rows = {seed: [row for each in series for row in each.rows[seed]] for seed in seeds}
        networks[f"{arm}-{depth}"] = Series(values, rows)
    return networks


def check(runs: IdentityRuns) -> list[Claim]:
    """The five claims with their verdicts, corrected together."""
    claims = [
        _unchanged(runs),
        _changed(runs),
        _judged(runs, "residual", STATEMENTS[2], _no_worse),
        _judged(runs, "plain", STATEMENTS[3], _worse, numbers=2),
        _shrinks(runs),
    ]
    return verdict.corrected(claims)


def _unchanged(runs: IdentityRuns) -> Claim:
    children = runs.children_of("residual")
    rows = [child.insertion for child in children]
    differences = [(row.logit_difference_eval, row.logit_difference_batch) for row in rows]
    changed = sum(any(each != 0 for each in both) for both in differences)
    summary = f"{changed} of {len(rows)} insertions change a logit"
    chance = sorted({child.record.cell for child in children if not child.parent_learned})
    if chance and not changed:
        summary = f"{summary}, but at chance before: {', '.join(chance)}"
        return Claim(STATEMENTS[0], INCONCLUSIVE, summary)
    return _counted(STATEMENTS[0], "residual", children, changed, summary)


def _changed(runs: IdentityRuns) -> Claim:
    children = runs.children_of("plain")
    rows = [child.insertion for child in children]
    batch = [row.logit_difference_batch / row.logit_size for row in rows]
    unchanged = sum(change <= CHANGED for change in batch)
    largest_eval = max((row.logit_difference_eval / row.logit_size for row in rows), default=0)
    summary = (
        f"{unchanged} of {len(rows)} insertions stay within rounding in training mode; largest "
        f"change of a logit over the mean size of logits: {min(batch, default=0):.2g} to "
        f"{max(batch, default=0):.2g} in training mode, at most {largest_eval:.1g} in evaluation "
        "mode"
    )
    return _counted(STATEMENTS[1], "plain", children, unchanged, summary)


def _counted(
    statement: str, arm: str, children: Sequence[Child], against: int, summary: str
) -> Claim:
    """A claim about every insertion: one against it is enough, for it a seed must have all."""
    places = places_of(children)
    seeds = pairs.grouped(children, lambda child: child.record.seed).values()
    complete = any({child.insertion.place for child in own} == set(places) for own in seeds)
    if not (against or complete):
        missing = f"missing: a seed with every insertion of the {arm} arm"
        return Claim(statement, INCONCLUSIVE, missing)
    result = NOT_REPRODUCED if against else REPRODUCED
    return Claim(_extended(statement, places), result, f"{summary}; counted, not tested")


def _extended(statement: str, places: Iterable[Place]) -> str:
    """The statement with what was judged: depths, positions and numbers of blocks."""
    _, *judged = (", ".join(map(str, dict.fromkeys(each))) for each in zip(*places, strict=True))
    return "{} ({} layers; {}; {} blocks)".format(statement, *judged)


def _judged(
    runs: IdentityRuns, arm: str, statement: str, rule: Callable[[Excess], Basis], numbers: int = 1
) -> Claim:
    """A claim about the excess of an arm's children, over the seeds that have all of them.

    Args:
        numbers: of blocks that there must be.
    """
    series = excess_by_place(runs, arm)
    networks = by_network(series)
    complete = set.intersection(*map(set, networks.values())) if networks else set()
    if not complete:
        missing = f"a seed with every insertion of the {arm} arm and its parents trained further"
        return Claim(statement, INCONCLUSIVE, f"missing: {missing}")
    statement, seeds = _extended(statement, series), pairs.shared_seeds(networks)
    if not seeds:
        return Claim(statement, INCONCLUSIVE, pairs.what_is_missing(networks))
    if len({blocks for *_, blocks in series}) < numbers:
        return Claim(statement, INCONCLUSIVE, f"missing: {numbers} numbers of blocks")
    parents = [runs.parents_further[arm, depth, s] for _, depth, *_ in series for s in seeds]
    guessing = (row for row in parents if not has_learned(error_or_chance(row), row.num_classes))
    if chance := {row.cell for row in guessing}:
        reason = f"at chance, where nothing harms: {', '.join(sorted(chance))}"
        return Claim(statement, INCONCLUSIVE, reason)
    excess = {place: tuple(each[seed] for seed in seeds) for place, each in series.items()}
    criteria, summary, trend = rule(excess)
    if lacking := sorted({child.record.seed for child in runs.children_of(arm)} - complete):
        summary += f"; cells are missing of seed {', '.join(map(str, lacking))}"
    claim = pairs.judge(statement, networks, lambda: criteria, lambda: summary)
    if not claim.criteria:
        return claim
    return verdict.judge(statement, criteria, claim.summary, trend)


def _no_worse(excess: Excess) -> Basis:
    criteria = [
        Criterion(f"{arm}-{depth}, {_blocks(blocks)}, {position}", values, MARGIN, above=False)
        for (arm, depth, position, blocks), values in excess.items()
    ]
    worst = max(criteria, key=lambda criterion: criterion.mean)
    return criteria, f"child - parent at most {verdict.points(worst.mean)} ({worst.name})", None


def _worse(excess: Excess) -> Basis:
    depths = sorted({depth for _, depth, _, _ in excess})
    blocks = sorted({number for *_, number in excess})
    few, many = blocks[0], blocks[-1]
    # (depth, blocks) → mean over positions, one value per seed
    places = pairs.grouped(excess, lambda place: place[1::2])
    means = {pair: pairs.mean_over(excess[place] for place in places[pair]) for pair in places}
    criteria, texts = [], []
    for depth in depths:
        name = f"plain-{depth}, {_blocks(many)}"
        rise = _differences(means[depth, many], means[depth, few])
        criteria.append(Criterion(name, means[depth, many], MARGIN))
        criteria.append(Criterion(f"{name} - {_blocks(few)}", rise, MARGIN))
        points = (f"{n}: {verdict.points(statistics.fmean(means[depth, n]))}" for n in blocks)
        texts.append(f"plain-{depth} child - parent by blocks {', '.join(points)}")
    by_blocks = [pairs.mean_over([means[depth, number] for depth in depths]) for number in blocks]
    trend = page_trend(list(zip(*by_blocks, strict=True)))
    return criteria, "; ".join(texts), trend


def _blocks(number: int) -> str:
    return f"{number} block{'s' * (number != 1)}"


def _shrinks(runs: IdentityRuns) -> Claim:
    usable = [child for child in runs.measured_decays if child.record.train_error is not None]
    children = {(c.record.depth, c.weight_decay, c.record.seed): c for c in usable}
    depths = sorted({child.record.depth for child in usable})
    decays = sorted({child.weight_decay for child in usable})
    if len(decays) < 2:
        return Claim(STATEMENTS[4], INCONCLUSIVE, "missing: children with two weight decays")
    series = {
        f"residual-{depth}, decay {decay:g}": _ends(
            [c for c in usable if (c.record.depth, c.weight_decay) == (depth, decay)]
        )
        for depth, decay in product(depths, decays)
    }
    seeds = pairs.shared_seeds(series)
    none, most = decays[0], decays[-1]
    criteria, texts = [], []
    below = partial(Criterion, above=False, unit="")
    for depth in depths if seeds else ():
        by_decay = {d: [children[depth, d, seed] for seed in seeds] for d in decays}
        starts = [child.ratio(0) for child in by_decay[most]]
        ends = {d: [child.last_ratio() for child in by_decay[d]] for d in decays}
        others = {d: [child.last_ratio(inserted=False) for child in by_decay[d]] for d in decays}
        ratios = {d: zip(ends[d], others[d], strict=True) for d in (none, most)}
        logs = {d: [math.log(one / other) for one, other in ratios[d]] for d in ratios}
        name, change = f"residual-{depth}", f"end, {most:g} - {none:g}"
        log_change = _differences(logs[most], logs[none])
        from_start = _differences(ends[most], starts)
        criteria += [
            below(f"{name}: {change}", _differences(ends[most], ends[none]), -RATIO_MARGIN),
            below(f"{name}, {most:g}: end - start", from_start, -RATIO_MARGIN),
            below(f"{name}: log(inserted / others), {change}", log_change, -LOG_MARGIN),
            below(f"{name}, {most:g}: end", tuple(ends[most]), SMALL),
        ]
        values = ", ".join(f"{decay:g}: {statistics.fmean(ends[decay]):.3f}" for decay in decays)
        texts.append(
            f"{name}: ‖F(x)‖/‖x‖ of inserted blocks {statistics.fmean(starts):.3f} at the "
            f"start, at the end by weight decay {values} (of the other blocks "
            f"{statistics.fmean(others[none]):.3f} and {statistics.fmean(others[most]):.3f})"
        )
    if lost := [c.record.cell for c in runs.measured_decays if c.record.train_error is None]:
        texts.append(f"diverged: {', '.join(lost)}")
    return pairs.judge(STATEMENTS[4], series, lambda: criteria, lambda: "; ".join(texts))


def _ends(children: Sequence[Child]) -> Series:
    """`Child.last_ratio` by seed."""
    values = {child.record.seed: child.last_ratio() for child in children}
    return Series(values, {child.record.seed: [child.record] for child in children})


def _differences(ones: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(one - other for one, other in zip(ones, others, strict=True))


def parent_table(runs: IdentityRuns) -> Table:
    """Running training errors of parents, before and after further training; means over seeds."""
    rows = [["network", "parent", "trained further", "seeds"]]
    networks = pairs.grouped(runs.parents, lambda record: (record.arm, record.depth))
    for (arm, depth), parents in sorted(networks.items()):
        cells = map(pairs.cell_of, parents)
        further = [
            error_or_chance(runs.parents_further[cell])
            for cell in cells
            if cell in runs.parents_further
        ]
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
