"""Does training error rise with depth in plain networks, and fall with shortcuts? Section 4.2.

Verdicts rest on running training error. With several seeds the unit is the seed: both arms of a
seed share initial weights and batches, so differences are taken within a seed.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.errors import MARGIN, error_or_chance
from experiments.judging.inference import POINTS, Criterion, page_trend
from experiments.judging.pairs import Cell, means
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting import markdown
from experiments.reporting.text import mean_and_deviation
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
UNITS = {
    "train_error_eval": "%, unaugmented training images",
    "train_loss": "nats per image, running",
}
FLOOR = 0.001  # a tenth of a point of training error leaves no room to fall
STATEMENTS = (
    "plain: training error rises with depth",
    "residual: training error does not rise with depth",
    "residual: training error falls with depth",
    "residual ≤ plain at every depth, and the gap widens with depth",
)
PUBLISHED = Path(__file__).with_name("published.csv")
# Published errors are of 64,000 iterations on CIFAR-10 at 32×32
COMPARABLE_DATA = ("CIFAR-10", "CIFAR-10 (JPEG copy)")
COMPARABLE_PROTOCOLS = ("paper",)


@dataclass(frozen=True)
class Grid:
    """One measure of training by arm, depth and seed."""

    errors: dict[Cell, float]  # fractions, or nats per image
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    missing: tuple[str, ...] = ()  # names of the cells without a record
    diverged: tuple[str, ...] = ()  # names of the cells that diverged; they count as chance
    measure: str = "train_error"  # one of MEASURES

    @property
    def extent(self) -> str:
        """Depths and seeds for a reader."""
        seeds = f"seed{'s' * (len(self.seeds) != 1)} {', '.join(map(str, self.seeds))}"
        return f"{', '.join(map(str, self.depths))} layers, {seeds}"

    @property
    def unit(self) -> str:
        return "nats" if self.measure == "train_loss" else POINTS

    @property
    def contrasts(self) -> tuple[tuple[int, int], ...]:
        """The design's two contrasts where the depths are present, else shallowest and deepest."""
        present = tuple(pair for pair in CONTRASTS if set(pair) <= set(self.depths))
        return present or ((self.depths[0], self.depths[-1]),)

    def of(self, arm: str) -> list[list[float]]:
        """One row per seed, one column per depth."""
        return [[self.errors[arm, depth, seed] for depth in self.depths] for seed in self.seeds]

    def gap(self) -> list[list[float]]:
        """plain - residual, one row per seed, one column per depth."""
        pairs = zip(self.of("plain"), self.of("residual"), strict=True)
        return [[p - r for p, r in zip(plain, residual, strict=True)] for plain, residual in pairs]


def grid_of(
    records: Sequence[Record],
    depths: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    measure: str = "train_error",
) -> Grid:
    """The cells that the claims are about.

    Args:
        depths: None for 20, 32, 44, 56, 110, or for all depths where fewer than two of these exist.
        seeds: None for every seed that any of the grid's cells has.
    """
    if not depths:
        present = sorted({row.depth for row in records if row.arm in ARMS})
        depths = DEPTHS if len(set(present) & set(DEPTHS)) > 1 or not present else present
    depths = tuple(sorted(depths))
    rows = {(r.arm, r.depth, r.seed): r for r in records if r.arm in ARMS and r.depth in depths}
    seeds = tuple(sorted({seed for _, _, seed in rows} if seeds is None else seeds))
    cells = list(product(ARMS, depths, seeds))
    errors = {cell: error_or_chance(rows[cell], measure) for cell in cells if cell in rows}
    missing = tuple(cell_name(*cell) for cell in cells if cell not in rows)
    diverged = tuple(cell_name(*cell) for cell in errors if rows[cell].status == DIVERGED)
    return Grid(errors, depths, seeds, missing, diverged, measure)


def complete_part(records: Sequence[Record], grid: Grid) -> Grid:
    """The largest part of the grid, some depths of some seeds, without a missing cell.

    Of two parts with as many cells it is the one of more seeds. The grid itself where no two
    depths are complete.
    """
    best, most = grid, 0
    for count in range(len(grid.seeds), 0, -1) if grid.missing else ():
        for seeds in combinations(grid.seeds, count):
            cells = {depth: set(product(ARMS, [depth], seeds)) for depth in grid.depths}
            depths = [depth for depth in grid.depths if cells[depth] <= grid.errors.keys()]
            if len(depths) > 1 and count * len(depths) > most:
                most = count * len(depths)
                best = grid_of(records, depths, seeds, grid.measure)
    return best


def check(grid: Grid, margin: float = MARGIN) -> list[Claim]:
    """The four claims with their verdicts, in the order (a) to (d).

    Args:
        margin: a smaller difference is none, for "does not rise" and "residual ≤ plain"; in the
            unit of the grid's measure.
    """
    if missing := _what_is_missing(grid):
        return [Claim(statement, INCONCLUSIVE, missing) for statement in STATEMENTS]
    plain, residual, gap = grid.of("plain"), grid.of("residual"), grid.gap()
    rises = _changes(grid, plain)
    does_not_rise = _changes(grid, residual, margin, above=False)
    falls = _changes(grid, residual, above=False)
    no_worse = [
        Criterion(f"plain - residual at {depth}", gaps, -margin, unit=grid.unit)
        for depth, gaps in zip(grid.depths, zip(*gap, strict=True), strict=True)
    ]
    widens = _changes(grid, gap, prefix="gap ")
    falling = page_trend(residual, falling=True)
    claims = [
        verdict.judge(STATEMENTS[0], rises, means(rises), page_trend(plain)),
        verdict.judge(STATEMENTS[1], does_not_rise, means(does_not_rise)),
        verdict.judge(STATEMENTS[2], falls, means(falls), falling),
        verdict.judge(STATEMENTS[3], [*no_worse, *widens], means(widens), page_trend(gap)),
    ]
    highest = max(max(row) for row in residual)
    if grid.measure != "train_loss" and highest <= FLOOR:
        summary = f"on the floor: at most {highest:.2%} error at every depth leaves no room to fall"
        claims[2] = Claim(STATEMENTS[2], INCONCLUSIVE, summary)
    return verdict.corrected(claims)


def _what_is_missing(grid: Grid) -> str:
    if grid.missing:
        return f"missing cells: {', '.join(grid.missing)}"
    if not grid.seeds:
        return "no cells"
    return "" if len(grid.depths) > 1 else "one depth: a change needs two"


def _changes(
    grid: Grid,
    rows: Sequence[Sequence[float]],
    bound: float = 0.0,
    above: bool = True,
    prefix: str = "",
) -> list[Criterion]:
    """One criterion per contrast: the change from the shallower to the deeper network."""
    criteria = []
    for shallower, deeper in grid.contrasts:
        first, last = grid.depths.index(shallower), grid.depths.index(deeper)
        values = tuple(row[last] - row[first] for row in rows)
        name = f"{prefix}{shallower} → {deeper}"
        criteria.append(Criterion(name, values, bound, above, grid.unit))
    return criteria


def disagreements(records: Sequence[Record], grid: Grid, margin: float = MARGIN) -> list[str]:
    """One line per claim on which another measure of training gives another verdict."""
    lines = []
    claims = check(grid, margin)
    for measure in UNITS:
        others = check(grid_of(records, grid.depths, grid.seeds, measure), margin)
        for claim, other in zip(claims, others, strict=True):
            if claim.verdict != other.verdict:
                p = "" if other.p is None else f"; {verdict.p_text(other.p)}{other.reason}"
                result = f"{other.words} by {MEASURES[measure]} ({other.summary}{p})"
                running = f"{claim.words} by {MEASURES['train_error']}"
                lines.append(f"{claim.statement}: {result}, {running}")
    return lines


@dataclass(frozen=True)
class DepthRuns:
    """The tables of one results folder, and which of its cells are judged."""

    folder: Path
    records: list[Record]
    grid: Grid  # every cell that was asked for
    margin: float = MARGIN  # a difference, a fraction, that counts as none

    @property
    def judged(self) -> Grid:
        """The largest part of the grid without a missing cell."""
        return complete_part(self.records, self.grid)


def read(folder: Path, depths: str = "", seeds: str = "", margin: str = "") -> list[DepthRuns]:
    """The runs in one results folder.

    Args:
        depths, seeds: of the grid, as typed: 20,56; "" as in `grid_of`.
        margin: a smaller difference counts as none, in percentage points; "" for MARGIN.
    """
    records = read_runs(folder)
    if not records:
        target = f"make sweep-depth PROTOCOL={folder.name}"
        raise ValueError(f"no records in {folder}; {target} measures them")
    grid = grid_of(records, _integers("DEPTHS", depths), _integers("SEEDS", seeds))
    try:
        return [DepthRuns(folder, records, grid, float(margin) / 100 if margin else MARGIN)]
    except ValueError:
        raise ValueError(f"MARGIN={margin}: give percentage points, as 0.5") from None


def _integers(name: str, text: str) -> list[int] | None:
    try:
        return [int(part) for part in text.split(",") if part.strip()] or None
    except ValueError:
        raise ValueError(f"{name}={text}: give whole numbers, as 20,56") from None


def label_of(runs: DepthRuns) -> str:
    cells = runs.grid.errors
    judged = [row for row in runs.records if (row.arm, row.depth, row.seed) in cells]
    return markdown.label_of(judged or runs.records)


def table(grid: Grid) -> list[list[str]]:
    """Mean ± standard deviation over seeds by arm and depth; errors in per cent."""
    scale, digits = (1, 3) if grid.measure == "train_loss" else (100, 2)
    rows = [["", *map(str, grid.depths)]]
    for arm in ARMS:
        row = [arm]
        for depth in grid.depths:
            cells = [(arm, depth, seed) for seed in grid.seeds]
            values = [scale * grid.errors[cell] for cell in cells if cell in grid.errors]
            row.append(mean_and_deviation(values, digits) if values else "–")
        rows.append(row)
    return rows


def published_for(records: Sequence[Record]) -> list[dict[str, str]]:
    """The rows of published.csv where the records are comparable with them, else none."""
    for row in records:
        if row.protocol not in COMPARABLE_PROTOCOLS or row.data_label not in COMPARABLE_DATA:
            return []
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def notes(runs: DepthRuns) -> list[str]:
    sentences = [
        "The verdicts rest on running training error: training mode, augmented batches. "
        "Differences are taken within seeds."
    ]
    if len(runs.judged.seeds) > 1:
        sentences.append(
            "Each criterion is a one-sided Student's t test over seeds. All criteria of a claim "
            "must hold. Holm's correction is over the four claims."
        )
    if published_for(runs.records):
        sentences.append("Published errors in the first figure are of the original CIFAR-10.")
    return sentences


def summary(records: Sequence[Record]) -> str:
    """Mean training error by arm and depth, and the verdicts, as the main README shows them."""
    grid = grid_of(records)
    judged = complete_part(records, grid)
    extent = f" ({judged.extent})" if grid.missing and not judged.missing else ""
    verdicts = [f"- {claim.statement}: **{claim.words}**{extent}" for claim in check(judged)]
    return "\n".join([*markdown.markdown(table(grid)), "", *verdicts])
