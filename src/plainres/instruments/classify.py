"""What a trained network takes pictures for: `plainres classify cat.jpg`."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plainres.data.entries import of_folder
from plainres.records import files
from plainres.records.errors import UNUSABLE
from plainres.run.trained import TrainedNetwork

MOST_LIKELY = 5


@dataclass(frozen=True)
class Guess:
    """A class and its probability."""

    class_name: str
    probability: float


def classify(
    pictures: Sequence[str], results: Path, place: str | None = None, as_json: bool = False
) -> int:
    """Prints the most likely classes of pictures, one line each; returns a status.

    A file that is no picture is one line on stderr and a status; the others go on.

    Args:
        pictures: files, and folders of them.
        results: the results folder of this machine.
        place: of the trained network, see `find_network`.
        as_json: a list of {picture, network, classes: [{class_name, probability}, …]}.

    Raises:
        ValueError: there is no such network, or no picture.
    """
    paths, folder = list(_files_of(pictures)), find_network(results, place)
    network = TrainedNetwork.load(folder)
    rows, errors = [], 0
    for path in paths:
        try:
            guesses = most_likely(network, path)
        except (ValueError, OSError) as error:
            print(f"plainres: {error}", file=sys.stderr)
            errors += 1
            continue
        if not as_json:
            words = (f"{guess.class_name} {guess.probability:.1%}" for guess in guesses)
            print(f"{path}: {', '.join(words)}", flush=True)
        rows.append(
            {
                "picture": str(path),
                "network": str(folder),
                "classes": [asdict(guess) for guess in guesses],
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    return UNUSABLE if errors else 0


def most_likely(network: TrainedNetwork, picture: Path) -> list[Guess]:
    """The classes of a picture, the most likely first, at most MOST_LIKELY."""
    ordered = network.probabilities(picture).sort(descending=True)
    pairs = zip(ordered.indices.tolist(), ordered.values.tolist(), strict=True)
    return [Guess(network.classes[place], value) for place, value in pairs][:MOST_LIKELY]


def find_network(results: Path, place: str | None) -> Path:
    """The cell's folder of the only trained network in a place.

    Args:
        place: a folder, in `results` or anywhere; None: where `own-images` trains.

    Raises:
        ValueError: there is none, or there are several; names what to do.
    """
    own = results / "own"
    asked = [own] if place is None else [Path(place), results / place, own / place]
    found = next((cells for folder in asked if (cells := _finished_cells(folder))), [])
    if not found:
        raise ValueError(
            f"no trained network in {' or '.join(map(str, asked))}; make own-images ROOT=… LABEL=… "
            "trains one"
        )
    if len(found) > 1:
        raise ValueError(
            f"several trained networks, choose one with RESULTS=: {', '.join(map(str, found))}"
        )
    return found[0]


def _finished_cells(folder: Path) -> list[Path]:
    """Folders of finished cells with weights; one that was set aside has another name."""
    cells = sorted(weights.parent for weights in folder.rglob(files.WEIGHTS_FILE))
    records = {cell: files.read_record(cell) for cell in cells}
    return [cell for cell, record in records.items() if record and record.cell == cell.name]


def _files_of(pictures: Iterable[str]) -> Iterator[Path]:
    """Each file, and all files of each folder.

    Raises:
        ValueError: there is no such file or folder, or a folder is empty.
    """
    for name in pictures:
        path = Path(name)
        if path.is_dir():
            inside = [entry for entry in of_folder(path) if not entry.is_folder]
            if not inside:
                raise ValueError(f"{path} has no pictures")
            yield from (path.joinpath(*entry.parts) for entry in inside)
        elif path.is_file():
            yield path
        else:
            raise ValueError(f"{path} is no file and no folder")
