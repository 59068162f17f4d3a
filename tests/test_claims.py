"""Verdicts on made-up tables: true, false, few seeds, missing cells, diverged, floor, chance."""

import itertools
import math
from dataclasses import replace

import pytest
from made_up import made_up_record

from experiments.depth import QUESTION, claims
from experiments.judging.errors import error_or_chance
from experiments.judging.inference import fewest_seeds
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from plainres.records.files import RUNS_TABLE, write_table
from plainres.records.schema import DIVERGED, Record

PLAIN = {8: 0.06, 14: 0.04, 20: 0.03, 32: 0.05, 44: 0.28, 56: 0.48, 110: 0.84}
RESIDUAL = {8: 0.055, 14: 0.04, 20: 0.030, 32: 0.026, 44: 0.022, 56: 0.020, 110: 0.010}
ALL_DEPTHS = (*claims.SHALLOW, *claims.DEPTHS)
SEEDS = 8  # the fewest of a test
MANY = 12  # enough to contradict a claim of nine criteria
A, B, C, D, E, F = range(6)
JITTER = (0.0002, -0.0001, -0.0001)


def jitter(arm, depth, seed) -> float:
    return JITTER[(seed + (arm == "plain")) % 3] * (1 + 0.1 * (depth % 7))


def records(plain=PLAIN, residual=RESIDUAL, seeds=SEEDS, **changes) -> list[Record]:
    arms = {"plain": PLAIN | plain, "residual": RESIDUAL | residual}
    cells = itertools.product(arms, ALL_DEPTHS, range(seeds))
    return [
        made_up_record(
            arm=arm,
            depth=depth,
            seed=seed,
            train_error=arms[arm][depth] + jitter(arm, depth, seed),
            **changes,
        )
        for arm, depth, seed in cells
    ]


def measured(folder, rows: list[Record]):
    """The results folder with these records."""
    write_table(folder / RUNS_TABLE, rows, Record)
    return folder


def verdicts(rows: list[Record], **grid) -> list[str]:
    return [claim.verdict for claim in claims.check(claims.grid_of(rows, **grid))]


def test_the_papers_finding_is_reproduced():
    assert verdicts(records()) == [REPRODUCED] * 6


def test_as_many_seeds_as_a_test_needs():
    assert fewest_seeds(len(claims.STATEMENTS)) == SEEDS


def test_a_plain_arm_that_falls_contradicts_the_claims_that_it_rises():
    falls = {8: 0.7, 14: 0.6, 20: 0.5, 32: 0.4, 44: 0.3, 56: 0.2, 110: 0.1}
    given = verdicts(records(plain=falls, seeds=MANY))
    assert given == [NOT_REPRODUCED, *[REPRODUCED] * 3, NOT_REPRODUCED, NOT_REPRODUCED]


def test_a_residual_arm_that_rises_contradicts_the_residual_claims():
    given = verdicts(records(residual={20: 0.01, 32: 0.02, 44: 0.03, 56: 0.04, 110: 0.05}))
    assert given[C:E] == [NOT_REPRODUCED] * 2
    assert given[B] != REPRODUCED


def test_falling_to_56_layers_says_nothing_about_110():
    given = verdicts(records(residual={56: 0.020, 110: 0.021}))
    assert given[C:E] == [REPRODUCED, NOT_REPRODUCED]


def test_a_tie_of_neighbouring_depths_is_no_contradiction():
    assert verdicts(records(plain={32: PLAIN[20] - 0.002}))[A] == REPRODUCED


def test_a_rise_or_a_fall_within_the_margin_is_none():
    given = verdicts(records(residual={20: 0.020, 32: 0.021, 44: 0.020, 56: 0.022, 110: 0.0225}))
    assert given[B:D] == [REPRODUCED, NOT_REPRODUCED]
    small = {20: 0.030, 32: 0.031, 44: 0.032, 56: 0.033, 110: 0.034}
    small = verdicts(records(plain=small, seeds=MANY))
    assert small[A] == NOT_REPRODUCED
    assert small[F] == NOT_REPRODUCED


def test_small_falls_and_a_gap_that_hardly_widens_are_none():
    plain = {8: 0.045, 14: 0.040, 20: 0.033, 32: 0.034, 44: 0.033, 56: 0.034, 110: 0.034}
    residual = {8: 0.045, 14: 0.040, 20: 0.030, 32: 0.030, 44: 0.029, 56: 0.028, 110: 0.027}
    given = verdicts(records(plain=plain, residual=residual, seeds=20))
    assert given[C:F] == [NOT_REPRODUCED] * 3
    assert verdicts(records(plain={8: 0.043, 14: 0.040}, seeds=20))[F] == NOT_REPRODUCED


def test_networks_that_all_guess_reproduce_nothing():
    guessing = dict.fromkeys(ALL_DEPTHS, 0.9)
    given = claims.check(claims.grid_of(records(plain=guessing, residual=guessing)))
    assert REPRODUCED not in [claim.verdict for claim in given]
    assert given[B].weakest.name == "residual-110 - guessing"


def test_a_plain_arm_that_only_rises_does_not_first_fall():
    given = verdicts(records(plain={8: 0.01, 14: 0.02}, seeds=MANY))
    assert given[A] == REPRODUCED
    assert given[F] == NOT_REPRODUCED


def test_seeds_that_scatter_wider_than_the_effect_are_inconclusive():
    noise = (0.1, -0.2, 0.1)
    plain = [
        made_up_record(arm="plain", depth=d, seed=s, train_error=0.3 + noise[(s + d) % 3])
        for d in claims.DEPTHS
        for s in range(SEEDS)
    ]
    assert verdicts(plain + [row for row in records() if row.arm == "residual"])[A] == INCONCLUSIVE


@pytest.mark.parametrize("seeds", [1, 2, 3, SEEDS - 1])
def test_few_seeds_give_a_direction_and_no_p_value(seeds):
    for claim in claims.check(claims.grid_of(records(seeds=seeds))):
        assert (claim.words, claim.p, claim.contradicted) == ("supports", None, False)
        assert claim.headline.endswith(f"n = {seeds}, no test below {SEEDS} seeds")


@pytest.mark.parametrize(
    ("errors", "words"), [((0.5, 0.6), "supports"), ((0.5, 0.02), "undecided")]
)
def test_a_direction_needs_all_seeds(errors, words):
    rows = [row for row in records(seeds=2) if row.cell[:-1] != "plain-56-seed"]
    for seed, error in enumerate(errors):
        rows.append(made_up_record(arm="plain", depth=56, seed=seed, train_error=error))
    assert claims.check(claims.grid_of(rows))[A].words == words


def test_a_direction_against_a_claim_is_no_contradiction(tmp_path):
    rows = records(plain={56: 0.01, 110: 0.01}, seeds=3)
    claim = claims.check(claims.grid_of(rows))[A]
    assert (claim.words, claim.contradicted) == ("contradicts", False)
    assert not any(score["contradicted"] for score in QUESTION.scores(measured(tmp_path, rows)))


def test_a_missing_cell_is_named_and_decides_nothing():
    rows = [row for row in records() if row.cell != "plain-56-seed1"]
    for claim in claims.check(claims.grid_of(rows)):
        assert (claim.verdict, claim.summary) == (INCONCLUSIVE, "missing cells: plain-56-seed1")


@pytest.mark.parametrize("lost", [20, 56])
def test_without_20_or_56_layers_nothing_is_judged(tmp_path, lost):
    rows = [row for row in records() if row.depth != lost]
    part = claims.complete_part(rows, claims.grid_of(rows))
    for claim in claims.check(part):
        assert claim.verdict == INCONCLUSIVE
        assert f"plain-{lost}-seed0" in claim.summary
    narrowed = claims.check(claims.grid_of(rows, depths=(8, 32, 110)))
    assert {claim.summary for claim in narrowed} == {"missing: networks of 20 and 56 layers"}


def test_the_contrasts_that_are_judged_are_in_the_statement():
    whole = claims.check(claims.grid_of(records()))
    assert whole[A].statement == "plain: training error rises with depth (20 → 56, 20 → 110)"
    assert whole[E].statement.endswith("(8, 14, 20, 32, 44, 56, 110; 20 → 56, 20 → 110)")
    part = claims.check(claims.grid_of([row for row in records() if row.depth in (20, 32, 56)]
                                       , depths=(20, 32, 56)))  # fmt: skip
    assert part[A].statement == "plain: training error rises with depth (20 → 56)"
    assert part[E].statement.endswith("(20, 32, 56; 20 → 56)")
    assert (part[D].verdict, part[D].summary) == (
        INCONCLUSIVE,
        "missing: networks of 110 layers",
    )
    assert part[F].summary == "missing: plain-8 and plain-14 (SHALLOW=1 adds them)"


def test_first_falls_then_rises_is_judged_over_the_seeds_that_have_it():
    rows = [row for row in records() if row.depth not in claims.SHALLOW or row.seed == 1]
    claim = claims.check(claims.grid_of(rows))[F]
    assert (claim.words, claim.num_seeds) == ("supports", 1)
    assert claim.summary.endswith("(seed 1)")


@pytest.mark.parametrize(
    "other",
    [
        {"instruction_set": "ATen AVX512 / oneDNN AVX512_CORE"},
        {"precision": "bf16-mixed"},
        {"torch": "2.8.1"},
        {"kernels": "fused"},
    ],
)
def test_a_cell_of_another_machine_is_not_compared_with_its_seed(tmp_path, other):
    rows = [replace(row, **other) if row.cell == "residual-56-seed2" else row for row in records()]
    text = QUESTION.text(measured(tmp_path, rows))
    assert "Missing cells: residual-56-seed2" in text
    assert "Not comparable with the others: residual-56-seed2 (" in text
    assert next(iter(other.values())).removesuffix(".1") in text
    part = claims.complete_part(rows, claims.grid_of(rows))
    assert part.seeds == (0, 1, 3, 4, 5, 6, 7)


def test_cells_that_cannot_be_compared_are_named_where_nothing_else_is_left():
    rows = records(seeds=1)
    rows = [replace(r, torch="2.8.1") if r.cell == "plain-56-seed0" else r for r in rows]
    named = "not comparable: plain-56-seed0 ("
    given = claims.check(claims.complete_part(rows, claims.grid_of(rows)))
    assert all(claim.summary.startswith(named) for claim in given)


def test_a_seed_of_another_machine_is_judged_with_the_others():
    rows = [replace(row, processor="another", instruction_set="") if row.seed == 2 else row
            for row in records()]  # fmt: skip
    assert verdicts(rows) == [REPRODUCED] * 6


def test_networks_of_8_and_14_layers_outvote_no_others():
    elsewhere = {"processor": "another", "instruction_set": ""}
    rows = [row for row in records() if row.depth in (8, 14, 20, 56)]
    for seeds in ({0}, set(range(SEEDS))):
        moved = [
            replace(row, **elsewhere) if row.depth < 20 and row.seed in seeds else row
            for row in rows
        ]
        grid = claims.complete_part(moved, claims.grid_of(moved))
        assert grid.seeds == tuple(range(SEEDS))
        assert [claim.verdict for claim in claims.check(grid)][:3] == [REPRODUCED] * 3


@pytest.mark.parametrize(
    ("lost", "depths", "seeds"),
    [
        (["plain-56-seed1"], claims.DEPTHS, (0, 2, 3, 4, 5, 6, 7)),
        (["plain-32-seed1", "plain-32-seed2"], (20, 44, 56, 110), tuple(range(SEEDS))),
        (
            [f"plain-{depth}-seed{seed}" for depth in claims.DEPTHS for seed in range(1, 8)],
            claims.DEPTHS,
            (0,),
        ),
    ],
)
def test_the_largest_part_without_a_missing_cell_is_judged_and_named(tmp_path, lost, depths, seeds):
    rows = [row for row in records() if row.cell not in lost]
    grid = claims.grid_of(rows)
    part = claims.complete_part(rows, grid)
    assert (part.depths, part.seeds, part.missing) == (depths, seeds, ())
    missing = ", ".join(sorted(lost, key=list(grid.missing).index))
    text = QUESTION.text(measured(tmp_path, rows))
    assert (
        f"Missing cells: {missing}. The verdicts are on the complete part: {part.extent}." in text
    )


def test_one_missing_cell_of_many_seeds_is_found_at_once():
    """Not by trying all parts: 60 seeds have 2 to the 60 of them."""
    rows = records(seeds=60)
    lost = [row for row in rows if row.cell != "plain-44-seed7"]
    judged = claims.complete_part(lost, claims.grid_of(lost))
    assert (judged.missing, judged.depths) == ((), (20, 32, 44, 56, 110))
    assert judged.seeds == tuple(seed for seed in range(60) if seed != 7)


def test_a_grid_of_which_nothing_is_complete_stays_inconclusive():
    rows = [row for row in records() if row.arm == "plain"]
    grid = claims.grid_of(rows)
    assert claims.complete_part(rows, grid) == grid


def test_a_seed_that_is_named_twice_counts_once():
    given = claims.check(claims.grid_of(records(), depths=[*claims.DEPTHS] * 2, seeds=[0] * SEEDS))
    assert {claim.num_seeds for claim in given} <= {0, 1}
    assert all(claim.p is None for claim in given)


@pytest.mark.parametrize("margin", ["nan", "inf", "-5", "101", "half"])
def test_a_margin_that_is_none_is_one_line(tmp_path, margin):
    measured(tmp_path, records(seeds=1))
    with pytest.raises(ValueError, match=rf"^MARGIN={margin}: give percentage points from 0 to"):
        claims.read(tmp_path, margin=margin)


def test_a_spread_says_how_seeds_were_measured(tmp_path):
    rows = records(seeds=3)
    (runs,) = claims.read(measured(tmp_path, rows))
    assert "over seeds, all measured under the same conditions." in claims.notes(runs)[1]
    other = [replace(row, kernels="library") if row.seed == 0 else row for row in rows]
    other = [replace(row, kernels="fused") if row.seed else row for row in other]
    (runs,) = claims.read(measured(tmp_path, other))
    note = claims.notes(runs)[1]
    assert "measured under unlike conditions: seed 0 (" in note
    assert "; seed 1, 2 (" in note


def test_seeds_and_depths_that_nobody_measured_are_one_line(tmp_path):
    measured(tmp_path, records(seeds=2))
    with pytest.raises(ValueError, match=r"^SEEDS=98,99: none has a record; measured: 0, 1$"):
        claims.read(tmp_path, seeds="98,99")
    with pytest.raises(ValueError, match=r"^DEPTHS=21: none has a record; measured: 8, 14, 20, "):
        claims.read(tmp_path, depths="21")


def test_the_grid_can_be_narrowed_to_what_was_run():
    rows = [row for row in records(seeds=SEEDS + 1) if row.depth in (20, 56)]
    assert INCONCLUSIVE in verdicts(rows)[:D]
    assert verdicts(rows, depths=(56, 20))[:D] == [REPRODUCED] * 3
    rows = [row for row in records(seeds=SEEDS + 1) if row.cell != "plain-56-seed1"]
    others = [seed for seed in range(SEEDS + 1) if seed != 1]
    assert verdicts(rows, seeds=others) == [REPRODUCED] * 6


def test_depths_that_are_not_in_the_grid_change_nothing():
    deeper = [made_up_record(arm=arm, depth=62, seed=0, train_error=0.9) for arm in claims.ARMS]
    assert verdicts(records() + deeper) == verdicts(records())


def test_a_diverged_run_counts_as_chance_and_is_named(tmp_path):
    rows = [
        made_up_record(
            arm="plain",
            depth=110,
            seed=row.seed,
            status=DIVERGED,
            train_error=None,
            test_error=None,
        )
        if (row.arm, row.depth) == ("plain", 110)
        else row
        for row in records()
    ]
    grid = claims.grid_of(rows)
    assert verdicts(rows) == [REPRODUCED] * 6
    assert grid.errors["plain", 110, 0] == pytest.approx(0.9)
    text = QUESTION.text(measured(tmp_path, rows))
    assert "Diverged, counted as chance: plain-110-seed0, plain-110-seed1" in text


def test_a_diverged_residual_network_contradicts():
    rows = [
        made_up_record(arm="residual", depth=110, seed=row.seed, status=DIVERGED, train_error=None)
        if (row.arm, row.depth) == ("residual", 110)
        else row
        for row in records()
    ]
    claim = claims.check(claims.grid_of(rows))[B]
    assert claim.verdict == INCONCLUSIVE
    assert claim.headline.endswith(
        f"opposite: p = {claim.p_against:.2g}, all seeds speak against it"
    )
    assert verdicts(rows + [replace(row, seed=row.seed + SEEDS) for row in rows])[B] == (
        NOT_REPRODUCED
    )


def test_a_residual_arm_on_the_floor_says_so():
    rows = records(residual={20: 0.02, 56: 0.002, 110: 0.001})
    falls, falls_on = claims.check(claims.grid_of(rows))[C:E]
    assert falls.verdict == REPRODUCED
    assert falls_on.verdict == INCONCLUSIVE
    assert falls_on.summary.startswith("on the floor: residual-56 errs by at most 0.2")


def test_residual_above_plain_keeps_the_gap_open_and_says_so():
    claim = claims.check(claims.grid_of(records(residual={20: 0.04})))[E]
    assert claim.verdict == INCONCLUSIVE
    assert claim.headline.endswith("all seeds speak against it")


def test_differences_are_paired_within_seeds():
    """Seeds differ by 10 points, their differences hardly: pairing is what shows a rise."""
    level = [0.02 * seed for seed in range(SEEDS)]
    arms = {"plain": PLAIN, "residual": RESIDUAL}
    rows = [
        made_up_record(
            arm=arm,
            depth=depth,
            seed=seed,
            train_error=arms[arm][depth] / 4 + 0.3 + level[seed] + JITTER[(seed + depth) % 3],
        )
        for arm, depth, seed in itertools.product(arms, claims.DEPTHS, range(SEEDS))
    ]
    assert verdicts(rows)[A] == REPRODUCED


def test_one_criterion_that_scatters_keeps_a_claim_open_and_is_named():
    rows = records()
    scattered = (0.02, 0.9, 0.1)
    rows = [
        made_up_record(arm="plain", depth=44, seed=row.seed, train_error=scattered[row.seed % 3])
        if (row.arm, row.depth) == ("plain", 44)
        else row
        for row in rows
    ]
    widens = claims.check(claims.grid_of(rows))[E]
    assert widens.verdict == INCONCLUSIVE
    assert widens.headline.startswith("plain - residual at 44: ")


def test_holm_corrects_over_both_directions_of_six_claims():
    judged = claims.check(claims.grid_of(records()))
    for claim in judged:
        alone = max(
            [criterion.p for criterion in claim.criteria]
            + ([claim.trend] if claim.trend is not None else [])
        )
        assert alone == pytest.approx(1 / 2**SEEDS)
        assert claim.p == pytest.approx(12 * alone)


def test_a_wider_margin_forgives_a_rise():
    rows = records(residual={20: 0.010, 32: 0.012, 44: 0.014, 56: 0.018, 110: 0.019})
    assert claims.check(claims.grid_of(rows))[B].verdict == INCONCLUSIVE
    assert claims.check(claims.grid_of(rows), margin=0.02)[B].verdict == REPRODUCED


def test_other_measures_of_training_are_judged_and_their_disagreement_is_said():
    rising = dict(zip(ALL_DEPTHS, (0.001, 0.002, 0.01, 0.02, 0.03, 0.04, 0.05), strict=True))
    rows = [
        made_up_record(
            arm=row.arm,
            depth=row.depth,
            seed=row.seed,
            train_error=row.train_error,
            train_error_eval=rising[row.depth] + jitter(row.arm, row.depth, row.seed)
            if row.arm == "residual"
            else row.train_error,
            train_loss=row.train_error,
        )
        for row in records(seeds=MANY)
    ]
    lines = claims.disagreements(rows, claims.grid_of(rows))
    assert [line.split(": ")[1].split(" (")[0] for line in lines] == [
        "training error does not rise with depth",
        "training error falls from 20 to 56 layers",
        "training error goes on falling from 56 to 110 layers",
    ]
    for line in lines:
        assert "not reproduced by training error in evaluation mode" in line
        assert line.endswith("reproduced by running training error")


def test_a_diverged_runs_loss_is_that_of_chance():
    row = made_up_record(status=DIVERGED, train_error=None, train_loss=None, train_error_eval=None)
    assert error_or_chance(row, "train_loss") == pytest.approx(math.log(10))
    assert error_or_chance(row, "train_error_eval") == pytest.approx(0.9)


def test_the_long_text_adds_what_the_short_one_rests_on(tmp_path):
    folder = measured(tmp_path, records())
    short, long = QUESTION.text(folder), QUESTION.text(folder, verbose=True)
    assert short.splitlines()[0] == "digits · protocol quick · 8 seeds"
    assert "Running training error in %, last 200 iterations" in short
    assert set(short.splitlines()) <= set(long.splitlines())
    for text in ("Holm", "bootstrap", "Page", "raining error in evaluation mode", "raining loss"):
        assert text in long
        assert text not in short


def test_options_narrow_the_grid_and_set_the_margin(tmp_path):
    rising = {20: 0.010, 32: 0.012, 44: 0.014, 56: 0.018, 110: 0.019}
    folder = measured(tmp_path, records(residual=rising, seeds=MANY))
    assert QUESTION.scores(folder)[1]["contradicted"]
    assert not QUESTION.scores(folder, margin="2")[1]["contradicted"]
    text = QUESTION.text(folder, depths="56,20", seeds="0,2")
    assert "protocol quick · 2 seeds" in text
    assert "20 → 56" in text
    assert "20 → 110" not in text
    with pytest.raises(ValueError, match="DEPTHS=deep: give whole numbers, as 20,56"):
        QUESTION.read(folder, depths="deep")
    with pytest.raises(ValueError, match="MARGIN=small: give percentage points"):
        QUESTION.read(folder, margin="small")


def test_a_damaged_table_is_one_line(tmp_path):
    (tmp_path / RUNS_TABLE).write_text("arm,depth\nplain,20\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        QUESTION.read(tmp_path)
