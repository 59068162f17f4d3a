"""By which factor do gradients grow in one layer at the start, and does theory give it?

One setting (experiments.rate.measured.Setting) and one factor varied at a time, each measured
before the first update. All criteria of a claim must hold, over seeds that all its networks have.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from experiments.judging import pairs, verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Series
from experiments.judging.verdict import INCONCLUSIVE, Claim
from experiments.rate.border import BorderSignals, border_signals
from experiments.rate.measured import (
    LADDER,
    PADDINGS,
    REFERENCE,
    STAGES,
    Blocks,
    Rate,
    Setting,
    Snapshot,
    line,
    log_growth,
    mean_log_growth,
    predicted_blocks,
    stage_blocks,
)
from experiments.reporting.question import Table
from experiments.reporting.text import mean_and_deviation, seeds_of

DEPTH = 56  # of the plain networks whose λ is measured
DEEPEST = 110  # of the networks whose gradients are followed block by block
DEPTHS = (8, 14, 20, 32, 56, 110)
VISIBLE = (8, 14, 20)  # depths at which the correlation of plain networks exceeds its noise
NEAR, LOG_NEAR = 0.1, 0.2
GROWING = 1.05  # λ above which ln λ is judged
LINEAR, POWER = 1.0, -2.0  # exponents of variance and squared gradient
EXPONENT_NEAR = 0.25
HALVING = math.log(2)
RATE_NEAR = 0.25  # of ln 2
ROOT = -0.5
SECOND_STAGE = 1
PIXELS = (32, 16, 8, 4)  # of images; the second stage has half as many a side
FARTHEST = "largest distance of ln λ from theory"
UNSEEN = 10  # seeds from here on were measured after the theory of borders was written
STATEMENTS = (
    "circular padding: λ is within 10 % of theory for every activation",
    "circular padding: ln λ is within 20 % of theory for every activation with λ above 1.05",
    "zero padding: activations have the order of theory",
    "zero padding: the smaller the image, the smaller λ (16, 8, 4, 2 pixels a side)",
    "with shortcuts: variance grows as a power of the block's number, within 0.25 of 1 (stage 1)",
    "squared gradients fall with the block's number as a power within 0.25 of -2 with shortcuts, "
    "and exponentially without (first stage)",
    "with shortcuts: variance and squared gradient have the exponents of theory, within 0.25, in "
    "every stage",
    "plain: the correlation of gradients at inputs 1 % apart falls as 2^-L in L layers (8 to 20)",
    "with shortcuts: the correlation of gradients at inputs 1 % apart falls as 1/√L",
    "zero padding: theory with a border is within 10 % of λ in every stage, for every activation, "
    f"and nearer than theory without one (seeds from {UNSEEN} on)",
)


def label_of(rate: Rate) -> str:
    records = rate.all_records
    labels = ", ".join(sorted({record.data_label for record in records}))
    return f"{labels} · protocol quick, at the start · {seeds_of(records)}"


def check(rate: Rate) -> list[Claim]:
    """The claims in the order of STATEMENTS, corrected together."""
    claims = [
        _near_theory(rate),
        _log_near_theory(rate),
        _ordered(rate),
        _falls_with_pixels(rate),
        _linear_variance(rate),
        _power_of_gradient(rate),
        _walk(rate),
        _halves(rate),
        _root(rate),
        _border(rate),
    ]
    return verdict.corrected(claims)


def ladder(padding: str) -> dict[str, Setting]:
    """The reference with each activation, by name."""
    return {
        name: REFERENCE._replace(slope=slope, shift=shift, padding=padding)
        for name, (slope, shift) in LADDER.items()
    }


def _growths(rate: Rate, padding: str) -> dict[str, Series]:
    """ln λ, mean over stages, by activation."""
    settings = ladder(padding).items()
    return {name: rate.series(mean_log_growth, each, "plain", DEPTH) for name, each in settings}


def _within(name: str, values: Sequence[float], near: float) -> list[Criterion]:
    """Two criteria: the values lie within ± `near`."""
    return [
        Criterion(name, tuple(values), side * near, above=side < 0, unit="") for side in (-1, 1)
    ]


def _judged(
    statement: str, series: Mapping[str, Series], criteria: Callable[[Mapping], list[Criterion]]
) -> Claim:
    """Criteria are made from the values of each series over the seeds that all have."""

    def made() -> list[Criterion]:
        seeds = pairs.shared_seeds(series)
        return criteria({name: [each[seed] for seed in seeds] for name, each in series.items()})

    def summary() -> str:
        named = {criterion.name: criterion for criterion in made()}
        return pairs.means(list(named.values()))

    return pairs.judge(statement, series, made, summary)


def _near_theory(rate: Rate) -> Claim:
    settings = ladder("circular")

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        made = []
        for name, logs in values.items():
            ratios = [math.exp(log) / settings[name].growth - 1 for log in logs]
            made += _within(f"{name}, λ / theory - 1", ratios, NEAR)
        return made

    return _judged(STATEMENTS[0], _growths(rate, "circular"), criteria)


def _log_near_theory(rate: Rate) -> Claim:
    theory = {name: math.log(each.growth) for name, each in ladder("circular").items()}
    growths = _growths(rate, "circular")
    series = {name: growths[name] for name in growths if theory[name] > math.log(GROWING)}

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        made = []
        for name, logs in values.items():
            ratios = [log / theory[name] - 1 for log in logs]
            made += _within(f"{name}, ln λ / theory - 1", ratios, LOG_NEAR)
        return made

    return _judged(STATEMENTS[1], series, criteria)


def _falling(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
    """Each series lies above the next one."""
    return [
        Criterion(
            f"ln λ, {larger} - {smaller}",
            tuple(a - b for a, b in zip(values[larger], values[smaller], strict=True)),
            unit="",
        )
        for larger, smaller in pairwise(values)
    ]


def _ordered(rate: Rate) -> Claim:
    return _judged(STATEMENTS[2], _growths(rate, "zeros"), _falling)


def _falls_with_pixels(rate: Rate) -> Claim:
    measure = partial(log_growth, stage=SECOND_STAGE)
    series = {
        f"{pixels // 2} pixels": rate.series(
            measure, REFERENCE._replace(padding="zeros", pixels=pixels), "plain", DEPTH
        )
        for pixels in PIXELS
    }
    return _judged(STATEMENTS[3], series, _falling)


def _of_blocks(
    rate: Rate, measure: Callable[[Blocks], float], arm: str = "residual", stage: int = 0
) -> Series:
    return rate.series(lambda each: measure(stage_blocks(each, stage)), REFERENCE, arm, DEEPEST)


def _linear_variance(rate: Rate) -> Claim:
    series = {"exponent of variance": _of_blocks(rate, Blocks.variance_exponent)}
    return _judged(STATEMENTS[4], series, partial(_near, expected=LINEAR))


def _near(values: Mapping[str, Sequence[float]], expected: float) -> list[Criterion]:
    return [
        criterion
        for name, own in values.items()
        for criterion in _within(
            f"{name} - ({expected:.3g})", [value - expected for value in own], EXPONENT_NEAR
        )
    ]


def _power_of_gradient(rate: Rate) -> Claim:
    exponent, residual, plain = "exponent of squared gradient", "residual", "plain"
    series = {exponent: _of_blocks(rate, Blocks.gradient_exponent)}
    for arm in (residual, plain):
        series[arm] = _of_blocks(rate, Blocks.power_over_exponential, arm)

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        text = "ln of squared residuals, power - exponential"
        return [
            *_near({exponent: values[exponent]}, POWER),
            Criterion(f"{residual}, {text}", tuple(values[residual]), above=False, unit=""),
            Criterion(f"{plain}, {text}", tuple(values[plain]), above=True, unit=""),
        ]

    return _judged(STATEMENTS[5], series, criteria)


def _walk(rate: Rate) -> Claim:
    measures = {"variance": Blocks.variance_exponent, "squared gradient": Blocks.gradient_exponent}
    series, theory = {}, {}
    for stage in range(STAGES):
        for name, measure in measures.items():
            text = f"stage {stage + 1}, exponent of {name}"
            series[text] = _of_blocks(rate, measure, stage=stage)
            theory[text] = measure(predicted_blocks(DEEPEST, stage))

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        made = []
        for name, own in values.items():
            made += _near({name: own}, theory[name])
        return made

    return _judged(STATEMENTS[6], series, criteria)


def correlation(snapshot: Snapshot) -> float:
    """Of gradients at neighbouring inputs; NaN where there is none."""
    value = snapshot[0].correlation
    return math.nan if value is None else value


def _log_correlation(snapshot: Snapshot) -> float:
    value = correlation(snapshot)
    return math.log(value) if value > 0 else math.nan


def _correlations(rate: Rate, arm: str, depths: Sequence[int]) -> dict[str, Series]:
    """Logarithms, by depth."""
    return {
        f"{arm}-{depth}": rate.series(_log_correlation, REFERENCE, arm, depth) for depth in depths
    }


def _slopes(
    values: Mapping[str, Sequence[float]], positions: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Slope, and sum of squared residuals, of a line through the series; one of each per seed."""
    lines = [line(positions, each) for each in zip(*values.values(), strict=True)]
    return [each.slope for each in lines], [each.squares for each in lines]


def _without_correlation(rate: Rate, arm: str, depths: Sequence[int]) -> str:
    """Names networks and seeds whose gradients agree in nothing: a law of logarithms lacks them."""
    lost = {
        f"{arm}-{depth}": seeds
        for depth in depths
        if (seeds := rate.not_finite(_log_correlation, REFERENCE, arm, depth))
    }
    named = (f"{name} (seeds {', '.join(map(str, seeds))})" for name, seeds in lost.items())
    return f"no correlation above 0 in {'; '.join(named)}" if lost else ""


def _halves(rate: Rate) -> Claim:
    if lost := _without_correlation(rate, "plain", VISIBLE):
        return Claim(STATEMENTS[7], INCONCLUSIVE, lost)

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        slopes, _ = _slopes(values, VISIBLE)
        ratios = [-slope / HALVING - 1 for slope in slopes]
        return _within("fall of ln correlation per layer / ln 2 - 1", ratios, RATE_NEAR)

    return _judged(STATEMENTS[7], _correlations(rate, "plain", VISIBLE), criteria)


def _root(rate: Rate) -> Claim:
    if lost := _without_correlation(rate, "residual", DEPTHS):
        return Claim(STATEMENTS[8], INCONCLUSIVE, lost)

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        slopes, power = _slopes(values, [math.log(depth) for depth in DEPTHS])
        _, exponential = _slopes(values, DEPTHS)
        fits = [math.log(p / e) for p, e in zip(power, exponential, strict=True)]
        name = "ln of squared residuals, power - exponential"
        return [
            *_near({"exponent of correlation": slopes}, ROOT),
            Criterion(name, tuple(fits), above=False, unit=""),
        ]

    return _judged(STATEMENTS[8], _correlations(rate, "residual", DEPTHS), criteria)


def border_theory(setting: Setting, stage: int) -> BorderSignals:
    """Of a stage with zero padding."""
    return border_signals()[setting.slope, setting.shift, setting.pixels >> stage]


def _border(rate: Rate) -> Claim:
    series, bordered, unbordered = {}, {}, {}
    for name, setting in ladder("zeros").items():
        for stage in range(STAGES):
            text = f"{name}, stage {stage + 1}"
            own = rate.series(partial(log_growth, stage=stage), setting, "plain", DEPTH)
            unseen = {seed: value for seed, value in own.items() if seed >= UNSEEN}
            series[text] = Series(unseen, {seed: own.rows[seed] for seed in unseen})
            bordered[text] = math.log(border_theory(setting, stage).growth)
            unbordered[text] = math.log(setting.growth)

    def criteria(values: Mapping[str, Sequence[float]]) -> list[Criterion]:
        far, farther = _distances(values, bordered), _distances(values, unbordered)
        largest = tuple(max(seed) for seed in far)
        gains = tuple(
            statistics.fmean(one) - statistics.fmean(other)
            for one, other in zip(far, farther, strict=True)
        )
        bound = math.log(1 + NEAR)
        return [
            Criterion(FARTHEST, largest, bound, above=False, unit=""),
            Criterion("mean distance, theory with - without border", gains, above=False, unit=""),
        ]

    return _judged(STATEMENTS[9], series, criteria)


def _distances(
    values: Mapping[str, Sequence[float]], theory: Mapping[str, float]
) -> list[list[float]]:
    """From theory, without sign; one list per seed."""
    columns = ([abs(value - theory[name]) for value in own] for name, own in values.items())
    return [list(seed) for seed in zip(*columns, strict=True)]


def tables(rate: Rate) -> list[Table]:
    return [
        ladder_table(rate),
        border_table(rate),
        settings_table(rate),
        blocks_table(rate),
        correlation_table(rate),
    ]


def ladder_table(rate: Rate) -> Table:
    """λ by activation and padding: theory, mean over stages, and each stage."""
    stages = [f"stage {stage + 1}" for stage in range(STAGES)]
    heads = [f"{padding}: {name}" for padding in PADDINGS for name in ("λ", *stages)]
    rows = [["activation", "theory", *heads]]
    for name, setting in ladder(PADDINGS[0]).items():
        row = [name, f"{setting.growth:.3f}"]
        for padding in PADDINGS:
            row += _growth_texts(rate, setting._replace(padding=padding))
        rows.append(row)
    note = (
        f"Plain networks of {DEPTH} layers. λ: factor by which squared gradients grow backwards "
        "in a layer, geometric mean over the stages. ± is of seeds."
    )
    return Table("λ by activation", rows, [note])


def border_table(rate: Rate) -> Table:
    """By activation and stage: λ with zero padding, and theory with a border."""
    heads = ("theory", "measured", "cosine, theory")
    pixels = [REFERENCE.pixels >> stage for stage in range(STAGES)]
    rows = [["activation", *(f"{side}×{side}: {head}" for side in pixels for head in heads)]]
    for name, setting in ladder("zeros").items():
        row, growths = [name], _growth_texts(rate, setting)[1:]
        for stage, growth in enumerate(growths):
            theory = border_theory(setting, stage)
            row += [f"{theory.growth:.3f}", growth, f"{theory.cosine:.2f}"]
        rows.append(row)
    note = (
        f"Plain networks of {DEPTH} layers; sizes are those of the three stages. Cosine: of what "
        "two images give behind the activation of a layer deep in such a stage. ± is of seeds."
    )
    return Table("λ with a border", rows, [note])


def settings_table(rate: Rate) -> Table:
    """λ where width, batch or image are others."""
    stages = [f"stage {stage + 1}" for stage in range(STAGES)]
    rows = [["activation", "padding", "width", "batch", "pixels", "theory", "λ", *stages]]
    known = {each for padding in PADDINGS for each in ladder(padding).values()}
    for setting in sorted(rate.snapshots.keys() - known):
        texts = [str(setting.width), str(setting.batch), str(setting.pixels)]
        growth = f"{setting.growth:.3f}"
        growths = _growth_texts(rate, setting)
        rows.append([setting.activation, setting.padding, *texts, growth, *growths])
    return Table("λ in other settings", rows)


def _growth_texts(rate: Rate, setting: Setting) -> list[str]:
    by_stage = (partial(log_growth, stage=stage) for stage in range(STAGES))
    measures: list[Callable[[Snapshot], float]] = [mean_log_growth, *by_stage]
    series = [rate.series(measure, setting, "plain", DEPTH) for measure in measures]
    return [mean_and_deviation([math.exp(value) for value in each.values()], 3) for each in series]


def blocks_table(rate: Rate) -> Table:
    """Exponents of variance and squared gradient over blocks, with those of theory."""
    heads = ["variance, theory", "variance", "squared gradient, theory", "squared gradient"]
    rows = [["stage", *heads]]
    for stage in range(STAGES):
        row, theory = [str(stage + 1)], predicted_blocks(DEEPEST, stage)
        for measure in (Blocks.variance_exponent, Blocks.gradient_exponent):
            values = _of_blocks(rate, measure, stage=stage).values()
            row += [f"{measure(theory):.2f}", mean_and_deviation(values, 2)]
        rows.append(row)
    note = (
        f"residual-{DEEPEST}, ReLU, circular padding. Slopes on axes of logarithms. ± is of seeds."
    )
    return Table("Exponents over the blocks of a stage", rows, [note])


def correlation_table(rate: Rate) -> Table:
    """Correlation of gradients at neighbouring inputs by depth."""
    rows = [["network", *map(str, DEPTHS)]]
    for arm in ("plain", "residual"):
        series = [rate.series(correlation, REFERENCE, arm, depth) for depth in DEPTHS]
        rows.append([arm, *(mean_and_deviation(each.values(), 3) for each in series)])
    return Table("Correlation of gradients at neighbouring inputs, by depth", rows)
