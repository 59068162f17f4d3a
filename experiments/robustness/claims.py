"""Does the finding depend on our choices?

Each folder below results/robustness is the baseline with one choice changed; its config.json says
which. Judged on running training error, means over the seeds that the compared networks share, each
measured under the same conditions. The settings are counted, not tested.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging.errors import MARGIN, error_or_chance, has_learned
from experiments.judging.pairs import (
    Series,
    change_of,
    errors_by_seed,
    not_comparable,
    read_folders,
    require_same_images,
    shared_seeds,
)
from experiments.reporting import markdown
from experiments.reporting.question import Table
from experiments.reporting.text import percent
from plainres.records.files import read_config
from plainres.records.schema import Record

BASELINE = "baseline"
SHALLOW, DEEP = 20, 56
PARTS = {  # of the finding
    "degrades": f"plain-{DEEP} lies more than {100 * MARGIN:g} points above plain-{SHALLOW}",
    "smaller": (
        "with shortcuts the rise is smaller, and the deep network better, by more than "
        f"{100 * MARGIN:g} points"
    ),
    "gone": f"with shortcuts there is no rise of more than {100 * MARGIN:g} points",
}
# What a choice brings with it
FOLLOWS = {"protocol.batch_size": ("protocol.iterations", "protocol.schedule.warmup_iterations")}


@dataclass(frozen=True)
class Setting:
    """One setting of the experiment."""

    name: str
    change: str  # what differs from the baseline
    records: Sequence[Record]
    shortcut_arm: str = "residual"

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Arm and depth of the four networks that are compared."""
        return [(arm, depth) for arm in ("plain", self.shortcut_arm) for depth in (SHALLOW, DEEP)]

    @property
    def series(self) -> dict[str, Series]:
        """The running training errors of the four networks, in the order of `cells`."""
        return {f"{arm}-{d}": errors_by_seed(self.records, arm, d) for arm, d in self.cells}

    @property
    def errors(self) -> dict[tuple[str, int], float]:
        """Means over seeds, fractions; without the networks that have no record."""
        means = zip(self.cells, self.series.values(), strict=True)
        return {cell: statistics.fmean(each.values()) for cell, each in means if each}

    @property
    def missing(self) -> list[str]:
        """Networks without a record."""
        return [name for name, each in self.series.items() if not each]

    def difference(self, *networks: str) -> float | None:
        """The first network's error minus the second's, mean over the seeds that they share.

        With four networks minus that of the second pair. None where they share no seed that was
        measured under the same conditions.
        """
        series = [self.series[name] for name in networks]
        changes = [
            sum(sign * each[seed] for sign, each in zip((1, -1, -1, 1), series, strict=False))
            for seed in shared_seeds(dict(enumerate(series)))
        ]
        return statistics.fmean(changes) if changes else None

    @property
    def at_chance(self) -> bool:
        """Whether a shallow network with shortcuts has not learned: above it nothing rises."""
        rows = [row for row in self.records if (row.arm, row.depth) == (self.shortcut_arm, SHALLOW)]
        return any(not has_learned(error_or_chance(row), row.num_classes) for row in rows)

    @property
    def judged(self) -> dict[str, bool | None]:
        """Whether each of PARTS holds; None where networks are missing or cannot be compared."""
        plain, plain_deep, residual, residual_deep = self.series
        rise = self.difference(plain_deep, plain)
        with_shortcuts = self.difference(residual_deep, residual)
        less = self.difference(plain_deep, plain, residual_deep, residual)
        lower = self.difference(plain_deep, residual_deep)
        return {
            "degrades": None if rise is None else rise > MARGIN,
            "smaller": None if less is None or lower is None else min(less, lower) > MARGIN,
            "gone": (
                None if with_shortcuts is None or self.at_chance else with_shortcuts <= MARGIN
            ),
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
    configs = {name: read_config(folder / name) or {} for name in records}
    settings = [Setting(BASELINE, "–", records[BASELINE])]
    if any(record.arm == "projection" for record in records[BASELINE]):
        change = "shortcut: zero_pad → projection"
        settings.append(Setting("projection", change, records[BASELINE], "projection"))
    for name in records:
        if name != BASELINE:
            change = change_of(configs[BASELINE], configs[name], FOLLOWS)
            settings.append(Setting(name, change, records[name]))
    return [Settings(settings, records)]


def label_of(part: Settings) -> str:
    iterations = max(record.iterations for record in part.records_by_folder[BASELINE])
    return markdown.label_of(part.records, f"{iterations:,} iterations")


def counts(settings: Sequence[Setting]) -> list[str]:
    """In how many settings each part of the finding holds, and where it does not."""
    sentences = ["Settings are counted, not tested."]
    for name, text in PARTS.items():
        holds = {setting.name: setting.judged[name] for setting in settings}
        judged = [setting for setting, value in holds.items() if value is not None]
        without = [setting for setting in judged if not holds[setting]]
        exceptions = f", not in {', '.join(without)}" if without else ""
        count = f"in {len(judged) - len(without)} of {len(judged)} settings"
        sentences.append(f"{name.capitalize()}: {text} {count}{exceptions}.")
    if missing := [f"{setting.name}/{cell}" for setting in settings for cell in setting.missing]:
        sentences.append(f"Missing cells: {', '.join(missing)}.")
    for setting in settings:
        if line := not_comparable({name: each for name, each in setting.series.items() if each}):
            sentences.append(f"{setting.name}, {line}.")
        if setting.at_chance:
            shallow = f"{setting.shortcut_arm}-{SHALLOW}"
            sentences.append(f"{setting.name}: {shallow} is at chance, above which nothing rises.")
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
