"""Differences within seeds, and the folders of one question."""

import pytest
from made_up import made_up_record, write_made_up

from experiments.judging import pairs
from experiments.judging.pairs import borrowed_folder, read_folders, require_same_images
from experiments.judging.verdict import INCONCLUSIVE, REPRODUCED
from plainres.records.schema import DIVERGED


def measured(folder, **images) -> None:
    for name, fingerprint in images.items():
        row = made_up_record(data_fingerprint=fingerprint, data_label=f"label {fingerprint}")
        write_made_up(folder / name, [row])


def test_folders_are_read_by_name(tmp_path):
    measured(tmp_path, b="1", a="1")
    records = read_folders(tmp_path, "sweep-x")
    assert list(records) == ["a", "b"]
    assert [len(rows) for rows in records.values()] == [1, 1]
    require_same_images(records)


def test_no_records_are_one_line_with_the_target_that_measures_them(tmp_path):
    with pytest.raises(ValueError, match=r"no records in .*; make sweep-x measures them"):
        read_folders(tmp_path, "sweep-x")


def test_errors_on_different_images_are_not_compared(tmp_path):
    measured(tmp_path, residual20="1", se20="2")
    message = r"residual20 was measured on label 1 and se20 on other images \(label 2\): they can"
    with pytest.raises(ValueError, match=message):
        require_same_images(read_folders(tmp_path, "sweep-x"))


def test_differences_are_taken_over_the_seeds_that_all_have():
    series = {"plain": {0: 0.5, 1: 0.7, 2: 0.6}, "residual": {1: 0.3, 2: 0.1, 3: 0.2}}
    criterion = pairs.difference(series, "plain", "residual")
    assert criterion.values == pytest.approx((0.4, 0.5))
    claim = pairs.judge("x", {"plain": {1: 0.5}, "residual": {1: 0.3}}, lambda: [criterion])
    assert claim.summary == "plain - residual: +45.00 points"


@pytest.mark.parametrize(
    ("residual", "summary"),
    [
        ({}, "missing: residual"),
        ({2: 0.1}, "missing: a seed that all have (plain: 0, 1; residual: 2)"),
    ],
)
def test_without_a_shared_seed_a_claim_says_what_is_missing(residual, summary):
    series = {"plain": {1: 0.5, 0: 0.4}, "residual": residual}
    claim = pairs.judge("x", series, lambda: pytest.fail("nothing to judge"))
    assert (claim.verdict, claim.summary) == (INCONCLUSIVE, summary)


def test_one_shared_seed_gives_a_direction():
    series = {"plain": {0: 0.5}, "residual": {0: 0.1, 1: 0.2}}
    claim = pairs.judge("x", series, lambda: [pairs.difference(series, "plain", "residual")])
    assert (claim.verdict, claim.num_seeds) == (REPRODUCED, 1)


def test_errors_by_seed_are_of_one_network_and_a_diverged_run_counts_as_chance():
    records = [
        made_up_record(seed=0, train_error=0.2),
        made_up_record(seed=1, status=DIVERGED, train_error=None),
        made_up_record(seed=2, depth=56),
        made_up_record(seed=3, arm="plain"),
    ]
    assert pairs.errors_by_seed(records, "residual", 20) == pytest.approx({0: 0.2, 1: 0.9})


def test_records_are_borrowed_from_this_machine_first(tmp_path):
    results, local = tmp_path / "results", tmp_path / "results" / "local"
    committed = borrowed_folder(results / "shortcuts" / "quick", "shortcuts", "depth", "quick")
    assert committed == results / "depth" / "quick"
    own = local / "shortcuts" / "quick"
    assert borrowed_folder(own, "shortcuts", "depth", "quick") == results / "depth" / "quick"
    measured(local / "depth", quick="1")
    assert borrowed_folder(own, "shortcuts", "depth", "quick") == local / "depth" / "quick"
