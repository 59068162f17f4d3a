"""Images as uint8 tensors; a whole set is resized, padded, split and hashed here."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SPLIT_SEED = 2015  # which images test or validate must not depend on the seed of a run


@dataclass(frozen=True)
class Images:
    """`pixels` uint8 (N, C, H, W), `labels` int64 (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def feed(self, digest: Any) -> None:
        """Updates a hash with what makes these images."""
        digest.update(str(tuple(self.pixels.shape)).encode())
        digest.update(self.pixels.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)


@dataclass(frozen=True)
class Source:
    """Training, test and perhaps validation images of one data set.

    Args:
        notes: lines that the user is to read, of what was decided or went wrong in reading them.
    """

    train: Images
    test: Images
    class_names: tuple[str, ...]
    validation: Images | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        return self.train.pixels.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pixels and labels of the training and test images, 12 hexadecimal digits."""
        digest = hashlib.sha256()
        for images in (self.train, self.test):
            images.feed(digest)
        return digest.hexdigest()[:12]


def resize(images: Images, size: int) -> Images:
    """`size` pixels a side, by area."""
    pixels = images.pixels
    if pixels.shape[-2:] == (size, size):
        return images
    chunks = [
        functional.interpolate(chunk.float(), size=(size, size), mode="area").round()
        for chunk in pixels.split(5000)
    ]
    return Images(torch.cat([chunk.to(torch.uint8) for chunk in chunks]), images.labels)


def pad(images: Images, size: int) -> Images:
    """`size` pixels a side, with black on all sides.

    Raises:
        ValueError: the images are larger.
    """
    height, width = images.pixels.shape[-2:]
    if size < max(height, width):
        raise ValueError(
            f"data.pad_to {size} is below {max(height, width)}, the size of the images"
        )
    down, right = size - height, size - width
    border = (right // 2, right - right // 2, down // 2, down - down // 2)
    return Images(functional.pad(images.pixels, border), images.labels)


def split(images: Images, val_size: int) -> tuple[Images, Images]:
    """Training images and `val_size` validation images; the same ones whatever the seed of a run.

    Raises:
        ValueError: no training image would remain.
    """
    if not 0 < val_size < len(images):
        raise ValueError(
            f"data.val_size {val_size} lies outside 0 to {len(images) - 1}, "
            "one below the number of training images"
        )
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(images), generator=generator)
    kept, held_out = order[val_size:].sort().values, order[:val_size].sort().values
    return (
        Images(images.pixels[kept], images.labels[kept]),
        Images(images.pixels[held_out], images.labels[held_out]),
    )


def evaluation_parts(source: Source) -> Iterator[tuple[str, Images]]:
    """The sets that a run is evaluated on during training: test, and validation if there is one."""
    yield "test", source.test
    if source.validation is not None:
        yield "val", source.validation
