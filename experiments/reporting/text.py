"""What verdicts are told with in a terminal. Imports nothing heavy, so that they come at once."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from plainres.records.schema import Record


def columns(rows: Sequence[Sequence[str]], left: bool = False) -> list[str]:
    """One line a row, every column as wide as its widest cell.

    Args:
        left: cells stand to the left of their column, else to the right.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    side = str.ljust if left else str.rjust
    return [
        "  ".join(side(text, width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def seeds_of(records: Sequence[Record]) -> str:
    """How many seeds each network has, from the fewest to the most.

    A network may stand in several folders of one protocol. Every folder has the first seeds, so
    the seeds that occur most often are those that each of the folders has.
    """
    seeds: dict[tuple[str, str, int], Counter[int]] = {}
    for record in records:
        network = (record.protocol, record.arm, record.depth)
        seeds.setdefault(network, Counter())[record.seed] += 1
    most = max(map(len, seeds.values()))
    fewest = min(list(one.values()).count(max(one.values())) for one in seeds.values())
    return f"{most} seed{'s' * (most != 1)}" if fewest == most else f"{fewest} to {most} seeds"


def tell(
    report: Callable[[Path], tuple[list[str], int]],
    question: str,
    what: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """A command that prints what is known of one folder; 2 and one line where that is nothing.

    Args:
        report: a folder's lines and the status to end with; ValueError says what is wrong with the folder.
        question: for the command's help.
        what: the kind of folder, for the command's help.
        arguments: None for those of the process.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("folder", type=Path, help=what)
    try:
        lines, status = report(parser.parse_args(arguments).folder)
    except ValueError as error:
        print(f"plainres: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return status
