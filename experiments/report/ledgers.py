"""What differs from the paper, computed from configurations, and how each table was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.depth import deviations
from experiments.depth.deviations import ENTRIES, UNKNOWN, Deviation, Ledger
from experiments.judging.conditions import differences
from experiments.judging.pairs import folders_of_records, read_records
from experiments.reporting.markdown import commit_of, protocols_of
from plainres.records.schema import Record


@dataclass(frozen=True)
class Difference:
    """A row of the ledger: what the paper has, and what each protocol has; None: as the paper."""

    name: str
    paper: str
    place: str
    here: list[Deviation | None]


@dataclass(frozen=True)
class Measured:
    """How one committed table was measured."""

    folder: str
    rows: int
    seeds: int
    data: str
    protocols: str
    commits: list[str]
    machines: list[str]
    precisions: list[str]
    torches: list[str]
    mixed: list[str]  # conditions that rows differ in


def ledger(folders: Sequence[Path]) -> tuple[list[str], list[Difference], list[Difference]]:
    """The protocols; in what they differ from the paper; and where the paper does not say."""
    ledgers = [each for folder in folders if (each := deviations.of_folder(folder))]
    names = [each.name for each in ENTRIES]
    found = dict.fromkeys(d.name for each in ledgers for d in each.deviations)
    names += [name for name in found if name not in names]
    rows = [_row(name, ledgers) for name in names if name in found]
    unknown = [row for row in rows if all(d is None or d.kind == UNKNOWN for d in row.here)]
    return [each.protocol for each in ledgers], [r for r in rows if r not in unknown], unknown


def _row(name: str, ledgers: Sequence[Ledger]) -> Difference:
    here = [next((d for d in each.deviations if d.name == name), None) for each in ledgers]
    first = next(d for d in here if d)
    return Difference(name, first.paper, first.place, here)


def measured(results: Path) -> list[Measured]:
    """Every committed table of records."""
    return [
        _measured(folder.relative_to(results), records)
        for folder in folders_of_records(results)
        if (records := read_records(folder))
    ]


def _measured(place: Path, records: Sequence[Record]) -> Measured:
    def every(values: list[str]) -> list[str]:
        return sorted(set(values))

    return Measured(
        place.as_posix(),
        len(records),
        len({row.seed for row in records}),
        ", ".join(every([row.data_label for row in records])),
        ", ".join(protocols_of(records)),
        every([commit_of(row) for row in records]),
        every([", ".join(filter(None, (r.processor, r.instruction_set))) for r in records]),
        every([row.precision for row in records]),
        every([row.torch for row in records]),
        [line.split(":")[0] for line in differences(records)],
    )
