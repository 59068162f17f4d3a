"""Seeds and machines: variance components on simulated tables, claims on made-up rows."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from composing import compose_cell
from drawn import caption
from made_up import made_up_record, write_made_up
from matplotlib import pyplot as plt

from experiments import grid
from experiments.judging.conditions import AVX2
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.machines import QUESTION, claims
from experiments.machines.components import components, interval_factors, log_ratios
from experiments.machines.figures import errors_figure
from plainres.records.identity import config_differences
from plainres.records.schema import Record
from plainres.run.cell import claim_tables

ZEN, XEON = "AMD EPYC (family 25, model 17)", "Intel Xeon (family 6, model 207)"
SEEDS = range(12)
DEPTH, EXACT = "+experiment=depth", "+experiment=machines"
ON_ZEN = {"processor": ZEN, "instruction_set": ""}
ON_XEON = {"processor": XEON, "instruction_set": "", "finished_at": "2026-01-02T00:00:00Z"}
PERTURBED = "+experiment=machines vars.start=perturbed"
SIGNAL = "+experiment=signal signal=quick"


def simulated(rng, seeds, machines, deviations, kept=1.0) -> dict:
    """Values by seed and machine, from normal effects with these standard deviations."""
    of_seed, of_machine, rest = deviations
    seed_effects, machine_effects = (
        rng.normal(0, of_seed, seeds),
        rng.normal(0, of_machine, machines),
    )
    return {
        (s, f"machine {m}"): 50 + seed_effects[s] + machine_effects[m] + rng.normal(0, rest)
        for s in range(seeds)
        for m in range(machines)
        if rng.random() < kept
    }


@pytest.mark.parametrize("kept", [1.0, 0.6])
@pytest.mark.parametrize("deviations", [(3.0, 2.0, 1.0), (3.0, 0.0, 1.0), (0.0, 0.0, 2.0)])
def test_components_are_recovered_on_average_with_and_without_gaps(deviations, kept):
    rng = np.random.default_rng(0)
    found = [components(simulated(rng, 8, 5, deviations, kept)).variances for _ in range(600)]
    for values, deviation in zip(zip(*found, strict=True), deviations, strict=True):
        error = statistics.stdev(values) / math.sqrt(len(values))
        assert abs(statistics.fmean(values) - deviation**2) < 3 * error


def test_one_large_table_gives_its_components():
    table = simulated(np.random.default_rng(1), 40, 40, (3.0, 0.0, 1.0))
    seed, machine, rest = components(table).variances
    assert math.sqrt(seed) == pytest.approx(3.0, rel=0.3)
    assert abs(machine) < 0.01
    assert math.sqrt(rest) == pytest.approx(1.0, rel=0.1)


def test_without_gaps_components_are_those_of_the_analysis_of_variance():
    values = simulated(np.random.default_rng(2), 6, 4, (3.0, 2.0, 1.0))
    table = np.array([[values[s, f"machine {m}"] for m in range(4)] for s in range(6)])
    rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    of_seed = 4 * rows.var(ddof=1)
    of_machine = 6 * columns.var(ddof=1)
    rest = ((table - rows - columns + table.mean()) ** 2).sum() / (5 * 3)
    expected = ((of_seed - rest) / 4, (of_machine - rest) / 6, rest)
    assert components(values).variances == pytest.approx(expected)


def test_a_kind_of_pair_that_is_missing_gives_no_components():
    assert components({(0, "a"): 1.0, (0, "b"): 2.0}).variances is None
    assert components({(0, "a"): 1.0, (1, "a"): 2.0}).log_ratio is None
    assert log_ratios({(0, "a"): 1.0, (0, "b"): 2.0, (1, "a"): 1.0, (1, "b"): 3.0}) is None
    assert log_ratios({}) is None


def test_the_jackknife_has_the_ratio_as_its_mean_and_covers_the_true_one():
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        values = simulated(rng, 10, 2, (2.0, 0.0, 2.0))
        found = log_ratios(values)
        assert statistics.fmean(found) == pytest.approx(components(values).log_ratio)
        half = 2.262 * statistics.stdev(found) / math.sqrt(10)
        hits += abs(statistics.fmean(found) - math.log(math.sqrt(0.5))) < half
    assert 0.88 <= hits / 200 <= 1.0


def test_a_deviation_over_two_machines_is_hardly_known():
    assert interval_factors(2) == pytest.approx((0.446, 31.9), rel=0.01)


def rows_of(errors: dict, **changes) -> list[Record]:
    """Made-up rows.

    Args:
        errors: (arm, depth) → error by seed, fractions.
    """
    rows = []
    for (arm, depth), by_seed in errors.items():
        own = {"arm": arm, "depth": depth, "shortcut": "none" if arm == "plain" else "zero_pad"}
        rows += [made_up_record(**own, seed=s, train_error=by_seed[s], **changes) for s in by_seed]
    return rows


def measured(results, words: str, rows: list[Record]) -> None:
    """A results folder of a question, with the rows under its configuration."""
    cell = compose_cell(results, *words.split())
    claim_tables([cell])
    write_made_up(cell.results_folder, rows)


def part_of(results) -> claims.Part:
    """The rows of `quick` below a folder that has tables."""
    claim_tables([compose_cell(results, EXACT)])
    (part,) = QUESTION.read(results / "machines" / "quick")
    return part


def with_noise(mean: float, deviation: float, seed: int) -> dict[int, float]:
    noise = np.random.default_rng(seed).normal(0, deviation, len(SEEDS))
    return {s: mean + float(noise[s]) for s in SEEDS}


def table_of(deviations: dict, seed: int) -> dict:
    """Errors of every network, by seed; `deviations` over seeds by network, else 0.1 points."""
    means = {
        ("plain", 56): 0.6,
        ("plain", 20): 0.03,
        ("residual", 20): 0.02,
        ("residual", 56): 0.02,
    }
    return {
        network: with_noise(mean, deviations.get(network, 0.001), seed + place)
        for place, (network, mean) in enumerate(means.items())
    }


def shifted(errors: dict, network, by: float) -> dict:
    moved = {seed: error + by for seed, error in errors[network].items()}
    return {**errors, network: moved}


def on_machines(results, first: dict, second: dict) -> list[Claim]:
    measured(results, DEPTH, rows_of(first, **ON_ZEN))
    measured(results, SIGNAL, rows_of(second, **ON_XEON))
    return claims.check(part_of(results))


def with_starts(results, exact: dict, perturbed: dict, **changes) -> list[Claim]:
    measured(results, EXACT, rows_of(exact))
    measured(results, PERTURBED, rows_of(perturbed, **changes))
    return claims.check(part_of(results))


def test_rows_are_taken_from_every_question_that_measured_the_configuration(tmp_path):
    one = {("plain", 56): {0: 0.5}}
    measured(tmp_path, DEPTH, rows_of(one, **ON_ZEN))
    measured(tmp_path, SIGNAL, rows_of({("plain", 56): {0: 0.7, 1: 0.6}}, **ON_XEON))
    part = part_of(tmp_path)
    assert sorted(row.train_error for row in part.rows) == [0.5, 0.6, 0.7]
    assert set(part.machines) == {f"{ZEN}, torch 2.9", f"{XEON}, torch 2.9"}


@pytest.mark.parametrize(
    "words",
    [
        "+experiment=depth folder=slower protocol.learning_rate=0.05",
        "+experiment=depth protocol=smoke",
        "+experiment=signal signal=quick model.norm=none",
        "+experiment=machines vars.start=perturbed",
    ],
)
def test_rows_of_another_configuration_are_not(tmp_path, words):
    measured(tmp_path, DEPTH, rows_of({("plain", 56): {0: 0.5}}))
    measured(tmp_path, words, rows_of({("plain", 56): {1: 0.7}}))
    assert [row.seed for row in part_of(tmp_path).rows] == [0]


def test_rows_of_another_precision_and_repetitions_are_no_further_values_and_are_named(tmp_path):
    measured(tmp_path, DEPTH, rows_of({("plain", 56): {0: 0.5, 1: 0.6}}))
    again = rows_of({("plain", 56): {0: 0.51}}, finished_at="2026-01-02T00:00:00Z")
    other = rows_of({("residual", 56): {0: 0.1}}, precision="bf16-mixed")
    measured(tmp_path, SIGNAL, [*again, *other])
    part = part_of(tmp_path)
    assert [row.train_error for row in part.rows] == [0.5, 0.6]
    notes = " ".join(QUESTION.notes(part))
    assert "1 cell was measured again on the same machine; the largest difference is 1.00" in notes
    assert "Left out, of another precision: residual-56-seed0" in notes


def test_rows_of_fused_kernels_are_not_read_however_many_they_are(tmp_path):
    measured(
        tmp_path, DEPTH, rows_of({("plain", 56): dict.fromkeys(range(9), 0.9)}, kernels="fused")
    )
    measured(tmp_path, SIGNAL, rows_of({("plain", 56): {0: 0.5}}, **ON_XEON))
    assert [row.train_error for row in part_of(tmp_path).rows] == [0.5]


def test_rows_on_other_images_are_refused(tmp_path):
    measured(tmp_path, DEPTH, rows_of({("plain", 56): {0: 0.5}}))
    other = rows_of({("plain", 56): {0: 0.5}}, **ON_XEON, data_fingerprint="1" * 12)
    measured(tmp_path, SIGNAL, other)
    with pytest.raises(ValueError, match="on other images"):
        part_of(tmp_path)


def test_without_rows_it_says_what_measures_some(tmp_path):
    with pytest.raises(ValueError, match=r"no rows of the configuration .*make sweep-machines"):
        part_of(tmp_path)


def test_a_machine_that_is_like_another_seed_and_steady_residual_networks(tmp_path):
    chaotic = {("plain", 56): 0.05}
    another, steady, _ = on_machines(tmp_path, table_of(chaotic, 10), table_of(chaotic, 20))
    assert (another.verdict, steady.verdict) == (REPRODUCED, REPRODUCED)
    assert another.num_seeds == steady.num_seeds == len(SEEDS)
    assert "times as much as another seed" in another.summary


def test_a_machine_that_changes_nothing_and_restless_residual_networks(tmp_path):
    first = table_of({("plain", 56): 0.05}, 10)
    second = shifted(shifted(first, ("plain", 56), 0.0001), ("residual", 56), 0.02)
    another, steady, _ = on_machines(tmp_path, first, second)
    assert (another.verdict, steady.verdict) == (NOT_REPRODUCED, NOT_REPRODUCED)


@pytest.mark.parametrize(("over_seeds", "over_machines"), [(0.001, 0.001), (0.1, 0.02)])
def test_a_machine_has_to_change_more_than_the_margin_and_not_little_beside_the_seeds(
    tmp_path, over_seeds, over_machines
):
    first = table_of({("plain", 56): over_seeds}, 10)
    moved = with_noise(0.0, over_machines, 40)
    second = {s: error + moved[s] for s, error in first["plain", 56].items()}
    another = on_machines(tmp_path, first, {**first, ("plain", 56): second})[0]
    assert another.verdict == NOT_REPRODUCED


def test_a_last_digit_that_is_like_another_seed(tmp_path):
    chaotic = {("plain", 56): 0.05}
    claim = with_starts(tmp_path, table_of(chaotic, 10), table_of(chaotic, 20))[2]
    assert claim.verdict == REPRODUCED
    (table,) = [t for t in QUESTION.tables(part_of(tmp_path)) if "changed by 1e-07" in t.title]
    assert [row[:2] for row in table.rows[1:]] == [
        [name, "12"] for name in ("plain-20", "plain-56", "residual-20", "residual-56")
    ]


@pytest.mark.parametrize(
    ("network", "change"),
    [(("plain", 56), 0.0001), (("plain", 20), 0.02), (("residual", 56), 0.02)],
)
def test_a_last_digit_that_changes_too_little_or_too_much(tmp_path, network, change):
    exact = table_of({("plain", 56): 0.05}, 10)
    perturbed = {**exact, ("plain", 56): table_of({("plain", 56): 0.05}, 20)["plain", 56]}
    perturbed[network] = shifted(exact, network, change)[network]
    assert with_starts(tmp_path, exact, perturbed)[2].verdict == NOT_REPRODUCED


def test_exact_and_perturbed_cells_of_two_machines_are_not_compared(tmp_path):
    errors = table_of({("plain", 56): 0.05}, 10)
    claim = with_starts(tmp_path, errors, errors, **ON_XEON)[2]
    assert claim.verdict == INCONCLUSIVE
    assert "not comparable: seed 0, 1, 2" in claim.summary
    assert f"plain-56 perturbed: {XEON} and {AVX2}" in claim.summary


def test_exact_cells_of_another_question_count_where_the_machine_is_the_same(tmp_path):
    chaotic = {("plain", 56): 0.05}
    measured(tmp_path, DEPTH, rows_of(table_of(chaotic, 10)))
    measured(tmp_path, SIGNAL, rows_of(table_of(chaotic, 30), **ON_XEON))
    measured(tmp_path, PERTURBED, rows_of(table_of(chaotic, 20)))
    assert claims.check(part_of(tmp_path))[2].verdict == REPRODUCED


@pytest.mark.parametrize("order", [1, -1])
def test_starts_are_compared_on_one_machine_where_both_have_them(tmp_path, order):
    chaotic = {("plain", 56): 0.05}
    measured(tmp_path, DEPTH, rows_of(table_of(chaotic, 10)))
    measured(tmp_path, SIGNAL, rows_of(table_of(chaotic, 30), **ON_XEON))
    both = [rows_of(table_of(chaotic, 20)), rows_of(table_of(chaotic, 40), **ON_XEON)][::order]
    part = replace(part_of(tmp_path), perturbed=[row for rows in both for row in rows])
    assert claims.check(part)[2].verdict == REPRODUCED


@pytest.mark.parametrize("error", [0.004, 0.89])
def test_networks_near_zero_and_at_guessing_have_no_room_to_differ(tmp_path, error):
    first = table_of({("plain", 56): 0.05}, 10)
    second = table_of({("plain", 56): 0.05}, 20)
    for errors in (first, second):
        errors["residual", 56] = dict.fromkeys(SEEDS, error)
    steady = on_machines(tmp_path, first, second)[1]
    assert steady.verdict == INCONCLUSIVE
    assert steady.summary.startswith("no room to differ: residual-56")


def test_what_is_missing_is_named(tmp_path):
    measured(tmp_path, DEPTH, rows_of(table_of({}, 10)))
    summaries = [claim.summary for claim in claims.check(part_of(tmp_path))]
    assert summaries[0] == "missing: plain-56 on another machine"
    assert summaries[1].startswith("missing: residual-20 on another machine, residual-56")
    assert summaries[2] == "missing: plain-56 perturbed, plain-20 perturbed, residual-56 perturbed"
    text = " ".join(note for table in QUESTION.tables(part_of(tmp_path)) for note in table.notes)
    assert "One machine: nothing is known about others." in text


def test_two_seeds_are_too_few_for_a_ratio_and_for_components(tmp_path):
    two = [
        {network: {s: errors[s] for s in (0, 1)} for network, errors in table_of({}, n).items()}
        for n in (10, 20)
    ]
    another = on_machines(tmp_path, *two)[0]
    assert (another.verdict, another.summary) == (INCONCLUSIVE, "too few seeds: 0, 1")
    row = QUESTION.tables(part_of(tmp_path))[0].rows[1]
    assert row[-4:] == ["–"] * 4


def test_the_figure_has_a_point_for_every_row(tmp_path):
    on_machines(tmp_path, table_of({}, 10), table_of({}, 20))
    part = part_of(tmp_path)
    figure = errors_figure(part)
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    points = [float(y) for line in lines if line.get_marker() != "None" for y in line.get_ydata()]
    assert sorted(points) == pytest.approx(sorted(100 * row.train_error for row in part.rows))
    assert "digits · protocol quick · 12 seeds, 2 machines" in caption(figure)
    plt.close(figure)


def test_exact_cells_are_those_of_the_depth_experiment_and_perturbed_ones_differ_in_one_choice(
    tmp_path,
):
    depth, exact, perturbed = (
        compose_cell(tmp_path, *words.split()) for words in (DEPTH, EXACT, PERTURBED)
    )
    assert exact.identity == depth.identity
    assert perturbed.results_folder == tmp_path / "machines" / "quick" / "perturbed"
    assert config_differences(exact.identity, perturbed.identity) == [
        "protocol.name: quick → quick/perturbed",
        f"protocol.perturbation: None → {claims.PERTURBATION}",
    ]


def test_the_sweep_measures_the_networks_of_the_claim_and_what_is_asked_for():
    default = [" ".join(c.words) for c in grid.commands(grid.Sweep("machines", seeds="0,1"))]
    common = "-m +experiment=machines protocol=quick"
    plain = f"{common} model=plain model.depth=20 seed=0,1"
    assert default == [f"{common} seed=0,1", plain]
    (asked,) = grid.commands(grid.Sweep("machines", depths="110", arms="plain"))
    assert " ".join(asked.words) == f"{common} model=plain seed=0 model.depth=110"
