"""What flows forward and backward in plain and residual networks: `python -m experiments.signal.claims results/signal`.

Each folder below results/signal is one scale with or without batch normalisation, <scale>-batch and <scale>-none. Values are compared
within seeds, which share weights at the start and batches; how a verdict follows from them: experiments.judging.verdict. Ratios are judged as
powers of ten. What is exactly 0 has none: a claim that needs it is inconclusive and names it, and no number is put in its place.
"""

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting.text import columns, tell
from plainres.records.files import read_runs, read_table
from plainres.records.schema import FINISHED, Record

PROBES_TABLE = "probes.csv"
SCALES = ("start", "start32", "start32_pytorch", "quick", "cpu")
NORMS = ("batch", "none")
ARMS = ("plain", "residual")
VANISHED = -1.0  # a tenth
EXPLODED = 1.0  # ten times
TRAINED_ITERATIONS = 1000  # below that a network is near its start
AFFORDABLE = 2.0  # per cent of the rest, with the looks that are taken where none are named
# The way back ends here and not at the stem: with batch normalisation that adds a factor that depth has no part in (results/signal, He's
# initialisation: 4 to 6 at 32×32, 1.5 to 2.2 at 8×8, in both arms), and in residual networks it alone lies in no branch.
BEHIND_STEM = 2

_powers = partial(Criterion, unit="powers of ten")
_percent = partial(Criterion, unit="%")
_number = partial(Criterion, unit="")  # standard deviations and correlations


@dataclass(frozen=True)
class ProbePoint:
    """A row of probes.csv (plainres.instruments.probes.ProbePoint)."""

    arm: str
    depth: int
    seed: int
    iteration: int
    layer: int
    response: float | None
    weight_gradient: float | None = None
    response_gradient: float | None = None
    dead: float | None = None
    correlation: float | None = None
    seconds: float | None = None


Look = Sequence[ProbePoint]  # one look at one network: the image, then layer after layer
Measure = Callable[[Look], float | None]


def gradient_gain(look: Look) -> float | None:
    """Gradient norm at the second layer's convolution over that at the last's, in powers of ten: negative where gradients vanish."""
    second, last = power(look[BEHIND_STEM].response_gradient), power(look[-1].response_gradient)
    return None if second is None or last is None else second - last


def weight_gradient(look: Look) -> float | None:
    """Norm of the gradient of the second layer's weights, as a power of ten."""
    return power(look[BEHIND_STEM].weight_gradient)


def last_response(look: Look) -> float | None:
    """Standard deviation of the last layer's response, as a power of ten."""
    return power(look[-1].response)


def mean_response(look: Look) -> float | None:
    """Mean over layers of the standard deviation of their responses."""
    return _mean([point.response for point in look[1:]])


def correlation(look: Look) -> float | None:
    """How alike gradients at neighbouring inputs are: 1 where they are the same, 0 where they have shattered."""
    return look[0].correlation


def dead(look: Look) -> float | None:
    """Fraction of channels, mean over layers, that are zero at every position of every image.

    None where a signal underflows: a response is 0 though not all ReLUs before it are dead, and all behind it look dead.
    """
    before: float | None = 0.0
    for point in look[1:]:
        if point.response == 0 and before != 1:
            return None
        before = point.dead
    return _mean([point.dead for point in look[1:]])


def power(value: float | None) -> float | None:
    """The decimal logarithm; None where there is no value, and of 0: a signal too small for the precision, or none."""
    return math.log10(value) if value else None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if len(present) == len(values) else None


class Wanted(NamedTuple):
    """One number a seed: a measure of a cell at its first look or, `at_end`, after its last iteration."""

    measure: Measure
    norm: str
    arm: str
    depth: int
    at_end: bool = False


@dataclass(frozen=True)
class Signal:
    """What was seen at one scale.

    Args:
        records, points: by norm, `batch` or `none`.
    """

    scale: str
    records: Mapping[str, Sequence[Record]]
    points: Mapping[str, Sequence[ProbePoint]]

    @cached_property
    def looks(self) -> dict[tuple[str, str, int, int], dict[int, list[ProbePoint]]]:
        """By norm, arm, depth and seed: iteration → look."""
        found: dict = defaultdict(lambda: defaultdict(list))
        for norm, points in self.points.items():
            for point in sorted(points, key=lambda point: (point.iteration, point.layer)):
                found[norm, point.arm, point.depth, point.seed][point.iteration].append(point)
        return {cell: dict(looks) for cell, looks in found.items()}

    @property
    def all_records(self) -> list[Record]:
        return [record for records in self.records.values() for record in records]

    @property
    def trained(self) -> bool:
        return any(record.iterations >= TRAINED_ITERATIONS for record in self.all_records)

    def depths(self, norm: str, arm: str) -> list[int]:
        """Of the networks that were looked at."""
        return sorted({cell[2] for cell in self.looks if cell[:2] == (norm, arm)})

    def by_seed(self, wanted: Wanted) -> dict[int, float]:
        """Values of the seeds that were looked at; none of any where one look has no number: the others' mean would hide it."""
        values = self._values(wanted)
        return (
            {}
            if None in values.values()
            else {seed: value for seed, value in values.items() if value is not None}
        )

    def without_number(self, wanted: Wanted) -> list[int]:
        """Seeds that were looked at and have no number: exactly 0 where a logarithm is wanted, or not finite."""
        return sorted(seed for seed, value in self._values(wanted).items() if value is None)

    def _values(self, wanted: Wanted) -> dict[int, float | None]:
        """By seed that was looked at; a run that diverged was not at its end."""
        ends = {
            record.seed: record.iterations
            for record in self.records.get(wanted.norm, ())
            if (record.arm, record.depth, record.status) == (wanted.arm, wanted.depth, FINISHED)
        }
        values: dict[int, float | None] = {}
        for (norm, arm, depth, seed), looks in self.looks.items():
            if (norm, arm, depth) == (wanted.norm, wanted.arm, wanted.depth):
                look = looks.get(ends.get(seed, -1) if wanted.at_end else 0)
                if look is not None:
                    values[seed] = wanted.measure(look)
        return values


def read_signals(folder: Path) -> list[Signal]:
    """What was seen at each scale, in the order of SCALES, scales of one's own last.

    Raises:
        ValueError: nothing was, or a table is damaged.
    """
    names = {
        path.parent.name.rpartition("-")[0]
        for norm in NORMS
        for path in folder.glob(f"*-{norm}/{PROBES_TABLE}")
    }
    if not names:
        raise ValueError(f"no probes in {folder}; make sweep-signal measures them")
    signals = []
    for scale in sorted(
        names, key=lambda name: (SCALES.index(name) if name in SCALES else len(SCALES), name)
    ):
        folders = {
            norm: folder / f"{scale}-{norm}"
            for norm in NORMS
            if (folder / f"{scale}-{norm}" / PROBES_TABLE).exists()
        }
        records = {norm: read_runs(path) for norm, path in folders.items()}
        points = {
            norm: read_table(path / PROBES_TABLE, ProbePoint) for norm, path in folders.items()
        }
        signals.append(Signal(scale, records, points))
    return signals


def check(signal: Signal) -> list[Claim]:
    """The claims about one scale; those about trained networks where they are trained. Corrected together where there are several seeds."""
    claims = [*_healthy(signal), _vanishing(signal), _shattering(signal)]
    if signal.trained:
        claims += [
            _smaller_with_shortcuts(signal),
            _smaller_with_depth(signal),
            _affordable(signal),
        ]
    return verdict.corrected(claims)


def _healthy(signal: Signal) -> list[Claim]:
    """Neither vanishing nor exploding: both are judged by the same numbers. Residual networks' stand beside the second."""
    statements = (
        "plain with batch normalisation: gradients do not vanish",
        "plain with batch normalisation: nor do they explode (healthy norms, in the paper's words)",
    )
    gains, weights = _backward(signal, "plain")
    values = _values(signal, [*gains, *weights]) if weights else None
    if values is None:
        what = "plain networks of two depths with batch normalisation"
        return [_missing(signal, statement, [*gains, *weights], what) for statement in statements]
    told = _told(gains, weights, values)
    claims = []
    for statement, bound, seen in zip(
        statements, (VANISHED, EXPLODED), (told, f"{told}; {_beside(signal)}"), strict=True
    ):
        above = bound == VANISHED
        criteria = [_powers(_name(wanted), values[wanted], bound, above) for wanted in gains]
        criteria.append(
            _powers(_between(weights), _differences(values, *reversed(weights)), bound, above)
        )
        claims.append(verdict.judge(statement, criteria, seen))
    return claims


def _backward(signal: Signal, arm: str) -> tuple[list[Wanted], list[Wanted]]:
    """With batch normalisation: the gains of every depth at each look, and the weights' gradients of both ends, none without two depths."""
    depths = signal.depths("batch", arm)
    gains = [
        Wanted(gradient_gain, "batch", arm, depth, at_end)
        for at_end in _looks(signal)
        for depth in depths
    ]
    return gains, [Wanted(weight_gradient, "batch", arm, depth) for depth in _ends(depths)]


def _beside(signal: Signal) -> str:
    """The same numbers of residual networks, which nobody calls unhealthy: what a bound is worth that they break as well."""
    gains, weights = _backward(signal, "residual")
    values = _values(signal, [*gains, *weights]) if weights else None
    if values is None:
        return "no residual networks to compare with"
    beyond = sum(statistics.fmean(values[wanted]) > EXPLODED for wanted in gains)
    return f"residual networks, not judged: {_told(gains, weights, values)}; {beyond} of their {len(gains)} gradients grow beyond ten times"


def _vanishing(signal: Signal) -> Claim:
    statement = "plain without batch normalisation: gradients vanish with depth"
    ends = _ends(signal.depths("none", "plain"))
    gains = [Wanted(gradient_gain, "none", "plain", depth) for depth in ends]
    weights = [Wanted(weight_gradient, "none", "plain", depth) for depth in ends]
    values = _values(signal, [*gains, *weights])
    if values is None:
        return _missing(
            signal,
            statement,
            [*gains, *weights],
            "plain networks of two depths without batch normalisation",
        )
    shallow, deep = gains
    criteria = [
        _powers(_name(deep), values[deep], VANISHED, above=False),
        _powers(_between(gains), _differences(values, deep, shallow), above=False),
        _powers(_between(weights), _differences(values, *reversed(weights)), VANISHED, above=False),
    ]
    return verdict.judge(statement, criteria, _told(gains, weights, values))


def _shattering(signal: Signal) -> Claim:
    statement = "gradients shatter with depth in plain networks, less with shortcuts (with batch normalisation, at the start)"
    depths = sorted(set(signal.depths("batch", "plain")) & set(signal.depths("batch", "residual")))
    pairs = {depth: [Wanted(correlation, "batch", arm, depth) for arm in ARMS] for depth in depths}
    wanted = [each for pair in pairs.values() for each in pair]
    values = _values(signal, wanted) if _ends(depths) else None
    if values is None:
        return _missing(
            signal, statement, wanted, "both arms at two depths with batch normalisation"
        )
    shallow, deep = _ends(depths)
    fall = _differences(values, pairs[shallow][0], pairs[deep][0])
    criteria = [_number(f"correlation, plain-{shallow} - plain-{deep}", fall)]
    criteria += [
        _number(
            f"correlation, residual-{depth} - plain-{depth}", _differences(values, *reversed(pair))
        )
        for depth, pair in pairs.items()
    ]
    return verdict.judge(
        statement, criteria, f"correlation of neighbours, {_arms_told(pairs, values)}"
    )


def _smaller_with_shortcuts(signal: Signal) -> Claim:
    statement = "trained, with batch normalisation: responses are smaller with shortcuts (Figure 7)"
    depths = sorted(set(signal.depths("batch", "plain")) & set(signal.depths("batch", "residual")))
    pairs = {
        depth: [Wanted(mean_response, "batch", arm, depth, at_end=True) for arm in ARMS]
        for depth in depths
    }
    wanted = [each for pair in pairs.values() for each in pair]
    values = _values(signal, wanted)
    if values is None:
        return _missing(signal, statement, wanted, "both arms trained with batch normalisation")
    criteria = [
        _number(f"plain-{depth} - residual-{depth}", _differences(values, *pair))
        for depth, pair in pairs.items()
    ]
    return verdict.judge(
        statement, criteria, f"mean standard deviation, {_arms_told(pairs, values)}"
    )


def _smaller_with_depth(signal: Signal) -> Claim:
    statement = "trained, with batch normalisation: the deeper the residual network, the smaller its responses (Figure 7)"
    ends = _ends(signal.depths("batch", "residual"))
    wanted = [Wanted(mean_response, "batch", "residual", depth, at_end=True) for depth in ends]
    values = _values(signal, wanted)
    if values is None:
        return _missing(
            signal,
            statement,
            wanted,
            "residual networks of two depths trained with batch normalisation",
        )
    criterion = _number(f"residual-{ends[0]} - residual-{ends[1]}", _differences(values, *wanted))
    seen = ", ".join(
        f"residual-{each.depth} {_number_told(statistics.fmean(values[each]))}" for each in wanted
    )
    return verdict.judge(statement, [criterion], f"mean standard deviation, {seen}")


def _affordable(signal: Signal) -> Claim:
    statement = "trained: looking takes less than 2 % of the time of training and evaluation, whatever the network"
    shares: dict[int, list[float]] = defaultdict(list)
    for seed, looked, rest in _spent(signal):
        shares[seed].append(100 * looked / rest)
    if not shares:
        return _missing(signal, statement, [], "networks that trained to their end")
    costliest = tuple(max(shares[seed]) for seed in sorted(shares))
    return verdict.judge(
        statement,
        [_percent("looking, the costliest cell of a seed", costliest, AFFORDABLE, above=False)],
        cost(signal),
    )


def _spent(signal: Signal) -> list[tuple[int, float, float]]:
    """Seed, seconds of looking and of the rest, of each cell that trained to its end; one that diverged had only the first, dense looks."""
    spent = []
    for norm, records in signal.records.items():
        for record in records:
            looks = signal.looks.get((norm, record.arm, record.depth, record.seed))
            if looks is not None and record.status == FINISHED:
                looked = sum(look[0].seconds or 0.0 for look in looks.values())
                spent.append((record.seed, looked, record.seconds - looked))
    return spent


def _looks(signal: Signal) -> list[bool]:
    return [False, True] if signal.trained else [False]


def _ends(depths: Sequence[int]) -> list[int]:
    """The shallowest and the deepest; none where there are not two."""
    return [depths[0], depths[-1]] if len(depths) > 1 else []


def _values(signal: Signal, wanted: Sequence[Wanted]) -> dict[Wanted, tuple[float, ...]] | None:
    """The values of each, over the seeds that have all of them; None where there is no such seed, or nothing is wanted."""
    found = {each: signal.by_seed(each) for each in wanted}
    seeds = sorted(set.intersection(*(set(values) for values in found.values()))) if found else []
    return (
        {each: tuple(values[seed] for seed in seeds) for each, values in found.items()}
        if seeds
        else None
    )


def _differences(
    values: Mapping[Wanted, Sequence[float]], one: Wanted, other: Wanted
) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(values[one], values[other], strict=True))


def _missing(signal: Signal, statement: str, wanted: Sequence[Wanted], what: str) -> Claim:
    lacking = {
        f"{each.arm}-{each.depth}": seeds
        for each in wanted
        if (seeds := signal.without_number(each))
    }
    if not lacking:
        return Claim(statement, INCONCLUSIVE, f"missing: {what}")
    told = "; ".join(
        f"{network} (seeds {', '.join(map(str, seeds))})" for network, seeds in lacking.items()
    )
    return Claim(
        statement, INCONCLUSIVE, f"no number to judge by: exactly 0 or not finite in {told}"
    )


def _name(wanted: Wanted) -> str:
    return (
        f"second / last layer, {wanted.arm}-{wanted.depth}, {'end' if wanted.at_end else 'start'}"
    )


def _between(ends: Sequence[Wanted]) -> str:
    what = (
        "second / last layer" if ends[0].measure is gradient_gain else "weights of the second layer"
    )
    return f"{what}, {ends[0].arm}-{ends[1].depth} / {ends[0].arm}-{ends[0].depth}, start"


def _told(
    gains: Sequence[Wanted], weights: Sequence[Wanted], values: Mapping[Wanted, Sequence[float]]
) -> str:
    """Gradient at the second layer over that at the last, network by network; that of the second layer's weights from end to end."""
    parts = []
    for at_end, name in ((False, "at the start"), (True, "at the end")):
        told = [
            f"{each.arm}-{each.depth} {_factor(statistics.fmean(values[each]))}"
            for each in gains
            if each.at_end == at_end
        ]
        if told:
            parts.append(f"{name} {', '.join(told)}")
    factor = _factor(statistics.fmean(_differences(values, *reversed(weights))))
    between = f"weights of the second layer from {weights[0].depth} to {weights[1].depth} layers: {factor}"
    return f"from the last layer to the second the gradient changes {'; '.join(parts)}; {between}"


def _arms_told(
    pairs: Mapping[int, Sequence[Wanted]], values: Mapping[Wanted, Sequence[float]]
) -> str:
    def told(pair: Sequence[Wanted]) -> str:
        return ", ".join(
            f"{each.arm} {_number_told(statistics.fmean(values[each]))}" for each in pair
        )

    return "; ".join(f"{depth} layers: {told(pair)}" for depth, pair in pairs.items())


def _number_told(value: float) -> str:
    """A standard deviation or correlation; those of a network that has blown up reach 1e26."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.2g}"


def _factor(power: float) -> str:
    return f"×{10**power:.2g}"


def table(signal: Signal) -> list[list[str]]:
    """One line a network under a row of headings; means over seeds, those of ratios taken of their powers of ten."""
    heads = ["last response", "gradient second / last", "weight gradient", "correlation", "dead %"]
    ends = (
        ["end: mean response", "end: gradient second / last", "end: correlation", "end: dead %"]
        if signal.trained
        else []
    )
    lines = [["norm", "network", "seeds", *heads, *ends]]
    start: list[Measure] = [last_response, gradient_gain, weight_gradient, correlation, dead]
    end: list[Measure] = [mean_response, gradient_gain, correlation, dead] if signal.trained else []
    for norm in NORMS:
        for arm in ARMS:
            for depth in signal.depths(norm, arm):
                seeds = {cell[3] for cell in signal.looks if cell[:3] == (norm, arm, depth)}
                wanted = [Wanted(measure, norm, arm, depth) for measure in start]
                wanted += [Wanted(measure, norm, arm, depth, at_end=True) for measure in end]
                lines.append(
                    [
                        norm,
                        f"{arm}-{depth}",
                        str(len(seeds)),
                        *(_cell(each.measure, signal.by_seed(each)) for each in wanted),
                    ]
                )
    return lines


def _cell(measure: Measure, by_seed: Mapping[int, float]) -> str:
    if not by_seed:
        return "–"
    mean = statistics.fmean(by_seed.values())
    if measure is dead:
        return f"{100 * mean:.1f}"
    return _number_told(mean) if measure in (mean_response, correlation) else f"{10**mean:.2g}"


def cost(signal: Signal) -> str:
    """Share of the training time that went into looking, in cells that trained to their end, as one sentence."""
    if not signal.trained:
        return "looking: these cells do nothing else"
    spent = _spent(signal)
    if not spent:
        return "looking: no cell trained to its end"
    shares = [looked / rest for _, looked, rest in spent]
    looked_in_all, rest_in_all = (
        sum(looked for _, looked, _ in spent),
        sum(rest for _, _, rest in spent),
    )
    return (
        f"looking: {looked_in_all:.1f} seconds beside {rest_in_all:,.0f} of training and evaluation, {looked_in_all / rest_in_all:.2%} "
        f"(a cell: {min(shares):.2%} to {max(shares):.2%})"
    )


def _report(folder: Path) -> tuple[list[str], int]:
    lines, judged = [], []
    for signal in read_signals(folder):
        claims = check(signal)
        labels = ", ".join(sorted({record.data_label for record in signal.all_records}))
        lines += [
            f"{signal.scale} ({labels})",
            *columns(table(signal)),
            "",
            *verdict.lines(claims),
            cost(signal),
            "",
        ]
        judged += claims
    return lines, verdict.status(judged)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table, verdicts and cost of each scale; 1 when a claim is not reproduced, 2 and one line where there is nothing to judge."""
    return tell(_report, "What flows forward and backward.", "results/signal", arguments)


if __name__ == "__main__":
    sys.exit(main())
