"""Verdicts on made-up tables: true, false, one seed, missing cell, diverged, floor."""

import itertools
import math

import pytest
from made_up import made_up_record

from experiments.depth import QUESTION, claims
from experiments.judging.errors import error_or_chance
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, ONE_SEED, REPRODUCED
from plainres.records.files import RUNS_TABLE, write_table
from plainres.records.schema import DIVERGED, Record

PLAIN = {20: 0.03, 32: 0.05, 44: 0.28, 56: 0.48, 110: 0.84}
RESIDUAL = {20: 0.020, 32: 0.018, 44: 0.016, 56: 0.014, 110: 0.010}
JITTER = (0.0002, -0.0001, -0.0001)


def jitter(arm, depth, seed) -> float:
    return JITTER[(seed + (arm == "plain")) % 3] * (1 + 0.1 * (depth % 7))


def records(plain=PLAIN, residual=RESIDUAL, seeds=3, **changes) -> list[Record]:
    arms = {"plain": plain, "residual": residual}
    cells = itertools.product(arms, claims.DEPTHS, range(seeds))
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
    assert verdicts(records()) == [REPRODUCED] * 4


def test_a_plain_arm_that_falls_contradicts_the_first_and_the_last_claim():
    given = verdicts(records(plain={20: 0.5, 32: 0.4, 44: 0.3, 56: 0.2, 110: 0.1}))
    assert given == [NOT_REPRODUCED, REPRODUCED, REPRODUCED, NOT_REPRODUCED]


def test_a_residual_arm_that_rises_contradicts_both_residual_claims():
    given = verdicts(records(residual={20: 0.01, 32: 0.02, 44: 0.03, 56: 0.04, 110: 0.05}))
    assert given[1:3] == [NOT_REPRODUCED, NOT_REPRODUCED]


def test_a_tie_of_neighbouring_depths_is_no_contradiction():
    assert verdicts(records(plain=PLAIN | {32: PLAIN[20] - 0.002}))[0] == REPRODUCED


def test_a_rise_within_the_margin_is_no_rise_and_no_fall():
    given = verdicts(records(residual={20: 0.020, 32: 0.021, 44: 0.020, 56: 0.022, 110: 0.0225}))
    assert given[1] == REPRODUCED
    assert given[2] == NOT_REPRODUCED


def test_seeds_that_scatter_wider_than_the_effect_are_inconclusive():
    noise = (0.1, -0.2, 0.1)
    plain = [
        made_up_record(arm="plain", depth=d, seed=s, train_error=0.3 + noise[(s + d) % 3])
        for d in claims.DEPTHS
        for s in range(3)
    ]
    assert verdicts(plain + [row for row in records() if row.arm == "residual"])[0] == INCONCLUSIVE


def test_one_seed_gives_a_direction_and_no_p_value():
    for claim in claims.check(claims.grid_of(records(seeds=1))):
        assert (claim.verdict, claim.words, claim.p) == (REPRODUCED, "supports", None)
        assert claim.headline.endswith(ONE_SEED)


def test_a_missing_cell_is_named_and_decides_nothing():
    rows = [row for row in records() if row.cell != "plain-56-seed1"]
    for claim in claims.check(claims.grid_of(rows)):
        assert (claim.verdict, claim.summary) == (INCONCLUSIVE, "missing cells: plain-56-seed1")


@pytest.mark.parametrize(
    ("lost", "depths", "seeds"),
    [
        (["plain-56-seed1"], (20, 32, 44, 110), (0, 1, 2)),
        (
            [f"{arm}-{depth}-seed2" for arm in claims.ARMS for depth in (20, 32, 44, 56)],
            claims.DEPTHS,
            (0, 1),
        ),
        (
            [f"plain-{depth}-seed{seed}" for depth in claims.DEPTHS for seed in (1, 2)],
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


def test_a_grid_of_other_depths_is_judged_as_it_is():
    rows = [
        made_up_record(arm=row.arm, depth=row.depth + 6, seed=row.seed, train_error=row.train_error)
        for row in records()
    ]
    grid = claims.grid_of(rows)
    assert grid.depths == (26, 38, 50, 62, 116)
    assert [claim.verdict for claim in claims.check(grid)] == [REPRODUCED] * 4


def test_one_depth_alone_decides_nothing():
    for claim in claims.check(claims.grid_of(records(), depths=(56,))):
        assert (claim.verdict, claim.summary) == (INCONCLUSIVE, "one depth: a change needs two")


def test_a_grid_of_which_nothing_is_complete_stays_inconclusive():
    rows = [row for row in records() if row.arm == "plain"]
    grid = claims.grid_of(rows)
    assert claims.complete_part(rows, grid) == grid


def test_the_grid_can_be_narrowed_to_what_was_run():
    rows = [row for row in records() if row.depth in (20, 56)]
    assert INCONCLUSIVE in verdicts(rows)
    assert verdicts(rows, depths=(56, 20)) == [REPRODUCED] * 4
    assert (
        verdicts([row for row in records() if row.cell != "plain-56-seed1"], seeds=(0, 2))
        == [REPRODUCED] * 4
    )


def test_depths_that_are_not_in_the_grid_change_nothing():
    shallow = [made_up_record(arm=arm, depth=8, seed=0, train_error=0.9) for arm in claims.ARMS]
    assert verdicts(records() + shallow) == verdicts(records())


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
    assert verdicts(rows) == [REPRODUCED] * 4
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
    assert verdicts(rows)[1] == NOT_REPRODUCED


def test_a_residual_arm_on_the_floor_says_so():
    rows = records(residual=dict.fromkeys(claims.DEPTHS, 0.0005))
    falls = claims.check(claims.grid_of(rows))[2]
    assert falls.verdict == INCONCLUSIVE
    assert "floor" in falls.summary


def test_residual_above_plain_contradicts_the_gap():
    assert verdicts(records(residual=RESIDUAL | {20: 0.04}))[3] == NOT_REPRODUCED


def test_differences_are_paired_within_seeds():
    """Seeds differ by 10 points, their differences hardly: pairing is what shows a rise."""
    level = (0.0, 0.1, 0.2)
    arms = {"plain": PLAIN, "residual": RESIDUAL}
    rows = [
        made_up_record(
            arm=arm,
            depth=depth,
            seed=seed,
            train_error=arms[arm][depth] / 4 + 0.3 + level[seed] + JITTER[(seed + depth) % 3],
        )
        for arm, depth, seed in itertools.product(arms, claims.DEPTHS, range(3))
    ]
    assert verdicts(rows)[0] == REPRODUCED


def test_one_criterion_that_scatters_keeps_a_claim_open_and_is_named():
    rows = records()
    scattered = {0: 0.02, 1: 0.9, 2: 0.1}
    rows = [
        made_up_record(arm="plain", depth=44, seed=row.seed, train_error=scattered[row.seed])
        if (row.arm, row.depth) == ("plain", 44)
        else row
        for row in rows
    ]
    widens = claims.check(claims.grid_of(rows))[3]
    assert widens.verdict == INCONCLUSIVE
    assert widens.headline.startswith("plain - residual at 44: ")


def test_holm_makes_four_claims_harder_than_one():
    judged = claims.check(claims.grid_of(records()))
    for claim in judged:
        alone = max(
            [criterion.p for criterion in claim.criteria]
            + ([claim.trend] if claim.trend is not None else [])
        )
        assert alone <= claim.p <= 4 * alone
    assert max(claim.p for claim in judged) > 0


def test_a_wider_margin_forgives_a_rise():
    rows = records(residual={20: 0.010, 32: 0.012, 44: 0.014, 56: 0.018, 110: 0.019})
    assert claims.check(claims.grid_of(rows))[1].verdict == NOT_REPRODUCED
    assert claims.check(claims.grid_of(rows), margin=0.02)[1].verdict == REPRODUCED


def test_other_measures_of_training_are_judged_and_their_disagreement_is_said():
    rising = dict(zip(claims.DEPTHS, (0.001, 0.01, 0.02, 0.03, 0.04), strict=True))
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
        for row in records()
    ]
    lines = claims.disagreements(rows, claims.grid_of(rows))
    assert [line.split(":")[1] for line in lines] == [
        " training error does not rise with depth",
        " training error falls with depth",
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
    assert short.splitlines()[0] == "digits · protocol quick · 3 seeds"
    assert "Running training error in %, last 200 iterations" in short
    assert set(short.splitlines()) <= set(long.splitlines())
    for text in ("Holm", "bootstrap", "Page", "raining error in evaluation mode", "raining loss"):
        assert text in long
        assert text not in short


def test_options_narrow_the_grid_and_set_the_margin(tmp_path):
    rising = {20: 0.010, 32: 0.012, 44: 0.014, 56: 0.018, 110: 0.019}
    folder = measured(tmp_path, records(residual=rising))
    assert QUESTION.scores(folder)[1]["contradicted"]
    assert not QUESTION.scores(folder, margin="2")[1]["contradicted"]
    text = QUESTION.text(folder, depths="56,20", seeds="0,2")
    assert "protocol quick · 2 seeds" in text
    assert "20 → 56" in text
    assert "110" not in text
    with pytest.raises(ValueError, match="DEPTHS=deep: give whole numbers, as 20,56"):
        QUESTION.read(folder, depths="deep")
    with pytest.raises(ValueError, match="MARGIN=small: give percentage points"):
        QUESTION.read(folder, margin="small")


def test_a_damaged_table_is_one_line(tmp_path):
    (tmp_path / RUNS_TABLE).write_text("arm,depth\nplain,20\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        QUESTION.read(tmp_path)
