"""A folder of class folders, as ImageNet is unpacked, decoded image by image when needed.

torchvision lists, decodes and changes the images, in worker processes. What an image becomes
depends on (seed, iteration, place in the batch) alone: not on the number of workers, and a run that
continues has the same batches. Memory holds the names of the files and a few batches.
"""

import hashlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from plainres.data.batches import (
    EVALUATION_PIXELS,
    WHOLE,
    Augmentation,
    Batch,
    Normaliser,
    Share,
    Shuffled,
    StepDraws,
    evenly_spaced,
    generator_of,
)
from plainres.data.cache import kept
from plainres.data.device import memory_format
from plainres.data.folder import TESTS, TRAIN
from plainres.data.images import Images, Source
from plainres.data.pictures import open_picture
from plainres.records.stopping import SIGNALS

LEGAL = f"legal: {TRAIN}/<class>/<image> and {TESTS[0]}/<class>/… or {TESTS[1]}/<class>/…"
EVALUATED_SIDE = 256 / 224  # shorter side of an evaluated image over the side of its crop
STATISTICS_IMAGES = 10_000  # of the training set: those that mean and covariance are taken from
STATISTICS_BATCH = 50
CROPS = (1, 10)
GRACE_SECONDS = 6  # more than a run takes to stop (records.stopping)


@dataclass(frozen=True)
class Files(Images):
    """Images on the disk. `pixels` holds none, (0, 3, size, size); `labels` int64 (N,).

    Args:
        root: of `names`, which are bytes (N,).
    """

    root: Path
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def feed(self, digest: Any) -> None:
        """Names and labels: the contents of ImageNet are 140 GB."""
        digest.update(b"\0".join(self.names.tolist()))
        digest.update(self.labels.numpy().data)

    @property
    def size(self) -> int:
        """Pixels a side of what the network sees."""
        return self.pixels.shape[-1]

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(self.names[index])

    def decode(self, index: int) -> Image.Image:
        """An image, as `open_picture` returns it.

        Raises:
            ValueError: the file cannot be read as an image; names it.
        """
        path = self.path(index)
        try:
            return open_picture(path.read_bytes())
        except OSError as error:
            reason = f"cannot be read as an image ({type(error).__name__})"
            raise ValueError(f"{path} {reason}") from error
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error


def read(root: Path, image_size: int | None) -> Source:
    """Lists a folder: train/<class>/…, and test/<class>/… or val/<class>/…; decodes nothing.

    Raises:
        ValueError: the folder is not like that, or image_size is not set; names what is wrong.
    """
    if image_size is None:
        raise ValueError("data.image_size is not set, the pixels a side that a network sees")
    if not root.is_dir():
        raise ValueError(f"data.root {root} is no folder; {LEGAL}")
    test = next((name for name in TESTS if (root / name).is_dir()), None)
    if test is None or not (root / TRAIN).is_dir():
        raise ValueError(f"data.root {root} has no {TRAIN if test else TESTS[1]}/; {LEGAL}")
    try:
        trained, tested = (ImageFolder(str(root / part)) for part in (TRAIN, test))
    except FileNotFoundError as error:  # torchvision's, of folders without classes or images
        raise ValueError(f"data.root {root}: {str(error).splitlines()[0]}; {LEGAL}") from error
    unknown = sorted(set(tested.classes) - set(trained.classes))
    if unknown:
        raise ValueError(f"{root}: class {unknown[0]!r} is in {test}/ but not in {TRAIN}/")
    return Source(
        _files(root, trained, trained.class_to_idx, image_size),
        _files(root, tested, trained.class_to_idx, image_size),
        tuple(trained.classes),
    )


def _files(root: Path, folder: ImageFolder, labels: Mapping[str, int], size: int) -> Files:
    names = [os.fsencode(os.path.relpath(path, root)) for path, _ in folder.samples]
    own = [labels[folder.classes[label]] for _, label in folder.samples]
    pixels = torch.empty(0, 3, size, size, dtype=torch.uint8)
    return Files(pixels, torch.tensor(own), root, np.array(names))


class Decoded(Dataset):
    """(index, seed of its random numbers) → uint8 (3, size, size), or (crops, 3, size, size)."""

    def __init__(self, files: Files, change: Callable[[Image.Image], Any]):
        self.files = files
        self.change = change

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        index, seed = key
        image = self.files.decode(index)
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            return self.change(image)

    def batches(self, keys: Iterable[list[tuple[int, int]]], workers: int) -> Iterator[Tensor]:
        """Batches of these keys, in their order, decoded ahead by `workers` processes; 0: here.

        Raises:
            ValueError: a file cannot be read as an image; names it.
        """
        loader: DataLoader = DataLoader(
            self,
            batch_sampler=keys,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),  # the global one is that of dropout
        )
        fault = ""
        try:
            yield from loader
        except ValueError as error:  # of a worker, with its traceback
            fault = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
        if fault:  # not above: the error would keep the workers alive
            raise ValueError(fault)


def _leave_signals(worker: int) -> None:
    """A signal to all processes of a run is for the one that trains: it may still need batches.

    So a worker that is told to end does so later; it also ends with that process.
    """
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # a sweep's processes block it


def augmented(augmentation: Augmentation, size: int) -> Callable[[Image.Image], Tensor]:
    """The random crop and mirroring of a training image.

    `shorter_side`: resized to a random one, then a random crop (He et al. 2015, section 3.4).
    `area`: torchvision's RandomResizedCrop, a random part of the image whatever its size.

    Raises:
        ValueError: it asks for other changes, or for no crop; names what is legal.
    """
    sides, area = augmentation.shorter_side, augmentation.area
    if augmentation.padding or augmentation.warps or augmentation.noise:
        raise ValueError(
            "streamed images have no padding, rotation, scale, shift and noise; legal in "
            "protocol.augmentation: shorter_side or area, mirror, lighting"
        )
    if (sides is None) == (area is None):
        raise ValueError(
            "streamed images need one of protocol.augmentation.shorter_side=[256,480] and "
            "protocol.augmentation.area=[0.08,1]"
        )
    if area is not None:
        crop = [v2.RandomResizedCrop(size, scale=tuple(area))]
    else:
        assert sides is not None
        if sides[0] < size:
            raise ValueError(
                f"protocol.augmentation.shorter_side {sides[0]} is below data.image_size {size}"
            )
        crop = [_RandomShorterSide(*sides), v2.RandomCrop(size)]
    mirror = [v2.RandomHorizontalFlip()] if augmentation.mirror else []
    return v2.Compose([*crop, *mirror, v2.PILToTensor()])


class _RandomShorterSide(nn.Module):
    """Resizes to a shorter side from `least` to `most` pixels.

    torchvision's RandomShortestSize rounds it down now and then, to one pixel less than drawn.
    """

    def __init__(self, least: int, most: int):
        super().__init__()
        self.least, self.most = least, most

    def forward(self, image: Image.Image) -> Image.Image:
        side = int(torch.randint(self.least, self.most + 1, ()))
        return v2.functional.resize(image, [side])


def evaluated(size: int, crops: int = 1) -> Callable[[Image.Image], Tensor]:
    """The centre crop; or the ten crops of four corners and centre, and their mirror images."""
    resized = v2.Resize(round(EVALUATED_SIDE * size))
    if crops == 1:
        return v2.Compose([resized, v2.CenterCrop(size), v2.PILToTensor()])
    return v2.Compose([resized, v2.TenCrop(size), _stack])


def _stack(pictures: Iterable[Image.Image]) -> Tensor:
    """No lambda: a worker may be sent it."""
    return torch.stack([*map(v2.PILToTensor(), pictures)])


@dataclass(frozen=True)
class Statistics:
    """Of pixels in [0, 1]: `mean` (3, H, W) of each, `covariance` (3, 3) of the colours."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, files: Files, workers: int) -> "Statistics":
        """From the centre crops of training images spread evenly over the set.

        They are kept in the cache, as decoded images are, while the files stay as they are.
        """
        indices = torch.arange(len(files))[evenly_spaced(len(files), STATISTICS_IMAGES)].tolist()
        key = hashlib.sha256(f"statistics 2 {files.size} {STATISTICS_IMAGES}".encode())
        files.feed(key)
        for index in indices:
            with suppress(OSError):  # decoding it says what is wrong
                status = files.path(index).stat()
                key.update(b" %d %d" % (status.st_size, status.st_mtime_ns))
        name = key.hexdigest()[:24]
        values, _ = kept(name, lambda: vars(cls._measured(files, indices, workers)))
        return cls(**values)

    @classmethod
    def _measured(cls, files: Files, indices: list[int], workers: int) -> "Statistics":
        keys = [
            [(index, 0) for index in indices[start : start + STATISTICS_BATCH]]
            for start in range(0, len(indices), STATISTICS_BATCH)
        ]
        total = torch.zeros(3, files.size, files.size, dtype=torch.double)
        products = torch.zeros(3, 3, dtype=torch.double)
        for pixels in Decoded(files, evaluated(files.size)).batches(keys, workers):
            values = pixels.double() / 255
            total += values.sum(0)
            colours = values.transpose(0, 1).flatten(1)
            products += colours @ colours.T
        mean = total / len(indices)
        colour = mean.mean((1, 2))
        covariance = products / (len(indices) * files.size**2) - torch.outer(colour, colour)
        return cls(mean, covariance)

    def normaliser(self, kind: str, device: torch.device) -> Normaliser:
        """As plainres.data.batches.Normaliser makes it of images in memory."""
        mean, deviation = self.mean, torch.ones(3, 1, 1)
        if kind == "channel":
            mean = mean.mean((1, 2), keepdim=True)
            deviation = self.covariance.diagonal().clamp_min(1e-12).sqrt().view(3, 1, 1)
        normaliser = Normaliser(torch.empty(0, 3, 1, 1), kind)
        if kind != "imagenet":
            normaliser.mean, normaliser.deviation = mean[None].float(), deviation[None].float()
        normaliser.mean = normaliser.mean.to(device)
        normaliser.deviation = normaliser.deviation.to(device)
        return normaliser

    @property
    def colours(self) -> Tensor:
        """(3, 3): column i is principal component i of the colours times its eigenvalue."""
        eigenvalues, components = torch.linalg.eigh(self.covariance)
        return (components * eigenvalues).float()


class StreamedBatches(Shuffled):
    """As plainres.data.batches.TrainingBatches, of images on the disk.

    One iteration is one training step. An image is decoded and cropped in a worker; lighting and
    normalisation come after, on the device.

    Args:
        device: of the batches.
        workers: processes that decode; 0: this one does.
    """

    updates_per_step = 1

    def __init__(
        self,
        files: Files,
        normalisation: str,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        stop: int,
        start: int,
        share: Share,
        device: torch.device,
        workers: int,
    ):
        super().__init__(len(files), batch_size, seed)
        self.files = files
        self.change = augmented(augmentation, files.size)
        self.lighting = augmentation.lighting or 0.0
        statistics = Statistics.of(files, workers)
        self.normaliser = statistics.normaliser(normalisation, device)
        self.colours = statistics.colours.to(device)
        self.labels = files.labels.to(device)
        self.stop = stop
        self.start = start
        self.share = share
        self.workers = workers

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[StepDraws]:
        drawn: deque[dict[str, Tensor]] = deque()  # the loader draws ahead

        def keys() -> Iterator[list[tuple[int, int]]]:
            for iteration in range(self.start, self.stop):
                draws = self.random_draws(iteration)
                images = zip(draws["indices"].tolist(), draws.pop("seeds").tolist(), strict=True)
                drawn.append(draws)
                yield list(images)

        batches = Decoded(self.files, self.change).batches(keys(), self.workers)
        for iteration, pixels in enumerate(batches, self.start):
            draws = {"pixels": pixels, **drawn.popleft()}
            yield StepDraws(iteration, {name: each[None] for name, each in draws.items()})

    def random_draws(self, iteration: int) -> dict[str, Tensor]:
        """Which images, seeds of their changes, their lighting; each (images of the share, …)."""
        generator = generator_of(self.seed, "step", iteration)
        count = self.batch_size
        draws = {
            "indices": self.indices(iteration),
            "seeds": torch.randint(2**62, (count,), generator=generator),
            "lighting": self.lighting * torch.randn(count, 3, generator=generator),
        }
        return {
            name: each.chunk(self.share.devices)[self.share.rank] for name, each in draws.items()
        }

    def make_batch(self, draws: Mapping[str, Tensor]) -> Batch:
        """The batch of what iterating yields, on the device."""
        images = draws["pixels"].float() / 255
        if self.lighting:
            images = images + (draws["lighting"] @ self.colours.T)[:, :, None, None]
        images = self.normaliser(images)
        images = images.contiguous(memory_format=memory_format(images.device))
        return Batch(images, self.labels[draws["indices"]])


class StreamedEvaluation:
    """As plainres.data.batches.EvaluationBatches, of images on the disk.

    Args:
        crops: of each image: 1, or 10, and then `images` of a batch are (N, 10, C, H, W).
    """

    def __init__(
        self,
        files: Files,
        normaliser: Normaliser,
        workers: int,
        crops: int = 1,
        count: int | None = None,
        share: Share = WHOLE,
    ):
        if crops not in CROPS:
            raise ValueError(f"data.test_crops {crops} is neither 1 nor 10")
        indices = torch.arange(len(files))[evenly_spaced(len(files), count)]
        if len(indices) < share.devices:
            raise ValueError(
                f"{len(indices)} evaluated images are too few for devices={share.devices}"
            )
        self.indices = indices[share.rank :: share.devices]
        self.files = files
        self.labels = files.labels
        self.normaliser = normaliser
        self.workers = workers
        self.crops = crops
        self.batch_size = max(1, min(500, EVALUATION_PIXELS // (crops * files.size**2)))

    def __len__(self) -> int:
        return len(self.indices.split(self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        parts = self.indices.split(self.batch_size)
        keys = [[(index, 0) for index in part.tolist()] for part in parts]
        decoded = Decoded(self.files, evaluated(self.files.size, self.crops))
        device = self.normaliser.mean.device
        for part, pixels in zip(parts, decoded.batches(keys, self.workers), strict=True):
            images = self.normaliser(pixels.to(device).float() / 255)
            yield Batch(images, self.labels[part].to(device))
