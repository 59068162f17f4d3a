"""How much of the scatter of running training errors is the seed, how much the machine?

Read are the rows of one configuration, wherever they were measured, with PyTorch's kernels: that of
config.json in results/machines/<protocol>. A machine is a processor, or a limited set of vector
instructions, with a version of PyTorch. The same configuration with its initial weights changed in
their last digit shows on one machine what another rounding does.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.conditions import conditions_of
from experiments.judging.errors import MARGIN, chance_error, error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.pairs import (
    Series,
    cell_of,
    counterparts,
    grouped,
    judge,
    means,
    measured_alike,
    require_same_images,
    shared_seeds,
)
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.machines.components import Place, log_ratios
from experiments.reporting import markdown
from plainres.records.files import CONFIG_FILE, read_config
from plainres.records.schema import Record

SLUG = "machines"
ARMS = ("plain", "residual")
PERTURBATION = 1e-7  # of the perturbed networks; conf/experiment/machines.yaml
CEILING = 0.05  # a network this close to guessing has no room to differ
HALF = 0.5  # "as much" would be a draw where it is true
TREATMENT = ("machine", "torch")  # what differs between machines
STARTS = ("perturbed", "exact")
POINTS_OF_MARGIN = f"{100 * MARGIN:g} points"

Network = tuple[str, int]  # arm, depth
CHAOTIC: Network = ("plain", 56)
RESIDUAL: tuple[Network, ...] = (("residual", 20), ("residual", 56))
STEADY: tuple[Network, ...] = (("plain", 20), ("residual", 56))


@dataclass(frozen=True)
class Part:
    """The rows of one configuration.

    Args:
        rows: one for each cell and machine, of plain and residual networks.
        perturbed: the same for networks with perturbed initial weights.
        repeated: how far the errors lie apart, for each cell measured again on one machine.
        left_out: rows of another precision than most.
    """

    rows: Sequence[Record]
    perturbed: Sequence[Record]
    repeated: Sequence[float]
    left_out: Sequence[Record]

    @property
    def records(self) -> list[Record]:
        return [*self.rows, *self.perturbed]

    @cached_property
    def networks(self) -> dict[Network, list[Record]]:
        """The rows by arm and depth."""
        rows = sorted(self.rows, key=lambda row: (*cell_of(row), machine_of(row)))
        return grouped(rows, network_of)

    @property
    def machines(self) -> list[str]:
        """From the machine with the most rows to that with the fewest."""
        return [name for name, _ in Counter(map(machine_of, self.rows)).most_common()]


def read(folder: Path) -> list[Part]:
    """The rows of the configuration that `folder` names, from the tables of all questions."""
    more = f"make sweep-depth PROTOCOL={folder.name} ARGS=kernels=library"
    advice = f"make sweep-{SLUG} measures some, {more} more"
    config = read_config(folder)
    if config is None:
        raise ValueError(f"no {CONFIG_FILE} in {folder}, so no rows; {advice}")
    changed = {**config, "protocol": {**config.get("protocol", {}), "perturbation": PERTURBATION}}
    found, perturbed = (
        [row for row in alike if row.arm in ARMS and _is_library(row)]
        for alike in (measured_alike(folder.parents[1], each) for each in (config, changed))
    )
    if not found:
        raise ValueError(f"no rows of the configuration in {folder / CONFIG_FILE}; {advice}")
    require_same_images(grouped([*found, *perturbed], machine_of))
    usual = Counter(map(_precision, found)).most_common(1)[0][0]
    rows, changed_rows = (
        _by_machine(row for row in each if _precision(row) == usual) for each in (found, perturbed)
    )
    errors = ([error_or_chance(row) for row in again] for again in rows if len(again) > 1)
    return [
        Part(
            [again[0] for again in rows],
            [again[0] for again in changed_rows],
            [max(each) - min(each) for each in errors],
            [row for row in found if _precision(row) != usual],
        )
    ]


def _is_library(row: Record) -> bool:
    """Whether a row has PyTorch's kernels, whose rounding depends on the processor."""
    return conditions_of(row).kernels == "library"


def _precision(row: Record) -> str:
    return conditions_of(row).precision


def _by_machine(rows: Iterable[Record]) -> list[list[Record]]:
    """The rows of each cell on each machine, the oldest first."""
    ordered = sorted(rows, key=lambda row: row.finished_at)
    return list(grouped(ordered, lambda row: (cell_of(row), machine_of(row))).values())


def machine_of(row: Record) -> str:
    """Processor or instruction set, and PyTorch's minor version."""
    conditions = conditions_of(row)
    return f"{conditions.machine}, torch {conditions.torch}"


def network_of(row: Record) -> Network:
    return row.arm, row.depth


def name_of(network: Network) -> str:
    arm, depth = network
    return f"{arm}-{depth}"


def label_of(part: Part) -> str:
    one_each = {cell_of(row): row for row in part.rows}
    count = len(part.machines)
    return f"{markdown.label_of([*one_each.values()])}, {count} machine{'s' * (count != 1)}"


def percent_of(row: Record) -> float:
    return 100 * error_or_chance(row)


def by_machine(rows: Iterable[Record]) -> dict[Place, float]:
    """The errors of one network in per cent, by seed and machine."""
    return {(row.seed, machine_of(row)): percent_of(row) for row in rows}


def by_start(changes: Series) -> dict[Place, float]:
    """The errors in per cent by seed and start, from what `over_starts` gives."""
    rows: Mapping[int, Sequence] = changes.rows
    pairs = {seed: zip(STARTS, both, strict=True) for seed, both in rows.items()}
    return {(seed, start): percent_of(row) for seed in pairs for start, row in pairs[seed]}


def distances(rows: Iterable[Record]) -> Series:
    """By seed, the mean difference of two rows of one network, a fraction; of seeds with several.

    Rows of one seed are of different machines, or starts.
    """
    several = {s: each for s, each in grouped(rows, lambda row: row.seed).items() if len(each) > 1}
    pairs = {seed: combinations(map(error_or_chance, each), 2) for seed, each in several.items()}
    return Series({s: statistics.fmean(abs(x - y) for x, y in pairs[s]) for s in pairs}, several)


def over_starts(exact: Sequence[Record], perturbed: Sequence[Record]) -> Series:
    """By seed, the difference of one network's errors with perturbed and with exact weights.

    Of rows of one machine, where there are any.
    """
    changed = counterparts(perturbed, exact)
    return distances([*changed, *counterparts(exact, changed)])


def check(part: Part) -> list[Claim]:
    """The three claims with their verdicts."""
    return verdict.corrected([_another_machine(part), _residual(part), _last_digit(part)])


def _another_machine(part: Part) -> Claim:
    name = name_of(CHAOTIC)
    statement = (
        f"{name}: the same seed on another machine differs by more than {POINTS_OF_MARGIN}, and at "
        "least half as much as another seed on the same machine"
    )
    if line := _no_room(part, [CHAOTIC]):
        return Claim(statement, INCONCLUSIVE, line)
    rows = part.networks[CHAOTIC]
    series = {f"{name} on another machine": distances(rows)}
    return _judge(statement, series, by_machine(rows), "another machine", TREATMENT)


def _residual(part: Part) -> Claim:
    statement = (
        f"{' and '.join(map(name_of, RESIDUAL))}: the same seed on another machine differs by less "
        f"than {POINTS_OF_MARGIN}"
    )
    if line := _no_room(part, RESIDUAL):
        return Claim(statement, INCONCLUSIVE, line)
    names = [f"{name_of(network)} on another machine" for network in RESIDUAL]
    changes = [distances(part.networks[network]) for network in RESIDUAL]
    series = dict(zip(names, changes, strict=True))
    seeds = shared_seeds(series, TREATMENT)
    return judge(statement, series, lambda: _small(series, seeds), treatment=TREATMENT)


def _last_digit(part: Part) -> Claim:
    networks = (CHAOTIC, *STEADY)
    chaotic, *steady = map(name_of, networks)
    statement = (
        f"initial weights changed by {PERTURBATION:g}, on one machine: {chaotic} differs by more "
        f"than {POINTS_OF_MARGIN}, and at least half as much as with another seed; "
        f"{' and '.join(steady)} by less than {POINTS_OF_MARGIN}"
    )
    if line := _no_room(part, networks):
        return Claim(statement, INCONCLUSIVE, line)
    changed = grouped(part.perturbed, network_of)
    changes = [over_starts(part.networks[each], changed.get(each, [])) for each in networks]
    names = [f"{name_of(network)} perturbed" for network in networks]
    series = dict(zip(names, changes, strict=True))
    return _judge(statement, series, by_start(changes[0]), "perturbed")


def _judge(
    statement: str,
    series: Mapping[str, Series],
    errors: Mapping[Place, float],
    changed: str,
    treatment: Sequence[str] = (),
) -> Claim:
    """The first series is large, beside the margin and beside the seeds; the others are small.

    Args:
        errors: of the network of the first series.
        changed: what its places beside the seed are.
    """
    seeds = shared_seeds(series, treatment)
    ratios = log_ratios({place: error for place, error in errors.items() if place[0] in seeds})
    if seeds and ratios is None:
        return Claim(statement, INCONCLUSIVE, f"too few seeds: {', '.join(map(str, seeds))}")
    large, *small = series

    def criteria() -> list[Criterion]:
        relative = Criterion(
            f"ln({changed} / another seed)",
            tuple(ratios or ()),
            math.log(HALF),
            unit="",
            median=False,
        )
        above = Criterion(large, tuple(series[large][seed] for seed in seeds), MARGIN)
        return [above, *_small({name: series[name] for name in small}, seeds), relative]

    def summary() -> str:
        times = math.exp(statistics.fmean(ratios or ()))
        return f"{means(criteria()[:-1])}; {times:.1f} times as much as another seed"

    return judge(statement, series, criteria, summary, treatment)


def _small(series: Mapping[str, Series], seeds: Sequence[int]) -> list[Criterion]:
    values = {name: tuple(each[seed] for seed in seeds) for name, each in series.items()}
    return [Criterion(name, each, MARGIN, above=False) for name, each in values.items()]


def _no_room(part: Part, networks: Iterable[Network]) -> str:
    """Names a network without rows, or whose errors cannot differ, at guessing or near 0."""
    for network in networks:
        rows = part.networks.get(network)
        if rows is None:
            return f"missing: {name_of(network)}"
        mean = statistics.fmean(map(error_or_chance, rows))
        if mean <= MARGIN or mean >= chance_error(rows[0].num_classes) - CEILING:
            return f"no room to differ: {name_of(network)} errs by {100 * mean:.2f} % on average"
    return ""
