"""The event files that are made of the tables, as TensorBoard reads them."""

import base64
import json
import math
import re
import socket
import struct
from pathlib import Path
from urllib.parse import unquote

import pytest
from composing import ROOT
from made_up import made_up_record, write_made_up
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from experiments import __main__ as command
from experiments.events import serve
from experiments.events.curves import Tables
from experiments.events.write import COLOURED, FOLDER, HERE, address
from plainres.records import tags
from plainres.records.files import CURVES_TABLE, read_curves, read_table, write_table
from plainres.records.rows import ProbePoint
from plainres.records.schema import CurvePoint

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 3, 2)
# Errors of seeds 0 and 1, by arm and depth; 110 has one seed
ERRORS = {
    ("plain", 20): (0.1, 0.2),
    ("plain", 56): (0.5, 0.6),
    ("plain", 110): (0.8,),
    ("residual", 20): (0.05, 0.1),
    ("residual", 56): (0.0, 0.02),
    ("residual", 110): (0.0,),
}


def records(**changes):
    return [
        made_up_record(arm=arm, depth=depth, seed=seed, train_error=error, **changes)
        for (arm, depth), errors in ERRORS.items()
        for seed, error in enumerate(errors)
    ]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Committed tables with a figure, in a folder of the test's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for place, protocol in (("depth/quick", "quick"), ("depth/cpu", "cpu")):
        folder = tmp_path / "results" / place
        write_made_up(folder, records(protocol=protocol), curves=True)
    for place, names in (("depth/quick", ("one", "two")), ("why", ("three", "four"))):
        folder = tmp_path / "results" / place
        (folder / "figures").mkdir(parents=True)
        for name in names:
            (folder / "figures" / f"{name}.png").write_bytes(PNG)
        shown = [f"![figure {name} · n = 2](figures/{name}.png)" for name in names]
        (folder / "README.md").write_text("\n".join(shown), encoding="utf-8")
    return tmp_path / "results"


@pytest.fixture
def events(results):
    """The folder of events that the command writes."""
    assert command.main(["tensorboard", "--write"]) == 0
    return results / "local" / FOLDER


def loaded(events: Path, run: str) -> EventAccumulator:
    return EventAccumulator(str(events / run), {"tensors": 0}).Reload()


def curve(events: Path, run: str, tag: str) -> dict[int, float]:
    """Iteration → value."""
    found = loaded(events, run).Tensors(tag)
    assert len({point.step for point in found}) == len(found)
    return {point.step: make_ndarray(point.tensor_proto).item() for point in found}


def files_of(events: Path) -> dict[str, Path]:
    """Run → its file."""
    return {p.parent.relative_to(events).as_posix(): p for p in events.rglob("*tfevents*")}


def layout_of(events: Path) -> Layout:
    found = loaded(events, "all seeds/20 layers").Tensors("custom_scalars__config__")
    return Layout.FromString(make_ndarray(found[0].tensor_proto).item())


def test_the_mean_over_seeds_has_a_band_of_one_standard_deviation(events, results):
    tag = "depth/quick/train_error_percent/{}/plain"
    seeds = [curve(events, "all seeds/20 layers", tag.format(f"seed {seed}")) for seed in (0, 1)]
    points = [point for point in read_curves(results / "depth/quick") if point.depth == 20]
    plain = {point.iteration: point.train_error for point in points if point.arm == "plain"}
    assert seeds[1] == pytest.approx({i: 100 * error for i, error in plain.items()})
    mean, lower, upper = (
        curve(events, "all seeds/20 layers", tag.format(edge))
        for edge in ("mean", "lower", "upper")
    )
    for step in plain:
        one, other = seeds[0][step], seeds[1][step]
        half = abs(one - other) / math.sqrt(2)
        assert mean[step] == pytest.approx((one + other) / 2)
        assert (lower[step], upper[step]) == pytest.approx((mean[step] - half, mean[step] + half))


def test_one_seed_has_a_band_without_width(events):
    tag = "depth/quick/train_error_percent/{}/plain"
    edges = [curve(events, "all seeds/110 layers", tag.format(e)) for e in ("lower", "upper")]
    assert edges[0] == edges[1] != {}


def test_the_logarithmic_twin_is_of_the_error_in_per_cent(events):
    tag = "depth/quick/{}/mean/residual"
    percent = curve(events, "all seeds/20 layers", tag.format("train_error_percent"))
    logarithm = curve(events, "all seeds/20 layers", tag.format("train_error_log10_percent"))
    assert logarithm == pytest.approx({s: math.log10(p) for s, p in percent.items()}, abs=1e-5)
    assert tags.percent_and_log10("e", 0.0) == {"e_percent": 0.0, "e_log10_percent": -2.0}


def test_a_cell_has_the_tags_of_a_run_in_training(events):
    found = loaded(events, "depth/quick/plain-56-seed1").Tags()["tensors"]
    names = ("train_error_percent", "train_error_log10_percent", "train_loss", "learning_rate")
    assert {f"{name}/plain" for name in (*names, "test_error_percent")} <= set(found)
    shown = curve(events, "depth/quick/plain-56-seed1", "final/train_error_percent")
    assert shown == pytest.approx({2000: 60.0})


def test_means_are_the_first_runs_and_have_the_colours_of_the_figures(events):
    """TensorBoard's colours go to runs by the time of their earliest event."""
    times = {
        run: [event.wall_time for event in EventFileLoader(str(path)).Load()]
        for run, path in files_of(events).items()
    }
    runs = sorted(times, key=lambda run: min(times[run]))
    for depth in (20, 56, 110):
        assert runs[COLOURED.index(depth)] == f"all seeds/{depth} layers"
    assert len({min(each) for each in times.values()}) == len(runs)
    assert all(min(each) == each[0] for each in times.values())
    assert min(runs).startswith("all seeds/")


def test_writing_again_gives_the_same_files_and_no_others(events):
    before = {path: path.read_bytes() for path in files_of(events).values()}
    (events / "of another time").mkdir()
    (events / "of another time" / "events.out.tfevents.1").write_bytes(b"")
    command.main(["tensorboard", "--write"])
    assert {path: path.read_bytes() for path in files_of(events).values()} == before


def test_hyper_parameters_are_arm_depth_seed_and_protocol_and_no_hash(events, results):
    columns = loaded(events, "all seeds/20 layers").summary_metadata["_hparams_/experiment"]
    experiment = HParamsPluginData.FromString(columns.plugin_data.content).experiment
    assert [info.name for info in experiment.hparam_infos] == ["arm", "depth", "seed", "protocol"]
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert metrics >= {"final/train_error_percent", "final/test_error_percent"}
    run = "depth/quick/plain-56-seed1"
    started = loaded(events, run).summary_metadata["_hparams_/session_start_info"]
    session = HParamsPluginData.FromString(started.plugin_data.content).session_start_info
    values = {name: value.WhichOneof("kind") for name, value in session.hparams.items()}
    assert set(values) == {"arm", "depth", "seed", "protocol"}
    assert (session.hparams["arm"].string_value, session.hparams["depth"].number_value) == (
        "plain",
        56,
    )
    record = made_up_record()
    for path in files_of(events).values():
        assert record.config_hash.encode() not in path.read_bytes()
        assert record.commit.encode() not in path.read_bytes()


def test_every_chart_shows_something_that_is_there(events):
    layout = layout_of(events)
    there = {tag for run in files_of(events) for tag in loaded(events, run).Tags()["tensors"]}
    opened = [category for category in layout.category if not category.closed]
    assert len(opened) == 1
    assert "protocol cpu ·" in opened[0].title
    assert [chart.title for chart in reversed(opened[0].chart)] == [
        "plain · training error, %",
        "residual · training error, %",
        "plain · training error, log10 of %",
        "residual · training error, log10 of %",
    ]
    for category in layout.category:
        for chart in category.chart:
            for series in chart.margin.series:
                assert {series.value, series.lower, series.upper} <= there, category.title
            for pattern in chart.multiline.tag:
                assert any(re.match(pattern, tag) for tag in there), category.title


def test_what_this_machine_measured_is_open_beside_the_committed(results):
    own = results / "local" / "depth" / "quick"
    write_made_up(own, records(), curves=True)
    run = own / "runs" / "plain-20-seed0"
    run.mkdir(parents=True)
    mine = results / "local" / "mine" / "quick" / "runs" / "plain-20-seed0"  # of slug=mine
    mine.mkdir(parents=True)
    command.main(["tensorboard", "--write"])
    events = results / "local" / FOLDER
    categories = layout_of(events).category
    assert [category.closed for category in categories[:4]] == [False, False, False, True]
    assert "protocol cpu ·" in categories[0].title
    assert categories[1].title.startswith("digits · protocol quick · 1 to 2 seeds, this machine")
    assert categories[2].title == "each cell: training error, %"
    tag = "depth/quick, this machine/train_error_percent/mean/plain"
    assert curve(events, "all seeds/56 layers", tag)
    assert (events / HERE / "depth" / "quick" / "runs" / "plain-20-seed0").samefile(run)
    assert (events / HERE / "mine" / "quick" / "runs" / "plain-20-seed0").samefile(mine)
    assert run.exists()
    command.main(["tensorboard", "--write"])  # removes links, not what they lead to
    assert run.exists()


def test_a_name_with_brackets_gives_tags_without(results):
    """TensorBoard takes what is in brackets for the name of a run."""
    tables = Tables("depth/mine (second)", True, records(), [])
    assert tables.name == "depth/mine second, this machine"


def test_figures_come_with_their_captions(events):
    metadata = loaded(events, "figures").summary_metadata
    assert [*metadata] == ["curves/01 quick one", "curves/02 quick two", "questions/why three"]
    assert metadata["curves/02 quick two"].display_name == "figure two · n = 2"
    image = make_ndarray(loaded(events, "figures").Tensors("curves/01 quick one")[0].tensor_proto)
    assert image.tolist() == [b"3", b"2", PNG]


@pytest.fixture(scope="module")
def committed_events(tmp_path_factory):
    """Of the committed results."""
    local = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(command, "LOCAL", local)
        patched.chdir(ROOT)
        assert command.main(["tensorboard", "--write"]) == 0
    return local / FOLDER


def test_all_committed_curves_are_written(committed_events):
    runs = files_of(committed_events)
    assert {f"all seeds/{depth} layers" for depth in COLOURED} <= runs.keys()
    assert "depth/paper/plain-20-seed0" in runs


def test_signals_of_layers_are_distributions_by_iteration(committed_events):
    events = loaded(committed_events, "layers")
    tag = "log10_weight_gradient/quick-batch-plain, plain-110"
    found = {point.step: make_ndarray(point.tensor_proto) for point in events.Tensors(tag)}
    assert {0, 1, 10, 100, 1000, 2000} <= found.keys()
    points = read_table(ROOT / "results/signal/quick-batch-plain/probes.csv", ProbePoint)
    seeds = {p.seed for p in points if (p.arm, p.depth) == ("plain", 110)}
    assert found[0][:, 2].sum() == 109 * len(seeds)  # convolutions of the main path
    assert found[0][-1, 1] - found[0][0, 0] > 5  # gradients of plain-110 explode
    assert not any("/start" in tag for tag in events.Tags()["tensors"])  # one iteration


def test_only_what_was_named_is_shown(results, capsys):
    command.main(["tensorboard", "RESULTS=depth/quick", "WRITE=1"])
    events = results / "local" / FOLDER
    titles = [category.title for category in layout_of(events).category]
    assert not any("cpu" in title for title in titles)
    assert capsys.readouterr().out.strip() == "results/local/events"


def test_a_table_without_a_curve_is_passed_over(results):
    folder = results / "depth" / "cpu"
    write_table(folder / CURVES_TABLE, [], CurvePoint)
    assert command.main(["tensorboard", "--write"]) == 0
    write_table(results / "depth" / "quick" / CURVES_TABLE, [], CurvePoint)
    with pytest.raises(SystemExit) as stopped:
        command.main(["tensorboard", "--write"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["depth/quik"], "no curves in results/depth/quik"),
        (["PORT=http"], "port 'http' is not a number from 0 to 65535"),
        (["PORT=70000"], "port '70000' is not a number from 0 to 65535"),
    ],
)
def test_what_cannot_be_shown_is_one_line(results, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        command.main(["tensorboard", *words])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(results, capsys):
    with socket.create_server(("localhost", 0)) as taken, pytest.raises(SystemExit) as stopped:
        command.main(["tensorboard", f"PORT={taken.getsockname()[1]}"])
    assert stopped.value.code == 2
    assert "is taken; PORT= takes another one" in capsys.readouterr().err


def test_a_browser_that_asks_for_nothing_is_sent_to_the_finding(results):
    tables = Tables("depth/quick", False, records(), read_curves(results / "depth/quick"))
    where = address(["all seeds/20 layers"], tables)
    calls = []
    app = serve._opened_at(where, lambda environ, start_response: calls.append(environ) or [b"app"])
    answers = []
    answer = app({"PATH_INFO": "/", "QUERY_STRING": ""}, lambda *each: answers.append(each))
    assert (list(answer), answers) == ([], [("302 Found", [("Location", where)])])
    tab, *settings = where.partition("#")[2].split("&")
    assert tab == "custom_scalars"
    shown = dict(map(unquote, setting.split("=")) for setting in settings)
    ticked = json.loads(base64.b64decode(shown["runSelectionState"]))
    assert ticked == {"all seeds/20 layers": True}
    assert re.match(shown["regexInput"], "all seeds/20 layers")
    assert not re.match(shown["regexInput"], "depth/quick/plain-20-seed0")
    for path, query in (("/", "smoothing=0"), ("/data/runs", "")):
        assert list(app({"PATH_INFO": path, "QUERY_STRING": query}, None)) == [b"app"]
    assert len(calls) == 2
