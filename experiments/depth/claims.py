"""Does training error rise with depth in plain networks, and fall with shortcuts? Section 4.2.

Verdicts rest on running training error. With several seeds the unit is the seed: both arms of a
seed share initial weights and batches, so differences are taken within a seed.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from string import ascii_lowercase

from experiments.judging import verdict
from experiments.judging.conditions import conditions_of, largest_comparable
from experiments.judging.errors import MARGIN, chance_error, error_or_chance
from experiments.judging.inference import POINTS, Criterion, fewest_seeds, page_trend
from experiments.judging.pairs import Cell, cell_of, means, read_records
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting import markdown
from experiments.reporting.text import mean_and_deviation
from plainres.records.identity import cell_name
from plainres.records.schema import DIVERGED, Record

ARMS = ("plain", "residual")
SHALLOW = (8, 14)  # where the error of plain networks still falls
DEPTHS = (20, 32, 44, 56, 110)
CONTRASTS = ((20, 56), (20, 110))
REQUIRED = (20, 56)  # without these nothing is judged
MEASURES = {
    "train_error": "running training error",
    "train_error_eval": "training error in evaluation mode",
    "train_loss": "training loss",
}
UNITS = {
    "train_error_eval": "%, unaugmented training images",
    "train_loss": "nats per image, running",
}
CEILING = 0.05  # a residual network this close to guessing has not been trained
STATEMENTS = (
    "plain: training error rises with depth",
    "residual: training error does not rise with depth",
    "residual: training error falls from 20 to 56 layers",
    "residual: training error goes on falling from 56 to 110 layers",
    "residual ≤ plain at every depth, and the gap widens with depth",
    "plain: training error first falls (8 → 14 layers), then rises (20 → 56)",
)
PUBLISHED = Path(__file__).with_name("published.csv")
# Published errors are of 64,000 iterations on CIFAR-10 at 32×32
COMPARABLE_DATA = ("CIFAR-10", "CIFAR-10 (JPEG copy)")
COMPARABLE_PROTOCOLS = ("paper",)


@dataclass(frozen=True)
class Grid:
    """One measure of training by arm, depth and seed, of rows that may be compared."""

    errors: dict[Cell, float]  # fractions, or nats per image; of SHALLOW too, where measured
    depths: tuple[int, ...]  # of 20 layers and more
    seeds: tuple[int, ...]
    chance: float = 0.9  # of guessing, in the unit of the measure
    missing: tuple[str, ...] = ()  # names of the cells without a row that may be compared
    incomparable: tuple[str, ...] = ()  # of them those with a row, and how it was measured
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
        """Those of CONTRASTS whose depths are present."""
        return tuple(pair for pair in CONTRASTS if set(pair) <= set(self.depths))

    @property
    def shallow(self) -> tuple[int, ...]:
        """Those of SHALLOW that were measured."""
        return tuple(depth for depth in SHALLOW if any(cell[1] == depth for cell in self.errors))

    @property
    def measured(self) -> tuple[int, ...]:
        """All depths, the shallow ones too."""
        return (*self.shallow, *self.depths)

    def has(self, arm: str, depth: int) -> bool:
        """Whether every seed has this network."""
        return all((arm, depth, seed) in self.errors for seed in self.seeds)

    def of(self, arm: str, depth: int) -> list[float]:
        """One value per seed."""
        return [self.errors[arm, depth, seed] for seed in self.seeds]

    def gap(self, depth: int) -> list[float]:
        """plain - residual, one value per seed."""
        return [p - r for p, r in zip(*(self.of(arm, depth) for arm in ARMS), strict=True)]


def grid_of(
    records: Sequence[Record],
    depths: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    measure: str = "train_error",
) -> Grid:
    """The cells that the claims are about.

    Args:
        depths: None for 20, 32, 44, 56, 110, and for 8 and 14 where they were measured.
        seeds: None for every seed that any cell of 20 layers or more has.
    """
    asked = depths or (*SHALLOW, *DEPTHS)
    depths = tuple(sorted(set(asked) - set(SHALLOW)))
    rows = {
        cell_of(row): row
        for row in records
        if row.arm in ARMS and row.depth in asked and (seeds is None or row.seed in seeds)
    }
    found = {seed for _, depth, seed in rows if depth in depths}
    seeds = tuple(sorted(found if seeds is None else set(seeds)))
    deepest_first = sorted(rows.values(), key=lambda row: -row.depth)  # SHALLOW decides no tie
    kept = {cell_of(row): row for row in largest_comparable(deepest_first)}
    missing = [cell for cell in product(ARMS, depths, seeds) if cell not in kept]
    unlike = [cell for cell in missing if cell in rows]
    classes = next((row.num_classes for row in records), 10)
    return Grid(
        {cell: error_or_chance(row, measure) for cell, row in kept.items()},
        depths,
        seeds,
        math.log(classes) if measure == "train_loss" else chance_error(classes),
        tuple(cell_name(*cell) for cell in missing),
        tuple(f"{cell_name(*c)} ({', '.join(conditions_of(rows[c]))})" for c in unlike),
        tuple(cell_name(*cell) for cell, row in kept.items() if row.status == DIVERGED),
        measure,
    )


def complete_part(records: Sequence[Record], grid: Grid) -> Grid:
    """The largest part of the grid, some depths of some seeds, without a missing cell.

    It has the depths of REQUIRED. Of two parts with as many cells it is the one of more seeds. The
    grid itself where there is no such part.
    """
    if not grid.missing:
        return grid
    has = {seed: frozenset(_complete_depths(grid, seed)) for seed in grid.seeds}
    shared: set[frozenset[int]] = set()  # the depths that all of some seeds have
    for depths in set(has.values()):
        shared |= {depths, *(depths & others for others in shared)}
    parts = []
    for depths in shared:
        if set(REQUIRED) <= depths:
            seeds = [seed for seed in grid.seeds if depths <= has[seed]]
            parts.append((-len(seeds) * len(depths), -len(seeds), seeds, sorted(depths)))
    if not parts:
        return grid
    _, _, seeds, deep = min(parts)
    return grid_of(records, [*deep, *grid.shallow], seeds, grid.measure)


def _complete_depths(grid: Grid, seed: int) -> Iterator[int]:
    """The depths at which a seed has both arms."""
    for depth in grid.depths:
        if all((arm, depth, seed) in grid.errors for arm in ARMS):
            yield depth


def check(grid: Grid, margin: float = MARGIN) -> list[Claim]:
    """The six claims with their verdicts, in the order of STATEMENTS.

    The contrasts that were judged are in the statements.

    Args:
        margin: a smaller difference is none; in the unit of the grid's measure.
    """
    if missing := _what_is_missing(grid):
        return [Claim(statement, INCONCLUSIVE, missing) for statement in STATEMENTS]
    contrasts = ", ".join(f"{a} → {b}" for a, b in grid.contrasts)
    rises, no_rise, falls, falls_on, gap, turns = STATEMENTS
    plain = [grid.of("plain", depth) for depth in grid.depths]
    claims = [
        _judge(
            f"{rises} ({contrasts})",
            [_change(grid, "plain", pair, margin) for pair in grid.contrasts],
            page_trend(list(zip(*plain, strict=True))),
        ),
        _judge(f"{no_rise} ({contrasts})", [*_no_rise(grid, margin), _trained(grid)]),
        _falls(grid, falls, (20, 56), margin),
        _falls(grid, falls_on, (56, 110), margin),
        _gap(grid, gap, margin),
        _turns(grid, turns, margin),
    ]
    return verdict.corrected(claims)


def _what_is_missing(grid: Grid) -> str:
    if grid.incomparable:
        return f"not comparable: {', '.join(grid.incomparable)}"
    if grid.missing:
        return f"missing cells: {', '.join(grid.missing)}"
    if not grid.seeds:
        return "no cells"
    lacking = [str(depth) for depth in REQUIRED if depth not in grid.depths]
    return f"missing: networks of {' and '.join(lacking)} layers" if lacking else ""


def _judge(
    statement: str, criteria: Sequence[Criterion], trend: float | None = None, beside: str = ""
) -> Claim:
    return verdict.judge(statement, criteria, means(criteria) + beside, trend)


def _change(
    grid: Grid, arm: str, pair: tuple[int, int], bound: float, above: bool = True
) -> Criterion:
    """The change from the shallower to the deeper network; of the gap where `arm` is "gap"."""
    shallower, deeper = (grid.gap(d) if arm == "gap" else grid.of(arm, d) for d in pair)
    values = tuple(b - a for a, b in zip(shallower, deeper, strict=True))
    prefix = f"{arm} " if arm == "gap" else ""
    return Criterion(f"{prefix}{pair[0]} → {pair[1]}", values, bound, above, grid.unit)


def _no_rise(grid: Grid, margin: float) -> list[Criterion]:
    return [_change(grid, "residual", pair, margin, above=False) for pair in grid.contrasts]


def _trained(grid: Grid) -> Criterion:
    """The deepest residual network lies below guessing: at chance nothing rises either."""
    deepest = grid.depths[-1]
    values = tuple(error - grid.chance for error in grid.of("residual", deepest))
    return Criterion(f"residual-{deepest} - guessing", values, -CEILING, False, grid.unit)


def _falls(grid: Grid, statement: str, pair: tuple[int, int], margin: float) -> Claim:
    """The residual error falls by the margin; inconclusive where it has no room to."""
    if not set(pair) <= set(grid.depths):
        missing = f"networks of {' and '.join(str(d) for d in pair if d not in grid.depths)} layers"
        return Claim(statement, INCONCLUSIVE, f"missing: {missing}")
    highest = max(grid.of("residual", pair[0]))
    if highest <= margin:
        room = verdict.amount(highest, grid.unit).removeprefix("+")
        summary = f"on the floor: residual-{pair[0]} errs by at most {room}, no room to fall"
        return Claim(statement, INCONCLUSIVE, summary)
    return _judge(statement, [_change(grid, "residual", pair, -margin, above=False)])


def _gap(grid: Grid, statement: str, margin: float) -> Claim:
    both = [d for d in grid.shallow if all(grid.has(arm, d) for arm in ARMS)]
    depths = [*both, *grid.depths]
    no_worse = [
        Criterion(f"plain - residual at {d}", tuple(grid.gap(d)), -margin, unit=grid.unit)
        for d in depths
    ]
    widens = [_change(grid, "gap", pair, margin) for pair in grid.contrasts]
    where = f"{', '.join(map(str, depths))}; {', '.join(f'{a} → {b}' for a, b in grid.contrasts)}"
    return verdict.judge(f"{statement} ({where})", [*no_worse, *widens], means(widens))


def _turns(grid: Grid, statement: str, margin: float) -> Claim:
    """Over the seeds whose plain networks of 8 and 14 layers were measured."""
    seeds = [s for s in grid.seeds if all(("plain", d, s) in grid.errors for d in SHALLOW)]
    if not seeds:
        missing = " and ".join(f"plain-{depth}" for depth in SHALLOW)
        return Claim(statement, INCONCLUSIVE, f"missing: {missing} (SHALLOW=1 adds them)")
    part = replace(grid, seeds=tuple(seeds))
    falls, rises = (_change(part, "plain", pair, 0.0) for pair in (SHALLOW, REQUIRED))
    criteria = [replace(falls, bound=-margin, above=False), replace(rises, bound=margin)]
    plural = "s" * (len(seeds) != 1)
    fewer = "" if len(seeds) == len(grid.seeds) else f" (seed{plural} {', '.join(map(str, seeds))})"
    return _judge(statement, criteria, beside=fewer)


def disagreements(records: Sequence[Record], grid: Grid, margin: float = MARGIN) -> list[str]:
    """One line per claim on which another measure of training gives another verdict."""
    lines = []
    claims = check(grid, margin)
    for measure in UNITS:
        others = check(grid_of(records, grid.measured, grid.seeds, measure), margin)
        for claim, other in zip(claims, others, strict=True):
            if claim.verdict != other.verdict:
                p = f"; {text}{other.reason}" if (text := other.p_words) else ""
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
    records = read_records(folder)
    if not records:
        target = f"make sweep-depth PROTOCOL={folder.name}"
        raise ValueError(f"no records in {folder}; {target} measures them")
    typed = {"depths": depths, "seeds": seeds}
    wanted = {name: _integers(name.upper(), text) for name, text in typed.items()}
    for name, numbers in wanted.items():
        known = {getattr(record, name.removesuffix("s")) for record in records}
        if numbers and known.isdisjoint(numbers):
            measured = ", ".join(map(str, sorted(known)))
            raise ValueError(
                f"{name.upper()}={typed[name]}: none has a record; measured: {measured}"
            )
    grid = grid_of(records, wanted["depths"], wanted["seeds"])
    return [DepthRuns(folder, records, grid, _margin(margin))]


def _margin(text: str) -> float:
    try:
        margin = float(text) / 100 if text else MARGIN
    except ValueError:
        margin = math.nan
    if not 0 <= margin <= 1:
        raise ValueError(f"MARGIN={text}: give percentage points from 0 to 100, as 0.5")
    return margin


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
    rows = [["", *map(str, grid.measured)]]
    for arm in ARMS:
        row = [arm]
        for depth in grid.measured:
            cells = [(arm, depth, seed) for seed in grid.seeds]
            values = [scale * grid.errors[cell] for cell in cells if cell in grid.errors]
            row.append(mean_and_deviation(values, digits))
        rows.append(row)
    return rows


def published_for(records: Sequence[Record]) -> list[dict[str, str]]:
    """The rows of published.csv where the records are comparable with them, else none."""
    for row in records:
        if row.protocol not in COMPARABLE_PROTOCOLS or row.data_label not in COMPARABLE_DATA:
            return []
    return published_rows()


def published_rows() -> list[dict[str, str]]:
    """All rows of published.csv, as text."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def notes(runs: DepthRuns) -> list[str]:
    sentences = [
        "The verdicts rest on running training error: training mode, augmented batches. "
        "Differences are taken within seeds."
    ]
    if len(runs.judged.seeds) > 1:
        sentences.append(
            "Each criterion is tested over seeds, one-sided, by Student's t, the sign-flip and the "
            "sign test; the largest p counts. All criteria of a claim must hold. Holm's "
            "correction is over both directions of the six claims. With fewer than "
            f"{fewest_seeds(len(STATEMENTS))} seeds nothing can be significant: the verdict then "
            "says only whether all seeds support or contradict the claim. A ± is the standard "
            f"deviation over seeds{_several_conditions(runs)}."
        )
    if published_for(runs.records):
        sentences.append("Published errors in the first figure are of the original CIFAR-10.")
    return [*sentences, "In what a protocol differs from the paper: `make deviations`."]


def _several_conditions(runs: DepthRuns) -> str:
    """Names the seeds by how they were measured, where that differs."""
    seeds: dict[str, set[int]] = {}
    for row in runs.records:
        if cell_of(row) in runs.judged.errors and row.seed in runs.judged.seeds:
            seeds.setdefault(", ".join(conditions_of(row)), set()).add(row.seed)
    if len(seeds) < 2:
        return ", all measured under the same conditions"
    texts = (f"seed {', '.join(map(str, sorted(of)))} ({how})" for how, of in seeds.items())
    return f" that were measured under unlike conditions: {'; '.join(texts)}"


def summary(records: Sequence[Record]) -> str:
    """Mean training error by arm and depth, and the verdicts, as the main README shows them."""
    grid = grid_of(records)
    judged = complete_part(records, grid)
    extent = judged.extent if grid.missing and not judged.missing else ""
    verdicts = [
        f"- ({letter}) {claim.statement}: {markdown.word(claim, extent, mark='**')}"
        for letter, claim in zip(ascii_lowercase, check(judged), strict=False)
    ]
    lines = [*markdown.markdown(table(grid)), "", *markdown.paragraph("\n".join(verdicts))]
    return "\n".join(lines)
