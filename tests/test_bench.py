"""Measurements: their order, what is made of their numbers, and that the loops compared are what they are said to be. Nothing is timed."""

import importlib
import inspect
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from composing import ROOT
from PIL import Image
from torch.utils.data import DataLoader

from experiments.bench import agreement, figures, loops, run, textbook
from experiments.bench.parts import (
    AGREEMENT_ITERATIONS,
    DIGITS,
    LIMIT,
    PARTS,
    PLAINRES,
    SETTINGS,
    TEXTBOOK,
    THOUSAND,
    Choices,
    Job,
)
from experiments.bench.tables import (
    Row,
    Spread,
    by_round,
    judged,
    number,
    ratio,
    read_rows,
    spread,
    write_rows,
)
from experiments.bench.window import Process, Window
from plainres.data.batches import Augmentation, Batch, Normaliser
from plainres.data.images import Images
from plainres.networks.resnet import CifarNetwork
from plainres.run.cell import compose_cell

PROVENANCE = {
    "processor": "a processor, 2 GHz",
    "cores": 2,
    "torch": "2.9.0",
    "commit": "c0ffee" * 6 + "c0ff",
    "clean": True,
}
MADE_UP = {
    "textbook.textbook": {"images_per_second": 100.0},
    "loops.limit": {
        "images_per_second": 320.0,
        "first_iteration_seconds": 1.5,
        "peak_memory_mib": 700.0,
        "multiply_adds": 1e8,
    },
    "cells.train": {
        "images_per_second": 300.0,
        "checkpoint_seconds": 0.02,
        "first_iteration_seconds": 1.5,
        "peak_memory_mib": 700.0,
    },
    "agreement.losses": {
        f"loss {step}": 2.0 + 0.01 * step for step in range(1, AGREEMENT_ITERATIONS + 1)
    },
    "cells.start": {"first_cell_seconds": 5.0, "later_cell_seconds": 0.5},
    "commands.sweep": {"wall_seconds": 60.0, "cells_per_hour": 600.0, "work_seconds": 110.0},
    "commands.command": {"seconds": 0.5, "imports_torch": 0.0},
    "roofline.convolution": {"gflop_per_second": 120.0},
    "roofline.product": {"gflop_per_second": 150.0},
    "roofline.profile": {
        "cpu_seconds_per_iteration": 0.4,
        "share aten::convolution": 0.6,
        "share aten::tiny": 0.001,
    },
}

WORK = (
    20 * 16**2 * 16**2
)  # of ResNet-20 at 16×16: the made-up machine's pace is the same for every network


def choices_in(folder) -> Choices:
    return Choices(
        cores=2, seconds=0.01, iterations=4, thousand=True, scratch=folder, gpu=True, bf16=True
    )


def made_up(job: Job) -> dict[str, float]:
    values = dict(MADE_UP[job.function])
    if job.function == "cells.train":
        values["bf16"] = float("protocol=quick" not in job.arguments["overrides"])
    if job.function == "loops.limit":
        values["bf16"] = float(job.arguments.get("bf16", False))
    if job.shape is not None and job.function == "loops.limit":
        work = job.shape.depth * job.shape.width**2 * job.shape.image_size**2 / WORK
        values["images_per_second"] /= work
        values["multiply_adds"] *= work * job.shape.batch_size
    return values


def rows_of(
    part: str, folder, rounds: int = 2, measure=made_up, jobs=None
) -> tuple[list[Row], list[str]]:
    jobs = jobs or list(PARTS[part].jobs(choices_in(folder)))
    rows, failures = run.run_part(
        part, jobs, rounds, measure, PROVENANCE, run.Progress({part: rounds * len(jobs)})
    )
    return [replace(row, measured_at="2026-01-01T00:00:00Z") for row in rows], failures


def job(way: str, **changes) -> Job:
    return replace(Job("a case", way, "loops.limit", 1, {}), **changes)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "bench"
    for part in PARTS:
        write_rows(folder, part, rows_of(part, folder)[0])
    return folder


@pytest.fixture(scope="module")
def made(tables):
    return figures.make(tables)


def test_ways_of_a_case_take_turns():
    called = []

    def measure(job: Job) -> dict[str, float]:
        called.append(job.way)
        return {"images_per_second": float(len(called))}

    rows, failures = rows_of(
        "columns", None, rounds=2, measure=measure, jobs=[job("A"), job("B"), job("C")]
    )
    assert called == ["A", "B", "C"] * 2
    assert [(row.way, row.round, row.value) for row in rows[-2:]] == [("B", 2, 5.0), ("C", 2, 6.0)]
    assert not failures


def test_ratios_are_taken_within_rounds(tmp_path):
    speeds = iter(
        [100.0, 200.0, 10.0, 21.0, 50.0, 110.0]
    )  # the machine slows down and recovers; B / A hardly moves
    rows, _ = rows_of(
        "columns",
        tmp_path,
        rounds=3,
        measure=lambda job: {"x": next(speeds)},
        jobs=[job("A"), job("B")],
    )
    found = ratio(by_round(rows, "a case", "B", "x"), by_round(rows, "a case", "A", "x"))
    assert found == Spread(2.1, 2.0, 2.2, 3)
    assert str(found) == "2.10 [2.00, 2.20]"
    assert spread(by_round(rows, "a case", "A", "x")) == Spread(50.0, 10.0, 100.0, 3)


def test_a_round_without_one_side_gives_no_ratio():
    assert ratio({1: 2.0, 2: 6.0}, {2: 3.0}) == Spread(2.0, 2.0, 2.0, 1)
    assert ratio({1: 2.0}, {}) is None


def test_bars_are_judged_on_the_median():
    found = Spread(2.1, 1.9, 2.4, 3)
    assert judged(found, least=2.1) == "≥ 2.1: met"
    assert judged(found, least=2.2) == "≥ 2.2: **not met**"
    assert judged(found, most=2) == "≤ 2: **not met**"
    assert judged(None, least=2.1) == "≥ 2.1: not measured"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123456, "0.00123"),
        (1.5, "1.50"),
        (9.996, "10.0"),
        (-12.34, "-12.3"),
        (12345, "12,300"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_what_fails_or_is_not_there_is_a_row_that_says_why(capsys):
    def measure(job: Job) -> dict[str, float]:
        raise run.MeasurementError("no compiler")

    rows, failures = rows_of(
        "variants",
        None,
        rounds=1,
        measure=measure,
        jobs=[job("A"), job("B", unavailable="not installed")],
    )
    assert [(row.way, row.value, row.note) for row in rows] == [
        ("A", None, "no compiler"),
        ("B", None, "not installed"),
    ]
    assert failures == ["variants: a case, A: no compiler"]
    assert "variants 2/2" in capsys.readouterr().out


def test_a_window_opens_after_the_warm_up_and_holds_whole_iterations(tmp_path):
    window = Window(Process(tmp_path), seconds=0, warm_iterations=2, least_iterations=5)
    assert [window.iteration_ends() for _ in range(7)] == [False] * 6 + [True]
    assert window.seconds_per_iteration > 0
    first = Window(Process(tmp_path), seconds=0, warm_iterations=0, least_iterations=1)
    assert first.iteration_ends()
    assert first.seconds_per_iteration == first.first_iteration_seconds


def test_windows_side_by_side_open_together_and_run_until_all_have_closed(tmp_path):
    (tmp_path / "warm-other").touch()
    window = Window(Process(tmp_path, copies=2), seconds=0, warm_iterations=1, least_iterations=1)
    assert not any(window.iteration_ends() for _ in range(4))
    measured = window.seconds_per_iteration
    (tmp_path / "done-other").touch()
    assert window.iteration_ends()
    assert window.seconds_per_iteration == measured


def test_every_job_calls_something_that_takes_its_arguments(tmp_path):
    for part in PARTS.values():
        for job in part.jobs(choices_in(tmp_path)):
            module, _, name = job.function.rpartition(".")
            function = getattr(importlib.import_module(f"experiments.bench.{module}"), name)
            inspect.signature(function).bind(Process(tmp_path), **job.arguments)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_bare_loop_has_the_network_batch_and_optimiser_of_the_configuration(setting, tmp_path):
    config = compose_cell(tmp_path, *setting.overrides, "model=residual").config
    assert (config.model.width, config.model.shortcut, config.protocol.batch_size) == (
        setting.shape.width,
        loops.SHORTCUT,
        setting.shape.batch_size,
    )
    assert config.data.image_size in (setting.shape.image_size, None)
    assert (config.protocol.precision == "auto") == setting.bf16
    optimiser = (
        config.protocol.learning_rate,
        config.protocol.momentum,
        config.protocol.weight_decay,
    )
    assert optimiser == (loops.LEARNING_RATE, loops.MOMENTUM, loops.WEIGHT_DECAY)


def tiny(channels: int = 1, size: int = 6) -> tuple[CifarNetwork, Images]:
    torch.manual_seed(0)
    images = Images(
        torch.randint(0, 256, (8, channels, size, size), dtype=torch.uint8),
        torch.randint(0, 3, (8,)),
    )
    return CifarNetwork(8, "zero_pad", width=2, num_classes=3, in_channels=channels), images


def twice():
    calls = iter([False, True])
    return lambda: next(calls)


def test_the_textbook_loop_trains():
    network, images = tiny()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    normaliser = Normaliser(images.pixels, "channel")
    transform = textbook.transform_of(
        Augmentation(padding=1, mirror=True, rotation=10, noise=0.1), normaliser, 6
    )
    loader = DataLoader(textbook.Pictures(images, transform), 4, shuffle=True)
    loss, error = textbook.train(
        network, loader, torch.optim.SGD(network.parameters(), lr=0.1), twice()
    )
    assert math.isfinite(loss) and 0 <= error <= 1
    assert all(
        not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)
    )


def test_the_bare_loop_trains():
    network, images = tiny()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    batches = [Batch(images.pixels.float() / 255, images.labels)]
    loops.train(network, batches, torch.optim.SGD(network.parameters(), lr=0.1), twice())
    assert all(
        not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_without_augmentation_the_textbook_sees_the_pixels_that_plainres_sees(channels):
    _, images = tiny(channels)
    normaliser = Normaliser(images.pixels, "channel")
    pictures = textbook.Pictures(images, textbook.transform_of(Augmentation(), normaliser, 6))
    seen = torch.stack([pictures[index][0] for index in range(len(pictures))])
    torch.testing.assert_close(seen, normaliser(images.pixels.float() / 255))
    assert [pictures[index][1] for index in range(len(pictures))] == images.labels.tolist()


@pytest.mark.parametrize(
    ("setting", "steps"),
    list(
        zip(
            SETTINGS,
            [["RandomAffine", "Noise"], *[["RandomCrop", "RandomHorizontalFlip"]] * 2],
            strict=True,
        )
    ),
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_textbook_augments_as_the_protocol_does(setting, steps, tmp_path):
    augmentation = Augmentation(
        **compose_cell(tmp_path, *setting.overrides).identity["protocol"]["augmentation"]
    )
    normaliser = Normaliser(tiny()[1].pixels, "channel")
    transform = textbook.transform_of(augmentation, normaliser, setting.shape.image_size)
    assert [
        type(step).__name__
        for step in transform.transforms
        if type(step).__name__ not in ("ToTensor", "Normalize")
    ] == steps


def test_multiply_adds_equal_a_count_by_hand():
    width, size, batch = 2, 8, 3
    stem = 9 * 1 * width * size**2
    first = 2 * 9 * width**2 * size**2
    second = 9 * (width * 2 * width + (2 * width) ** 2) * (size // 2) ** 2
    third = 9 * (2 * width * 4 * width + (4 * width) ** 2) * (size // 4) ** 2
    forward = stem + first + second + third + 4 * width * 10
    # Backward costs as much for the weights and as much for the inputs, but nobody asks for the gradient of the images.
    assert loops.multiply_adds(8, width, size, 1, batch) == batch * (3 * forward - stem)


def test_the_same_tables_give_the_same_bytes(tables, made, tmp_path):
    again = tmp_path / "again"
    for part in PARTS:
        write_rows(again, part, read_rows(tables, part))
    assert {path.name for path in made} == {
        "README.md",
        "columns.png",
        "columns.svg",
        "scaling.png",
        "scaling.svg",
    }
    for old, new in zip(made, figures.make(again), strict=True):
        assert old.read_bytes() == new.read_bytes()
    with Image.open(tables / "figures" / "scaling.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100, "an empty picture"


def test_the_readme_shows_every_part_its_bars_and_where_it_was_measured(tables, made):
    text = (tables / "README.md").read_text()
    assert "Not measured" not in text
    assert text.count("commit c0ffeec0ffee, on a processor, 2 GHz, 2 cores, torch 2.9.0.") == len(
        PARTS
    )
    assert (
        "| ResNet-20, digits 8×8 | 3.00 [3.00, 3.00] | ≥ 2.1: met | 3.00 [3.00, 3.00] | ≥ 2.5: met |"
        in text
    )
    assert "| ResNet-20, digits 8×8 | 100" in text and "| ResNet-20, 16×16, bf16 | 100" in text
    assert "- one cell a core / one cell at a time: ≥ 1.4: **not met**" in text
    assert "the end of the first iteration | 5.00 [5.00, 5.00] | ≤ 4: **not met** |" in text
    assert "aten::convolution" in text and "aten::tiny" not in text
    assert f"{THOUSAND}: one iteration" in text


def test_the_fit_finds_the_line_that_the_points_lie_on(tables):
    depth = figures.series_of(read_rows(tables, "scaling"))[0]
    assert (depth.name, depth.values) == ("depth", [20, 56, 110, 218, 434, 1202])
    slope, intercept, r_squared = depth.fit
    assert slope == pytest.approx(1 / 320 / 1e8, rel=1e-4)
    assert intercept == pytest.approx(0, abs=1e-3)
    assert r_squared == pytest.approx(1)


def test_parts_that_were_not_measured_are_said_to_be_so(tmp_path):
    write_rows(tmp_path, "startup", rows_of("startup", tmp_path)[0])
    rows, _ = rows_of(
        "variants", tmp_path, measure=made_up, jobs=[job("default", unavailable="not here")]
    )
    write_rows(tmp_path, "variants", rows)
    assert [path.name for path in figures.make(tmp_path)] == ["README.md"]
    text = (tmp_path / "README.md").read_text()
    for part in PARTS.keys() - {"startup"}:
        assert f"Not measured; `make bench PARTS={part}` measures it." in text
    assert "- a case, default: not here" in text


def test_a_folder_without_tables_is_one_line(tmp_path, capsys):
    assert figures.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_part_is_one_line_that_names_the_legal_ones(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(["--parts", "columns,rows", "--results", str(tmp_path)])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "'rows'" in shown and all(part in shown for part in PARTS)


def test_an_interruption_loses_only_the_running_part(tmp_path, monkeypatch, capsys):
    def measure(job: Job) -> dict[str, float]:
        if job.function == "loops.limit":
            raise KeyboardInterrupt
        return made_up(job)

    monkeypatch.setattr(run, "in_fresh_processes", measure)
    assert (
        run.main(["--parts", "startup,scaling", "--rounds", "1", "--results", str(tmp_path)]) == 130
    )
    assert read_rows(tmp_path, "startup") and not read_rows(tmp_path, "scaling")
    assert "startup" in (tmp_path / "README.md").read_text()
    assert "finished parts are kept" in capsys.readouterr().err


def test_real_processes_measure_the_ways_on_digits(tmp_path):
    jobs = {
        job.way: job
        for job in PARTS["columns"].jobs(choices_in(tmp_path))
        if job.case == f"ResNet-20, {DIGITS.name}"
    }
    jobs[LIMIT] = replace(jobs[LIMIT], copies=2)
    for way in (TEXTBOOK, LIMIT, PLAINRES):
        values = run.in_fresh_processes(
            replace(jobs[way], arguments={**jobs[way].arguments, "threads": 1})
        )
        assert all(value > 0 for name, value in values.items() if name != "bf16"), way
        assert not values.get("bf16"), "digits are trained in float32"
    overrides = [
        *jobs[PLAINRES].arguments["overrides"],
        "protocol.precision=bf16-mixed",
        "model.depth=8",
    ]
    values = run.in_fresh_processes(
        replace(
            jobs[PLAINRES],
            arguments={**jobs[PLAINRES].arguments, "overrides": overrides, "threads": 1},
        )
    )
    assert values["bf16"] == 1


def test_the_same_losses_whatever_the_way(tmp_path):
    """On a CPU a GPU's ways can only be called."""
    for way in ({}, {"bf16": True}):
        losses = agreement.losses(
            Process(tmp_path), shortcut="none", depth=8, device="cpu", iterations=2, **way
        )
        assert list(losses) == ["loss 1", "loss 2"]
        assert 2 < losses["loss 1"] < 3
        assert losses["loss 1"] != losses["loss 2"]


def test_a_process_that_fails_says_why():
    with pytest.raises(
        run.MeasurementError, match=r"^AttributeError: .* has no attribute 'nothing'$"
    ):
        run.in_fresh_processes(job("A", function="parts.nothing", copies=2))


def test_figures_and_parts_need_no_torch():
    script = "import sys, experiments.bench.figures, experiments.bench.run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)
