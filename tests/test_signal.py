"""What flows forward and backward, on made-up tables; and the slug's configurations."""

import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from composing import compose_cell
from made_up import NO_ERRORS, elsewhere, made_up_record
from matplotlib import pyplot as plt

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.signal import QUESTION, claims, figures
from experiments.signal.claims import PROBES_TABLE, Signal
from plainres.records.files import RUNS_TABLE, read_runs, read_table, write_table
from plainres.records.rows import ProbePoint
from plainres.records.schema import DIVERGED, Record
from plainres.run import train

# By which factor the gradient changes at each layer on its way back. As in theory: it explodes a
# little in plain networks with batch normalisation, vanishes without, and stays with shortcuts.
FACTORS = {
    ("batch", "plain"): 1.01,
    ("none", "plain"): 0.9,
    ("batch", "residual"): 1.0,
    ("none", "residual"): 1.01,
}
CORRELATIONS = {"plain": {20: 0.3, 56: 0.12, 110: 0.1}, "residual": {20: 0.5, 56: 0.4, 110: 0.3}}
RESPONSES = {"plain": {20: 1.0, 56: 1.0, 110: 1.0}, "residual": {20: 0.8, 56: 0.7, 110: 0.5}}
SEVERAL = 11  # seeds: with them one of seven criteria can be significant, in either direction


def cell_points(
    norm, arm, depth, seed, iterations, factors, correlations, responses
) -> list[ProbePoint]:
    points = []
    noise = 1 + 0.01 * seed
    weights = noise ** (20 / depth) * (1.0 if norm == "batch" else 0.9**depth)
    for iteration in (0, 10, iterations):
        cell = (arm, depth, seed, iteration)
        image = {"correlation": noise * correlations[arm][depth], "seconds": 0.2}
        points.append(ProbePoint(*cell, 0, 1.0, None, 1.0, None, **image))
        response = noise * (1.0 if iteration == 0 else responses[arm][depth])
        for layer in range(1, depth):
            gradient = noise ** (1 / layer) * factors[norm, arm] ** (depth - 1 - layer)
            points.append(ProbePoint(*cell, layer, response, weights, gradient, 0.01))
    return points


def measured(
    folder,
    scale="quick",
    depths=(20, 56, 110),
    seeds=1,
    factors=FACTORS,
    correlations=CORRELATIONS,
    responses=RESPONSES,
    norms=("batch", "none"),
    seconds=60.6,
) -> None:
    iterations = 1 if scale == "start" else 2000
    for norm in norms:
        cells = list(product(("plain", "residual"), depths, range(seeds)))
        rows = [
            made_up_record(arm=a, depth=d, seed=s, iterations=iterations, seconds=seconds + s)
            for a, d, s in cells
        ]
        write_table(folder / f"{scale}-{norm}" / RUNS_TABLE, rows, Record)
        points = [
            point
            for cell in cells
            for point in cell_points(norm, *cell, iterations, factors, correlations, responses)
        ]
        write_table(folder / f"{scale}-{norm}" / PROBES_TABLE, points, ProbePoint)


def changed(folder, selects, **values) -> None:
    """Gives the points of a table that `selects` other values."""
    points = [
        replace(point, **values) if selects(point) else point
        for point in read_table(folder / PROBES_TABLE, ProbePoint)
    ]
    write_table(folder / PROBES_TABLE, points, ProbePoint)


def signal_of(folder) -> Signal:
    (signal,) = QUESTION.read(folder)
    return signal


def checked(folder) -> list[Claim]:
    return list(QUESTION.claims(signal_of(folder)))


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in checked(folder)]


@pytest.mark.parametrize("seeds", [1, SEVERAL])
def test_what_papers_and_textbooks_say_is_reproduced(tmp_path, seeds):
    measured(tmp_path, seeds=seeds)
    assert verdicts(tmp_path) == [REPRODUCED] * 7
    assert all((claim.p is not None) == (seeds > 1) for claim in checked(tmp_path))


@pytest.mark.parametrize(
    ("changes", "contradicted"),
    [
        ({"factors": {**FACTORS, ("batch", "plain"): 0.9}}, [0]),
        ({"factors": {**FACTORS, ("batch", "plain"): 1.1}}, [1]),
        ({"factors": {**FACTORS, ("none", "plain"): 1.0}}, [2]),
        ({"correlations": {**CORRELATIONS, "residual": {20: 0.5, 56: 0.4, 110: 0.15}}}, [3]),
        ({"correlations": {**CORRELATIONS, "plain": {20: 0.1, 56: 0.1, 110: 0.2}}}, [3]),
        ({"correlations": {**CORRELATIONS, "plain": {20: 0.15, 56: 0.1, 110: 0.1}}}, [3]),
        ({"responses": {**RESPONSES, "residual": {20: 0.95, 56: 0.7, 110: 0.5}}}, [4]),
        ({"responses": {**RESPONSES, "residual": {20: 0.65, 56: 0.7, 110: 0.6}}}, [5]),
        ({"seconds": 20.0}, [6]),  # of which three snapshots take 0.6
    ],
)
@pytest.mark.parametrize("seeds", [1, SEVERAL])
def test_each_claim_can_be_contradicted_alone(tmp_path, changes, contradicted, seeds):
    measured(tmp_path, seeds=seeds, **changes)
    assert verdicts(tmp_path) == [
        NOT_REPRODUCED if number in contradicted else REPRODUCED for number in range(7)
    ]


@pytest.mark.parametrize(("share", "words"), [(0.6, "contradicts"), (0.4, "supports")])
def test_gradients_vanish_with_depth_by_a_factor_of_two_or_more(tmp_path, share, words):
    measured(tmp_path, "start")
    for depth, gradient in ((20, 0.05), (110, 0.05 * share)):
        changed(
            tmp_path / "start-none",
            lambda p, d=depth: (p.arm, p.depth, p.layer) == ("plain", d, 2),
            response_gradient=gradient,
        )
    assert checked(tmp_path)[2].words == words


def test_one_seed_on_two_machines_is_not_comparable(tmp_path):
    measured(tmp_path, seeds=2)
    elsewhere(tmp_path / "quick-batch", "plain-110-seed0")
    elsewhere(tmp_path / "quick-none", "plain-20-seed0")
    claims = checked(tmp_path)
    assert [claim.num_seeds for claim in claims] == [1, 1, 1, 1, 1, 2, 2]
    named = "not comparable: seed 0 (plain-20: another; plain-110: ATen AVX2 / oneDNN AVX2)"
    assert claims[2].summary.endswith(named)
    assert "seed 0 (plain-20: ATen AVX2 / oneDNN AVX2; plain-56: " in claims[0].summary
    assert claims[0].summary.endswith("; plain-110: another)")
    elsewhere(tmp_path / "quick-batch", "plain-110-seed1")
    assert verdicts(tmp_path)[:2] == [INCONCLUSIVE] * 2


def test_probes_of_a_cell_without_a_record_are_refused(tmp_path):
    measured(tmp_path, "start", depths=(20, 56))
    rows = read_table(tmp_path / "start-none" / RUNS_TABLE, Record)
    write_table(tmp_path / "start-none" / RUNS_TABLE, rows[1:], Record)
    with pytest.raises(ValueError, match=r"start-none/probes.csv has plain-20-seed0, runs.csv"):
        QUESTION.read(tmp_path)


def test_gradients_that_vanish_in_training_alone_count(tmp_path):
    measured(tmp_path)
    changed(
        tmp_path / "quick-batch",
        lambda p: (p.arm, p.iteration, p.layer) == ("plain", 2000, 2),
        response_gradient=1e-3,
    )
    assert verdicts(tmp_path)[:2] == [NOT_REPRODUCED, REPRODUCED]


@pytest.mark.parametrize("seeds", [1, SEVERAL])
@pytest.mark.parametrize(("factor", "contradicted"), [(1e-3, 0), (1e3, 1)])
def test_weights_gradients_that_change_with_depth_count_even_where_those_of_outputs_do_not(
    tmp_path, seeds, factor, contradicted
):
    measured(tmp_path, seeds=seeds)
    changed(
        tmp_path / "quick-batch",
        lambda p: (p.arm, p.depth, p.layer) == ("plain", 110, 2),
        weight_gradient=factor,
    )
    expected = [NOT_REPRODUCED if number == contradicted else REPRODUCED for number in range(7)]
    assert verdicts(tmp_path) == expected


@pytest.mark.parametrize("layer", [1, 3])
def test_neither_the_stem_nor_a_layer_on_the_way_decides(tmp_path, layer):
    measured(tmp_path)
    changed(
        tmp_path / "quick-batch",
        lambda p: p.layer == layer,
        response_gradient=1e5,
        weight_gradient=1e5,
    )
    assert verdicts(tmp_path) == [REPRODUCED] * 7


def test_residual_networks_stand_beside_the_plain_ones_that_explode_and_decide_nothing(tmp_path):
    measured(tmp_path, "start", factors={**FACTORS, ("batch", "residual"): 1.03})
    claim = checked(tmp_path)[1]
    assert claim.verdict == REPRODUCED
    assert claim.summary == (
        "gradient second / last layer, start: plain-20 1.2, plain-56 1.7, plain-110 2.9; weight "
        "gradient of the second layer, start: plain-20 1, plain-110 1; residual networks, not "
        "judged: gradient second / last layer, start: residual-20 1.7, residual-56 4.8, "
        "residual-110 24; weight gradient of the second layer, start: residual-20 1, residual-110 "
        "1; 1 of their 3 gradients are above ten times"
    )
    changed(tmp_path / "start-batch", lambda p: p.arm == "residual", response_gradient=0.0)
    assert "no residual networks to compare with" in checked(tmp_path)[1].summary


@pytest.mark.parametrize("seeds", [1, SEVERAL])
@pytest.mark.parametrize(("norm", "lacking"), [("none", [2]), ("batch", [0, 1])])
def test_a_gradient_of_exactly_zero_in_one_seed_leaves_its_claims_undecided_and_is_named(
    tmp_path, seeds, norm, lacking
):
    measured(tmp_path, seeds=seeds)
    changed(
        tmp_path / f"quick-{norm}",
        lambda p: (p.arm, p.depth, p.seed, p.layer) == ("plain", 110, seeds - 1, 2),
        response_gradient=0.0,
    )
    assert verdicts(tmp_path) == [
        INCONCLUSIVE if number in lacking else REPRODUCED for number in range(7)
    ]
    for number in lacking:
        claim = checked(tmp_path)[number]
        named = f"plain-110 (seeds {seeds - 1})"
        assert claim.summary == f"no number to judge: exactly 0 or not finite in {named}"
        assert claim.criteria == ()


def test_a_mean_over_seeds_without_the_one_that_has_no_number_is_not_shown(tmp_path):
    measured(tmp_path, "start", seeds=3)
    changed(
        tmp_path / "start-none",
        lambda p: (p.arm, p.depth, p.seed, p.layer) == ("plain", 110, 1, 109),
        response=0.0,
    )
    lines = {tuple(line[:2]): line[2:] for line in claims.table(signal_of(tmp_path)).rows}
    assert lines["none", "plain-110"] == ["3", "–", "1.3e-05", "9.3e-06", "0.101", "–"]
    assert "–" not in lines["none", "plain-56"]


def test_smaller_than_single_precision_is_a_number_like_others(tmp_path):
    measured(tmp_path, "start", seeds=3, factors={**FACTORS, ("none", "plain"): 0.1})
    claim = checked(tmp_path)[2]
    assert claim.verdict == REPRODUCED
    assert claim.criteria[0].mean == pytest.approx(-107, abs=0.1)


def test_at_the_start_alone_nothing_is_said_of_trained_networks(tmp_path):
    measured(tmp_path, "start", depths=(20, 56))
    criteria = [claim.criteria for claim in checked(tmp_path)]
    assert len(criteria) == 4
    assert all(criterion.name.endswith("start") for each in criteria for criterion in each)
    assert claims.cost(signal_of(tmp_path)) == "Probes: these cells do nothing else"


def test_what_is_missing_is_named_and_inconclusive(tmp_path):
    measured(tmp_path, depths=(20,), norms=("batch",))
    later = [REPRODUCED, INCONCLUSIVE, REPRODUCED]
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 4 + later
    missing = "missing: plain networks of two depths without batch normalisation"
    assert checked(tmp_path)[2].summary == missing


def test_the_depths_that_are_judged_are_in_the_statement(tmp_path):
    measured(tmp_path)
    assert [claim.statement.rpartition(" (")[2] for claim in checked(tmp_path)[:3]] == [
        "20, 56, 110 layers)",
        "20, 56, 110 layers)",
        "20, 110 layers)",
    ]
    measured(tmp_path, depths=(20, 56))
    assert checked(tmp_path)[2].statement.endswith("(20, 56 layers)")


def test_a_diverged_cell_has_a_start_and_no_end(tmp_path):
    measured(tmp_path)
    rows = [
        made_up_record(arm=arm, depth=depth, status=DIVERGED)
        for arm in ("plain", "residual")
        for depth in (20, 56, 110)
    ]
    write_table(tmp_path / "quick-none" / RUNS_TABLE, rows, Record)
    assert verdicts(tmp_path) == [REPRODUCED] * 7
    table = claims.table(signal_of(tmp_path)).rows
    assert table[-1][:3] == ["none", "residual-110", "1"]
    assert table[-1][-4:] == ["–"] * 4
    assert "–" not in table[1]


def test_the_table_says_how_many_seeds_came_to_the_end(tmp_path):
    measured(tmp_path, seeds=3)
    path = tmp_path / "quick-none" / RUNS_TABLE
    rows = [
        replace(row, status=DIVERGED, **NO_ERRORS) if row.cell == "residual-110-seed2" else row
        for row in read_runs(path.parent)
    ]
    write_table(path, rows, Record)
    seeds = [row[2] for row in claims.table(signal_of(tmp_path)).rows[1:]]
    assert seeds == ["3"] * (len(seeds) - 1) + ["3 (end: 2)"]


def test_arms_may_have_folders_of_their_own_and_no_cell_stands_twice(tmp_path):
    measured(tmp_path, seeds=SEVERAL)
    whole = verdicts(tmp_path)
    for norm, arm in product(("batch", "none"), ("plain", "residual")):
        together, own = tmp_path / f"quick-{norm}", tmp_path / f"quick-{norm}-{arm}"
        for name, kind in ((RUNS_TABLE, Record), (PROBES_TABLE, ProbePoint)):
            rows = [row for row in read_table(together / name, kind) if row.arm == arm]
            write_table(own / name, rows, kind)
    with pytest.raises(ValueError, match=r"has plain-20-seed0 of quick-batch twice"):
        QUESTION.read(tmp_path)
    for norm in ("batch", "none"):
        shutil.rmtree(tmp_path / f"quick-{norm}")
    assert verdicts(tmp_path) == whole


def test_measures_are_what_they_are_called():
    snapshot = [
        ProbePoint("plain", 8, 0, 0, 0, 1.0, None, 1.0, None, 0.25),
        ProbePoint("plain", 8, 0, 0, 1, 0.5, 1.0, 1.0, 0.0),
        ProbePoint("plain", 8, 0, 0, 2, 0.5, 1e-2, 1e-3, 0.25),
        ProbePoint("plain", 8, 0, 0, 3, 3.5, 1e-1, 1e-1, 0.5),
    ]
    assert claims.gradient_gain(snapshot) == pytest.approx(-2)
    assert claims.weight_gradient(snapshot) == pytest.approx(-2)
    assert claims.last_response(snapshot) == pytest.approx(0.544068)
    assert claims.mean_response(snapshot) == 1.5
    assert claims.correlation(snapshot) == 0.25
    assert claims.dead(snapshot) == 0.25
    *before, last = snapshot
    for value in (None, 0.0):
        lost = [*before, replace(last, response=value, response_gradient=value)]
        assert claims.gradient_gain(lost) is None
        assert claims.last_response(lost) is None
    assert claims.mean_response([*before, replace(last, response=None)]) is None
    second = replace(snapshot[2], weight_gradient=0.0)
    assert claims.weight_gradient([*snapshot[:2], second, last]) is None


@pytest.mark.parametrize(
    ("layers", "dead"),
    [
        # an underflow: what looks dead was not measured
        ([(1.0, 0.0), (1e-38, 0.5), (0.0, 1.0), (0.0, 1.0)], None),
        # one layer is dead, and nothing comes to those behind it
        ([(1.0, 0.0), (0.5, 1.0), (0.0, 1.0), (0.0, 1.0)], 0.75),
        # a dead branch beside a shortcut
        ([(1.0, 0.0), (0.5, 1.0), (0.0, 0.5), (0.5, 0.0)], 0.375),
    ],
)
def test_channels_are_not_called_dead_where_a_signal_underflows(layers, dead):
    points = [
        ProbePoint("plain", 8, 0, 0, number, response, dead=share)
        for number, (response, share) in enumerate(layers, 1)
    ]
    assert claims.dead([ProbePoint("plain", 8, 0, 0, 0, 1.0), *points]) == dead


def test_the_cost_is_that_of_probes_beside_training(tmp_path):
    measured(tmp_path)  # three snapshots of 0.2 seconds in each cell of 60.6
    assert claims.cost(signal_of(tmp_path)) == (
        "Probes: 7.2 seconds; training and evaluation: 720 (1.00%; per cell 1.00% to 1.00%)"
    )


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_probes_that_took_an_unknown_time_or_more_than_all_decide_nothing(tmp_path, seconds):
    measured(tmp_path)
    changed(tmp_path / "quick-batch", lambda point: point.seed == 0, seconds=seconds)
    assert verdicts(tmp_path)[-1] == INCONCLUSIVE


def test_probes_of_a_diverged_cell_do_not_count_and_one_costly_cell_is_enough(tmp_path):
    measured(tmp_path)
    path = tmp_path / "quick-batch" / RUNS_TABLE
    first, *others = read_table(path, Record)
    costly, diverged = {"seconds": 10.0}, {"status": DIVERGED, **NO_ERRORS}
    for changes, expected in ((costly, NOT_REPRODUCED), (costly | diverged, REPRODUCED)):
        write_table(path, [replace(first, **changes), *others], Record)
        assert verdicts(tmp_path)[-1] == expected


def test_where_a_seed_has_exactly_zero_a_line_has_a_gap(tmp_path):
    measured(tmp_path, "start", depths=(20, 56), seeds=3, norms=("none",))
    changed(
        tmp_path / "start-none",
        lambda p: (p.arm, p.depth, p.seed, p.layer) == ("plain", 56, 1, 30),
        response_gradient=0.0,
    )
    figure = figures.gradients_figure(signal_of(tmp_path))
    gaps = [
        [list(np.flatnonzero(np.isnan(line.get_ydata()))) for line in axis.lines]
        for axis in figure.axes
    ]
    plt.close(figure)
    assert gaps == [[], [], [[], [29]], [[], []]], "plain, without normalisation, 56 layers"


def test_each_scale_is_a_part_with_its_own_label_and_figures(tmp_path):
    measured(tmp_path, depths=(20, 56))
    measured(tmp_path, "start", depths=(20, 56), seeds=2)
    signals = QUESTION.read(tmp_path)
    start, quick = map(QUESTION.label, signals)
    assert start == "digits · protocol quick, scale start · 2 seeds"
    assert quick == "digits · protocol quick, scale quick · 1 seed"
    drawn = [[each.name for each in QUESTION.drawings(signal)] for signal in signals]
    both = ["responses", "gradients", "by_depth"]
    assert drawn[0] == [f"start-{name}" for name in both]
    training = [f"training_{name}" for name in figures.DURING]
    assert drawn[1] == [f"quick-{name}" for name in [*both, "gradients_end", *training]]
    readme = QUESTION.readme(tmp_path)
    assert f"\n## {start}\n" in readme
    assert f"\n## {quick}\n" in readme


def test_folders_without_probes_are_one_line(tmp_path):
    measured(tmp_path)
    for path in tmp_path.glob(f"*/{PROBES_TABLE}"):
        path.unlink()
    with pytest.raises(ValueError, match=r"no probes in .*; make sweep-signal measures them"):
        QUESTION.read(tmp_path)


@pytest.mark.parametrize("scale", claims.SCALES)
@pytest.mark.parametrize("norm", claims.NORMS)
def test_a_scale_with_or_without_normalisation_has_its_own_folder(tmp_path, scale, norm):
    cell = compose_cell(
        tmp_path, "+experiment=signal", f"signal={scale}", f"model.norm={norm}", "data=digits"
    )
    cell.check()
    arm = "-residual" if scale == "quick" else ""  # whose tables would be too large for one file
    assert cell.results_folder == tmp_path / "signal" / f"{scale}-{norm}{arm}"
    assert cell.config.callbacks.probes._target_ == "plainres.instruments.probes.Probes"
    assert cell.identity["model"]["norm"] == norm
    assert cell.config.callbacks.probes.get("double", False) == scale.startswith("start"), (
        "training must not pay for float64"
    )
    assert scale.startswith("start") or "at" not in cell.config.callbacks.probes, (
        "the cost is claimed of the looks by default"
    )


def test_from_cells_to_verdicts(tmp_path):
    """The way of a real sweep, at the start alone and with few images."""
    few = ("protocol.width=2", "+callbacks.probes.images=8", "threads=1")
    for norm in claims.NORMS:
        for arm in claims.ARMS:
            for depth in (8, 14):
                cell = compose_cell(
                    tmp_path,
                    "+experiment=signal",
                    "signal=start",
                    f"model={arm}",
                    f"model.depth={depth}",
                    f"model.norm={norm}",
                    *few,
                )
                train.train_cell(cell)
        train.files.gather(cell.results_folder)
    signal = signal_of(tmp_path / "signal")
    assert {len(snapshots) for snapshots in signal.snapshots.values()} == {1}
    assert all(claim.criteria for claim in claims.check(signal))
