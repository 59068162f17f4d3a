"""Do extra blocks do no harm? `python -m experiments.identity.claims results/identity/quick`.

Folders below: parent (the networks that blocks are put into), trained_on (the parents trained on without more blocks), one folder for each
position and number of blocks, and decay_… (fresh blocks, by weight decay). Children are held against their parent trained on, within
seeds, which share batches; how a verdict follows: experiments.judging.verdict. A diverged run counts as guessing.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from experiments.depth.claims import MARGIN, counted
from experiments.judging import verdict
from experiments.judging.inference import Criterion, page_trend
from experiments.judging.pairs import require_same_images
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting.text import columns, tell
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, read_json, read_runs, read_table
from plainres.records.schema import Record

INSERTIONS_TABLE, BRANCHES_TABLE = "insertions.csv", "branches.csv"
PARENT, TRAINED_ON, DECAY = "parent", "trained_on", "decay_"
CHANGED = 0.01  # of the logits' size: what rounding never reaches
SMALL = 0.1  # ‖F(x)‖ / ‖x‖ of a block that is nearly the identity
STATEMENTS = (
    "residual: no insertion changes a logit, in evaluation mode or in training mode",
    "plain: every insertion changes logits in training mode, though the blocks are as near to the identity as convolutions can be",
    "residual: trained on, no child is worse than its parent trained on",
    "plain: trained on, children are worse than their parent trained on, by more the more blocks were inserted",
    "residual: weight decay drives branches that nothing needs towards zero, and so their blocks to the identity",
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
    """One cell that continued a parent.

    Args:
        branches: of residual children.
    """

    record: Record
    insertion: Insertion
    weight_decay: float
    branches: tuple[BranchNorm, ...] = ()

    def ratio(self, iteration: int, inserted: bool = True) -> float:
        """Mean ‖F(x)‖ / ‖x‖ of the inserted blocks, or of the others, at a look."""
        return statistics.fmean(
            row.ratio
            for row in self.branches
            if row.iteration == iteration and row.inserted == inserted
        )

    @property
    def looks(self) -> list[int]:
        """The iterations at which branches were measured; 0 is before the first."""
        return sorted({row.iteration for row in self.branches})


@dataclass(frozen=True)
class Family:
    """What lies in one results folder; `children` have blocks as near to the identity as can be, `decays` fresh ones."""

    parents: tuple[Record, ...]
    trained_on: tuple[Child, ...]
    children: tuple[Child, ...]
    decays: tuple[Child, ...]

    @property
    def records(self) -> list[Record]:
        return [
            *self.parents,
            *(child.record for child in (*self.trained_on, *self.children, *self.decays)),
        ]

    def error_trained_on(self, arm: str, depth: int, seed: int) -> float | None:
        """Running training error of the parent trained on; None where it is missing."""
        found = [child.record for child in self.trained_on]
        return next(
            (counted(row) for row in found if (row.arm, row.depth, row.seed) == (arm, depth, seed)),
            None,
        )


@dataclass(frozen=True)
class Grid:
    """The children of one arm in all of whose seeds no insertion is missing.

    Args:
        children: by (depth, position, blocks, seed).
    """

    children: dict[tuple[int, str, int, int], Child]
    depths: tuple[int, ...]
    positions: tuple[str, ...]
    blocks: tuple[int, ...]
    seeds: tuple[int, ...]
    excess_of: dict[tuple[int, str, int, int], float]

    def excess(self, depth: int, blocks: int, position: str | None = None) -> tuple[float, ...]:
        """Running training error minus the trained-on parent's, at one position or as mean over all; one value a seed."""
        places = (position,) if position else self.positions
        return tuple(
            statistics.fmean(self.excess_of[depth, place, blocks, seed] for place in places)
            for seed in self.seeds
        )


def read_family(folder: Path) -> Family:
    """All cells of a results folder.

    Raises:
        ValueError: there are no children, a table is damaged or lacks what another has, or cells were measured on different images.
    """
    parents: list[Record] = []
    records_of: dict[str, list[Record]] = {}
    groups: dict[str, list[Child]] = {TRAINED_ON: [], DECAY: [], "": []}
    for path in sorted(folder.glob(f"*/{RUNS_TABLE}")):
        within, records = path.parent, read_runs(path.parent)
        records_of[f"{folder.name}/{within.name}"] = records
        if within.name == PARENT:
            parents += records
            continue
        insertions = {
            (row.arm, row.depth, row.seed): row
            for row in read_table(within / INSERTIONS_TABLE, Insertion)
        }
        branches = read_table(within / BRANCHES_TABLE, BranchNorm)
        decay = float(
            ((read_json(within / CONFIG_FILE) or {}).get("protocol") or {}).get("weight_decay", 0)
        )
        group = groups[next(kind for kind in groups if within.name.startswith(kind))]
        for record in records:
            key = (record.arm, record.depth, record.seed)
            if key not in insertions:
                raise ValueError(f"{within / INSERTIONS_TABLE} lacks {record.cell}")
            own = tuple(row for row in branches if (row.arm, row.depth, row.seed) == key)
            group.append(Child(record, insertions[key], decay, own))
    if not groups[""] and not groups[DECAY]:
        raise ValueError(
            f"no records in {folder}; make sweep-identity PROTOCOL={folder.name} measures them"
        )
    family = Family(
        tuple(parents), tuple(groups[TRAINED_ON]), tuple(groups[""]), tuple(groups[DECAY])
    )
    require_same_images(records_of)
    return family


def grid_of(family: Family, arm: str) -> Grid | None:
    """The children of an arm as a grid over the seeds that are complete; None where there is no such seed.

    Complete is a seed that has every number of blocks at every position and depth that any seed has one of.
    """
    children = {}
    for child in family.children:
        row = child.insertion
        if row.arm == arm:
            children[row.depth, row.position, row.blocks, row.seed] = child
    depths = tuple(sorted({depth for depth, _, _, _ in children}))
    positions = tuple(sorted({position for _, position, _, _ in children}))
    blocks = tuple(sorted({number for _, _, number, _ in children}))
    wanted = list(product(depths, positions, blocks))
    complete = []
    for seed in sorted({key[3] for key in children}):
        there = all(
            (*key, seed) in children and family.error_trained_on(arm, key[0], seed) is not None
            for key in wanted
        )
        if there:
            complete.append(seed)
    if not complete:
        return None
    children = {key: child for key, child in sorted(children.items()) if key[3] in complete}
    excess = {}
    for key, child in children.items():
        before = family.error_trained_on(arm, key[0], key[3])
        assert before is not None
        excess[key] = counted(child.record) - before
    return Grid(children, depths, positions, blocks, tuple(complete), excess)


def check(family: Family) -> list[Claim]:
    """The five claims, (a) to (e), with their verdicts; corrected together where there are several seeds."""
    residual, plain = grid_of(family, "residual"), grid_of(family, "plain")
    claims = [
        _unchanged(residual) if residual else _missing(STATEMENTS[0], "residual"),
        _changed(plain) if plain else _missing(STATEMENTS[1], "plain"),
        _no_worse(residual) if residual else _missing(STATEMENTS[2], "residual"),
        _worse(plain) if plain else _missing(STATEMENTS[3], "plain"),
        _shrinks(family),
    ]
    return verdict.corrected(claims)


def _missing(statement: str, arm: str) -> Claim:
    return Claim(
        statement,
        INCONCLUSIVE,
        f"missing: a seed in which every insertion of the {arm} arm and the parent trained on are there",
    )


def _unchanged(grid: Grid) -> Claim:
    changed = sum(_largest(child) != 0 for child in grid.children.values())
    seen = f"{changed} of {len(grid.children)} insertions change a logit; counted, not tested"
    return Claim(STATEMENTS[0], NOT_REPRODUCED if changed else REPRODUCED, seen)


def _largest(child: Child) -> float:
    return max(child.insertion.logit_difference_eval, child.insertion.logit_difference_batch)


def _changed(grid: Grid) -> Claim:
    rows = [child.insertion for child in grid.children.values()]
    batch = [row.logit_difference_batch / row.logit_size for row in rows]
    unchanged = sum(change <= CHANGED for change in batch)
    still = max(row.logit_difference_eval / row.logit_size for row in rows)
    seen = (
        f"{unchanged} of {len(rows)} insertions stay within rounding; "
        f"largest change of a logit, in units of the logits' mean size: {min(batch):.2g} to {max(batch):.2g} in training mode, "
        f"at most {still:.1g} in evaluation mode; counted, not tested"
    )
    return Claim(STATEMENTS[1], NOT_REPRODUCED if unchanged else REPRODUCED, seen)


def _no_worse(grid: Grid) -> Claim:
    criteria = [
        Criterion(
            f"residual-{depth}, {_blocks(blocks)}, {position}",
            grid.excess(depth, blocks, position),
            bound=MARGIN,
            above=False,
        )
        for depth in grid.depths
        for blocks in grid.blocks
        for position in grid.positions
    ]
    worst = max(criteria, key=lambda criterion: criterion.mean)
    return verdict.judge(
        STATEMENTS[2],
        criteria,
        f"child - parent at most {verdict.points(worst.mean)} ({worst.name})",
    )


def _worse(grid: Grid) -> Claim:
    few, many = grid.blocks[0], grid.blocks[-1]
    criteria, texts = [], []
    for depth in grid.depths:
        last = Criterion(f"plain-{depth}, {_blocks(many)}", grid.excess(depth, many), bound=MARGIN)
        rise = tuple(
            b - a for a, b in zip(grid.excess(depth, few), grid.excess(depth, many), strict=True)
        )
        criteria += [last, Criterion(f"plain-{depth}, {_blocks(many)} - {_blocks(few)}", rise)]
        by_blocks = ", ".join(
            f"{blocks}: {verdict.points(statistics.fmean(grid.excess(depth, blocks)))}"
            for blocks in grid.blocks
        )
        texts.append(f"plain-{depth} child - parent by blocks {by_blocks}")
    seeds = range(len(grid.seeds))
    rows = [
        [
            statistics.fmean(grid.excess(depth, blocks)[seed] for depth in grid.depths)
            for blocks in grid.blocks
        ]
        for seed in seeds
    ]
    return verdict.judge(STATEMENTS[3], criteria, "; ".join(texts), page_trend(rows))


def _blocks(number: int) -> str:
    return f"{number} block{'s' * (number != 1)}"


def _shrinks(family: Family) -> Claim:
    usable = [
        child for child in family.decays if child.looks and child.record.train_error is not None
    ]
    decays = sorted({child.weight_decay for child in usable})
    by_key = {
        (child.record.depth, child.weight_decay, child.record.seed): child for child in usable
    }
    depths = sorted({key[0] for key in by_key})
    seeds = [
        seed
        for seed in sorted({key[2] for key in by_key})
        if all((depth, decay, seed) in by_key for depth in depths for decay in decays)
    ]
    if len(decays) < 2 or not seeds:
        return Claim(STATEMENTS[4], INCONCLUSIVE, "missing: a seed with two weight decays or more")
    none, most = decays[0], decays[-1]
    criteria, texts = [], []
    for depth in depths:
        ends = {decay: [_end(by_key[depth, decay, seed]) for seed in seeds] for decay in decays}
        starts = [by_key[depth, most, seed].ratio(0) for seed in seeds]
        less = tuple(a - b for a, b in zip(ends[most], ends[none], strict=True))
        shrunk = tuple(a - b for a, b in zip(ends[most], starts, strict=True))
        others = {
            decay: [_end(by_key[depth, decay, seed], inserted=False) for seed in seeds]
            for decay in decays
        }
        against = {
            decay: [math.log(a / b) for a, b in zip(ends[decay], others[decay], strict=True)]
            for decay in (none, most)
        }
        more = tuple(a - b for a, b in zip(against[most], against[none], strict=True))
        criteria += [
            Criterion(f"residual-{depth}: end, {most:g} - {none:g}", less, above=False, unit=""),
            Criterion(f"residual-{depth}, {most:g}: end - start", shrunk, above=False, unit=""),
            Criterion(
                f"residual-{depth}: log(inserted / others), end, {most:g} - {none:g}",
                more,
                above=False,
                unit="",
            ),
            Criterion(
                f"residual-{depth}, {most:g}: end",
                tuple(ends[most]),
                bound=SMALL,
                above=False,
                unit="",
            ),
        ]
        values = ", ".join(f"{decay:g}: {statistics.fmean(ends[decay]):.3f}" for decay in decays)
        texts.append(
            f"residual-{depth}: ‖F(x)‖/‖x‖ of inserted blocks {statistics.fmean(starts):.3f} at first, at the end by decay {values} "
            f"(of the others {statistics.fmean(others[none]):.3f} and {statistics.fmean(others[most]):.3f})"
        )
    return verdict.judge(STATEMENTS[4], criteria, "; ".join(texts))


def _end(child: Child, inserted: bool = True) -> float:
    return child.ratio(child.looks[-1], inserted)


def table(family: Family) -> list[list[str]]:
    """One line an insertion under a row of headings, means over seeds; errors in per cent, differences in points."""
    lines = [
        [
            "network",
            "position",
            "blocks",
            "logits, eval",
            "logits, batch",
            "error, eval",
            "error, batch",
            "train_error",
            "- parent's",
        ]
    ]
    keys = {
        (c.insertion.arm, c.insertion.depth, c.insertion.position, c.insertion.blocks)
        for c in family.children
    }
    for arm, depth, position, blocks in sorted(keys):
        wanted = (arm, depth, position, blocks)
        rows = [
            c
            for c in family.children
            if (c.insertion.arm, c.insertion.depth, c.insertion.position, c.insertion.blocks)
            == wanted
        ]
        insertions = [child.insertion for child in rows]
        parents = [family.error_trained_on(arm, depth, child.record.seed) for child in rows]
        after = [
            counted(child.record) - parent
            for child, parent in zip(rows, parents, strict=True)
            if parent is not None
        ]
        lines.append(
            [
                f"{arm}-{depth}",
                position,
                str(blocks),
                f"{max(row.logit_difference_eval for row in insertions):.2g}",
                f"{max(row.logit_difference_batch for row in insertions):.2g}",
                _points([row.error_eval - row.parent_error_eval for row in insertions]),
                _points([row.error_batch - row.parent_error_batch for row in insertions]),
                f"{100 * statistics.fmean(counted(child.record) for child in rows):.2f}",
                _points(after) if after else "–",
            ]
        )
    return lines


def parent_table(family: Family) -> list[list[str]]:
    """Running training errors of parents, and of parents trained on, in per cent; means over seeds, under a row of headings."""
    lines = [["network", "parent", "trained on", "seeds"]]
    for arm, depth in sorted({(record.arm, record.depth) for record in family.parents}):
        parents = [
            record for record in family.parents if (record.arm, record.depth) == (arm, depth)
        ]
        later = [family.error_trained_on(arm, depth, record.seed) for record in parents]
        known = [error for error in later if error is not None]
        trained = f"{100 * statistics.fmean(known):.2f}" if known else "–"
        lines.append(
            [
                f"{arm}-{depth}",
                f"{100 * statistics.fmean(map(counted, parents)):.2f}",
                trained,
                str(len(parents)),
            ]
        )
    return lines


def decay_table(family: Family) -> list[list[str]]:
    """‖F(x)‖/‖x‖ of fresh blocks by weight decay, and the running training error in per cent; means over seeds."""
    lines = [
        [
            "network",
            "weight decay",
            "inserted, at first",
            "inserted, at the end",
            "others, at the end",
            "train_error",
        ]
    ]
    usable = [child for child in family.decays if child.looks]
    for depth, decay in sorted({(child.record.depth, child.weight_decay) for child in usable}):
        rows = [
            child for child in usable if (child.record.depth, child.weight_decay) == (depth, decay)
        ]
        first, end = (
            statistics.fmean(child.ratio(child.looks[place]) for child in rows) for place in (0, -1)
        )
        others = statistics.fmean(child.ratio(child.looks[-1], inserted=False) for child in rows)
        error = 100 * statistics.fmean(counted(child.record) for child in rows)
        lines.append(
            [
                f"residual-{depth}",
                f"{decay:g}",
                f"{first:.3f}",
                f"{end:.3f}",
                f"{others:.3f}",
                f"{error:.2f}",
            ]
        )
    return lines


def _points(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):+.2f}"


def _report(folder: Path) -> tuple[list[str], int]:
    family = read_family(folder)
    claims = check(family)
    lines = [
        line
        for rows in (parent_table(family), table(family), decay_table(family))
        for line in (*columns(rows, left=True), "")
    ]
    return [*lines, *verdict.lines(claims)], verdict.status(claims)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints tables and verdicts; 1 when a claim is contradicted, 2 and one line where there is nothing to judge."""
    return tell(
        _report, "Whether extra blocks do no harm.", "results/identity/<protocol>", arguments
    )


if __name__ == "__main__":
    sys.exit(main())
