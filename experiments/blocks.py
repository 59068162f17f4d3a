"""What fills the pages that are written by hand: verdicts, tables and figures of the results."""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path


def fill_pages(results: Path) -> None:
    """The page about all tables, and the blocks of the pages that are written by hand."""
    from experiments.reporting import contents, pages

    contents.write(results)
    for page in (Path("README.md"), *Path("experiments").glob("*/README.md")):
        if page.exists():
            pages.fill(page, blocks(results))


def _verdicts(results: Path, slug: str, page: Path) -> str:
    from experiments.reporting.question import question

    return question(slug).verdicts(results, page)


def _depth_table(results: Path, protocol: str, page: Path) -> str:
    from experiments.depth.claims import summary
    from experiments.judging.pairs import read_records

    return summary(read_records(results / "depth" / protocol))


def _measured(results: Path, name: str, page: Path) -> str:
    """The table `<folder>/<name>` of a question."""
    from experiments.reporting.question import question

    folder, _, table = name.rpartition("/")
    return question(folder.partition("/")[0]).measured(results / folder, table)


def _figure(results: Path, name: str, page: Path) -> str:
    """The figure `<folder>/<name>`, with what the results README says it shows."""
    folder, _, figure = f"{results}/{name}".rpartition("/")
    text = Path(folder, "README.md").read_text(encoding="utf-8")
    shown = re.search(rf"!\[(.*)\]\((figures/{figure}\.png)\)", text)
    if shown is None:
        raise ValueError(f"{page} shows {name}, which {folder}/README.md does not have")
    path = os.path.relpath(Path(folder, shown[2]), page.parent)
    return f"![{shown[1]}]({Path(path).as_posix()})"


def _torture(results: Path, name: str, page: Path) -> str:
    """The outcomes of the campaign of faults in results/`name`."""
    from experiments.torture.report import summary

    return summary(results / name)


def blocks(results: Path) -> dict[str, Callable[[str, Path], str]]:
    """By the name of a block: from its argument and its page to its text."""
    made = {
        "verdicts": _verdicts,
        "table": _depth_table,
        "measured": _measured,
        "figure": _figure,
        "torture": _torture,
    }
    return {name: partial(block, results) for name, block in made.items()}
