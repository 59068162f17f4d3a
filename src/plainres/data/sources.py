"""Where images come from: one function for each data set, all of them in SOURCES, and `load`."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from plainres.data import folder
from plainres.data.images import Images, Source, pad, resize, split

DIGITS_TRAINING = 1408  # 11 batches of 128; the other 389 of the 1,797 are the test set
PHOTO_GRID = (8, 8)  # rows and columns of squares that each half of a photograph is cut into


def load(
    name: str,
    root: str | None = None,
    image_size: int | None = None,
    val_size: int = 0,
    pad_to: int | None = None,
) -> Source:
    """The images of a data set, resized, padded and split.

    Args:
        name: one of SOURCES.
        root: folder (or archive) that holds the images; torchvision sets are downloaded into it.
        image_size: resizes by area to this many pixels a side; None keeps the size.
        pad_to: then pads with black to this many pixels a side; None leaves the size.
        val_size: training images that become the validation set; the same ones for every seed.

    Raises:
        ValueError: unknown data set, unusable folder, image or size; names what is wrong.
        OSError: the images cannot be read or downloaded.
    """
    if name not in SOURCES:
        raise ValueError(f"data {name!r} is unknown; legal: {', '.join(SOURCES)}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"data.image_size {image_size} is below 1")
    source = SOURCES[name](Path(root or "data").expanduser(), image_size)
    train, test = source.train, source.test
    if image_size is not None:
        train, test = resize(train, image_size), resize(test, image_size)
    if pad_to is not None:
        train, test = pad(train, pad_to), pad(test, pad_to)
    validation = None
    if val_size:
        train, validation = split(train, val_size)
    return Source(train, test, source.class_names, validation)


@lru_cache(maxsize=1)
def load_and_keep(
    name: str, root: str | None, image_size: int | None, val_size: int, pad_to: int | None
) -> Source:
    """As `load`; keeps the images of the last call, because the cells of a worker share them."""
    return load(name, root, image_size, val_size, pad_to)


def _digits(root: Path, image_size: int | None) -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    return Source(
        Images(pixels[:DIGITS_TRAINING], labels[:DIGITS_TRAINING]),
        Images(pixels[DIGITS_TRAINING:], labels[DIGITS_TRAINING:]),
        tuple(str(name) for name in bunch.target_names),
    )


def _random(root: Path, image_size: int | None) -> Source:
    """Pixels and labels drawn at random, of CIFAR-10's shape: to time a run without any data."""
    generator = torch.Generator().manual_seed(0)
    size = image_size or 32

    def part(count: int) -> Images:
        shape = (count, 3, size, size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.randint(0, 10, (count,), generator=generator))

    return Source(part(50_000), part(10_000), tuple("0123456789"))


def _photos(root: Path, image_size: int | None) -> Source:
    """Squares of scikit-learn's two photographs, 427×640 pixels: left halves train, right test."""
    from sklearn.datasets import load_sample_images

    bunch, size = load_sample_images(), image_size or 224
    names = tuple(Path(name).stem for name in bunch.filenames)

    def part(side: int) -> Images:
        squares = []
        for photo in bunch.images:
            pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)
            width = pixels.shape[2]
            half = pixels[:, :, side * width // 2 : (side + 1) * width // 2]
            if size > min(half.shape[1:]):
                raise ValueError(
                    f"data.image_size {size} exceeds {min(half.shape[1:])}, "
                    "half the width of the photographs"
                )
            tops, lefts = (
                torch.linspace(0, length - size, count).long().tolist()
                for length, count in zip(half.shape[1:], PHOTO_GRID, strict=True)
            )
            squares += [
                half[:, top : top + size, left : left + size] for top in tops for left in lefts
            ]
        labels = torch.arange(len(names)).repeat_interleave(len(squares) // len(names))
        return Images(torch.stack(squares), labels)

    return Source(part(0), part(1), names)


def _torchvision(class_name: str, archive: str) -> Callable[[Path, int | None], Source]:
    """Reads a data set of torchvision; `archive`: the file that is needed without network."""

    def read(root: Path, image_size: int | None) -> Source:
        from torchvision import datasets

        def part(train: bool) -> tuple[Images, tuple[str, ...]]:
            dataset = getattr(datasets, class_name)(root=str(root), train=train, download=True)
            pixels = torch.as_tensor(dataset.data)
            pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
            labels = torch.as_tensor(dataset.targets).long()
            return Images(pixels.contiguous(), labels), tuple(dataset.classes)

        try:
            (train, class_names), (test, _) = part(train=True), part(train=False)
        # torchvision raises URLError without network, RuntimeError for a damaged file
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(
                f"{class_name} is not in {root} and cannot be downloaded ({reason}); "
                f"offline: put {archive} into {root}, "
                "or choose data=digits, or data=image_folder with images of your own"
            ) from error
        return Source(train, test, class_names)

    return read


# Name on the command line (data.name) → function of (root, image_size)
SOURCES: dict[str, Callable[[Path, int | None], Source]] = {
    "digits": _digits,
    "cifar10": _torchvision("CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python.tar.gz"),
    "fashion_mnist": _torchvision("FashionMNIST", "FashionMNIST/raw/*-ubyte, unpacked,"),
    "image_folder": folder.read,
    "random": _random,
    "photos": _photos,
}
