"""Example pictures, no download: `python -m plainres.data.example_images FOLDER`.

With `--classes 1000` made-up ones, to try what ImageNet needs without having it.
"""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from plainres.data import sources
from plainres.records.errors import Parser, status_of
from plainres.records.files import atomic


def write(folder: Path) -> int:
    """Writes the squares of `data=photos` (224×224) as PNG files; returns their number.

    They lie in train/<class>/ and test/<class>/, as `data=image_folder` reads them. Where they lie
    there already, nothing is written.

    Raises:
        ValueError: `folder` has other files; the user's own pictures may be among them.
    """
    source = sources.load("photos")
    squares = {
        f"{part}/{source.class_names[label]}/{number:03d}.png": pixels
        for part, images in (("train", source.train), ("test", source.test))
        for number, (pixels, label) in enumerate(
            zip(images.pixels, images.labels.tolist(), strict=True)
        )
    }
    for name in _missing(folder, squares):
        picture = Image.fromarray(squares[name].permute(1, 2, 0).numpy())
        with atomic(folder / name) as part_of_file:
            picture.save(part_of_file, format="PNG")
    return len(squares)


def _missing(folder: Path, names: Collection[str]) -> set[str]:
    """Those of the files that the folder lacks.

    Raises:
        ValueError: it has other files.
    """
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if not path.is_dir()
    }
    if there - set(names) or folder.is_file():
        raise ValueError(
            f"{folder} has other files; the example needs a folder that does not exist yet"
        )
    return set(names) - there


def write_made_up(folder: Path, classes: int, size: tuple[int, int] = (500, 375)) -> int:
    """Writes two JPEGs of smooth noise per class to train on and one to test; returns their number.

    They lie in train/<class>/ and val/<class>/, as ImageNet is unpacked. Those that lie there
    already stay.

    Args:
        size: width and height in pixels; 500×375 is usual for ImageNet.

    Raises:
        ValueError: fewer than two classes, or `folder` has other files.
    """
    if classes < 2:
        raise ValueError(f"{classes} classes; legal: from two up")
    random = np.random.default_rng(0)
    names = [
        f"{part}/class{label:04d}/{number}.JPEG"
        for label in range(classes)
        for part, number in (("train", 0), ("train", 1), ("val", 0))
    ]
    missing = _missing(folder, names)
    for name in names:
        noise = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        if name in missing:
            with atomic(folder / name) as part_of_file:
                Image.fromarray(noise).resize(size).save(part_of_file, format="JPEG")
    return len(names)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = Parser(
        prog="python -m plainres.data.example_images",
        description="A folder of pictures to try `make own-images` with.",
    )
    parser.add_argument(
        "folder", type=Path, help="is created; gets train/<class>/ and test/<class>/"
    )
    parser.add_argument(
        "--classes", type=int, help="so many classes of made-up pictures, for data=imagenet"
    )
    options = parser.parse_args(arguments)
    folder = options.folder
    if options.classes is not None:
        number = write_made_up(folder, options.classes)
        print(f"{folder}: {number} pictures, for protocol=imagenet_dry data.root={folder}")
        return 0
    number = write(folder)
    print(f"{folder}: {number} pictures, for make own-images ROOT={folder} LABEL=photographs")
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
