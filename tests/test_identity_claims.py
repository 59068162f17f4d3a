"""The claims about inserted blocks, on made-up tables."""

import re
import shutil
from dataclasses import replace
from itertools import product

import pytest
from made_up import made_up_record, write_made_up

from experiments.identity import QUESTION
from experiments.identity.claims import BRANCHES_TABLE, INSERTIONS_TABLE, BranchNorm, Insertion
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from plainres.records.files import RUNS_TABLE, read_table, write_table
from plainres.records.schema import Record


def made_up_insertion(arm: str, depth: int, seed: int, blocks: int, position: str) -> Insertion:
    plain = arm == "plain"
    return Insertion(
        arm=arm,
        depth=depth,
        seed=seed,
        blocks=blocks,
        stage=1,
        position=position,
        initialisation="identity",
        parent_weights="",
        logit_difference_eval=1e-6 if plain else 0.0,
        logit_difference_batch=0.4 * blocks if plain else 0.0,
        logit_size=2.0,
        error_eval=0.02,
        parent_error_eval=0.02,
        error_batch=0.05 if plain else 0.03,
        parent_error_batch=0.03,
    )


def measured(
    folder, seeds: int = 1, harm: float = 0.01, residual: float = 0.0, wiggle: float = 0.0004
) -> None:
    """Tables of a sweep, in which seeds differ a little.

    Args:
        harm: by how much a plain child is worse for each doubling of its blocks.
        residual: by how much a residual child is worse.
    """
    cells = list(product(("plain", "residual"), (20, 56), range(seeds)))

    def write(name: str, excess, blocks: int, position: str = "middle") -> None:
        rows, insertions = [], []
        for arm, depth, seed in cells:
            error = 0.05 + wiggle * ((7 * seed + blocks + depth) % 5) + excess(arm)
            rows.append(made_up_record(arm=arm, depth=depth, seed=seed, train_error=error))
            insertions.append(made_up_insertion(arm, depth, seed, blocks, position))
        write_made_up(folder / name, rows)
        if name != "parent":
            write_table(folder / name / INSERTIONS_TABLE, insertions, Insertion)

    write("parent", lambda arm: 0.01, 0)
    write("trained_on", lambda arm: 0.0, 0)
    for blocks in (1, 2, 4, 8):
        for position in ("middle", "end"):
            worse = {"plain": harm * (1 + blocks.bit_length()), "residual": residual}
            write(f"{position}_{blocks}", worse.__getitem__, blocks, position)


def decayed(
    folder, ends=((0, 0.9), (0.001, 0.5), (0.003, 0.05)), seeds: int = 1, others: float = 1.0
) -> None:
    """Tables of fresh blocks.

    Args:
        ends: weight decay and ‖F(x)‖/‖x‖ of the fresh blocks at the end.
        others: by which factor the other blocks' ratio, 0.6, shrinks for each weight decay.
    """
    for place, (decay, end) in enumerate(ends):
        within = folder / f"decay_{decay:g}"
        times = (
            (0, 0.8, 0.6),
            (1000, (0.8 + end) / 2, 0.6),
            (2000, end, 0.6 * others**place),
        )
        branches = []
        for seed, (iteration, fresh, other), block in product(range(seeds), times, range(5)):
            ratio = (fresh if block else other) * (1 + 0.01 * seed) + 0.001 * block
            branches.append(BranchNorm("residual", 20, seed, iteration, 1, block, block > 0, ratio))
        insertions = [made_up_insertion("residual", 20, seed, 4, "middle") for seed in range(seeds)]
        config = {"model": {}, "protocol": {"weight_decay": decay}}
        write_made_up(within, [made_up_record(seed=seed) for seed in range(seeds)], config=config)
        write_table(within / INSERTIONS_TABLE, insertions, Insertion)
        write_table(within / BRANCHES_TABLE, branches, BranchNorm)


def edited(path, row_type: type, change) -> None:
    """Writes a table again: `change` makes another row of each, or None."""
    rows = [change(row) for row in read_table(path, row_type)]
    write_table(path, [row for row in rows if row is not None], row_type)


def checked(folder) -> list[Claim]:
    (runs,) = QUESTION.read(folder)
    return list(QUESTION.claims(runs))


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in checked(folder)]


@pytest.mark.parametrize("seeds", [1, 8])
def test_all_claims_hold_where_extra_blocks_harm_plain_networks_alone(tmp_path, seeds):
    measured(tmp_path, seeds)
    decayed(tmp_path, seeds=seeds)
    assert verdicts(tmp_path) == [REPRODUCED] * 5
    claims = checked(tmp_path)
    assert all(claim.p is None for claim in claims[:2]), "counted"
    assert all((claim.p is not None) == (seeds > 1) for claim in claims[2:])


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, NOT_REPRODUCED), (8, INCONCLUSIVE), (12, NOT_REPRODUCED)],  # one of sixteen criteria
)
def test_harm_at_one_position_is_not_made_good_by_another(tmp_path, seeds, expected):
    measured(tmp_path, seeds)
    for position, excess in (("middle", 0.02), ("end", -0.02)):
        edited(
            tmp_path / f"{position}_8" / RUNS_TABLE,
            Record,
            lambda row, excess=excess: replace(
                row, train_error=row.train_error + (row.arm == "residual") * excess
            ),
        )
    assert verdicts(tmp_path)[2] == expected


@pytest.mark.parametrize("difference", ["logit_difference_eval", "logit_difference_batch"])
def test_one_changed_bit_contradicts_exactness(tmp_path, difference):
    measured(tmp_path)
    edited(
        tmp_path / "end_4" / INSERTIONS_TABLE,
        Insertion,
        lambda row: replace(row, **({difference: 1e-7} if row.arm == "residual" else {})),
    )
    assert verdicts(tmp_path)[0] == NOT_REPRODUCED
    assert "2 of 16" in checked(tmp_path)[0].summary


def test_a_plain_insertion_that_changes_nothing_contradicts_b(tmp_path):
    measured(tmp_path)
    path = tmp_path / "end_1" / INSERTIONS_TABLE
    edited(path, Insertion, lambda row: replace(row, logit_difference_batch=1e-6))
    assert verdicts(tmp_path)[1] == NOT_REPRODUCED


@pytest.mark.parametrize(("residual", "expected"), [(0.004, REPRODUCED), (0.006, NOT_REPRODUCED)])
def test_residual_children_may_be_worse_by_half_a_point(tmp_path, residual, expected):
    measured(tmp_path, residual=residual, wiggle=0.0)
    assert verdicts(tmp_path)[2] == expected


@pytest.mark.parametrize("harm", [0.0, 0.0009, -0.01])
def test_plain_children_that_are_no_worse_do_not_reproduce_d(tmp_path, harm):
    measured(tmp_path, harm=harm, wiggle=0.0)
    assert verdicts(tmp_path)[3] == NOT_REPRODUCED


@pytest.mark.parametrize(("one", "more"), [(0.04, 0.03), (0.03, 0.033)])
def test_plain_children_that_are_worse_whatever_their_number_do_not_reproduce_d(
    tmp_path, one, more
):
    measured(tmp_path, harm=0.0, wiggle=0.0)
    for path in [*tmp_path.glob("middle_*/runs.csv"), *tmp_path.glob("end_*/runs.csv")]:
        worse = one if path.parent.name.endswith("1") else more
        edited(path, Record, lambda row, w=worse: replace(row, train_error=row.train_error + w))
    assert verdicts(tmp_path)[3] == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("ends", "others"),
    [
        (((0, 0.5), (0.003, 0.9)), 1.0),  # they grow
        (((0, 0.5), (0.003, 0.05)), 0.05),  # no more than the ones that are needed
        (((0, 0.9), (0.003, 0.3)), 1.0),  # they end far from zero
    ],
)
def test_branches_that_decay_does_not_drive_to_zero_contradict_e(tmp_path, ends, others):
    measured(tmp_path)
    decayed(tmp_path, ends, others=others)
    assert verdicts(tmp_path)[4] == NOT_REPRODUCED


def test_a_sweep_that_was_interrupted_lacks_something_and_is_no_crash(tmp_path):
    measured(tmp_path)
    decayed(tmp_path)
    edited(
        tmp_path / "end_8" / RUNS_TABLE,
        Record,
        lambda row: None if (row.arm, row.depth) == ("plain", 20) else row,
    )
    assert verdicts(tmp_path) == [REPRODUCED, INCONCLUSIVE, REPRODUCED, INCONCLUSIVE, REPRODUCED]
    shutil.rmtree(tmp_path / "middle_4")
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 4 + [REPRODUCED]
    assert QUESTION.write(tmp_path)
    for path in tmp_path.glob(f"*_*/{RUNS_TABLE}"):
        edited(path, Record, lambda row: None if row.arm == "plain" else row)
    assert verdicts(tmp_path) == [INCONCLUSIVE] * 4 + [REPRODUCED]
    assert QUESTION.write(tmp_path)


def moved(path, seed: int, **changes) -> None:
    """Measures one seed of a table elsewhere."""
    edited(path, Record, lambda row: replace(row, **changes) if row.seed == seed else row)


@pytest.mark.parametrize("moves", ["trained_on", "parent", "end_8"])
def test_a_child_and_its_parent_on_two_machines_are_not_comparable(tmp_path, moves):
    measured(tmp_path, seeds=2)
    decayed(tmp_path, seeds=2)
    elsewhere = {"instruction_set": "", "processor": "old"}
    moved(tmp_path / moves / RUNS_TABLE, 0, **elsewhere)
    moved(tmp_path / "decay_0" / RUNS_TABLE, 0, **elsewhere)
    claims = checked(tmp_path)
    assert [claim.num_seeds for claim in claims] == [0, 0, 1, 1, 1]
    for claim in claims[2:]:
        assert "not comparable: seed 0 (" in claim.summary
        assert "old" in claim.summary
        assert "ATen AVX2 / oneDNN AVX2" in claim.summary
    assert verdicts(tmp_path) == [REPRODUCED] * 5
    moved(tmp_path / moves / RUNS_TABLE, 1, **elsewhere)
    moved(tmp_path / "decay_0" / RUNS_TABLE, 1, torch="2.10.0")
    assert verdicts(tmp_path) == [REPRODUCED] * 2 + [INCONCLUSIVE] * 3


def test_what_was_measured_under_other_conditions_is_in_no_table(tmp_path):
    measured(tmp_path, seeds=2, wiggle=0.0)
    for path in (tmp_path / "end_8" / RUNS_TABLE, tmp_path / "middle_8" / RUNS_TABLE):
        worse = {"instruction_set": "", "train_error": 0.8}
        moved(path, 0, **worse)
    (runs,) = QUESTION.read(tmp_path)
    rows = {tuple(row[:3]): row[-1] for row in QUESTION.tables(runs)[1].rows}
    assert rows["plain-20", "end", "8"] == "+5.00"


def test_networks_at_chance_can_be_harmed_by_nothing(tmp_path):
    measured(tmp_path)
    for path in tmp_path.glob(f"*/{RUNS_TABLE}"):
        edited(path, Record, lambda row: replace(row, train_error=0.9))
    claims = checked(tmp_path)
    assert [claim.verdict for claim in claims[2:4]] == [INCONCLUSIVE] * 2
    assert claims[2].summary.startswith("at chance, where nothing harms: residual-20-seed0, ")


def test_the_logits_of_a_network_at_chance_show_nothing_by_staying(tmp_path):
    measured(tmp_path)
    for path in tmp_path.glob(f"*/{INSERTIONS_TABLE}"):
        edited(path, Insertion, lambda row: replace(row, parent_error_eval=0.88))
    assert verdicts(tmp_path)[:2] == [INCONCLUSIVE, REPRODUCED]
    assert "at chance before: residual-20-seed0" in checked(tmp_path)[0].summary


def test_a_changed_bit_counts_in_a_seed_that_lacks_cells_too(tmp_path):
    measured(tmp_path, seeds=2)
    path = tmp_path / "end_8" / RUNS_TABLE
    edited(path, Record, lambda row: None if row.cell == "residual-56-seed1" else row)
    claims = checked(tmp_path)
    assert claims[0].summary.startswith("0 of 31 insertions")
    assert claims[2].num_seeds == 1
    assert claims[2].summary.endswith("; cells are missing of seed 1")
    edited(
        tmp_path / "end_1" / INSERTIONS_TABLE,
        Insertion,
        lambda row: replace(row, logit_difference_eval=1e-7) if row.seed == 1 else row,
    )
    assert verdicts(tmp_path)[0] == NOT_REPRODUCED


def test_statements_say_which_insertions_were_judged(tmp_path):
    measured(tmp_path)
    whole = "(20, 56 layers; end, middle; 1, 2, 4, 8 blocks)"
    assert all(claim.statement.endswith(whole) for claim in checked(tmp_path)[:4])
    for name in ("middle_8", "end_8", "middle_2", "end_2", "middle_1", "end_1"):
        shutil.rmtree(tmp_path / name)
    claims = checked(tmp_path)
    assert claims[2].statement.endswith("(20, 56 layers; end, middle; 4 blocks)")
    assert (claims[3].verdict, claims[3].summary) == (
        INCONCLUSIVE,
        "missing: 2 numbers of blocks",
    )


@pytest.mark.parametrize(
    ("ends", "others"),
    [
        (((0, 0.09), (0.003, 0.05)), 1.0),  # by less than a difference
        (((0, 0.12), (0.003, 0.06)), 0.55),  # hardly more than the others
    ],
)
def test_a_decay_that_shrinks_branches_by_less_than_the_margin_contradicts_e(
    tmp_path, ends, others
):
    measured(tmp_path)
    decayed(tmp_path, ends, others=others)
    assert verdicts(tmp_path)[4] == NOT_REPRODUCED


def test_what_is_missing_is_said_and_the_rest_is_judged(tmp_path):
    measured(tmp_path)
    claims = checked(tmp_path)
    assert (claims[4].verdict, claims[3].verdict) == (INCONCLUSIVE, REPRODUCED)
    assert "missing" in claims[4].summary
    path = tmp_path / "trained_on" / RUNS_TABLE
    edited(path, Record, lambda row: row if row.arm == "plain" else None)
    assert verdicts(tmp_path) == [REPRODUCED, REPRODUCED, INCONCLUSIVE, REPRODUCED, INCONCLUSIVE]


def test_a_record_without_its_insertion_is_refused(tmp_path):
    measured(tmp_path)
    (tmp_path / "end_1" / INSERTIONS_TABLE).unlink()
    with pytest.raises(ValueError, match=r"insertions.csv lacks plain-20-seed0"):
        QUESTION.read(tmp_path)


def test_a_child_of_another_parent_and_one_that_stands_twice_are_refused(tmp_path):
    measured(tmp_path)
    shutil.copytree(tmp_path / "end_1", tmp_path / "end_1b")
    with pytest.raises(ValueError, match=r"has 2 children of .*, seed 0; legal: one"):
        QUESTION.read(tmp_path)
    shutil.rmtree(tmp_path / "end_1b")
    for name, parent in (("trained_on", "a" * 12), ("end_1", "b" * 12)):
        moved(tmp_path / name / RUNS_TABLE, 0, parent=parent)
    with pytest.raises(ValueError, match="a child of plain-20-seed0 has another parent"):
        QUESTION.read(tmp_path)


def test_parents_without_children_are_one_line(tmp_path):
    measured(tmp_path / "quick")
    for path in [*tmp_path.glob("quick/middle_*"), *tmp_path.glob("quick/end_*")]:
        shutil.rmtree(path)
    with pytest.raises(ValueError, match=r"no children .*; make sweep-identity PROTOCOL=quick"):
        QUESTION.read(tmp_path / "quick")


def test_text_and_readme_say_what_they_show(tmp_path):
    folder = tmp_path / "quick"
    measured(folder)
    decayed(folder)
    figures = {path.name for path in QUESTION.write(folder)}
    assert {"children.png", "children.svg", "branches.png", "branches.svg"} < figures
    readme = (folder / "README.md").read_text()
    assert "digits · protocol quick · 1 seed" in readme
    assert "children.png" in readme
    text = QUESTION.text(folder)
    assert re.search(r"plain-20 +end +8 ", text)
    assert text.count("plain-56") > 8
