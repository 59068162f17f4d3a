"""The autopsy on made-up curves and tables: kinds of run, rates of convergence, remedies and what they cost."""

import math
from dataclasses import replace

import pytest
from composing import CONF, compose_cell
from made_up import made_up_record
from omegaconf import OmegaConf

from experiments.autopsy import claims, convergence, figures
from experiments.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from plainres.cell import claim_tables
from plainres.record import CURVES_TABLE, DIVERGED, RUNS_TABLE, CurvePoint, Record, write_table

RESCUES = sorted(path.stem for path in (CONF / "rescue").glob("*.yaml"))
DEPTHS = (20, 32, 44, 56, 110)
UNTREATED = {0: 0.83, 1: 0.85, 2: 0.84}


def curve(*errors: float, arm="plain", depth=110, seed=0, every=100) -> list[CurvePoint]:
    """Errors at equal distances; losses that belong to them."""
    return [
        CurvePoint(arm, depth, seed, every * number, error, 2.4 * error, 0.1 if number < 3 else 0.05)
        for number, error in enumerate(errors, 1)
    ]


def falling(rate: float, arm="plain", depth=20, seed=0, iterations=2000) -> list[CurvePoint]:
    """Loss that falls at `rate`, 1 / iterations, after a warm-up of 100 in which it does not."""
    return [
        CurvePoint(
            arm, depth, seed, step, 0.5, 2.3 * math.exp(-rate * max(0, step - 100)), min(step / 100, 1.0) * 0.1 - 1e-6 * max(0, step - 100)
        )
        for step in range(50, iterations + 1, 50)
    ]


# Kinds of run


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((0.9, 0.89, 0.9, 0.91), claims.AT_CHANCE),
        ((0.9, 0.86, 0.86, 0.86), claims.AT_CHANCE),
        ((0.9, 0.84, 0.835, 0.832), claims.PLATEAU),
        ((0.9, 0.5, 0.8, 0.85), claims.LOST),
        ((0.3, 0.02, 0.5, 0.6), claims.LOST),
        ((0.9, 0.5, 0.65, 0.66), claims.PLATEAU),
        ((0.7, 0.6, 0.59, 0.58), claims.PLATEAU),
        ((0.7, 0.6, 0.55, 0.5), claims.LEARNING),
        ((0.3, 0.02, 0.02, 0.02), claims.LEARNING),
        ((0.9, 0.85, 0.5, 0.2), claims.LATE),
        ((0.9, 0.89, 0.8, 0.7), claims.LATE),
    ],
)
def test_kinds_of_run(errors, kind):
    assert claims.classify(curve(*errors), 10) == kind
    assert claims.classify(curve(*errors)[::-1], 10) == kind


def test_guessing_is_measured_by_the_number_of_classes():
    assert claims.classify(curve(0.5, 0.49, 0.5, 0.49), 2) == claims.AT_CHANCE
    assert claims.classify(curve(0.5, 0.49, 0.5, 0.49), 10) == claims.PLATEAU


def test_a_diverged_run_needs_no_curve_and_another_does():
    assert claims.classify([], 10, diverged=True) == DIVERGED
    with pytest.raises(ValueError, match="without a curve"):
        claims.classify([], 10)


# Rates of convergence


def test_the_rate_is_that_of_the_loss_after_the_warm_up():
    assert convergence.rate_of(falling(0.001)) == pytest.approx(0.001)
    assert convergence.rate_of(falling(0.001)[::-1]) == pytest.approx(0.001)
    assert convergence.rate_of(falling(-0.0001)) == pytest.approx(-0.0001)


@pytest.mark.parametrize(
    ("law", "exponential"),
    [(lambda depth: 0.003 * math.exp(-0.05 * depth), True), (lambda depth: 0.3 * depth**-2.0, False)],
)
def test_the_law_that_made_the_rates_is_found(law, exponential):
    found = convergence.fit({depth: law(depth) for depth in DEPTHS})
    assert (found.preference > 10) == exponential
    assert (found.preference < -10) == (not exponential)
    line = found.exponential if exponential else found.power
    assert line.slope == pytest.approx(-0.05 if exponential else -2.0)
    assert line.rate(56) == pytest.approx(law(56))


def test_too_few_depths_are_no_law_and_a_loss_that_rises_is_left_out():
    assert convergence.fit({20: 0.3, 56: 0.2, 110: 0.1}) is None
    found = convergence.fit({20: 0.4, 32: 0.3, 44: 0.2, 56: 0.1, 110: -0.01})
    assert found.still == (110,)
    assert list(found.rates) == [20, 32, 44, 56]


def curves_by(law, seeds=1, residual=0.001) -> list[CurvePoint]:
    points = []
    for seed in range(seeds):
        for number, depth in enumerate(DEPTHS):
            points += falling(law(depth) * (1 + 0.01 * ((seed + number) % 3)), depth=depth, seed=seed)
            points += falling(residual * (1 + 0.01 * ((seed + 2 * number) % 3)), arm="residual", depth=depth, seed=seed)
    return points


@pytest.mark.parametrize(
    ("law", "verdict"),
    [
        (lambda depth: 0.005 * math.exp(-0.05 * depth), REPRODUCED),
        (lambda depth: 0.3 * depth**-2.0, NOT_REPRODUCED),
        (lambda depth: 0.001 * math.exp(0.01 * depth), NOT_REPRODUCED),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_conjecture_is_judged(law, verdict, seeds):
    found = convergence.check(convergence.rates_of(curves_by(law, seeds)))
    assert found[0].verdict == verdict


def test_a_tie_of_the_laws_and_missing_depths_are_inconclusive():
    tie = {depth: math.sqrt(0.003 * math.exp(-0.02 * depth) * 0.03 * depth**-1.0) for depth in DEPTHS}
    found = convergence.check({("plain", 0): tie})
    assert abs(found[0].criteria[1].mean) < convergence.CLEAR
    assert found[0].verdict == INCONCLUSIVE
    assert [claim.verdict for claim in convergence.check({})] == [INCONCLUSIVE] * 2
    assert found[1].verdict == INCONCLUSIVE, "no residual networks"


def test_with_shortcuts_the_rate_falls_by_less():
    found = convergence.check(convergence.rates_of(curves_by(lambda depth: 0.005 * math.exp(-0.05 * depth), seeds=3)))
    assert found[1].verdict == REPRODUCED


# Remedies


@pytest.mark.parametrize("base", claims.REMEDIED)
@pytest.mark.parametrize("rescue", RESCUES)
def test_a_remedy_changes_one_choice_and_measures_in_its_own_folder(tmp_path, rescue, base):
    treated = compose_cell(tmp_path, "+experiment=autopsy", f"rescue={rescue}", f"protocol={base}", f"base={base}", "data=digits")
    treated.check()
    assert (treated.name, treated.folder.parent.parent) == ("plain-110-seed0", tmp_path / "autopsy" / f"{base}-{rescue}")
    protocol = treated.config.protocol
    assert protocol.iterations % protocol.log_every == protocol.iterations % protocol.evaluate_every == 0
    untreated = compose_cell(tmp_path, "+experiment=depth", "model=plain", "model.depth=110", f"protocol={base}", "data=digits")
    change = claims._change(*(cells.identity for cells in (untreated, treated)))
    assert change.count(";") == 0, f"{change} is more than one choice"
    assert change != "nothing"
    images = protocol.iterations * protocol.batch_size / (untreated.config.protocol.iterations * untreated.config.protocol.batch_size)
    assert images == (3 if rescue == "longer" else 1)
    share = protocol.schedule.warmup_iterations / protocol.iterations
    assert share == (0.25 if rescue == "warmup" else 0.05)


def test_the_sweep_runs_every_remedy_of_the_claims():
    params = OmegaConf.load(CONF / "experiment" / "autopsy.yaml").hydra.sweeper.params
    assert sorted(params.rescue.split(",")) == RESCUES == sorted(claims.REMEDIES)


def untreated(tmp_path, **changes) -> None:
    cell = compose_cell(tmp_path, "+experiment=depth", "protocol=quick")
    claim_tables([cell])
    rows = [made_up_record(arm="plain", depth=110, seed=seed, train_error=error, **changes) for seed, error in UNTREATED.items()]
    rows += [made_up_record(arm=arm, depth=depth, seed=seed) for arm, depth in (("plain", 20), ("residual", 110)) for seed in UNTREATED]
    curves = curves_by(lambda depth: 0.005 * math.exp(-0.05 * depth), seeds=3)
    curves = [point for point in curves if (point.arm, point.depth) != ("plain", 110)]
    for seed, error in UNTREATED.items():
        points = falling(0.005 * math.exp(-0.05 * 110), depth=110, seed=seed)
        curves += [replace(point, train_error=error if point.iteration > 500 else 0.9) for point in points]
    write_table(cell.protocol_folder / RUNS_TABLE, rows, Record)
    write_table(cell.protocol_folder / CURVES_TABLE, curves, CurvePoint)


def treated(tmp_path, rescue: str, error: float = 0.2, seeds=(0,), **changes) -> None:
    cell = compose_cell(tmp_path, "+experiment=autopsy", f"rescue={rescue}")
    claim_tables([cell])
    changes = {"protocol": cell.config.protocol.name, "iterations": cell.config.protocol.iterations, **changes}
    rows = [made_up_record(arm="plain", depth=110, seed=seed, train_error=error + 0.001 * seed, **changes) for seed in seeds]
    write_table(cell.protocol_folder / RUNS_TABLE, rows, Record)
    curves = [point for seed in seeds for point in curve(0.9, 0.5, 0.3, error, seed=seed)]
    write_table(cell.protocol_folder / CURVES_TABLE, curves, CurvePoint)


@pytest.fixture
def folder(tmp_path):
    untreated(tmp_path)
    for rescue in RESCUES:
        treated(tmp_path, rescue)
    return tmp_path / "autopsy"


def test_what_helps_and_what_does_not_is_told(folder, tmp_path):
    treated(tmp_path, "clipping", error=0.80)
    treated(tmp_path, "longer", error=0.001)
    found = claims.check(claims.read_case(folder, "quick"))
    verdicts = [claim.verdict for claim in found]
    assert verdicts[0] == REPRODUCED
    assert found[0].p is not None, "three seeds"
    assert found[0].seen.startswith("84.00 %: plateau")
    assert dict(zip(claims.REMEDIES, verdicts[1:7], strict=True)) == {
        name: NOT_REPRODUCED if name == "clipping" else REPRODUCED for name in claims.REMEDIES
    }
    assert verdicts[7:] == [NOT_REPRODUCED, NOT_REPRODUCED]


def test_seeds_are_held_against_the_same_seed_untreated(folder, tmp_path):
    treated(tmp_path, "dirac", seeds=(1, 2, 5))
    claim = claims.check(claims.read_case(folder, "quick"))[1 + list(claims.REMEDIES).index("dirac")]
    assert claim.criteria[0].values == pytest.approx((0.85 - 0.201, 0.84 - 0.202))
    assert claim.verdict == REPRODUCED


def test_missing_remedies_are_named_and_the_rest_is_judged(tmp_path):
    untreated(tmp_path)
    treated(tmp_path, "dirac")
    found = claims.check(claims.read_case(tmp_path / "autopsy", "quick"))
    assert found[1].seen == "missing: a learning rate of 0.01"
    assert found[4].verdict == REPRODUCED
    assert (found[8].verdict, found[8].seen) == (INCONCLUSIVE, "missing: learning_rate, clipping, warmup, batch, longer")


def test_the_table_says_what_a_remedy_changes_brings_and_costs(folder, tmp_path):
    treated(tmp_path, "batch", seconds=83.0, images_per_second=2000 * 128 / 83.0)
    rows = {row[0]: row[1:] for row in claims.table(claims.read_case(folder, "quick"))}
    assert rows["untreated"][:3] == ["–", "3× plateau", "84.00"]
    assert rows["a smaller batch"][0] == "protocol.batch_size: 128 → 32"
    assert rows["a smaller batch"][1:3] == ["learning", "20.00"]
    assert rows["a smaller batch"][4:8] == ["300", "8,000", "× 1", "0.010"]
    assert rows["a smaller batch"][8] == "83 (× 2)"
    assert rows["three times the iterations"][0] == "protocol.iterations: 2000 → 6000"
    assert rows["residual-110, untreated"][2] == "2.00"


def test_a_diverged_remedy_counts_as_guessing(folder, tmp_path):
    treated(tmp_path, "warmup", status=DIVERGED)
    path = folder / "quick-warmup"
    write_table(path / RUNS_TABLE, [made_up_record(arm="plain", depth=110, status=DIVERGED, train_error=None)], Record)
    write_table(path / CURVES_TABLE, [], CurvePoint)
    case = claims.read_case(folder, "quick")
    assert case.treated["warmup"].kinds == [DIVERGED]
    assert claims.check(case)[3].verdict == NOT_REPRODUCED


def test_other_images_are_refused_in_one_line(folder, tmp_path, capsys):
    treated(tmp_path, "dirac", data_fingerprint="other", data_label="faces")
    assert claims.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is of faces" in error


def test_figures_and_readme_are_the_same_twice_and_say_what_they_show(folder):
    first = {path: path.read_bytes() for path in figures.make(folder)}
    assert {path.name for path in first} >= {"quick_errors.png", "quick_curves.svg", "quick_convergence.png", "README.md"}
    assert {path: path.read_bytes() for path in figures.make(folder)} == first
    text = (folder / "README.md").read_text()
    assert "digits · protocol quick · 3 seeds untreated, 1 treated" in text
    assert "## Rates of convergence: digits · protocol quick · 3 seeds" in text


@pytest.mark.parametrize("command", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, command):
    assert command([str(tmp_path / "autopsy")]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_a_check_needs_no_remedies_for_the_conjecture(tmp_path, capsys):
    untreated(tmp_path)
    assert claims.main([str(tmp_path / "autopsy"), "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "3× plateau" in out
    assert "iterations to 1.73 nats" in out
