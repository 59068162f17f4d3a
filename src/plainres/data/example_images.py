"""Pictures to try one's own with: `python -m plainres.data.example_images FOLDER` writes train/<class>/… and test/<class>/…, no download."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from plainres.data import images as data


def write(folder: Path) -> int:
    """Writes the squares of `data=photos` (224×224) as PNG files, as an image folder that `data=image_folder` reads; returns their number.

    Raises FileExistsError where `folder` is: what lies in it may be somebody's own pictures.
    """
    source = data.load("photos")
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
    parser = argparse.ArgumentParser(
        prog="plainres.data.example_images",
        description="A folder of pictures to try `make own-images` with.",
    )
    parser.add_argument(
        "folder", type=Path, help="is made; train/<class>/ and test/<class>/ come into it"
    )
    folder = parser.parse_args(arguments).folder
    try:
        number = write(folder)
    except OSError as error:
        print(
            f"plainres: {folder}: {error.strerror}; wanted: a folder that is not there yet and can be made",
            file=sys.stderr,
        )
        return 1
    print(f"{folder}: {number} pictures, for make own-images ROOT={folder} LABEL=photographs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
