"""Hostile pictures and archives: one more entry among the pictures that the cell trains on.

Survived is a run that leaves the entry out; noticed is a refusal in one line.
"""

import io
import os
import resource
import shutil
import signal
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from experiments.torture import judge
from experiments.torture.crashes import Kinds, Listed
from experiments.torture.damage import flip, with_pictures
from experiments.torture.places import Place, Result, Site, remove

BOMB = 3 * 2**30  # bytes, unpacked; 3 MiB in a zip
LARGEST_FILE = 2**30  # bytes; a run that writes more ends by a signal


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change((path.parent / "0.png").read_bytes()))


def _huge(path: Path) -> None:
    """A hundred bytes that claim 60,000 × 60,000 pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, "BMP")
    content = bytearray(buffer.getvalue())
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(content)


def _flipped(path: Path) -> None:
    shutil.copyfile(path.parent / "0.png", path)
    flip(path, Random(0))


ENTRIES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a text": ("train/cat/x.png", lambda path: path.write_text("no picture")),
    "an empty file": ("train/cat/x.png", lambda path: path.touch()),
    "half a picture": ("train/cat/x.png", _changed(lambda content: content[:-40])),
    "a picture with a flipped bit": ("train/cat/x.png", _flipped),
    "60,000 × 60,000 pixels": ("train/cat/x.bmp", _huge),
    "a FIFO": ("train/cat/x.png", lambda path: os.mkfifo(path)),
    "a link to /dev/zero": ("train/cat/x.png", lambda path: path.symlink_to("/dev/zero")),
    "a link to nothing": ("train/cat/x.png", lambda path: path.symlink_to("/not/there")),
    "a link to itself": ("train/cat/x.png", lambda path: path.symlink_to("x.png")),
    "a link to the folder above": ("train/cat/again", lambda path: path.symlink_to("../..")),
    "a folder named x.png": ("train/cat/x.png", lambda path: path.mkdir()),
    "a class of test alone": ("test/bird", lambda path: shutil.copytree(path.parent / "cat", path)),
    "an empty class": ("train/bird", lambda path: path.mkdir()),
    "what Windows leaves": ("train/cat/Thumbs.db", lambda path: path.write_bytes(b"\xd0\xcf")),
    "what macOS leaves": ("train/.DS_Store", lambda path: path.write_bytes(b"\0\0\0\1Bud1")),
    "a name that is not UTF-8": (
        os.fsdecode(b"train/cat/\xff.txt"),
        lambda path: path.write_text(""),
    ),
}


def hostile_entry(
    name: str, make: Callable[[Path], object], site: Site, place: Place, rng: Random
) -> Result:
    path = with_pictures(site, place) / name
    make(path)
    return place.outcome(lambda: remove(path))


# Archive → name of the member that is added (OUTSIDE: a path that must not be written), its type
# in a tar (REGTYPE of zip: a file of four bytes), where a link leads
OUTSIDE = "OUTSIDE"
MEMBERS: dict[str, tuple[str, str, bytes, str]] = {
    "tar: a name with ..": ("tar.gz", f"../../../../../../../..{OUTSIDE}", tarfile.REGTYPE, ""),
    "tar: an absolute name": ("tar.gz", OUTSIDE, tarfile.REGTYPE, ""),
    "tar: a link to /etc": ("tar.gz", "train/cat/x", tarfile.SYMTYPE, "/etc"),
    "tar: a hard link outside": ("tar.gz", "train/cat/x.png", tarfile.LNKTYPE, "/etc/passwd"),
    "tar: a FIFO": ("tar.gz", "train/cat/x.png", tarfile.FIFOTYPE, ""),
    "tar: a device": ("tar.gz", "train/cat/x.png", tarfile.CHRTYPE, ""),
    "zip: a name with ..": ("zip", f"../../../../../../../..{OUTSIDE}", tarfile.REGTYPE, ""),
    "zip: an absolute name": ("zip", OUTSIDE, tarfile.REGTYPE, ""),
    "zip: a link": ("zip", "train/cat/x.png", tarfile.SYMTYPE, "/etc/passwd"),
    "zip: 3 MiB that are 3 GiB": ("zip", "train/cat/x.png", tarfile.CONTTYPE, ""),
}


def make_archive(root: Path, path: Path, name: str, kind: bytes, link: str) -> None:
    """The pictures of `root`, and the member."""
    if path.suffix == ".gz":
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = 4 * (kind == tarfile.REGTYPE)
        with tarfile.open(path, "w:gz") as tar:
            tar.add(root, ".")
            tar.addfile(info, io.BytesIO(b"evil"))
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for picture in sorted(root.rglob("*.png")):
            archive.write(picture, picture.relative_to(root))
        member = zipfile.ZipInfo(name)
        member.compress_type = zipfile.ZIP_DEFLATED
        if kind == tarfile.SYMTYPE:
            member.external_attr = 0o120777 << 16
        with archive.open(member, "w", force_zip64=True) as file:
            for _ in range(BOMB // 2**20 if kind == tarfile.CONTTYPE else 0):
                file.write(bytes(2**20))
            file.write(link.encode() or b"evil")


def hostile_archive(
    end: str, name: str, kind: bytes, link: str, site: Site, place: Place, rng: Random
) -> Result:
    root, outside = with_pictures(site, place), place.folder / "evil.png"
    path = place.folder / f"hostile.{end}"
    make_archive(root, path, name.replace(OUTSIDE, str(outside)), kind, link)
    clean, place.words = place.words, (*place.words[:-1], f"data.root={path}")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))

    def repair() -> None:
        place.words = clean

    result = place.outcome(repair, lambda: place.run(before=small_files))
    return (judge.LOST, "a member was written outside") if outside.exists() else result


def entries(site: Site) -> Listed:
    _ = site.of_pictures
    return [(text, partial(hostile_entry, *entry, site)) for text, entry in ENTRIES.items()]


def archives(site: Site) -> Listed:
    _ = site.of_pictures
    return [(text, partial(hostile_archive, *member, site)) for text, member in MEMBERS.items()]


KINDS: Kinds = {
    "picture": ("a hostile entry in a folder of pictures", entries),
    "archive": ("a hostile member in an archive of pictures", archives),
}
