"""Images that stay on the disk: listed, and decoded when a batch needs them."""

import gc
import multiprocessing
import os
import pickle
import signal
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import compose_cell
from PIL import Image
from torch import nn
from torchvision.transforms import functional
from trained import curve, interrupt, numbers

from plainres.data import example_images, folder, streaming
from plainres.data.batches import WHOLE, Augmentation, Batch, Normaliser, Share
from plainres.data.sources import load
from plainres.run import train
from plainres.run.trained import TrainedNetwork
from plainres.training.module import Classifier

SIZE = 32
CROP = Augmentation(mirror=True, shorter_side=(36, 60), lighting=0.1)
CLASSES = 1000
ORIENTATION = 0x0112  # tag of EXIF


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A folder of 1,000 classes of made-up pictures, 2,000 to train on and 1,000 to test."""
    root = tmp_path_factory.mktemp("imagenet")
    assert example_images.write_made_up(root, 10, size=(50, 40)) == 30
    with Image.open(root / "val/class0003/0.JPEG") as picture:
        assert picture.size == (50, 40)
    for part, number in (("train", 0), ("train", 1), ("val", 0)):
        for label in range(10, CLASSES):
            path = root / f"{part}/class{label:04d}/{number}.JPEG"
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(root / f"{part}/class{label % 10:04d}/{number}.JPEG")
    return root


@pytest.fixture(scope="module")
def source(imagenet):
    return load("streamed_folder", str(imagenet), image_size=SIZE)


@pytest.fixture(autouse=True)
def few_images_for_the_mean(monkeypatch):
    monkeypatch.setattr(streaming, "STATISTICS_IMAGES", 40)


@pytest.fixture
def stream(source):
    def make(augmentation=CROP, batch_size=8, start=0, stop=4, share=WHOLE, workers=0, images=2000):
        own = source.train
        files = replace(own, names=own.names[:images], labels=own.labels[:images])
        options = (batch_size, 0, stop, start, share, torch.device("cpu"), workers)
        return streaming.StreamedBatches(files, "pixel_mean", augmentation, *options)

    return make


def batches(stream):
    """The batch of each iteration, as training makes it."""
    return [
        stream.make_batch({name: each[0] for name, each in step.draws.items()}) for step in stream
    ]


def same(some, others):
    return len(some) == len(others) and all(
        torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        for one, other in zip(some, others, strict=True)
    )


def test_a_folder_is_listed_and_nothing_of_it_decoded(imagenet, monkeypatch):
    monkeypatch.setattr(streaming.Files, "decode", None)
    source = load("streamed_folder", str(imagenet), image_size=SIZE)
    assert (len(source.train), len(source.test), source.num_classes) == (2000, 1000, CLASSES)
    assert source.train.labels.bincount().tolist() == [2] * CLASSES
    assert source.test.labels.tolist() == list(range(CLASSES))
    assert source.test.names[7] == b"val/class0007/0.JPEG"
    assert len(source.fingerprint) == 12


def test_labels_of_the_test_set_are_those_of_training(tmp_path):
    for path in ("train/a", "train/b", "train/c", "test/a", "test/c"):
        (tmp_path / path).mkdir(parents=True)
        Image.new("L", (9, 9)).save(tmp_path / path / "1.png")
    assert load("streamed_folder", str(tmp_path), image_size=8).test.labels.tolist() == [0, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_depends_on_seed_and_iteration_alone(stream, workers):
    whole = batches(stream(images=40, stop=8))[3:]  # over the end of an epoch of 5
    assert same(batches(stream(images=40, start=3, stop=8, workers=workers)), whole)
    assert not torch.equal(whole[0].labels, whole[1].labels)


def test_reading_draws_nothing_from_the_generator_of_dropout(stream):
    state = torch.get_rng_state()
    batches(stream())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_signal_to_all_processes_of_a_run_takes_no_worker(stream):
    """As `timeout` and Slurm send it: the checkpoint comes after batches that are still needed."""
    steps, whole = iter(stream(images=400, stop=30, workers=1)), stream(images=400, stop=30)
    first = next(steps)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGTERM)
    pixels = [step.draws["pixels"] for step in (first, *steps)]
    assert torch.equal(torch.cat(pixels), torch.cat([step.draws["pixels"] for step in whole]))


def test_devices_share_a_batch(stream):
    shares = [batches(stream(share=Share(rank, 4))) for rank in range(4)]
    whole = [Batch(*map(torch.cat, zip(*each, strict=True))) for each in zip(*shares, strict=True)]
    assert same(whole, batches(stream()))


def test_an_epoch_has_every_image_once_under_its_own_label(stream, source):
    steps = list(stream(images=40, stop=5))
    indices = torch.cat([step.draws["indices"][0] for step in steps])
    assert sorted(indices.tolist()) == list(range(40))
    step = steps[3]
    labels = (
        stream(images=40).make_batch({name: each[0] for name, each in step.draws.items()}).labels
    )
    assert torch.equal(labels, source.train.labels[step.draws["indices"][0]])


def ramps(augmentation, size=SIZE, count=60):
    """Pixels of a changed picture that gets 255 levels brighter from left to right, each time."""
    ramp = np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1))
    picture = Image.fromarray(ramp).convert("RGB")
    change = streaming.augmented(augmentation, size)
    torch.manual_seed(0)
    return torch.stack([change(picture) for _ in range(count)]).float()


def test_a_crop_comes_from_an_image_whose_shorter_side_is_drawn():
    pixels = ramps(Augmentation(mirror=True, shorter_side=(36, 60)))
    assert pixels.shape == (60, 3, SIZE, SIZE)
    slopes = (pixels[..., -1] - pixels[..., 0]).mean((1, 2)) / (SIZE - 1)
    sides = 255 / slopes.abs()
    assert 35 < sides.min() < 40
    assert 56 < sides.max() < 63
    assert 15 < (slopes < 0).sum() < 45
    assert len(set(pixels[:, 0, 0, 0].tolist())) > 20, "crops lie at many places"
    assert (ramps(Augmentation(shorter_side=(36, 60)))[..., -1] > 100).all(), "none is mirrored"


@pytest.mark.parametrize("length", [98, 103])
def test_a_shorter_side_is_never_less_than_drawn(length):
    change = streaming.augmented(Augmentation(shorter_side=(SIZE, SIZE)), SIZE)
    assert change(Image.new("RGB", (120, length))).shape == (3, SIZE, SIZE)


def test_a_crop_can_be_a_part_of_the_area():
    widths = ramps(Augmentation(area=(0.25, 1.0)))
    shares = ((widths[..., -1] - widths[..., 0]).mean((1, 2)) / 255).square()
    assert 0.15 < shares.min() < 0.4
    assert 0.7 < shares.max() < 1.4  # width² of up to 4/3 in shape


def centre_crops(files, count):
    places = np.linspace(0, len(files) - 1, count).astype(int)
    side = round(SIZE * 256 / 224)
    resized = [functional.resize(files.decode(int(place)), side) for place in places]
    return torch.stack([functional.pil_to_tensor(functional.center_crop(p, SIZE)) for p in resized])


@pytest.mark.parametrize("kind", ["pixel_mean", "channel", "imagenet"])
def test_normalisation_is_that_of_images_in_memory(source, kind):
    pixels = centre_crops(source.train, 40)
    expected = Normaliser(pixels, kind)
    statistics = streaming.Statistics.of(source.train, 0)
    normaliser = statistics.normaliser(kind, torch.device("cpu"))
    torch.testing.assert_close(normaliser.mean, expected.mean)
    torch.testing.assert_close(normaliser.deviation, expected.deviation)
    colours = pixels.double().transpose(0, 1).flatten(1).numpy() / 255
    np.testing.assert_allclose(statistics.covariance.numpy(), np.cov(colours, ddof=0), rtol=1e-9)


def test_statistics_are_kept(source, monkeypatch):
    first = streaming.Statistics.of(source.train, 0)
    monkeypatch.setattr(streaming.Files, "decode", None)
    assert torch.equal(streaming.Statistics.of(source.train, 0).mean, first.mean)


def test_statistics_of_another_folder_are_measured_though_its_path_was_typed_alike(
    tmp_path, monkeypatch
):
    means = []
    for darker in (1, 4):
        working = tmp_path / str(darker)
        example_images.write_made_up(working / "images", 10, size=(50, 40))
        for path in working.rglob("*.JPEG"):
            with Image.open(path) as picture:
                picture.point(lambda value, darker=darker: value // darker).save(path)
        monkeypatch.chdir(working)
        files = streaming.read(Path("images"), SIZE).train
        means.append(streaming.Statistics.of(files, 0).mean.mean())
    assert means[1] < means[0] / 2


def test_lighting_moves_all_pixels_of_an_image_along_the_principal_components(stream):
    lit, unlit = stream(), stream(Augmentation(mirror=True, shorter_side=(36, 60)))
    covariance = streaming.Statistics.of(lit.files, 0).covariance.numpy()
    values, vectors = np.linalg.eigh(covariance)
    changes = []
    for step, one, other in zip(lit, batches(lit), batches(unlit), strict=True):
        change = (one.images - other.images).numpy()
        assert np.ptp(change, axis=(2, 3)).max() < 1e-6
        along = change.mean((2, 3)) @ vectors / values
        np.testing.assert_allclose(np.abs(along), step.draws["lighting"][0].abs(), rtol=1e-2)
        changes.append(along)
    assert 0.06 < np.std(changes) < 0.14


def test_ten_crops_count_by_their_mean_probability(source):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5))
    module = Classifier(network, None, None, 0.9, 0, 1)
    normaliser = streaming.Statistics.of(source.train, 0).normaliser("channel", torch.device("cpu"))
    evaluation = streaming.StreamedEvaluation(source.test, normaliser, 0, crops=10, count=6)
    (batch,) = list(evaluation)
    assert batch.images.shape == (6, 10, 3, SIZE, SIZE)
    for number in range(6):
        picture = source.test.decode(int(batch.labels[number]))
        crops = functional.ten_crop(functional.resize(picture, round(SIZE * 256 / 224)), SIZE)
        images = normaliser(torch.stack([functional.pil_to_tensor(c) for c in crops]) / 255)
        expected = network(images).softmax(1).mean(0)
        torch.testing.assert_close(module._evaluated(batch.images)[number].exp(), expected)


def test_evaluated_sets_are_shared_and_may_be_a_part(source):
    normaliser = Normaliser(torch.zeros(1, 3, 1, 1), "imagenet")
    make = partial(streaming.StreamedEvaluation, source.test, normaliser, 0)
    shares = [make(share=Share(rank, 3), count=10) for rank in range(3)]
    labels = torch.cat([batch.labels for share in shares for batch in share])
    assert sorted(labels.tolist()) == np.linspace(0, 999, 10).astype(int).tolist()
    whole = make(count=70)
    whole.batch_size = 30
    assert [len(batch.labels) for batch in whole] == [30, 30, 10]
    assert len(whole) == 3


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_stays_flat(stream, monkeypatch):
    """800 images of 50×40 pixels are decoded to 5 MB, and 4 at once are 24 kB."""
    alive, most = {}, 0
    decode = streaming.Files.decode

    def counted(files, index):
        nonlocal most
        picture = decode(files, index)
        alive[id(picture)] = weakref.finalize(picture, alive.pop, id(picture))
        most = max(most, len(alive))
        return picture

    monkeypatch.setattr(streaming.Files, "decode", counted)
    sizes = []
    for step in stream(batch_size=4, stop=300):
        if step.iteration in (100, 299):
            gc.collect()
            sizes.append(resident())
    assert most <= 8, "no decoded image is kept"
    assert sizes[1] - sizes[0] < 2**21


def test_a_folder_that_does_not_fit_is_named_before_it_is_read(imagenet, monkeypatch):
    monkeypatch.setattr(folder, "_contents", None)
    with pytest.raises(ValueError, match=r"more than half of the memory .* data=imagenet, which"):
        load("image_folder", str(imagenet), image_size=20_000)


OVERRIDES = (
    *("protocol=imagenet", "model=residual_imagenet", "model.depth=18", "model.width=2"),
    *("data.label=made up", f"data.image_size={SIZE}", "workers=0", "kernels=library"),
    *("protocol.augmentation.shorter_side=[36,60]", "protocol.batch_size=8"),
    *("protocol.iterations=12", "protocol.evaluation_images=10", "protocol.error_window=2"),
    *("protocol.log_every=1", "protocol.evaluate_every=6", "protocol.precision=32-true"),
    *("protocol.schedule.patience=0", "instruction_set=AVX2"),
)


def test_a_run_continues_with_the_same_batches_and_rates(imagenet, tmp_path):
    overrides = (*OVERRIDES, f"data.root={imagenet}")
    whole = compose_cell(tmp_path / "whole", *overrides)
    record = train.train_cell(whole)
    assert record.num_classes == CLASSES
    rates = {line.split(",")[6] for line in curve(whole).splitlines()[1:]}
    assert len(rates) > 1, "a plateau lowered the rate"
    for iteration in (5, 11):
        cell = compose_cell(tmp_path / str(iteration), *overrides, "checkpoint_seconds=0")
        interrupt(cell, iteration)
        assert cell.has_checkpoint
        assert numbers(train.train_cell(cell)) == numbers(record)
        assert curve(cell) == curve(whole)


def test_pictures_are_decoded_as_those_in_memory(tmp_path):
    """Upright, and on white where they are transparent."""
    for label in ("train/a", "train/b", "val/a"):
        (tmp_path / label).mkdir(parents=True)
        picture = Image.new("RGBA", (9, 6), (255, 0, 0, 0))
        exif = picture.getexif()
        exif[ORIENTATION] = 6
        picture.save(tmp_path / label / "1.png", exif=exif)
    image = streaming.read(tmp_path, SIZE).train.decode(0)
    assert (image.size, image.getpixel((0, 0))) == ((6, 9), (255, 255, 255))


def test_a_picture_is_classified_by_the_crop_that_is_evaluated(imagenet, source, tmp_path):
    words = ("keep_weights=true", "protocol.iterations=2", "protocol.log_every=1")
    cell = compose_cell(tmp_path, *OVERRIDES, f"data.root={imagenet}", *words)
    train.train_cell(cell)
    network = TrainedNetwork.load(cell.folder)
    read = [network.read(source.test.path(index)) for index in range(5)]
    assert torch.equal(torch.stack(read), centre_crops(source.test, len(source.test))[:5])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("protocol.augmentation.padding=4", "streamed images have no padding, rotation, scale"),
        (
            "protocol.augmentation.shorter_side=null",
            "need one of protocol.augmentation.shorter_sid",
        ),
        ("protocol.augmentation.area=[0.5,1]", "need one of protocol.augmentation.shorter_side"),
        ("protocol.augmentation.area=[0.5,1.5]", "is not two numbers above 0 and up to 1, the"),
        ("protocol.augmentation.shorter_side=[30,60]", "shorter_side 30 is below data.image_size"),
        ("protocol.augmentation.shorter_side=[60,30]", "is not two whole numbers from 1 up, the"),
        ("data.image_size=null", "data.image_size is not set"),
        ("data.val_size=10", "data.val_size 10 is for images in memory, and not for streamed_fo"),
        ("data.test_crops=5", "data.test_crops 5 is not 1 or 10, and of streamed images"),
        ("+callbacks.mine._target_=x.Y", "callbacks needs images in memory, and data 'streamed_"),
        ("protocol.schedule.patience=null", "schedule patience and threshold are for kind 'platea"),
        ("protocol.batch_size=4000", "batch_size 4000 lies outside 1 to 2000, the number of trai"),
        ("data.root=/not/there", "data.root /not/there is no folder; legal: train/<class>"),
        ("data=digits workers=null data.root=null", "shorter_side is for data=imagenet alone"),
        ("data=digits protocol=quick +data.test_crops=10", "data.test_crops is for data 'streame"),
    ],
)
def test_what_cannot_be_streamed_is_one_line(imagenet, tmp_path, overrides, message):
    cell = compose_cell(tmp_path, *OVERRIDES, f"data.root={imagenet}", *overrides.split())
    with pytest.raises(ValueError, match=message) as refused:
        train.train_cell(cell)
    assert "\n" not in str(refused.value)


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), colour).save(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "has no val/; legal"),
        (("train/a/1.png",), "has no val/; legal"),
        (("val/a/1.png",), "has no train/; legal"),
        (("train/1.png", "val/a/1.png"), "Couldn't find any class folder in .*train"),
        (("train/a/1.png", "val/1.png"), "Couldn't find any class folder in .*val"),
        (("train/a/1.png", "val/b/1.png"), "class 'b' is in val/ but not in train/"),
    ],
)
def test_a_folder_that_is_not_like_imagenet_is_one_line(tmp_path, files, message):
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(ValueError, match=message) as refused:
        load("streamed_folder", str(tmp_path), image_size=8)
    assert "\n" not in str(refused.value)


def test_what_is_done_to_an_image_can_be_sent_to_a_worker():
    for change in (
        streaming.evaluated(8),
        streaming.evaluated(8, 10),
        streaming.augmented(CROP, 8),
    ):
        assert pickle.loads(pickle.dumps(change))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_no_picture_is_named(tmp_path, workers):
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png"):
        picture(tmp_path / name)
    (tmp_path / "train/b/1.png").write_bytes(b"no picture")
    files = load("streamed_folder", str(tmp_path), image_size=8).train
    decoded = streaming.Decoded(files, streaming.evaluated(8))
    with pytest.raises(ValueError, match=r"^/.*train/b/1.png cannot be read as an") as refused:
        list(decoded.batches([[(0, 0), (1, 0)]], workers))
    assert "\n" not in str(refused.value)
