"""The entries of a folder or an archive, found by one rule: hash, classes and decoder see the same.

Left out: hidden names, and what systems leave in folders (LITTER). Links are followed. An archive
is read in its place: nothing of it is written.
"""

import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
LITTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),  # folder views of Windows and macOS
    *("__macosx", "@eadir", "__pycache__", "lost+found"),
    *("$recycle.bin", "#recycle", "system volume information"),
}
FILE_LIMIT = 1 << 30  # bytes of one picture
ARCHIVE_LIMIT, ARCHIVE_RATIO = 1 << 30, 100  # bytes; unpacked over packed
LINK_LIMIT = 40  # links that lead from one to the next, as on Linux
BLOCK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A file or folder.

    Args:
        parts: the path below the root.
        read: returns the content; None: a folder.
        fault: why it can be neither a picture nor a folder; None: it can.
        position: reading in ascending order is fast.
    """

    parts: tuple[str, ...]
    read: Callable[[], bytes] | None = None
    fault: str | None = None
    position: int = 0

    @property
    def is_folder(self) -> bool:
        return self.read is None and self.fault is None


def of_folder(root: Path) -> list[Entry]:
    """The entries of a folder, sorted.

    Raises:
        OSError: a folder cannot be read.
    """
    entries = []
    waiting: list[tuple[Path, tuple[str, ...], frozenset]] = [(root, (), frozenset())]
    while waiting:
        folder, above, seen = waiting.pop()
        here = folder.stat()
        seen |= {(here.st_dev, here.st_ino)}
        for path in folder.iterdir():
            if _is_litter(path.name):
                continue
            parts = (*above, path.name)
            try:
                status = path.stat()
            except OSError as error:
                reason = "is a broken link" if path.is_symlink() else "cannot be read"
                entries.append(Entry(parts, fault=f"{reason} ({error.strerror})"))
                continue
            if not stat.S_ISDIR(status.st_mode):
                fault = _fault(stat.S_ISREG(status.st_mode), status.st_size)
                entries.append(Entry(parts, path.read_bytes, fault))
            elif (status.st_dev, status.st_ino) in seen:
                entries.append(Entry(parts, fault="is a link to a folder that it lies in"))
            else:
                entries.append(Entry(parts))
                waiting.append((path, parts, seen))
    return sorted(entries, key=lambda entry: entry.parts)


@contextmanager
def of_archive(archive: Path) -> Iterator[list[Entry]]:
    """The entries of an archive, sorted; they can be read until the block ends.

    Raises:
        ValueError: it is damaged, hostile or unreasonably large; names archive and reason.
    """
    with ExitStack() as stack:
        with _naming(archive):
            limit = max(ARCHIVE_LIMIT, ARCHIVE_RATIO * archive.stat().st_size)
            if archive.name.lower().endswith(".zip"):
                entries = _of_zip(stack.enter_context(zipfile.ZipFile(archive)), archive, limit)
            else:
                entries = _of_tar(stack.enter_context(tarfile.open(archive)), archive, limit)
        yield sorted(
            (entry for entry in entries if entry.parts and not any(map(_is_litter, entry.parts))),
            key=lambda entry: entry.parts,
        )


def _of_zip(file: zipfile.ZipFile, archive: Path, limit: int) -> list[Entry]:
    entries: dict[tuple[str, ...], Entry] = {}
    total = 0
    for info in file.infolist():
        total = _added(total, info.file_size, limit)
        name = info.filename
        if not info.flag_bits & 0x800:  # then the name's encoding is unknown, and read as cp437
            try:
                name = name.encode("cp437").decode("utf-8")
            except UnicodeError:
                pass
        name = name.replace("\\", "/")  # of PowerShell 5 and others on Windows
        parts = _parts(name)
        if name.endswith("/"):
            entries[parts] = Entry(parts)
            continue
        fault = _fault(True, info.file_size)
        if stat.S_ISLNK(info.external_attr >> 16):
            fault = "is a link; zip the file itself (zip without -y)"
        read = partial(_read_zip, file, info, archive)
        entries[parts] = Entry(parts, read, fault, info.header_offset)
    return list(entries.values())


def _of_tar(file: tarfile.TarFile, archive: Path, limit: int) -> list[Entry]:
    members, total = {}, 0
    for member in file:
        total = _added(total, member.size, limit)
        members[_parts(member.name)] = member
    # Python takes a damaged header for the end, behind which there are only zeros; and a stream's
    # checksum is read at its own end
    stream = file.fileobj
    assert stream is not None
    stream.seek(file.offset)
    end = 0
    while block := stream.read(BLOCK):
        end = _added(end, len(block), limit)
        if block.strip(b"\0"):
            raise ValueError("it is damaged: there are files that cannot be read")
    if end < tarfile.BLOCKSIZE:
        raise ValueError("it is cut short: its end mark is missing")
    entries = []
    for parts, member in members.items():
        target = _link_target(members, parts)
        if member.isdir():
            entries.append(Entry(parts))
        elif target is None:
            entries.append(Entry(parts, fault="is a link to a file that the archive does not hold"))
        else:
            read = partial(_read_tar, file, target, archive)
            fault = _fault(target.isfile(), target.size)
            entries.append(Entry(parts, read, fault, target.offset_data))
    return entries


def _link_target(
    members: dict[tuple[str, ...], tarfile.TarInfo], parts: tuple[str, ...]
) -> tarfile.TarInfo | None:
    for _ in range(LINK_LIMIT):
        member = members.get(parts)
        if member is None or not (member.issym() or member.islnk()):
            return member
        folder = parts[:-1] if member.issym() else ()
        parts = tuple(posixpath.normpath("/".join((*folder, member.linkname))).split("/"))
    return None


def _read_zip(file: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> bytes:
    with _naming(archive):
        return file.read(info)


def _read_tar(file: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> bytes:
    with _naming(archive):
        content = file.extractfile(member)
        assert content is not None
        return content.read()


@contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Any error becomes a ValueError that names the archive: its bytes may be anything."""
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise ValueError(f"archive {archive} cannot be unpacked: {reason}") from error


def _added(total: int, size: int, limit: int) -> int:
    if total + size > limit:
        raise ValueError(
            f"it holds more than {limit / 2**30:.1f} GiB and more than {ARCHIVE_RATIO} times its "
            "own size; if that is meant, unpack it and let data.root be the folder"
        )
    return total + size


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError(f"{name!r} points outside of it")
    return parts


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def _fault(regular: bool, size: int) -> str | None:
    if not regular:
        return "is no regular file"
    return f"is larger than {FILE_LIMIT >> 30} GiB" if size > FILE_LIMIT else None
