"""Example pictures, no download: `python -m plainres.data.example_images FOLDER`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from plainres.data import sources
from plainres.records.errors import UNUSABLE, status_of
from plainres.records.files import atomic


def write(folder: Path) -> int:
    """Writes the squares of `data=photos` (224×224) as PNG files; returns their number.

    They lie in train/<class>/ and test/<class>/, as `data=image_folder` reads them. Where they lie
    there already, nothing is written.

    Raises:
        FileExistsError: `folder` has other files; the user's own pictures may be among them.
    """
    source = sources.load("photos")
    squares = {
        f"{part}/{source.class_names[label]}/{number:03d}.png": pixels
        for part, images in (("train", source.train), ("test", source.test))
        for number, (pixels, label) in enumerate(
            zip(images.pixels, images.labels.tolist(), strict=True)
        )
    }
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if not path.is_dir()
    }
    if there - squares.keys() or folder.is_file():
        raise FileExistsError(
            f"{folder} has other files; the example needs a folder that does not exist yet"
        )
    for name in squares.keys() - there:
        picture = Image.fromarray(squares[name].permute(1, 2, 0).numpy())
        with atomic(folder / name) as part_of_file:
            picture.save(part_of_file, format="PNG")
    return len(squares)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="plainres.data.example_images",
        description="A folder of pictures to try `make own-images` with.",
    )
    parser.add_argument(
        "folder", type=Path, help="is created; gets train/<class>/ and test/<class>/"
    )
    folder = parser.parse_args(arguments).folder
    try:
        number = write(folder)
    except OSError as error:
        print(f"plainres: {error}", file=sys.stderr)
        return UNUSABLE
    print(f"{folder}: {number} pictures, for make own-images ROOT={folder} LABEL=photographs")
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
