"""What flows forward and backward in plain and residual networks?

Each folder below results/signal is one scale with or without batch normalisation: <scale>-batch and
<scale>-none. Values are compared within seeds, which share initial weights and batches. Ratios are
judged as powers of ten. A value of exactly 0 has none: a claim that needs it is inconclusive and
names the network; no number is put in its place.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from experiments.judging import pairs, verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Series, cell_of, grouped
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.identity import cell_name
from plainres.records.rows import ProbePoint
from plainres.records.schema import FINISHED, Record

PROBES_TABLE = "probes.csv"
SCALES = ("start", "start32", "start32_pytorch", "quick", "cpu")
NORMS = ("batch", "none")
ARMS = ("plain", "residual")
VANISHED = -1.0  # a tenth
EXPLODED = 1.0  # ten times
POWER_MARGIN = math.log10(2)  # of gradients: a smaller factor than 2 is no difference
RESPONSE_MARGIN = 0.1  # a tenth of a response at the start, which batch normalisation makes 1
CORRELATION_MARGIN = 0.1  # of a scale from 0 to 1
TRAINED_ITERATIONS = 1000  # with fewer a network is near its start
AFFORDABLE = 2.0  # per cent of training and evaluation, at the default iterations of the probes
TWO_DEPTHS = "plain networks of two depths with batch normalisation"
# Statement, and what is missing where it cannot be judged
CLAIMS = {
    "not_vanishing": ("plain with batch normalisation: gradients do not vanish", TWO_DEPTHS),
    "not_exploding": (
        "plain with batch normalisation: gradients do not explode (healthy norms, in the paper's "
        "words)",
        TWO_DEPTHS,
    ),
    "vanishing": (
        "plain without batch normalisation: gradients vanish with depth",
        "plain networks of two depths without batch normalisation",
    ),
    "shattering": (
        "gradients shatter with depth in plain networks, less with shortcuts (with batch "
        "normalisation, at the start)",
        "both arms at two depths with batch normalisation",
    ),
    "smaller": (
        "trained, with batch normalisation: responses are smaller with shortcuts (Figure 7)",
        "both arms trained with batch normalisation",
    ),
    "smaller_with_depth": (
        "trained, with batch normalisation: the deeper the residual network, the smaller its "
        "responses (Figure 7)",
        "residual networks of two depths trained with batch normalisation",
    ),
    "affordable": (
        "trained: probes take less than 2 % of the time of training and evaluation",
        "networks that trained to their end",
    ),
}
# The way back ends at the second layer and not at the stem: with batch normalisation the stem adds
# a factor that does not depend on depth (results/signal, He's initialisation: 4 to 5 at 32×32, 1.6
# to 2.0 at 8×8, in both arms), and in residual networks it alone lies in no branch.
BEHIND_STEM = 2


Snapshot = Sequence[ProbePoint]  # one network at one iteration: the image, then layer after layer
Measure = Callable[[Snapshot], float | None]


def gradient_gain(snapshot: Snapshot) -> float | None:
    """Gradient norm at the second layer's output over that at the last one's, in powers of ten.

    Negative where gradients vanish.
    """
    second = power(snapshot[BEHIND_STEM].response_gradient)
    last = power(snapshot[-1].response_gradient)
    return None if second is None or last is None else second - last


def weight_gradient(snapshot: Snapshot) -> float | None:
    """Norm of the gradient of the second layer's weights, as a power of ten."""
    return power(snapshot[BEHIND_STEM].weight_gradient)


def last_response(snapshot: Snapshot) -> float | None:
    """Standard deviation of the last layer's response, as a power of ten."""
    return power(snapshot[-1].response)


def mean_response(snapshot: Snapshot) -> float | None:
    """Mean over layers of the standard deviation of their responses."""
    return _mean([point.response for point in snapshot[1:]])


def correlation(snapshot: Snapshot) -> float | None:
    """Correlation of gradients at neighbouring inputs: 1 where equal, 0 where they shattered."""
    return snapshot[0].correlation


def dead(snapshot: Snapshot) -> float | None:
    """Fraction of channels, mean over layers, that are zero at every position of every image.

    None where a signal underflows: a response is 0 although not all ReLUs before it are dead, and
    all behind it look dead.
    """
    before: float | None = 0.0
    for point in snapshot[1:]:
        if point.response == 0 and before != 1:
            return None
        before = point.dead
    return _mean([point.dead for point in snapshot[1:]])


def power(value: float | None) -> float | None:
    """The decimal logarithm; None for no value, and for 0: no signal, or one that underflows."""
    return math.log10(value) if value else None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if len(present) == len(values) else None


POWERS = (gradient_gain, weight_gradient, last_response)  # measured in powers of ten
NAMES: dict[Measure, str] = {
    gradient_gain: "gradient second / last layer",
    weight_gradient: "weight gradient of the second layer",
    mean_response: "mean response",
    correlation: "correlation",
}


class Quantity(NamedTuple):
    """One number per seed: a measure of a network before the first update or after the last."""

    measure: Measure
    norm: str
    arm: str
    depth: int
    at_end: bool = False

    @property
    def network(self) -> str:
        return f"{self.arm}-{self.depth}"


Values = Mapping[Quantity, Sequence[float]]  # over the same seeds


class Comparison(NamedTuple):
    """A quantity, or its difference from another one, against a bound."""

    one: Quantity
    other: Quantity | None
    bound: float
    above: bool = True

    @property
    def quantities(self) -> list[Quantity]:
        return [self.one] if self.other is None else [self.one, self.other]

    def criterion(self, values: Values) -> Criterion:
        """Over the seeds of `values`."""
        measure, networks, numbers = self.one.measure, self.one.network, values[self.one]
        if self.other is not None:
            networks += f" {'/' if measure in POWERS else '-'} {self.other.network}"
            numbers = [a - b for a, b in zip(numbers, values[self.other], strict=True)]
        name = f"{NAMES[measure]}, {networks}, {'end' if self.one.at_end else 'start'}"
        unit = "powers of ten" if measure in POWERS else ""
        return Criterion(name, tuple(numbers), self.bound, self.above, unit)


@dataclass(frozen=True)
class Signal:
    """What was measured at one scale."""

    scale: str
    records: Mapping[str, Sequence[Record]]  # by norm, `batch` or `none`
    # By norm, arm, depth and seed: iteration → snapshot
    snapshots: Mapping[tuple[str, str, int, int], Mapping[int, Snapshot]]

    @property
    def all_records(self) -> list[Record]:
        return [record for records in self.records.values() for record in records]

    @cached_property
    def cells(self) -> Mapping[tuple[str, str, int, int], Record]:
        """By norm, arm, depth and seed."""
        return {(norm, *cell_of(row)): row for norm, rows in self.records.items() for row in rows}

    @property
    def trained(self) -> bool:
        return any(record.iterations >= TRAINED_ITERATIONS for record in self.all_records)

    def depths(self, norm: str, arm: str) -> list[int]:
        """Of the networks that were measured."""
        return sorted({cell[2] for cell in self.snapshots if cell[:2] == (norm, arm)})

    def by_seed(self, norm: str, arm: str, depth: int, at_end: bool = False) -> dict[int, Snapshot]:
        """The snapshots before the first update, or after the last one of runs that finished."""
        finished = [record for record in self.records.get(norm, ()) if record.status == FINISHED]
        ends = {cell_of(record): record.iterations for record in finished}
        first_or_last = {}
        for (*network, seed), snapshots in self.snapshots.items():
            iteration = ends.get((arm, depth, seed), -1) if at_end else 0
            if network == [norm, arm, depth] and iteration in snapshots:
                first_or_last[seed] = snapshots[iteration]
        return first_or_last

    def numbers(self, quantity: Quantity) -> dict[int, float | None]:
        """By seed; None where a value is not finite, or 0 where a logarithm is needed."""
        snapshots = self.by_seed(quantity.norm, quantity.arm, quantity.depth, quantity.at_end)
        return {seed: quantity.measure(snapshot) for seed, snapshot in snapshots.items()}

    def series(self, quantity: Quantity) -> Series:
        """By seed; empty where any seed has no number: the mean of the others would hide it."""
        numbers, network = self.numbers(quantity), (quantity.norm, quantity.arm, quantity.depth)
        present = {seed: value for seed, value in numbers.items() if value is not None}
        if len(present) < len(numbers):
            present = {}
        return Series(present, {seed: [self.cells[(*network, seed)]] for seed in present})

    def networks(self, quantities: Sequence[Quantity]) -> dict[str, Series]:
        """One series for each network, over the seeds that have all of its quantities."""
        networks = {}
        ordered = sorted(quantities, key=lambda quantity: (quantity.depth, quantity.arm))
        for name, own in grouped(ordered, lambda quantity: quantity.network).items():
            first, *others = map(self.series, own)
            seeds = [seed for seed in first if all(seed in each for each in others)]
            values = {seed: first[seed] for seed in seeds}
            networks[name] = Series(values, {seed: first.rows[seed] for seed in seeds})
        return networks

    def values(self, quantities: Sequence[Quantity]) -> Values:
        """The values of each, over the seeds that all networks have under the same conditions."""
        seeds = pairs.shared_seeds(self.networks(quantities))
        series = {quantity: self.series(quantity) for quantity in quantities}
        return {quantity: tuple(each[seed] for seed in seeds) for quantity, each in series.items()}


def read(folder: Path) -> list[Signal]:
    """What was measured at each scale, in the order of SCALES, other scales last.

    Folders are <scale>-<norm>, or parts of one: <scale>-<norm>-<part>, as quick-none-plain-seed9.
    """
    tables = pairs.read_folders(folder, "sweep-signal")
    records: dict[str, dict[str, list[Record]]] = {}  # by scale and norm
    snapshots: dict[str, dict[tuple[str, str, int, int], dict[int, list[ProbePoint]]]] = {}
    for name, rows in tables.items():
        scale, norm, *_ = *name.split("-"), ""
        if norm not in NORMS or not (folder / name / PROBES_TABLE).exists():
            continue
        points = pairs.read_beside(folder / name / PROBES_TABLE, ProbePoint, rows)
        points.sort(key=lambda point: (point.iteration, point.layer))
        own = snapshots.setdefault(scale, {})
        for cell, of_cell in grouped(points, cell_of).items():
            if (norm, *cell) in own:
                raise ValueError(f"{folder} has {cell_name(*cell)} of {scale}-{norm} twice")
            own[(norm, *cell)] = grouped(of_cell, lambda point: point.iteration)
        records.setdefault(scale, {}).setdefault(norm, []).extend(rows)
    if not records:
        raise ValueError(f"no probes in {folder}; make sweep-signal measures them")
    order = [*SCALES, *sorted(records.keys() - set(SCALES))]
    return [
        Signal(scale, dict(sorted(records[scale].items())), snapshots[scale])
        for scale in order
        if scale in records
    ]


def label_of(signal: Signal) -> str:
    return markdown.label_of(signal.all_records, f"scale {signal.scale}")


def check(signal: Signal) -> list[Claim]:
    """The claims about one scale, corrected together where there are several seeds.

    Those about trained networks only where networks are trained.
    """
    plain, residual = (signal.depths("batch", arm) for arm in ARMS)
    both = [depth for depth in plain if depth in residual]
    correlation_of = partial(Quantity, correlation, "batch")
    ends = [correlation_of("plain", depth) for depth in _ends(both)]
    shattering = _falls(ends, CORRELATION_MARGIN) + [
        Comparison(correlation_of("residual", d), correlation_of("plain", d), CORRELATION_MARGIN)
        for d in (both if ends else ())
    ]
    claims = [
        _judge(signal, "not_vanishing", _backward(signal, "plain", VANISHED, above=True)),
        _judge(signal, "not_exploding", _backward(signal, "plain", EXPLODED), _residual(signal)),
        _judge(signal, "vanishing", _vanishing(signal)),
        _judge(signal, "shattering", shattering),
    ]
    if signal.trained:
        response_of = partial(Quantity, mean_response, "batch", at_end=True)
        ends = [response_of("residual", depth) for depth in _ends(residual)]
        deeper = _falls(ends, RESPONSE_MARGIN)
        smaller = [
            Comparison(response_of("plain", d), response_of("residual", d), RESPONSE_MARGIN)
            for d in both
        ]
        claims.append(_judge(signal, "smaller", smaller))
        claims += [_judge(signal, "smaller_with_depth", deeper), _affordable(signal)]
    return verdict.corrected(claims)


def _judge(signal: Signal, name: str, comparisons: Sequence[Comparison], beside: str = "") -> Claim:
    """A claim over the seeds that have all quantities; `beside` ends the summary."""
    statement, required = CLAIMS[name]
    if not comparisons:
        return Claim(statement, INCONCLUSIVE, f"missing: {required}")
    quantities = [quantity for each in comparisons for quantity in each.quantities]
    without = {}
    for quantity in quantities:
        numbers = signal.numbers(quantity)
        if seeds := sorted(seed for seed, number in numbers.items() if number is None):
            without[quantity.network] = f"{quantity.network} (seeds {', '.join(map(str, seeds))})"
    if without:
        reason = f"no number to judge: exactly 0 or not finite in {'; '.join(without.values())}"
        return Claim(statement, INCONCLUSIVE, reason)
    values = signal.values(quantities)
    depths = sorted({quantity.depth for quantity in quantities})
    return pairs.judge(
        f"{statement} ({', '.join(map(str, depths))} layers)",
        signal.networks(quantities),
        lambda: [each.criterion(values) for each in comparisons],
        lambda: _means(values) + beside,
    )


def _falls(ends: Sequence[Quantity], margin: float) -> list[Comparison]:
    """From the shallowest to the deepest network; none where there are not two."""
    return [Comparison(ends[0], ends[1], margin)] if ends else []


def _ends(depths: Sequence[int]) -> list[int]:
    """The shallowest and the deepest; none where there are not two."""
    return [depths[0], depths[-1]] if len(depths) > 1 else []


def _backward(signal: Signal, arm: str, bound: float, above: bool = False) -> list[Comparison]:
    """With batch normalisation: the gains of every depth, and the weights' gradients of both ends.

    None of either where there are not two depths.
    """
    depths = signal.depths("batch", arm)
    if not (ends := _ends(depths)):
        return []
    times = [False, True] if signal.trained else [False]
    gains = [Quantity(gradient_gain, "batch", arm, d, at_end) for at_end in times for d in depths]
    shallow, deep = (Quantity(weight_gradient, "batch", arm, depth) for depth in ends)
    rise = Comparison(deep, shallow, bound, above)
    return [*(Comparison(gain, None, bound, above) for gain in gains), rise]


def _residual(signal: Signal) -> str:
    """The same numbers of residual networks, of which the paper does not complain.

    They show what a bound is worth that they exceed as well.
    """
    comparisons = _backward(signal, "residual", EXPLODED)
    values = signal.values([quantity for each in comparisons for quantity in each.quantities])
    if not all(values.values()) or not values:
        return "; no residual networks to compare with"
    gains = [statistics.fmean(values[q]) for q in values if q.measure is gradient_gain]
    beyond = f"{sum(gain > EXPLODED for gain in gains)} of their {len(gains)} gradients"
    return f"; residual networks, not judged: {_means(values)}; {beyond} are above ten times"


def _vanishing(signal: Signal) -> list[Comparison]:
    if not (ends := _ends(signal.depths("none", "plain"))):
        return []
    shallow, deep = (Quantity(gradient_gain, "none", "plain", depth) for depth in ends)
    weights = [Quantity(weight_gradient, "none", "plain", depth) for depth in ends]
    return [
        Comparison(deep, None, VANISHED, above=False),
        Comparison(deep, shallow, -POWER_MARGIN, above=False),
        Comparison(weights[1], weights[0], VANISHED, above=False),
    ]


def _affordable(signal: Signal) -> Claim:
    statement, required = CLAIMS["affordable"]
    by_seed = grouped(sorted(_seconds(signal)), lambda cell: cell[0])
    if not by_seed:
        return Claim(statement, INCONCLUSIVE, f"missing: {required}")
    cells = [cell for own in by_seed.values() for cell in own]
    if unclear := {seed for seed, _, training in cells if training <= 0}:
        seeds = ", ".join(map(str, sorted(unclear)))
        reason = f"seconds of probes are missing, or more than those of the cell: seed {seeds}"
        return Claim(statement, INCONCLUSIVE, reason)
    shares = ([100 * probing / training for _, probing, training in c] for c in by_seed.values())
    costliest = tuple(map(max, shares))
    name = "probes, the costliest cell of each seed"
    criterion = Criterion(name, costliest, AFFORDABLE, above=False, unit="%")
    return verdict.judge(statement, [criterion], cost(signal))


def _seconds(signal: Signal) -> list[tuple[int, float, float]]:
    """Seed, seconds of probes and of training and evaluation, of each cell that finished.

    One that diverged had only the first snapshots, which lie close together.
    """
    seconds = []
    for norm, records in signal.records.items():
        for record in records:
            snapshots = signal.snapshots.get((norm, *cell_of(record)))
            if snapshots is not None and record.status == FINISHED:
                each = [snapshot[0].seconds for snapshot in snapshots.values()]
                probing = math.inf if None in each else sum(filter(None, each))
                seconds.append((record.seed, probing, record.seconds - probing))
    return seconds


def _means(values: Values) -> str:
    """Means over seeds, network by network, of each measure at the start and at the end."""
    groups: dict[tuple[Measure, bool], list[str]] = {}
    for quantity in sorted(values, key=lambda quantity: (quantity.depth, quantity.arm)):
        mean = _text(quantity.measure, statistics.fmean(values[quantity]))
        group = groups.setdefault((quantity.measure, quantity.at_end), [])
        group.append(f"{quantity.network} {mean}")
    parts = []
    for (measure, at_end), networks in sorted(groups.items(), key=lambda item: item[0][1]):
        parts.append(f"{NAMES[measure]}, {'end' if at_end else 'start'}: {', '.join(networks)}")
    return "; ".join(parts)


def _text(measure: Measure, mean: float) -> str:
    """A mean for a reader; responses of a network that has blown up reach 1e31."""
    if measure is dead:
        return f"{100 * mean:.1f}"
    if measure in POWERS:
        return f"{10**mean:.2g}"
    return f"{mean:.3f}" if abs(mean) < 100 else f"{mean:.2g}"


def table(signal: Signal) -> Table:
    """One row per network; means over seeds, those of ratios taken of their powers of ten."""
    heads = ["last response", "gradient second / last", "weight gradient", "correlation", "dead %"]
    starts = (last_response, gradient_gain, weight_gradient, correlation, dead)
    measures: list[tuple[Measure, bool]] = [(measure, False) for measure in starts]
    if signal.trained:
        heads += [f"end: {name}" for name in ("mean response", heads[1], *heads[3:])]
        ends = (mean_response, gradient_gain, correlation, dead)
        measures += [(measure, True) for measure in ends]
    rows = [["norm", "network", "seeds", *heads]]
    for norm, arm, depth in sorted({cell[:3] for cell in signal.snapshots}):
        seeds = sum(cell[:3] == (norm, arm, depth) for cell in signal.snapshots)
        quantities = [Quantity(measure, norm, arm, depth, end) for measure, end in measures]
        series = {each: signal.series(each).values() for each in quantities}
        ended = max((len(series[each]) for each in quantities if each.at_end), default=seeds)
        count = f"{seeds} (end: {ended})" if 0 < ended < seeds else f"{seeds}"
        row = [norm, f"{arm}-{depth}", count]
        for each, values in series.items():
            row.append(_text(each.measure, statistics.fmean(values)) if values else "–")
        rows.append(row)
    return Table("", rows, [f"{cost(signal)}."])


def cost(signal: Signal) -> str:
    """What the probes took beside training, in cells that finished, as one sentence."""
    if not signal.trained:
        return "Probes: these cells do nothing else"
    seconds = _seconds(signal)
    if not seconds:
        return "Probes: no cell trained to its end"
    shares = [probing / training for _, probing, training in seconds]
    probing, training = (sum(column) for column in list(zip(*seconds, strict=True))[1:])
    return (
        f"Probes: {probing:.1f} seconds; training and evaluation: {training:,.0f} "
        f"({probing / training:.2%}; per cell {min(shares):.2%} to {max(shares):.2%})"
    )
