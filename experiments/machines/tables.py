"""What is shown of the scatter over seeds and machines."""

import math
import statistics
from collections.abc import Sequence

from experiments.judging.inference import Criterion
from experiments.judging.pairs import grouped
from experiments.machines.claims import (
    PERTURBATION,
    Part,
    by_machine,
    by_start,
    distances,
    machine_of,
    name_of,
    network_of,
    over_starts,
    percent_of,
)
from experiments.machines.components import components, deviation, interval_factors, log_ratios
from experiments.reporting.question import Table
from experiments.reporting.text import mean_and_deviation
from plainres.records.schema import Record

FEWEST = 3  # seeds on several machines; with fewer, components are not shown
COMPONENTS = ("seed", "machine", "seed × machine")
RATIO = "ratio [95 %]"


def tables(part: Part) -> list[Table]:
    shown = [_scatter(part), _errors(part)]
    return [*shown, _perturbed(part)] if part.perturbed else shown


def _scatter(part: Part) -> Table:
    """One row per network: deviations between pairs of rows, and their components."""
    heads = ["network", "seeds", "machines", "all rows", "over machines", "over seeds"]
    table = [[*heads, RATIO, *COMPONENTS]]
    for network, rows in part.networks.items():
        several = distances(rows)
        found = components(by_machine(rows))
        estimates = ["–"] * len(COMPONENTS)
        if len(several) >= FEWEST and found.variances is not None:
            estimates = [f"{math.sqrt(max(0.0, each)):.2f}" for each in found.variances]
        counts = [len({row.seed for row in rows}), len({machine_of(row) for row in rows})]
        errors = [percent_of(row) for row in rows]
        spread = f"{statistics.stdev(errors):.2f}" if len(errors) > 1 else "–"
        between = [_between(each) for each in (found.same_seed, found.same_machine)]
        shared = log_ratios(by_machine(row for row in rows if row.seed in several))
        text = [name_of(network), *map(str, counts), spread, *between, _ratio(shared), *estimates]
        table.append(text)
    title = "Standard deviations of running training errors, in points"
    legend = (
        "*Over machines*: within a seed; *over seeds*: on one machine (in brackets: pairs of "
        "rows). The ratio of the two is over the seeds that several machines have."
    )
    return Table(title, table, [legend, _few_machines(part)], name="scatter")


def _between(half_squares: list[float]) -> str:
    return f"{deviation(half_squares):.2f} ({len(half_squares)})" if half_squares else "–"


def _ratio(logarithms: Sequence[float] | None) -> str:
    if logarithms is None:
        return "–"
    criterion = Criterion("", tuple(logarithms))
    assert criterion.interval is not None
    times = [math.exp(each) for each in (criterion.mean, *criterion.interval)]
    ratio, low, high = (f"{each:.2f}" if each < 10 else f"{each:.0f}" for each in times)
    return f"{ratio} [{low}, {high}]"


def _few_machines(part: Part) -> str:
    """How little a standard deviation over so many machines is known."""
    networks = part.networks.values()
    counts = sorted({len({machine_of(row) for row in rows}) for rows in networks} - {1})
    if not counts:
        return "One machine: nothing is known about others."
    intervals = []
    for count in counts:
        low, high = interval_factors(count)
        intervals.append(f"of {count} machines from {low:.1f} to {high:.1f} times the estimate")
    return (
        f"No components where fewer than {FEWEST} seeds have several machines. Machines are few: "
        f"at best the 95 % interval of a deviation goes, {', '.join(intervals)}."
    )


def _errors(part: Part) -> Table:
    """Mean ± standard deviation over seeds of each network, on each machine and on all."""
    table = [["network", *part.machines, "all rows"]]
    for network, rows in part.networks.items():
        on = grouped(rows, machine_of)
        cells = [_mean(on[name]) if name in on else "–" for name in part.machines]
        table.append([name_of(network), *cells, _mean(rows)])
    return Table("Running training error in %, mean ± standard deviation", table)


def _mean(rows: Sequence[Record]) -> str:
    return f"{mean_and_deviation([percent_of(row) for row in rows])} (n = {len(rows)})"


def _perturbed(part: Part) -> Table:
    """One row per network: what a change of the initial weights' last digit does."""
    table = [["network", "seeds", "exact", "perturbed", "over starts", "over seeds", RATIO]]
    for network, changed in sorted(grouped(part.perturbed, network_of).items()):
        both = by_start(over_starts(part.networks.get(network, []), changed))
        if not both:
            continue
        found = components(both)
        columns = grouped(both, lambda place: place[1])
        means = [mean_and_deviation([both[place] for place in each]) for each in columns.values()]
        between = [_between(each) for each in (found.same_seed, found.same_machine)]
        seeds = str(len(both) // 2)
        row = [name_of(network), seeds, *reversed(means), *between, _ratio(log_ratios(both))]
        table.append(row)
    title = (
        f"Initial weights changed by {PERTURBATION:g}, on one machine: running training error in %"
    )
    note = (
        "*Over starts*: standard deviation between exact and perturbed, within a seed, in points."
    )
    return Table(title, table, [note])


def notes(part: Part) -> list[str]:
    sentences = [
        "Seeds and machines are crossed. Half the mean squared difference of one seed on two "
        "machines estimates the variances of machine and seed × machine together; that of two "
        "seeds on one machine those of seed and seed × machine; that of two seeds on two machines "
        "all three. The components follow from these; a negative variance counts as 0. `seed × "
        "machine` is what neither the seed nor the machine alone explains: as far as it goes, the "
        "same seed on another machine is like another seed."
    ]
    if part.repeated:
        count = len(part.repeated)
        sentences.append(
            f"{count} cell{'s were' if count != 1 else ' was'} measured again on the same machine; "
            f"the largest difference is {100 * max(part.repeated):.2f} points."
        )
    if part.left_out:
        names = ", ".join(f"{row.cell} ({row.precision})" for row in part.left_out)
        sentences.append(f"Left out, of another precision: {names}.")
    return sentences
