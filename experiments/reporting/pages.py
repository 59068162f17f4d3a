"""Computed blocks of pages that are written by hand: what such a page says of a verdict follows it.

A block begins with a line `<!-- kind:name -->` and ends with a line `<!-- end -->`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from plainres.records.files import write_text

BLOCK = re.compile(r"(<!-- (\w+):([\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Kinds = Mapping[str, Callable[[str, Path], str]]  # kind → from name and page, what the block holds


def filled(page: Path, kinds: Kinds) -> str:
    """The text of a page with every block made anew."""

    def made(block: re.Match[str]) -> str:
        begin, kind, name, end = block.groups()
        if kind not in kinds:
            raise ValueError(f"{page}: no block {kind!r}; choose {', '.join(kinds)}")
        return f"{begin}{kinds[kind](name, page)}\n{end}"

    return BLOCK.sub(made, page.read_text(encoding="utf-8"))


def fill(page: Path, kinds: Kinds) -> None:
    """Makes every block of a page anew."""
    write_text(page, filled(page, kinds))


def by_hand(page: Path) -> str:
    """The text of a page without its blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))
