"""The autopsy on made-up curves and tables: run status, rates of convergence, remedies, costs."""

import math
from dataclasses import replace

import pytest
from composing import CONF, compose_cell, variants
from made_up import made_up_record, write_made_up
from matplotlib import pyplot as plt
from omegaconf import OmegaConf

from experiments.autopsy import QUESTION, claims, convergence, figures, grid, run_status
from experiments.grid import Sweep
from experiments.judging.pairs import change_of
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, read_curves, read_runs, write_table
from plainres.records.schema import DIVERGED, CurvePoint, Record
from plainres.run.cell import claim_tables

RESCUES = variants("rescue")
REMEDIED = ("quick", "cpu")  # protocols for which conf says what a remedy is
DEPTHS = (20, 32, 44, 56, 110)
UNTREATED = {0: 0.83, 1: 0.85, 2: 0.84}
ZEN, XEON = "AMD EPYC (family 25, model 17)", "Intel Xeon (family 6, model 207)"


def curve(*errors: float, arm="plain", depth=110, seed=0, every=100) -> list[CurvePoint]:
    """Errors at equal distances; losses that belong to them."""
    rates = [0.1, 0.1, *[0.05] * len(errors)]
    return [
        CurvePoint(arm, depth, seed, every * number, error, 2.4 * error, rate)
        for number, (error, rate) in enumerate(zip(errors, rates, strict=False), 1)
    ]


def falling(rate: float, arm="plain", depth=20, seed=0) -> list[CurvePoint]:
    """Loss that falls at `rate`, 1 / iterations, after a warm-up of 100 in which it does not."""
    points = []
    for step in range(50, 2001, 50):
        after = max(0, step - 100)
        loss, learning_rate = 2.3 * math.exp(-rate * after), min(step / 100, 1.0) * 0.1
        point = CurvePoint(arm, depth, seed, step, 0.5, loss, learning_rate - 1e-6 * after)
        points.append(point)
    return points


# Run status


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ((0.9, 0.89, 0.9, 0.91), run_status.AT_CHANCE),
        ((0.9, 0.86, 0.86, 0.86), run_status.AT_CHANCE),
        ((0.9, 0.84, 0.835, 0.832), run_status.PLATEAU),
        ((0.9, 0.5, 0.8, 0.85), run_status.LOST),
        ((0.3, 0.02, 0.5, 0.6), run_status.LOST),
        ((0.9, 0.5, 0.65, 0.66), run_status.PLATEAU),
        ((0.7, 0.6, 0.59, 0.58), run_status.PLATEAU),
        ((0.7, 0.6, 0.55, 0.5), run_status.LEARNING),
        ((0.3, 0.02, 0.02, 0.02), run_status.LEARNING),
        ((0.9, 0.85, 0.5, 0.2), run_status.LATE),
        ((0.9, 0.89, 0.8, 0.7), run_status.LATE),
    ],
)
def test_run_status(errors, status):
    assert run_status.run_status(curve(*errors), 10) == status
    assert run_status.run_status(curve(*errors)[::-1], 10) == status


def test_chance_depends_on_the_number_of_classes():
    assert run_status.run_status(curve(0.5, 0.49, 0.5, 0.49), 2) == run_status.AT_CHANCE
    assert run_status.run_status(curve(0.5, 0.49, 0.5, 0.49), 10) == run_status.PLATEAU


def test_the_status_of_every_seed_stands_with_the_error_that_was_removed():
    runs = ((20, 0), (110, 0), (110, 1))
    records = [made_up_record(arm="plain", depth=depth, seed=seed) for depth, seed in runs]
    records.append(made_up_record(depth=110, status=DIVERGED, train_error=None))
    curves = [
        *curve(0.5, 0.3, 0.2, 0.09, depth=20),
        *curve(0.9, 0.882, 0.891, 0.9),
        *curve(0.9, 0.81, 0.81, 0.81, seed=1),
    ]
    assert run_status.status_rows(records, curves) == [
        ["arm", "seed", "20", "110"],
        ["plain", "0", "learning (90.0)", "at chance (2.0)"],
        ["plain", "1", "–", "plateau (10.0)"],
        ["residual", "0", "–", "diverged"],
    ]


def test_a_diverged_run_needs_no_curve_and_another_does():
    lost, finished = (made_up_record(**each) for each in ({"status": DIVERGED}, {"depth": 56}))
    assert run_status.statuses_of([lost], []) == {("residual", 20, 0): DIVERGED}
    with pytest.raises(ValueError, match="residual-56-seed0 has a row of quick, but no curve"):
        run_status.statuses_of([lost, finished], [])


def test_a_folder_without_a_remedy_is_named(tmp_path):
    write_made_up(tmp_path / "quick-untreated", [made_up_record(arm="plain", depth=110)])
    with pytest.raises(ValueError, match="quick-untreated: 'untreated' names no remedy"):
        claims.read(tmp_path)


# Rates of convergence


def test_the_rate_is_that_of_the_loss_after_the_warm_up():
    assert convergence.rate_of(falling(0.001)) == pytest.approx(0.001)
    assert convergence.rate_of(falling(0.001)[::-1]) == pytest.approx(0.001)
    assert convergence.rate_of(falling(-0.0001)) == pytest.approx(-0.0001)


@pytest.mark.parametrize(
    ("law", "exponential"),
    [
        (lambda depth: 0.003 * math.exp(-0.05 * depth), True),
        (lambda depth: 0.3 * depth**-2.0, False),
    ],
)
def test_the_law_that_made_the_rates_is_found(law, exponential):
    lines = convergence.fit({depth: law(depth) for depth in DEPTHS})
    assert (lines.preference > 10) == exponential
    assert (lines.preference < -10) == (not exponential)
    line = lines.exponential if exponential else lines.power
    assert line.slope == pytest.approx(-0.05 if exponential else -2.0)
    assert line.rate(56) == pytest.approx(law(56))
    assert convergence.fit({depth: law(depth) for depth in DEPTHS[:3]}) is None, "too few"


def test_a_depth_where_one_loss_rises_is_left_out_of_all_seeds_and_both_arms():
    falls = {20: 0.4, 32: 0.3, 44: 0.2, 56: 0.1, 110: 0.05}
    rates = {("plain", 0): falls | {110: -0.01}, ("plain", 1): falls, ("residual", 0): falls}
    for arm, seed in rates:
        assert list(convergence.fits_of(rates, arm)[seed].rates) == [20, 32, 44, 56]
    left_out = "left out: 110 layers, where a network is at chance"
    assert left_out in convergence.check(rates)[0].summary


def curves_by(law, seeds=1) -> list[CurvePoint]:
    points = []
    for seed in range(seeds):
        for number, depth in enumerate(DEPTHS):
            plain, flat = (1 + 0.01 * ((seed + n) % 3) for n in (number, 2 * number))
            points += falling(law(depth) * plain, depth=depth, seed=seed)
            points += falling(0.001 * flat, "residual", depth, seed)
    return points


@pytest.mark.parametrize(
    ("law", "verdict"),
    [
        (lambda depth: 0.005 * math.exp(-0.05 * depth), REPRODUCED),
        (lambda depth: 0.3 * depth**-2.0, NOT_REPRODUCED),
        (lambda depth: 0.001 * math.exp(-0.003 * depth), NOT_REPRODUCED),
        (lambda depth: 0.001 * math.exp(0.01 * depth), NOT_REPRODUCED),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_conjecture_is_judged(law, verdict, seeds):
    claims = convergence.check(convergence.rates_of(curves_by(law, seeds), {}))
    assert claims[0].verdict == verdict
    falls = law(110) < law(20) * math.exp(-90 * convergence.SLOWER)
    expected = REPRODUCED if falls else NOT_REPRODUCED
    assert claims[1].verdict == expected, "with shortcuts the rate falls by less"


def test_a_tie_of_the_laws_and_missing_depths_are_inconclusive():
    tie = {
        depth: math.sqrt(0.003 * math.exp(-0.02 * depth) * 0.03 * depth**-1.0) for depth in DEPTHS
    }
    law_claim, shortcuts_claim = convergence.check({("plain", 0): tie})
    assert abs(law_claim.criteria[1].mean) < convergence.CLEAR
    assert law_claim.verdict == INCONCLUSIVE
    assert shortcuts_claim.verdict == INCONCLUSIVE, "no residual networks"
    assert [claim.verdict for claim in convergence.check({})] == [INCONCLUSIVE] * 2


def settling(at_chance: float, seeds=2) -> dict[tuple[str, int], dict[int, float]]:
    """Rates that fall as a power of depth, at 110 layers of the last seed to `at_chance`.

    Those of residual networks are flat.
    """
    rates = {}
    for seed in range(seeds):
        plain = {depth: 0.3 * depth**-2.0 for depth in DEPTHS}
        plain[32] *= 1 + 0.01 * seed
        rates["plain", seed] = plain
        rates["residual", seed] = dict.fromkeys(DEPTHS, 0.001 * (1 + 0.01 * seed))
    rates["plain", seeds - 1][110] = at_chance
    return rates


def test_a_network_at_chance_changes_no_verdict_and_its_effect_is_reported():
    one, other = (convergence.check(settling(rate), without=(110,)) for rate in (1e-6, 1e-9))
    assert [claim.criteria for claim in one] == [claim.criteria for claim in other]
    left_out = "left out: 110 layers, where a network is at chance (with them"
    assert all(left_out in claim.summary for claim in one)
    assert one[0].summary != other[0].summary
    assert one[0].verdict == INCONCLUSIVE, "four depths are too few without the deepest"
    assert "n = 2, no test below 7 seeds" in one[0].headline
    fits = convergence.fits_of(settling(1e-6), "plain", without=(110,))
    assert [list(lines.rates) for lines in fits.values()] == [[20, 32, 44, 56]] * 2, (
        "the seed that learned too"
    )


def test_a_network_that_is_at_chance_or_diverged_has_no_rate():
    runs = {
        ("plain", 20, 0): run_status.LEARNING,
        ("plain", 110, 1): run_status.AT_CHANCE,
        ("plain", 110, 0): run_status.PLATEAU,
    }
    assert convergence.unmeasured(runs) == (110,)
    assert convergence.unmeasured(runs | {("residual", 56, 0): DIVERGED}) == (56, 110)
    assert convergence.rates_of(curve(0.9, depth=56), {("plain", 56, 0): DIVERGED}) == {}


def test_slopes_are_over_the_depths_that_most_cells_share():
    rates = settling(1e-4, seeds=3)
    for arm in ("plain", "residual"):
        del rates[arm, 0][110], rates[arm, 1][110]
    claim = convergence.check(rates)[1]
    assert len(claim.criteria[0].values) == 3
    assert "left out: 110 layers, which too few seeds have" in claim.summary
    del rates["residual", 0][20]
    assert len(convergence.check(rates)[1].criteria[0].values) == 2
    few = {cell: {20: 0.1, 56: 0.05} for cell in rates}
    assert convergence.check(few)[1].summary == "missing: 4 depths of both arms"


def test_a_loss_of_zero_and_two_points_have_no_rate():
    points = falling(0.001)
    assert convergence.rate_of([*points[:-1], replace(points[-1], train_loss=0.0)]) is None
    rising = [replace(point, learning_rate=point.iteration) for point in points]
    assert convergence.rate_of(rising) is None


# Remedies


@pytest.mark.parametrize("base", REMEDIED)
@pytest.mark.parametrize("rescue", RESCUES)
def test_a_remedy_changes_one_choice_and_measures_in_its_own_folder(tmp_path, rescue, base):
    shared = (f"protocol={base}", "data=digits")
    treated = compose_cell(tmp_path, "+experiment=autopsy", f"rescue={rescue}", *shared)
    treated.check()
    assert treated.name == "plain-110-seed0"
    assert treated.folder.parent.parent == tmp_path / "autopsy" / f"{base}-{rescue}"
    protocol = treated.config.protocol
    assert protocol.iterations % protocol.log_every == 0
    assert protocol.iterations % protocol.evaluate_every == 0
    plain = ("+experiment=depth", "model=plain", "model.depth=110")
    untreated = compose_cell(tmp_path, *plain, *shared)
    change = change_of(untreated.identity, treated.identity, claims.FOLLOWS)
    assert change.count(";") == 0, f"{change} is more than one choice"
    assert change != "nothing"
    images, before = (
        each.config.protocol.iterations * each.config.protocol.batch_size
        for each in (treated, untreated)
    )
    assert images == (3 if rescue == "longer" else 1) * before
    share = protocol.schedule.warmup_iterations / protocol.iterations
    assert share == (0.25 if rescue == "warmup" else 0.05)


def test_the_sweep_runs_every_remedy_of_the_claims():
    params = OmegaConf.load(CONF / "experiment" / "autopsy.yaml").hydra.sweeper.params
    assert sorted(params.rescue.split(",")) == RESCUES == sorted(claims.REMEDIES)


def untreated(tmp_path, protocol="quick", errors=UNTREATED, **changes) -> None:
    """The depth experiment's tables; all its cells were measured alike."""
    cell = compose_cell(tmp_path, "+experiment=depth", f"protocol={protocol}", "data=digits")
    claim_tables([cell])
    shared = {"protocol": protocol, "processor": ZEN, "instruction_set": "", **changes}
    rows = [
        made_up_record(arm=arm, depth=depth, seed=seed, **shared)
        for arm in ("plain", "residual")
        for depth in DEPTHS
        for seed in errors
    ]
    rows = [
        replace(row, train_error=errors[row.seed]) if row.cell.startswith("plain-110") else row
        for row in rows
    ]
    curves = curves_by(lambda depth: 0.005 * math.exp(-0.05 * depth), seeds=len(errors))
    curves = [
        replace(point, train_error=errors[point.seed] if point.iteration > 500 else 0.9)
        if (point.arm, point.depth) == ("plain", 110)
        else point
        for point in curves
    ]
    write(cell.results_folder, rows, curves)


def treated(tmp_path, rescue: str, error: float = 0.2, seeds=(0,), **changes) -> None:
    cell = compose_cell(tmp_path, "+experiment=autopsy", f"rescue={rescue}")
    claim_tables([cell])
    run = {"arm": "plain", "depth": 110, "processor": ZEN, "instruction_set": ""}
    run |= {"iterations": cell.config.protocol.iterations, **changes}
    rows, curves = [], []
    for seed in seeds:
        rows.append(made_up_record(seed=seed, **({"train_error": error + 0.001 * seed} | run)))
        curves += curve(0.9, 0.5, 0.3, error, seed=seed)
    write(cell.results_folder, rows, curves)


def elsewhere(tmp_path, folder: str, *changed: str, **changes) -> None:
    """plain-110 of the untreated configuration in another folder, measured another time."""
    rows = [row for row in read_runs(tmp_path / "depth" / "quick") if row.cell == "plain-110-seed0"]
    cell = compose_cell(tmp_path, "protocol=quick", f"folder={folder}", "slug=signal", *changed)
    claim_tables([cell])
    again = {"finished_at": "2026-02-02T00:00:00Z", **changes}
    write(cell.results_folder, [replace(row, **again) for row in rows], curve(0.9, 0.9, 0.8, 0.7))


def write(folder, rows, curves) -> None:
    write_made_up(folder, rows)
    write_table(folder / CURVES_TABLE, curves, CurvePoint)


def read(folder, protocol: str = "quick") -> claims.ProtocolRuns:
    (runs,) = QUESTION.read(folder, protocol=protocol)
    return runs


def judged(folder) -> list[Claim]:
    return claims.check_remedies(read(folder))


def claim_on(folder, rescue: str) -> Claim:
    return judged(folder)[1 + list(claims.REMEDIES).index(rescue)]


def remedy_rows(runs: claims.ProtocolRuns) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in claims.remedies_table(runs).rows}


@pytest.fixture
def folder(tmp_path):
    untreated(tmp_path)
    for rescue in RESCUES:
        treated(tmp_path, rescue)
    return tmp_path / "autopsy"


def test_what_helps_and_what_does_not(folder, tmp_path):
    treated(tmp_path, "clipping", error=0.80)
    treated(tmp_path, "longer", error=0.001)
    first, *others = judged(folder)
    assert (first.verdict, first.words) == (REPRODUCED, "supports")
    assert first.summary == "training error 84.00 % (plain-110); run status: plateau"
    names = [*claims.REMEDIES, "no cure", "no remedy"]
    verdicts = dict(zip(names, (claim.verdict for claim in others), strict=True))
    against = [name for name, verdict in verdicts.items() if verdict == NOT_REPRODUCED]
    assert against == ["clipping", "no cure", "no remedy"]
    assert {verdicts[name] for name in set(names) - set(against)} == {REPRODUCED}


def test_seeds_are_compared_with_the_same_seed_untreated(folder, tmp_path):
    treated(tmp_path, "dirac", seeds=(1, 2, 5))
    claim = claim_on(folder, "dirac")
    assert claim.criteria[0].values == pytest.approx((0.85 - 0.201, 0.84 - 0.202))
    assert claim.verdict == REPRODUCED


def test_nine_seeds_are_tested(tmp_path):
    untreated(tmp_path, errors={seed: 0.83 + 0.001 * seed for seed in range(9)})
    treated(tmp_path, "dirac", seeds=range(9))
    claim = claim_on(tmp_path / "autopsy", "dirac")
    assert (claim.words, claim.num_seeds) == (REPRODUCED, 9)
    assert claim.p < 0.05


def test_a_remedy_is_not_compared_with_an_untreated_network_of_another_machine(folder, tmp_path):
    treated(tmp_path, "dirac", processor=XEON)
    claim = claim_on(folder, "dirac")
    assert (claim.verdict, claim.criteria) == (INCONCLUSIVE, ())
    where = f"not comparable: seed 0 (untreated: {ZEN}; Dirac initialisation: {XEON})"
    assert claim.summary == where
    row = remedy_rows(read(folder))["Dirac initialisation"]
    assert row[2:5] == ["20.00", "–", "not comparable"]
    *_, longer, every = judged(folder)
    assert longer.verdict == REPRODUCED, "its plain-20 is of the same machine"
    assert every.summary.startswith("not comparable: seed 0 (learning_rate: ")
    assert f"dirac: {XEON}; " in every.summary


@pytest.mark.parametrize("changed", [(), ("model.norm=batch",)])
def test_an_untreated_network_of_its_machine_is_found_in_any_table(folder, tmp_path, changed):
    """`norm: batch` is what null means; so signal's cells are untreated networks too."""
    treated(tmp_path, "dirac", processor=XEON)
    elsewhere(tmp_path, "quick-batch", *changed, processor=XEON, train_error=0.7)
    claim = claim_on(folder, "dirac")
    assert claim.criteria[0].values == pytest.approx((0.7 - 0.2,))
    assert "not comparable" not in claim.summary
    row = remedy_rows(read(folder))["Dirac initialisation"]
    assert row[2:5] == ["20.00", "70.00", "+50.00"]
    assert claim_on(folder, "clipping").criteria[0].values == pytest.approx((0.83 - 0.2,))


@pytest.mark.parametrize(
    "unlike",
    [
        {"changed": ("protocol.weight_decay=0",), "processor": XEON},
        {"changed": (), "processor": XEON, "data_fingerprint": "0" * 12},
    ],
    ids=["configuration", "images"],
)
def test_a_network_of_its_machine_that_differs_in_more_is_no_counterpart(folder, tmp_path, unlike):
    treated(tmp_path, "dirac", processor=XEON)
    elsewhere(tmp_path, "other", *unlike.pop("changed"), train_error=0.7, **unlike)
    assert claim_on(folder, "dirac").summary.startswith("not comparable: seed 0")


def test_a_seed_without_a_counterpart_is_left_out_and_named(folder, tmp_path):
    treated(tmp_path, "dirac", seeds=(0, 1))
    runs = read_runs(folder / "quick-dirac")
    moved = [replace(row, processor=XEON) if row.seed == 1 else row for row in runs]
    write_table(folder / "quick-dirac" / RUNS_TABLE, moved, Record)
    claim = claim_on(folder, "dirac")
    assert claim.criteria[0].values == pytest.approx((0.83 - 0.2,))
    place = f"not comparable: seed 1 (untreated: {ZEN}; Dirac initialisation: {XEON})"
    assert claim.summary.endswith(place)
    row = remedy_rows(read(folder))["Dirac initialisation"]
    assert (row[2:5], row[-1]) == (["20.00", "83.00", "+63.00"], "1")


def test_rates_are_not_compared_across_machines(tmp_path):
    untreated(tmp_path)
    depth = tmp_path / "depth" / "quick"
    rows = [
        replace(row, processor=XEON) if row.cell == "plain-56-seed1" else row
        for row in read_runs(depth)
    ]
    write_table(depth / RUNS_TABLE, rows, Record)
    runs = read(tmp_path / "autopsy")
    assert 56 not in runs.rates["plain", 1]
    assert 56 in runs.rates["plain", 0]
    law, shortcuts = QUESTION.claims(runs)[1:]
    for claim in (law, shortcuts):
        assert (
            f"not comparable: plain-56-seed1 ({XEON}, 32-true, 2.9, library, 1 thread)"
            in claim.summary
        )
        assert claim.num_seeds == 2
    assert f"left out: plain-56-seed1 ({XEON}" in QUESTION.text(tmp_path / "autopsy")


def test_missing_remedies_are_named_and_the_rest_is_judged(tmp_path):
    untreated(tmp_path)
    treated(tmp_path, "dirac")
    judgements = judged(tmp_path / "autopsy")
    assert judgements[1].summary == "missing: a learning rate of 0.01"
    assert judgements[4].verdict == REPRODUCED
    assert judgements[8].verdict == INCONCLUSIVE
    assert judgements[8].summary == "missing: learning_rate, clipping, warmup, batch, longer"


def test_the_table_says_what_a_remedy_changes_brings_and_costs(folder, tmp_path):
    treated(tmp_path, "batch", seconds=83.0, images_per_second=2000 * 128 / 83.0)
    rows = remedy_rows(read(folder))
    assert rows["untreated"][:5] == ["–", "plateau", "83.00", "–", "–"]
    assert rows["a smaller batch"][0] == "protocol.batch_size: 128 → 32"
    assert rows["a smaller batch"][1:5] == ["learning", "20.00", "83.00", "+63.00"]
    assert rows["a smaller batch"][6:9] == ["300", "8,000", "× 1"]
    assert rows["a smaller batch"][9:12] == ["0.010 (× 0.5)", "83 (× 2)", "1"]
    assert rows["three times the iterations"][0] == "protocol.iterations: 2000 → 6000"
    assert rows["residual-110, untreated"][2] == "2.00"


def test_seconds_of_another_processor_or_precision_are_not_compared(folder, tmp_path):
    treated(tmp_path, "batch", processor="a slower one", seconds=830.0)
    treated(tmp_path, "dirac", precision="bf16-mixed", seconds=830.0)
    runs = read(folder)
    rows = {name: row[9:11] for name, row in remedy_rows(runs).items()}
    assert rows["a smaller batch"] == rows["Dirac initialisation"] == ["–", "–"]
    assert rows["untreated"] == ["0.021 (× 1)", "42 (× 1)"]
    assert "a slower one, 32-true, 2.9, library, 1 thread: a smaller batch" in claims.machines_note(
        runs
    )
    assert "bf16-mixed, 2.9, library, 1 thread: Dirac initialisation" in claims.machines_note(runs)


@pytest.mark.parametrize(
    ("changed", "seconds"), [((), "90 (× 3)"), (("protocol.weight_decay=0",), "–")]
)
def test_an_untreated_network_of_any_table_serves_for_the_ratio(folder, tmp_path, changed, seconds):
    treated(tmp_path, "batch", processor=XEON, seconds=90.0)
    elsewhere(tmp_path, "again", *changed, processor=XEON, seconds=30.0)
    assert remedy_rows(read(folder))["a smaller batch"][10] == seconds


def test_seconds_are_compared_with_rows_of_the_same_machine_alone():
    untreated = [
        made_up_record(seconds=seconds, processor=name)
        for seconds, name in ((40.0, "slow"), (10.0, "fast"), (30.0, "fast"))
    ]
    rows = [
        made_up_record(seconds=seconds, processor=name)
        for seconds, name in ((80.0, "slow"), (1000.0, "another"), (900.0, "another"))
    ]
    assert claims.seconds_of(rows, untreated) == ["0.040 (× 2)", "80 (× 2)"]
    assert claims.seconds_of(untreated, untreated) == ["0.010 (× 1)", "20 (× 1)"]


def test_a_diverged_remedy_counts_as_chance(folder, tmp_path):
    treated(tmp_path, "warmup", status=DIVERGED, train_error=None)
    write_table(folder / "quick-warmup" / CURVES_TABLE, [], CurvePoint)
    warmup = read(folder).remedies["warmup"]
    assert warmup.statuses(warmup.records) == [DIVERGED]
    assert judged(folder)[3].verdict == NOT_REPRODUCED


def test_other_images_are_refused(folder, tmp_path):
    treated(tmp_path, "dirac", data_fingerprint="0" * 12)
    with pytest.raises(ValueError, match=r"quick-dirac on other images \(digits\)"):
        read(folder)


def test_the_report_says_what_it_shows(folder):
    text = QUESTION.text(folder, verbose=True)
    assert "digits · protocol quick · 3 seeds, 1 with remedies" in text
    assert "They are from depth/quick." in " ".join(text.split())
    assert "plateau (7.8)" in text
    names = {drawing.name for drawing in QUESTION.drawings(read(folder))}
    assert names == {"quick_errors", "quick_curves", "quick_convergence"}


def test_lines_are_drawn_over_the_depths_that_were_fitted(folder):
    path = folder.parent / "depth" / "quick"
    runs, points = read_runs(path), read_curves(path)
    for rows in (runs, points):
        rows += [replace(r, depth=8) for r in rows if (r.arm, r.depth) == ("plain", 20)]
    write_made_up(path, runs)
    at_chance = [
        replace(point, train_error=0.89) if (point.arm, point.depth) == ("plain", 110) else point
        for point in points
    ]
    write_table(path / CURVES_TABLE, at_chance, CurvePoint)
    figure = figures.convergence_figure(read(folder))
    lines = figure.axes[1].get_lines()
    drawn = [line.get_xdata() for line in lines if line.get_linestyle() != "None"]
    assert len(drawn) == 6, "two laws, three seeds"
    assert {(min(x), max(x)) for x in drawn} == {(20, 56)}
    open_at = {line.get_xdata()[0] for line in lines if line.get_fillstyle() == "none"}
    assert open_at == {8, 110}
    plt.close(figure)


def test_a_schedule_that_differs_between_depths_has_no_rates(folder, tmp_path):
    untreated(tmp_path, protocol="paper")
    runs = read(folder, "paper")
    assert QUESTION.claims(runs) == claims.check_remedies(runs)
    figure = figures.convergence_figure(runs)
    assert len(figure.axes) == 1
    plt.close(figure)
    text = QUESTION.text(folder, protocol="paper")
    assert "No rates of convergence under paper" in text
    assert "per layer" not in text


@pytest.mark.parametrize("protocol", claims.PROTOCOLS)
def test_every_protocol_of_the_depth_experiment_can_be_checked(tmp_path, protocol):
    untreated(tmp_path, protocol=protocol)
    text = QUESTION.text(tmp_path / "autopsy", protocol=protocol)
    assert f"digits · protocol {protocol} · 3 seeds\n" in text
    assert "3× plateau" in text
    assert "plateau (7.8)" in text
    assert "Iterations until the running training loss was at most 1.73 nats" in text
    first, *_ = QUESTION.claims(read(tmp_path / "autopsy", protocol))
    assert first.verdict == REPRODUCED


def test_protocols_are_parts_and_an_unmeasured_one_is_named(folder, tmp_path):
    untreated(tmp_path, protocol="cpu")
    assert [runs.protocol for runs in QUESTION.read(folder)] == ["quick", "cpu"]
    with pytest.raises(ValueError, match="make sweep-depth PROTOCOL=paper DEPTHS=110 ARMS=plain"):
        QUESTION.read(folder, protocol="paper")
    with pytest.raises(ValueError, match="choose quick, cpu"):
        QUESTION.read(folder, protocol="smoke")


def test_a_remedy_belongs_to_one_protocol(folder, tmp_path):
    untreated(tmp_path, protocol="cpu")
    (folder / "quick-dirac").rename(folder / "cpu-bf16-dirac")
    parts = {runs.protocol: runs for runs in QUESTION.read(folder, protocol="cpu")}
    assert not parts["cpu"].remedies


def test_a_local_folder_borrows_the_committed_depth_records(folder, tmp_path):
    local = tmp_path / "local" / "autopsy"
    local.mkdir(parents=True)
    (folder / "quick-dirac").rename(local / "quick-dirac")
    untreated(tmp_path, protocol="cpu")
    (runs,) = QUESTION.read(local)
    assert list(runs.remedies) == ["dirac"]
    assert [row.cell for row in runs.untreated.records] == ["plain-110-seed0"]


def test_a_sweep_measures_the_untreated_networks_as_cells_of_the_depth_experiment(tmp_path):
    """So they are measured once, on the machine of the remedies, with the same configuration."""
    options = ["jobs=2", "data=digits", f"results_dir={tmp_path}"]
    asked = Sweep("autopsy", protocol="cpu", seeds="0,1", overrides=options)
    *untreated, remedies = grid.commands(asked)
    cells = set()
    for command in untreated:
        words = dict(word.split("=") for word in command.words if "=" in word)
        assert words["+experiment"] == "depth"
        assert words["seed"] == "0,1"
        for arm in words["model"].split(","):
            composed = (f"model={arm}", f"model.depth={words['model.depth']}")
            cell = compose_cell(tmp_path, "+experiment=depth", "protocol=cpu", *options, *composed)
            assert cell.results_folder == tmp_path / "depth" / "cpu"
            cells.add(cell.name)
    assert cells == {"plain-110-seed0", "residual-110-seed0", "plain-20-seed0"}
    assert "+experiment=autopsy" in remedies.words
    assert {"protocol=cpu", "seed=0,1", *options} <= set(remedies.words)
    (one,) = grid.commands(replace(asked, variants="clipping"))[-1:]
    assert "rescue=clipping" in one.words
