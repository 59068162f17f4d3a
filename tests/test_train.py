"""One run from configuration to record: its numbers, which no interruption changes."""

import dataclasses
import errno
import json
import logging
import math
import os
import platform
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from composing import ROOT, compose_cell, python
from PIL import Image
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray
from torch import nn
from torchvision import models
from trained import SHORT, SMOKE, curve, interrupt, numbers

from plainres.data import sources
from plainres.data.batches import Normaliser
from plainres.networks import blocks
from plainres.networks.resnet import CifarNetwork, imagenet_weights_file
from plainres.records import files, schema
from plainres.records.checks import reader
from plainres.records.files import CHECKPOINT_FILE
from plainres.records.identity import config_hash
from plainres.run import train
from plainres.run.trained import TrainedNetwork
from plainres.training import checkpoints, machine
from plainres.training.instructions import ONEDNN
from plainres.training.module import Classifier
from plainres.training.runlog import RunLog, Start
from plainres.training.update import updates_per_step


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A cell and its record. Tests that change its folder take `changeable`."""
    cell = compose_cell(tmp_path_factory.mktemp("undisturbed"), *SMOKE)
    return cell, train.train_cell(cell)


@pytest.fixture
def changeable(undisturbed, tmp_path):
    """The same in a folder of the test's own, where further overrides compose a cell."""
    shutil.copytree(undisturbed[0].folder, compose_cell(tmp_path, *SMOKE).folder)
    return partial(compose_cell, tmp_path, *SMOKE), undisturbed[1]


def test_a_record_says_what_was_measured_and_where(undisturbed):
    cell, record = undisturbed
    assert record == files.read_record(cell.folder)
    assert (record.cell, record.shortcut) == ("residual-8-seed0", "zero_pad")
    assert (record.protocol, record.data_label, record.num_classes) == ("smoke", "digits", 10)
    assert (record.status, record.iterations, record.error_window) == (schema.FINISHED, 24, 12)
    stem, first, second, third, head = 64 * 18, 2 * 64 * 36, 16 * (72 + 144), 4 * (288 + 576), 80
    assert record.num_multiply_adds == stem + first + second + third + head
    assert record.config_hash == config_hash(cell.identity)
    assert record.torch == torch.__version__
    assert record.commit == files.repository_state(ROOT)[0]
    assert (record.precision, record.kernels) == ("32-true", "library")
    capability = torch.backends.cpu.get_cpu_capability()
    assert record.instruction_set.startswith(f"ATen {capability} / oneDNN ")
    assert min(record.seconds, record.peak_memory_mib) > 0
    for name in ("train_error", "train_error_eval", "test_error"):
        assert 0 < getattr(record, name) < 1
    points = files.read_table(cell.folder / files.CURVES_TABLE, schema.CurvePoint)
    assert [point.iteration for point in points] == [4, 8, 12, 16, 20, 24]
    assert [point.iteration for point in points if point.test_error is not None] == [8, 16, 24]
    assert points[-1].train_error == pytest.approx(record.train_error, rel=1e-5)
    assert points[-1].test_error == pytest.approx(record.test_error, rel=1e-5)
    assert [point.learning_rate for point in points] == pytest.approx(
        [cell.schedule.at(p.iteration - 1, 8) for p in points], rel=1e-5
    )
    assert not (cell.folder / CHECKPOINT_FILE).exists()


def test_train_error_is_the_mean_over_the_last_window_of_iterations(tmp_path, monkeypatch):
    errors = []
    step = Classifier.training_step

    def training_step(self, draws, batch_idx):
        step(self, draws, batch_idx)
        errors.append(float(self.window_errors[draws.iteration % self.window]))

    monkeypatch.setattr(Classifier, "training_step", training_step)
    record = train.train_cell(compose_cell(tmp_path, *SMOKE))
    assert len(errors) == 24
    assert record.train_error == pytest.approx(sum(errors[-12:]) / 12, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "depth", "size", "options"),
    [
        ("lenet5", 5, 32, ()),
        ("se", 8, 8, ()),
        ("projection", 8, 8, ()),
        ("residual_imagenet", 18, 32, ("model.width=2",)),
        ("plain_imagenet", 18, 32, ("model.width=2",)),
        ("alexnet", 8, 32, ("model.width=12", "model.head=small")),
        ("vgg", 11, 32, ("model.width=4", "model.head=small", "model.norm=batch")),
    ],
)
def test_other_networks_train_through_the_same_path(tmp_path, model, depth, size, options):
    words = (f"model={model}", f"model.depth={depth}", f"data.pad_to={size}", *options)
    short = ("protocol=smoke", *SHORT, "protocol.iterations=4")
    record = train.train_cell(compose_cell(tmp_path, *short, *words))
    assert (record.cell, record.status) == (f"{model}-{depth}-seed0", schema.FINISHED)
    assert record.iterations == 4


def test_error_window_defaults_to_one_epoch(tmp_path):
    cell = compose_cell(tmp_path, *SMOKE, "protocol.error_window=null", "protocol.batch_size=128")
    assert train.train_cell(cell).error_window == 11  # 1,408 training digits


def test_the_same_cell_gives_the_same_record(undisturbed, tmp_path):
    again = compose_cell(tmp_path / "again", *SMOKE)
    assert numbers(train.train_cell(again)) == numbers(undisturbed[1])
    assert curve(again) == curve(undisturbed[0])


@pytest.mark.parametrize("jobs", [1, 2])
def test_cells_have_one_thread_however_many_run_at_once(undisturbed, tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(machine, "num_cores", lambda: 4)
    cell = compose_cell(tmp_path, *SMOKE, f"jobs={jobs}")
    record = train.train_cell(cell)
    assert record.threads == 1
    assert numbers(record) == numbers(undisturbed[1])


def test_more_threads_stand_in_the_record_and_in_the_identity(undisturbed, tmp_path):
    record = train.train_cell(compose_cell(tmp_path, *SMOKE, "threads=2"))
    torch.set_num_threads(1)
    assert record.threads == 2
    assert record.config_hash != undisturbed[1].config_hash


@pytest.mark.parametrize(
    "overrides",
    [
        "seed=1",
        "model=plain",
        "model.depth=14",
        "protocol.nesterov=true",
        "protocol.clip_norm=0.1",
        "protocol.perturbation=0.01",
        "model.initialisation=pytorch",
        "model.initialisation=dirac",
        "model=scaled",
        "model=projection_everywhere",
        "model=every_second model.depth=14",
    ],
)
def test_another_cell_gives_other_numbers(undisturbed, tmp_path, overrides):
    other = train.train_cell(compose_cell(tmp_path / "other", *SMOKE, *overrides.split()))
    assert other.train_loss != undisturbed[1].train_loss


# Within an interval; right after an evaluation, where the last checkpoint is one iteration older;
# after the next one; at the last update
@pytest.mark.parametrize(("iteration", "resumed_at"), [(5, 5), (8, 7), (9, 9), (23, 23)])
def test_an_interrupted_run_ends_with_the_record_of_an_undisturbed_one(
    undisturbed, tmp_path, monkeypatch, iteration, resumed_at
):
    cell = compose_cell(tmp_path, *SMOKE, "checkpoint_seconds=0")
    interrupt(cell, iteration)
    assert files.read_record(cell.folder) is None
    steps = []
    step = Classifier.training_step

    def training_step(self, draws, batch_idx):
        steps.append(draws.iteration)
        return step(self, draws, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", training_step)
    record = train.train_cell(cell)
    assert steps == list(range(resumed_at, 24)), "it continues where the checkpoint is"
    assert numbers(record) == numbers(undisturbed[1])
    assert curve(cell) == curve(undisturbed[0])


def test_auxiliary_heads_train_by_their_weight(tmp_path):
    few = (*SHORT, "protocol.iterations=2", "protocol.batch_size=8", "protocol.evaluation_images=8")
    trained = {}
    for weight in (0, 0.3):
        words = ("model=googlenet", f"model.auxiliary_weight={weight}", "data.image_size=32")
        keep = ("keep_weights=true", "protocol=smoke")
        cell = compose_cell(tmp_path / str(weight), *keep, *few, *words)
        record = train.train_cell(cell)
        assert (record.status, record.iterations) == (schema.FINISHED, 2)
        trained[weight] = torch.load(cell.folder / files.WEIGHTS_FILE, weights_only=True)
    for name in ("aux1.fc2.bias", "aux2.fc2.bias"):
        assert not torch.equal(trained[0][name], trained[0.3][name])


def test_dropout_goes_on_where_it_was(tmp_path):
    model = ("model=alexnet", "model.depth=8", "model.width=12", "model.head=small")
    words = (*SMOKE, *model, SHORT[1], "data.pad_to=32", "checkpoint_seconds=0")
    record = train.train_cell(compose_cell(tmp_path / "undisturbed", *words))
    cell = compose_cell(tmp_path / "interrupted", *words)
    interrupt(cell, 13)
    assert numbers(train.train_cell(cell)) == numbers(record)


def test_a_run_keeps_the_precision_it_began_with(tmp_path, monkeypatch):
    cell = compose_cell(tmp_path, *SMOKE, "checkpoint_seconds=0")
    monkeypatch.setattr(machine, "pick_precision", lambda *_: "bf16-mixed")
    interrupt(cell, 6)
    monkeypatch.setattr(machine, "pick_precision", lambda *_: "32-true")
    assert train.train_cell(cell).precision == "bf16-mixed"


@pytest.mark.parametrize("before", ["library", "fused"])
def test_a_run_keeps_the_kernels_it_began_with(tmp_path, before):
    pytest.importorskip("numba")
    words = (*SMOKE, "checkpoint_seconds=0", "protocol.width=4", "protocol.batch_size=32")
    interrupt(compose_cell(tmp_path, *words, f"kernels={before}"), 6)
    assert train.train_cell(compose_cell(tmp_path, *words, "kernels=auto")).kernels == before


def test_a_run_is_not_continued_with_kernels_that_it_did_not_begin_with(tmp_path):
    """Activations that are not kept need other kernels, and are no part of the configuration."""
    pytest.importorskip("numba")
    words = (*SMOKE, "checkpoint_seconds=0", "protocol.width=4", "protocol.batch_size=32")
    interrupt(compose_cell(tmp_path, *words), 6)
    changed = compose_cell(tmp_path, *words, "model.checkpoint_activations=true")
    with pytest.raises(
        ValueError, match="written with fused kernels, and this network has library"
    ):
        train.train_cell(changed)
    assert train.train_cell(compose_cell(tmp_path, *words)).kernels == "fused"


def test_kernels_that_were_asked_for_and_cannot_be_had_are_refused(tmp_path):
    pytest.importorskip("numba")
    words = ("protocol.batch_size=40", "protocol.width=4", "kernels=fused")
    with pytest.raises(
        ValueError, match="fused are not for this network and batch; legal: auto, li"
    ):
        train.train_cell(compose_cell(tmp_path, *SMOKE, *words))


def test_logging_within_a_training_step_is_refused(tmp_path):
    overrides = (*SMOKE, "checkpoint_seconds=0")
    interrupt(compose_cell(tmp_path, *overrides, "updates_per_step=2"), 6)
    message = r"with 2 updates per step; log_every 3 .* must be multiples of 2"
    with pytest.raises(ValueError, match=message):
        train.train_cell(compose_cell(tmp_path, *overrides, "protocol.log_every=3"))


def test_updates_per_step_change_no_number(undisturbed, tmp_path):
    cell = compose_cell(tmp_path / "steps", *SMOKE, "updates_per_step=3")
    assert updates_per_step(3, 4, 8) == 2
    assert numbers(train.train_cell(cell)) == numbers(undisturbed[1])
    assert curve(cell) == curve(undisturbed[0])


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 2)])
def test_a_run_keeps_the_updates_per_step_that_it_began_with(undisturbed, tmp_path, before, after):
    overrides = (*SMOKE, "checkpoint_seconds=0")
    for iteration, length in ((6, before), (18, after)):
        interrupt(compose_cell(tmp_path, *overrides, f"updates_per_step={length}"), iteration)
    cell = compose_cell(tmp_path, *overrides)
    assert numbers(train.train_cell(cell)) == numbers(undisturbed[1])
    assert curve(cell) == curve(undisturbed[0])


@pytest.mark.parametrize(
    "override",
    [
        "model.checkpoint_activations=true",
        "+callbacks={rates:{_target_:pytorch_lightning.callbacks.Timer}}",
    ],
)
def test_checkpointed_activations_and_callbacks_are_the_same_cell(undisturbed, tmp_path, override):
    cell = compose_cell(tmp_path, *SMOKE, override)
    assert cell.identity == undisturbed[0].identity
    assert numbers(train.train_cell(cell)) == numbers(undisturbed[1])


def flip(path, place):
    """Flips one bit, at a place from 0 (the first byte) to 1."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def edit(path, **values):
    """Writes a checkpoint again with other values, and a seal that fits."""
    checkpoints.save({**torch.load(path, weights_only=True), **values}, path)


@pytest.fixture
def stopped(tmp_path):
    """A cell with two checkpoints, of iterations 9 and 10."""
    cell = compose_cell(tmp_path / "stopped", *SMOKE, "checkpoint_seconds=0")
    interrupt(cell, 10)
    return cell


DAMAGE = {
    **{f"bit at {place}": partial(flip, place=place) for place in (0, 0.3, 0.6, 0.9, 0.99, 1)},
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(4096)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "foreign": lambda path: checkpoints.save({"epoch": 3}, path),
    "negative iteration": partial(edit, iteration=-8),
    "iteration 9 of 10": partial(edit, iteration=9),
    "iteration beyond the end": partial(edit, iteration=1000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(undisturbed, stopped, damage, caplog):
    damage(stopped.folder / CHECKPOINT_FILE)
    record = train.train_cell(stopped)
    assert numbers(record) == numbers(undisturbed[1])
    assert curve(stopped) == curve(undisturbed[0])
    assert (stopped.folder / "last.corrupt").exists()
    line = r"last\.ckpt is damaged \(.*\): set aside as last\.corrupt; it continues at iteration 9$"
    notice = files.read_json(stopped.folder / files.PROGRESS_FILE)["notice"]
    assert re.search(line, notice)
    assert f"{stopped.name}: {notice}" in caplog.messages


def test_without_an_intact_checkpoint_the_cell_starts_again(undisturbed, stopped, caplog):
    for name in files.CHECKPOINT_FILES:
        (stopped.folder / name).write_bytes(b"PK\x03\x04 half a file")
    record = train.train_cell(stopped)
    assert numbers(record) == numbers(undisturbed[1])
    assert (stopped.folder / "last.corrupt").read_bytes() == b"PK\x03\x04 half a file"
    assert "set aside as previous.corrupt; it starts again" in caplog.text


def test_a_kill_between_two_checkpoints_leaves_one(undisturbed, stopped, caplog):
    (stopped.folder / CHECKPOINT_FILE).unlink()
    with caplog.at_level(logging.INFO):
        assert numbers(train.train_cell(stopped)) == numbers(undisturbed[1])
    assert "continues at iteration 9" in caplog.messages
    assert not (stopped.folder / "last.corrupt").exists()


def test_another_cells_checkpoint_is_not_continued(undisturbed, stopped, tmp_path, caplog):
    other = compose_cell(tmp_path / "other", *SMOKE, "seed=1", "checkpoint_seconds=0")
    interrupt(other, 13)
    shutil.copy(other.folder / CHECKPOINT_FILE, stopped.folder / CHECKPOINT_FILE)
    assert numbers(train.train_cell(stopped)) == numbers(undisturbed[1])
    assert "last.ckpt is damaged (of another configuration)" in caplog.text


def test_a_run_that_goes_on_with_other_code_names_both(stopped, monkeypatch):
    before = files.repository_state(ROOT)[0]
    monkeypatch.setattr(files, "repository_state", lambda folder: ("c0ffee" * 7, False))
    record = train.train_cell(stopped)
    assert record.commit == f"{before}+{'c0ffee' * 7}"
    assert not record.clean


def test_code_that_is_not_known_is_said():
    older = Start(None, 0, 1, "32-true", "", "0123456789ab")  # checkpoints had no commit
    here = older.continued("c0ffee" * 7, True)
    assert (here.commit, here.clean) == (f"unknown+{'c0ffee' * 7}", None)
    there = here.continued("c0ffee" * 7, False)
    assert (there.commit, there.clean) == (here.commit, False)
    assert reader(schema.Record, "commit")(there.commit) == there.commit


def test_a_checkpoint_of_other_code_is_refused_in_one_line(stopped):
    path = stopped.folder / CHECKPOINT_FILE
    weights = torch.load(path, weights_only=True)["state_dict"]
    edit(path, state_dict={name.replace("fc", "head"): weights[name] for name in weights})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"last\.ckpt does not fit this code .*; .*delete"):
        train.train_cell(stopped)
    assert path.read_bytes() == before


def test_a_checkpoint_of_newer_code_is_refused_and_kept(stopped):
    path = stopped.folder / CHECKPOINT_FILE
    callbacks = torch.load(path, weights_only=True)["callbacks"]
    callbacks["RunLog"]["start"]["invented_later"] = 1
    edit(path, callbacks=callbacks)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"does not fit this code \(unknown: invented_later\)"):
        train.train_cell(stopped)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), RuntimeError("can't allocate memory")]
)
def test_a_checkpoint_that_cannot_be_read_now_is_kept(stopped, monkeypatch, error):
    path = stopped.folder / CHECKPOINT_FILE
    before = path.read_bytes()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error), match=str(error.args[-1])):
        train.train_cell(stopped)
    assert path.read_bytes() == before


def test_a_checkpoint_needs_no_other_folder_and_leaves_nothing_behind(
    undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    cell = compose_cell(tmp_path, *SMOKE, "checkpoint_seconds=0")
    interrupt(cell, 10)
    (cell.folder / ".last.ckpt.0123abcd.part").write_bytes(b"what a kill left")
    assert numbers(train.train_cell(cell)) == numbers(undisturbed[1])
    assert not [path for pattern in ("*.ckpt", ".*.part") for path in cell.folder.glob(pattern)]


class FullDisk:
    """A file on a disk that takes so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint(undisturbed, stopped, monkeypatch):
    path = stopped.folder / CHECKPOINT_FILE
    before = path.read_bytes()
    named = tempfile.NamedTemporaryFile

    @contextmanager
    def full(*args, prefix="", **options):
        with named(*args, prefix=prefix, **options) as file:
            yield FullDisk(file, 20_000 if prefix.startswith(f".{CHECKPOINT_FILE}") else 10**9)

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "NamedTemporaryFile", full)
        with pytest.raises(OSError, match="No space left on device") as refusal:
            train.train_cell(stopped)
    assert str(path) in str(refusal.value)
    assert path.read_bytes() == before
    assert not list(stopped.folder.glob(".*.part"))
    assert numbers(train.train_cell(stopped)) == numbers(undisturbed[1])


@dataclasses.dataclass(frozen=True)
class Scaling:
    arm: str
    depth: int
    seed: int
    factor: float


def scale_last_layer(network, weights, folder, cell, factor, **_):
    """What a new question brings: a network made of a parent's, and a table of its own."""
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.fc.weight.data *= factor
    files.write_table(folder / "scalings.csv", [Scaling(*cell, factor)], Scaling)
    return network


def test_a_new_question_continues_a_trained_network_without_a_change_of_the_core(tmp_path):
    train.train_cell(compose_cell(tmp_path, *SMOKE, "folder=parent", "keep_weights=true"))
    short = (*SMOKE, "folder=child", "keep_weights=true", "protocol.learning_rate=0")
    child = "child={_target_: test_train.scale_last_layer, parent: parent, factor: 0.5}"
    cell = compose_cell(tmp_path, *short, child)
    assert train.train_cell(cell).status == schema.FINISHED
    assert "_target_" not in cell.identity["child"]
    old, new = (
        torch.load(folder / files.WEIGHTS_FILE, weights_only=True)["fc.weight"]
        for folder in (cell.parent_folder, cell.folder)
    )
    assert torch.equal(new, 0.5 * old)
    with pytest.raises(ValueError, match=r"made from another one \(child\); legal: one that was"):
        TrainedNetwork.load(cell.folder)
    files.gather(cell.results_folder)
    rows = files.read_table(cell.results_folder / "scalings.csv", Scaling)
    assert rows == [Scaling("residual", 8, 0, 0.5)]
    with pytest.raises(ValueError, match=r"^child\._target_ is not set"):
        train.train_cell(compose_cell(tmp_path, *SMOKE, "folder=other", "child={parent: parent}"))


def test_a_finished_cell_is_not_trained_again(undisturbed, monkeypatch):
    cell, record = undisturbed
    monkeypatch.setattr(train, "build", lambda cell: pytest.fail("it was trained again"))
    assert train.train_cell(cell) == record
    monkeypatch.setattr(train.os, "access", lambda path, mode: False)  # a read-only folder
    monkeypatch.setattr(train.Cell, "locked", lambda cell: pytest.fail("it wrote a lock"))
    assert train.train_cell(cell) == record


def test_another_configuration_is_refused_and_force_keeps_the_old_folder(changeable):
    compose, record = changeable
    overrides = ("protocol.weight_decay=0.5",)
    message = r"protocol\.weight_decay: 0\.0001 → 0\.5.*FORCE=1.*folder="
    with pytest.raises(ValueError, match=message):
        train.train_cell(compose(*overrides))
    folder = compose().folder
    new = train.train_cell(compose(*overrides, "force=true"))
    assert new.config_hash != record.config_hash
    aside = folder.with_name(f"{folder.name}.old1")
    assert files.read_record(aside) == record


def test_a_start_that_measured_nothing_does_not_keep_the_folder(tmp_path):
    with pytest.raises(ValueError, match="batch"):
        train.train_cell(compose_cell(tmp_path, *SMOKE, "protocol.batch_size=5000"))
    assert train.train_cell(compose_cell(tmp_path, *SMOKE)).status == schema.FINISHED


def test_a_run_whose_loss_is_not_finite_ends_as_a_diverged_record(tmp_path):
    cell = compose_cell(tmp_path, *SMOKE, "model=plain", "protocol.learning_rate=1e30")
    record = train.train_cell(cell)
    assert record.status == schema.DIVERGED
    assert record.iterations < 24
    errors = (record.train_error, record.train_error_eval, record.test_error)
    assert (*errors, record.train_loss) == (None,) * 4
    assert cell.finished() == record


def test_a_test_loss_that_is_not_finite_is_left_out(tmp_path, monkeypatch):
    """Evaluation mode can overflow where training does not; the run goes on."""
    infinite = {"test_loss": math.inf}
    evaluate, validated = train._evaluate, RunLog.on_validation_end
    monkeypatch.setattr(train, "_evaluate", lambda *words: evaluate(*words) | infinite)

    def on_validation_end(self, trainer, pl_module):
        seen = SimpleNamespace(
            state=trainer.state,
            logger=trainer.logger,
            callback_metrics={**trainer.callback_metrics, **infinite},
        )
        validated(self, seen, pl_module)

    monkeypatch.setattr(RunLog, "on_validation_end", on_validation_end)
    cell = compose_cell(tmp_path, *SMOKE)
    record = train.train_cell(cell)
    assert (record.status, record.test_loss) == (schema.FINISHED, None)
    assert cell.finished() == record
    points = files.read_table(cell.folder / files.CURVES_TABLE, schema.CurvePoint)
    assert any(point.test_error is not None for point in points)
    assert all(point.test_loss is None for point in points)


def test_a_validation_set_is_evaluated_when_asked_for(tmp_path):
    record = train.train_cell(compose_cell(tmp_path, *SMOKE, "data.val_size=200"))
    assert 0 < record.val_error < 1
    assert record.val_error * 200 == pytest.approx(round(record.val_error * 200), abs=1e-3)


def test_event_files_hold_curves_by_arm_hyper_parameters_and_the_layout(undisturbed):
    cell, record = undisturbed
    tags: set[str] = set()
    written = b""
    for path in cell.folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(path))
        events.Reload()
        tags |= set(events.Tags()["scalars"])
        written += path.read_bytes()
    errors = ("train_error_percent", "train_error_log10_percent", "test_error_percent")
    curves = (*errors, "train_loss", "learning_rate", "images_per_second")
    assert {f"{name}/residual" for name in curves} <= tags
    assert {"final/train_error_percent", "final/test_error_percent"} <= tags
    layout = ("custom_scalars__config__", "train_error_percent/plain")
    for text in ("_hparams_/session_start_info", *layout, "digits"):
        assert text.encode() in written
    for text in (record.config_hash, record.commit):
        assert text.encode() not in written


def scalars(cell):
    """Step and value of each point by tag, in the order of the event files."""
    points: dict[str, list] = {}
    for path in sorted(cell.folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    point = event.step, make_ndarray(value.tensor).item()
                    points.setdefault(value.tag, []).append(point)
    return {tag: points[tag] for tag in points if not tag.startswith("images_per_second")}


@pytest.mark.parametrize("checkpoint_seconds", [0, 1000])
def test_a_continued_runs_events_are_those_of_an_undisturbed_one(
    undisturbed, tmp_path, checkpoint_seconds
):
    cell = compose_cell(tmp_path, *SMOKE, f"checkpoint_seconds={checkpoint_seconds}")
    for iteration in (9, 13, 21):
        interrupt(cell, iteration)
        path = max(cell.folder.glob("events.out.tfevents.*"))
        path.write_bytes(path.read_bytes()[:-20])  # a kill
    train.train_cell(cell)
    assert scalars(cell) == scalars(undisturbed[0])
    shown = scalars(cell)["train_error_percent/residual"]
    assert [step for step, _ in shown] == [4, 8, 12, 16, 20, 24]


def test_events_of_an_older_checkpoint_get_the_tags_of_today(tmp_path):
    """It names a value with the arm behind it."""
    cell = compose_cell(tmp_path, *SMOKE)
    run = train.build(cell)
    events = [(0.0, 4, {"train_error/residual": 0.5, "train_loss/residual": 1.25})]
    state = {"curve": [], "events": events, "seconds": 0.0, "generators": []}
    run.runlog.load_state_dict(state)
    run.runlog.on_train_start(run.trainer, SimpleNamespace(iteration=4))
    run.trainer.logger.finalize("success")
    assert scalars(cell) == {
        "train_error_percent/residual": [(4, 50.0)],
        "train_error_log10_percent/residual": [(4, pytest.approx(1.69897))],
        "train_loss/residual": [(4, 1.25)],
    }


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "sweep.sh"},
        {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "sweep.sh", "SLURM_PROCID": "0"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"PL_TRAINER_LIMIT_TRAIN_BATCHES": "3", "PL_TRAINER_LIMIT_VAL_BATCHES": "1"},
    ],
    ids=["Slurm, two tasks", "Slurm", "torchrun", "Lightning"],
)
def test_what_a_launcher_puts_into_the_environment_does_not_reach_a_cell(
    undisturbed, tmp_path, monkeypatch, environment
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning reads it when it is imported
    cell = compose_cell(tmp_path, *SMOKE)
    cell.folder.mkdir(parents=True)
    (cell.folder / "hpc_ckpt_1.ckpt").write_bytes(b"what Lightning continues with under Slurm")
    assert numbers(train.train_cell(cell)) == numbers(undisturbed[1])
    assert scalars(cell) == scalars(undisturbed[0])
    assert environment.items() <= os.environ.items()


def test_progress_is_there_for_the_display(undisturbed):
    cell = undisturbed[0]
    progress = json.loads((cell.folder / files.PROGRESS_FILE).read_text())
    assert (progress["iteration"], progress["iterations"]) == (24, 24)
    assert progress["seconds_remaining"] == 0
    points = files.read_table(cell.folder / files.CURVES_TABLE, schema.CurvePoint)
    errors = [point.train_error for point in points]
    assert progress["train_errors"] == pytest.approx(errors, rel=1e-3)


def test_time_left_forgets_a_slow_first_iteration_and_the_load_of_an_hour_ago(
    tmp_path, monkeypatch
):
    clock = SimpleNamespace(now=0.0, time=time.time, monotonic=lambda: clock.now)
    monkeypatch.setattr("plainres.training.runlog.time", clock)
    start = Start(None, 0, 1, "32-true", "", "0123456789ab")
    log = RunLog(("plain", 20, 0), tmp_path, start, 1, 100, 1e9, iterations=1000, batch_size=128)
    module = SimpleNamespace(
        iteration=0, running_error_and_loss=lambda: (0.5, 1.0), learning_rate=lambda _: 0.1
    )
    trainer = SimpleNamespace(logger=None)
    log.on_train_start(trainer, module)
    left = []
    for iterations, seconds in ((1, 30.0), (1, 1.0), (100, 1.0), (300, 2.0)):
        for _ in range(iterations):
            clock.now += seconds
            module.iteration += 1
            log.on_train_batch_end(trainer, module, None, None, 0)
        left.append(files.read_progress(tmp_path).seconds_remaining)
    assert left[0] is None
    paces = [each / (1000 - done) for each, done in zip(left[1:], (2, 102, 402), strict=True)]
    assert paces == pytest.approx([1.0, 1.0, 2.0])
    assert len(files.read_progress(tmp_path).train_errors) <= 64


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator of glibc")
@pytest.mark.parametrize(
    ("environment", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)]
)
def test_freed_memory_is_kept_unless_the_environment_says_how(environment, kept):
    """Page faults of a second round of the same allocations, in a process of its own."""
    script = """
import resource, torch
from plainres.training import machine
machine.keep_freed_memory()
faults = []
for _ in range(3):
    blocks = [torch.ones(1 << 20) for _ in range(32)]  # 4 MiB each
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[2] - faults[1])
"""
    process = python("-c", script, **environment)
    pages = (128 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert (int(process.stdout) < pages / 10) == kept


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"avx512_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true")],
)
def test_precision_auto_is_bf16_only_where_the_processor_has_it(
    monkeypatch, capabilities, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.delenv(ONEDNN, raising=False)
    assert machine.pick_precision("auto", torch.device("cpu")) == precision
    assert machine.pick_precision("32-true", torch.device("cpu")) == "32-true"
    with pytest.raises(ValueError, match="legal: auto, 32-true, bf16-mixed"):
        machine.pick_precision("fp8", torch.device("cpu"))


def test_bf16_trains_to_nearly_the_same_loss(undisturbed, tmp_path):
    record = train.train_cell(compose_cell(tmp_path, *SMOKE, "protocol.precision=bf16-mixed"))
    assert record.precision == "bf16-mixed"
    assert record.train_loss == pytest.approx(undisturbed[1].train_loss, rel=0.05)


def test_under_bf16_the_loss_is_taken_in_float32():
    network = nn.Linear(4, 3)
    options = {"momentum": 0.9, "weight_decay": 0.0, "window": 1}
    module = Classifier(network, None, lambda step: 0.1, **options, dtype=torch.bfloat16)
    images = torch.randn(2, 4)
    logits = module(images)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float()), "multiplied in bfloat16"
    assert not torch.equal(logits, network(images))


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="legal here: auto, cpu"):
        train.train_cell(compose_cell(tmp_path, *SMOKE, "accelerator=gpu"))
    with pytest.raises(ValueError, match="legal: auto, cpu, gpu"):
        train.train_cell(compose_cell(tmp_path, *SMOKE, "accelerator=tpux"))


@pytest.mark.parametrize(
    ("device", "precision", "triton", "expected"),
    [
        ("cpu", "32-true", True, "fused"),
        ("cpu", "bf16-mixed", True, "library"),
        ("cuda", "bf16-mixed", True, "fused"),
        ("cuda", "32-true", True, "compiled"),
        ("cuda", "bf16-mixed", False, "library"),
    ],
)
def test_the_fastest_kernels_that_there_are(device, precision, triton, expected, monkeypatch):
    monkeypatch.setattr(machine, "has_triton", lambda: triton)
    assert machine.pick_kernels("auto", torch.device(device), precision) == expected
    assert machine.pick_kernels("compiled", torch.device(device), precision) == "compiled"
    if expected != "fused":
        with pytest.raises(ValueError, match="legal here: auto, library, compiled"):
            machine.pick_kernels("fused", torch.device(device), precision)


def test_unknown_kernels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="legal: auto, library, compiled, fused"):
        train.train_cell(compose_cell(tmp_path, *SMOKE, "kernels=quick"))


def test_a_network_that_cannot_be_fused_is_compiled(monkeypatch):
    pytest.importorskip("triton")
    compiled = []
    monkeypatch.setattr(blocks, "compile_blocks", compiled.append)
    narrow, wide = CifarNetwork(8, "zero_pad", width=2), CifarNetwork(8, "zero_pad", width=16)
    gpu, batch = torch.device("cuda"), (128, 3, 32, 32)
    assert machine.use_kernels(narrow, "fused", gpu, batch) == "compiled"
    assert machine.use_kernels(wide, "fused", gpu, batch) == "fused"
    assert compiled == [narrow]


def test_kept_weights_give_the_errors_of_the_record(changeable):
    compose, record = changeable
    keeping = compose("keep_weights=true")
    assert not (keeping.folder / files.WEIGHTS_FILE).exists()
    assert keeping.finished() is None, "finished, but without weights"
    assert numbers(train.train_cell(keeping)) == numbers(record)
    path = keeping.folder / files.WEIGHTS_FILE
    weights = torch.load(path, weights_only=True)
    assert keeping.finished() is not None
    # 1,408 training images: the last batch of an evaluation is smaller
    source = sources.load("digits")
    network = CifarNetwork(8, "zero_pad", width=2, in_channels=1).eval()
    network.load_state_dict(weights)
    normaliser = Normaliser(source.train.pixels, "channel")
    errors = ((source.train, record.train_error_eval), (source.test, record.test_error))
    for images, error in errors:
        logits = network(normaliser(images.pixels / 255))
        wrong = (logits.argmax(1) != images.labels).double().mean().item()
        assert error == pytest.approx(wrong, abs=1e-6)


def test_a_cell_with_damaged_weights_is_not_finished(changeable, caplog):
    compose, record = changeable
    cell = compose("keep_weights=true")
    train.train_cell(cell)
    path = cell.folder / files.WEIGHTS_FILE
    weights = path.read_bytes()
    for damage in ("bit at 0.3", "bit at 0.9", "cut", "empty", "a folder"):
        DAMAGE[damage](path)
        assert cell.finished() is None, damage
        if path.is_dir():
            path.rmdir()
        path.write_bytes(weights)
    path.write_bytes(b"")
    assert numbers(train.train_cell(cell)) == numbers(record)
    assert "weights.pt is missing or damaged; it starts again" in caplog.text
    assert path.read_bytes() == weights
    torch.save(torch.load(path, weights_only=True), path)
    assert cell.finished() is None, "other bytes than those of the record"
    older = json.loads((cell.folder / files.RECORD_FILE).read_text())
    del older["weights"], older["sha256"]  # as before files were sealed
    files.write_json(cell.folder / files.RECORD_FILE, older)
    assert cell.finished() is not None


def test_pictures_of_ones_own_fine_tune_what_torchvision_trained(tmp_path, hub):
    photos = sources.load("photos", image_size=160)
    for part, images in (("train", photos.train), ("test", photos.test)):
        for number in (0, 20, 40, 64, 84, 104):
            name = photos.class_names[images.labels[number]]
            path = tmp_path / "pictures" / part / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.pixels[number].permute(1, 2, 0).numpy()).save(path)
    path = imagenet_weights_file(18)
    path.parent.mkdir()
    torch.save(models.resnet18().state_dict(), path)
    few = ("protocol.iterations=2", SHORT[0], "protocol.batch_size=6", "data.image_size=64")
    source = ("data=image_folder", f"data.root={tmp_path / 'pictures'}", "data.label=mine")
    model = ("model=residual_imagenet", "model.depth=18", "model.weights=imagenet")
    words = ("protocol=finetune", *few, *source, *model)
    record = train.train_cell(compose_cell(tmp_path, *words))
    assert (record.num_classes, record.data_label, record.status) == (2, "mine", schema.FINISHED)
    path.unlink()
    with pytest.raises(ValueError, match=r"model\.weights=null trains from scratch"):
        train.train_cell(compose_cell(tmp_path / "again", *words))
