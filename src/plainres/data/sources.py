"""Where images come from: one function for each data set, all of them in SOURCES, and `load`."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

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
    test_share: float | None = None,
) -> Source:
    """The images of a data set, resized, padded and split.

    Args:
        name: one of SOURCES.
        root: folder (or archive) that holds the images; torchvision sets are downloaded into it.
        image_size: resizes by area to this many pixels a side; None keeps the size.
        pad_to: then pads with black to this many pixels a side; None leaves the size.
        val_size: training images that become the validation set; the same ones for every seed.
        test_share: of each class of an image folder without train/ and test/; the same images for
            every seed. None: a fifth.

    Raises:
        ValueError: unknown data set, unusable folder, image or size; names what is wrong.
        OSError: the images cannot be read or downloaded.
    """
    if name not in SOURCES:
        raise ValueError(f"data {name!r} is unknown; legal: {', '.join(SOURCES)}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"data.image_size {image_size} is below 1")
    read = SOURCES[name]
    if test_share is not None:
        if not 0 < test_share < 1:
            raise ValueError(f"data.test_share {test_share} is no number between 0 and 1")
        if read is not folder.read:
            raise ValueError(f"data.test_share is for data=image_folder; {name} has a test set")
        read = partial(folder.read, test_share=test_share)
    source = read(Path(root or "data").expanduser(), image_size)
    train, test = source.train, source.test
    if read is _streamed:
        for key, value in (("val_size", val_size), ("pad_to", pad_to)):
            if value:
                raise ValueError(f"data.{key} {value} is for images in memory, and not for {name}")
        return source
    if image_size is not None:
        train, test = resize(train, image_size), resize(test, image_size)
    if pad_to is not None:
        train, test = pad(train, pad_to), pad(test, pad_to)
    validation = None
    if val_size:
        train, validation = split(train, val_size)
    return Source(train, test, source.class_names, validation, source.notes)


load_and_keep = lru_cache(maxsize=1)(load)  # of the last call: several ask for a cell's images


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


def _streamed(root: Path, image_size: int | None) -> Source:
    from plainres.data import streaming  # needs torchvision, which takes as long as torch

    return streaming.read(root, image_size)


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

        if not root.absolute().parent.is_dir():  # torchvision would make a mistyped path
            raise ValueError(f"data.root {root} lies in no folder; legal: a folder, or a new one")

        def part(train: bool) -> tuple[Images, tuple[str, ...]]:
            dataset = getattr(datasets, class_name)(root=str(root), train=train, download=True)
            pixels = torch.as_tensor(dataset.data)
            pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
            labels = torch.as_tensor(dataset.targets).long()
            return Images(pixels.contiguous(), labels), tuple(dataset.classes)

        try:
            (train, class_names), (test, _) = part(train=True), part(train=False)
        # torchvision: URLError without network, and almost anything for a damaged file
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            damaged = _damaged_files(getattr(datasets, class_name), root)
            what = (
                f"{damaged[0]} is damaged: delete it, and it is downloaded again, if there is a "
                f"network ({reason})"
                if damaged
                else f"{class_name} is not in {root} and cannot be downloaded ({reason})"
            )
            raise OSError(
                f"{what}; offline: put {archive} into {root}, "
                "or choose data=digits, or data=image_folder with images of your own"
            ) from error
        return Source(train, test, class_names)

    return read


def _damaged_files(data_set: Any, root: Path) -> list[Path]:
    """Files of one of torchvision's data sets that are there, but not as they were published."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
    from torchvision.datasets.utils import check_integrity

    raw = root / data_set.__name__ / "raw"  # where MNIST and its like lie
    sums = {raw / name: md5 for name, md5 in getattr(data_set, "resources", ())}
    unpacked = [path.with_suffix("") for path in sums]
    if archive := getattr(data_set, "filename", None):  # CIFAR-10 and CIFAR-100
        sums[root / archive] = data_set.tgz_md5
        batches = [*data_set.train_list, *data_set.test_list]
        batches.append((data_set.meta["filename"], data_set.meta["md5"]))
        sums |= {root / data_set.base_folder / name: md5 for name, md5 in batches}

    def whole(path: Path) -> bool:
        if path in sums:
            return check_integrity(path, sums[path])
        try:
            read_sn3_pascalvincent_tensor(str(path))
        except Exception:  # the bytes may be anything
            return False
        return True

    return [path for path in (*sums, *unpacked) if path.is_file() and not whole(path)]


# Name on the command line (data.name) → function of (root, image_size)
SOURCES: dict[str, Callable[[Path, int | None], Source]] = {
    "digits": _digits,
    "cifar10": _torchvision("CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python.tar.gz"),
    "fashion_mnist": _torchvision("FashionMNIST", "FashionMNIST/raw/*-ubyte, unpacked,"),
    "image_folder": folder.read,
    "streamed_folder": _streamed,
    "random": _random,
    "photos": _photos,
}
