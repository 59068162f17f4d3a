"""What flows forward and backward, on made-up tables; and the slug's configurations."""

import pytest
from composing import compose_cell
from made_up import made_up_record
from matplotlib import pyplot as plt

from experiments import report
from experiments.signal import claims, figures
from experiments.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from plainres import train
from plainres.record import DIVERGED, PROBES_TABLE, RUNS_TABLE, ProbePoint, Record, read_probes, write_table

# Per layer: what the gradient is multiplied by on its way back. As theory has it: it explodes a little in plain networks with batch
# normalisation, vanishes without, and stays with shortcuts.
FACTORS = {("batch", "plain"): 1.01, ("none", "plain"): 0.9, ("batch", "residual"): 1.0, ("none", "residual"): 1.01}
CORRELATIONS = {"plain": {20: 0.3, 56: 0.12, 110: 0.1}, "residual": {20: 0.4, 56: 0.35, 110: 0.3}}
RESPONSES = {"plain": {20: 1.0, 56: 1.0, 110: 1.0}, "residual": {20: 0.9, 56: 0.7, 110: 0.5}}


def cell_points(norm, arm, depth, seed, iterations, factors, correlations, responses) -> list[ProbePoint]:
    points = []
    noise = 1 + 0.01 * seed
    for iteration in (0, 10, iterations):
        points.append(ProbePoint(arm, depth, seed, iteration, 0, 1.0, None, 1.0, None, noise * correlations[arm][depth], 0.2))
        for layer in range(1, depth):
            gradient = noise ** (1 / layer) * factors[norm, arm] ** (depth - 1 - layer)
            weights = noise ** (20 / depth) * (1.0 if norm == "batch" else 0.9**depth)
            response = noise * (1.0 if iteration == 0 else responses[arm][depth])
            points.append(ProbePoint(arm, depth, seed, iteration, layer, response, weights, gradient, 0.01))
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
) -> None:
    iterations = 1 if scale == "start" else 2000
    for norm in norms:
        cells = [(arm, depth, seed) for arm in ("plain", "residual") for depth in depths for seed in range(seeds)]
        rows = [
            made_up_record(arm=a, depth=d, seed=s, iterations=iterations, seconds=60.6, protocol=f"{scale}-{norm}") for a, d, s in cells
        ]
        write_table(folder / f"{scale}-{norm}" / RUNS_TABLE, rows, Record)
        points = [point for cell in cells for point in cell_points(norm, *cell, iterations, factors, correlations, responses)]
        write_table(folder / f"{scale}-{norm}" / PROBES_TABLE, points, ProbePoint)


def checked(folder, number=0):
    return claims.check(claims.read_signals(folder)[number])


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in checked(folder)]


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_papers_and_textbooks_say_is_reproduced(tmp_path, seeds):
    measured(tmp_path, seeds=seeds)
    found = checked(tmp_path)
    assert [claim.verdict for claim in found] == [REPRODUCED] * 6
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
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_each_claim_can_be_contradicted_alone(tmp_path, changes, contradicted, seeds):
    measured(tmp_path, seeds=seeds, **changes)
    assert verdicts(tmp_path) == [NOT_REPRODUCED if number in contradicted else REPRODUCED for number in range(6)]


def test_gradients_that_vanish_in_training_alone_count(tmp_path):
    measured(tmp_path)
    path = tmp_path / "quick-batch"
    points = [
        ProbePoint(p.arm, p.depth, p.seed, p.iteration, p.layer, p.response, p.weight_gradient, 1e-3, p.dead)
        if (p.arm, p.iteration, p.layer) == ("plain", 2000, 1)
        else p
        for p in read_probes(path)
    ]
    write_table(path / PROBES_TABLE, points, ProbePoint)
    assert verdicts(tmp_path)[0] == NOT_REPRODUCED


def test_a_gradient_of_zero_has_vanished(tmp_path):
    measured(tmp_path)
    path = tmp_path / "quick-none"
    points = [
        ProbePoint(p.arm, p.depth, p.seed, p.iteration, p.layer, p.response, 0.0, 0.0, p.dead) if (p.depth, p.layer) == (110, 1) else p
        for p in read_probes(path)
    ]
    write_table(path / PROBES_TABLE, points, ProbePoint)
    found = checked(tmp_path)[2]
    assert found.verdict == REPRODUCED
    assert found.criteria[0].mean == pytest.approx(-38)


def test_a_gradient_of_zero_has_vanished_however_small_the_last_one_is(tmp_path):
    measured(tmp_path)
    path = tmp_path / "quick-none"
    points = [
        ProbePoint(p.arm, p.depth, p.seed, p.iteration, p.layer, p.response, 0.0, 0.0, p.dead) if p.depth == 110 else p
        for p in read_probes(path)
    ]
    write_table(path / PROBES_TABLE, points, ProbePoint)
    found = checked(tmp_path)[2]
    assert found.verdict == REPRODUCED
    assert found.criteria[0].mean == pytest.approx(-38)


def test_at_the_start_alone_nothing_is_said_of_trained_networks(tmp_path):
    measured(tmp_path, "start", depths=(20, 56))
    found = checked(tmp_path)
    assert len(found) == 4
    assert not any("end" in criterion.name for claim in found for criterion in claim.criteria)
    assert claims.cost(claims.read_signals(tmp_path)[0]) == "looking: these cells do nothing else"


def test_what_is_missing_is_named_and_inconclusive(tmp_path):
    measured(tmp_path, depths=(20,), norms=("batch",))
    found = checked(tmp_path)
    assert [claim.verdict for claim in found] == [INCONCLUSIVE, REPRODUCED, INCONCLUSIVE, INCONCLUSIVE, REPRODUCED, INCONCLUSIVE]
    assert found[2].seen == "missing: plain networks of two depths without batch normalisation"


def test_a_diverged_cell_has_a_start_and_no_end(tmp_path):
    measured(tmp_path)
    rows = [made_up_record(arm=arm, depth=depth, status=DIVERGED) for arm in ("plain", "residual") for depth in (20, 56, 110)]
    write_table(tmp_path / "quick-none" / RUNS_TABLE, rows, Record)
    assert verdicts(tmp_path) == [REPRODUCED] * 6
    table = claims.table(claims.read_signals(tmp_path)[0])
    assert table[-1][:3] == ["none", "residual-110", "1"]
    assert table[-1][-4:] == ["–"] * 4
    assert "–" not in table[1]


def test_measures_are_what_they_are_called():
    look = [
        ProbePoint("plain", 8, 0, 0, 0, 1.0, None, 1.0, None, 0.25),
        ProbePoint("plain", 8, 0, 0, 1, 0.5, 1e-2, 1e-3, 0.0),
        ProbePoint("plain", 8, 0, 0, 2, 2.5, 1e-1, 1e-1, 0.5),
    ]
    assert claims.gradient_gain(look) == pytest.approx(-2)
    assert claims.first_weight_gradient(look) == pytest.approx(-2)
    assert claims.last_response(look) == pytest.approx(0.39794)
    assert claims.mean_response(look) == 1.5
    assert claims.correlation(look) == 0.25
    assert claims.dead(look) == 0.25
    overflown = [*look[:2], ProbePoint("plain", 8, 0, 0, 2, None, None, None, 0.5)]
    assert [measure(overflown) for measure in (claims.gradient_gain, claims.mean_response, claims.last_response)] == [None] * 3


def test_the_cost_is_that_of_looks_beside_the_rest(tmp_path):
    measured(tmp_path)  # three looks of 0.2 seconds in each cell of 60.6
    assert claims.cost(claims.read_signals(tmp_path)[0]) == (
        "looking: 7.2 seconds beside 720 of training and evaluation, 1.00% (a cell: 1.00% to 1.00%)"
    )


def test_figures_and_readme_are_the_same_twice_and_say_what_they_show(tmp_path):
    measured(tmp_path, depths=(20, 56))
    first = {path: path.read_bytes() for path in figures.make(tmp_path)}
    names = {f"quick-{name}" for name in ("responses", "gradients", "by_depth", "training")}
    assert {path.stem for path in first} == names | {"README"}
    (signal,) = claims.read_signals(tmp_path)
    with plt.rc_context(report.STYLE):
        again = report.save(figures.training_figure(signal), tmp_path / "again" / "quick-training")
    assert [path.read_bytes() for path in again] == [first[tmp_path / "figures" / path.name] for path in again]
    text = (tmp_path / "README.md").read_text()
    assert text == figures.readme([signal])
    assert "## quick: digits · protocol quick-batch, quick-none · 1 seed" in text
    for name in names:
        assert f"(figures/{name}.png)" in text


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
    cell = compose_cell(tmp_path, "+experiment=signal", f"signal={scale}", f"model.norm={norm}", "data=digits")
    cell.check()
    assert cell.protocol_folder == tmp_path / "signal" / f"{scale}-{norm}"
    assert cell.config.callbacks.probes._target_ == "plainres.probes.Probes"
    assert cell.identity["model"]["norm"] == norm


def test_from_cells_to_verdicts(tmp_path):
    """The way of a real sweep, at the start alone and with few images."""
    few = ("protocol.width=2", "+callbacks.probes.images=8", "threads=1")
    for norm in claims.NORMS:
        for arm in claims.ARMS:
            for depth in (8, 14):
                cell = compose_cell(
                    tmp_path, "+experiment=signal", "signal=start", f"model={arm}", f"model.depth={depth}", f"model.norm={norm}", *few
                )
                train.train_cell(cell)
        train.records.gather(cell.protocol_folder)
    (signal,) = claims.read_signals(tmp_path / "signal")
    assert {len(looks) for looks in signal.looks.values()} == {1}
    assert all(claim.criteria for claim in claims.check(signal))
