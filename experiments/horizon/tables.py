"""The tables of each part: horizons, cosines, errors by precision, updates until runs are apart."""

import math
import statistics

from experiments.horizon.claims import FLOAT32, FLOAT64, ORDER
from experiments.horizon.parts import (
    APART,
    LOST,
    SIZES,
    Part,
    horizon_text,
    layout_text,
    norm_ratios,
    updates_until_apart,
    weight_distances,
)
from experiments.horizon.prediction import UNITS, depth_of_many, predictions
from experiments.judging import pairs
from experiments.reporting.question import Table
from experiments.reporting.text import mean_and_deviation
from experiments.theory import NAMES
from plainres.records.rows import CONTIGUOUS


def tables(part: Part) -> list[Table]:
    if part.name == "quick":
        return [_error_table(part)]
    if part.name == "rounding":
        return [_apart_table(part)]
    if part.name == "weights":
        return [_distance_table(part)]
    if part.name == "training":
        return [_training_table(part)]
    if part.name == "layout":
        return [_layout_table(part)]
    return [_horizon_table(part), _cosine_table(part)]


def _layout_table(part: Part) -> Table:
    rows = [["pixels", "sums in", "error of the first normalisation", "horizon", "seeds"]]
    for size in [each for each in SIZES if each in part.by_variant]:
        for precision, sums in (("float32", "float32"), (CONTIGUOUS, "float64")):
            errors = part.normalisation_error(size, precision).values()
            error = f"{statistics.geometric_mean(errors):.1e}" if errors else "–"
            rows.append([size, sums, error, layout_text(part, size, precision), str(len(errors))])
    note = (
        "Float32, ReLU, plain networks before the first update. On a CPU the library's "
        "normalisation adds up in float32 where channels are last, as in all cells with library "
        "kernels, and in float64 in the layout contiguous. In parentheses: ln(1/ε) / ln √λ, "
        "with the error in the third column as ε, or the unit of rounding if sums are in float64."
    )
    title = "Horizon in layers (predicted), by size of images and layout"
    return Table(title, rows, [note], name=part.name)


def _horizon_table(part: Part) -> Table:
    rows = [["activation", "λ", *UNITS, *(f"each layer, {name}" for name in UNITS), "seeds"]]
    for name in [each for each in ORDER if each in part.by_variant]:
        growth = predictions()[name, "bf16"].growth
        seeds = len(part.by_depth(name, "plain", "bf16"))
        horizons = (horizon_text(part, name, precision) for precision in UNITS)
        many = (f"{depth_of_many(unit, growth):.0f}" for unit in UNITS.values())
        rows.append([NAMES[name], f"{growth:.3f}", *horizons, *many, str(seeds)])
    note = (
        f"Depth at which the median cosine of a plain network's layers falls below {LOST}, "
        f"geometric mean over seeds; in parentheses ln(1/ε) / ln √λ, frozen before "
        f"measurement. ≥: in some seeds not up to the deepest network. Each layer: predicted, if "
        f"each layer adds an error ε of its own; derived after digits had been measured (part "
        f"start), and before CIFAR-10 was (start_cifar)."
    )
    return Table("Horizon in layers (predicted)", rows, [note], name=part.name)


def _cosine_table(part: Part) -> Table:
    depths = sorted({row.depth for row in part.records})
    rows = [["network", "precision", *map(str, depths)]]
    for name in [each for each in ORDER if each in part.by_variant]:
        for arm in sorted({row.arm for row in part.by_variant[name]}):
            for precision in UNITS:
                means = [
                    list(part.cosines(name, arm, depth, precision, 0).values()) for depth in depths
                ]
                texts = (f"{statistics.fmean(each):.2f}" if each else "–" for each in means)
                rows.append([f"{arm}, {NAMES[name]}", precision, *texts])
    return Table("Median cosine by depth, means over seeds", rows, terminal=False)


def _training_table(part: Part) -> Table:
    iterations = sorted({point.iteration for points in part.points.values() for point in points})
    rows = [["network", "precision", *map(str, iterations)]]
    for arm, depth in sorted({(row.arm, row.depth) for row in part.records}):
        for precision in UNITS:
            means = [list(part.cosines("", arm, depth, precision, i).values()) for i in iterations]
            texts = (f"{statistics.fmean(each):.2f}" if each else "–" for each in means)
            rows.append([f"{arm}-{depth}", precision, *texts])
    return Table("Median cosine by updates, means over seeds", rows)


def _error_table(part: Part) -> Table:
    precisions = [each for each in (FLOAT64, FLOAT32) if each in part.by_variant]
    rows = [["network", *precisions, "seeds"]]
    for arm, depth in sorted({(row.arm, row.depth) for row in part.records}):
        errors = [
            pairs.errors_by_seed(part.by_variant[each], arm, depth).values() for each in precisions
        ]
        texts = [mean_and_deviation([100 * e for e in each]) for each in errors]
        rows.append([f"{arm}-{depth}", *texts, str(max(map(len, errors)))])
    return Table("Running training error in %, by precision of training", rows)


def _apart_table(part: Part) -> Table:
    rows = [["network", "updates until apart", "seeds"]]
    for arm, depth in sorted({(row.arm, row.depth) for row in part.records}):
        updates = [math.exp(each) for each in updates_until_apart(part, arm, depth).values()]
        rows.append([f"{arm}-{depth}", mean_and_deviation(updates, 0), str(len(updates))])
    note = (
        f"Two runs with the same seed; every initial weight of the second one is changed by 1e-7 "
        f"of its value. Apart: the mean losses of four updates differ by {100 * APART:g} %. Pairs "
        f"that never are count with their last update."
    )
    return Table("Updates until two runs are apart", rows, [note])


def _distance_table(part: Part) -> Table:
    networks = sorted({(row.arm, row.depth) for row in part.records})
    distances = {network: weight_distances(part, *network) for network in networks}
    updates = sorted(
        {update for own in distances.values() for each in own.values() for update in each}
    )
    rows = [["network", *map(str, updates), "norm, last / first", "seeds"]]
    for (arm, depth), own in distances.items():
        medians = (
            statistics.median(each[update] for each in own.values() if update in each)
            for update in updates
        )
        texts = [f"{median:.1e}" for median in medians] if own else ["–"] * len(updates)
        norms = list(norm_ratios(part, arm, depth).values())
        ratio = f"{statistics.median(norms):.3g}" if norms else "–"
        rows.append([f"{arm}-{depth}", *texts, ratio, str(len(own))])
    note = (
        "Two runs with the same seed; every initial weight of the second one is changed by 1e-7 of "
        "its value. Distance of all weights over their norm, median over seeds, from projections "
        "on 32 random directions (an eighth of it is the error of one estimate). Norm: of the "
        "exact run's weights after the last update, over that at the start."
    )
    return Table("Distance of two runs' weights by updates", rows, [note])
