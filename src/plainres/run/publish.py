"""Finished cells of this machine become rows of the committed tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plainres.records import files
from plainres.records.identity import cell_name, config_differences, shared_config
from plainres.records.schema import Record
from plainres.run.cell import set_tables_aside


def publish(results_dir: Path, committed_dir: Path, name: str) -> list[str]:
    """Takes the finished cells below `results_dir`/`name` into the tables of `committed_dir`.

    A cell replaces the rows that the tables have of it; other rows stay. Tables of another
    configuration are set aside. A cell that does not share its folder's configuration is skipped.

    Args:
        name: slug/folder, such as depth/quick; a folder of folders takes all of them.

    Returns:
        Lines for the terminal.

    Raises:
        ValueError: no cell is finished, or a file is damaged. Nothing is written then.
    """
    parents = sorted((results_dir / name).rglob(f"runs/*/{files.RECORD_FILE}"))
    folders = list(dict.fromkeys(path.parents[2] for path in parents))
    if not folders:
        raise ValueError(f"{results_dir / name} has no finished cell; a sweep measures them")
    lines, ready = [], []
    for folder in folders:
        shared = files.read_config(folder)
        if shared is None:
            path = folder / files.CONFIG_FILE
            raise ValueError(f"{path} is gone; the same sweep writes it again")
        into = committed_dir / folder.relative_to(results_dir)
        found = files.gathered(folder, into, shared)
        if found.damaged:
            raise files.DamagedCellsError("; ".join(found.damaged))
        lines += _skipped(folder, found.records, shared)
        ready.append((folder, into, shared, found.records, _described(folder, found.records)))
    for folder, into, shared, cells, described in ready:
        if not cells:
            continue
        if line := set_tables_aside(into, shared):
            lines.append(line)
        replaced = {record.cell for record in files.read_runs(into)} & set(cells)
        files.gather(folder, into)
        for path in described:
            files.write_text(into / path.name, path.read_text(encoding="utf-8"))
        count = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
        lines.append(f"{into}: {count} published, {len(replaced)} of them had rows before")
    return lines


def _skipped(folder: Path, cells: Mapping[str, Record], shared: Mapping[str, Any]) -> list[str]:
    """A line for each finished cell of another configuration."""
    lines = []
    for cell in files.finished_cells(folder, None)[0]:
        if cell not in cells:
            own = files.read_config(folder / "runs" / cell)
            differences = "; ".join(config_differences(shared, shared_config(own))) if own else ""
            differences = differences or f"its {files.CONFIG_FILE} is not that of its record"
            lines.append(f"skipped {folder}/{cell}: another configuration ({differences})")
    return lines


def _described(folder: Path, cells: Mapping[str, Record]) -> list[Path]:
    """Tables that a JSON file of the same name describes as measured on one cell, with the file."""
    paths = []
    for path in sorted(folder.glob("*.json")):
        description, table = files.read_json(path) or {}, path.with_suffix(".csv")
        names = {"arm", "depth", "seed", "config_hash"}
        if names - set(description) or not table.exists():
            continue
        record = cells.get(cell_name(description["arm"], description["depth"], description["seed"]))
        if record is not None and record.config_hash == description["config_hash"]:
            paths += [table, path]
    return paths
