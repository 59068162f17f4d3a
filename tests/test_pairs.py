"""Differences within seeds, and the folders of one question."""

from itertools import product

import pytest
from made_up import made_up_record, write_made_up

from experiments.judging import pairs
from experiments.judging.conditions import differences
from experiments.judging.pairs import (
    Series,
    counterparts,
    measured_alike,
    read_folders,
    read_records,
    require_alike,
    require_same_images,
)
from experiments.judging.verdict import INCONCLUSIVE, REPRODUCED
from plainres.records.files import CONFIG_FILE, RUNS_TABLE, write_json, write_table
from plainres.records.identity import row_hash
from plainres.records.rows import ProbePoint
from plainres.records.schema import DIVERGED, FINISHED, Record

ZEN, XEON = "AMD EPYC (family 25, model 17)", "Intel Xeon (family 6, model 207)"


def series(values: dict[int, float], **changes) -> Series:
    """Values of made-up rows; `changes` of each row, or of seed n as `seed_n`."""
    rows = {}
    for seed in values:
        own = changes.get(f"seed_{seed}", {})
        shared = {name: value for name, value in changes.items() if not name.startswith("seed_")}
        rows[seed] = [made_up_record(seed=seed, **(shared | own))]
    return Series(values, rows)


def measured(folder, **images) -> None:
    for name, fingerprint in images.items():
        row = made_up_record(data_fingerprint=fingerprint * 12, data_label=f"label {fingerprint}")
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
    both = {
        "plain": series({0: 0.5, 1: 0.7, 2: 0.6}),
        "residual": series({1: 0.3, 2: 0.1, 3: 0.2}),
    }
    criterion = pairs.difference(both, "plain", "residual")
    assert criterion.values == pytest.approx((0.4, 0.5))
    claim = pairs.judge("x", {"plain": series({1: 0.5})}, lambda: [criterion])
    assert claim.summary == "plain - residual: +45.00 points"


@pytest.mark.parametrize(
    ("residual", "summary"),
    [
        ({}, "missing: residual"),
        ({2: 0.1}, "missing: a seed that all have (plain: 0, 1; residual: 2)"),
    ],
)
def test_without_a_shared_seed_a_claim_says_what_is_missing(residual, summary):
    both = {"plain": series({1: 0.5, 0: 0.4}), "residual": series(residual)}
    claim = pairs.judge("x", both, lambda: pytest.fail("nothing to judge"))
    assert (claim.verdict, claim.summary) == (INCONCLUSIVE, summary)


def test_one_shared_seed_gives_a_direction():
    both = {"plain": series({0: 0.5}), "residual": series({0: 0.1, 1: 0.2})}
    claim = pairs.judge("x", both, lambda: [pairs.difference(both, "plain", "residual")])
    assert (claim.verdict, claim.num_seeds) == (REPRODUCED, 1)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({"processor": ZEN}, {"processor": XEON}, f"treated: {ZEN}; untreated: {XEON}"),
        (
            {"instruction_set": "ATen AVX2 / oneDNN AVX2"},
            {"instruction_set": "ATen AVX512 / oneDNN AVX512_CORE"},
            "treated: ATen AVX2 / oneDNN AVX2; untreated: ATen AVX512 / oneDNN AVX512_CORE",
        ),
        (
            {"precision": "32-true"},
            {"precision": "bf16-mixed"},
            "treated: 32-true; untreated: bf16-mixed",
        ),
        ({"torch": "2.14.1+cpu"}, {"torch": "2.15.0"}, "treated: 2.14; untreated: 2.15"),
        ({"kernels": "library"}, {"kernels": "fused"}, "treated: library; untreated: fused"),
        ({"threads": 1}, {"threads": 2}, "treated: 1 thread; untreated: 2 threads"),
    ],
)
def test_rows_under_unlike_conditions_are_not_compared_and_named(one, other, what):
    free = {} if "instruction_set" in one else {"instruction_set": ""}
    both = {
        "treated": series({0: 0.5, 1: 0.6}, **(free | one)),
        "untreated": series({0: 0.7, 1: 0.8}, **(free | other)),
    }
    claim = pairs.compare("x", both)
    assert (claim.verdict, claim.criteria) == (INCONCLUSIVE, ())
    assert claim.summary == f"not comparable: seed 0, 1 ({what})"


def test_a_seed_that_cannot_be_compared_is_dropped_and_named():
    both = {
        "treated": series({0: 0.5, 1: 0.6}, instruction_set="", processor=ZEN),
        "untreated": series(
            {0: 0.7, 1: 0.8}, instruction_set="", processor=ZEN, seed_1={"processor": XEON}
        ),
    }
    assert pairs.shared_seeds(both) == [0]
    assert f"not comparable: seed 1 (treated: {ZEN}; untreated: {XEON})" in (
        pairs.compare("x", both).summary
    )


def test_with_limited_instructions_the_processor_does_not_matter():
    limited = {"instruction_set": "ATen AVX2 / oneDNN AVX2"}
    both = {
        "one": series({0: 0.5}, processor=ZEN, torch="2.14.1", **limited),
        "other": series({0: 0.5}, processor=XEON, torch="2.14.2+cpu", kernels="", **limited),
    }
    assert pairs.shared_seeds(both) == [0]
    own = {name: series({0: 0.5}, instruction_set="ATen AVX2 / oneDNN ALL", processor=processor)
           for name, processor in (("one", ZEN), ("other", XEON))}  # fmt: skip
    assert pairs.shared_seeds(own) == []


def test_old_rows_of_processors_that_have_no_more_than_avx2_are_compared_with_limited_ones():
    both = {
        "old": series({0: 0.5}, processor="AMD EPYC (family 25, model 1)", instruction_set=""),
        "older": series({0: 0.5}, processor="AMD EPYC (family 25, model 1)", instruction_set=""),
        "new": series({0: 0.5}, processor=ZEN, instruction_set="ATen AVX2 / oneDNN AVX2"),
    }
    assert pairs.shared_seeds(both) == [0]


def test_what_is_compared_may_differ():
    both = {
        "float32": series({0: 0.5}, precision="32-true"),
        "bf16": series({0: 0.6}, precision="bf16-mixed"),
    }
    assert pairs.shared_seeds(both) == []
    assert pairs.shared_seeds(both, treatment=("precision",)) == [0]


def test_seeds_of_several_precisions_are_not_judged_together():
    mixed = {"seed_1": {"precision": "bf16-mixed"}}
    both = {name: series({0: 0.5, 1: 0.4}, **mixed) for name in ("plain", "residual")}
    claim = pairs.compare("x", both)
    assert claim.summary == (
        "not comparable: plain has several precisions (32-true: seed 0; bf16-mixed: seed 1)"
    )


def test_a_difference_of_series_keeps_the_rows_of_both():
    child = series({0: 0.5, 1: 0.4}, instruction_set="", processor=ZEN)
    parent = series({1: 0.3}, instruction_set="", processor=XEON)
    excess = child.minus(parent)
    assert excess == pytest.approx({1: 0.1})
    assert pairs.shared_seeds({"excess": excess}) == []


def test_errors_by_seed_are_of_one_network_and_a_diverged_run_counts_as_chance():
    records = [
        made_up_record(seed=0, train_error=0.2),
        made_up_record(seed=1, status=DIVERGED, train_error=None),
        made_up_record(seed=2, depth=56),
        made_up_record(seed=3, arm="plain"),
    ]
    assert pairs.errors_by_seed(records, "residual", 20) == pytest.approx({0: 0.2, 1: 0.9})


CONFIG = {"data": {"label": "digits"}, "model": {"width": 4}, "protocol": {"name": "quick"}}


def configured(folder, rows, **protocol) -> None:
    """A results folder with its configuration; the rows' hashes are those of it."""
    config = {**CONFIG, "protocol": {"name": folder.name, **protocol}}
    for row in rows:
        object.__setattr__(row, "config_hash", row_hash(config, row))
    write_made_up(folder, rows)
    write_json(folder / CONFIG_FILE, config)


def test_rows_of_one_configuration_are_found_wherever_they_were_measured(tmp_path):
    results, local = tmp_path / "results", tmp_path / "results" / "local"
    configured(results / "depth" / "quick", [made_up_record(seed=0)])
    configured(results / "identity" / "quick" / "parent", [made_up_record(seed=1, processor=XEON)])
    configured(results / "depth" / "slow", [made_up_record(seed=2)], learning_rate=9)
    option_b = made_up_record(seed=4, shortcut="projection")  # of the arm residual
    configured(results / "depth" / "option_b", [option_b])
    configured(local / "depth" / "quick", [made_up_record(seed=3)])

    def seeds(folder):
        config = {**CONFIG, "protocol": {"name": "any"}}
        return [row.seed for row in measured_alike(folder, config)]

    assert seeds(results) == [0, 1]
    assert seeds(local) == [3, 0, 1]
    configured(results / "signal" / "quick", [made_up_record(seed=0, processor=XEON, threads=2)])
    assert seeds(results) == [0, 1, 0], "two machines may finish a cell in the same second"


def test_a_seed_has_one_row_in_one_place():
    rows = [made_up_record(depth=20), made_up_record(depth=56)]
    said = "residual-20-seed0 and residual-56-seed0 stand in one place"
    with pytest.raises(ValueError, match=said):
        Series.of(rows, lambda row: row.train_error)


def test_folders_differ_in_what_is_compared_and_in_no_more(tmp_path):
    for name, width, rate in (("one", 4, 0.1), ("wide", 8, 0.1), ("fast", 4, 0.2)):
        shared = {"model": {"width": width}, "protocol": {"name": name, "learning_rate": rate}}
        write_json(tmp_path / name / CONFIG_FILE, shared)
    names = ["one", "wide", "without"]
    require_alike(tmp_path, names, r"model\..*")
    for legal, other in (("data", "wide"), (r"model\..*", "fast")):
        with pytest.raises(ValueError, match=f"{other} differs from one in .*: not comparable"):
            require_alike(tmp_path, [*names, "fast"], legal)


def test_an_arm_has_one_shortcut(tmp_path):
    write_made_up(tmp_path, [made_up_record(), made_up_record(depth=56, shortcut="projection")])
    said = "runs.csv: residual has shortcuts projection and zero_pad; legal: one"
    with pytest.raises(ValueError, match=said):
        read_records(tmp_path)


def test_a_table_without_rows_beside_others_is_named(tmp_path):
    write_made_up(tmp_path / "quick", [made_up_record()])
    write_made_up(tmp_path / "slow", [])
    with pytest.raises(ValueError, match=r"slow/runs.csv has no rows; make sweep-it makes some"):
        read_folders(tmp_path, "sweep-it")


def test_the_counterpart_of_a_row_was_measured_under_its_conditions():
    zen, xeon = (
        {seed: made_up_record(seed=seed, processor=name, instruction_set="") for seed in (0, 1)}
        for name in (ZEN, XEON)
    )
    treated = [made_up_record(arm="plain", seed=0, processor=XEON, instruction_set="")]
    candidates = [*zen.values(), xeon[0]]
    assert counterparts(candidates, treated) == [xeon[0], zen[1]]


def test_of_two_counterparts_it_is_that_of_most_rows():
    library, fused = (made_up_record(kernels=name) for name in ("library", "fused"))
    arms = ("projection", "scaled", "every_second")
    rows = [
        made_up_record(arm=arm, kernels="library" if arm == "scaled" else "fused") for arm in arms
    ]
    assert counterparts([library, fused], rows) == [fused]


def test_a_processor_that_is_limited_in_a_part_is_another_machine():
    new = {"processor": XEON}
    native, older, part = (
        made_up_record(**new, instruction_set=words)
        for words in ("ATen AVX512 / oneDNN ALL", "", "ATen AVX2 / oneDNN ALL")
    )
    assert not differences([native, older])
    assert differences([native, part]) == [f"machine: {XEON}, {XEON}, ATen AVX2"]


def test_a_sound_table_is_read(tmp_path):
    rows = [made_up_record(seed=seed) for seed in (0, 1)]
    configured(tmp_path / "quick", rows)
    assert read_records(tmp_path / "quick") == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 0}, "has 2 rows of residual-20-seed0; legal: one"),
        ({"train_error": float("nan")}, "line 3, train_error: nan is not a finite number"),
        ({"test_loss": float("inf")}, "line 3, test_loss: inf is not a finite number"),
        ({"data_fingerprint": "0" * 12}, "residual-20-seed0 and residual-20-seed1 were measured"),
        ({"config_hash": "f" * 12}, "residual-20-seed1: config_hash ffffffffffff is not "),
        ({"data_label": "photos"}, r"seed1: data_label photos is not digits \(of config\.json"),
        ({"iterations": 100}, "seed1: iterations 100 is not 2000"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(tmp_path, change, message):
    rows = [made_up_record(seed=0), made_up_record(**({"seed": 1} | change))]
    folder = tmp_path / "quick"
    configured(folder, rows[:1] if "config_hash" in change else rows, iterations=2000)
    write_table(folder / RUNS_TABLE, rows, Record)
    with pytest.raises(ValueError, match=message) as error:
        read_records(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kept", "status", "message"),
    [
        (8, FINISHED, None),
        (7, FINISHED, "has 1 of 2 rows of residual-20-seed1 at iteration 5"),
        (6, FINISHED, "lacks iteration 5 of residual-20-seed1"),
        (4, FINISHED, "lacks residual-20-seed1"),
        (6, DIVERGED, None),
        (4, DIVERGED, None),
    ],
)
def test_a_table_beside_the_records_that_was_cut_is_one_line(tmp_path, kept, status, message):
    records = [made_up_record(seed=0), made_up_record(seed=1, status=status)]
    places = product((0, 1), (0, 5), (0, 1))  # seed, iteration, layer
    rows = [ProbePoint("residual", 20, *place, response=1.0) for place in places][:kept]
    table = tmp_path / "probes.csv"
    write_table(table, rows, ProbePoint)
    if message is None:
        assert pairs.read_beside(table, ProbePoint, records) == rows
        return
    with pytest.raises(ValueError, match=f"^{table} {message}$"):
        pairs.read_beside(table, ProbePoint, records)


@pytest.mark.parametrize("text", ["{", "{}", '{"protocol": {"name": "quick"}}'])
def test_a_damaged_configuration_beside_the_table_is_one_line(tmp_path, text):
    write_made_up(tmp_path, [made_up_record()])
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        read_records(tmp_path)
