"""Images in a folder or an archive, decoded once and cached.

They lie in train/<class>/… and test/<class>/…, or in <class>/… alone: then a part of each
class becomes the test set.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from plainres.data.cache import kept
from plainres.data.entries import ARCHIVES, BLOCK, Entry, of_archive, of_folder
from plainres.data.images import SPLIT_SEED, Images, Source
from plainres.data.pictures import read_picture

TRAIN, TESTS = "train", ("test", "val")  # the first that is there
TEST_SHARE = 0.2
LEGAL = "legal: train/<class>/… and test/<class>/…, or <class>/… alone, from two classes up"
_VERSION = 2  # of what this file makes of a picture; another one is decoded anew


class Listing(NamedTuple):
    """Which files are the pictures of which class: (file, label) of both parts."""

    class_names: tuple[str, ...]
    train: list[tuple[Entry, int]]
    test: list[tuple[Entry, int]]
    notes: tuple[str, ...]


def read(root: Path, image_size: int | None, test_share: float | None = None) -> Source:
    """The images of a folder or an archive in any format that Pillow reads, in colour.

    Args:
        image_size: pixels a side; images are cut to their middle square and resized by area. None:
            all images must have one size.
        test_share: of each class, where there are no train/ and test/; None: TEST_SHARE.

    Raises:
        ValueError: `root` is not such a folder, or an image cannot be read; names what is wrong.
        OSError: a file or folder cannot be read.
    """
    if not root.exists():
        raise ValueError(f"data.root {root} does not exist; {LEGAL}, in a folder or an archive")
    options = f"{_VERSION} {image_size} {test_share}"
    if root.is_dir():
        listing = arrange(of_folder(root), root, test_share)
        if image_size is not None:  # before all is read
            shape = torch.Size((3, image_size, image_size))
            _check_memory(len(listing.train) + len(listing.test), shape, root)
        key = _key(options, _contents(listing))
        return _cached(key, lambda: _decode(listing, image_size, root))
    if not root.is_file() or not root.name.lower().endswith(ARCHIVES):
        raise ValueError(
            f"data.root {root} is neither a folder nor an archive; "
            f"legal endings: {', '.join(ARCHIVES)}"
        )

    def decode() -> Source:
        with of_archive(root) as entries:
            return _decode(arrange(entries, root, test_share), image_size, root)

    return _cached(_key(options, _blocks(root)), decode)


def arrange(entries: Iterable[Entry], root: Path, test_share: float | None) -> Listing:
    """Decides which entries are pictures, of which class and part, by their paths alone.

    Files outside class folders are left out.

    Raises:
        ValueError: the folders are not as they must be; names what is wrong.
    """
    entries = list(entries)
    outer = _folders(entries)
    for base in ((), *([(outer[0],)] if len(outer) == 1 else [])):  # many archives hold one folder
        inside = _below(entries, *base)
        names = _folders(inside)
        test = next((name for name in TESTS if name in names), None)
        if TRAIN in names and test:
            if test_share is not None:
                raise ValueError(
                    f"data.test_share {test_share} is for images without train/ and test/, and "
                    f"{root} has them"
                )
            return _given_parts(inside, root, test)
        if TRAIN in names or test:
            raise ValueError(
                f"{root} has no train/ and test/ folders, only {TRAIN if TRAIN in names else test}/"
                f"; {LEGAL}"
            )
        if len(names) > 1:
            return _drawn_parts(inside, root, TEST_SHARE if test_share is None else test_share)
    one = f", and one class only, {outer[0]!r}" if outer else ", and no class folders"
    raise ValueError(f"{root} has no train/ and test/ folders{one}; {LEGAL}")


def _below(entries: Iterable[Entry], *folder: str) -> list[Entry]:
    """The entries below a folder, with their paths below it."""
    depth = len(folder)
    return [
        replace(entry, parts=entry.parts[depth:])
        for entry in entries
        if entry.parts[:depth] == folder and len(entry.parts) > depth
    ]


def _given_parts(entries: list[Entry], root: Path, test: str) -> Listing:
    class_names = _class_names(entries, root, TRAIN)
    if len(class_names) == 1:
        raise ValueError(
            f"{root}: train/ has one class only, {class_names[0]!r}; two are the least"
        )
    unknown = sorted(set(_class_names(entries, root, test)) - set(class_names))
    if unknown:
        raise ValueError(
            f"{root}: class {unknown[0]!r} is in {test} but not in train; "
            f"classes of train: {', '.join(class_names)}"
        )
    train, tested = (_pictures(entries, root, class_names, (part,)) for part in (TRAIN, test))
    _check_no_class_is_empty(train, class_names, root, "train/")
    if not tested:
        raise ValueError(f"{root}: {test}/ has no images")
    notes = () if test == TESTS[0] else (f"data.root has no test/: {test}/ is the test set",)
    return Listing(class_names, train, tested, notes)


def _drawn_parts(entries: list[Entry], root: Path, share: float) -> Listing:
    class_names = tuple(_folders(entries))
    pictures = _pictures(entries, root, class_names, ())
    _check_no_class_is_empty(pictures, class_names, root, "")
    train, test = [], []
    for _, of_one_class in groupby(pictures, key=lambda picture: picture[1]):
        own = list(of_one_class)
        count = min(max(1, round(share * len(own))), len(own) - 1)
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(SPLIT_SEED))
        drawn = set(order[:count].tolist())
        test += [picture for number, picture in enumerate(own) if number in drawn]
        train += [picture for number, picture in enumerate(own) if number not in drawn]
    if not test:
        raise ValueError(f"{root} has no class with two images: none is left to test on")
    note = (
        f"data.root has no train/ and test/: {len(test)} of its {len(pictures)} images are the "
        f"test set, {share:.0%} of each class, drawn with seed {SPLIT_SEED} whatever the seed of a "
        "run (data.test_share=… sets the share)"
    )
    return Listing(class_names, train, test, (note,))


def _folders(entries: Iterable[Entry]) -> list[str]:
    """Names of the folders at the top."""
    return sorted({entry.parts[0] for entry in entries if entry.parts[1:] or entry.is_folder})


def _class_names(entries: list[Entry], root: Path, part: str) -> tuple[str, ...]:
    names = _folders(_below(entries, part))
    if not names:
        raise ValueError(f"{root}: {part}/ has no class folders; legal: {part}/<class>/<image>")
    return tuple(names)


def _pictures(
    entries: list[Entry], root: Path, class_names: tuple[str, ...], above: tuple[str, ...]
) -> list[tuple[Entry, int]]:
    """The files in the class folders below `above`, with their labels.

    Raises:
        ValueError: one of them, or what may be a class folder, can be no picture.
    """
    labels, depth = {name: label for label, name in enumerate(class_names)}, len(above)
    below = [entry for entry in entries if entry.parts[:depth] == above]
    return [
        (entry, labels[entry.parts[depth]])
        for entry in _files(below, root)
        if len(entry.parts) > depth + 1
    ]


def _files(entries: Iterable[Entry], root: Path) -> Iterator[Entry]:
    for entry in entries:
        if entry.fault:
            raise ValueError(f"{root}: {'/'.join(entry.parts)} {entry.fault}")
        if not entry.is_folder:
            yield entry


def _check_no_class_is_empty(
    pictures: list[tuple[Entry, int]], class_names: tuple[str, ...], root: Path, part: str
) -> None:
    filled = {label for _, label in pictures}
    for label, name in enumerate(class_names):
        if label not in filled:
            raise ValueError(f"{root}: class folder {part}{name} is empty")


def _decode(listing: Listing, image_size: int | None, root: Path) -> Source:
    total = len(listing.train) + len(listing.test)
    train, test = (
        _decode_part(files, image_size, root, total) for files in (listing.train, listing.test)
    )
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise ValueError(f"{root}: train and test images differ in shape; set data.image_size")
    return Source(train, test, listing.class_names, notes=listing.notes)


def _decode_part(
    files: list[tuple[Entry, int]], image_size: int | None, root: Path, total: int
) -> Images:
    """The images of one part, where both have `total`."""
    pixels: Tensor | None = None
    for index in sorted(range(len(files)), key=lambda index: files[index][0].position):
        entry = files[index][0]
        picture = _read_entry(entry, image_size, root)
        if pixels is None:
            _check_memory(total, picture.shape, root)
            pixels = torch.empty((len(files), *picture.shape), dtype=torch.uint8)
        if picture.shape != pixels.shape[1:]:
            raise ValueError(
                f"{root}: {'/'.join(entry.parts)} has shape {tuple(picture.shape)}, "
                f"the images before it {tuple(pixels.shape[1:])}; set data.image_size"
            )
        pixels[index] = picture
    assert pixels is not None
    return Images(pixels, torch.tensor([label for _, label in files]))


def _read_entry(entry: Entry, image_size: int | None, root: Path) -> Tensor:
    assert entry.read is not None
    content = entry.read()
    try:
        return read_picture(content, image_size)
    except ValueError as error:
        raise ValueError(f"{root}: {'/'.join(entry.parts)} {error}") from error


def _check_memory(count: int, shape: torch.Size, root: Path) -> None:
    """Refuses what would take more than half of the memory: small files may hold large pictures."""
    size, memory = count * shape.numel(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory / 2:
        raise ValueError(
            f"{root}: {count} images of {shape[2]}×{shape[1]} pixels take {size / 2**30:.1f} GiB, "
            f"more than half of the memory of this machine; set a smaller data.image_size, or "
            "data=imagenet, which decodes images when they are needed"
        )


# Cache


def _key(options: str, contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256(options.encode())
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:24]


def _contents(listing: Listing) -> Iterator[bytes]:
    """Names and contents, not the place: a folder that was moved is not decoded again."""
    for entry, _ in (*listing.train, *listing.test):
        assert entry.read is not None
        content = entry.read()
        yield os.fsencode("/".join(entry.parts)) + b"\0%d\0" % len(content) + content


def _blocks(archive: Path) -> Iterator[bytes]:
    with archive.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _cached(key: str, decode: Callable[[], Source]) -> Source:
    """The images in the cache, else what `decode` returns; a note where it cannot be kept."""
    packed, fault = kept(key, lambda: _pack(decode()))
    source = _unpack(packed)
    if not fault:
        return source
    note = (
        f"the decoded images cannot be kept {fault}, every process decodes them again; "
        "the environment variable PLAINRES_CACHE names another folder for them"
    )
    return replace(source, notes=(*source.notes, note))


def _pack(source: Source) -> dict[str, Tensor | str]:
    return {
        "train_pixels": source.train.pixels,
        "train_labels": source.train.labels,
        "test_pixels": source.test.pixels,
        "test_labels": source.test.labels,
        "class_names": json.dumps(source.class_names),
        "notes": json.dumps(source.notes),
    }


def _unpack(packed: dict) -> Source:
    return Source(
        Images(packed["train_pixels"], packed["train_labels"]),
        Images(packed["test_pixels"], packed["test_labels"]),
        tuple(json.loads(packed["class_names"])),
        notes=tuple(json.loads(packed["notes"])),
    )
