"""How often the verdicts are right, by simulation from the records of a results folder.

Simulated sweeps have the means and standard deviations of the records (per arm and depth, normal,
independent seeds), or no effect at all. The rates say how often each claim gets which verdict, for
several numbers of seeds.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.depth.claims import ARMS, Grid, check, complete_part, grid_of
from experiments.judging.errors import MARGIN
from experiments.judging.verdict import VERDICTS
from experiments.reporting.text import columns
from plainres.records.files import read_runs, read_table, write_table

POWER_TABLE = "power.csv"
SIMULATIONS = 2000
SEEDS = (1, 3, 5)
NO_EFFECT, AT_MARGIN, MEASURED = "no effect", "rise of just the margin", "effect as measured"


@dataclass(frozen=True)
class Rate:
    """How often a claim got each verdict, as fractions of `simulations` sweeps."""

    scenario: str
    seeds: int  # of one sweep
    claim: str  # its letter
    reproduced: float
    not_reproduced: float
    inconclusive: float
    simulations: int


@dataclass(frozen=True)
class Truth:
    """What simulated sweeps are drawn from: mean and deviation over seeds by (arm, depth)."""

    depths: tuple[int, ...]
    means: Mapping[tuple[str, int], float]
    deviations: Mapping[tuple[str, int], float]


def truths(grid: Grid) -> dict[str, Truth]:
    """The scenarios for a measured grid of two seeds or more.

    Without effect every cell has the mean of all. At the margin, the deepest networks of the
    contrasts lie a margin above the shallowest, the most that claim (b) may not call "no rise".
    Both have the residual arm's mean deviation everywhere.
    """
    cells = [(arm, depth) for arm in ARMS for depth in grid.depths]
    values = {cell: [grid.errors[(*cell, seed)] for seed in grid.seeds] for cell in cells}
    deviations = {cell: statistics.stdev(column) for cell, column in values.items()}
    means = {cell: statistics.fmean(column) for cell, column in values.items()}
    level, spread = (
        statistics.fmean(numbers["residual", depth] for depth in grid.depths)
        for numbers in (means, deviations)
    )
    equal, shallowest = dict.fromkeys(cells, spread), grid.contrasts[0][0]
    at_margin = {cell: level + MARGIN * (cell[1] > shallowest) for cell in cells}
    return {
        NO_EFFECT: Truth(grid.depths, dict.fromkeys(cells, level), equal),
        AT_MARGIN: Truth(grid.depths, at_margin, equal),
        MEASURED: Truth(grid.depths, means, deviations),
    }


def simulate(
    truth: Truth, seeds: int, simulations: int, generator: np.random.Generator
) -> list[Counter[str]]:
    """Counts of verdicts, one counter per claim in the order (a) to (d)."""
    counts: list[Counter[str]] = [Counter() for _ in "abcd"]
    cells = list(truth.means)
    means, deviations = (
        np.array([numbers[cell] for cell in cells]) for numbers in (truth.means, truth.deviations)
    )
    for _ in range(simulations):
        drawn = np.clip(generator.normal(means, deviations, (seeds, len(cells))), 0.0, 1.0)
        errors = {
            (*cells[place], seed): float(value) for (seed, place), value in np.ndenumerate(drawn)
        }
        claims = check(Grid(errors, truth.depths, tuple(range(seeds))))
        for counter, claim in zip(counts, claims, strict=True):
            counter[claim.verdict] += 1
    return counts


def simulated_rates(grid: Grid, simulations: int) -> list[Rate]:
    """Rates of every verdict under every scenario and number of seeds."""
    generator = np.random.default_rng(2015)
    rows = []
    for scenario, truth in truths(grid).items():
        for seeds in SEEDS:
            counters = simulate(truth, seeds, simulations, generator)
            for letter, counter in zip("abcd", counters, strict=True):
                yes, no, unclear = (counter[verdict] / simulations for verdict in VERDICTS)
                rows.append(Rate(scenario, seeds, letter, yes, no, unclear, simulations))
    return rows


def read_power(folder: Path) -> list[Rate]:
    """The rates in a results folder, none where they were not simulated."""
    return read_table(folder / POWER_TABLE, Rate)


def power_table(rates: Sequence[Rate]) -> list[list[str]]:
    """Share of sweeps in which each claim is reproduced, and in brackets not reproduced."""
    rows = [["simulated truth", "seeds", *"abcd"]]
    for scenario, seeds in dict.fromkeys((rate.scenario, rate.seeds) for rate in rates):
        claims = [rate for rate in rates if (rate.scenario, rate.seeds) == (scenario, seeds)]
        shares = [f"{100 * r.reproduced:.1f} % ({100 * r.not_reproduced:.1f} %)" for r in claims]
        rows.append([scenario, f"{seeds} (no test)" if seeds == 1 else str(seeds), *shares])
    return rows


def power(folder: Path, simulations: int = SIMULATIONS) -> str:
    """Simulates from the records of a results folder, writes power.csv there; returns its text."""
    records = read_runs(folder)
    grid = complete_part(records, grid_of(records))
    if grid.missing or len(grid.seeds) < 2:
        raise ValueError(f"{folder} has no grid of two seeds or more to simulate from")
    rows = simulated_rates(grid, simulations)
    write_table(folder / POWER_TABLE, rows, Rate)
    return "\n".join(columns(power_table(rows)))
