"""Does the finding depend on our choices?

Each folder below results/robustness is the baseline with one choice changed; its config.json says
which. Judged on running training error, means over seeds. The settings are counted, not tested.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging.errors import MARGIN, error_or_chance
from experiments.judging.pairs import change_of, grouped, read_folders, require_same_images
from experiments.reporting import markdown
from experiments.reporting.question import Table
from experiments.reporting.text import percent
from plainres.records.files import CONFIG_FILE, read_json
from plainres.records.schema import Record

BASELINE = "baseline"
SHALLOW, DEEP = 20, 56
PARTS = {  # of the finding
    "degrades": f"plain-{DEEP} lies more than {100 * MARGIN:g} points above plain-{SHALLOW}",
    "smaller": "with shortcuts the rise is smaller and the deep network better",
    "gone": f"with shortcuts there is no rise of more than {100 * MARGIN:g} points",
}
# What a choice brings with it
FOLLOWS = {"protocol.batch_size": ("protocol.iterations", "protocol.schedule.warmup_iterations")}


@dataclass(frozen=True)
class Setting:
    """One setting of the experiment, with running training errors as means over seeds."""

    name: str
    change: str  # what differs from the baseline
    errors: dict[tuple[str, int], float]  # (arm, depth) → fraction
    shortcut_arm: str = "residual"

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Arm and depth of the four networks that are compared."""
        return [(arm, depth) for arm in ("plain", self.shortcut_arm) for depth in (SHALLOW, DEEP)]

    @property
    def missing(self) -> list[str]:
        """Networks without a record."""
        return [f"{arm}-{depth}" for arm, depth in self.cells if (arm, depth) not in self.errors]

    def rise(self, arm: str) -> float | None:
        """Error of the deep network minus that of the shallow one; None where one is missing."""
        shallow, deep = self.errors.get((arm, SHALLOW)), self.errors.get((arm, DEEP))
        return None if shallow is None or deep is None else deep - shallow

    @property
    def judged(self) -> dict[str, bool | None]:
        """Whether each of PARTS holds; None where a network is missing."""
        plain, residual = self.rise("plain"), self.rise(self.shortcut_arm)
        smaller = None
        if plain is not None and residual is not None:
            lower = self.errors[self.shortcut_arm, DEEP] < self.errors["plain", DEEP]
            smaller = residual < plain and lower
        return {
            "degrades": None if plain is None else plain > MARGIN,
            "smaller": smaller,
            "gone": None if residual is None else residual <= MARGIN,
        }


@dataclass(frozen=True)
class Settings:
    """All settings, the baseline first, and the records of each folder."""

    settings: list[Setting]
    records_by_folder: Mapping[str, Sequence[Record]]

    @property
    def records(self) -> list[Record]:
        return [record for records in self.records_by_folder.values() for record in records]


def read(folder: Path) -> list[Settings]:
    """The settings below `folder`; ValueError also where there is no baseline."""
    records = read_folders(folder, "sweep-robustness")
    if BASELINE not in records:
        raise ValueError(f"no records in {folder / BASELINE}; make sweep-robustness measures them")
    require_same_images(records)
    configs = {name: read_json(folder / name / CONFIG_FILE) or {} for name in records}
    errors = {name: _mean_errors(rows) for name, rows in records.items()}
    settings = [Setting(BASELINE, "–", errors[BASELINE])]
    if any(record.arm == "projection" for record in records[BASELINE]):
        change = "shortcut: zero_pad → projection"
        settings.append(Setting("projection", change, errors[BASELINE], "projection"))
    for name in records:
        if name != BASELINE:
            change = change_of(configs[BASELINE], configs[name], FOLLOWS)
            settings.append(Setting(name, change, errors[name]))
    return [Settings(settings, records)]


def _mean_errors(records: Sequence[Record]) -> dict[tuple[str, int], float]:
    networks = grouped(records, lambda record: (record.arm, record.depth))
    return {name: statistics.fmean(map(error_or_chance, rows)) for name, rows in networks.items()}


def label_of(part: Settings) -> str:
    iterations = max(record.iterations for record in part.records_by_folder[BASELINE])
    return markdown.label_of(part.records, f"{iterations:,} iterations")


def counts(settings: Sequence[Setting]) -> list[str]:
    """In how many settings each part of the finding holds, and where it does not."""
    sentences = []
    for name, text in PARTS.items():
        holds = {setting.name: setting.judged[name] for setting in settings}
        judged = [setting for setting, value in holds.items() if value is not None]
        without = [setting for setting in judged if not holds[setting]]
        exceptions = f", not in {', '.join(without)}" if without else ""
        count = f"in {len(judged) - len(without)} of {len(judged)} settings"
        sentences.append(f"{name.capitalize()}: {text} {count}{exceptions}.")
    if missing := [f"{setting.name}/{cell}" for setting in settings for cell in setting.missing]:
        sentences.append(f"Missing cells: {', '.join(missing)}.")
    return sentences


def table(settings: Sequence[Setting]) -> Table:
    """One line per setting, errors in per cent."""
    heads = ["setting", "change", "plain 20", "plain 56", "residual 20", "residual 56"]
    rows = [[*heads, *PARTS]]
    words = {True: "yes", False: "no", None: "–"}
    for each in settings:
        cells = [percent(each.errors.get(cell)) for cell in each.cells]
        judged = [words[value] for value in each.judged.values()]
        rows.append([each.name, each.change, *cells, *judged])
    return Table("Running training error in %", rows, counts(settings))


def notes(part: Settings) -> list[str]:
    if any(setting.name == "projection" for setting in part.settings):
        return ["In the row `projection` the residual networks have option B."]
    return []
