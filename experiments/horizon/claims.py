"""At which depth does arithmetic lose the direction of the gradient, and is that a cause?

The criteria were registered before measurement (docs/registered.md). A claim about several networks
or precisions has one criterion: of each seed the value that speaks most against it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from experiments.horizon.parts import (
    APART,
    DEEPEST,
    LOST,
    SIZES,
    WITHIN,
    Part,
    distance_after,
    horizon_text,
    layout_text,
    updates_until_apart,
)
from experiments.horizon.prediction import UNITS, depth_of_many, predictions
from experiments.judging import pairs, verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import Series
from experiments.judging.verdict import Claim
from experiments.reporting import markdown
from plainres.records.rows import CONTIGUOUS

STEP = 1.1  # a tenth deeper or later; less is no difference
# Group → activations and the precisions in which the horizon is predicted below 302 layers
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ReLU": {"relu": tuple(UNITS)},
    "slopes": {"leaky_25": tuple(UNITS), "leaky_50": ("bf16", "float16")},
    "shifts": {"shifted_50": tuple(UNITS), "shifted_100": ("bf16", "float16")},
}
EACH_LAYER = ("relu", "shifted_50", "leaky_25", "leaky_50")
ORDER = ("relu", "shifted_50", "leaky_25", "shifted_100", "leaky_50")  # λ falls
DIGITS = math.log(UNITS["float32"]) / math.log(UNITS["bf16"])  # three times as many
COSINE_MARGIN = 0.1
LATE = 100  # updates
EARLY = 16  # updates after which the weights of two runs are compared
TREATMENT = ("precision",)
FLOAT64, FLOAT32 = "64-true", "32-true"


def label_of(part: Part) -> str:
    return markdown.label_of(part.records, f"part {part.name}")


def check(part: Part) -> list[Claim]:
    """The claims about one part, corrected together."""
    if part.name == "training":
        claims = [_returns(part)]
    elif part.name == "quick":
        claims = [_stays(part), _worsens(part)]
    elif part.name == "rounding":
        claims = [_sooner(part), _later(part)]
    elif part.name == "weights":
        claims = [_farther(part), _nearer(part)]
    elif part.name == "layout":
        claims = [_exact_sums(part), _own_error(part), _earlier(part)]
    else:
        claims = [_predicted(part, group) for group in GROUPS if _has(part, GROUPS[group])]
        if part.name in ("start", "start_cifar"):
            claims += [_digits(part), _ordered(part), _endless(part)]
        if part.name == "start_cifar":  # `start` was measured before this law was derived
            claims.append(_each_layer(part))
    return verdict.corrected(claims)


def _has(part: Part, activations: Iterable[str]) -> bool:
    return part.name in ("start", "start_cifar") or bool(set(activations) & set(part.by_variant))


def _predicted(part: Part, group: str) -> Claim:
    cases = [(name, precision) for name, of in GROUPS[group].items() for precision in of]
    statement = (
        f"{group}: ln(1/ε) / ln √λ predicts within a factor of {WITHIN:g} the depth at which "
        f"plain networks lose the direction of their first gradient"
    )
    depths = {case: predictions()[case].depth for case in cases}
    return _within(part, statement, depths, lambda: _horizons(part, cases))


def _each_layer(part: Part) -> Claim:
    depths = {
        (name, precision): depth_of_many(UNITS[precision], predictions()[name, precision].growth)
        for name in EACH_LAYER
        for precision in ("bf16", "float16")
    }
    statement = (
        f"if each layer adds an error ε of its own, the depth so predicted is right within a "
        f"factor of {WITHIN:g} for ReLU, slopes and a shift of 0.5 (bf16 and float16)"
    )
    return _within(part, statement, depths)


def _exact_sums(part: Part) -> Claim:
    statement = (
        f"layout contiguous, where normalisation sums in float64: ln(1/ε) / ln √λ predicts the "
        f"horizon of float32 within a factor of {WITHIN:g}, at each size of images"
    )
    depths = {(size, CONTIGUOUS): predictions()["relu", "float32"].depth for size in SIZES}
    return _within(part, statement, depths, lambda: _by_size(part, CONTIGUOUS))


def _own_error(part: Part) -> Claim:
    statement = (
        "channels last, where it sums in float32: the same formula does, with the measured error "
        "of the first normalisation in the place of ε"
    )
    depths = {(size, "float32"): part.predicted_by_error(size, "float32") for size in SIZES}
    return _within(part, statement, depths, lambda: _by_size(part, "float32"))


def _within(
    part: Part,
    statement: str,
    predicted: Mapping[tuple[str, str], float | Mapping[int, float]],
    summary: Callable[[], str] | None = None,
) -> Claim:
    """Horizons are within a factor of WITHIN of what is predicted.

    Args:
        predicted: by variant and precision, in layers; by seed too where it differs.
    """
    series, depths = {}, {}
    for (variant, precision), depth in predicted.items():
        by_seed = depth if isinstance(depth, Mapping) else dict.fromkeys(part.seeds(variant), depth)
        name = f"{variant}, {precision}"
        series[name] = part.horizons(variant, precision, max(by_seed.values(), default=0))
        depths[name] = by_seed

    def criteria() -> list[Criterion]:
        values = (
            max(abs(each[seed] - math.log(depths[name][seed])) for name, each in series.items())
            for seed in pairs.shared_seeds(series)
        )
        text = "largest distance of ln horizon from prediction"
        return [Criterion(text, tuple(values), math.log(WITHIN), above=False, unit="")]

    return pairs.judge(statement, series, criteria, summary)


def _earlier(part: Part) -> Claim:
    series = {f"{size} pixels": part.horizons(size, "float32", 0) for size in SIZES}
    return _steps(
        series,
        list(pairwise(series)),
        "channels last: the larger the images, the earlier the direction is lost",
        "ln horizon",
        partial(_means, series, "horizon in layers", ".0f"),
    )


def _by_size(part: Part, precision: str) -> str:
    texts = (f"{size} pixels {layout_text(part, size, precision)}" for size in SIZES)
    return f"horizon (predicted): {'; '.join(texts)}"


def _digits(part: Part) -> Claim:
    series = {
        name: part.horizons("relu", name, predictions()["relu", name].depth)
        for name in ("bf16", "float32")
    }
    seeds = pairs.shared_seeds(series)

    def criteria() -> list[Criterion]:
        ratios = (series["float32"][seed] - series["bf16"][seed] for seed in seeds)
        values = tuple(abs(ratio - math.log(DIGITS)) for ratio in ratios)
        text = f"distance of ln(float32 / bf16) from ln {DIGITS:g}"
        return [Criterion(text, values, math.log(WITHIN), above=False, unit="")]

    statement = (
        f"ReLU: {DIGITS:g} times as many bits (float32 beside bf16) reach {DIGITS:g} times as "
        f"deep, within a factor of {WITHIN:g}"
    )
    cases = [("relu", "bf16"), ("relu", "float32")]
    return pairs.judge(statement, series, criteria, lambda: _horizons(part, cases))


def _ordered(part: Part) -> Claim:
    series = {
        name: part.horizons(name, "bf16", predictions()[name, "bf16"].depth) for name in ORDER
    }
    statement = "in bf16: the smaller λ, the deeper the networks that keep the direction"
    cases = [(name, "bf16") for name in ORDER]
    couples = list(pairwise(ORDER[::-1]))
    return _steps(series, couples, statement, "ln horizon", lambda: _horizons(part, cases))


def _endless(part: Part) -> Claim:
    series = {precision: part.lowest("residual", precision) for precision in UNITS}
    seeds = pairs.shared_seeds(series)

    def criteria() -> list[Criterion]:
        values = tuple(min(each[seed] for each in series.values()) for seed in seeds)
        return [Criterion("smallest cosine", values, LOST, unit="")]

    statement = f"with shortcuts the direction is kept up to {DEEPEST:,} layers, in each precision"
    return pairs.judge(statement, series, criteria)


def _returns(part: Part) -> Claim:
    late, early = f"after {LATE} updates", "at the start"
    series = {
        late: part.cosines("", "plain", 110, "float32", LATE),
        early: part.cosines("", "plain", 110, "float32", 0),
    }

    def criteria() -> list[Criterion]:
        seeds = pairs.shared_seeds(series)
        values = tuple(series[late][seed] - series[early][seed] for seed in seeds)
        return [Criterion(f"cosine {late} - {early}", values, COSINE_MARGIN, unit="")]

    statement = (
        f"plain-110, float32: {LATE} updates bring the direction back, by more than "
        f"{COSINE_MARGIN} in cosine"
    )
    return pairs.judge(statement, series, criteria)


def _errors(part: Part, precisions: Sequence[str], depths: Sequence[int]) -> dict[str, Series]:
    return {
        f"plain-{depth}, {precision}": pairs.errors_by_seed(
            part.by_variant.get(precision, ()), "plain", depth
        )
        for precision in precisions
        for depth in depths
    }


def _smallest(criteria: Iterable[Criterion]) -> Criterion:
    """Of each seed the smallest value of several criteria with one bound: all of them must hold."""
    first, *others = criteria
    values = tuple(map(min, first.values, *(each.values for each in others)))
    return replace(first, name="the smaller of both differences", values=values)


def _stays(part: Part) -> Claim:
    series = _errors(part, [FLOAT64], (110, 56, 20))
    *deep, shallow = series
    return pairs.judge(
        "degradation is there in float64: plain-56 and plain-110 end above plain-20",
        series,
        lambda: [_smallest(pairs.difference(series, name, shallow) for name in deep)],
        lambda: pairs.mean_errors(series, "training error"),
    )


def _worsens(part: Part) -> Claim:
    series = _errors(part, [FLOAT32, FLOAT64], (110, 56))
    names = [
        f"plain-{depth}, {precision}" for depth in (110, 56) for precision in (FLOAT32, FLOAT64)
    ]
    couples = list(zip(names[::2], names[1::2], strict=True))

    def criteria() -> list[Criterion]:
        return [_smallest(pairs.difference(series, *c, treatment=TREATMENT) for c in couples)]

    def summary() -> str:
        return pairs.mean_errors(series, "training error", TREATMENT)

    statement = "float32 makes degradation worse than float64: plain-56 and plain-110 end higher"
    return pairs.judge(statement, series, criteria, summary, TREATMENT)


def _sooner(part: Part) -> Claim:
    series = {
        f"plain-{depth}": updates_until_apart(part, "plain", depth) for depth in (20, 56, 110)
    }
    return _apart(
        series,
        list(pairwise(series)),
        "two plain networks that differ in the last digit at the start are apart the sooner the "
        "deeper they are (20, 56, 110 layers)",
    )


def _later(part: Part) -> Claim:
    arms = ("residual", "plain")
    series = {f"{arm}-110": updates_until_apart(part, arm, 110) for arm in arms}
    statement = "with shortcuts two networks of 110 layers are apart later"
    return _apart(series, [("residual-110", "plain-110")], statement)


def _apart(series: Mapping[str, Series], couples: Sequence[Sequence[str]], statement: str) -> Claim:
    text = f"losses differ by {100 * APART:g} % after updates"
    summary = partial(_means, series, text, ".0f")
    return _steps(series, couples, statement, "ln updates", summary)


def _farther(part: Part) -> Claim:
    series = {
        f"plain-{depth}": distance_after(part, "plain", depth, EARLY) for depth in (110, 56, 20)
    }
    statement = (
        f"after {EARLY} updates the weights of two plain networks that differ in the last digit "
        "at the start are farther apart, the deeper they are (20, 56, 110 layers)"
    )
    return _distant(series, list(pairwise(series)), statement)


def _nearer(part: Part) -> Claim:
    arms = ("plain", "residual")
    series = {f"{arm}-110": distance_after(part, arm, 110, EARLY) for arm in arms}
    statement = "with shortcuts the weights of two networks of 110 layers are nearer then"
    return _distant(series, [("plain-110", "residual-110")], statement)


def _distant(
    series: Mapping[str, Series], couples: Sequence[Sequence[str]], statement: str
) -> Claim:
    text = f"distance of the weights after {EARLY} updates, over their norm"
    summary = partial(_means, series, text, ".1e")
    return _steps(series, couples, statement, "ln distance", summary)


def _steps(
    series: Mapping[str, Series],
    couples: Sequence[Sequence[str]],
    statement: str,
    unit: str,
    summary: Callable[[], str],
) -> Claim:
    """The first of each couple is larger by a tenth; series are logarithms by seed."""
    seeds = pairs.shared_seeds(series)

    def criteria() -> list[Criterion]:
        values = (
            min(series[larger][seed] - series[smaller][seed] for larger, smaller in couples)
            for seed in seeds
        )
        name = f"smallest step of {unit}"
        return [Criterion(name, tuple(values), math.log(STEP), unit="")]

    return pairs.judge(statement, series, criteria, summary)


def _means(series: Mapping[str, Series], text: str, digits: str) -> str:
    """Geometric means; series are logarithms by seed."""
    means = pairs.shared_means(series).items()
    return f"{text}: {', '.join(f'{name} {math.exp(mean):{digits}}' for name, mean in means)}"


def _horizons(part: Part, cases: Iterable[tuple[str, str]]) -> str:
    texts = (
        f"{name}, {precision} {horizon_text(part, name, precision)}" for name, precision in cases
    )
    return f"horizon (predicted): {'; '.join(texts)}"
