"""Low precision and degradation, on made-up tables; and the slug's configurations."""

from dataclasses import replace
from shutil import copytree

import pytest
from composing import compose_cell
from made_up import NO_ERRORS, made_up_record, write_made_up
from matplotlib import pyplot as plt

from experiments.grid import Sweep, commands
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.precision import QUESTION, claims, figures
from experiments.precision.claims import COSINES_TABLE, GradientCosine, Scale
from plainres.records.files import RUNS_TABLE, gather, read_table, write_table
from plainres.records.identity import config_differences
from plainres.records.schema import DIVERGED, Record
from plainres.run import train

# (arm, depth) → cosines in float32 and in bf16 at the start
COSINES = {
    ("plain", 20): (0.999, 0.8),
    ("plain", 56): (0.95, 0.05),
    ("plain", 110): (0.1, 0.0),
    ("residual", 20): (1.0, 0.98),
    ("residual", 56): (1.0, 0.9),
    ("residual", 110): (1.0, 0.8),
}
# Precision → training errors of plain-20 and plain-56
ERRORS = {"32-true": (0.05, 0.4), "bf16-mixed": (0.06, 0.45)}
SEEDS = 8


def snapshot(arm, depth, seed, iteration, cosines) -> list[GradientCosine]:
    place = arm, depth, seed, iteration
    noise = 0.001 * (seed % 3)
    float32, bf16 = (cosine - noise for cosine in cosines)
    return [
        GradientCosine(*place, layer, float32, None, bf16, None, 0.1, None if layer else 0.5)
        for layer in range(depth)
    ]


def write(folder, records: list[Record], rows: list[GradientCosine]) -> None:
    write_table(folder / RUNS_TABLE, records, Record)
    write_table(folder / COSINES_TABLE, rows, GradientCosine)


def start(folder, cosines=COSINES, seeds=SEEDS, name="start", **changes) -> None:
    cells = [(*network, seed) for network in cosines for seed in range(seeds)]
    records = [
        made_up_record(arm=a, depth=d, seed=s, protocol="cpu", iterations=1, **changes)
        for a, d, s in cells
    ]
    rows = [row for a, d, s in cells for row in snapshot(a, d, s, 0, cosines[a, d])]
    write(folder / name, records, rows)


def quick(folder, errors=ERRORS, seeds=SEEDS, **changes) -> None:
    for precision, (shallow, deep) in errors.items():
        records, rows = [], []
        for seed in range(seeds):
            # seeds differ more than their differences do
            plain = {20: shallow + 0.02 * seed, 56: deep + 0.02 * seed + 0.0002 * (seed % 3)}
            for (arm, depth), cosines in COSINES.items():
                if depth in plain:
                    error = plain[depth] if arm == "plain" else 0.02
                    cell = {"arm": arm, "depth": depth, "seed": seed, "train_error": error}
                    records.append(made_up_record(**cell, precision=precision, **changes))
                    for iteration in (0, 100, 2000):
                        rows += snapshot(arm, depth, seed, iteration, cosines)
        write(folder / f"quick-{precision}", records, rows)


def scale_of(folder) -> Scale:
    (scale,) = QUESTION.read(folder)
    return scale


def checked(folder) -> list[Claim]:
    return list(QUESTION.claims(scale_of(folder)))


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in checked(folder)]


def words(folder) -> list[str]:
    return [claim.words for claim in checked(folder)]


def changed(path, row_type, selects, **values) -> None:
    """Gives the rows of a table that `selects` other values."""
    rows = [replace(row, **values) if selects(row) else row for row in read_table(path, row_type)]
    write_table(path, rows, row_type)


# At the start


def test_what_is_expected_of_the_start_is_reproduced(tmp_path):
    start(tmp_path)
    assert verdicts(tmp_path) == [REPRODUCED] * 3
    for claim in checked(tmp_path):
        assert claim.num_seeds == SEEDS
        assert "points" not in claim.headline, "a cosine is no error"


@pytest.mark.parametrize(
    ("network", "cosines", "contradicted"),
    [
        (("plain", 56), (0.95, 0.85), 0),
        (("residual", 56), (1.0, 0.02), 0),
        (("plain", 56), (0.85, 0.05), 1),
        (("plain", 110), (0.95, 0.0), 2),
        (("plain", 20), (0.15, 0.8), 2),
    ],
)
def test_each_claim_about_the_start_can_be_contradicted_alone(
    tmp_path, network, cosines, contradicted
):
    start(tmp_path, {**COSINES, network: cosines})
    expected = [NOT_REPRODUCED if n == contradicted else REPRODUCED for n in range(3)]
    assert verdicts(tmp_path) == expected


def test_few_seeds_give_directions(tmp_path):
    start(tmp_path, {**COSINES, ("plain", 56): (0.85, 0.05)}, seeds=2)
    assert words(tmp_path) == ["supports", "contradicts", "supports"]


def test_what_is_missing_is_named(tmp_path):
    start(tmp_path, {network: COSINES[network] for network in COSINES if network[1] == 20})
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 3
    summaries = [claim.summary for claim in checked(tmp_path)]
    assert summaries == [
        "missing: residual-56, plain-56",
        "missing: plain-56",
        "missing: plain-110",
    ]


def test_other_layers_and_other_images_decide_nothing(tmp_path):
    start(tmp_path)
    path = tmp_path / "start" / COSINES_TABLE
    changed(path, GradientCosine, lambda row: row.layer, cosine_float32=0.0, cosine_bf16=0.0)
    changed(path, GradientCosine, lambda row: True, cosine_images=1.0)
    assert verdicts(tmp_path) == [REPRODUCED] * 3


def test_a_gradient_of_zero_points_nowhere(tmp_path):
    start(tmp_path)
    path = tmp_path / "start" / COSINES_TABLE
    changed(path, GradientCosine, lambda row: row.depth == 56, cosine_float32=None)
    assert verdicts(tmp_path) == [REPRODUCED, NOT_REPRODUCED, REPRODUCED]
    assert checked(tmp_path)[1].summary == "cosine 0.000 (plain-56)"


def test_rows_of_unlike_machines_are_not_compared(tmp_path):
    start(tmp_path, instruction_set="ATen AVX512 / oneDNN ALL")
    path = tmp_path / "start" / RUNS_TABLE
    changed(path, Record, lambda row: row.arm == "residual", processor="another")
    summary = checked(tmp_path)[0].summary
    assert summary.startswith("not comparable: seed 0, 1")
    assert verdicts(tmp_path) == [INCONCLUSIVE, REPRODUCED, REPRODUCED]


# Training


def test_more_degradation_in_bf16_is_reproduced(tmp_path):
    quick(tmp_path)
    worse, alone = checked(tmp_path)
    assert (worse.verdict, alone.verdict) == (REPRODUCED, REPRODUCED)
    assert worse.criteria[0].values == pytest.approx([0.04] * SEEDS)
    assert worse.summary == "56 - 20 layers: +39.02 points in bf16, +35.02 points in float32"
    assert alone.criteria[0].mean == pytest.approx(0.35, abs=0.001)
    assert claims.answer(scale_of(tmp_path)) == [
        "Training in bf16 makes degradation worse; degradation is there in float32 alone."
    ]


@pytest.mark.parametrize(
    ("bf16", "float32", "expected"),
    [
        ((0.05, 0.402), (0.05, 0.4), [NOT_REPRODUCED, REPRODUCED]),  # within the margin
        ((0.05, 0.2), (0.05, 0.4), [NOT_REPRODUCED, REPRODUCED]),
        ((0.30, 0.4), (0.05, 0.4), [NOT_REPRODUCED, REPRODUCED]),  # worse, but no more degraded
        ((0.05, 0.4), (0.05, 0.05), [REPRODUCED, NOT_REPRODUCED]),
        ((0.05, 0.03), (0.05, 0.04), [NOT_REPRODUCED, NOT_REPRODUCED]),
    ],
)
def test_training_can_contradict(tmp_path, bf16, float32, expected):
    quick(tmp_path, {"32-true": float32, "bf16-mixed": bf16})
    assert verdicts(tmp_path) == expected


@pytest.mark.parametrize(
    ("bf16", "float32", "seeds", "sentence"),
    [
        (
            (0.05, 0.4),
            (0.05, 0.4),
            SEEDS,
            "Training in bf16 makes degradation worse by less than 0.5 points or not; degradation "
            "is there in float32 alone.",
        ),
        (
            (0.05, 0.4),
            (0.05, 0.05),
            SEEDS,
            "Training in bf16 makes degradation worse; in float32 alone it is below 0.5 points.",
        ),
        (
            (0.05, 0.5),
            (0.05, 0.4),
            2,
            "Training in bf16 makes degradation worse; degradation is there in float32 alone (too "
            "few seeds for a test).",
        ),
    ],
)
def test_the_answer_is_one_sentence_from_the_verdicts(tmp_path, bf16, float32, seeds, sentence):
    quick(tmp_path, {"32-true": float32, "bf16-mixed": bf16}, seeds)
    assert claims.answer(scale_of(tmp_path)) == [sentence]
    assert sentence in QUESTION.text(tmp_path)


def test_the_cost_of_the_snapshots_is_shown(tmp_path):
    quick(tmp_path)  # 64 cells of 41.5 seconds, of which three snapshots take 1.5
    assert claims.cost(scale_of(tmp_path)) == "Snapshots took 96 of 2,656 seconds."


def test_an_undecided_answer_says_so(tmp_path):
    quick(tmp_path, {"32-true": ERRORS["32-true"]})
    worse, alone = checked(tmp_path)
    assert worse.summary == "missing: plain-56, bf16, plain-20, bf16"
    assert alone.verdict == REPRODUCED
    assert claims.answer(scale_of(tmp_path)) == [
        "Whether training in bf16 makes degradation worse is undecided; degradation is there in "
        "float32 alone."
    ]


def test_precision_is_the_treatment_and_all_else_must_be_equal(tmp_path):
    quick(tmp_path, instruction_set="ATen AVX512 / oneDNN ALL")
    path = tmp_path / "quick-bf16-mixed" / RUNS_TABLE
    changed(path, Record, lambda row: row.seed == 2, processor="another")
    worse, alone = checked(tmp_path)
    assert (worse.num_seeds, alone.num_seeds) == (SEEDS - 1, SEEDS)
    assert "not comparable: seed 2" in worse.summary
    changed(path, Record, lambda row: True, torch="2.0.0")
    assert checked(tmp_path)[0].verdict == INCONCLUSIVE


def test_a_diverged_network_counts_as_chance(tmp_path):
    quick(tmp_path)
    path = tmp_path / "quick-bf16-mixed" / RUNS_TABLE
    diverged = {"status": DIVERGED, **NO_ERRORS, "iterations": 700}
    changed(path, Record, lambda row: (row.arm, row.depth) == ("plain", 56), **diverged)
    worse = checked(tmp_path)[0]
    assert worse.criteria[0].values[0] == pytest.approx(0.9 - 0.06 - 0.35)
    rows = claims.table(scale_of(tmp_path)).rows
    row = next(row for row in rows if row[:2] == ["plain-56", "bf16"])
    assert (row[3], row[-1]) == ("90.00 ± 0.00", "–")


# What is read, and what is shown


@pytest.mark.parametrize("value", [1.5, float("nan"), float("-inf")])
def test_what_is_no_cosine_is_refused_in_one_line(tmp_path, value):
    start(tmp_path)
    path = tmp_path / "start" / COSINES_TABLE
    changed(path, GradientCosine, lambda row: row.place == (0, 3), cosine_bf16=value)
    said = rf"start/gradient_cosines.csv, line 5, cosine_bf16: {value} is (above|not)"
    with pytest.raises(ValueError, match=said):
        QUESTION.read(tmp_path)


def test_an_unknown_precision_is_refused_in_one_line(tmp_path):
    start(tmp_path, precision="16-mixed")
    with pytest.raises(ValueError, match="plain-20-seed0: precision 16-mixed is none of 32-true"):
        QUESTION.read(tmp_path)


def test_folders_without_cosines_are_one_line(tmp_path):
    start(tmp_path)
    (tmp_path / "start" / COSINES_TABLE).unlink()
    with pytest.raises(ValueError, match=r"no gradient_cosines.csv in .*; make sweep-precision"):
        QUESTION.read(tmp_path)


def test_each_scale_is_a_part_with_its_own_label_and_figures(tmp_path):
    quick(tmp_path)
    start(tmp_path, name="start_cifar", data_label="CIFAR-10 (JPEG copy)")
    start(tmp_path, seeds=2)
    scales = QUESTION.read(tmp_path)
    assert list(map(QUESTION.label, scales)) == [
        "digits · protocol cpu, scale start · 2 seeds",
        "CIFAR-10 (JPEG copy) · protocol cpu, scale start_cifar · 8 seeds",
        "digits · protocol quick, scale quick · 8 seeds",
    ]
    drawn = [each.name for scale in scales for each in QUESTION.drawings(scale)]
    assert drawn == ["start-layers", "start_cifar-layers", "quick-errors", "quick-training"]
    assert [len(QUESTION.claims(scale)) for scale in scales] == [3, 3, 2]


def test_figures_show_the_means_of_the_tables(tmp_path):
    start(tmp_path / "precision")
    (scale,) = QUESTION.read(tmp_path / "precision")
    figure = figures.layers_figure(scale)
    assert [axis.get_title() for axis in figure.axes[:3]] == list(claims.MEASURED.values())
    assert [figure.axes[place].get_ylabel() for place in (0, 3)] == ["plain", "residual"]
    plain_56 = figure.axes[1].lines[1]
    assert list(plain_56.get_xdata()) == list(range(1, 56)), "layers; not all together"
    assert plain_56.get_ydata() == pytest.approx([0.05] * 55, abs=0.001)
    plt.close(figure)
    quick(tmp_path / "trained")
    (scale,) = QUESTION.read(tmp_path / "trained")
    figure = figures.training_figure(scale)
    assert len(figure.axes) == 6, "two precisions of training, three of measurement"
    line = figure.axes[0].lines[1]
    assert list(line.get_xdata()) == [0, 100, 2000]
    assert line.get_ydata() == pytest.approx([0.95] * 3, abs=0.001)
    plt.close(figure)
    figure = figures.errors_figure(scale)
    bf16 = figure.axes[0].lines[-1]
    assert bf16.get_label() == "in bf16"
    assert list(bf16.get_ydata()) == pytest.approx([13, 52], abs=0.1)
    plt.close(figure)


def test_a_row_that_stands_twice_is_one_line(tmp_path):
    start(tmp_path)
    path = tmp_path / "start" / COSINES_TABLE
    rows = read_table(path, GradientCosine)
    write_table(path, [*rows, replace(rows[0], cosine_bf16=0.9)], GradientCosine)
    named = "arm plain, depth 20, seed 0, iteration 0, layer 0; legal: one"
    with pytest.raises(ValueError, match=rf"gradient_cosines.csv has 2 rows of {named}"):
        QUESTION.read(tmp_path)


@pytest.mark.parametrize(
    ("row", "protocol", "said"),
    [
        ({"data_fingerprint": "ab" * 6}, {}, "on other images"),
        ({}, {"iterations": 100}, "differs from quick-32-true in protocol.iterations: 2000"),
    ],
)
def test_folders_that_differ_in_more_than_the_precision_are_refused(tmp_path, row, protocol, said):
    usual = {"model": {}, "data": {}, "protocol": {"iterations": 2000}}
    for name, own, changed in (("32-true", {}, {}), ("bf16-mixed", row, protocol)):
        folder = tmp_path / f"quick-{name}"
        config = usual | {"protocol": usual["protocol"] | {"precision": name} | changed}
        write_made_up(folder, [made_up_record(precision=name, **own)], config=config)
        write_table(folder / COSINES_TABLE, [], GradientCosine)
    with pytest.raises(ValueError, match=said):
        QUESTION.read(tmp_path)


def test_two_folders_of_one_precision_are_refused(tmp_path):
    quick(tmp_path)
    copytree(tmp_path / "quick-32-true", tmp_path / "quick-another")
    with pytest.raises(ValueError, match="2 folders have plain-20-seed0 in float32; legal: one"):
        QUESTION.read(tmp_path)


# Configurations


@pytest.mark.parametrize("scale", claims.SCALES)
def test_every_scale_measures_in_its_own_folder(tmp_path, scale):
    cell = compose_cell(tmp_path, "+experiment=precision", f"precision={scale}", "data=digits")
    cell.check()
    assert cell.results_folder.name == {"quick": "quick-32-true"}.get(scale, scale)
    target = "plainres.instruments.gradient_cosines.GradientCosines"
    assert cell.config.callbacks.cosines._target_ == target
    assert (cell.config.instruction_set, cell.config.threads) == ("native", 1)
    assert cell.config.accelerator == "cpu"


def test_both_precisions_differ_in_nothing_else(tmp_path):
    options = ("+experiment=precision", "precision=quick")
    float32, bf16 = (
        compose_cell(tmp_path, *options, f"protocol.precision={precision}") for precision in ERRORS
    )
    assert config_differences(float32.identity, bf16.identity) == [
        "protocol.name: quick-32-true → quick-bf16-mixed",
        "protocol.precision: 32-true → bf16-mixed",
    ]
    quick = compose_cell(tmp_path, "protocol=quick").identity
    (name,) = config_differences(quick, float32.identity)
    assert name == "protocol.name: quick → quick-32-true"


def test_the_start_has_the_shapes_of_the_cpu_protocol_and_moves_no_weight(tmp_path):
    start = compose_cell(tmp_path, "+experiment=precision", "precision=start").config
    cpu = compose_cell(tmp_path, "protocol=cpu").config
    assert start.model.width == cpu.model.width == 8
    assert start.data.image_size == cpu.data.image_size == 16
    assert start.protocol.batch_size == cpu.protocol.batch_size == 64
    assert start.data.name == "digits"
    assert (start.protocol.iterations, start.protocol.learning_rate) == (1, 0.0)


def test_the_sweep_is_offline_and_has_both_parts():
    shown = [command.words for command in commands(Sweep("precision"))]
    assert [words[2] for words in shown] == ["precision=start", "precision=quick"]


def test_from_cells_to_verdicts(tmp_path):
    """The way of a real sweep, with small networks and few images."""
    few = ("protocol.width=2", "+callbacks.cosines.images=8", "instruction_set=AVX2")
    short = ("protocol.iterations=2", "protocol.schedule.warmup_iterations=1")
    for scale in (
        ("precision=start",),
        ("precision=quick", *short),
        ("precision=quick", *short, "protocol.precision=bf16-mixed"),
    ):
        for arm, depth in (("plain", 8), ("plain", 14), ("residual", 8)):
            network = (f"model={arm}", f"model.depth={depth}", "protocol.evaluation_images=64")
            cell = compose_cell(tmp_path, "+experiment=precision", *scale, *network, *few)
            train.train_cell(cell)
        gather(cell.results_folder)
    start, quick = QUESTION.read(tmp_path / "precision")
    for measured in claims.MEASURED:
        for arm, depth in (("plain", 8), ("residual", 8)):
            assert start.cosines(measured, arm, depth).keys() == {0}
            for precision in ("float32", "bf16"):
                end = quick.cosines(measured, arm, depth, precision, at_end=True)
                assert -1 <= end[0] <= 1.001
    assert start.cosines("float32", "plain", 8)[0] > 0.9
    assert QUESTION.write(tmp_path / "precision")
