"""One picture: the bytes of a file → the pixels that a viewer shows."""

import io
import sys
import warnings
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

# What is needed for a picture of these brands (ISO/IEC 14496-12, ftyp) that cannot be read
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PACKAGES = {
    **dict.fromkeys((b"avif", b"avis"), ("AVIF", "pillow>=11.3")),
    **dict.fromkeys(_HEIC, ("HEIC", "pillow-heif")),
}


def read_picture(content: bytes, image_size: int | None) -> Tensor:
    """uint8 (3, H, W), of what `open_picture` returns.

    Args:
        image_size: pixels a side; cut to the middle square and resized by area. None: as it is.

    Raises:
        ValueError: as of `open_picture`.
    """
    image = open_picture(content)
    if image_size is not None and image.size != (image_size, image_size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.resize(
            (image_size, image_size), Image.Resampling.BOX, box=(left, top, left + side, top + side)
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def open_picture(content: bytes) -> Image.Image:
    """Upright by its EXIF orientation, in colour, on white where it is transparent.

    Args:
        content: of a file in any format that Pillow reads; in HEIC, where pillow-heif is installed.

    Raises:
        ValueError: it cannot be read; says why, without the file's name.
    """
    _register_heic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, which is no part of the pixels
            with Image.open(io.BytesIO(content)) as file:
                file.load()
                return _eight_bits(_upright(file))
    except Exception as error:  # the bytes may be anything, and so are Pillow's errors
        raise ValueError(
            _missing_package(content) or f"cannot be read as an image ({type(error).__name__})"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF: as it is stored
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB with 8 bits per channel; 16-bit grey is scaled, because Pillow's conversion clips it."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    if "transparency" not in image.info and not {"A", "a"} & set(image.getbands()):
        return image.convert("RGB")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _missing_package(content: bytes) -> str | None:
    brands = [content[start : start + 4] for start in (8, *range(16, 40, 4))]
    if content[4:8] != b"ftyp" or not (known := [brand for brand in brands if brand in _PACKAGES]):
        return None
    name, package = _PACKAGES[min(known)]  # AVIF may also say mif1
    return (
        f"is damaged, or its format is not supported here: {name} needs "
        f"{sys.executable} -m pip install '{package}'"
    )


@cache
def _register_heic() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()
