"""How deep can a plain network be, and does λ say so beforehand?

λ is the factor by which squared gradients grow backwards through one plain layer
(experiments.theory). Each folder below results/dose is one protocol and
one activation: <protocol>-<activation>. Judged on running training error; a diverged run counts as
a network at chance.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from experiments.dose.depths import REFERENCE, TIMES, TrainableDepth, trainable_depth
from experiments.dose.prediction import predictions
from experiments.judging import pairs, verdict
from experiments.judging.errors import MARGIN, chance_error, error_or_chance
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Series
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from experiments.reporting.text import mean_and_deviation
from experiments.theory import NAMES
from plainres.records.schema import Record

SLOPES, SHIFTS = ("relu", "leaky_25", "leaky_50"), ("relu", "shifted_50", "shifted_100")
WITHIN = ("shifted_50", "leaky_25", "shifted_100", "leaky_50")  # predicted below about 1.1 × 164
BEYOND = ("shifted_200", "leaky_75", "linear")  # predicted far beyond 164
DEEP = (56, 110)
DEEPEST = 164
FACTOR = 1.5  # a predicted depth may be wrong by it
STEP = 1.1  # a tenth deeper; less is no difference
BEST, CLOSE = "leaky_75", 0.02  # of the claim that a plain network of 110 layers trains
STATEMENTS = (
    "plain, 56 and 110 layers: the larger the slope for negative values (0, 0.25, 0.5), and so the "
    "smaller λ, the lower the error",
    "plain, 56 and 110 layers: the larger the shift before the ReLU (0, 0.5, 1), and so the "
    "smaller λ, the lower the error",
    "the smaller λ, the deeper the plain networks that train",
    f"c / ln λ (at most {DEEPEST}), with c from ReLU alone, predicts within a factor of "
    f"{FACTOR:g} how deep they are",
    f"what is predicted to train far beyond {DEEPEST} layers trains at {DEEPEST}",
    f"plain-110 with a slope of 0.75 ends within {100 * CLOSE:g} points of its own plain-20",
    "110 layers: with every activation shortcuts still help",
)


NO_DEPTH = "no trainable depth, because a depth is missing or plain-20 has not learned: "


@dataclass(frozen=True)
class Dose:
    """The records of one protocol, by activation, those with the largest λ first."""

    protocol: str
    by_activation: Mapping[str, Sequence[Record]]

    @property
    def records(self) -> list[Record]:
        return [*chain(*self.by_activation.values())]

    @property
    def slopes_alone(self) -> bool:
        """Whether this is the smaller grid: plain networks with SLOPES."""
        return {*self.by_activation} == {*SLOPES} and {row.arm for row in self.records} == {"plain"}

    def errors(self, activation: str, arm: str, depth: int) -> Series:
        """Running training errors by seed."""
        return pairs.errors_by_seed(self.by_activation.get(activation, ()), arm, depth)

    def compared(self, activation: str, arm: str, depth: int) -> list[float]:
        """In per cent, of the seeds that all activations measured with this network share.

        A seed is shared if its rows were measured under the same conditions.
        """
        names = self.by_activation
        series = {name: own for name in names if (own := self.errors(name, arm, depth))}
        seeds = pairs.shared_seeds(series) if activation in series else []
        return [100 * series[activation][seed] for seed in seeds]

    def depths(self, activation: str) -> dict[int, TrainableDepth]:
        """Trainable depth of plain networks by seed; seeds without one are left out."""
        return {seed: depth for seed, depth in self._found(activation).items() if depth is not None}

    def _found(self, activation: str) -> dict[int, TrainableDepth | None]:
        plain = [row for row in self.by_activation.get(activation, ()) if row.arm == "plain"]
        return {
            seed: trainable_depth(
                {row.depth: error_or_chance(row) for row in own},
                chance_error(own[0].num_classes),
                DEEPEST,
            )
            for seed, own in pairs.grouped(plain, lambda row: row.seed).items()
        }

    def without_depth(self, activations: Iterable[str]) -> list[str]:
        """The activations and seeds that were measured and have no trainable depth."""
        return [
            f"{name} seed {seed}"
            for name in activations
            for seed, depth in self._found(name).items()
            if depth is None
        ]

    def log_depths(self, activation: str) -> Series:
        """The logarithms of `depths`; where all depths train, that of the deepest."""
        logs = {seed: math.log(found.depth) for seed, found in self.depths(activation).items()}
        plain = [row for row in self.by_activation.get(activation, ()) if row.arm == "plain"]
        return Series(logs, pairs.grouped(plain, lambda row: row.seed))


def read(folder: Path) -> list[Dose]:
    """One part for each protocol."""
    tables = pairs.read_folders(folder, "sweep-dose")
    order = list(predictions())
    parts = []
    for protocol, names in pairs.grouped(tables, lambda name: name.rpartition("-")[0]).items():
        records = {name.rpartition("-")[2]: tables[name] for name in names}
        pairs.require_same_images(records)
        pairs.require_alike(folder, names, r"model\.(slope|shift)")
        known = {name: records[name] for name in order if name in records}
        parts.append(Dose(protocol, {**known, **records}))
    return parts


def label_of(dose: Dose) -> str:
    return markdown.label_of(dose.records)


def check(dose: Dose) -> list[Claim]:
    """The claims in the order of STATEMENTS, corrected together; on slopes alone the first one."""
    slopes = _falls(dose, STATEMENTS[0], SLOPES)
    if dose.slopes_alone:
        return verdict.corrected([slopes])
    claims = [
        slopes,
        _falls(dose, STATEMENTS[1], SHIFTS),
        _ordered(dose),
        _predicted(dose),
        _beyond(dose),
        _trains(dose),
        _help(dose),
    ]
    return verdict.corrected(claims)


def _falls(dose: Dose, statement: str, activations: Sequence[str]) -> Claim:
    series = {f"{a} {d}": dose.errors(a, "plain", d) for a in activations for d in DEEP}
    steps = [(f"{a} {d}", f"{b} {d}") for a, b in pairwise(activations) for d in DEEP]
    return pairs.judge(
        statement, series, lambda: [pairs.difference(series, *step, MARGIN) for step in steps]
    )


def _ordered(dose: Dose) -> Claim:
    names = [name for name in predictions() if name in ("relu", *WITHIN)]
    if lacking := dose.without_depth(names):
        return Claim(STATEMENTS[2], INCONCLUSIVE, NO_DEPTH + ", ".join(lacking))
    series = {name: dose.log_depths(name) for name in names}

    def criteria() -> list[Criterion]:
        return [
            pairs.difference(
                series,
                deeper,
                shallower,
                math.log(STEP),
                name=f"ln depth, {deeper} - {shallower}",
                unit="",
            )
            for shallower, deeper in pairwise(names)
        ]

    return pairs.judge(STATEMENTS[2], series, criteria, lambda: _depths(dose, names))


def _predicted(dose: Dose) -> Claim:
    if lacking := dose.without_depth(WITHIN):
        return Claim(STATEMENTS[3], INCONCLUSIVE, NO_DEPTH + ", ".join(lacking))
    series = {name: dose.log_depths(name) for name in WITHIN}
    seeds = pairs.shared_seeds(series)

    def criteria() -> list[Criterion]:
        made = []
        for name in WITHIN:
            predicted = math.log(min(predictions()[name].depth, DEEPEST))
            values = tuple(series[name][seed] - predicted for seed in seeds)
            text = f"ln(depth / predicted), {name}"
            made += [
                Criterion(text, values, -math.log(FACTOR), above=True, unit=""),
                Criterion(text, values, math.log(FACTOR), above=False, unit=""),
            ]
        return made

    return pairs.judge(STATEMENTS[3], series, criteria, lambda: _depths(dose, WITHIN))


def _beyond(dose: Dose) -> Claim:
    series = {f"{a} {d}": dose.errors(a, "plain", d) for a in BEYOND for d in (REFERENCE, DEEPEST)}
    seeds = pairs.shared_seeds(series)

    def criteria() -> list[Criterion]:
        made = []
        for name in BEYOND:
            deep, shallow = series[f"{name} {DEEPEST}"], series[f"{name} {REFERENCE}"]
            excess = tuple(deep[seed] - TIMES * shallow[seed] for seed in seeds)
            text = f"{name}: {DEEPEST} - {TIMES} × {REFERENCE} layers"
            made.append(Criterion(text, excess, above=False))
        return made

    learned = [f"{name} {REFERENCE}" for name in BEYOND]
    return pairs.judge(STATEMENTS[4], series, criteria, learned=learned)


def _trains(dose: Dose) -> Claim:
    deep, shallow = "plain-110", f"plain-{REFERENCE}"
    series = {
        deep: dose.errors(BEST, "plain", 110),
        shallow: dose.errors(BEST, "plain", REFERENCE),
    }

    def criterion() -> Criterion:
        return pairs.difference(series, deep, shallow, CLOSE, above=False)

    return pairs.judge(STATEMENTS[5], series, lambda: [criterion()], learned=[shallow])


def _help(dose: Dose) -> Claim:
    names, arms = list(predictions()), ("plain", "residual")
    series = {f"{name} {arm}": dose.errors(name, arm, 110) for name in names for arm in arms}
    return pairs.judge(
        STATEMENTS[6],
        series,
        lambda: [pairs.difference(series, f"{a} plain", f"{a} residual") for a in names],
    )


def _depths(dose: Dose, names: Sequence[str]) -> str:
    texts = (f"{name} {_depth_text(dose, name)}" for name in names)
    return f"trainable depth (predicted): {', '.join(texts)}"


def _depth_text(dose: Dose, name: str) -> str:
    """Mean over seeds, and the prediction."""
    found = dose.depths(name).values()
    if not found:
        return "–"
    mean = statistics.fmean(each.depth for each in found)
    sign = "≥ " if any(each.at_least for each in found) else ""
    return f"{sign}{mean:.0f} ({predictions()[name].depth:.0f})"


def tables(dose: Dose) -> list[Table]:
    if dose.slopes_alone:
        return [error_table(dose, "plain", dose.protocol)]
    return [depth_table(dose), *(error_table(dose, arm) for arm in ("plain", "residual"))]


def depth_table(dose: Dose) -> Table:
    """λ, predicted and measured trainable depth, and errors in per cent, by activation."""
    networks = [("plain", 56), ("plain", 110), ("residual", 110)]
    heads = ["λ", "predicted depth", "trainable depth"]
    heads += [*(f"{arm}-{depth}" for arm, depth in networks), "seeds"]
    rows = [["activation", *heads]]
    for name in dose.by_activation:
        predicted = predictions().get(name)
        found = dose.depths(name).values()
        measured = mean_and_deviation([each.depth for each in found], 0)
        sign = "≥ " if any(each.at_least for each in found) else ""
        errors = (mean_and_deviation(dose.compared(name, *network)) for network in networks)
        theory = ["–", "–"]
        if predicted:
            depth = f"{predicted.depth:.0f}" if math.isfinite(predicted.depth) else "no limit"
            theory = [f"{predicted.growth:.3f}", depth]
        row = [NAMES.get(name, name), *theory, f"{sign}{measured}", *errors]
        rows.append([*row, str(len(dose.compared(name, "plain", REFERENCE)))])
    note = (
        f"Trainable depth: where the error passes {TIMES} times that of plain-{REFERENCE} with the "
        f"same activation and seed; ≥: some seeds train at the deepest depth, which counts as "
        f"theirs. Predicted before training: c / ln λ, with c from ReLU alone. Errors are running "
        f"training errors in %. ± is of seeds."
    )
    return Table("", rows, [note], name=dose.protocol)


def error_table(dose: Dose, arm: str, name: str = "") -> Table:
    """Running training error in per cent, one line per activation, one column per depth."""
    depths = sorted({row.depth for row in dose.records if row.arm == arm})
    rows = [["activation", *map(str, depths)]]
    for activation in dose.by_activation:
        texts = (mean_and_deviation(dose.compared(activation, arm, depth)) for depth in depths)
        rows.append([NAMES.get(activation, activation), *texts])
    return Table(f"{arm}: running training error in %, by depth", rows, name=name)
