"""Faults of content: bits, pages, lengths, versions and types of every file that a run reads."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from experiments.torture.crashes import Kinds, Listed
from experiments.torture.places import PICTURES, Place, Result, Site, remove

PAGE = 4096
Damage = Callable[[Path, Random], object]
Target = tuple[str, str]  # prepared place that the run starts from; file below its folder
FLIPS = {".ckpt": 40, ".pt": 30, ".json": 12}  # others 10


def targets(site: Site) -> list[Target]:
    found = []
    for start in ("interrupted", "finished"):
        place: Place = getattr(site, start)
        names = ("record.json", "weights.pt", "curves.csv", "config.json", "progress.json")
        paths = [*sorted(place.cell.glob("*.ckpt")), *(place.cell / name for name in names)]
        paths += [place.tables / name for name in ("config.json", "runs.csv", "curves.csv")]
        found += [(start, str(path.relative_to(place.folder))) for path in paths if path.exists()]
    cached = sorted(site.of_pictures.cache.glob("*.pt"))
    inputs = ("pictures.zip", "pictures.tar.gz", "pictures/train/cat/0.png")
    found += [("cache", f"cache/{path.name}") for path in cached]
    return found + [("input", f"data/{name}") for name in inputs]


def damaged(damage: Damage, target: Target, site: Site, place: Place, rng: Random) -> Result:
    start, name = target
    path = place.folder / name
    if start in ("cache", "input"):
        with_pictures(site, place, Path(name).name if name.count("/") == 1 else "pictures")
        if start == "cache":
            shutil.copytree(site.of_pictures.cache, place.cache, dirs_exist_ok=True)
    else:
        place.fill(getattr(site, start))
    damage(path, rng)

    def repair() -> None:
        remove(path)
        if start == "input":
            shutil.copyfile(site.folder / name, path)

    return place.outcome(repair)


def with_pictures(site: Site, place: Place, name: str = "pictures") -> Path:
    """The place with a copy of the pictures, and the command to train on `name` of them."""
    shutil.copytree(site.pictures, place.folder / "data")
    root = place.folder / "data" / (name if (site.pictures / name).exists() else "pictures")
    place.words = (*PICTURES, f"data.root={root}")
    place.wanted = site.of_pictures.wanted
    return root


def flip(path: Path, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def cut(path: Path, rng: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, len(content))])


def zero(path: Path, rng: Random) -> None:
    """A page of zeros; in a small file from a random byte to its end, as after a power cut."""
    content = bytearray(path.read_bytes())
    first = PAGE * rng.randrange(-(-len(content) // PAGE))
    if len(content) <= PAGE:
        first = rng.randrange(len(content))
    last = min(first + PAGE, len(content))
    content[first:last] = bytes(last - first)
    path.write_bytes(content)


def becomes(content: bytes, path: Path, rng: Random) -> None:
    path.write_bytes(content)


def of_neighbour(path: Path, rng: Random) -> None:
    shutil.copyfile(path.parent.with_name("plain-8-seed1") / path.name, path)


def nonsense_json(path: Path, rng: Random) -> None:
    """One value of another type, or outside its range."""
    values = json.loads(path.read_text(encoding="utf-8"))
    name = rng.choice(sorted(values))
    nonsense: list[Any] = ["x", -1, [], 1e999, 5.5]
    values[name] = rng.choice([value for value in nonsense if value != values[name]])
    path.write_text(json.dumps(values), encoding="utf-8")


def nonsense_csv(path: Path, rng: Random) -> None:
    """One value of the first row that is not its number."""
    head, row, *rows = path.read_text(encoding="utf-8").splitlines()
    values = row.split(",")
    numbers = [at for at, value in enumerate(values) if value.replace(".", "").isdigit()]
    values[rng.choice(numbers)] = rng.choice(["nan", "", "x", "-1", "inf"])
    path.write_text("\n".join([head, ",".join(values), *rows]) + "\n", encoding="utf-8")


def resaved(change: Callable[[dict], object], path: Path, rng: Random) -> None:
    """A checkpoint as it would have been saved with another content: all checksums are right."""
    import torch

    from plainres.data.cache import save_sealed

    content: dict[str, Any] = torch.load(path, weights_only=True)
    change(content)
    with path.open("wb") as file:
        save_sealed(content, file)


FOREIGN = (b"{}", b"[1]", b"null", b"<<<<<<< HEAD\n", b"<!DOCTYPE html>\n", b"\xff\xfe{\x00}\x00")
IN_CHECKPOINT: dict[str, Callable[[dict], object]] = {
    "iteration 1000000": lambda content: content.update(iteration=10**6),
    "iteration -1": lambda content: content.update(iteration=-1),
    "iteration 3.5": lambda content: content.update(iteration=3.5),
    "another iteration than its curve": lambda content: content.update(iteration=2),
    "no callbacks": lambda content: content.update(callbacks={}),
    "no state_dict": lambda content: content.pop("state_dict"),
}


def foreign(target: Target) -> list[tuple[str, Damage]]:
    start, name = target
    versions: list[tuple[str, Damage]] = [
        (f"becomes {content!r}", partial(becomes, content)) for content in FOREIGN
    ]
    if "seed0" in name and start == "finished":
        versions.append(("is the neighbour's", of_neighbour))
    versions += [("has a nonsense value", nonsense_json)] * (8 * name.endswith(".json"))
    versions += [("has a nonsense value", nonsense_csv)] * (6 * name.endswith(".csv"))
    changes = IN_CHECKPOINT if name.endswith(".ckpt") else {}
    return versions + [
        (f"has {text}", partial(resaved, change)) for text, change in changes.items()
    ]


def retyped(make: Callable[[Path], object], path: Path, rng: Random) -> None:
    remove(path)
    make(path)


WRONG_TYPES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: (path / "inside").mkdir(parents=True),
    "a link to nothing": lambda path: path.symlink_to("/not/there"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a FIFO": os.mkfifo,
}


def wrong_type(target: Target) -> list[tuple[str, Damage]]:
    return [(f"is {name}", partial(retyped, make)) for name, make in WRONG_TYPES.items()]


def each(
    damages: Callable[[Target], list[tuple[str, Damage]]],
) -> Callable[[Site], Listed]:
    return lambda site: [
        (f"{Path(target[1]).name} ({target[0]}) {text}", partial(damaged, damage, target, site))
        for target in targets(site)
        for text, damage in damages(target)
    ]


KINDS: Kinds = {
    "flip": (
        "one bit of a file is another",
        each(lambda target: [("", flip)] * FLIPS.get(Path(target[1]).suffix, 10)),
    ),
    "cut": ("a file is cut short", each(lambda target: [("", cut)] * 2)),
    "empty": (
        "a file is empty",
        each(lambda target: [("", partial(becomes, b""))]),
    ),
    "zero": (
        "a page of a file, or the end of a small one, is zeros",
        each(lambda target: [("", zero)] * 2),
    ),
    "foreign": ("a file is that of another cell, version or program", each(foreign)),
    "wrong-type": (
        "a folder, link or FIFO is where a file should be",
        each(wrong_type),
    ),
}
