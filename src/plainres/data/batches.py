"""Batches of a set that lies on the device: shuffled, augmented and normalised there.

Order: warp (on pixels in [0, 1], black outside), normalise, pad, crop and mirror (the border is 0,
the mean), noise. Section 4.2 of He et al. 2015 does not say whether it pads before or after the
mean is subtracted; here it is after.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from plainres.data.device import memory_format, to_float64

NORMALISATIONS = ("channel", "pixel_mean", "imagenet")
EVALUATION_PIXELS = 500 * 64 * 64  # in one batch
# of torchvision's weights
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; each image of a batch gets its own random numbers.

    Args:
        padding: pixels of zero padding on each side before a random crop to the old size (4 in the
            paper).
        mirror: mirrors left and right with probability 1/2.
        rotation: largest angle in degrees, in both directions.
        scale: smallest and largest factor of size.
        shift: largest shift in pixels, horizontally and vertically, in both directions.
        noise: standard deviation of Gaussian noise, in units of the normalised image.
        shorter_side, area, lighting: of images that are decoded when they are needed alone
            (plainres.data.streaming). Smallest and largest shorter side in pixels, or smallest and
            largest part of the area, before a random crop; standard deviation of the colour change
            of Krizhevsky et al. 2012 (0.1 there), along the principal components of the colours.
    """

    padding: int = 0
    mirror: bool = False
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    noise: float = 0.0
    shorter_side: tuple[int, int] | None = None
    area: tuple[float, float] | None = None
    lighting: float | None = None

    @property
    def warps(self) -> bool:
        return self.rotation != 0 or tuple(self.scale) != (1.0, 1.0) or self.shift != 0


def check_normalisation(kind: str, channels: int) -> None:
    """Raises ValueError for an unknown kind, or `imagenet` without three channels."""
    if kind not in NORMALISATIONS:
        raise ValueError(f"normalisation {kind!r} is unknown; legal: {', '.join(NORMALISATIONS)}")
    if kind == "imagenet" and channels != 3:
        raise ValueError(
            f"normalisation 'imagenet' is for three channels, not {channels}; "
            "legal: channel, pixel_mean"
        )


def check_batches(total: int, batch_size: int) -> None:
    """Raises ValueError for batches that `total` training images do not fill."""
    if not 1 <= batch_size <= total:
        raise ValueError(
            f"batch_size {batch_size} lies outside 1 to {total}, "
            "the number of training images (protocol.batch_size=…)"
        )


class Normaliser:
    """(pixel / 255 - mean) / deviation, with statistics of the training images only.

    `channel`: mean and standard deviation of each channel. `pixel_mean`: mean of each pixel of each
    channel, deviation 1, as in the paper. `imagenet`: those of ImageNet's channels, for networks
    that were trained on it.

    Args:
        images: uint8 (N, C, H, W), the training images.

    Raises:
        ValueError: unknown kind, or `imagenet` without three channels; names what is legal.
    """

    def __init__(self, images: Tensor, kind: str):
        check_normalisation(kind, images.shape[1])
        if kind == "imagenet":
            self.mean, self.deviation = (
                torch.tensor(values, device=images.device).view(1, 3, 1, 1)
                for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
            )
            return
        # channel by channel, because the whole set in double takes eight times its memory
        mean = torch.stack([to_float64(channel).mean(0) for channel in images.unbind(1)])
        mean = mean.unsqueeze(0) / 255  # (1, C, H, W)
        deviation = torch.ones(1, images.shape[1], 1, 1, dtype=torch.double, device=mean.device)
        if kind == "channel":
            mean = mean.mean((2, 3), keepdim=True)
            squares = [to_float64(channel).square().mean() for channel in images.unbind(1)]
            variance = torch.stack(squares) / 255**2 - mean.flatten().square()
            deviation = variance.clamp_min(1e-12).sqrt().view(1, -1, 1, 1)
        self.mean = mean.float().to(images.device)
        self.deviation = deviation.float().to(images.device)

    def __call__(self, images: Tensor) -> Tensor:
        """float32 (N, C, H, W) in [0, 1] → normalised float32 of the same shape."""
        return (images - self.mean) / self.deviation


class Batch(NamedTuple):
    """`images` normalised float32 (N, C, H, W) in `memory_format`; `labels` int64 (N,)."""

    images: Tensor
    labels: Tensor


class Share(NamedTuple):
    """The part of each batch and set that one of several devices takes."""

    rank: int = 0  # of the device, from 0
    devices: int = 1


WHOLE = Share()


class StepDraws(NamedTuple):
    """Random draws of one training step, which is one or more iterations.

    `iteration` is the number of the first one, from 0; each tensor of `draws` is (iterations, …).
    """

    iteration: int
    draws: dict[str, Tensor]

    @property
    def num_updates(self) -> int:
        return len(self.draws["indices"])


def warp(images: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Rotates, scales and shifts each image around its centre, bilinearly; outside is 0.

    Args:
        images: float (N, C, H, W).
        angle: (N,) in degrees, counter-clockwise.
        scale: (N,), values above 1 enlarge.
        shift: (N, 2), pixels to the right and down.
    """
    height, width = images.shape[-2:]
    radians = angle * (math.pi / 180)
    cos, sin = radians.cos() / scale, radians.sin() / scale
    # affine_grid maps output to input coordinates, both in [-1, 1]: the inverse of the motion above
    ratio = height / width
    right, down = shift[:, 0] * (2 / width), shift[:, 1] * (2 / height)
    first = torch.stack([cos, -sin * ratio, -(cos * right - sin * ratio * down)], 1)
    second = torch.stack([sin / ratio, cos, -(sin / ratio * right + cos * down)], 1)
    grid = functional.affine_grid(
        torch.stack([first, second], 1), list(images.shape), align_corners=False
    )
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )


def crop_and_mirror(
    images: Tensor, padding: int, top: Tensor, left: Tensor, mirrored: Tensor
) -> Tensor:
    """Pads with zeros, crops to the old size at (top, left) in 0 to 2·padding, mirrors `mirrored`.

    Args:
        images: (N, C, H, W).
        top, left: int64 (N,).
        mirrored: bool (N,).
    """
    count, _, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    image = torch.arange(count, device=images.device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


class Shuffled:
    """Which images are in the batch of an iteration; depends on (seed, iteration) only.

    Every epoch is a new permutation of the set; its last, incomplete batch is dropped, so that all
    batches have one shape.

    Raises:
        ValueError: batch_size exceeds the set.
    """

    def __init__(self, total: int, batch_size: int, seed: int):
        check_batches(total, batch_size)
        self.total = total
        self.batch_size = batch_size
        self.seed = seed
        self.iterations_per_epoch = total // batch_size
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, iteration: int) -> Tensor:
        """int64 (batch_size,) on the CPU."""
        epoch, position = divmod(iteration, self.iterations_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = torch.randperm(
                self.total, generator=generator_of(self.seed, "epoch", epoch)
            )
        return self._permutation[position * self.batch_size : (position + 1) * self.batch_size]


class TrainingBatches(Shuffled):
    """Training batches of iterations `start` to `stop`; each depends on (seed, iteration) only.

    Random numbers are drawn on the CPU, so they are the same on every device. Drawing
    (`random_draws`) is apart from making the batch on the device (`make_batch`): iterating yields
    the draws of `updates_per_step` iterations at a time.

    Args:
        images: uint8 (N, C, H, W) on the device.
        labels: int64 (N,) on the device.
        stop: number of iterations of the whole run.
        start: first iteration, if a run continues; a multiple of updates_per_step.
        updates_per_step: iterations of one training step; the last step may be shorter.
        share: which part of each batch; the parts of all ranks, in their order, are the batch of
            one device. batch_size is a multiple of the number of devices.

    Raises:
        ValueError: batch_size exceeds the set, or the augmentation is of images on the disk.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        normaliser: Normaliser,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        stop: int,
        start: int = 0,
        updates_per_step: int = 1,
        share: Share = WHOLE,
    ):
        super().__init__(len(images), batch_size, seed)
        for name in ("shorter_side", "area", "lighting"):
            if getattr(augmentation, name) is not None:
                raise ValueError(f"protocol.augmentation.{name} is for data=imagenet alone")
        self.images = images
        self.labels = labels
        self.normaliser = normaliser
        self.augmentation = augmentation
        self.stop = stop
        self.start = start
        self.updates_per_step = updates_per_step
        self.share = share

    def __len__(self) -> int:
        """Training steps of the whole run, those before `start` included."""
        return math.ceil(self.stop / self.updates_per_step)

    def __iter__(self) -> Iterator[StepDraws]:
        for first in range(self.start, self.stop, self.updates_per_step):
            end = min(first + self.updates_per_step, self.stop)
            each = [self.random_draws(iteration) for iteration in range(first, end)]
            stacked = {name: torch.stack([draws[name] for draws in each]) for name in each[0]}
            yield StepDraws(first, stacked)

    def batch(self, iteration: int) -> Batch:
        """The batch of one iteration, numbered from 0."""
        draws = self.random_draws(iteration)
        return self.make_batch({name: each.to(self.images.device) for name, each in draws.items()})

    def random_draws(self, iteration: int) -> dict[str, Tensor]:
        """Which images, and the random numbers of their augmentation; on the CPU.

        Each tensor (images of the share, …).
        """
        generator = generator_of(self.seed, "step", iteration)
        count, augmentation = self.batch_size, self.augmentation

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator) * (high - low) + low

        draws = {"indices": self.indices(iteration)}
        if augmentation.warps:
            draws["angle"] = uniform(-augmentation.rotation, augmentation.rotation, count)
            draws["scale"] = uniform(*augmentation.scale, count)
            draws["shift"] = uniform(-augmentation.shift, augmentation.shift, count, 2)
        if augmentation.padding or augmentation.mirror:
            draws["corner"] = torch.randint(
                0, 2 * augmentation.padding + 1, (2, count), generator=generator
            ).T
            draws["mirrored"] = uniform(0, 1, count) < (0.5 if augmentation.mirror else 0.0)
        if augmentation.noise:
            draws["noise"] = torch.randn(count, *self.images.shape[1:], generator=generator)
        return {
            name: each.chunk(self.share.devices)[self.share.rank] for name, each in draws.items()
        }

    def make_batch(self, draws: Mapping[str, Tensor]) -> Batch:
        """The batch of these `random_draws`, which are on the device.

        Shapes are fixed and Python reads no value, so a CUDA graph can hold it.
        """
        images = self.images[draws["indices"]].float() / 255
        if "angle" in draws:
            images = warp(images, draws["angle"], draws["scale"], draws["shift"])
        images = self.normaliser(images)
        if "corner" in draws:
            top, left = draws["corner"].unbind(1)
            images = crop_and_mirror(
                images, self.augmentation.padding, top, left, draws["mirrored"]
            )
        if "noise" in draws:
            images = images + self.augmentation.noise * draws["noise"]
        images = images.contiguous(memory_format=memory_format(images.device))
        return Batch(images, self.labels[draws["indices"]])


class EvaluationBatches:
    """A set in its own order, normalised only; the last batch may be smaller.

    Args:
        images, labels: are moved to the normaliser's device.
        batch_size: None: 500 images of up to 64×64 pixels, fewer of larger ones (40 of 224×224),
            because the memory of a batch grows with its pixels.
        count: number of images, spread evenly over the set; None: all.
        share: every how many-th of them, and from which on.

    Raises:
        ValueError: the set has fewer images than there are devices.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        normaliser: Normaliser,
        batch_size: int | None = None,
        count: int | None = None,
        share: Share = WHOLE,
    ):
        indices, device = evenly_spaced(len(images), count), normaliser.mean.device
        self.images = images[indices][share.rank :: share.devices].to(device)
        self.labels = labels[indices][share.rank :: share.devices].to(device)
        if len(labels[indices]) < share.devices:
            raise ValueError(
                f"{len(labels[indices])} evaluated images are too few for devices={share.devices}"
            )
        self.normaliser = normaliser
        height, width = images.shape[-2:]
        self.batch_size = batch_size or max(1, min(500, EVALUATION_PIXELS // (height * width)))

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for step in range(len(self)):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            images = self.normaliser(self.images[part].float() / 255)
            images = images.contiguous(memory_format=memory_format(images.device))
            yield Batch(images, self.labels[part])


def evenly_spaced(total: int, count: int | None) -> Tensor | slice:
    """Indices of `count` images spread over a set of `total`, int64 (count,).

    All images if `count` is None or not below `total`. Not the first ones, because the images of a
    folder are sorted by class.
    """
    if count is None or count >= total:
        return slice(None)
    return torch.linspace(0, total - 1, count, dtype=torch.float64).long()


def generator_of(seed: int, what: str, number: int) -> torch.Generator:
    """One generator for each purpose and number, whatever was drawn before."""
    digest = hashlib.blake2b(f"{seed}/{what}/{number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
