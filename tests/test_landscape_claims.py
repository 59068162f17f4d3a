"""Measures of loss surfaces and the claims about them, on made-up surfaces."""

import math

import numpy as np
import pytest
from drawn import caption
from made_up import made_up_record, write_made_up
from matplotlib import pyplot as plt

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.landscape import QUESTION, figures
from experiments.landscape.claims import CLAIMS, Plane, SurfacePoint, hessian_eigenvalues
from plainres.records.files import RUNS_TABLE, read_runs, write_json, write_table


def bowl(x: float, y: float) -> float:
    return 0.1 + x * x + y * y


def chaotic(x: float, y: float) -> float:
    return math.exp(3 - 4 * math.cos(12 * x + 5 * y) * math.cos(9 * y))  # least at the centre


def made_up_surface(folder, arm="residual", function=bowl, trained=None, **changes) -> None:
    """A surface of losses `function`(x, y), as plainres.instruments.landscape writes it.

    Args:
        trained: of its network's record, which is written into runs.csv if that lacks it.
    """
    values = {
        "arm": arm,
        "depth": 44,
        "seed": 0,
        "protocol": "quick",
        "data_label": "digits",
        "num_classes": 10,
        "direction_seed": 0,
        "statistics": "running",
        "images": 1000,
        "points": 9,
        "radius": 1.0,
        "cosine": 0.01,
        "config_hash": "0123456789ab",
        "weights": "0123456789ab",
        "data_fingerprint": "0123456789ab",
        "seconds": 60.0,
        "precision": "32-true",
        "processor": "a processor, 2 GHz",
        "commit": "c0ffee" * 6 + "c0ff",
        "clean": True,
        "torch": "2.9.0",
        "python": "3.12.0",
        "lightning": "2.6.0",
        "finished_at": "2026-01-01T00:00:00Z",
        "instruction_set": "ATen AVX512 / oneDNN ALL",
        "kernels": "library",
    }
    values |= changes
    at = np.linspace(-values["radius"], values["radius"], values["points"])
    losses = {(float(x), float(y)): function(float(x), float(y)) for y in at for x in at}
    points = [SurfacePoint(*place, loss, min(1.0, loss / 3)) for place, loss in losses.items()]
    names = ("arm", "depth", "seed", "direction_seed", "statistics")
    path = folder / f"surface-{'-'.join(str(values[name]) for name in names)}.csv"
    write_table(path, points, SurfacePoint)
    write_json(path.with_suffix(".json"), values)
    same = ("arm", "depth", "seed", "config_hash", "data_fingerprint")
    record = made_up_record(**{name: values[name] for name in same}, **(trained or {}))
    others = [row for row in read_runs(folder) if row.cell != record.cell]
    write_made_up(folder, [*others, record])


@pytest.fixture
def folder(tmp_path):
    """Three pairs of directions: bowls around residual-44, chaos around plain-44."""
    for number in range(3):
        stretch = 1 + 0.1 * number
        made_up_surface(
            tmp_path, "residual", lambda x, y, s=stretch: bowl(x, y * s), direction_seed=number
        )
        made_up_surface(
            tmp_path, "plain", lambda x, y, s=stretch: chaotic(x * s, y), direction_seed=number
        )
    return tmp_path


def planes_of(folder) -> list[Plane]:
    (planes,) = QUESTION.read(folder)
    return list(planes)


def checked(folder) -> list[Claim]:
    return list(QUESTION.claims(planes_of(folder)))


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in checked(folder)]


def test_eigenvalues_are_those_of_a_known_quadratic():
    y, x = np.mgrid[0:5, 0:6].astype(float)
    smallest, largest = hessian_eigenvalues(2 * x * x - y * y + 3 * x * y)
    expected = np.linalg.eigvalsh([[4.0, 3.0], [3.0, -2.0]])
    assert smallest.shape == (3, 4)
    assert np.allclose(smallest, expected[0])
    assert np.allclose(largest, expected[1])


@pytest.mark.parametrize(
    ("function", "curvature", "basin"),
    [
        (bowl, 0.0, 57 / 81),  # points of a 9 × 9 grid within a circle of radius 1.05
        (lambda x, y: 0.3 + 9 * (x * x + y * y), 0.0, 5 / 81),
        # all but (±1, 0), (±1, ±1/4) and (±1, ±1/2)
        (lambda x, y: 1.6 + (x * x - y * y) / 2, 1.0, 71 / 81),
        (lambda x, y: 1.0 if x < 0.1 else 9.0 + 4 * x * x, None, 5 / 9),
        (lambda x, y: math.inf if x > 0.9 else 0.1 + x * x, 0.0, 8 / 9),
        # a plateau of guessing belongs to no basin
        (lambda x, y: 2.0 if (x, y) == (0, 0) else math.log(10), None, 1 / 81),
    ],
)
def test_measures_of_known_surfaces(tmp_path, function, curvature, basin):
    made_up_surface(tmp_path, function=function)
    (plane,) = planes_of(tmp_path)
    assert curvature is None or plane.negative_curvature == curvature
    assert plane.basin == pytest.approx(basin)


def test_rounding_on_a_plateau_is_no_curvature(tmp_path):
    noise = np.random.default_rng(0)
    made_up_surface(tmp_path, function=lambda x, y: math.log(10) + noise.uniform(-1e-5, 1e-5))
    assert planes_of(tmp_path)[0].negative_curvature == 0


@pytest.mark.parametrize("height", [2.4, math.nan, math.inf])
def test_around_a_network_no_better_than_guessing_there_is_no_basin(folder, height):
    made_up_surface(folder, "plain", lambda x, y: height + x * x + y * y, direction_seed=0)
    claim = checked(folder)[2]
    assert (claim.verdict, claim.summary) == (
        INCONCLUSIVE,
        "a surface has no finite part, or a network is no better than guessing",
    )


def test_a_ripple_is_rougher_than_a_bowl(folder):
    rough, smooth = (
        [plane.roughness for plane in planes_of(folder) if plane.surface.arm == arm]
        for arm in ("plain", "residual")
    )
    assert min(rough) > 3 * max(smooth)


def test_bowl_against_chaos_is_reproduced_and_the_opposite_contradicted(folder, tmp_path_factory):
    claims = checked(folder)
    assert [claim.verdict for claim in claims] == [REPRODUCED] * 3
    assert all("as claimed in 3 of 3 pairs" in claim.summary for claim in claims)
    turned = tmp_path_factory.mktemp("turned")
    made_up_surface(turned, "plain")
    made_up_surface(turned, "residual", chaotic)
    assert verdicts(turned) == [NOT_REPRODUCED] * 3


def test_one_trained_network_gives_a_direction_however_many_pairs_of_directions(folder):
    claims = checked(folder)
    assert all(claim.words == "supports" and claim.p is None for claim in claims)
    assert claims[0].headline.endswith("n = 1, no test below 7 seeds")


def test_with_several_training_seeds_they_are_the_unit(folder):
    for seed in range(1, 7):
        made_up_surface(folder, "residual", seed=seed)
        made_up_surface(folder, "plain", chaotic, seed=seed)
    claims = checked(folder)
    assert [claim.num_seeds for claim in claims] == [7, 7, 7]
    assert [claim.words for claim in claims] == [REPRODUCED] * 3
    assert "as claimed in 9 of 9 pairs" in claims[0].summary


def test_surfaces_of_one_seed_on_two_machines_are_not_comparable(tmp_path):
    for seed in (0, 1):
        made_up_surface(tmp_path, "residual", seed=seed)
        made_up_surface(tmp_path, "plain", chaotic, seed=seed, processor="old" * (seed == 0))
    claims = checked(tmp_path)
    named = "not comparable: seed 0 (plain-44: old; residual-44: a processor, 2 GHz)"
    assert [claim.num_seeds for claim in claims] == [0, 0, 0]
    assert claims[0].summary.startswith(named)
    for arm, function in (("plain", chaotic), ("residual", bowl)):
        made_up_surface(tmp_path, arm, function, seed=1)
    claims = checked(tmp_path)
    assert [claim.num_seeds for claim in claims] == [1, 1, 1]
    assert claims[0].summary.endswith(f"as claimed in 1 of 1 pairs; {named}")


def test_networks_trained_on_two_machines_are_not_comparable(tmp_path):
    for seed in (0, 1):
        made_up_surface(tmp_path, "residual", seed=seed)
        trained = {"kernels": "fused"} if seed == 0 else {}
        made_up_surface(tmp_path, "plain", chaotic, seed=seed, trained=trained)
    claims = checked(tmp_path)
    assert [claim.num_seeds for claim in claims] == [1, 1, 1]
    assert "; training not comparable: seed 0 (plain-44: " in claims[0].summary
    made_up_surface(tmp_path, "plain", chaotic, seed=1, trained={"torch": "2.8.0"})
    assert [claim.verdict for claim in checked(tmp_path)] == [INCONCLUSIVE] * 3


def test_a_surface_around_a_network_without_a_record_is_refused(folder):
    lines = (folder / RUNS_TABLE).read_text().splitlines()
    (folder / RUNS_TABLE).write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"surface-plain.*runs\.csv has no plain-44-seed0 of its"):
        QUESTION.read(folder)


def test_the_limit_of_the_vector_instructions_makes_processors_alike(tmp_path):
    limit = {"instruction_set": "ATen AVX2 / oneDNN AVX2"}
    made_up_surface(tmp_path, "residual", **limit)
    made_up_surface(tmp_path, "plain", chaotic, processor="another", **limit)
    assert [claim.words for claim in checked(tmp_path)] == ["supports"] * 3


@pytest.mark.parametrize("arm", ["plain", "residual"])
def test_around_a_network_that_has_not_learned_all_is_smooth_and_decides_nothing(folder, arm):
    for number in range(3):
        made_up_surface(folder, arm, lambda x, y: 2.69 + 0.01 * (x * x), direction_seed=number)
    claims = checked(folder)
    assert [claim.verdict for claim in claims] == [INCONCLUSIVE] * 3
    assert f"{arm}-44, seed 0, directions 0" in claims[0].summary
    assert "no better than guessing" in claims[0].summary


@pytest.mark.parametrize(
    ("measure", "larger", "margin"),
    [
        ("negative_curvature", "plain", 0.05),
        ("roughness", "plain", 0.02),
        ("basin", "residual", 0.05),
    ],
)
def test_less_than_the_margin_is_no_difference(folder, monkeypatch, measure, larger, margin):
    number = list(CLAIMS).index(measure)
    for gap, words in ((margin - 0.001, "contradicts"), (margin + 0.001, "supports")):
        value = property(lambda plane, gap=gap: 0.1 + gap * (plane.surface.arm == larger))
        monkeypatch.setattr(Plane, measure, value)
        assert checked(folder)[number].words == words


def test_a_surface_without_a_counterpart_is_named(folder):
    made_up_surface(folder, "plain", chaotic, direction_seed=3)
    (summary, *_) = (claim.summary for claim in checked(folder))
    assert summary.endswith(
        "in 3 of 3 pairs; without a counterpart: plain-44, seed 0, directions 3"
    )


def test_a_missing_arm_and_a_surface_without_finite_losses_decide_nothing(tmp_path):
    made_up_surface(tmp_path, "residual")
    outcomes = {(claim.verdict, claim.summary) for claim in checked(tmp_path)}
    assert outcomes == {(INCONCLUSIVE, "missing: plain-44")}
    made_up_surface(tmp_path, "plain", lambda x, y: math.nan)
    assert verdicts(tmp_path)[0] == INCONCLUSIVE


def test_surfaces_of_other_settings_are_not_compared(folder):
    made_up_surface(folder, points=5, direction_seed=7)
    with pytest.raises(ValueError, match=r"differ in points \(5, 9\)"):
        QUESTION.read(folder)


def test_other_images_other_points_and_a_draw_that_stands_twice_are_refused(folder):
    surface = next(folder.glob("surface-plain*.json"))
    points = surface.with_suffix(".csv")
    whole, lines = surface.read_text(), points.read_text().splitlines()
    points.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    with pytest.raises(ValueError, match="has other points than its radius says"):
        QUESTION.read(folder)
    points.write_text("\n".join(lines) + "\n")
    for path in (surface, points):
        path.with_name(f"surface-again{path.suffix}").write_text(path.read_text())
    with pytest.raises(ValueError, match="has 2 surfaces of plain-44, seed 0"):
        QUESTION.read(folder)
    surface.write_text(whole.replace('"data_fingerprint": "0', '"data_fingerprint": "a'))
    with pytest.raises(ValueError, match=r"surface-plain.*runs\.csv has no plain-44-seed0"):
        QUESTION.read(folder)


def test_a_damaged_table_is_named(folder):
    table = next(folder.glob("surface-plain*.csv"))
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"surface-plain.*csv has 80 points instead of 81"):
        QUESTION.read(folder)


def test_each_kind_of_statistics_is_judged_and_drawn_alone(folder):
    made_up_surface(
        folder, "plain", lambda x, y: math.inf if x > 0.5 else 3 + x, statistics="batch"
    )
    names = {path.stem for path in QUESTION.write(folder)}
    kinds = ("running", "batch")
    drawn = {f"{figure}_{kind}" for figure in ("contour", "relief") for kind in kinds}
    assert names == {*drawn, "README"}
    running, batch = (folder / "README.md").read_text().split("\n## ")[1:]
    assert running.startswith("digits · protocol quick · 1 seed, 3 pairs of directions")
    assert "statistics of each batch" in batch.splitlines()[0]
    assert "missing: residual-44" in batch
    assert "missing" not in running


def test_of_several_seeds_the_first_three_are_drawn_and_the_caption_counts_what_is(folder):
    for seed in range(1, 5):
        for arm in ("plain", "residual"):
            made_up_surface(folder, arm, seed=seed, direction_seed=0)
    figure = figures.contour_figure(planes_of(folder))
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [f"{a}-44, seed {seed}" for a in ("plain", "residual") for seed in range(3)]
    assert "3 seeds, 1 pair of directions" in caption(figure)
    assert "the title is about all 5 seeds" in caption(figure)
    plt.close(figure)
