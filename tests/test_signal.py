"""What flows forward and backward, on made-up tables; and the slug's configurations."""

from dataclasses import replace

import numpy as np
import pytest
from composing import compose_cell
from made_up import made_up_record
from matplotlib import pyplot as plt

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.reporting import style as report
from experiments.signal import claims, figures
from experiments.signal.claims import PROBES_TABLE, ProbePoint
from plainres.records.files import RUNS_TABLE, read_runs, read_table, write_table
from plainres.records.schema import DIVERGED, FINISHED, Record
from plainres.run import train

# Per layer: what the gradient is multiplied by on its way back. As theory has it: it explodes a little in plain networks with batch
# normalisation, vanishes without, and stays with shortcuts.
FACTORS = {
    ("batch", "plain"): 1.01,
    ("none", "plain"): 0.9,
    ("batch", "residual"): 1.0,
    ("none", "residual"): 1.01,
}
CORRELATIONS = {"plain": {20: 0.3, 56: 0.12, 110: 0.1}, "residual": {20: 0.4, 56: 0.35, 110: 0.3}}
RESPONSES = {"plain": {20: 1.0, 56: 1.0, 110: 1.0}, "residual": {20: 0.9, 56: 0.7, 110: 0.5}}


def cell_points(
    norm, arm, depth, seed, iterations, factors, correlations, responses
) -> list[ProbePoint]:
    points = []
    noise = 1 + 0.01 * seed
    for iteration in (0, 10, iterations):
        points.append(
            ProbePoint(
                arm,
                depth,
                seed,
                iteration,
                0,
                1.0,
                None,
                1.0,
                None,
                noise * correlations[arm][depth],
                0.2,
            )
        )
        for layer in range(1, depth):
            gradient = noise ** (1 / layer) * factors[norm, arm] ** (depth - 1 - layer)
            weights = noise ** (20 / depth) * (1.0 if norm == "batch" else 0.9**depth)
            response = noise * (1.0 if iteration == 0 else responses[arm][depth])
            points.append(
                ProbePoint(arm, depth, seed, iteration, layer, response, weights, gradient, 0.01)
            )
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
        cells = [
            (arm, depth, seed)
            for arm in ("plain", "residual")
            for depth in depths
            for seed in range(seeds)
        ]
        rows = [
            made_up_record(
                arm=a,
                depth=d,
                seed=s,
                iterations=iterations,
                seconds=seconds + s,
                protocol=f"{scale}-{norm}",
            )
            for a, d, s in cells
        ]
        write_table(folder / f"{scale}-{norm}" / RUNS_TABLE, rows, Record)
        points = [
            point
            for cell in cells
            for point in cell_points(norm, *cell, iterations, factors, correlations, responses)
        ]
        write_table(folder / f"{scale}-{norm}" / PROBES_TABLE, points, ProbePoint)


def changed(folder, wanted, **values) -> None:
    """Gives those points of a table that are wanted other values."""
    points = [
        replace(point, **values) if wanted(point) else point
        for point in read_table(folder / PROBES_TABLE, ProbePoint)
    ]
    write_table(folder / PROBES_TABLE, points, ProbePoint)


def checked(folder, number=0):
    return claims.check(claims.read_signals(folder)[number])


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in checked(folder)]


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_papers_and_textbooks_say_is_reproduced(tmp_path, seeds):
    measured(tmp_path, seeds=seeds)
    found = checked(tmp_path)
    assert [claim.verdict for claim in found] == [REPRODUCED] * 7
    assert all((claim.p is not None) == (seeds > 1) for claim in found)


@pytest.mark.parametrize(
    ("changes", "contradicted"),
    [
        ({"factors": {**FACTORS, ("batch", "plain"): 0.9}}, [0]),
        ({"factors": {**FACTORS, ("batch", "plain"): 1.1}}, [1]),
        ({"factors": {**FACTORS, ("none", "plain"): 1.0}}, [2]),
        ({"correlations": {**CORRELATIONS, "residual": {20: 0.4, 56: 0.35, 110: 0.05}}}, [3]),
        ({"correlations": {**CORRELATIONS, "plain": {20: 0.1, 56: 0.1, 110: 0.2}}}, [3]),
        ({"responses": {**RESPONSES, "residual": {20: 1.3, 56: 0.7, 110: 0.5}}}, [4]),
        ({"responses": {**RESPONSES, "residual": {20: 0.5, 56: 0.7, 110: 0.6}}}, [5]),
        ({"seconds": 20.0}, [6]),  # of which three looks take 0.6
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_each_claim_can_be_contradicted_alone(tmp_path, changes, contradicted, seeds):
    measured(tmp_path, seeds=seeds, **changes)
    assert verdicts(tmp_path) == [
        NOT_REPRODUCED if number in contradicted else REPRODUCED for number in range(7)
    ]


def test_gradients_that_vanish_in_training_alone_count(tmp_path):
    measured(tmp_path)
    changed(
        tmp_path / "quick-batch",
        lambda p: (p.arm, p.iteration, p.layer) == ("plain", 2000, 2),
        response_gradient=1e-3,
    )
    assert verdicts(tmp_path)[:2] == [NOT_REPRODUCED, REPRODUCED]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("factor", "contradicted"), [(1e-3, 0), (1e3, 1)])
def test_weights_gradients_that_change_with_depth_count_even_where_those_of_outputs_do_not(
    tmp_path, seeds, factor, contradicted
):
    measured(tmp_path, seeds=seeds)
    for seed in range(seeds):
        wanted = ("plain", 110, seed, 2)
        changed(
            tmp_path / "quick-batch",
            lambda p, wanted=wanted: (p.arm, p.depth, p.seed, p.layer) == wanted,
            weight_gradient=factor * (1 + 0.02 * seed),
        )
    assert [
        number for number, found in enumerate(verdicts(tmp_path)) if found == NOT_REPRODUCED
    ] == [contradicted]


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
    assert checked(tmp_path)[1].seen == (
        "from the last layer to the second the gradient changes at the start plain-20 ×1.2, plain-56 ×1.7, plain-110 ×2.9; "
        "weights of the second layer from 20 to 110 layers: ×1; "
        "residual networks, not judged: from the last layer to the second the gradient changes at the start "
        "residual-20 ×1.7, residual-56 ×4.8, residual-110 ×24; weights of the second layer from 20 to 110 layers: ×1; "
        "1 of their 3 gradients grow beyond ten times; one seed: a direction, not a test"
    )
    assert checked(tmp_path)[1].verdict == REPRODUCED
    changed(tmp_path / "start-batch", lambda p: p.arm == "residual", response_gradient=0.0)
    assert "no residual networks to compare with" in checked(tmp_path)[1].seen


@pytest.mark.parametrize("seeds", [1, 3])
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
    found = checked(tmp_path)
    assert [claim.verdict for claim in found] == [
        INCONCLUSIVE if number in lacking else REPRODUCED for number in range(7)
    ]
    for number in lacking:
        assert (
            found[number].seen
            == f"no number to judge by: exactly 0 or not finite in plain-110 (seeds {seeds - 1})"
        )
        assert found[number].criteria == ()


def test_a_mean_over_seeds_without_the_one_that_has_no_number_is_not_shown(tmp_path):
    measured(tmp_path, "start", seeds=3)
    changed(
        tmp_path / "start-none",
        lambda p: (p.arm, p.depth, p.seed, p.layer) == ("plain", 110, 1, 109),
        response=0.0,
    )
    lines = {tuple(line[:2]): line[2:] for line in claims.table(claims.read_signals(tmp_path)[0])}
    assert lines["none", "plain-110"] == ["3", "–", "1.3e-05", "9.3e-06", "0.101", "–"]
    assert "–" not in lines["none", "plain-56"]


def test_smaller_than_single_precision_is_a_number_like_others(tmp_path):
    measured(tmp_path, "start", seeds=3, factors={**FACTORS, ("none", "plain"): 0.1})
    found = checked(tmp_path)[2]
    assert found.verdict == REPRODUCED
    assert found.criteria[0].mean == pytest.approx(-107, abs=0.1)


def test_at_the_start_alone_nothing_is_said_of_trained_networks(tmp_path):
    measured(tmp_path, "start", depths=(20, 56))
    found = checked(tmp_path)
    assert len(found) == 4
    assert not any("end" in criterion.name for claim in found for criterion in claim.criteria)
    assert claims.cost(claims.read_signals(tmp_path)[0]) == "looking: these cells do nothing else"


def test_what_is_missing_is_named_and_inconclusive(tmp_path):
    measured(tmp_path, depths=(20,), norms=("batch",))
    found = checked(tmp_path)
    assert [claim.verdict for claim in found] == [INCONCLUSIVE] * 4 + [
        REPRODUCED,
        INCONCLUSIVE,
        REPRODUCED,
    ]
    assert found[2].seen == "missing: plain networks of two depths without batch normalisation"


def test_a_diverged_cell_has_a_start_and_no_end(tmp_path):
    measured(tmp_path)
    rows = [
        made_up_record(arm=arm, depth=depth, status=DIVERGED)
        for arm in ("plain", "residual")
        for depth in (20, 56, 110)
    ]
    write_table(tmp_path / "quick-none" / RUNS_TABLE, rows, Record)
    assert verdicts(tmp_path) == [REPRODUCED] * 7
    table = claims.table(claims.read_signals(tmp_path)[0])
    assert table[-1][:3] == ["none", "residual-110", "1"]
    assert table[-1][-4:] == ["–"] * 4
    assert "–" not in table[1]


def test_measures_are_what_they_are_called():
    look = [
        ProbePoint("plain", 8, 0, 0, 0, 1.0, None, 1.0, None, 0.25),
        ProbePoint("plain", 8, 0, 0, 1, 0.5, 1.0, 1.0, 0.0),
        ProbePoint("plain", 8, 0, 0, 2, 0.5, 1e-2, 1e-3, 0.25),
        ProbePoint("plain", 8, 0, 0, 3, 3.5, 1e-1, 1e-1, 0.5),
    ]
    assert claims.gradient_gain(look) == pytest.approx(-2)
    assert claims.weight_gradient(look) == pytest.approx(-2)
    assert claims.last_response(look) == pytest.approx(0.544068)
    assert claims.mean_response(look) == 1.5
    assert claims.correlation(look) == 0.25
    assert claims.dead(look) == 0.25
    for value in (None, 0.0):
        lost = [
            *look[:3],
            replace(look[3], response=value, weight_gradient=value, response_gradient=value),
        ]
        assert [measure(lost) for measure in (claims.gradient_gain, claims.last_response)] == [
            None
        ] * 2
    assert claims.mean_response([*look[:3], replace(look[3], response=None)]) is None
    assert (
        claims.weight_gradient([*look[:2], replace(look[2], weight_gradient=0.0), look[3]]) is None
    )


@pytest.mark.parametrize(
    ("layers", "dead"),
    [
        (
            [(1.0, 0.0), (1e-38, 0.5), (0.0, 1.0), (0.0, 1.0)],
            None,
        ),  # an underflow: what looks dead has not been seen
        (
            [(1.0, 0.0), (0.5, 1.0), (0.0, 1.0), (0.0, 1.0)],
            0.75,
        ),  # one layer is dead, and nothing comes to those behind it
        (
            [(1.0, 0.0), (0.5, 1.0), (0.0, 0.5), (0.5, 0.0)],
            0.375,
        ),  # a dead branch beside a shortcut
    ],
)
def test_channels_are_not_called_dead_where_a_signal_underflows(layers, dead):
    points = [
        ProbePoint("plain", 8, 0, 0, number, response, dead=share)
        for number, (response, share) in enumerate(layers, 1)
    ]
    assert claims.dead([ProbePoint("plain", 8, 0, 0, 0, 1.0), *points]) == dead


def test_the_cost_is_that_of_looks_beside_the_rest(tmp_path):
    measured(tmp_path)  # three looks of 0.2 seconds in each cell of 60.6
    assert claims.cost(claims.read_signals(tmp_path)[0]) == (
        "looking: 7.2 seconds beside 720 of training and evaluation, 1.00% (a cell: 1.00% to 1.00%)"
    )


def test_what_a_diverged_cell_spent_on_looking_is_not_counted_and_one_costly_cell_is_enough(
    tmp_path,
):
    measured(tmp_path)
    path = tmp_path / "quick-batch"
    rows = read_runs(path)

    def verdict_of(status: str) -> str:
        costly = replace(rows[0], seconds=10.0, status=status)
        write_table(path / RUNS_TABLE, [costly, *rows[1:]], Record)
        return claims.check(claims.read_signals(tmp_path)[0])[-1].verdict

    assert verdict_of(FINISHED) == NOT_REPRODUCED
    assert verdict_of(DIVERGED) == REPRODUCED


def test_figures_and_readme_are_the_same_twice_and_say_what_they_show(tmp_path):
    measured(tmp_path, depths=(20, 56))
    first = {path: path.read_bytes() for path in figures.make(tmp_path)}
    names = {
        f"quick-{name}"
        for name in ("responses", "gradients", "by_depth", "gradients_end", "training")
    }
    assert {path.stem for path in first} == names | {"README"}
    (signal,) = claims.read_signals(tmp_path)
    with plt.rc_context(report.STYLE):
        again = report.save(figures.training_figure(signal), tmp_path / "again" / "quick-training")
    assert [path.read_bytes() for path in again] == [
        first[tmp_path / "figures" / path.name] for path in again
    ]
    text = (tmp_path / "README.md").read_text()
    assert text == figures.readme([signal])
    assert "## quick: digits · protocol quick-batch, quick-none · 1 seed" in text
    for name in names:
        assert f"(figures/{name}.png)" in text


def test_where_a_seed_has_exactly_zero_a_line_has_a_gap(tmp_path):
    measured(tmp_path, "start", depths=(20, 56), seeds=3, norms=("none",))
    changed(
        tmp_path / "start-none",
        lambda p: (p.arm, p.depth, p.seed, p.layer) == ("plain", 56, 1, 30),
        response_gradient=0.0,
    )
    figure = figures.gradients_figure(claims.read_signals(tmp_path)[0])
    gaps = [list(np.flatnonzero(np.isnan(line.get_ydata()))) for line in figure.axes[1].lines]
    plt.close(figure)
    assert gaps == [[], [29], [], []]


def test_each_scale_has_its_section_with_its_own_label(tmp_path):
    measured(tmp_path, depths=(20, 56))
    measured(tmp_path, "start", depths=(20, 56), seeds=2)
    text = figures.readme(claims.read_signals(tmp_path))
    start, quick = text.split("\n## ")[1:]
    assert start.startswith("start: digits · protocol start-batch, start-none · 2 seeds\n")
    assert quick.startswith("quick: digits · protocol quick-batch, quick-none · 1 seed\n")
    assert "training.png" not in start


@pytest.mark.parametrize("command", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, command):
    assert command([str(tmp_path)]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_the_status_of_a_check_says_whether_a_claim_is_contradicted(tmp_path, capsys):
    measured(tmp_path, depths=(20, 56))
    assert claims.main([str(tmp_path)]) == 0
    measured(tmp_path, "start", depths=(20, 56), factors={**FACTORS, ("batch", "plain"): 0.5})
    assert claims.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "start (digits)" in out
    assert "1.00%" in out


@pytest.mark.parametrize("scale", claims.SCALES)
@pytest.mark.parametrize("norm", claims.NORMS)
def test_a_scale_with_or_without_normalisation_has_its_own_folder(tmp_path, scale, norm):
    cell = compose_cell(
        tmp_path, "+experiment=signal", f"signal={scale}", f"model.norm={norm}", "data=digits"
    )
    cell.check()
    assert cell.results_folder == tmp_path / "signal" / f"{scale}-{norm}"
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
    (signal,) = claims.read_signals(tmp_path / "signal")
    assert {len(looks) for looks in signal.looks.values()} == {1}
    assert all(claim.criteria for claim in claims.check(signal))
