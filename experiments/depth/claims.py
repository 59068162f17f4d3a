"""The claims of section 4.2 as predicates over records: `python -m experiments.depth.claims results/depth/quick`.

Verdicts rest on running training error. With several seeds the unit is the seed: both arms of a seed share initial weights and
batches, so differences are taken within a seed. How a verdict follows from them: experiments.judging.verdict. A diverged run counts as guessing:
error 1 - 1 / classes.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.inference import Criterion, page_trend
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.text import columns, seeds_of
from plainres.records.files import read_runs
from plainres.records.identity import cell_name
from plainres.records.schema import DIVERGED, Record

ARMS = ("plain", "residual")
DEPTHS = (20, 32, 44, 56, 110)
CONTRASTS = ((20, 56), (20, 110))
MEASURES = {
    "train_error": "running training error",
    "train_error_eval": "training error in evaluation mode",
    "train_loss": "training loss",
}
MARGIN = 0.005  # half a point: a rise smaller than that is called no rise
FLOOR = 0.001  # a tenth of a point of training error leaves no room to fall
STATEMENTS = (
    "plain: training error rises with depth",
    "residual: training error does not rise with depth",
    "residual: training error falls with depth",
    "residual ≤ plain at every depth, and the gap widens with depth",
)


@dataclass(frozen=True)
class Grid:
    """One measure of training by arm, depth and seed; `missing` names the cells that are not there.

    `measure` is one of MEASURES: errors are fractions, losses nats per image.
    """

    errors: dict[tuple[str, int, int], float]
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    missing: tuple[str, ...]
    diverged: tuple[str, ...]
    measure: str = "train_error"

    @property
    def where(self) -> str:
        """Depths and seeds for a reader."""
        return f"{', '.join(map(str, self.depths))} layers, seed{'s' * (len(self.seeds) != 1)} {', '.join(map(str, self.seeds))}"

    @property
    def contrasts(self) -> tuple[tuple[int, int], ...]:
        """The two contrasts of the design where the depths are there, else shallowest against deepest."""
        there = tuple(pair for pair in CONTRASTS if set(pair) <= set(self.depths))
        return there or ((self.depths[0], self.depths[-1]),)

    def of(self, arm: str) -> list[list[float]]:
        """One row a seed, one column a depth."""
        return [[self.errors[arm, depth, seed] for depth in self.depths] for seed in self.seeds]

    def gap(self) -> list[list[float]]:
        """plain - residual, one row a seed, one column a depth."""
        pairs = zip(self.of("plain"), self.of("residual"), strict=True)
        return [[p - r for p, r in zip(plain, residual, strict=True)] for plain, residual in pairs]


def grid_of(
    records: Sequence[Record],
    depths: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    measure: str = "train_error",
) -> Grid:
    """The cells the claims are about.

    Args:
        records: any order; depths and seeds outside the grid are passed over.
        depths: None for 20, 32, 44, 56, 110, or all that there are where fewer than two of these are.
        seeds: None for every seed that any of the grid's cells has.
        measure: one of MEASURES.
    """
    if not depths:
        there_are = sorted({row.depth for row in records if row.arm in ARMS})
        depths = DEPTHS if len(set(there_are) & set(DEPTHS)) > 1 or not there_are else there_are
    depths = tuple(sorted(depths))
    chosen = {
        (row.arm, row.depth, row.seed): row
        for row in records
        if row.arm in ARMS and row.depth in depths
    }
    seeds = tuple(sorted(seeds if seeds is not None else {seed for _, _, seed in chosen}))
    wanted = [(arm, depth, seed) for arm in ARMS for depth in depths for seed in seeds]
    there = {key: chosen[key] for key in wanted if key in chosen}
    return Grid(
        errors={key: counted(row, measure) for key, row in there.items()},
        depths=depths,
        seeds=seeds,
        missing=tuple(cell_name(*key) for key in wanted if key not in chosen),
        diverged=tuple(row.cell for row in there.values() if row.status == DIVERGED),
        measure=measure,
    )


def complete_part(records: Sequence[Record], grid: Grid) -> Grid:
    """The largest part of the grid, some depths of some seeds, without a missing cell; the grid itself where no two depths are complete.

    Of two parts with as many cells it is the one of more seeds.
    """
    best = grid
    cells = 0
    for count in range(len(grid.seeds), 0, -1) if grid.missing else ():
        for seeds in combinations(grid.seeds, count):
            depths = [
                depth
                for depth in grid.depths
                if all((arm, depth, seed) in grid.errors for arm in ARMS for seed in seeds)
            ]
            if len(depths) > 1 and count * len(depths) > cells:
                cells = count * len(depths)
                best = grid_of(records, depths, seeds, grid.measure)
    return best


def counted(record: Record, measure: str = "train_error") -> float:
    """The record's value of a measure, or that of guessing for a diverged run."""
    value: float | None = getattr(record, measure)
    if value is not None:
        return value
    return math.log(record.num_classes) if measure == "train_loss" else 1 - 1 / record.num_classes


def check(grid: Grid, margin: float = MARGIN) -> list[Claim]:
    """The four claims with their verdicts, in the order (a) to (d).

    Args:
        margin: a difference of less than that is none, for "does not rise" and "residual ≤ plain"; in the unit of the grid's measure.
    """
    if grid.missing or not grid.seeds or len(grid.depths) < 2:
        return [Claim(statement, INCONCLUSIVE, _lacking(grid)) for statement in STATEMENTS]
    plain, residual, gap = grid.of("plain"), grid.of("residual"), grid.gap()
    no_worse = tuple(
        Criterion(f"plain - residual at {depth}", tuple(row[place] for row in gap), bound=-margin)
        for place, depth in enumerate(grid.depths)
    )
    claims = [
        _judged(grid, STATEMENTS[0], _changes(grid, plain), page_trend(plain)),
        _judged(grid, STATEMENTS[1], _changes(grid, residual, margin, above=False)),
        _judged(
            grid,
            STATEMENTS[2],
            _changes(grid, residual, above=False),
            page_trend(residual, falling=True),
        ),
        _judged(grid, STATEMENTS[3], (*no_worse, *_changes(grid, gap, of="gap ")), page_trend(gap)),
    ]
    highest = max(max(row) for row in residual)
    if grid.measure != "train_loss" and highest <= FLOOR:
        claims[2] = Claim(
            STATEMENTS[2],
            INCONCLUSIVE,
            f"lies on the floor: at most {highest:.2%} training error at every depth leaves no room to fall",
        )
    return verdict.corrected(claims)


def _lacking(grid: Grid) -> str:
    if grid.missing:
        return f"missing cells: {', '.join(grid.missing)}"
    return "one depth: a change needs two" if grid.seeds else "no cells"


def _changes(
    grid: Grid,
    rows: Sequence[Sequence[float]],
    bound: float = 0.0,
    above: bool = True,
    of: str = "",
) -> tuple[Criterion, ...]:
    """One criterion a contrast: how much `rows` (one a seed, one column a depth) change from the shallower to the deeper network."""
    criteria = []
    for shallower, deeper in grid.contrasts:
        first, last = grid.depths.index(shallower), grid.depths.index(deeper)
        criteria.append(
            Criterion(
                f"{of}{shallower} → {deeper}",
                tuple(row[last] - row[first] for row in rows),
                bound,
                above,
            )
        )
    return tuple(criteria)


def _judged(
    grid: Grid, statement: str, criteria: tuple[Criterion, ...], trend: float | None = None
) -> Claim:
    changes = ", ".join(
        _change_text(criterion, grid) for criterion in criteria if "→" in criterion.name
    )
    return verdict.judge(statement, criteria, changes, trend)


def _change_text(criterion: Criterion, grid: Grid) -> str:
    return f"{criterion.name}: {_amount(criterion.mean, grid.measure)}"


def _amount(value: float, measure: str) -> str:
    return f"{value:+.3f} nats" if measure == "train_loss" else verdict.points(value)


def table(grid: Grid) -> list[list[str]]:
    """Mean by arm and depth, ± standard deviation over seeds, errors in per cent; first row and column are headings."""
    scale, digits = (1, 3) if grid.measure == "train_loss" else (100, 2)
    rows = [["", *map(str, grid.depths)]]
    for arm in ARMS:
        cells = []
        for depth in grid.depths:
            values = [
                scale * grid.errors[arm, depth, seed]
                for seed in grid.seeds
                if (arm, depth, seed) in grid.errors
            ]
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.{digits}f}{spread}" if values else "–")
        rows.append([arm, *cells])
    return rows


def heading(records: Sequence[Record], grid: Grid) -> str:
    """What the numbers are numbers of: data, protocol, seeds, definition of the error."""
    labels = ", ".join(sorted({row.data_label for row in records}))
    protocols = ", ".join(sorted({row.protocol for row in records}))
    windows = "/".join(str(window) for window in sorted({row.error_window for row in records}))
    judged = [row for row in records if (row.arm, row.depth, row.seed) in grid.errors]
    seeds = seeds_of(judged) if judged else "no seed"
    return f"{labels}, protocol {protocols}, {seeds}; running training error in %, last {windows} iterations"


def disagreements(records: Sequence[Record], grid: Grid, margin: float = MARGIN) -> list[str]:
    """One line for each claim that another measure of training judges otherwise than running error does."""
    lines = []
    judged = check(grid, margin)
    for measure, name in list(MEASURES.items())[1:]:
        for claim, other in zip(
            judged, check(grid_of(records, grid.depths, grid.seeds, measure), margin), strict=True
        ):
            if claim.verdict != other.verdict:
                lines.append(
                    f"{claim.statement}: {other.verdict} by {name} ({other.seen}), {claim.verdict} by running error"
                )
    return lines


def report(
    records: Sequence[Record],
    grid: Grid,
    claims: Sequence[Claim],
    margin: float = MARGIN,
    verbose: bool = False,
) -> str:
    """The text that `make check-depth` prints; with `verbose` also what the verdicts rest on.

    Args:
        grid: everything that was asked for.
        claims: those on its complete part.
    """
    lines = [heading(records, grid), "", *columns(table(grid)), ""]
    part = complete_part(records, grid)
    if grid.diverged:
        lines += [f"diverged, counted as guessing: {', '.join(grid.diverged)}", ""]
    if grid.missing and not part.missing:
        lines += [f"{_lacking(grid)}; judged where none is: {part.where}", ""]
    lines += verdict.lines(claims)
    if not verbose or part.missing:
        return "\n".join(lines)
    lines += ["", *columns(verdict.details(claims)), ""]
    lines += [
        f"margin {100 * margin:g} points ({margin:g} nats); p: Student's one-sided t over seeds"
    ]
    for measure, name in list(MEASURES.items())[1:]:
        lines += ["", f"{name}, {'nats per image' if measure == 'train_loss' else '%'}"]
        lines += columns(table(grid_of(records, grid.depths, grid.seeds, measure)))
    lines += [
        "",
        *(
            disagreements(records, part, margin)
            or ["all measures of training agree on all verdicts"]
        ),
    ]
    return "\n".join(lines)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.replace(" ", "").split(",") if part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 0 when nothing is contradicted, 1 when a claim is not reproduced, 2 when there is nothing to judge."""
    parser = argparse.ArgumentParser(
        description="Verdicts on the depth experiment from committed records."
    )
    parser.add_argument("folder", type=Path, help="results/depth/<protocol>")
    parser.add_argument(
        "--depths",
        type=_numbers,
        default=None,
        help="depths of the grid, as 20,56 (default: 20,32,44,56,110)",
    )
    parser.add_argument(
        "--seeds",
        type=_numbers,
        default=None,
        help="seeds of the grid, as 0,1,2 (default: those in the table)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=100 * MARGIN,
        help="points that count as no difference (default: %(default)s)",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="also intervals, p values, and other measures of training",
    )
    options = parser.parse_args(arguments)
    try:
        records = read_runs(options.folder)
    except ValueError as error:
        print(f"plainres: {error}", file=sys.stderr)
        return 2
    if not records:
        print(
            f"plainres: no records in {options.folder}; make sweep-depth PROTOCOL={options.folder.name} measures them",
            file=sys.stderr,
        )
        return 2
    grid, margin = (
        grid_of(records, options.depths or None, options.seeds or None),
        options.margin / 100,
    )
    claims = check(complete_part(records, grid), margin)
    print(report(records, grid, claims, margin, options.verbose))
    return verdict.status(claims)


if __name__ == "__main__":
    sys.exit(main())
