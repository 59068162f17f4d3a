"""Example pictures, no download: `python -m plainres.data.example_images FOLDER`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from plainres.data import sources
from plainres.records.errors import UNUSABLE, status_of


def write(folder: Path) -> int:
    """Writes the squares of `data=photos` (224×224) as PNG files; returns their number.

    They lie in train/<class>/ and test/<class>/, as `data=image_folder` reads them.

    Raises:
        FileExistsError: `folder` exists; the user's own pictures may be in it.
    """
    source = sources.load("photos")
    folder.mkdir(parents=True)
    for part, images in (("train", source.train), ("test", source.test)):
        for number, (pixels, label) in enumerate(
            zip(images.pixels, images.labels.tolist(), strict=True)
        ):
            path = folder / part / source.class_names[label] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return len(source.train) + len(source.test)


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
        print(
            f"plainres: {folder}: {error.strerror}; choose a folder that does not exist yet",
            file=sys.stderr,
        )
        return UNUSABLE
    print(f"{folder}: {number} pictures, for make own-images ROOT={folder} LABEL=photographs")
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
