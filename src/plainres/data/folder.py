"""Images in a folder or an archive: train/<class>/… and test/<class>/…, decoded once and cached."""

import hashlib
import json
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plainres.data.images import Images, Source
from plainres.records.files import atomic

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")


def read(root: Path, image_size: int | None) -> Source:
    """The images of a folder or an archive in any format that Pillow reads, in colour.

    Args:
        image_size: pixels a side; images are cut to their middle square and resized by area. None:
            all images must have one size.

    Raises:
        ValueError: `root` is not such a folder, or an image cannot be read; names what is wrong.
    """
    if not root.exists():
        raise ValueError(
            f"data.root {root} does not exist; "
            "legal: a folder or archive with train/<class>/… and test/<class>/…"
        )
    content = _content_hash(root)
    cached = cache_folder() / f"{content}-{image_size or 'native'}.pt"
    if cached.exists():
        try:
            return _unpack(torch.load(cached, weights_only=True))
        except Exception:  # a damaged cache is no reason to stop: it is written again
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


def cache_folder() -> Path:
    """Folder of decoded images: $PLAINRES_CACHE, else plainres in $XDG_CACHE_HOME or ~/.cache."""
    if folder := os.environ.get("PLAINRES_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plainres"


def _content_hash(root: Path) -> str:
    """Of names and contents, not of the place: a folder that was moved is not decoded again."""
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
                f"data.root {archive} is neither a folder nor an archive; "
                f"legal endings: {', '.join(ARCHIVES)}"
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
    """Reads all images; `shown` is what messages call the folder (an archive's own name)."""
    shown = shown or root
    root = _top_folder(root, shown)
    class_names = _class_names(root / "train", shown)
    unknown = sorted(set(_class_names(root / "test", shown)) - set(class_names))
    if unknown:
        raise ValueError(
            f"{shown}: class {unknown[0]!r} is in test but not in train; "
            f"classes of train: {', '.join(class_names)}"
        )
    train = _decode_part(root / "train", class_names, image_size, shown)
    test = _decode_part(root / "test", class_names, image_size, shown)
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise ValueError(f"{shown}: train and test images differ in shape; set data.image_size")
    return Source(train, test, class_names)


def _top_folder(root: Path, shown: Path) -> Path:
    """The folder with train/ and test/: root, or the only folder in it, as in many archives."""
    inside = [
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    ]
    for folder in (root, *(inside if len(inside) == 1 else ())):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return folder
    raise ValueError(
        f"{shown} has no train/ and test/ folders; legal: train/<class>/… and test/<class>/…"
    )


def _class_names(part: Path, shown: Path) -> tuple[str, ...]:
    names = sorted(
        path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not names:
        raise ValueError(
            f"{shown}: {part.name}/ has no class folders; legal: {part.name}/<class>/<image>"
        )
    return tuple(names)


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
        raise ValueError(f"{shown}: {part.name}/ has no images")
    pixels: list[Tensor] = []
    for path, _ in files:
        file_name = path.relative_to(part.parent)
        pixel = _read_image(path, file_name, image_size, shown)
        if pixels and pixel.shape != pixels[0].shape:
            raise ValueError(
                f"{shown}: {file_name} has shape {tuple(pixel.shape)}, "
                f"the images before it {tuple(pixels[0].shape)}; set data.image_size"
            )
        pixels.append(pixel)
    return Images(torch.stack(pixels), torch.tensor([label for _, label in files]))


def _read_image(path: Path, file_name: Path, image_size: int | None, shown: Path) -> Tensor:
    """uint8 (3, H, W); with image_size the middle square, resized by area."""
    try:
        with Image.open(path) as file:
            file.load()
            image = _eight_bits(file)
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{shown}: {file_name} cannot be read as an image ({type(error).__name__})"
        ) from error
    if image_size is not None and image.size != (image_size, image_size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.resize(
            (image_size, image_size), Image.Resampling.BOX, box=(left, top, left + side, top + side)
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB with 8 bits per channel; 16-bit grey is scaled, because Pillow's conversion clips it."""
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
