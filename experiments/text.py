"""Tables for a terminal. Imports nothing heavy, so that verdicts come at once."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], left: bool = False) -> list[str]:
    """One line a row, every column as wide as its widest cell.

    Args:
        left: cells stand to the left of their column, else to the right.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    side = str.ljust if left else str.rjust
    return ["  ".join(side(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
