"""The autopsy on made-up curves and tables: kinds of run, rates of convergence, remedies and what they cost."""

import math
from dataclasses import replace

import pytest
from composing import CONF, compose_cell, variants
from made_up import made_up_record
from matplotlib import pyplot as plt
from omegaconf import OmegaConf

from experiments.autopsy import claims, convergence, figures, kinds
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, read_curves, read_runs, write_table
from plainres.records.schema import DIVERGED, CurvePoint, Record
from plainres.run.cell import claim_tables

RESCUES = variants("rescue")
DEPTHS = (20, 32, 44, 56, 110)
UNTREATED = {0: 0.83, 1: 0.85, 2: 0.84}


def curve(*errors: float, arm="plain", depth=110, seed=0, every=100) -> list[CurvePoint]:
    """Errors at equal distances; losses that belong to them."""
    return [
        CurvePoint(
            arm, depth, seed, every * number, error, 2.4 * error, 0.1 if number < 3 else 0.05
        )
        for number, error in enumerate(errors, 1)
    ]


def falling(rate: float, arm="plain", depth=20, seed=0, iterations=2000) -> list[CurvePoint]:
    """Loss that falls at `rate`, 1 / iterations, after a warm-up of 100 in which it does not."""
    return [
        CurvePoint(
            arm,
            depth,
            seed,
            step,
            0.5,
            2.3 * math.exp(-rate * max(0, step - 100)),
            min(step / 100, 1.0) * 0.1 - 1e-6 * max(0, step - 100),
        )
        for step in range(50, iterations + 1, 50)
    ]


# Kinds of run


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((0.9, 0.89, 0.9, 0.91), kinds.AT_CHANCE),
        ((0.9, 0.86, 0.86, 0.86), kinds.AT_CHANCE),
        ((0.9, 0.84, 0.835, 0.832), kinds.PLATEAU),
        ((0.9, 0.5, 0.8, 0.85), kinds.LOST),
        ((0.3, 0.02, 0.5, 0.6), kinds.LOST),
        ((0.9, 0.5, 0.65, 0.66), kinds.PLATEAU),
        ((0.7, 0.6, 0.59, 0.58), kinds.PLATEAU),
        ((0.7, 0.6, 0.55, 0.5), kinds.LEARNING),
        ((0.3, 0.02, 0.02, 0.02), kinds.LEARNING),
        ((0.9, 0.85, 0.5, 0.2), kinds.LATE),
        ((0.9, 0.89, 0.8, 0.7), kinds.LATE),
    ],
)
def test_kinds_of_run(errors, kind):
    assert kinds.classify(curve(*errors), 10) == kind
    assert kinds.classify(curve(*errors)[::-1], 10) == kind


def test_guessing_is_measured_by_the_number_of_classes():
    assert kinds.classify(curve(0.5, 0.49, 0.5, 0.49), 2) == kinds.AT_CHANCE
    assert kinds.classify(curve(0.5, 0.49, 0.5, 0.49), 10) == kinds.PLATEAU


def test_the_kinds_of_every_seed_stand_with_how_much_they_undid():
    records = [
        made_up_record(arm="plain", depth=depth, seed=seed)
        for depth, seed in ((20, 0), (110, 0), (110, 1))
    ]
    records.append(made_up_record(depth=110, status=DIVERGED, train_error=None))
    curves = [
        *curve(0.5, 0.3, 0.2, 0.09, depth=20),
        *curve(0.9, 0.882, 0.891, 0.9),
        *curve(0.9, 0.81, 0.81, 0.81, seed=1),
    ]
    assert kinds.table(records, curves) == [
        ["arm", "seed", "20", "110"],
        ["plain", "0", "learning (90.0)", "at chance (2.0)"],
        ["plain", "1", "–", "plateau (10.0)"],
        ["residual", "0", "–", "diverged"],
    ]


def test_a_diverged_run_needs_no_curve_and_another_does():
    assert kinds.classify([], 10, diverged=True) == DIVERGED
    with pytest.raises(ValueError, match="without a curve"):
        kinds.classify([], 10)


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
    found = convergence.fit({depth: law(depth) for depth in DEPTHS})
    assert (found.preference > 10) == exponential
    assert (found.preference < -10) == (not exponential)
    line = found.exponential if exponential else found.power
    assert line.slope == pytest.approx(-0.05 if exponential else -2.0)
    assert line.rate(56) == pytest.approx(law(56))


def test_too_few_depths_are_no_law():
    assert convergence.fit({20: 0.3, 56: 0.2, 110: 0.1}) is None


def test_a_depth_where_one_loss_rises_is_left_out_of_all_seeds_and_both_arms():
    falls = {20: 0.4, 32: 0.3, 44: 0.2, 56: 0.1, 110: 0.05}
    rates = {("plain", 0): falls | {110: -0.01}, ("plain", 1): falls, ("residual", 0): falls}
    for arm, seed in rates:
        assert list(convergence.fits_of(rates, arm)[seed].rates) == [20, 32, 44, 56]
    assert (
        "left out: 110 layers, where a network learned nothing" in convergence.check(rates)[0].seen
    )


def curves_by(law, seeds=1, residual=0.001) -> list[CurvePoint]:
    points = []
    for seed in range(seeds):
        for number, depth in enumerate(DEPTHS):
            points += falling(
                law(depth) * (1 + 0.01 * ((seed + number) % 3)), depth=depth, seed=seed
            )
            points += falling(
                residual * (1 + 0.01 * ((seed + 2 * number) % 3)),
                arm="residual",
                depth=depth,
                seed=seed,
            )
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
    found = convergence.check(convergence.rates_of(curves_by(law, seeds), {}))
    assert found[0].verdict == verdict


def test_a_tie_of_the_laws_and_missing_depths_are_inconclusive():
    tie = {
        depth: math.sqrt(0.003 * math.exp(-0.02 * depth) * 0.03 * depth**-1.0) for depth in DEPTHS
    }
    found = convergence.check({("plain", 0): tie})
    assert abs(found[0].criteria[1].mean) < convergence.CLEAR
    assert found[0].verdict == INCONCLUSIVE
    assert [claim.verdict for claim in convergence.check({})] == [INCONCLUSIVE] * 2
    assert found[1].verdict == INCONCLUSIVE, "no residual networks"


def test_with_shortcuts_the_rate_falls_by_less():
    found = convergence.check(
        convergence.rates_of(curves_by(lambda depth: 0.005 * math.exp(-0.05 * depth), seeds=3), {})
    )
    assert found[1].verdict == REPRODUCED


def settling(at_chance: float, seeds=2) -> dict[tuple[str, int], dict[int, float]]:
    """Rates that fall as a power of depth up to 56 layers and to `at_chance` at 110, in the last seed; flat in residual networks."""
    rates = {
        ("plain", seed): {
            depth: 0.3 * depth**-2.0 * (1 + 0.01 * seed * (depth == 32)) for depth in DEPTHS
        }
        for seed in range(seeds)
    }
    rates["plain", seeds - 1][110] = at_chance
    return rates | {
        ("residual", seed): dict.fromkeys(DEPTHS, 0.001 * (1 + 0.01 * seed))
        for seed in range(seeds)
    }


def test_a_network_at_chance_moves_no_verdict_and_what_it_would_do_is_told():
    found = {
        at_chance: convergence.check(settling(at_chance), without=(110,))
        for at_chance in (1e-6, 1e-9)
    }
    assert [claim.criteria for claim in found[1e-6]] == [claim.criteria for claim in found[1e-9]]
    assert all(
        "left out: 110 layers, where a network learned nothing (with them" in claim.seen
        for claim in found[1e-6]
    )
    assert found[1e-6][0].seen != found[1e-9][0].seen
    assert found[1e-6][0].verdict == INCONCLUSIVE, (
        "four depths are too few to be tested without the deepest"
    )
    fits = convergence.fits_of(settling(1e-6), "plain", without=(110,))
    assert [list(found.rates) for found in fits.values()] == [[20, 32, 44, 56]] * 2, (
        "the seed that learned too"
    )


def test_who_is_at_chance_or_diverged_has_no_rate():
    runs = {
        ("plain", 20, 0): kinds.LEARNING,
        ("plain", 110, 1): kinds.AT_CHANCE,
        ("plain", 110, 0): kinds.PLATEAU,
    }
    assert convergence.unmeasured(runs) == (110,)
    assert convergence.unmeasured(runs | {("residual", 56, 0): DIVERGED}) == (56, 110)
    assert convergence.rates_of(curve(0.9, depth=56), {("plain", 56, 0): DIVERGED}) == {}


def test_slopes_over_other_depths_are_not_held_against_each_other():
    rates = settling(1e-4, seeds=1)
    del rates["residual", 0][20]
    assert convergence.check(rates)[1].seen == "missing: 4 depths of both arms"


# Remedies


@pytest.mark.parametrize("base", claims.REMEDIED)
@pytest.mark.parametrize("rescue", RESCUES)
def test_a_remedy_changes_one_choice_and_measures_in_its_own_folder(tmp_path, rescue, base):
    treated = compose_cell(
        tmp_path,
        "+experiment=autopsy",
        f"rescue={rescue}",
        f"protocol={base}",
        "data=digits",
    )
    treated.check()
    assert (treated.name, treated.folder.parent.parent) == (
        "plain-110-seed0",
        tmp_path / "autopsy" / f"{base}-{rescue}",
    )
    protocol = treated.config.protocol
    assert (
        protocol.iterations % protocol.log_every
        == protocol.iterations % protocol.evaluate_every
        == 0
    )
    untreated = compose_cell(
        tmp_path,
        "+experiment=depth",
        "model=plain",
        "model.depth=110",
        f"protocol={base}",
        "data=digits",
    )
    change = claims._change(*(cells.identity for cells in (untreated, treated)))
    assert change.count(";") == 0, f"{change} is more than one choice"
    assert change != "nothing"
    images = (
        protocol.iterations
        * protocol.batch_size
        / (untreated.config.protocol.iterations * untreated.config.protocol.batch_size)
    )
    assert images == (3 if rescue == "longer" else 1)
    share = protocol.schedule.warmup_iterations / protocol.iterations
    assert share == (0.25 if rescue == "warmup" else 0.05)


def test_the_sweep_runs_every_remedy_of_the_claims():
    params = OmegaConf.load(CONF / "experiment" / "autopsy.yaml").hydra.sweeper.params
    assert sorted(params.rescue.split(",")) == RESCUES == sorted(claims.REMEDIES)


def untreated(tmp_path, protocol="quick", **changes) -> None:
    cell = compose_cell(tmp_path, "+experiment=depth", f"protocol={protocol}", "data=digits")
    claim_tables([cell])
    rows = [
        made_up_record(arm="plain", depth=110, seed=seed, train_error=error, **changes)
        for seed, error in UNTREATED.items()
    ]
    rows += [
        made_up_record(arm=arm, depth=depth, seed=seed)
        for arm, depth in (("plain", 20), ("residual", 110))
        for seed in UNTREATED
    ]
    rows = [replace(row, protocol=protocol) for row in rows]
    curves = curves_by(lambda depth: 0.005 * math.exp(-0.05 * depth), seeds=3)
    curves = [point for point in curves if (point.arm, point.depth) != ("plain", 110)]
    for seed, error in UNTREATED.items():
        points = falling(0.005 * math.exp(-0.05 * 110), depth=110, seed=seed)
        curves += [
            replace(point, train_error=error if point.iteration > 500 else 0.9) for point in points
        ]
    write_table(cell.results_folder / RUNS_TABLE, rows, Record)
    write_table(cell.results_folder / CURVES_TABLE, curves, CurvePoint)


def treated(tmp_path, rescue: str, error: float = 0.2, seeds=(0,), **changes) -> None:
    cell = compose_cell(tmp_path, "+experiment=autopsy", f"rescue={rescue}")
    claim_tables([cell])
    changes = {
        "protocol": cell.config.folder,
        "iterations": cell.config.protocol.iterations,
        **changes,
    }
    rows = [
        made_up_record(
            arm="plain", depth=110, seed=seed, train_error=error + 0.001 * seed, **changes
        )
        for seed in seeds
    ]
    write_table(cell.results_folder / RUNS_TABLE, rows, Record)
    curves = [point for seed in seeds for point in curve(0.9, 0.5, 0.3, error, seed=seed)]
    write_table(cell.results_folder / CURVES_TABLE, curves, CurvePoint)


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
    claim = claims.check(claims.read_case(folder, "quick"))[
        1 + list(claims.REMEDIES).index("dirac")
    ]
    assert claim.criteria[0].values == pytest.approx((0.85 - 0.201, 0.84 - 0.202))
    assert claim.verdict == REPRODUCED


def test_missing_remedies_are_named_and_the_rest_is_judged(tmp_path):
    untreated(tmp_path)
    treated(tmp_path, "dirac")
    found = claims.check(claims.read_case(tmp_path / "autopsy", "quick"))
    assert found[1].seen == "missing: a learning rate of 0.01"
    assert found[4].verdict == REPRODUCED
    assert (found[8].verdict, found[8].seen) == (
        INCONCLUSIVE,
        "missing: learning_rate, clipping, warmup, batch, longer",
    )


def test_the_table_says_what_a_remedy_changes_brings_and_costs(folder, tmp_path):
    treated(tmp_path, "batch", seconds=83.0, images_per_second=2000 * 128 / 83.0)
    rows = {row[0]: row[1:] for row in claims.table(claims.read_case(folder, "quick"))}
    assert rows["untreated"][:3] == ["–", "3× plateau", "84.00"]
    assert rows["a smaller batch"][0] == "protocol.batch_size: 128 → 32"
    assert rows["a smaller batch"][1:3] == ["learning", "20.00"]
    assert rows["a smaller batch"][4:7] == ["300", "8,000", "× 1"]
    assert rows["a smaller batch"][7:9] == ["0.010 (× 0.5)", "83 (× 2)"]
    assert rows["three times the iterations"][0] == "protocol.iterations: 2000 → 6000"
    assert rows["residual-110, untreated"][2] == "2.00"


def test_seconds_of_another_processor_or_precision_are_no_price(folder, tmp_path):
    treated(tmp_path, "batch", processor="a slower one", seconds=830.0)
    treated(tmp_path, "dirac", precision="bf16-mixed", seconds=830.0)
    case = claims.read_case(folder, "quick")
    rows = {row[0]: row[8:10] for row in claims.table(case)}
    assert rows["a smaller batch"] == rows["Dirac initialisation"] == ["–", "–"]
    assert rows["untreated"] == ["0.021 (× 1)", "42 (× 1)"]
    assert "a slower one, 32-true: a smaller batch" in claims.prices_told(case)
    assert "a processor, 2 GHz, bf16-mixed: Dirac initialisation" in claims.prices_told(case)


@pytest.mark.parametrize(("same_cell", "price"), [(True, "90 (× 3)"), (False, "–")])
def test_an_untreated_network_of_the_experiment_on_shortcuts_serves_for_the_price(
    folder, tmp_path, same_cell, price
):
    treated(tmp_path, "batch", processor="another one", seconds=90.0)
    ours = claims.read_case(folder, "quick").untreated.records[0]
    config_hash = ours.config_hash if same_cell else "of another configuration"
    there = tmp_path / "shortcuts" / "quick" / RUNS_TABLE
    there.parent.mkdir(parents=True)
    write_table(
        there,
        [replace(ours, processor="another one", seconds=30.0, config_hash=config_hash)],
        Record,
    )
    case = claims.read_case(folder, "quick")
    assert {row[0]: row[9] for row in claims.table(case)}["a smaller batch"] == price
    assert len(case.untreated.records) == len(UNTREATED), "its error is not judged"


def test_seconds_are_held_against_rows_of_the_same_machine_alone():
    untreated = [
        made_up_record(seconds=seconds, processor=name)
        for seconds, name in ((40.0, "slow"), (10.0, "fast"), (30.0, "fast"))
    ]
    rows = [
        made_up_record(seconds=seconds, processor=name)
        for seconds, name in ((80.0, "slow"), (1000.0, "another"), (900.0, "another"))
    ]
    assert claims.price(rows, untreated) == ("0.040 (× 2)", "80 (× 2)")
    assert claims.price(untreated, untreated) == ("0.010 (× 1)", "20 (× 1)")


def test_a_diverged_remedy_counts_as_guessing(folder, tmp_path):
    treated(tmp_path, "warmup", status=DIVERGED)
    path = folder / "quick-warmup"
    write_table(
        path / RUNS_TABLE,
        [made_up_record(arm="plain", depth=110, status=DIVERGED, train_error=None)],
        Record,
    )
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
    assert {path.name for path in first} >= {
        "quick_errors.png",
        "quick_curves.svg",
        "quick_convergence.png",
        "README.md",
    }
    assert {path: path.read_bytes() for path in figures.make(folder)} == first
    text = (folder / "README.md").read_text()
    assert "digits · protocol quick · 3 seeds untreated, 1 treated" in text
    assert "## Rates of convergence: digits · protocol quick · 3 seeds" in text
    assert "**digits · protocol quick · 3 seeds**" in text
    assert "plateau (7.8)" in text


def test_lines_are_drawn_over_the_depths_that_were_fitted(folder):
    path = folder.parent / "depth" / "quick"
    shallow = [
        replace(row, depth=8) for row in read_runs(path) if (row.arm, row.depth) == ("plain", 20)
    ]
    write_table(path / RUNS_TABLE, [*read_runs(path), *shallow], Record)
    points = [
        replace(point, depth=8)
        for point in read_curves(path)
        if (point.arm, point.depth) == ("plain", 20)
    ]
    points += [
        replace(point, train_error=0.89) if (point.arm, point.depth) == ("plain", 110) else point
        for point in read_curves(path)
    ]
    write_table(path / CURVES_TABLE, points, CurvePoint)
    figure = figures.convergence_figure(claims.read_case(folder, "quick"))
    lines = figure.axes[1].get_lines()
    drawn = [line.get_xdata() for line in lines if line.get_linestyle() != "None"]
    assert len(drawn) == 6, "two laws, three seeds"
    assert {(min(x), max(x)) for x in drawn} == {(20, 56)}
    open_at = {line.get_xdata()[0] for line in lines if line.get_fillstyle() == "none"}
    assert open_at == {8, 110}
    plt.close(figure)


def test_a_schedule_that_differs_between_depths_has_no_rates(folder, tmp_path, capsys):
    untreated(tmp_path, protocol="paper")
    case = claims.read_case(folder, "paper")
    assert claims.check_rates(case) == []
    figure = figures.convergence_figure(case)
    assert len(figure.axes) == 1
    plt.close(figure)
    claims.main([str(folder), "--base", "paper"])
    assert "No rates of convergence under paper" in capsys.readouterr().out
    text = figures.readme([case])
    assert "## Convergence: digits · protocol paper · 3 seeds" in text
    assert "a layer" not in text


@pytest.mark.parametrize("base", claims.BASES)
def test_every_protocol_of_the_depth_experiment_can_be_checked(tmp_path, capsys, base):
    untreated(tmp_path, protocol=base)
    assert claims.main([str(tmp_path / "autopsy"), "--base", base]) == 0
    out = capsys.readouterr().out
    assert f"digits · protocol {base} · 3 seeds" in out
    assert "plateau (7.8)" in out


@pytest.mark.parametrize("command", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, command):
    assert command([str(tmp_path / "autopsy")]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_a_check_needs_no_remedies_for_the_conjecture(tmp_path, capsys):
    untreated(tmp_path)
    assert claims.main([str(tmp_path / "autopsy"), "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "3× plateau" in out
    assert "Iterations to 1.73 nats" in out
