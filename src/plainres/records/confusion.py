"""Which classes a trained network takes for which: two tables of a cell. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plainres.records import files

CONFUSION_TABLE = "confusion.csv"
CLASSES_TABLE = "classes.csv"
_PREDICTED = "predicted "  # before the name of a class, so that no class can be called "arm"


@dataclass(frozen=True)
class ClassErrors:
    """One row of classes.csv: the test images of one class, and how many were not recognised.

    Args:
        error_percent: None for a class without test images.
        taken_for: the class that most of the `errors` were taken for, `times` of them; "": none.
    """

    arm: str
    depth: int
    seed: int
    class_name: str
    images: int
    errors: int
    error_percent: float | None
    taken_for: str
    times: int


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Args:
        seeds: of the networks whose counts are added.
        names: of the classes.
        counts: test images by true class (row) and predicted class (column).
    """

    arm: str
    depth: int
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    counts: Sequence[Sequence[int]]

    @property
    def images(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def errors(self) -> int:
        return self.images - sum(row[place] for place, row in enumerate(self.counts))

    def classes(self) -> list[ClassErrors]:
        """One row per class; `seed` is the first one."""
        rows = []
        for place, (name, row) in enumerate(zip(self.names, self.counts, strict=True)):
            images, errors = sum(row), sum(row) - row[place]
            percent = 100 * errors / images if images else None
            times, most = max(
                (count if other != place else 0, -other) for other, count in enumerate(row)
            )
            taken_for = self.names[-most] if times else ""
            cell = (self.arm, self.depth, self.seeds[0])
            rows.append(ClassErrors(*cell, name, images, errors, percent, taken_for, times))
        return rows


def write(folder: Path, confusion: Confusion) -> None:
    """Both tables of a cell into its folder."""
    cell = (confusion.arm, str(confusion.depth), str(confusion.seeds[0]))
    columns = ["arm", "depth", "seed", "true", *(_PREDICTED + name for name in confusion.names)]
    rows = [
        [*cell, name, *map(str, row)]
        for name, row in zip(confusion.names, confusion.counts, strict=True)
    ]
    files.write_lines(folder / CONFUSION_TABLE, columns, rows)
    files.write_table(folder / CLASSES_TABLE, confusion.classes(), ClassErrors)


def read(folder: Path) -> list[Confusion]:
    """The matrices in a results folder, one for each network: those of all its seeds together.

    Raises:
        ValueError: the table is damaged; names file and value.
    """
    path = folder / CONFUSION_TABLE
    cells: dict[tuple[str, int, int], list[dict[str, str]]] = {}
    for row in files.read_texts(path):
        cells.setdefault((row["arm"], int(row["depth"]), int(row["seed"])), []).append(row)
    networks: dict[tuple, Confusion] = {}
    for (arm, depth, seed), rows in cells.items():
        one = Confusion(arm, depth, (seed,), *_matrix(path, rows))
        key = (arm, depth, one.names)
        networks[key] = _together(networks[key], one) if key in networks else one
    return list(networks.values())


def _matrix(path: Path, rows: Sequence[dict[str, str]]) -> tuple[tuple[str, ...], list[list[int]]]:
    try:
        names = tuple(row["true"] for row in rows)
        filled = sorted(key for key, text in rows[0].items() if text and key.startswith(_PREDICTED))
        if filled != sorted(_PREDICTED + name for name in names):
            raise ValueError(f"rows of {', '.join(names)}, columns {', '.join(filled)}")
        return names, [[int(row[_PREDICTED + name]) for name in names] for row in rows]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no table of counts ({type(error).__name__}: {error}); the files in runs/ "
            "have its rows: delete it and type the command again"
        ) from error


def _together(one: Confusion, other: Confusion) -> Confusion:
    pairs = zip(one.counts, other.counts, strict=True)
    counts = [[a + b for a, b in zip(*rows, strict=True)] for rows in pairs]
    return replace(one, seeds=(*one.seeds, *other.seeds), counts=counts)
