"""How often the verdicts are right: `python -m experiments.depth.simulation results/depth/quick`, which leaves power.csv there.

Simulated sweeps have the means and standard deviations of the folder's records (per arm and depth, normal, independent seeds), or no
effect at all. What is counted is how often each claim gets which verdict, for several numbers of seeds.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.depth.claims import ARMS, MARGIN, Grid, check, complete_part, grid_of
from experiments.judging.verdict import VERDICTS
from experiments.reporting.text import columns
from plainres.records.files import read_runs, read_table, write_table

POWER_TABLE = "power.csv"
SIMULATIONS = 2000
SEEDS = (1, 3, 5)
NO_EFFECT, AT_MARGIN, MEASURED = "no effect", "rise of just the margin", "effect as measured"


@dataclass(frozen=True)
class Rate:
    """How often a claim got each verdict, as fractions of `simulations` sweeps of `seeds` seeds under `scenario`."""

    scenario: str
    seeds: int
    claim: str
    reproduced: float
    not_reproduced: float
    inconclusive: float
    simulations: int


@dataclass(frozen=True)
class Truth:
    """What simulated sweeps are drawn from: mean and standard deviation over seeds by (arm, depth)."""

    depths: tuple[int, ...]
    means: Mapping[tuple[str, int], float]
    deviations: Mapping[tuple[str, int], float]


def truths(grid: Grid) -> dict[str, Truth]:
    """The scenarios for a measured grid of two seeds or more.

    Without effect every cell has the mean of all; at the margin, the deepest networks of the contrasts lie a margin above the
    shallowest, the most that claim (b) may not call "no rise". Both have the residual arm's spread everywhere.
    """
    cells = [(arm, depth) for arm in ARMS for depth in grid.depths]
    values = {cell: [grid.errors[(*cell, seed)] for seed in grid.seeds] for cell in cells}
    deviations = {cell: statistics.stdev(column) for cell, column in values.items()}
    means = {cell: statistics.fmean(column) for cell, column in values.items()}
    level = statistics.fmean(means["residual", depth] for depth in grid.depths)
    spread = dict.fromkeys(
        cells, statistics.fmean(deviations["residual", depth] for depth in grid.depths)
    )
    shallowest = grid.contrasts[0][0]
    return {
        NO_EFFECT: Truth(grid.depths, dict.fromkeys(cells, level), spread),
        AT_MARGIN: Truth(
            grid.depths, {cell: level + MARGIN * (cell[1] > shallowest) for cell in cells}, spread
        ),
        MEASURED: Truth(grid.depths, means, deviations),
    }


def simulate(
    truth: Truth, seeds: int, simulations: int, generator: np.random.Generator
) -> list[Counter[str]]:
    """Counts of verdicts, one counter a claim in the order (a) to (d)."""
    counts: list[Counter[str]] = [Counter() for _ in "abcd"]
    cells = list(truth.means)
    means, deviations = (
        np.array([numbers[cell] for cell in cells]) for numbers in (truth.means, truth.deviations)
    )
    for _ in range(simulations):
        drawn = np.clip(generator.normal(means, deviations, (seeds, len(cells))), 0.0, 1.0)
        errors = {
            (*cell, seed): float(drawn[seed, place])
            for place, cell in enumerate(cells)
            for seed in range(seeds)
        }
        grid = Grid(errors, truth.depths, tuple(range(seeds)), missing=(), diverged=())
        for counter, claim in zip(counts, check(grid), strict=True):
            counter[claim.verdict] += 1
    return counts


def power(grid: Grid, simulations: int = SIMULATIONS) -> list[Rate]:
    """Rates of every verdict under every scenario and number of seeds."""
    generator = np.random.default_rng(2015)
    rates = []
    for scenario, truth in truths(grid).items():
        for seeds in SEEDS:
            for letter, counter in zip(
                "abcd", simulate(truth, seeds, simulations, generator), strict=True
            ):
                reproduced, contradicted, open_ = (
                    counter[verdict] / simulations for verdict in VERDICTS
                )
                rates.append(
                    Rate(scenario, seeds, letter, reproduced, contradicted, open_, simulations)
                )
    return rates


def read_power(folder: Path) -> list[Rate]:
    """The rates in a results folder, none where they were not simulated."""
    return read_table(folder / POWER_TABLE, Rate)


def power_table(rates: Sequence[Rate]) -> list[list[str]]:
    """Share of sweeps in which each claim is called reproduced, and in brackets contradicted; under a row of headings."""
    rows = [["simulated truth", "seeds", *"abcd"]]
    for scenario, seeds in dict.fromkeys((rate.scenario, rate.seeds) for rate in rates):
        chosen = [rate for rate in rates if (rate.scenario, rate.seeds) == (scenario, seeds)]
        shares = [
            f"{100 * rate.reproduced:.1f} % ({100 * rate.not_reproduced:.1f} %)" for rate in chosen
        ]
        rows.append([scenario, f"{seeds}{' (directions)' if seeds == 1 else ''}", *shares])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes power.csv of the given folders; 1 and one line where one has too little to simulate from."""
    parser = argparse.ArgumentParser(
        description="Error rates of the verdicts, by simulation from committed records."
    )
    parser.add_argument("folders", type=Path, nargs="+", help="results/depth/<protocol>")
    for folder in parser.parse_args(arguments).folders:
        try:
            records = read_runs(folder)
        except ValueError as error:
            print(f"plainres: {error}", file=sys.stderr)
            return 1
        grid = complete_part(records, grid_of(records))
        if grid.missing or len(grid.seeds) < 2:
            print(
                f"plainres: {folder} has no grid of two seeds or more to simulate from",
                file=sys.stderr,
            )
            return 1
        rates = power(grid)
        write_table(folder / POWER_TABLE, rates, Rate)
        print("\n".join(columns(power_table(rates))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
