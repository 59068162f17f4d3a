"""Is it the shortcut, or is it what the shortcut does to the gradient?

Each folder below results/cures is one protocol and one network of conf/variants/cure.yaml:
<protocol>-<cure>. Judged on running training error; a diverged run counts as a network at chance.
The growth of gradients is that between the outputs of the last and the first block before the first
update (plainres.instruments.backward_gain), as a power of ten. The criteria were registered before
measurement (docs/registered.md).
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from scipy.stats import spearmanr

from experiments.judging import pairs, verdict
from experiments.judging.errors import MARGIN
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Series, cell_of, grouped
from experiments.judging.verdict import Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from experiments.reporting.text import mean_and_deviation
from plainres.records.rows import BlockSignal
from plainres.records.schema import Record

GAIN_TABLE = "backward_gain.csv"
WITHOUT_SHORTCUT = {  # conf/variants/cure.yaml → name in tables
    "untreated": "none",
    "leaky": "slope 0.5",
    "tailored": "tailored slope",
    "tailored_alone": "tailored slope, alone",
    "looks_linear": "looks linear",
    "orthogonal": "orthogonal",
    "delta_orthogonal": "delta-orthogonal",
    "dirac_convolutions": "Dirac convolutions",
}
NORMALISED = {
    "option_a": "shortcuts A",
    "option_b": "shortcuts B",
    "preactivation": "A, pre-activation",
    "stochastic_depth": "A, stochastic depth",
}
MENDED = {"fixup": "Fixup", "skipinit": "SkipInit", "rezero": "ReZero"}
SLOW = {f"{cure}_slow": f"{name}, rate 0.01" for cure, name in MENDED.items()}
WITHOUT_NORM = {"unnormalised": "A, no normalisation", **MENDED, **SLOW}
LATER = {  # without shortcuts too; chosen after seed 0 of the others was seen
    "looks_linear_slow": "looks linear, rate 0.01",
    "shifted": "shift 1",
    "shifted_circular": "shift 1, no border",
    "circular": "none, no border",
}
CURES = WITHOUT_SHORTCUT | NORMALISED | WITHOUT_NORM | LATER
NOT_NORMALISED = {"tailored_alone", *WITHOUT_NORM}
DEEP = {"deep_option_a": "the form of 2015", "deep_preactivation": "pre-activation"}
FOLDERS = {name.removeprefix("deep_"): text for name, text in DEEP.items()}  # deep-<name>
DEEP_DEPTHS = (302, 602)
REFERENCE, DEPTHS = 20, (56, 110)
DEEPEST = 110
CLOSE, FAR = 0.02, 0.10  # of errors
RANK = 0.5  # a smaller rank correlation is no order
POWER = math.log10(2)  # of gradients: a smaller factor than 2 is no difference
SAME_GROWTH = ("orthogonal", "delta_orthogonal")
LESS_GROWTH = ("leaky", "tailored", "looks_linear", "dirac_convolutions")
STATEMENTS = (
    f"some network of {DEEPEST} layers without shortcuts ends within {100 * CLOSE:g} points of "
    f"residual-{DEEPEST}",
    "without shortcuts: the less gradients grow or shrink at the start, the lower the error "
    f"(56 and 110 layers; rank correlation above {RANK:g})",
    f"without normalisation: Fixup, SkipInit and ReZero train {DEEPEST} layers, within "
    f"{100 * CLOSE:g} points of plain-{REFERENCE}",
    f"orthogonal kernels, which leave the growth, leave plain-{DEEPEST} more than {100 * FAR:g} "
    f"points above plain-{REFERENCE}",
    f"slopes, looks-linear and Dirac convolutions, which lower the growth, lower the error of "
    f"plain-{DEEPEST} by more than {100 * FAR:g} points",
    f"the growth is not all: plain-{DEEPEST} that looks linear has less of it than residual-"
    f"{DEEPEST}, and ends above it",
    "a shift of 1 fails for the border of zeros: without a border plain networks with it end more "
    f"than {100 * FAR:g} points lower (56 and 110 layers), and those with ReLU gain less",
)
DEEP_STATEMENT = (
    "at the rate of all: pre-activation ends below the form of 2015 (302 and 602 layers)"
)


@dataclass(frozen=True)
class Cures:
    """What was measured under one protocol, by network.

    Args:
        by_cure: records, in the order of CURES.
        signals: rows of backward_gain.csv.
    """

    protocol: str
    by_cure: Mapping[str, Sequence[Record]]
    signals: Mapping[str, Sequence[BlockSignal]]

    @property
    def records(self) -> list[Record]:
        return [*chain(*self.by_cure.values())]

    @property
    def deep(self) -> bool:
        return self.protocol == "deep"

    def of(self, cure: str, depth: int) -> list[Record]:
        return [row for row in self.by_cure.get(cure, ()) if row.depth == depth]

    def errors(self, cure: str, depth: int) -> Series:
        """Running training errors by seed."""
        rows = self.of(cure, depth)
        return pairs.errors_by_seed(rows, rows[0].arm, depth) if rows else Series({}, {})

    def growth(self, cure: str, depth: int) -> Series:
        """Of gradients, from the last block to the first one, as powers of ten, by seed."""
        return self._signal(cure, depth, lambda rows: _power(rows[0].gain))

    def cosine(self, cure: str, depth: int) -> Series:
        """Of two images behind the last block, by seed."""
        return self._signal(cure, depth, lambda rows: rows[-1].cosine)

    def _signal(
        self, cure: str, depth: int, value: Callable[[Sequence[BlockSignal]], float | None]
    ) -> Series:
        start = [row for row in self.signals.get(cure, ()) if row.iteration == 0]
        by_cell = grouped(sorted(start, key=lambda row: row.layer), cell_of)
        rows, values = [], {}
        for record in self.of(cure, depth):
            own = by_cell.get(cell_of(record))
            if own is None or (found := value(own)) is None:
                return Series({}, {})  # a seed without a number is not left out
            rows.append(record)
            values[record.seed] = found
        return Series.of(rows, lambda record: values[record.seed])


def _power(value: float | None) -> float | None:
    """The decimal logarithm; None for no value, and for 0."""
    return math.log10(value) if value else None


def read(folder: Path) -> list[Cures]:
    """One part for each protocol, and one for the deepest networks."""
    tables = pairs.read_folders(folder, "sweep-cures")
    pairs.require_same_images(tables)
    order = [*CURES, *FOLDERS]
    parts = []
    for protocol, names in grouped(tables, lambda name: name.rpartition("-")[0]).items():
        pairs.require_alike(folder, names, r"model\..*|protocol\.learning_rate")
        by_cure = {name.rpartition("-")[2]: name for name in names}
        known = [name for name in order if name in by_cure]
        sorted_names = {name: by_cure[name] for name in dict.fromkeys([*known, *by_cure])}
        records = {cure: tables[name] for cure, name in sorted_names.items()}
        paths = {cure: folder / name / GAIN_TABLE for cure, name in sorted_names.items()}
        signals = {
            cure: pairs.read_beside(path, BlockSignal, records[cure])
            for cure, path in paths.items()
            if path.exists()
        }
        parts.append(Cures(protocol, records, signals))
    return sorted(parts, key=lambda part: part.deep)


def label_of(cures: Cures) -> str:
    depths = sorted({row.depth for row in cures.records})
    own = f"{depths[0]} to {depths[-1]:,} layers" if cures.deep else ""
    return markdown.label_of(cures.records, own)


def check(cures: Cures) -> list[Claim]:
    """The claims in the order of STATEMENTS, corrected together; one of the deepest networks."""
    if cures.deep:
        return verdict.corrected([_preactivation(cures)])
    makers = (_best, _ordered, _unnormalised, _same, _less, _not_all, _border)
    made = [make(cures, text) for make, text in zip(makers, STATEMENTS, strict=True)]
    return verdict.corrected(made)


def _best(cures: Cures, statement: str) -> Claim:
    series = {name: cures.errors(name, DEEPEST) for name in (*WITHOUT_SHORTCUT, "option_a")}
    seeds = pairs.shared_seeds(series)

    def best(seed: int) -> str:
        return min(WITHOUT_SHORTCUT, key=lambda name: series[name][seed])

    def criterion() -> Criterion:
        values = tuple(series[best(seed)][seed] - series["option_a"][seed] for seed in seeds)
        return Criterion("best without shortcuts - option_a", values, CLOSE, above=False)

    def summary() -> str:
        texts = (f"{100 * series[best(s)][s]:.2f} % ({best(s)})" for s in seeds)
        shortcut = statistics.fmean(series["option_a"][seed] for seed in seeds)
        return f"best by seed: {', '.join(texts)}; option_a {100 * shortcut:.2f} %"

    learned = ["option_a"]
    return pairs.judge(statement, series, lambda: [criterion()], summary, learned=learned)


def _ordered(cures: Cures, statement: str) -> Claim:
    errors = {f"{n} {d}": cures.errors(n, d) for n in WITHOUT_SHORTCUT for d in DEPTHS}
    growth = {f"{n} {d}, growth": cures.growth(n, d) for n in WITHOUT_SHORTCUT for d in DEPTHS}
    series = errors | growth
    seeds = pairs.shared_seeds(series)

    def rank(depth: int, seed: int) -> float:
        """0 where all errors are the same."""
        sizes = [abs(series[f"{name} {depth}, growth"][seed]) for name in WITHOUT_SHORTCUT]
        errors = [series[f"{name} {depth}"][seed] for name in WITHOUT_SHORTCUT]
        return float(spearmanr(sizes, errors).statistic) if len(set(errors)) > 1 else 0.0

    def criteria() -> list[Criterion]:
        return [
            Criterion(
                f"rank correlation, {depth} layers",
                tuple(rank(depth, seed) for seed in seeds),
                RANK,
                unit="",
            )
            for depth in DEPTHS
        ]

    return pairs.judge(statement, series, criteria)


def _unnormalised(cures: Cures, statement: str) -> Claim:
    reference = f"plain-{REFERENCE}"
    series = {name: cures.errors(name, DEEPEST) for name in MENDED}
    series[reference] = cures.errors("untreated", REFERENCE)

    def criteria() -> list[Criterion]:
        return [pairs.difference(series, n, reference, CLOSE, above=False) for n in MENDED]

    return pairs.judge(statement, series, criteria, learned=[reference])


def _same(cures: Cures, statement: str) -> Claim:
    reference = f"plain-{REFERENCE}"
    series = {name: cures.errors(name, DEEPEST) for name in SAME_GROWTH}
    series[reference] = cures.errors("untreated", REFERENCE)
    return pairs.judge(
        statement,
        series,
        lambda: [pairs.difference(series, name, reference, FAR) for name in SAME_GROWTH],
        learned=[reference],
    )


def _less(cures: Cures, statement: str) -> Claim:
    series = {name: cures.errors(name, DEEPEST) for name in ("untreated", *LESS_GROWTH)}
    return pairs.judge(
        statement,
        series,
        lambda: [pairs.difference(series, "untreated", name, FAR) for name in LESS_GROWTH],
    )


def _not_all(cures: Cures, statement: str) -> Claim:
    names = ("looks_linear", "option_a")
    errors = {name: cures.errors(name, DEEPEST) for name in names}
    growth = {f"{name}, growth": cures.growth(name, DEEPEST) for name in names}
    series = errors | growth

    def criteria() -> list[Criterion]:
        text = "log10 of growth, option_a - looks_linear"
        linear, shortcut = growth
        return [
            pairs.difference(series, shortcut, linear, POWER, name=text, unit=""),
            pairs.difference(series, *names, MARGIN),
        ]

    return pairs.judge(statement, series, criteria, learned=["option_a"])


def _border(cures: Cures, statement: str) -> Claim:
    names = ("shifted", "shifted_circular", "untreated", "circular")
    reference = f"plain-{REFERENCE}"
    series = {f"{name} {d}": cures.errors(name, d) for name in names for d in DEPTHS}
    series[reference] = cures.errors("untreated", REFERENCE)
    seeds = pairs.shared_seeds(series)

    def gain(zeros: str, circular: str, depth: int, seed: int) -> float:
        return series[f"{zeros} {depth}"][seed] - series[f"{circular} {depth}"][seed]

    def criteria() -> list[Criterion]:
        gains = tuple(min(gain(*names[:2], d, seed) for d in DEPTHS) for seed in seeds)
        more = tuple(
            min(gain(*names[:2], d, seed) - gain(*names[2:], d, seed) for d in DEPTHS)
            for seed in seeds
        )
        return [
            Criterion("shift 1, smaller gain of both depths", gains, FAR),
            Criterion("shift 1 - ReLU, smaller difference of gains", more, MARGIN),
        ]

    return pairs.judge(statement, series, criteria, learned=[reference])


def _preactivation(cures: Cures) -> Claim:
    series = {f"{name} {d}": cures.errors(name, d) for d in DEEP_DEPTHS for name in FOLDERS}
    old, new = FOLDERS
    return pairs.judge(
        DEEP_STATEMENT,
        series,
        lambda: [pairs.difference(series, f"{old} {d}", f"{new} {d}", MARGIN) for d in DEEP_DEPTHS],
    )


def tables(cures: Cures) -> list[Table]:
    return [_deep_table(cures) if cures.deep else _table(cures)]


def ranked(cures: Cures) -> list[str]:
    """The networks by their error at 110 layers, the lowest first."""
    return sorted(cures.by_cure, key=lambda name: _mean(cures.errors(name, DEEPEST)))


def _table(cures: Cures) -> Table:
    """One line a network, by its error at 110 layers, the lowest first."""
    heads = ["shortcut", "normalisation", f"gradient, {DEEPEST}", f"cosine, {DEEPEST}"]
    heads += [f"error, {depth}" for depth in DEPTHS]
    heads += ["seconds", "parameters", "seeds"]
    rows = [["cure", *heads]]
    for name in ranked(cures):
        deepest = cures.of(name, DEEPEST)
        row = [CURES.get(name, name), _shortcut(cures.by_cure[name])]
        row.append("no" if name in NOT_NORMALISED else "yes")
        row.append(_ratio(cures.growth(name, DEEPEST)))
        row.append(mean_and_deviation(cures.cosine(name, DEEPEST).values()))
        row += [_points(cures.errors(name, depth)) for depth in DEPTHS]
        row.append(f"{statistics.fmean(r.seconds for r in deepest):.0f}" if deepest else "–")
        row += [f"{deepest[0].num_parameters:,}" if deepest else "–", str(len(deepest))]
        rows.append(row)
    note = (
        "Gradient: its norm at the first block's output over that at the last one's, before the "
        "first update (geometric mean over seeds). Cosine: of two images behind the last block "
        "then. Error: running training error in %; a diverged run counts as guessing, 90 %; "
        f"{REFERENCE} layers untreated: {_points(cures.errors('untreated', REFERENCE))}. Seconds: "
        f"of training {DEEPEST} layers, beside other work. ± is of seeds."
    )
    return Table("Cures, the lowest error first", rows, [note], name="cures")


def _deep_table(cures: Cures) -> Table:
    depths = sorted({row.depth for row in cures.records})
    rows = [["blocks", *map(str, depths), "seeds"]]
    for name in cures.by_cure:
        errors = [cures.errors(name, depth) for depth in depths]
        seeds = len(set(chain(*errors)))
        rows.append([FOLDERS.get(name, name), *map(_points, errors), str(seeds)])
    return Table("Running training error in %, by depth", rows)


def _mean(series: Series) -> float:
    return statistics.fmean(series.values()) if series else math.inf


def _shortcut(records: Sequence[Record]) -> str:
    kinds = {"none": "no", "zero_pad": "A", "projection": "B"}
    return ", ".join(sorted({kinds.get(row.shortcut, row.shortcut) for row in records}))


def _ratio(growth: Series) -> str:
    return f"{10 ** _mean(growth):.2g}" if growth else "–"


def _points(series: Series) -> str:
    return mean_and_deviation([100 * value for value in series.values()])
