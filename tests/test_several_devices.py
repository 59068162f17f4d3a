"""A run on several devices: the batch of one device in shares, and nothing else that differs.

Two processes on the CPU find each other over gloo; the networks are small.
"""

import multiprocessing
import os
import signal
from functools import partial
from multiprocessing import connection

import pytest
import torch
from composing import compose_cell
from trained import SMOKE, InterruptionError, curve, interrupt, numbers

from experiments.judging.conditions import conditions_of, differences
from plainres.data.batches import (
    Augmentation,
    EvaluationBatches,
    Normaliser,
    Share,
    TrainingBatches,
)
from plainres.records import files, stopping
from plainres.records.schema import CurvePoint
from plainres.run import train
from plainres.run.ranks import DeviceError, beside

EVERYTHING = Augmentation(1, True, 10, (0.9, 1.1), 1, 0.1)
WITHOUT_NORM = (*SMOKE, "kernels=library", "model.norm=none")
TWO = "devices=2"
LOCAL = "protocol.batch_statistics=local"
ROUNDING = 1e-5  # relative, of a loss after 24 updates


def losses(cell):
    points = files.read_table(cell.folder / files.CURVES_TABLE, CurvePoint)
    return [point.train_loss for point in points]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Overrides → the trained cell and its record, each once."""
    done = {}

    def train_once(*overrides):
        if overrides not in done:
            cell = compose_cell(tmp_path_factory.mktemp("trained"), *overrides)
            done[overrides] = cell, train.train_cell(cell)
        return done[overrides]

    return train_once


def test_shares_are_the_batch_of_one_device_without_overlap():
    pixels = torch.randint(0, 256, (24, 1, 6, 6), dtype=torch.uint8)
    stream = partial(
        TrainingBatches, pixels, torch.arange(24), Normaliser(pixels, "channel"), EVERYTHING, 12,
        seed=3, stop=4,
    )  # fmt: skip
    for iteration in range(4):
        whole = stream().batch(iteration)
        shares = [stream(share=Share(rank, 3)).batch(iteration) for rank in range(3)]
        assert [len(share.labels) for share in shares] == [4, 4, 4]
        assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
        assert torch.equal(torch.cat([share.images for share in shares]), whole.images)


def test_shares_of_an_evaluated_set_are_the_set():
    pixels, labels = torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10)
    normaliser = Normaliser(pixels, "channel")
    sets = [
        EvaluationBatches(pixels, labels, normaliser, share=Share(rank, 4)) for rank in range(4)
    ]
    assert sorted(torch.cat([each.labels for each in sets]).tolist()) == list(range(10))
    with pytest.raises(ValueError, match="3 evaluated images are too few for devices=4"):
        EvaluationBatches(pixels, labels, normaliser, count=3, share=Share(0, 4))


def test_two_devices_have_the_losses_and_errors_of_one(trained):
    one, two = trained(*WITHOUT_NORM), trained(*WITHOUT_NORM, TWO)
    assert losses(two[0]) == pytest.approx(losses(one[0]), rel=ROUNDING)
    for name in ("train_error", "train_loss", "train_error_eval", "test_error", "test_loss"):
        assert getattr(two[1], name) == pytest.approx(getattr(one[1], name), rel=ROUNDING), name
    assert losses(two[0])[0] != losses(two[0])[-1]


def test_batch_statistics_of_each_device_are_those_of_the_parts_of_a_batch(trained):
    plain = (*SMOKE, "kernels=library")
    parts, local = trained(*plain, "protocol.accumulate=2"), trained(*plain, TWO, LOCAL)
    assert losses(local[0]) == pytest.approx(losses(parts[0]), rel=ROUNDING)
    whole = trained(*plain)
    assert losses(parts[0]) != pytest.approx(losses(whole[0]), rel=100 * ROUNDING)


def test_parts_of_a_batch_add_up_to_it_without_batch_normalisation(trained):
    whole, parts = trained(*WITHOUT_NORM), trained(*WITHOUT_NORM, "protocol.accumulate=4")
    assert losses(parts[0]) == pytest.approx(losses(whole[0]), rel=ROUNDING)
    assert parts[1].config_hash != whole[1].config_hash


def test_parts_on_each_of_two_devices_add_up_too(trained):
    both = (*WITHOUT_NORM, TWO, "protocol.accumulate=2", "protocol.clip_norm=1")
    assert losses(trained(*both)[0]) == pytest.approx(
        losses(trained(*WITHOUT_NORM, "protocol.clip_norm=1")[0]), rel=ROUNDING
    )


def test_a_record_of_two_devices_is_never_paired_with_one_of_one(trained):
    (one, of_one), (two, of_two) = trained(*WITHOUT_NORM), trained(*WITHOUT_NORM, TWO)
    assert (of_one.devices, of_two.devices) == (1, 2)
    assert "devices" not in one.identity
    assert two.identity["devices"] == 2
    assert conditions_of(of_one) != conditions_of(of_two)
    assert differences([of_one, of_two]) == ["threads: 1 thread, 1 thread on each of 2 devices"]
    assert files.read_record(two.folder) == of_two


@pytest.mark.parametrize("ending", ["asked to stop", "failed"])
def test_two_devices_continue_with_the_same_numbers(trained, tmp_path, monkeypatch, ending):
    overrides = (*SMOKE, "kernels=library", TWO, LOCAL)
    whole = trained(*overrides)
    cell = compose_cell(tmp_path, *overrides, "checkpoint_seconds=0")
    if ending == "failed":
        interrupt(cell, 14)
    else:
        monkeypatch.setattr(stopping, "requested", lambda: cell.has_checkpoint)
        monkeypatch.setattr(stopping, "_signal", signal.SIGTERM)
        with pytest.raises(stopping.Stopped):
            train.train_cell(cell)
        monkeypatch.undo()
    assert cell.has_checkpoint
    assert numbers(train.train_cell(cell)) == numbers(whole[1])
    assert curve(cell) == curve(whole[0])


def fail(cell, rank):
    raise ValueError(f"{cell.name} and rank {rank}")


def die(cell, rank):
    os.kill(os.getpid(), signal.SIGKILL)


def live(cell, rank):
    signal.pause()


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (fail, "device 1: residual-8-seed0 and rank 1"),
        (die, r"device 1: its process was killed by SIGKILL \(out of memory\?\); the same command"),
    ],
)
def test_a_device_that_fails_is_named(tmp_path, work, reason):
    cell = compose_cell(tmp_path, *SMOKE, TWO)
    with pytest.raises(DeviceError, match=reason), beside(cell, work):
        connection.wait([other.sentinel for other in multiprocessing.active_children()], 20)
        raise RuntimeError("connection closed by peer")


def test_a_failure_of_the_first_device_is_not_blamed_on_others(tmp_path):
    cell = compose_cell(tmp_path, *SMOKE, TWO)
    with pytest.raises(InterruptionError), beside(cell, live):
        raise InterruptionError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("devices=0", "devices 0 is not a whole number from 1 up"),
        ("devices=3", "batch_size 32 is not a multiple of 3, devices times protocol.accumulate"),
        ("devices=2 protocol.accumulate=5", "batch_size 32 is not a multiple of 10, devices times"),
        ("protocol.accumulate=1", "accumulate 1 is not a whole number from 2 up; null: the whole"),
        ("devices=2 protocol.batch_statistics=ghost", "'ghost' is unknown; legal: null, synchroni"),
        (LOCAL, "protocol.batch_statistics is for devices above 1; null with one device"),
        ("devices=2 +callbacks.mine._target_=x.Y", "devices 2 with callbacks, which needs devices"),
        ("devices=2 +child.parent=parent", "devices 2 with child, which needs devices=1"),
        ("devices=2 kernels=fused", "kernels 'fused' are for one device; legal: auto, library"),
        (TWO, r"\(SyncBatchNorm\) on CPUs; protocol.batch_statistics=local"),
        (
            "devices=2 model=alexnet model.depth=8 model.width=12 model.head=small data.pad_to=32",
            "the network has dropout, whose",
        ),
    ],
)
def test_what_cannot_be_on_several_devices_is_one_line(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message) as refused:
        train.train_cell(compose_cell(tmp_path, "protocol=smoke", *overrides.split()))
    assert "\n" not in str(refused.value)
