"""Tables of several results folders that belong to one question."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from plainres.records.files import RUNS_TABLE, read_runs
from plainres.records.schema import Record


def read_folders(folder: Path, target: str) -> dict[str, list[Record]]:
    """The records of each folder below `folder` that has some, by its name.

    Args:
        target: of the Makefile, which measures them.

    Raises:
        ValueError: there are none, or a table is damaged.
    """
    found = {
        path.parent.name: read_runs(path.parent) for path in sorted(folder.glob(f"*/{RUNS_TABLE}"))
    }
    if not any(found.values()):
        raise ValueError(f"no records in {folder}; make {target} measures them")
    return found


def require_same_images(found: Mapping[str, Sequence[Record]]) -> None:
    """Raises ValueError where folders were measured on different images, and so cannot be compared; names two of them."""
    first: tuple[str, Record] | None = None
    for name, records in found.items():
        for record in records:
            first = first or (name, record)
            if record.data_fingerprint != first[1].data_fingerprint:
                raise ValueError(
                    f"{first[0]} was measured on {first[1].data_label} and {name} on other images ({record.data_label}): "
                    "they cannot be compared"
                )
