"""The horizon on made-up tables and in short runs: prediction, claims, tables, figures, grid."""

import math

import pytest
import torch
from composing import compose_cell
from made_up import elsewhere, made_up_record
from matplotlib import pyplot as plt
from trained import SMOKE

from experiments.grid import Sweep, commands
from experiments.horizon import QUESTION, figures, prediction
from experiments.horizon.claims import GROUPS
from experiments.horizon.parts import SIZES, SKETCHES, TABLE, distance, horizon
from experiments.horizon.prediction import UNITS, predictions
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from plainres.instruments.horizon import Horizon
from plainres.instruments.weight_sketch import WeightSketch
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, read_runs, read_table, write_table
from plainres.records.rows import CONTIGUOUS, HorizonPoint, SketchPoint
from plainres.records.schema import CurvePoint, Record
from plainres.run import train
from plainres.run.trained import TrainedNetwork

DEPTHS = (8, 14, 20, 26, 32, 38, 44, 56, 68, 80, 92, 110, 140, 182, 236, 302)
SEEDS = 8


def cosine(depth: int, lost_at: float) -> float:
    """0.5 at `lost_at` layers, 1 far before and 0 far behind."""
    return 1 / (1 + (depth / lost_at) ** 8)


def write(folder, records, points=(), curves=()) -> None:
    write_table(folder / RUNS_TABLE, records, Record)
    if points:
        write_table(folder / TABLE, points, HorizonPoint)
    if curves:
        write_table(folder / CURVES_TABLE, curves, CurvePoint)


def start(folder, part="start", seeds=SEEDS, shortcuts=0.9, factor=None, depths=DEPTHS) -> None:
    """Plain networks lose the direction where predicted, times `factor`[activation, precision]."""
    factor = factor or {}
    for name in (name for group in GROUPS.values() for name in group):
        cells = [("plain", depth) for depth in depths]
        cells += [("residual", depth) for depth in (20, 1202)] if name == "relu" else []
        records, points = [], []
        for seed in range(seeds):
            for arm, depth in cells:
                records.append(made_up_record(arm=arm, depth=depth, seed=seed, iterations=1))
                for precision in UNITS:
                    lost_at = predictions()[name, precision].depth * (1 + 1e-3 * seed)
                    lost_at *= factor.get((name, precision), 1)
                    value = cosine(depth, lost_at) if arm == "plain" else shortcuts - 1e-3 * seed
                    points.append(HorizonPoint(arm, depth, seed, 0, precision, 0.0, value))
        write(folder / f"{part}-{name}", records, points)


def quick(folder, deep64=0.5, deep32=0.5) -> None:
    for precision, deep in (("64-true", deep64), ("32-true", deep32)):
        errors = {20: 0.03, 56: deep, 110: deep + 0.1}
        write(
            folder / f"quick-{precision}",
            [
                made_up_record(
                    arm="plain",
                    depth=depth,
                    seed=seed,
                    precision=precision,
                    train_error=error + 1e-4 * seed,
                )
                for depth, error in errors.items()
                for seed in range(SEEDS)
            ],
        )


def rounding(folder, **growth: float) -> None:
    """Losses of two runs differ by 1e-7 · exp(growth · update) of themselves."""
    for start_, sign in (("exact", 0), ("perturbed", 1)):
        records, curves = [], []
        for name, rate in growth.items():
            arm, depth = name.split("_")
            for seed in range(SEEDS):
                records.append(made_up_record(arm=arm, depth=int(depth), seed=seed))
                for update in range(4, 404, 4):
                    apart = min(1.0, 1e-7 * math.exp((rate + 1e-4 * seed) * update))
                    loss = 2.0 * (1 + sign * apart)
                    curves.append(CurvePoint(arm, int(depth), seed, update, 0.9, loss, 0.1))
        write(folder / f"rounding-{start_}", records, curves=curves)


def weights(folder, **growth: float) -> None:
    """Distances of weights grow from 1e-6 as exp(growth · update)."""
    for start_, sign in (("exact", 0), ("perturbed", 1)):
        records, points = [], []
        for name, rate in growth.items():
            arm, depth = name.split("_")
            for seed in range(SEEDS):
                records.append(made_up_record(arm=arm, depth=int(depth), seed=seed))
                for update in (0, 1, 4, 16, 64):
                    apart = sign * 1e-5 * math.exp((rate + 1e-4 * seed) * update)
                    projections = f"{1 + apart:.12g} {2 - apart:.12g}"
                    points.append(SketchPoint(arm, int(depth), seed, update, 10.0, projections))
        write_table(folder / f"weights-{start_}" / RUNS_TABLE, records, Record)
        write_table(folder / f"weights-{start_}" / SKETCHES, points, SketchPoint)


def layout(folder, exact=1.0, own=1.0, errors=(1e-6, 1e-5, 1e-4)) -> None:
    """Horizons where predicted, from exact sums and from the error of sums, times a factor each."""
    for size, error in zip(SIZES, errors, strict=True):
        depths = {CONTIGUOUS: exact * predictions()["relu", "float32"].depth}
        depths["float32"] = own * prediction.depth_of(error, predictions()["relu", "bf16"].growth)
        records, points = [], []
        for seed in range(SEEDS):
            for depth in DEPTHS[4:]:
                records.append(made_up_record(arm="plain", depth=depth, seed=seed, iterations=1))
                for precision, lost_at in depths.items():
                    value = cosine(depth, lost_at * (1 + 1e-3 * seed))
                    points.append(HorizonPoint("plain", depth, seed, 0, precision, 0, value, error))
        write(folder / f"layout-{size}", records, points)


def verdicts(folder) -> list[str]:
    (part,) = QUESTION.read(folder)
    return [claim.verdict for claim in QUESTION.claims(part)]


def test_the_committed_prediction_is_what_theory_gives():
    assert read_table(prediction.TABLE, prediction.Prediction) == prediction.predict()
    for (name, _), row in predictions().items():
        if name == "relu":  # ε grows to 1 by √λ a layer
            assert row.unit * row.growth ** (row.depth / 2) == pytest.approx(1, rel=1e-2)
    assert predictions()["linear", "bf16"].depth == math.inf


@pytest.mark.parametrize("growth", [1.068, 1.467])
def test_an_error_in_each_layer_adds_up_to_one_at_the_predicted_depth(growth):
    depth = prediction.depth_of_many(1e-3, growth)
    layers = [growth**layer for layer in range(math.floor(depth) + 1)]
    assert sum(layers[:-1]) <= 1e6 <= sum(layers)
    assert depth < prediction.depth_of(1e-3, growth)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16", torch.bfloat16), ("float16", torch.float16), ("float32", torch.float32)],
)
def test_the_unit_of_rounding_is_half_a_step_at_one(precision, dtype):
    assert UNITS[precision] == torch.finfo(dtype).eps / 2


def test_the_horizon_is_where_the_cosine_passes_a_half():
    assert horizon({8: 1.0, 20: 0.75, 32: 0.25}) == (26.0, False)
    assert horizon({20: 0.9, 8: 1.0}) == (20.0, True)
    assert horizon({8: 0.4, 20: 0.3}) == (8.0, False), "as deep at most"
    assert horizon({8: 1.0}) is None


def test_cells_without_a_record_are_refused(tmp_path):
    start(tmp_path)
    path = tmp_path / "start-relu" / RUNS_TABLE
    write_table(path, read_runs(path.parent)[1:], Record)
    with pytest.raises(ValueError, match=r"has plain-\d+-seed0, runs\.csv does not"):
        QUESTION.read(tmp_path)


def test_what_is_predicted_is_reproduced(tmp_path):
    start(tmp_path)
    assert verdicts(tmp_path)[:6] == [REPRODUCED] * 6


@pytest.mark.parametrize(
    ("changed", "contradicted"),
    [
        ({"factor": {("relu", "float16"): 1.4}}, {0}),
        ({"factor": {("leaky_50", "float16"): 0.7}}, {1}),
        ({"factor": {("shifted_50", "float32"): 1.4}}, {2}),
        ({"factor": {("relu", "float32"): 1.3}}, {0, 3}),
        ({"factor": {("leaky_25", "bf16"): 0.82}}, {4}),
        ({"shortcuts": 0.3}, {5}),
    ],
)
def test_each_claim_about_the_start_can_be_contradicted(tmp_path, changed, contradicted):
    start(tmp_path, **changed)
    expected = [NOT_REPRODUCED if n in contradicted else REPRODUCED for n in range(6)]
    assert verdicts(tmp_path)[:6] == expected


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(0.85, "supports"), (1.0, "contradicts")],  # 169 layers, by the other law 128
)
def test_an_error_in_each_layer_is_judged_where_it_was_not_seen(tmp_path, slope, verdict):
    factor = {("leaky_50", name): slope for name in ("bf16", "float16")}
    start(tmp_path, "start_cifar", factor=factor)
    (part,) = QUESTION.read(tmp_path)
    assert QUESTION.claims(part)[6].words == verdict


def test_networks_that_are_not_deep_enough_decide_nothing(tmp_path):
    start(tmp_path, depths=DEPTHS[:10])  # up to 80 layers; float32 is predicted at 87
    assert verdicts(tmp_path)[:4] == [INCONCLUSIVE] * 4


def test_networks_of_another_processor_are_not_compared(tmp_path):
    start(tmp_path)
    cells = [f"plain-{depth}-seed{seed}" for depth in DEPTHS for seed in range(SEEDS)]
    elsewhere(tmp_path / "start-leaky_25", *cells)
    (part,) = QUESTION.read(tmp_path)
    relu, slopes, *_, ordered, _ = QUESTION.claims(part)
    assert relu.verdict == REPRODUCED
    for claim in (slopes, ordered):
        assert claim.verdict == INCONCLUSIVE
        assert claim.summary.startswith("not comparable: seed 0, 1, 2, 3, 4, 5, 6, 7 (")


def test_a_part_without_relu_has_no_figure_of_it(tmp_path):
    start(tmp_path)
    (tmp_path / "start-relu" / RUNS_TABLE).unlink()
    (part,) = QUESTION.read(tmp_path)
    assert [drawing.name for drawing in figures.drawings(part)] == ["start-predicted"]


def test_other_widths_are_judged_on_relu_alone(tmp_path):
    start(tmp_path, part="width_4")
    for name in ("leaky_25", "leaky_50", "shifted_50", "shifted_100"):
        (tmp_path / f"width_4-{name}" / RUNS_TABLE).unlink()
    assert verdicts(tmp_path) == [REPRODUCED]


def test_is_rounding_a_cause(tmp_path):
    quick(tmp_path)
    assert verdicts(tmp_path) == [REPRODUCED, NOT_REPRODUCED]
    quick(tmp_path, deep64=0.0, deep32=0.5)
    assert verdicts(tmp_path) == [NOT_REPRODUCED, REPRODUCED]


@pytest.mark.parametrize(("precision", "against"), [("64-true", {0, 1}), ("32-true", {1})])
def test_plain_networks_of_another_processor_are_not_compared(tmp_path, precision, against):
    quick(tmp_path)
    cells = [f"plain-56-seed{seed}" for seed in range(SEEDS)]
    elsewhere(tmp_path / f"quick-{precision}", *cells)
    (part,) = QUESTION.read(tmp_path)
    found = [claim.summary.startswith("not comparable: ") for claim in QUESTION.claims(part)]
    assert {place for place, each in enumerate(found) if each} == against


def test_the_direction_comes_back_in_training(tmp_path):
    for after, expected in ((0.99, REPRODUCED), (0.15, NOT_REPRODUCED)):
        points = [
            HorizonPoint("plain", 110, seed, iteration, "float32", 0.0, value + 1e-3 * seed)
            for seed in range(SEEDS)
            for iteration, value in ((0, 0.1), (100, after))
        ]
        records = [made_up_record(arm="plain", depth=110, seed=seed) for seed in range(SEEDS)]
        write(tmp_path / "training", records, points)
        assert verdicts(tmp_path) == [expected]


def test_deeper_networks_are_apart_sooner(tmp_path):
    rates = {"plain_20": 0.1, "plain_56": 0.2, "plain_110": 0.4}
    rounding(tmp_path, **rates, residual_110=0.1)
    assert verdicts(tmp_path) == [REPRODUCED, REPRODUCED]
    rounding(tmp_path, plain_20=0.4, plain_56=0.2, plain_110=0.1, residual_110=0.4)
    assert verdicts(tmp_path) == [NOT_REPRODUCED, NOT_REPRODUCED]


def test_the_weights_of_deeper_networks_are_farther_apart(tmp_path):
    rates = {"plain_20": 0.1, "plain_56": 0.2, "plain_110": 0.3}
    weights(tmp_path, **rates, residual_110=0.1)
    assert verdicts(tmp_path) == [REPRODUCED, REPRODUCED]
    (part,) = QUESTION.read(tmp_path)
    (table,) = QUESTION.tables(part)
    row = dict(zip(table.rows[0], table.rows[1], strict=True))
    assert (row["network"], row["0"], row["seeds"]) == ("plain-20", "1.0e-06", str(SEEDS))
    weights(tmp_path, plain_20=0.3, plain_56=0.2, plain_110=0.1, residual_110=0.3)
    assert verdicts(tmp_path) == [NOT_REPRODUCED, NOT_REPRODUCED]


@pytest.mark.parametrize(
    ("changed", "contradicted"),
    [
        ({}, None),
        ({"exact": 0.75}, 0),
        ({"own": 1.3}, 1),
        ({"errors": (1e-6, 1e-6, 1e-4)}, 2),
    ],
)
def test_images_change_the_horizon_only_where_sums_are_not_exact(tmp_path, changed, contradicted):
    layout(tmp_path, **changed)
    expected = [NOT_REPRODUCED if i == contradicted else REPRODUCED for i in range(3)]
    assert verdicts(tmp_path) == expected


def test_projections_know_the_distance_of_two_networks():
    torch.manual_seed(0)
    one, other = (torch.nn.Sequential(torch.nn.Linear(50, 40), torch.nn.ReLU()) for _ in range(2))
    sketches = [
        point
        for network in (one, other)
        for point in WeightSketch(at=[0]).snapshot(("plain", 20, 0, 0), network, None)
    ]
    flat = [torch.nn.utils.parameters_to_vector(each.parameters()) for each in (one, other)]
    expected = (flat[0] - flat[1]).norm() / flat[0].norm()
    assert sketches[0].norm == pytest.approx(flat[0].norm().item(), rel=1e-6)
    assert distance(*sketches) == pytest.approx(expected.item(), rel=0.4)
    assert distance(sketches[0], sketches[0]) == 0


def test_runs_that_never_are_apart_count_with_their_last_update(tmp_path):
    rounding(tmp_path, plain_20=0.0)
    (part,) = QUESTION.read(tmp_path)
    (table,) = QUESTION.tables(part)
    assert table.rows[1] == ["plain-20", "400 ± 0", str(SEEDS)]


def test_tables_and_figures_of_all_parts(tmp_path):
    start(tmp_path)
    start(tmp_path, part="pixels_8")
    quick(tmp_path)
    rounding(tmp_path, plain_20=0.1, plain_56=0.2, residual_20=0.1)
    weights(tmp_path, plain_20=0.1, plain_56=0.2, residual_20=0.1)
    layout(tmp_path)
    text = QUESTION.text(tmp_path)
    assert "29 (29)" in text and "87 (87)" in text
    drawn = {
        drawing.name: drawing.draw()
        for part in QUESTION.read(tmp_path)
        for drawing in figures.drawings(part)
    }
    assert list(drawn) == [
        *("start-cosines", "start-predicted", "pixels_8-cosines", "layout"),
        *("quick", "rounding", "weights"),
    ]
    lines = drawn["start-cosines"].axes[0].get_lines()
    upright = [line.get_xdata()[0] for line in lines if len(set(line.get_xdata())) == 1]
    assert upright == pytest.approx([predictions()["relu", p].depth for p in UNITS])
    plt.close("all")


def test_the_grid_has_each_part_with_its_depths():
    made = [" ".join(each.words) for each in commands(Sweep("horizon"))]
    assert len(made) == 13
    assert "model=residual model.depth=1202,602,302" in made[1]
    assert "activation=relu,shifted_50" in made[0] and "activation" not in made[1]
    assert all("model.depth=140," in each and "plain" in each for each in made[2:9])
    only = commands(Sweep("horizon", variants="start", arms="plain", depths="20,56"))
    assert [" ".join(each.words).count("model.depth") for each in only] == [1]


@pytest.mark.parametrize(
    ("part", "folder"),
    [
        ("start", "start-leaky_25"),
        ("pixels_8", "pixels_8-leaky_25"),
        ("layout_8", "layout-8"),
        ("quick", "quick-32-true"),
        ("rounding", "rounding-exact"),
    ],
)
def test_parts_have_their_folders(tmp_path, part, folder):
    words = ("+experiment=horizon", "activation=leaky_25", f"horizon={part}")
    assert compose_cell(tmp_path, *words).results_folder.name == folder


def test_a_run_writes_a_row_for_each_precision(tmp_path):
    rows = measured(tmp_path)
    assert {row.precision for row in rows} == set(UNITS)
    first = {row.precision: row.median_cosine for row in rows if row.iteration == 0}
    assert first["float32"] > first["float16"] > first["bf16"] > 0
    assert first["float32"] == pytest.approx(1, abs=1e-6)
    errors = {row.precision: row.normalisation_error for row in rows if row.iteration == 0}
    for precision, unit in UNITS.items():
        # The library may sum in float32, many values one after the other
        assert unit / 4 < errors[precision] < (100 if precision == "float32" else 4) * unit


def test_with_exact_sums_normalisation_errs_by_the_unit_of_rounding(tmp_path):
    rows = measured(tmp_path, f"+callbacks.horizon.precisions=[{CONTIGUOUS}]")
    assert {row.precision for row in rows} == {CONTIGUOUS}
    assert all(row.normalisation_error < 4 * UNITS["float32"] for row in rows)
    with pytest.raises(ValueError, match=r"\['tf32'\] are unknown; legal: float32, float32_contig"):
        Horizon(precisions=["tf32"])


def measured(folder, *words: str) -> list[HorizonPoint]:
    callback = "+callbacks={horizon:{_target_:plainres.instruments.horizon.Horizon,images:8}}"
    cell = compose_cell(folder, *SMOKE, callback, "model=plain", "kernels=library", *words)
    train.train_cell(cell)
    return read_table(cell.folder / TABLE, HorizonPoint)


@pytest.mark.parametrize("kernels", ["library", "fused"])
def test_training_in_float64(tmp_path, kernels):
    """Weights are in float64, and the loss is that of float32 while few updates are done."""
    losses = {}
    for precision, dtype in (("64-true", torch.float64), ("32-true", torch.float32)):
        words = (f"protocol.precision={precision}", f"kernels={kernels}", "keep_weights=true")
        cell = compose_cell(tmp_path / precision, *SMOKE, "protocol.width=4", *words)
        record = train.train_cell(cell)
        assert (record.precision, record.kernels) == (precision, kernels)
        network = TrainedNetwork.load(cell.folder).network
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
        losses[precision] = record.train_loss
    assert losses["64-true"] == pytest.approx(losses["32-true"], rel=1e-4)
