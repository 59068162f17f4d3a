"""The claims of section 4.2 as predicates over records: `python -m experiments.depth.claims results/depth/quick`.

Verdicts rest on running training error. With several seeds the unit is the seed: both arms of a seed share initial weights and
batches, so differences are taken within a seed, with 95 % intervals from Student's t, and trends over depth are tested with Page's
test, seeds as replicates. With one seed there is no spread to judge by, and the verdict is called a direction. A diverged run
counts as guessing: error 1 - 1 / classes.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from plainres.record import DIVERGED, Record, cell_name, read_runs

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
ARMS = ("plain", "residual")
DEPTHS = (20, 32, 44, 56, 110)
CONTRASTS = ((20, 56), (20, 110))
SIGNIFICANCE = 0.05
MARGIN = 0.005  # half a point: a rise smaller than that is called no rise
FLOOR = 0.001  # a tenth of a point of training error leaves no room to fall


@dataclass(frozen=True)
class Claim:
    """One claim with its verdict and the numbers behind it, as text for a reader."""

    statement: str
    verdict: str
    evidence: str


@dataclass(frozen=True)
class Difference:
    """Mean over seeds of error(deeper) - error(shallower), as fractions, with its 95 % interval (None with one seed)."""

    shallower: int
    deeper: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def low(self) -> float:
        return self.interval[0] if self.interval else self.mean

    @property
    def high(self) -> float:
        return self.interval[1] if self.interval else self.mean

    def __str__(self) -> str:
        text = f"{self.shallower} → {self.deeper}: {100 * self.mean:+.2f} points"
        return f"{text} [{100 * self.low:+.2f}, {100 * self.high:+.2f}]" if self.interval else text


@dataclass(frozen=True)
class Grid:
    """Training errors by arm, depth and seed; `missing` names the cells that are not there."""

    errors: dict[tuple[str, int, int], float]
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    missing: tuple[str, ...]
    diverged: tuple[str, ...]

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

    def differences(self, rows: Sequence[Sequence[float]]) -> list[Difference]:
        return [difference(rows, self.depths, *pair) for pair in self.contrasts]


def grid_of(records: Sequence[Record], depths: Sequence[int] | None = None, seeds: Sequence[int] | None = None) -> Grid:
    """The cells the claims are about.

    Args:
        records: any order; depths and seeds outside the grid are passed over.
        depths: None for 20, 32, 44, 56, 110.
        seeds: None for every seed that any of the grid's cells has.
    """
    depths = tuple(sorted(depths or DEPTHS))
    chosen = {(row.arm, row.depth, row.seed): row for row in records if row.arm in ARMS and row.depth in depths}
    seeds = tuple(sorted(seeds if seeds is not None else {seed for _, _, seed in chosen}))
    wanted = [(arm, depth, seed) for arm in ARMS for depth in depths for seed in seeds]
    there = {key: chosen[key] for key in wanted if key in chosen}
    return Grid(
        errors={key: counted_error(row) for key, row in there.items()},
        depths=depths,
        seeds=seeds,
        missing=tuple(cell_name(*key) for key in wanted if key not in chosen),
        diverged=tuple(row.cell for row in there.values() if row.status == DIVERGED),
    )


def counted_error(record: Record) -> float:
    """train_error, or that of guessing for a diverged run."""
    return 1 - 1 / record.num_classes if record.train_error is None else record.train_error


def check(grid: Grid) -> list[Claim]:
    """The four claims with their verdicts, in the order (a) to (d)."""
    statements = (
        "plain: training error rises with depth",
        "residual: training error does not rise with depth",
        "residual: training error falls with depth",
        "residual ≤ plain at every depth, and the gap widens with depth",
    )
    if grid.missing or not grid.seeds:
        text = f"missing cells: {', '.join(grid.missing)}" if grid.missing else "no cells"
        complete = [depth for depth in grid.depths if all((arm, depth, seed) in grid.errors for arm in ARMS for seed in grid.seeds)]
        if grid.seeds and len(complete) > 1:
            text += f"; DEPTHS={','.join(map(str, complete))} judges what is complete"
        return [Claim(statement, INCONCLUSIVE, text) for statement in statements]
    judged = (_rises(grid, grid.of("plain")), _does_not_rise(grid), _falls(grid), _gap_widens(grid))
    return [Claim(statement, verdict, evidence) for statement, (verdict, evidence) in zip(statements, judged, strict=True)]


def difference(rows: Sequence[Sequence[float]], depths: Sequence[int], shallower: int, deeper: int) -> Difference:
    """Difference between two columns of `rows` (one row a seed), paired within seeds; Student's t for the interval."""
    first, last = depths.index(shallower), depths.index(deeper)
    paired = [row[last] - row[first] for row in rows]
    mean = statistics.fmean(paired)
    if len(paired) < 2:
        return Difference(shallower, deeper, mean, None)
    half_width = float(stats.sem(paired) * stats.t.ppf(0.975, len(paired) - 1))
    return Difference(shallower, deeper, mean, (mean - half_width, mean + half_width))


def trend(rows: Sequence[Sequence[float]], falling: bool = False) -> float | None:
    """P value of Page's test that columns rise (or fall) from left to right, rows as replicates; None below 2 rows or 3 columns."""
    if len(rows) < 2 or len(rows[0]) < 3:
        return None
    ordered = [list(reversed(row)) if falling else list(row) for row in rows]
    return float(stats.page_trend_test(ordered).pvalue)


def _rises(grid: Grid, rows: Sequence[Sequence[float]], falling: bool = False) -> tuple[str, str]:
    differences, p = grid.differences(rows), trend(rows, falling)
    evidence = "; ".join([*map(str, differences), *_trend_text(p, grid)])
    sign = -1 if falling else 1
    nearest = [min(sign * d.low, sign * d.high) for d in differences]  # the end of the interval that is nearest to "no change"
    farthest = [max(sign * d.low, sign * d.high) for d in differences]
    if all(end > 0 for end in nearest) and (p is None or p < SIGNIFICANCE):
        return REPRODUCED, evidence
    if any(end < 0 for end in farthest):
        return NOT_REPRODUCED, evidence
    return INCONCLUSIVE, evidence


def _does_not_rise(grid: Grid) -> tuple[str, str]:
    differences = grid.differences(grid.of("residual"))
    evidence = f"{'; '.join(map(str, differences))}; a rise means more than {100 * MARGIN:g} points{_called(grid)}"
    if all(d.high < MARGIN for d in differences):
        return REPRODUCED, evidence
    return NOT_REPRODUCED if any(d.low > MARGIN for d in differences) else INCONCLUSIVE, evidence


def _falls(grid: Grid) -> tuple[str, str]:
    rows = grid.of("residual")
    highest = max(max(row) for row in rows)
    if highest <= FLOOR:
        return INCONCLUSIVE, f"lies on the floor: at most {highest:.2%} training error at every depth leaves no room to fall"
    return _rises(grid, rows, falling=True)


def _gap_widens(grid: Grid) -> tuple[str, str]:
    gaps = grid.gap()
    mean_gaps = [statistics.fmean(column) for column in zip(*gaps, strict=True)]
    verdict, evidence = _rises(grid, gaps)
    by_depth = ", ".join(f"{depth}: {100 * gap:+.2f}" for depth, gap in zip(grid.depths, mean_gaps, strict=True))
    evidence = f"plain - residual in points at {by_depth}; its change {evidence}"
    if any(gap < -MARGIN for gap in mean_gaps):
        return NOT_REPRODUCED, evidence
    return verdict, evidence


def _trend_text(p: float | None, grid: Grid) -> list[str]:
    if p is None:
        return [_called(grid).removeprefix("; ")] if _called(grid) else []
    return [f"trend over {len(grid.depths)} depths p = {p:.2g} (Page, {len(grid.seeds)} seeds)"]


def _called(grid: Grid) -> str:
    return "; one seed: a direction, not a test" if len(grid.seeds) == 1 else ""


def table(grid: Grid) -> list[list[str]]:
    """Mean training error in per cent by arm and depth, ± standard deviation over seeds; first row and column are headings."""
    rows = [["", *map(str, grid.depths)]]
    for arm in ARMS:
        cells = []
        for depth in grid.depths:
            values = [100 * grid.errors[arm, depth, seed] for seed in grid.seeds if (arm, depth, seed) in grid.errors]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}" if values else "–")
        rows.append([arm, *cells])
    return rows


def heading(records: Sequence[Record], grid: Grid) -> str:
    """What the numbers are numbers of: data, protocol, seeds, definition of the error."""
    labels = ", ".join(sorted({row.data_label for row in records}))
    protocols = ", ".join(sorted({row.protocol for row in records}))
    windows = "/".join(str(window) for window in sorted({row.error_window for row in records}))
    seeds = f"{len(grid.seeds)} seed{'s' * (len(grid.seeds) != 1)}"
    return f"{labels}, protocol {protocols}, {seeds}; running training error in %, last {windows} iterations"


def report(records: Sequence[Record], grid: Grid, claims: Sequence[Claim]) -> str:
    """The text that `make check-depth` prints."""
    rows = table(grid)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [heading(records, grid), ""]
    lines += ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    lines.append("")
    if grid.diverged:
        lines += [f"diverged, counted as guessing: {', '.join(grid.diverged)}", ""]
    for letter, claim in zip("abcd", claims, strict=True):
        lines += [f"({letter}) {claim.verdict.upper():14}  {claim.statement}", f"    {claim.evidence}"]
    return "\n".join(lines)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.replace(" ", "").split(",") if part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 0 when nothing is contradicted, 1 when a claim is not reproduced, 2 when there is nothing to judge."""
    parser = argparse.ArgumentParser(description="Verdicts on the depth experiment from committed records.")
    parser.add_argument("folder", type=Path, help="results/depth/<protocol>")
    parser.add_argument("--depths", type=_numbers, default=None, help="depths of the grid, as 20,56 (default: 20,32,44,56,110)")
    parser.add_argument("--seeds", type=_numbers, default=None, help="seeds of the grid, as 0,1,2 (default: those in the table)")
    options = parser.parse_args(arguments)
    try:
        records = read_runs(options.folder)
    except ValueError as error:
        print(f"plainres: {error}", file=sys.stderr)
        return 2
    if not records:
        print(f"plainres: no records in {options.folder}; make sweep-depth PROTOCOL={options.folder.name} measures them", file=sys.stderr)
        return 2
    grid = grid_of(records, options.depths or None, options.seeds or None)
    claims = check(grid)
    print(report(records, grid, claims))
    return 1 if any(claim.verdict == NOT_REPRODUCED for claim in claims) else 0


if __name__ == "__main__":
    sys.exit(main())
