"""Sources of images → uint8 tensors, decoded once; a source ends where plainres.data.batches begins."""

import hashlib
import json
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from plainres.records.files import atomic

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
DIGITS_TRAINING = 1408  # 11 batches of 128; the other 389 of the 1,797 are the test set
PHOTO_GRID = (8, 8)  # rows and columns of squares that each half of a photograph is cut into
_VALIDATION_SEED = 2015  # which images validate must not depend on the seed of a run


@dataclass(frozen=True)
class Images:
    """`pixels` uint8 (N, C, H, W), `labels` int64 (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Source:
    """Training and test images of one data set; `fingerprint` is a hash of their pixels and labels."""

    train: Images
    test: Images
    class_names: tuple[str, ...]
    validation: Images | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        return self.train.pixels.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for images in (self.train, self.test):
            digest.update(str(tuple(images.pixels.shape)).encode())
            digest.update(images.pixels.contiguous().numpy().data)
            digest.update(images.labels.contiguous().numpy().data)
        return digest.hexdigest()[:12]


def load(
    name: str,
    root: str | None = None,
    image_size: int | None = None,
    val_size: int = 0,
    pad_to: int | None = None,
) -> Source:
    """The images of a source, resized, padded and split.

    Args:
        name: one of SOURCES.
        root: folder (or archive) that holds the images; torchvision sources download into it.
        image_size: resizes by area to this many pixels a side; None keeps the size.
        pad_to: then pads with black to this many pixels a side, evenly; None leaves the size.
        val_size: training images that become the validation set; the same ones whatever the seed of a run.

    Raises:
        ValueError: unknown source, unusable folder, image or size; names what is wrong.
        OSError: the images cannot be had.
    """
    if name not in SOURCES:
        raise ValueError(f"data {name!r} is unknown; legal: {', '.join(SOURCES)}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"data.image_size {image_size} is below 1")
    source = SOURCES[name](Path(root or "data").expanduser(), image_size)
    if image_size is not None:
        source = Source(
            _resized(source.train, image_size),
            _resized(source.test, image_size),
            source.class_names,
        )
    if pad_to is not None:
        source = Source(
            _padded(source.train, pad_to), _padded(source.test, pad_to), source.class_names
        )
    if not 0 <= val_size < len(source.train):
        raise ValueError(
            f"data.val_size {val_size} lies outside 0 to {len(source.train) - 1}, one below the number of training images"
        )
    if val_size:
        order = torch.randperm(
            len(source.train), generator=torch.Generator().manual_seed(_VALIDATION_SEED)
        )
        kept, held_out = order[val_size:].sort().values, order[:val_size].sort().values
        pixels, labels = source.train.pixels, source.train.labels
        source = Source(
            Images(pixels[kept], labels[kept]),
            source.test,
            source.class_names,
            Images(pixels[held_out], labels[held_out]),
        )
    return source


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
    generator = torch.Generator().manual_seed(0)
    size = image_size or 32

    def part(count: int) -> Images:
        pixels = torch.randint(
            0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator
        )
        return Images(pixels, torch.randint(0, 10, (count,), generator=generator))

    return Source(part(50_000), part(10_000), tuple("0123456789"))


def _photos(root: Path, image_size: int | None) -> Source:
    """Squares out of the two photographs of scikit-learn, 427×640 pixels: left halves train, right halves test."""
    from sklearn.datasets import load_sample_images

    bunch, size = load_sample_images(), image_size or 224
    names = tuple(Path(name).stem for name in bunch.filenames)

    def part(side: int) -> Images:
        squares = []
        for photo in bunch.images:
            pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)
            half = pixels[:, :, side * pixels.shape[2] // 2 : (side + 1) * pixels.shape[2] // 2]
            if size > min(half.shape[1:]):
                raise ValueError(
                    f"data.image_size {size} exceeds {min(half.shape[1:])}, half the width of the photographs"
                )
            tops, lefts = (
                torch.linspace(0, length - size, count).long()
                for length, count in zip(half.shape[1:], PHOTO_GRID, strict=True)
            )
            squares += [
                half[:, top : top + size, left : left + size]
                for top in tops.tolist()
                for left in lefts.tolist()
            ]
        return Images(
            torch.stack(squares),
            torch.arange(len(names)).repeat_interleave(len(squares) // len(names)),
        )

    return Source(part(0), part(1), names)


def _torchvision(class_name: str, archive: str) -> Callable[[Path, int | None], Source]:
    def read(root: Path, image_size: int | None) -> Source:
        from torchvision import datasets

        def part(train: bool) -> tuple[Images, tuple[str, ...]]:
            dataset = getattr(datasets, class_name)(root=str(root), train=train, download=True)
            pixels = torch.as_tensor(dataset.data)
            pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
            return Images(pixels.contiguous(), torch.as_tensor(dataset.targets).long()), tuple(
                dataset.classes
            )

        try:
            (train, class_names), (test, _) = part(train=True), part(train=False)
        except (
            OSError,
            RuntimeError,
        ) as error:  # torchvision: URLError without network, RuntimeError for a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(
                f"{class_name} is neither in {root} nor to be downloaded ({reason}); offline: put {archive} into {root}, "
                "or take data=digits, or data=image_folder with images of your own"
            ) from error
        return Source(train, test, class_names)

    return read


def _image_folder(root: Path, image_size: int | None) -> Source:
    if not root.exists():
        raise ValueError(
            f"data.root {root} does not exist; wanted: a folder or archive with train/<class>/… and test/<class>/…"
        )
    content = _content_hash(root)
    cached = cache_folder() / f"{content}-{image_size or 'native'}.pt"
    if cached.exists():
        try:
            return _unpack(torch.load(cached, weights_only=True))
        except Exception:  # a damaged cache is no reason to stop: it is made again
            cached.unlink()
    if root.is_dir():
        source = _decode(root, image_size)
    else:
        with tempfile.TemporaryDirectory() as unpacked:
            _extract(root, Path(unpacked))
            source = _decode(Path(unpacked), image_size, shown=root)
    with atomic(cached) as part:
        torch.save(_pack(source), part)
    return source


SOURCES: dict[str, Callable[[Path, int | None], Source]] = {
    "digits": _digits,
    "cifar10": _torchvision("CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python.tar.gz"),
    "fashion_mnist": _torchvision("FashionMNIST", "FashionMNIST/raw/*-ubyte, unpacked,"),
    "image_folder": _image_folder,
    "random": _random,
    "photos": _photos,
}


def cache_folder() -> Path:
    """Where decoded images lie: $PLAINRES_CACHE, else plainres in $XDG_CACHE_HOME or ~/.cache."""
    if folder := os.environ.get("PLAINRES_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plainres"


def _resized(images: Images, size: int) -> Images:
    pixels = images.pixels
    if pixels.shape[-2:] == (size, size):
        return images
    chunks = [
        functional.interpolate(chunk.float(), size=(size, size), mode="area").round()
        for chunk in pixels.split(5000)
    ]
    return Images(torch.cat([chunk.to(torch.uint8) for chunk in chunks]), images.labels)


def _padded(images: Images, size: int) -> Images:
    height, width = images.pixels.shape[-2:]
    if size < max(height, width):
        raise ValueError(
            f"data.pad_to {size} is below {max(height, width)}, the size of the images"
        )
    down, right = size - height, size - width
    return Images(
        functional.pad(
            images.pixels, (right // 2, right - right // 2, down // 2, down - down // 2)
        ),
        images.labels,
    )


def _content_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in [root] if root.is_file() else sorted(root.rglob("*")):
        if path != root:
            digest.update(str(path.relative_to(root)).encode())
        if path.is_dir():
            continue
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:24]


def _extract(archive: Path, target: Path) -> None:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                file.extractall(target)
        elif archive.name.lower().endswith(ARCHIVES):
            with tarfile.open(archive) as file:
                file.extractall(target, filter="data")
        else:
            raise ValueError(
                f"data.root {archive} is neither a folder nor an archive; legal endings: {', '.join(ARCHIVES)}"
            )
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
    ) as error:
        raise ValueError(f"archive {archive} cannot be unpacked: {error}") from error


def _decode(root: Path, image_size: int | None, shown: Path | None = None) -> Source:
    shown = shown or root
    root = _holder(root, shown)
    class_names = _class_names(root / "train", shown)
    unknown = sorted(set(_class_names(root / "test", shown)) - set(class_names))
    if unknown:
        raise ValueError(
            f"{shown}: class {unknown[0]!r} is in test but not in train; classes of train: {', '.join(class_names)}"
        )
    train = _decode_part(root / "train", class_names, image_size, shown)
    test = _decode_part(root / "test", class_names, image_size, shown)
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise ValueError(f"{shown}: train and test images differ in shape; set data.image_size")
    return Source(train, test, class_names)


def _holder(root: Path, shown: Path) -> Path:
    """The folder that holds train/ and test/: root, or the only folder in it (archives often wrap one)."""
    inside = [
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    ]
    for folder in (root, *(inside if len(inside) == 1 else ())):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return folder
    raise ValueError(
        f"{shown} holds no train/ and test/ folders; wanted: train/<class>/… and test/<class>/…"
    )


def _class_names(part: Path, shown: Path) -> tuple[str, ...]:
    names = tuple(
        sorted(
            path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    )
    if not names:
        raise ValueError(
            f"{shown}: {part.name}/ holds no class folders; wanted: {part.name}/<class>/<image>"
        )
    return names


def _decode_part(
    part: Path, class_names: tuple[str, ...], image_size: int | None, shown: Path
) -> Images:
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(class_names):
        inside = sorted(
            path
            for path in (part / name).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )
        if not inside and part.name == "train":
            raise ValueError(f"{shown}: class folder train/{name} is empty")
        files += [(path, label) for path in inside]
    if not files:
        raise ValueError(f"{shown}: {part.name}/ holds no images")
    pixels: list[Tensor] = []
    for path, _ in files:
        where = path.relative_to(part.parent)
        pixel = _read_image(path, where, image_size, shown)
        if pixels and pixel.shape != pixels[0].shape:
            raise ValueError(
                f"{shown}: {where} has shape {tuple(pixel.shape)}, the images before it {tuple(pixels[0].shape)}; set data.image_size"
            )
        pixels.append(pixel)
    return Images(torch.stack(pixels), torch.tensor([label for _, label in files]))


def _read_image(path: Path, where: Path, image_size: int | None, shown: Path) -> Tensor:
    """uint8 (3, H, W); with image_size the middle square, resized by area."""
    import numpy as np

    try:
        with Image.open(path) as file:
            file.load()
            image = _eight_bits(file)
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{shown}: {where} is no image that can be read ({type(error).__name__})"
        ) from error
    if image_size is not None and image.size != (image_size, image_size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.resize(
            (image_size, image_size), Image.Resampling.BOX, box=(left, top, left + side, top + side)
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB with 8 bits a channel; 16-bit grey keeps its shades, which Pillow's own conversion would clip."""
    import numpy as np

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def _pack(source: Source) -> dict[str, Tensor | str]:
    return {
        "train_pixels": source.train.pixels,
        "train_labels": source.train.labels,
        "test_pixels": source.test.pixels,
        "test_labels": source.test.labels,
        "class_names": json.dumps(source.class_names),
    }


def _unpack(packed: dict) -> Source:
    return Source(
        Images(packed["train_pixels"], packed["train_labels"]),
        Images(packed["test_pixels"], packed["test_labels"]),
        tuple(json.loads(packed["class_names"])),
    )


def parts(source: Source) -> Iterator[tuple[str, Images]]:
    """The sets a run is evaluated on while it trains: test, and validation where there is one."""
    yield "test", source.test
    if source.validation is not None:
        yield "val", source.validation
