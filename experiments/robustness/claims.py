"""Do degradation and its cure hang on our choices? `python -m experiments.robustness.claims results/robustness`.

Each folder below results/robustness is the baseline with one choice changed; its config.json says which. Judged on running training
error, means over seeds; with one seed these are directions.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.depth.claims import MARGIN, counted
from experiments.judging.pairs import read_folders, require_same_images
from experiments.reporting.text import columns, tell
from plainres.records.files import CONFIG_FILE, read_json
from plainres.records.identity import config_differences
from plainres.records.schema import Record

BASELINE = "baseline"
SHALLOW, DEEP = 20, 56
NOT_A_CHOICE = ("protocol.name",)
FOLLOWS = {
    "protocol.batch_size": ("protocol.iterations", "protocol.schedule.warmup_iterations")
}  # what a choice brings with it


@dataclass(frozen=True)
class Row:
    """One setting: running training errors as fractions by (arm, depth), None where the cell is missing.

    Args:
        name: of the setting.
        change: what differs from the baseline.
        cured_by: the arm with shortcuts.
    """

    name: str
    change: str
    errors: dict[tuple[str, int], float]
    cured_by: str = "residual"

    @property
    def missing(self) -> list[str]:
        """Cells that are not there, by arm and depth."""
        wanted = [(arm, depth) for arm in ("plain", self.cured_by) for depth in (SHALLOW, DEEP)]
        return [f"{arm}-{depth}" for arm, depth in wanted if (arm, depth) not in self.errors]

    def rise(self, arm: str) -> float | None:
        """Error of the deep network minus that of the shallow one, as a fraction; None where one is missing."""
        if (arm, SHALLOW) not in self.errors or (arm, DEEP) not in self.errors:
            return None
        return self.errors[arm, DEEP] - self.errors[arm, SHALLOW]

    @property
    def degrades(self) -> bool | None:
        """The plain network's error rises by more than half a point; None where cells are missing."""
        rise = self.rise("plain")
        return None if rise is None else rise > MARGIN

    @property
    def smaller(self) -> bool | None:
        """With shortcuts the error rises by less, and the deep network's is lower."""
        plain, cured = self.rise("plain"), self.rise(self.cured_by)
        if plain is None or cured is None:
            return None
        return cured < plain and self.errors[self.cured_by, DEEP] < self.errors["plain", DEEP]

    @property
    def gone(self) -> bool | None:
        """With shortcuts the error does not rise by more than half a point."""
        rise = self.rise(self.cured_by)
        return None if rise is None else rise <= MARGIN


def read_rows(folder: Path) -> tuple[list[Row], list[Record]]:
    """One row a setting, the baseline first, and all records.

    Raises:
        ValueError: there is no baseline, a table is damaged, or settings were measured on different images.
    """
    found = read_folders(folder, "sweep-robustness")
    if BASELINE not in found:
        raise ValueError(f"no records in {folder / BASELINE}; make sweep-robustness measures them")
    require_same_images(found)
    baseline = read_json(folder / BASELINE / CONFIG_FILE) or {}
    rows = [Row(BASELINE, "–", _errors(found[BASELINE]))]
    if any(record.arm == "projection" for record in found[BASELINE]):
        rows.append(
            Row(
                "projection",
                "shortcut: zero_pad → projection",
                _errors(found[BASELINE]),
                cured_by="projection",
            )
        )
    for name, records in found.items():
        if name != BASELINE:
            rows.append(
                Row(
                    name,
                    _change(baseline, read_json(folder / name / CONFIG_FILE) or {}),
                    _errors(records),
                )
            )
    return rows, [record for records in found.values() for record in records]


def _errors(records: Sequence[Record]) -> dict[tuple[str, int], float]:
    cells = dict.fromkeys((record.arm, record.depth) for record in records)
    return {
        cell: statistics.fmean(
            counted(record) for record in records if (record.arm, record.depth) == cell
        )
        for cell in cells
    }


def _change(baseline: dict, setting: dict) -> str:
    differences = {line.split(":")[0]: line for line in config_differences(baseline, setting)}
    followers = [
        name for chosen, brought in FOLLOWS.items() if chosen in differences for name in brought
    ]
    return (
        "; ".join(
            line for name, line in differences.items() if name not in (*NOT_A_CHOICE, *followers)
        )
        or "nothing"
    )


def summary(rows: Sequence[Row]) -> str:
    """In how many settings each part of the finding is seen, and where not."""
    sentences = []
    for text, name in (
        (f"plain-{DEEP} lies more than {100 * MARGIN:g} points above plain-{SHALLOW}", "degrades"),
        ("with shortcuts the rise is smaller and the deep network better", "smaller"),
        (f"with shortcuts there is no rise of more than {100 * MARGIN:g} points", "gone"),
    ):
        judged = {row.name: getattr(row, name) for row in rows if getattr(row, name) is not None}
        without = [setting for setting, seen in judged.items() if not seen]
        line = f"{text}: in {len(judged) - len(without)} of {len(judged)} settings"
        sentences.append(f"{line}, not in {', '.join(without)}" if without else line)
    if missing := [f"{row.name}/{cell}" for row in rows for cell in row.missing]:
        sentences.append(f"missing cells: {', '.join(missing)}")
    return "\n".join(f"- {sentence}" for sentence in sentences)


def table(rows: Sequence[Row]) -> list[list[str]]:
    """One line a setting, errors in per cent, rises in points; under a row of headings."""
    lines = [
        [
            "setting",
            "change",
            "plain 20",
            "plain 56",
            "residual 20",
            "residual 56",
            "degrades",
            "smaller",
            "gone",
        ]
    ]
    for row in rows:
        errors = [
            row.errors.get((arm, depth))
            for arm in ("plain", row.cured_by)
            for depth in (SHALLOW, DEEP)
        ]
        seen = [
            {True: "yes", False: "no", None: "–"}[value]
            for value in (row.degrades, row.smaller, row.gone)
        ]
        lines.append(
            [
                row.name,
                row.change,
                *("–" if error is None else f"{100 * error:.2f}" for error in errors),
                *seen,
            ]
        )
    return lines


def _report(folder: Path) -> tuple[list[str], int]:
    rows, _ = read_rows(folder)
    return [*columns(table(rows), left=True), "", summary(rows)], 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and summary; 2 and one line where there is nothing to judge."""
    return tell(
        _report,
        "Whether degradation and its cure hang on one choice.",
        "results/robustness",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
