"""The bench: order of measurements, what is made of them, and what the compared loops are.

Nothing is timed.
"""

import importlib
import inspect
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from composing import ROOT
from drawn import caption, cut_off, overlapping, texts_of
from matplotlib import pyplot as plt
from PIL import Image
from torch.utils.data import DataLoader

from experiments.bench import cells, figures, loops, many, parts, run, textbook
from experiments.bench.parts import DIGITS, PARTS, SETTINGS, THOUSAND, Job, Options, Shape
from experiments.bench.tables import Measurement, against_target, by_round, number, ratio, shown
from experiments.bench.window import Process, Window
from experiments.judging.pairs import read_records
from experiments.reporting.style import SIZE, STYLE, TYPE
from plainres.data.batches import Augmentation, Batch, Normaliser
from plainres.data.images import Images
from plainres.networks.resnet import CifarNetwork
from plainres.records.files import gather, read_curves, read_table, write_table
from plainres.run.cell import compose_cell

OPTIONS = Options(cores=2, seconds=0.01, iterations=4, thousand=True, gpu=True, bf16=True)
PROVENANCE = {
    "processor": "a processor, 2 GHz",
    "cores": 2,
    "torch": "2.9.0",
    "commit": "c0ffee" * 6 + "c0ff",
    "clean": True,
}
COST = {"first_iteration_seconds": 1.5, "peak_memory_mib": 700.0}
LOSSES = {f"loss {step}": 2.0 + 0.01 * step for step in range(1, parts.AGREEMENT_ITERATIONS + 1)}
MADE_UP = {
    "textbook.textbook": {"images_per_second": 100.0},
    "loops.bare_loop": {"images_per_second": 320.0, **COST, "multiply_adds": 1e8},
    "cells.train": {"images_per_second": 300.0, "checkpoint_seconds": 0.02, **COST},
    "cells.losses": LOSSES,
    "cells.start": {"first_cell_seconds": 5.0, "later_cell_seconds": 0.5},
    "commands.sweep": {"wall_seconds": 60.0, "cells_per_hour": 600.0, "work_seconds": 110.0},
    "commands.first_sweep": {"seconds": 90.0},
    "commands.command": {"seconds": 0.5, "imports_torch": 0.0},
    "many.tables": {
        f"{step}_{unit}": 30.0 if unit != "mib" else 2000.0
        for step in figures.STEPS
        for unit in ("seconds", "processor_seconds", "mib")
    },
}
WORK = 20 * 16**2 * 16**2  # of ResNet-20 at 16×16; the made-up machine's pace never changes


def made_up(job: Job) -> dict[str, float]:
    values = dict(MADE_UP[job.function])
    if job.function == "cells.train":
        values["bf16"] = float("protocol=quick" not in job.arguments["overrides"])
    if job.function == "loops.bare_loop":
        values["bf16"] = float(job.arguments.get("bf16", False))
        assert job.shape is not None
        work = job.shape.depth * job.shape.width**2 * job.shape.image_size**2 / WORK
        values["images_per_second"] /= work
        values["multiply_adds"] *= work * job.shape.batch_size
    return values


def rows_of(
    part: str, rounds: int = 2, measure=made_up, jobs=None
) -> tuple[list[Measurement], list[str]]:
    jobs = jobs or list(PARTS[part].jobs(OPTIONS))
    progress = run.Progress({part: rounds * len(jobs)})
    rows, failures = run.run_part(part, jobs, rounds, measure, PROVENANCE, progress)
    return [replace(row, measured_at="2026-01-01T00:00:00Z") for row in rows], failures


def write(folder, part: str, rows: list[Measurement]) -> None:
    write_table(folder / f"{part}.csv", rows, Measurement)


def read(folder, part: str) -> list[Measurement]:
    return read_table(folder / f"{part}.csv", Measurement)


def job(way: str, **changes) -> Job:
    return replace(Job("a case", way, "loops.bare_loop", 1, {}), **changes)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "bench"
    for part in PARTS:
        write(folder, part, rows_of(part)[0])
    return folder


@pytest.fixture(scope="module")
def made(tables):
    return figures.write_report(tables)


def test_ways_of_a_case_take_turns_and_ratios_are_taken_within_rounds():
    called = []
    speeds = iter([100.0, 200.0, 10.0, 21.0, 50.0, 110.0])  # a slow round; B / A hardly moves

    def measure(job: Job) -> dict[str, float]:
        called.append(job.way)
        return {"x": next(speeds)}

    rows, failures = rows_of("columns", 3, measure, [job("A"), job("B")])
    assert called == ["A", "B"] * 3
    assert [(row.way, row.round, row.value) for row in rows[-2:]] == [("A", 3, 50), ("B", 3, 110)]
    assert not failures
    measured = ratio(by_round(rows, "a case", "B", "x"), by_round(rows, "a case", "A", "x"))
    assert measured == pytest.approx({1: 2.0, 2: 2.1, 3: 2.2})
    assert shown(measured) == "2.10 [2.00, 2.20]"
    assert shown(by_round(rows, "a case", "A", "x")) == "50.0 [10.0, 100]"


def test_a_round_without_one_side_gives_no_ratio():
    assert ratio({1: 2.0, 2: 6.0}, {2: 3.0}) == {2: 2.0}
    assert (shown({2: 2.0}), shown({})) == ("2.00", "–")


def test_targets_are_for_the_median():
    measured = {1: 1.9, 2: 2.4, 3: 2.1}
    assert against_target(measured, "≥ 2.1") == "≥ 2.1: met"
    assert against_target(measured, "≥ 2.2") == "≥ 2.2: **not met**"
    assert against_target(measured, "≤ 2") == "≤ 2: **not met**"
    assert against_target({}, "≥ 2.1") == "≥ 2.1: not measured"


def test_numbers_have_three_digits():
    values = (0, 0.00123456, 1.5, 9.996, -12.34, 12345)
    texts = ["0", "0.00123", "1.50", "10.0", "-12.3", "12,300"]
    assert [number(value) for value in values] == texts


def test_a_failed_or_unavailable_measurement_is_a_row_that_says_why(capsys):
    def measure(job: Job) -> dict[str, float]:
        raise run.MeasurementError("no compiler")

    jobs = [job("A"), job("B", unavailable="not installed")]
    rows, failures = rows_of("gpu", 1, measure, jobs)
    notes = [(row.way, row.value, row.note) for row in rows]
    assert notes == [("A", None, "no compiler"), ("B", None, "not installed")]
    assert failures == ["gpu: a case, A: no compiler"]
    assert "gpu 2/2" in capsys.readouterr().out


def test_a_window_opens_after_the_warm_up_and_holds_whole_iterations(tmp_path):
    window = Window(Process(tmp_path), seconds=1e-9)
    assert [window.iteration_ends() for _ in range(7)] == [False] * 6 + [True]
    assert window.seconds_per_iteration > 0
    first = Window(Process(tmp_path), seconds=0)
    assert first.iteration_ends()
    assert first.seconds_per_iteration == first.first_iteration_seconds


def test_windows_side_by_side_open_together_and_run_until_all_have_closed(tmp_path):
    (tmp_path / "warm-other").touch()
    window = Window(Process(tmp_path, copies=2), seconds=1e-9)
    assert not any(window.iteration_ends() for _ in range(9))
    measured = window.seconds_per_iteration
    assert measured > 0
    (tmp_path / "done-other").touch()
    assert window.iteration_ends()
    assert window.seconds_per_iteration == measured


def test_every_job_calls_something_that_takes_its_arguments(tmp_path):
    for part in PARTS.values():
        for job in part.jobs(OPTIONS):
            module, _, name = job.function.rpartition(".")
            function = getattr(importlib.import_module(f"experiments.bench.{module}"), name)
            inspect.signature(function).bind(Process(tmp_path), **job.arguments)
            if "overrides" in job.arguments:
                compose_cell(tmp_path, *job.arguments["overrides"]).check()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_bare_loop_has_the_network_batch_and_optimiser_of_the_configuration(setting, tmp_path):
    config = compose_cell(tmp_path, *setting.overrides, "model=residual").config
    protocol, shape = config.protocol, setting.shape
    assert (config.model.width, config.model.shortcut) == (shape.width, loops.SHORTCUT)
    assert protocol.batch_size == shape.batch_size
    assert config.data.image_size in (shape.image_size, None)
    assert (protocol.precision == "auto") == setting.bf16
    optimiser = (protocol.learning_rate, protocol.momentum, protocol.weight_decay)
    assert optimiser == (loops.LEARNING_RATE, loops.MOMENTUM, loops.WEIGHT_DECAY)


def tiny(channels: int = 1, size: int = 6) -> tuple[CifarNetwork, Images]:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (8, channels, size, size), dtype=torch.uint8)
    network = CifarNetwork(8, "zero_pad", width=2, num_classes=3, in_channels=channels)
    return network, Images(pixels, torch.randint(0, 3, (8,)))


def trained(train, data) -> object:
    """What a loop returns after two iterations in which it changes every parameter."""
    network, _ = tiny()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser, ends = torch.optim.SGD(network.parameters(), lr=0.1), iter([False, True])
    result = train(network, data, optimiser, lambda: next(ends))
    after = network.parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    return result


def test_each_loop_trains():
    _, images = tiny()
    trained(loops.train, [Batch(images.pixels.float() / 255, images.labels)])
    augmentation = Augmentation(padding=1, mirror=True, rotation=10, noise=0.1)
    normaliser = Normaliser(images.pixels, "channel")
    pictures = textbook.Pictures(images, textbook.transform_of(augmentation, normaliser, 6))
    loss, error = trained(textbook.train, DataLoader(pictures, 4, shuffle=True))
    assert math.isfinite(loss) and 0 <= error <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_without_augmentation_the_textbook_sees_the_pixels_that_plainres_sees(channels):
    _, images = tiny(channels)
    normaliser = Normaliser(images.pixels, "channel")
    pictures = textbook.Pictures(images, textbook.transform_of(Augmentation(), normaliser, 6))
    pixels = torch.stack([pictures[index][0] for index in range(len(pictures))])
    torch.testing.assert_close(pixels, normaliser(images.pixels.float() / 255))
    assert [pictures[index][1] for index in range(len(pictures))] == images.labels.tolist()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_textbook_augments_as_the_protocol_does(setting, tmp_path):
    identity = compose_cell(tmp_path, *setting.overrides).identity
    augmentation = Augmentation(**identity["protocol"]["augmentation"])
    normaliser = Normaliser(tiny()[1].pixels, "channel")
    transform = textbook.transform_of(augmentation, normaliser, setting.shape.image_size)
    steps = [type(step).__name__ for step in transform.transforms]
    crops = ["RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"]
    digits = ["RandomAffine", "ToTensor", "Normalize", "partial"]  # noise
    assert steps == (digits if setting is DIGITS else crops)


def test_multiply_adds_equal_a_count_by_hand():
    width, size, batch = 2, 8, 3
    stem = 9 * 1 * width * size**2
    first = 2 * 9 * width**2 * size**2
    second = 9 * (width * 2 * width + (2 * width) ** 2) * (size // 2) ** 2
    third = 9 * (2 * width * 4 * width + (4 * width) ** 2) * (size // 4) ** 2
    forward = stem + first + second + third + 4 * width * 10
    # Backward: once for the weights, once for the inputs, but images need no gradient.
    assert loops.multiply_adds(Shape(8, width, size, 1, batch)) == batch * (3 * forward - stem)


def test_the_same_tables_give_the_same_bytes(tables, made, tmp_path):
    again = tmp_path / "again"
    for part in PARTS:
        write(again, part, read(tables, part))
    names = ("columns", "scaling", "scaling_memory")
    drawn = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {path.name for path in made} == {"README.md", *drawn}
    for old, new in zip(made, figures.write_report(again), strict=True):
        assert old.read_bytes() == new.read_bytes()
    with Image.open(tables / "figures" / "scaling.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100, "an empty picture"


def test_figures_can_be_projected_and_say_images_and_rounds():
    committed = ROOT / "results" / "bench"
    drawings = (
        ("columns", figures.columns_figure),
        ("scaling", figures.scaling_figure),
        ("scaling", partial(figures.scaling_figure, memory=True)),
    )
    for part, draw in drawings:
        with plt.rc_context(STYLE):
            figure = draw(read(committed, part))
            assert re.search(r"random pixels.* · \d rounds? · ", caption(figure))
            assert figure.get_size_inches().tolist() == list(SIZE)
            texts = texts_of(figure)
            assert min(text.points for text in texts) >= TYPE
            assert not cut_off(texts)
            assert not overlapping(texts)


def test_the_readme_shows_numbers_targets_and_machines(tables, made):
    text = (tables / "README.md").read_text()
    digits = "| ResNet-20, digits 8×8 |"
    for expected in (
        f"{digits} 3.00 [3.00, 3.00] | ≥ 2.1: met | 3.00 [3.00, 3.00] | ≥ 2.5: met",
        f"{digits} 100",
        "| ResNet-20, 16×16, bf16 | 100",
        "- one cell a core / one cell at a time: ≥ 1.4: **not met**",
        "the end of the first iteration | 5.00 [5.00, 5.00] | ≤ 4: **not met** |",
        f"{THOUSAND}: the first iteration takes 96.2 [96.2, 96.2] s",
        "| plain-20, 32×32, GPU, bf16, CUDA graph, fused | 2.0100 | 2.2000 | 0.0e+00 |",
        "| ResNet-56, 32×32, 6 cells, fused | 300 [300, 300] | 2,560 [2,560, 2,560] |",
    ):
        assert expected in text
    assert "Not measured" not in text
    source = "commit c0ffeec0ffee, on a processor, 2 GHz, 2 cores, torch 2.9.0."
    assert " ".join(text.split()).count(source) == len(PARTS)


def test_the_fit_is_the_line_that_the_points_lie_on(tables):
    depth = figures.series_of(read(tables, "scaling"))[0]
    assert (depth.name, depth.values) == ("depth", [20, 56, 110, 218, 434, 1202])
    slope, intercept, r_squared = figures.line(depth.multiply_adds, depth.seconds)
    assert slope == pytest.approx(1 / 320 / 1e8, rel=1e-4)
    assert intercept == pytest.approx(0, abs=1e-3)
    assert r_squared == pytest.approx(1)


def test_the_readme_names_parts_that_were_not_measured(tmp_path):
    with pytest.raises(ValueError, match=r"no tables in .*; make bench measures them"):
        figures.write_report(tmp_path)
    write(tmp_path, "startup", rows_of("startup")[0])
    write(tmp_path, "gpu", rows_of("gpu", jobs=[job("library", unavailable="not here")])[0])
    assert [path.name for path in figures.write_report(tmp_path)] == ["README.md"]
    text = (tmp_path / "README.md").read_text()
    for part in PARTS.keys() - {"startup"}:
        assert f"Not measured; `make bench PARTS={part}` measures it." in text
    assert "- a case, library: not here" in text


def test_compilation_is_the_first_sweep_minus_a_later_one(tmp_path):
    rows, _ = rows_of("first", 1)
    seconds = {parts.NOT_COMPILED: 99.5, parts.COMPILED_BEFORE: 88.0}
    lines = figures.first([replace(row, value=seconds[row.way]) for row in rows])
    assert lines[-3:] == [
        "| kernels not compiled yet | 99.5 | ≤ 150: met |",
        "| kernels compiled before | 88.0 | ≤ 150: met |",
        "| compilation, the difference | 11.5 | ≤ 10: **not met** |",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--parts", "columns,rows"], f"'rows' is unknown; legal: {', '.join(PARTS)}"),
        (["--rounds", "0"], "must be above 0"),
        (["--seconds", "nan"], "must be above 0"),
    ],
)
def test_an_illegal_option_is_one_line(tmp_path, capsys, words, reason):
    with pytest.raises(SystemExit) as ended:
        run.main([*words, "--results", str(tmp_path)])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and reason in shown


def test_an_interruption_loses_only_the_running_part(tmp_path, monkeypatch, capsys):
    def measure(job: Job) -> dict[str, float]:
        if job.function == "loops.bare_loop":
            raise KeyboardInterrupt
        return made_up(job)

    monkeypatch.setattr(run, "measure_in_processes", measure)
    words = ["--parts", "startup,scaling", "--rounds", "1", "--results", str(tmp_path)]
    assert run.main(words) == 130
    assert read(tmp_path, "startup") and not read(tmp_path, "scaling")
    assert "startup" in (tmp_path / "README.md").read_text()
    assert "finished parts are kept" in capsys.readouterr().err


def test_real_processes_measure_the_ways_on_digits():
    every = list(PARTS["columns"].jobs(OPTIONS))
    jobs = {job.way: job for job in every if job.case == f"ResNet-20, {DIGITS.name}"}
    jobs = {way: replace(job, threads=1) for way, job in jobs.items()}
    jobs[parts.BARE_LOOP] = replace(jobs[parts.BARE_LOOP], copies=2)
    for way in (parts.TEXTBOOK, parts.BARE_LOOP, parts.PLAINRES):
        values = run.measure_in_processes(jobs[way])
        assert all(value > 0 for name, value in values.items() if name != "bf16"), way
        assert not values.get("bf16"), "digits are trained in float32"


def test_the_losses_of_the_first_iterations(tmp_path):
    """On a CPU a GPU's ways can only be called."""
    tiny = ["protocol=quick", "model=plain", "model.depth=8", "accelerator=cpu"]
    for precision in ("32-true", "bf16-mixed"):
        overrides = [
            *tiny,
            f"protocol.precision={precision}",
            f"results_dir={tmp_path / precision}",
        ]
        losses = cells.losses(Process(tmp_path), overrides, iterations=2, tf32=False)
        assert list(losses) == ["loss 1", "loss 2"]
        assert 2 < losses["loss 1"] < 3
        assert losses["loss 1"] != losses["loss 2"]


def test_a_process_that_fails_says_why():
    reason = r"^AttributeError: .* has no attribute 'nothing'$"
    with pytest.raises(run.MeasurementError, match=reason):
        run.measure_in_processes(job("A", function="parts.nothing", copies=2))


def test_figures_and_parts_need_no_torch():
    imports = "import sys, experiments.bench.figures, experiments.bench.run"
    script = f"{imports}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


def test_the_many_cells_are_legal_and_gathered(tmp_path):
    many.make(tmp_path, cells=30, points=4)
    gather(tmp_path)
    rows = read_records(tmp_path)
    assert len(rows) == len({row.cell for row in rows}) == 30
    assert {row.seed for row in rows} == {0, 1, 2}
    assert len(read_curves(tmp_path)) == 30 * 4
