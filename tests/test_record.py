"""Records are read as written, hashes follow the configuration, tables never lose a row."""

import dataclasses
import errno
import fcntl
import json
import os
import re
import tempfile
from copy import deepcopy
from pathlib import Path
from threading import Thread

import pytest
from composing import ROOT, python, run

from experiments.reporting.markdown import measured_on
from plainres.records import files, locks
from plainres.records.checks import text_check
from plainres.records.identity import (
    cell_config,
    config_differences,
    config_hash,
    row_hash,
    shared_config,
)
from plainres.records.schema import CurvePoint, Progress, Record


@pytest.fixture
def config():
    """A resolved configuration as Hydra hands it over, shortened."""
    return {
        "seed": 3,
        "slug": "depth",
        "folder": "quick",
        "results_dir": "results",
        "force": False,
        "jobs": -1,
        "model": {"depth": 20, "shortcut": "none", "width": 16},
        "data": {
            "name": "digits",
            "label": "digits",
            "root": None,
            "image_size": 8,
            "mirror": False,
        },
        "protocol": {
            "name": "quick",
            "iterations": 2000,
            "schedule": {"kind": "step", "milestones": [100, 200], "factor": 0.1},
            "augmentation": {"scale": [0.8, 1.2], "noise": None},
            "error_window": None,
            "log_every": 50,
            "evaluate_every": 100,
        },
    }


def hash_of(config, arm="plain") -> str:
    return config_hash(cell_config(config, arm))


def changed(config, path: str, value):
    result = node = deepcopy(config)
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    return result


# One record


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"status": "diverged"},
        {"clean": None, "val_error": 0.25},
        {"clean": False, "train_loss": 1 / 3, "data_label": "Füße, “quoted”\n×2"},
        {"test_loss": None},
    ],
)
def test_a_record_is_read_as_it_was_written(tmp_path, make_record, values):
    record = make_record(**values)
    files.write_record(tmp_path / "cell", record)
    assert files.read_record(tmp_path / "cell") == record


def test_no_record_is_none(tmp_path):
    assert files.read_record(tmp_path) is None


def damage(path: Path, content: str | bytes | dict) -> str:
    """Damages a file of JSON: new values, or other content; returns the start of the message."""
    if isinstance(content, dict):
        values = json.loads(path.read_text()) | content
        values.pop("sha256", None)  # as of a record from before there was one
        content = json.dumps({key: value for key, value in values.items() if value != "absent"})
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"^{re.escape(str(path))}"


CUT = [
    ("", " is damaged: Expecting value"),
    ('{"arm": "pla', " is damaged: Unterminated string"),
    (b"\xff\xfe\x00", " is damaged: byte 0 is no UTF-8"),
    (b"\x00" * 4096, " is damaged: "),
]
NONSENSE = [
    ("null", " is damaged: it has no named values"),
    ("[1]", " is damaged: it has no named values"),
    ("[" * 100_000, " is damaged: "),
]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *CUT,
        *NONSENSE,
        ("{}", " lacks arm"),
        ({"train_error": 5.0}, ", train_error: 5.0 is above 1"),
        ({"train_error": "0.5"}, ", train_error: '0.5' is no float"),
        ({"test_error": -0.25}, ", test_error: -0.25 is below 0"),
        ({"train_loss": float("nan")}, ", train_loss: nan is not a finite number"),
        ({"test_loss": float("inf")}, ", test_loss: inf is not a finite number"),
        ({"train_error": None}, ": train_error has no value, and the run is finished"),
        ({"status": "diverged"}, ": train_error has a value, and the run is diverged"),
        ({"status": "done"}, ", status: 'done' is not finished or diverged"),
        ({"iterations": 0}, ", iterations: 0 is below 1"),
        ({"iterations": True}, ", iterations: True is no int"),
        ({"depth": 20.0}, ", depth: 20.0 is no int"),
        ({"seed": -1}, ", seed: -1 is below 0"),
        ({"clean": 1}, ", clean: 1 is no bool"),
        ({"config_hash": "0123456789aG"}, ", config_hash: '0123456789aG' is not twelve hexa"),
        ({"commit": "c0ffee"}, ", commit: 'c0ffee' is not a commit, several with"),
        ({"threads": "absent"}, " lacks threads"),
        ({"arm": "../plain"}, ", arm: '../plain' is not a name"),
    ],
)
def test_a_damaged_record_is_named_with_what_is_wrong(tmp_path, make_record, content, message):
    files.write_record(tmp_path, make_record())
    start = damage(tmp_path / files.RECORD_FILE, content)
    with pytest.raises(files.DamagedFileError, match=f"{start}{message}.*; the same sweep sets"):
        files.read_record(tmp_path)


def test_every_flipped_bit_of_a_record_is_noticed_or_changes_no_value(tmp_path, make_record):
    path, record = tmp_path / files.RECORD_FILE, make_record()
    files.write_record(tmp_path, record)
    whole, noticed = path.read_bytes(), 0
    for place in range(0, len(whole) * 8, 7):  # each bit of a byte comes up
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert files.read_record(tmp_path) == record
        except files.DamagedFileError:
            noticed += 1
    assert noticed > 0.9 * len(whole) * 8 / 7


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read(tmp_path, make_record, make):
    """A FIFO would be waited for."""
    inside = cell_folder(tmp_path, make_record())
    for name in (files.RECORD_FILE, files.PROGRESS_FILE):
        path = inside / name
        path.unlink(missing_ok=True)
        make(path)
    assert files.read_progress(inside) is None
    with pytest.raises(files.DamagedCellsError, match=r"record\.json is damaged: it is no file"):
        files.gather(tmp_path)
    make(tmp_path / files.RUNS_TABLE)
    with pytest.raises(files.DamagedFileError, match=r"runs\.csv is damaged: it is no file"):
        files.gather(tmp_path)


PROGRESS = Progress(7, 12, 24, 0.5, 6.0, None)


@pytest.mark.parametrize(
    "content", [*(content for content, _ in CUT + NONSENSE), {"iteration": -1}]
)
def test_a_damaged_or_foreign_progress_file_is_none(tmp_path, content):
    path = tmp_path / files.PROGRESS_FILE
    assert files.read_progress(tmp_path) is None
    files.write_json(path, dataclasses.asdict(PROGRESS))
    assert files.read_progress(tmp_path) == PROGRESS
    damage(path, {"iteration": -1} if content is None else content)
    assert files.read_progress(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *CUT,
        ("{}", " is damaged: it has no configuration"),
        ('{"model": {}, "data": 3}', " is damaged: data is no section"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, config, content, message):
    assert files.read_config(tmp_path) is None
    files.write_json(tmp_path / files.CONFIG_FILE, config)
    assert files.read_config(tmp_path) == config
    start = damage(tmp_path / files.CONFIG_FILE, content)
    with pytest.raises(files.DamagedFileError, match=f"{start}{message}"):
        files.read_config(tmp_path)


# Tables


def test_a_table_is_read_as_it_was_written(tmp_path, make_record):
    rows = [
        make_record(),
        make_record(depth=32, clean=None, val_error=0.125, train_error=0.0, seconds=5.0),
        make_record(depth=44, clean=False, status="diverged"),
        make_record(depth=56, data_label='a "label", with\ntwo lines', shortcut=""),
        make_record(depth=110, data_label="one\rtwo", processor="Ä×–"),
    ]
    files.write_table(tmp_path / "runs.csv", rows, Record)
    read = files.read_table(tmp_path / "runs.csv", Record)
    assert read == rows
    types = [(type(row.depth), type(row.seconds), type(row.clean)) for row in read[:2]]
    assert types == [(int, float, bool), (int, float, type(None))]


def test_floats_have_six_significant_digits(tmp_path, make_record):
    values = {"train_error": 1 / 3, "train_loss": 1234567.0, "test_loss": 1.23456789e-7}
    row = make_record(**values, seconds=0.1 + 0.2, images_per_second=100.0)
    files.write_table(tmp_path / "runs.csv", [row], Record)
    (read,) = files.read_table(tmp_path / "runs.csv", Record)
    assert (read.train_error, read.train_loss, read.test_loss) == (0.333333, 1234570.0, 1.23457e-7)
    assert (read.seconds, read.images_per_second) == (0.3, 100.0)
    assert ",100," in (tmp_path / "runs.csv").read_text()
    files.write_table(tmp_path / "again.csv", [read], Record)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "runs.csv").read_bytes()


def test_a_curve_is_read_as_it_was_written(tmp_path, make_point):
    evaluated = {"test_error": 0.5, "test_loss": 2.25, "val_error": 0.75}
    rows = [make_point(), make_point(iteration=100, learning_rate=1e-5, **evaluated)]
    files.write_table(tmp_path / "curves.csv", rows, CurvePoint)
    assert files.read_curves(tmp_path) == rows
    assert (tmp_path / "curves.csv").read_text().splitlines()[1] == "plain,20,0,50,0.25,0.75,0.1,,,"


def test_no_table_has_no_rows_and_an_empty_one_has_a_header(tmp_path):
    assert files.read_runs(tmp_path) == []
    files.write_table(tmp_path / files.RUNS_TABLE, [], Record)
    assert files.read_runs(tmp_path) == []
    header = ",".join(field.name for field in dataclasses.fields(Record))
    assert (tmp_path / files.RUNS_TABLE).read_text() == header + "\n"


def test_columns_in_another_order_and_columns_of_ones_own_do_no_harm(tmp_path):
    header = (
        "note,depth,arm,seed,iteration,"
        "train_error,train_loss,learning_rate,test_error,test_loss,val_error"
    )
    (tmp_path / "curves.csv").write_text(f"{header}\nseen,20,plain,0,50,0.25,0.75,0.1,,,\n")
    assert files.read_curves(tmp_path) == [CurvePoint("plain", 20, 0, 50, 0.25, 0.75, 0.1)]


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("depth", "2O", "line 3, depth: '2O' is no int"),
        ("iteration", "", "line 3, iteration: '' is no int"),
        ("iteration", "12 ", "line 3, iteration: '12 ' is no int"),  # a bit of "120"
        ("iteration", "1_0", "line 3, iteration: '1_0' is no int"),
        ("train_error", "", "line 3, train_error: '' is no float"),
        ("test_loss", "low", "line 3, test_loss: 'low' is no float"),
        ("train_loss", "nan", "line 3, train_loss: nan is not a finite number"),
        ("learning_rate", "-inf", "line 3, learning_rate: -inf is not a finite number"),
        ("train_error", "25", "line 3, train_error: 25.0 is above 1"),
        ("seed", "-2", "line 3, seed: -2 is below 0"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_file_line_and_column(
    tmp_path, make_point, column, text, message
):
    path = tmp_path / "curves.csv"
    files.write_table(path, [make_point(), make_point(iteration=100)], CurvePoint)
    header, first, second = path.read_text().splitlines()
    cells = dict(zip(header.split(","), second.split(","), strict=True)) | {column: text}
    path.write_text("\n".join([header, first, ",".join(cells.values())]) + "\n")
    with pytest.raises(
        ValueError, match=rf"^{path}, {message}; restore it .*, git checkout {path}"
    ):
        files.read_curves(tmp_path)
    (tmp_path / "runs").mkdir()  # the cells, which have its rows
    with pytest.raises(ValueError, match=rf"^{path}, {message}; restore it, or delete it"):
        files.read_curves(tmp_path)


@pytest.mark.parametrize("text", ["true", "yes", "1"])
def test_only_true_and_false_are_truth_values(tmp_path, make_record, text):
    path = tmp_path / "runs.csv"
    files.write_table(path, [make_record(clean=True)], Record)
    path.write_text(path.read_text().replace(",True,", f",{text},"))
    with pytest.raises(ValueError, match=rf"line 2, clean: '{text}' is no bool"):
        files.read_runs(tmp_path)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        (
            "arm,depth,seed,iteration,train_error,learning_rate,test_error,test_loss\n",
            "train_loss;",
        ),
        ("", "arm, depth"),
    ],
)
def test_missing_columns_are_named(tmp_path, header, missing):
    (tmp_path / "curves.csv").write_text(header)
    with pytest.raises(ValueError, match=rf"curves\.csv lacks the columns {missing}"):
        files.read_curves(tmp_path)


def test_a_table_from_before_a_column_with_a_default_is_read(tmp_path, make_record):
    path = tmp_path / "runs.csv"
    row = make_record(num_multiply_adds=7, kernels="fused", parent="f" * 12)
    files.write_table(path, [row], Record)
    lines = [line.rsplit(",", 5)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    older = dataclasses.replace(
        row, num_multiply_adds=None, kernels="", instruction_set="", parent=""
    )
    assert files.read_runs(tmp_path) == [older]


# The hash of a configuration


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.root", "/somewhere/else"),
        ("protocol.log_every", 7),
        ("protocol.evaluate_every", 7),
        ("protocol.added_later", None),
        ("protocol.schedule.added_later", None),
        ("data.added_later", None),
        ("protocol.name", "quicker"),
        ("slug", "another"),
        ("results_dir", "elsewhere"),
        ("force", True),
        ("jobs", 4),
        ("accelerator", "gpu"),
    ],
)
def test_what_does_not_change_the_numbers_does_not_change_the_hash(config, path, value):
    assert hash_of(changed(config, path, value)) == hash_of(config)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 4),
        ("model.depth", 32),
        ("model.shortcut", "zero_pad"),
        ("model.width", 8),
        ("model.root", "a root that is not the data's"),
        ("data.name", "cifar10"),
        ("data.label", "Digits"),
        ("data.image_size", None),
        ("data.mirror", True),
        ("data.log_every", 5),
        ("folder", "quicker"),
        ("protocol.iterations", 2001),
        ("protocol.schedule.milestones", [200, 100]),
        ("protocol.schedule.factor", 0.2),
        ("protocol.augmentation.scale", [0.8, 1.1]),
        ("protocol.augmentation.noise", 0.0),
        ("protocol.error_window", 0),
    ],
)
def test_every_other_value_changes_the_hash(config, path, value):
    assert hash_of(changed(config, path, value)) != hash_of(config)


def test_the_arm_changes_the_hash(config):
    assert hash_of(config, "residual") != hash_of(config, "plain")


def test_the_order_of_keys_does_not_change_the_hash(config):
    def reversed_keys(node):
        if not isinstance(node, dict):
            return node
        return {key: reversed_keys(value) for key, value in reversed(node.items())}

    assert list(reversed_keys(config)) != list(config)
    assert hash_of(reversed_keys(config)) == hash_of(config)


def test_the_hash_survives_json_and_another_process(config):
    identity = cell_config(config, "plain")
    assert json.loads(json.dumps(identity)) == identity
    code = f"from plainres.records.identity import config_hash; print(config_hash({identity!r}))"
    other = python("-c", code, PYTHONHASHSEED="7")
    assert other.stdout.strip() == config_hash(identity)
    assert len(config_hash(identity)) == 12
    int(config_hash(identity), 16)


def test_differences_are_named_from_old_to_new(config):
    old = cell_config(config, "plain")
    values = (
        ("protocol.schedule.factor", 0.2),
        ("data.mirror", True),
        ("protocol.error_window", 5),
        ("data.image_size", None),
    )
    for path, value in values:
        config = changed(config, path, value)
    new = cell_config(config, "residual")
    assert config_differences(old, new) == [
        "arm: plain → residual",
        "data.image_size: 8 → None",
        "data.mirror: False → True",
        "protocol.error_window: None → 5",
        "protocol.schedule.factor: 0.1 → 0.2",
    ]
    assert config_differences(old, deepcopy(old)) == []


# Writing


def test_text_is_utf8_with_the_line_ends_it_has(tmp_path):
    path = tmp_path / "new" / "folder" / "note.txt"
    files.write_text(path, "Füße\r\n×\n")
    assert path.read_bytes() == "Füße\r\n×\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def refusing(number: int):
    """A call of the operating system that fails."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("where", "failing", "number", "hint"),
    [
        (os, "replace", errno.ENOSPC, "No space left on device; free some space"),
        (os, "fsync", errno.EDQUOT, "; free some space"),
        (os, "fsync", errno.EIO, "Input/output error; repeat"),
        (tempfile, "NamedTemporaryFile", errno.EROFS, "; make it writable"),
        (Path, "mkdir", errno.EACCES, "Permission denied; make it writable"),
    ],
)
def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(
    tmp_path, monkeypatch, where, failing, number, hint
):
    path = tmp_path / "note.txt"
    files.write_text(path, "old")
    monkeypatch.setattr(where, failing, refusing(number))
    with pytest.raises(OSError, match=f"^{path} could not be written: .*{hint}") as error:
        files.write_text(path, "new")
    assert error.value.errno == number
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_read_only_is_named(tmp_path, monkeypatch):
    files.check_writable(tmp_path / "new")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(errno.EROFS))
    with pytest.raises(OSError, match=f"^{tmp_path} could not be written: Read-only file system; "):
        files.check_writable(tmp_path)


@pytest.mark.parametrize(
    ("where", "failing", "number"),
    [
        (os, "fsync", errno.EINVAL),
        (os, "fsync", errno.EOPNOTSUPP),
        (Path, "chmod", errno.EPERM),
        (Path, "chmod", errno.ENOSYS),
    ],
)
def test_what_a_file_system_does_not_offer_is_no_error(
    tmp_path, monkeypatch, where, failing, number
):
    monkeypatch.setattr(where, failing, refusing(number))
    files.write_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "new"


def test_what_a_kill_leaves_of_a_write_is_ignored_by_git(tmp_path, monkeypatch):
    """So are the folders that git ignores where they are links."""
    monkeypatch.setattr(os, "replace", lambda part, path: None)
    files.write_text(tmp_path / "runs.csv", "")
    (part,) = tmp_path.iterdir()
    ignored = [f"results/depth/quick/{part.name}", ".venv", "data", "results/local"]
    assert run("git", "check-ignore", "--no-index", *ignored).stdout.split() == ignored


def test_a_lock_is_held_by_one_file_at_a_time(tmp_path):
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        assert locks.try_lock(first)
        assert not locks.try_lock(second)
        first.close()
        assert locks.try_lock(second)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog, number):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with (tmp_path / "lock").open("a") as file:
        assert locks.try_lock(file)
        assert locks.try_lock(file)
    assert caplog.text.count(f"{tmp_path}: the file system has no locks") == 1


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    files.write_json(path, {"state": "old"})
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append(files.read_json(path))
        replace(source, target)
        seen.append(files.read_json(path))

    monkeypatch.setattr(os, "replace", watched)
    files.write_json(path, {"state": "new"})
    assert seen == [{"state": "old"}, {"state": "new"}]


# Gathering


def cell_folder(folder, record, points=()):
    """As a finished run leaves it."""
    inside = folder / "runs" / record.cell
    files.write_table(inside / files.CURVES_TABLE, points, CurvePoint)
    files.write_record(inside, record)
    return inside


def tables(folder) -> tuple[bytes, bytes]:
    return (folder / files.RUNS_TABLE).read_bytes(), (folder / files.CURVES_TABLE).read_bytes()


def test_gather_makes_sorted_tables_of_the_cells_folders(tmp_path, make_record, make_point):
    plain = [("plain", 110, 0), ("plain", 20, 10), ("plain", 20, 2), ("plain", 8, 0)]
    cells = [("residual", 8, 0), *plain]
    for arm, depth, seed in cells:
        where = {"arm": arm, "depth": depth, "seed": seed}
        cell_folder(
            tmp_path,
            make_record(**where),
            [make_point(**where, iteration=iteration) for iteration in (50, 100, 1000)],
        )
    rows = files.gather(tmp_path)
    names = "plain-8-seed0 plain-20-seed2 plain-20-seed10 plain-110-seed0 residual-8-seed0"
    assert [row.cell for row in rows] == names.split()
    assert files.read_runs(tmp_path) == rows
    points = files.read_curves(tmp_path)
    first = [(depth, seed, i) for depth, seed in ((8, 0), (20, 2)) for i in (50, 100, 1000)]
    assert [(p.depth, p.seed, p.iteration) for p in points[:6]] == first
    assert len(points) == 15


def test_gather_replaces_rows_of_a_cell_measured_again_and_keeps_rows_without_folders(
    tmp_path, make_record, make_point
):
    committed = [
        make_record(depth=depth, seed=seed, test_error=0.5)
        for depth, seed in ((8, 0), (20, 0), (20, 1))
    ]
    files.write_table(tmp_path / files.RUNS_TABLE, committed, Record)
    old_points = [
        make_point(depth=row.depth, seed=row.seed, iteration=iteration)
        for row in committed
        for iteration in (50, 100)
    ]
    files.write_table(tmp_path / files.CURVES_TABLE, old_points, CurvePoint)
    again = make_record(depth=20, test_error=0.25)
    cell_folder(tmp_path, again, [make_point(iteration=70)])
    assert files.gather(tmp_path) == [committed[0], again, committed[2]]
    assert files.read_runs(tmp_path) == [committed[0], again, committed[2]]
    points = [*old_points[:2], make_point(iteration=70), *old_points[4:]]
    assert files.read_curves(tmp_path) == points


def test_any_table_of_a_cell_is_gathered_by_its_columns(tmp_path, make_record):
    for depth, extra in ((56, ""), (20, ",note")):
        within = cell_folder(tmp_path, make_record(depth=depth))
        note = ',"a, b"' if extra else ""
        files.write_text(
            within / "layers.csv",
            f"arm,depth,seed,layer{extra}\nplain,{depth},0,2{note}\nplain,{depth},0,10{note}\n",
        )
        files.write_text(within / "notes.csv", "layer,colour\n1,red\n")
    (tmp_path / "layers.csv").write_text(
        "arm,depth,seed,layer,note\nplain,20,0,7,old\nplain,32,0,1.50,kept\n"
    )
    files.write_table(tmp_path / files.RUNS_TABLE, [make_record(depth=32)], Record)
    files.gather(tmp_path)
    text = (tmp_path / "layers.csv").read_text()
    assert text.splitlines() == [
        "arm,depth,seed,layer,note",
        'plain,20,0,2,"a, b"',
        'plain,20,0,10,"a, b"',
        "plain,32,0,1.50,kept",
        "plain,56,0,2,",
        "plain,56,0,10,",
    ]
    assert not (tmp_path / "notes.csv").exists()
    files.gather(tmp_path)
    assert (tmp_path / "layers.csv").read_text() == text


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("curves.csv", "<<<<<<< HEAD\n", r"curves\.csv lacks the columns arm, depth, seed"),
        ("layers.csv", "arm,depth,seed,layer\n<<<<<<< HEAD\n", r"layers\.csv, line 2: not as many"),
        ("layers.csv", "arm,depth,seed,layer\nplain,2O,0,1\n", r"line 2, depth: '2O' is no int"),
    ],
)
def test_a_damaged_table_is_named_before_anything_is_written(
    tmp_path, make_record, table, text, message
):
    cell_folder(tmp_path, make_record())
    (tmp_path / table).write_text(text)
    with pytest.raises(ValueError, match=message):
        files.gather(tmp_path)
    assert [path.name for path in tmp_path.glob("*.csv")] == [table]


def test_gather_passes_over_cells_of_another_configuration(tmp_path, make_record, config):
    def shared(iterations: int) -> dict:
        return shared_config(
            cell_config(changed(config, "protocol.iterations", iterations), "plain")
        )

    files.write_json(tmp_path / files.CONFIG_FILE, shared(500))
    for depth, iterations in ((20, 500), (56, 2000)):
        record = make_record(depth=depth)
        config_hash = row_hash(shared(iterations), record)
        cell_folder(tmp_path, dataclasses.replace(record, config_hash=config_hash))
    assert [row.depth for row in files.gather(tmp_path)] == [20]


def test_gather_again_changes_no_byte(tmp_path, make_record, make_point):
    cell_folder(
        tmp_path, make_record(train_error=1 / 3, seconds=1e6 / 7), [make_point(train_loss=2 / 3)]
    )
    cell_folder(tmp_path, make_record(arm="residual", status="diverged"))
    files.gather(tmp_path)
    first = tables(tmp_path)
    files.gather(tmp_path)
    assert tables(tmp_path) == first
    for path in tmp_path.glob("runs/*/*"):  # as in a clone: tables are committed, folders are not
        path.unlink()
    files.gather(tmp_path)
    assert tables(tmp_path) == first


def test_gather_passes_over_unfinished_cells_and_folders_set_aside(
    tmp_path, make_record, make_point
):
    new = make_record(test_error=0.25)
    cell_folder(tmp_path, new)
    old = make_record(config_hash="0" * 12, test_error=0.5)
    files.write_record(tmp_path / "runs" / f"{new.cell}.old1", old)
    unfinished = tmp_path / "runs" / "plain-32-seed0"
    files.write_table(unfinished / files.CURVES_TABLE, [make_point(depth=32)], CurvePoint)
    assert files.gather(tmp_path) == [new]
    assert files.read_curves(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (files.RECORD_FILE, '{"arm": "pla', "is damaged: Unterminated .*; the same sweep"),
        (
            files.RECORD_FILE,
            {"train_error": 5.0},
            ", train_error: 5.0 is above 1; the same sweep",
        ),
        (
            files.CURVES_TABLE,
            b"",
            "is damaged: the record has another sha256 of it; restore it, or",
        ),
        (
            files.CURVES_TABLE,
            None,
            "is gone; restore it, or delete .*plain-32-seed0: the same sweep",
        ),
    ],
)
def test_gather_names_a_damaged_cell_and_gathers_the_others(
    tmp_path, make_record, make_point, name, content, message
):
    """The tables keep the rows that they have of it."""
    cells = [make_record(depth=depth) for depth in (20, 32, 44)]
    for record in cells[:2]:
        cell_folder(tmp_path, record, [make_point(depth=record.depth)])
    files.gather(tmp_path)
    cell_folder(tmp_path, cells[2], [make_point(depth=44)])
    path = tmp_path / "runs" / cells[1].cell / name
    if content is None:
        path.unlink()
    else:
        damage(path, content)
    with pytest.raises(files.DamagedCellsError, match=f"^{path}.?{message}"):
        files.gather(tmp_path)
    assert files.read_runs(tmp_path) == cells
    assert [point.depth for point in files.read_curves(tmp_path)] == [20, 32, 44]


def test_a_table_with_rows_of_another_cell_or_of_no_number_is_not_gathered(
    tmp_path, make_record, make_point
):
    """As a run would write that is not ours; the record holds the table's digest."""
    cell_folder(tmp_path, make_record(), [make_point(depth=32)])
    cell_folder(tmp_path, make_record(depth=32), [make_point(depth=32, train_loss=float("nan"))])
    with pytest.raises(files.DamagedCellsError) as error:
        files.gather(tmp_path)
    assert "plain-20-seed0/curves.csv has rows of another cell" in str(error.value)
    assert "curves.csv, line 2, train_loss: nan is not a finite number" in str(error.value)
    assert files.read_runs(tmp_path) == []


def test_gathering_again_writes_nothing(tmp_path, make_record, make_point, monkeypatch):
    """So it works in a folder that is read-only."""
    cell_folder(tmp_path, make_record(), [make_point()])
    files.gather(tmp_path)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refusing(errno.EROFS))
    files.gather(tmp_path)


def test_what_is_committed_is_legal():
    """Checked as `gather` does; runs.csv and curves.csv by their types too."""
    results = ROOT / "results"
    tables = [path for path in results.rglob("*.csv") if not {"local", "runs"} & set(path.parts)]
    assert len(tables) > 200
    for path in tables:
        if row_type := {files.RUNS_TABLE: Record, files.CURVES_TABLE: CurvePoint}.get(path.name):
            assert files.read_table(path, row_type)
        lines = files._lines(path, ())
        _, columns = next(lines)
        checks = [text_check(column) for column in columns]
        for _, row in lines:
            cells = zip(checks, row, strict=True)
            assert not [text for check, text in cells if check and text and check(text)]


def test_gather_waits_for_another_one(tmp_path, make_record):
    cell_folder(tmp_path, make_record())
    with (tmp_path / "runs" / files.GATHER_LOCK).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waits = Thread(target=files.gather, args=(tmp_path,))
        waits.start()
        waits.join(0.1)
        assert waits.is_alive()
        assert not (tmp_path / files.RUNS_TABLE).exists()
    waits.join()
    assert [row.cell for row in files.read_runs(tmp_path)] == ["plain-20-seed0"]


def test_gather_without_cells_writes_nothing(tmp_path):
    (tmp_path / "runs").mkdir()
    assert files.gather(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


# Provenance


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return run("git", "-C", folder, *author, *words).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with one commit of one file and of a .gitignore as ours."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "code.py").write_text("1\n")
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_the_state_of_a_repository(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert files.repository_state(repository) == (commit, True)
    files.write_text(repository / "results" / "depth" / "runs.csv", "a result\n")
    (repository / ".venv").symlink_to(repository / "data")
    assert files.repository_state(repository) == (commit, True)
    (repository / "code.py").write_text("2\n")
    assert files.repository_state(repository) == (commit, False)


def test_a_folder_that_is_no_repository_has_no_commit(repository, tmp_path, monkeypatch):
    unpacked = repository / "data" / "unpacked"
    unpacked.mkdir()
    assert files.repository_state(unpacked) == ("unknown", None)
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    (tmp_path / "elsewhere").mkdir()
    assert files.repository_state(tmp_path / "elsewhere") == ("unknown", None)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert files.repository_state(repository) == (commit, True)
    monkeypatch.setenv("PATH", "")
    assert files.repository_state(repository) == ("unknown", None)


def test_unknown_is_not_unclean(make_record):
    def shown(**values) -> str:
        return measured_on([make_record(**values)]).partition(" on ")[0]

    assert shown(commit="unknown", clean=None) == "Measured at commit unknown"
    assert shown(clean=True) == "Measured at commit c0ffeec0ffee"
    assert shown(clean=False) == "Measured at commit c0ffeec0ffee (tree not clean)"


def test_commits_of_a_run_that_went_on_with_other_code_are_shown(make_record):
    record = make_record(commit="+".join(digit * 40 for digit in "ab"))
    assert measured_on([record]).startswith(f"Measured at commit {'a' * 12}+{'b' * 12} on ")


@pytest.mark.parametrize("module", ["plainres.records.schema", "plainres.run.cell"])
def test_reading_records_needs_no_torch(module):
    heavy = {"torch", "pytorch_lightning", "torchvision"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    assert python("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize("kept", [-1, -2, 5, 1])
def test_a_row_cut_short_is_named(tmp_path, make_record, kept):
    path = tmp_path / "runs.csv"
    files.write_table(path, [make_record()], Record)
    header, row = path.read_text().splitlines()
    path.write_text("\n".join([header, ",".join(row.split(",")[:kept])]) + "\n")
    with pytest.raises(ValueError, match=r"runs\.csv, line 2"):
        files.read_runs(tmp_path)


def test_gather_takes_a_record_of_another_version(tmp_path, make_record):
    inside = cell_folder(tmp_path, make_record())
    values = files.read_json(inside / files.RECORD_FILE)
    values.pop("sha256")
    files.write_json(inside / files.RECORD_FILE, values | {"added_later": 1})
    assert len(files.gather(tmp_path)) == 1


def test_a_tables_row_of_a_cell_without_record_is_named(tmp_path, make_record, make_point):
    files.write_table(tmp_path / files.RUNS_TABLE, [make_record()], Record)
    rows = [make_point(), make_point(arm="plein")]
    files.write_table(tmp_path / files.CURVES_TABLE, rows, CurvePoint)
    with pytest.raises(files.DamagedFileError, match="rows of plein-20-seed0, and"):
        files.gather(tmp_path)


def test_weights_are_those_that_the_cell_ended_with(tmp_path, make_record):
    weights = tmp_path / files.WEIGHTS_FILE
    with files.atomic(weights) as part:
        part.write(b"weights")
    files.write_record(tmp_path, make_record())
    assert files.has_weights(tmp_path)
    weights.write_bytes(b"weights of another cell")
    assert not files.has_weights(tmp_path)
    (tmp_path / files.RECORD_FILE).write_text("[1]")
    assert not files.has_weights(tmp_path)
    weights.unlink()
    assert not files.has_weights(tmp_path)
