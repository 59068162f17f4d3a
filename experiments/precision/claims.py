"""Does low precision make degradation worse?

Folders below results/precision are scales: `start` and `start_cifar` before the first update, and
`quick-<precision>`, networks trained in float32 and in bf16. The criteria were registered before
measurement (docs/registered.md).
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.errors import MARGIN
from experiments.judging.inference import Criterion
from experiments.judging.pairs import (
    Cell,
    Series,
    cell_of,
    difference,
    errors_by_seed,
    grouped,
    judge,
    mean_errors,
    read_beside,
    read_folders,
    require_alike,
    require_same_images,
    shared_means,
    shared_seeds,
)
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from experiments.reporting.text import mean_and_deviation
from plainres.records.rows import GradientCosine as GradientCosineRow
from plainres.records.schema import Record

COSINES_TABLE = "gradient_cosines.csv"
SCALES = ("start", "start_cifar", "quick")
SHALLOW, DEEP, DEEPEST = 20, 56, 110
COSINE_MARGIN = 0.1  # a smaller difference of cosines counts as none
NEARLY_EXACT = 1 - COSINE_MARGIN
FLOAT32, BF16, IMAGES = "float32", "bf16", "images"  # what is held against the exact gradient
MEASURED = {FLOAT32: "in float32", BF16: "in bf16", IMAGES: "exact, other images"}
TRAINED_IN = {"32-true": FLOAT32, "bf16-mixed": BF16}  # a record's precision
TREATMENT = ("precision",)  # the condition that is compared
CLAIMS = {
    "direction": (
        f"at the start, in bf16: the gradient of plain-{DEEP} points less into the exact direction "
        f"than that of residual-{DEEP}, by more than {COSINE_MARGIN} in cosine"
    ),
    "exact": (
        f"at the start, in float32: the gradient of plain-{DEEP} is nearly exact, cosine above "
        f"{NEARLY_EXACT}"
    ),
    "depth": (
        f"at the start, in float32 too: the cosine of plain networks falls from {SHALLOW} to "
        f"{DEEPEST} layers, by more than {COSINE_MARGIN}"
    ),
    "worse": (
        f"degradation of plain networks (training error of {DEEP} minus {SHALLOW} layers) is "
        f"larger in bf16 than in float32, by more than {100 * MARGIN:g} points"
    ),
    "alone": (
        f"degradation is there in float32: plain-{DEEP} ends above plain-{SHALLOW}, by more than "
        f"{100 * MARGIN:g} points"
    ),
}


@dataclass(frozen=True)
class GradientCosine(GradientCosineRow):
    """With what is computed from it."""

    @property
    def place(self) -> tuple[int, int]:
        """Iteration and layer."""
        return self.iteration, self.layer

    def cosine(self, measured: str) -> float:
        """Of one of MEASURED; 0 where a gradient is 0 or not finite, so that it points nowhere."""
        value: float | None = getattr(self, f"cosine_{measured}")
        return 0.0 if value is None else value


@dataclass(frozen=True)
class Scale:
    """What was measured at one scale.

    Args:
        records: of all its folders; those of another precision of training have their own.
        rows: by the precision of training and by cell, in the order of iterations and layers.
    """

    name: str
    records: Sequence[Record]
    rows: Mapping[tuple[str, Cell], Sequence[GradientCosine]]

    @property
    def trained(self) -> bool:
        return any(record.iterations > 1 for record in self.records)

    @property
    def precisions(self) -> list[str]:
        """Those that networks were trained in."""
        return sorted(set(map(trained_in, self.records)), reverse=True)

    def networks(self, precision: str) -> list[tuple[str, int]]:
        """Arm and depth of the networks that were trained in a precision."""
        return sorted({(row.arm, row.depth) for row in self.trained_records(precision)})

    def trained_records(self, precision: str) -> list[Record]:
        return [record for record in self.records if trained_in(record) == precision]

    def cosines(
        self,
        measured: str,
        arm: str,
        depth: int,
        precision: str = FLOAT32,
        at_end: bool = False,
    ) -> Series:
        """Cosines of a network, all parameters together; without cells that have no snapshot.

        Args:
            measured: one of MEASURED.
            precision: that of training.
            at_end: after the last update; else before the first.
        """
        found, values = [], {}
        for record in self.trained_records(precision):
            iteration = record.iterations if at_end else 0
            for row in self.rows[precision, cell_of(record)]:
                if cell_of(row)[:2] == (arm, depth) and row.place == (iteration, 0):
                    found.append(record)
                    values[record.seed] = row.cosine(measured)
        return Series.of(found, lambda record: values[record.seed])


def trained_in(record: Record) -> str:
    """The precision of training, as the columns of the table call it."""
    if record.precision not in TRAINED_IN:
        known = ", ".join(TRAINED_IN)
        raise ValueError(f"{record.cell}: precision {record.precision} is none of {known}")
    return TRAINED_IN[record.precision]


def read(folder: Path) -> list[Scale]:
    """What was measured at each scale, in the order of SCALES, other scales last.

    Raises:
        ValueError: nothing is measured, or a table is damaged; names it.
    """
    records = read_folders(folder, "sweep-precision")
    names = [name for name in records if (folder / name / COSINES_TABLE).exists()]
    if not names:
        raise ValueError(f"no {COSINES_TABLE} in {folder}; make sweep-precision measures them")
    by_scale = grouped(names, lambda name: name.partition("-")[0])
    scales = []
    for scale in sorted(by_scale, key=lambda scale: (*SCALES, scale).index(scale)):
        _require_alike(folder, {name: records[name] for name in by_scale[scale]})
        rows: dict[tuple[str, Cell], Sequence[GradientCosine]] = {}
        for name in by_scale[scale]:
            found = read_beside(folder / name / COSINES_TABLE, GradientCosine, records[name])
            by_cell = grouped(sorted(found, key=lambda row: row.place), cell_of)
            for record in records[name]:
                rows[trained_in(record), cell_of(record)] = by_cell.get(cell_of(record), [])
        measured = [record for name in by_scale[scale] for record in records[name]]
        scales.append(Scale(scale, measured, rows))
    return scales


def _require_alike(folder: Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Raises ValueError where folders of one scale differ in more than the precision."""
    require_same_images(records)
    require_alike(folder, records, r"protocol\.precision")
    runs = ((trained_in(row), row.cell) for rows in records.values() for row in rows)
    for (precision, cell), count in Counter(runs).items():
        if count > 1:
            raise ValueError(f"{folder}: {count} folders have {cell} in {precision}; legal: one")


def label_of(scale: Scale) -> str:
    return markdown.label_of(scale.records, f"scale {scale.name}")


def check(scale: Scale) -> list[Claim]:
    """The claims about one scale, corrected together: those before training, or those of it."""
    return verdict.corrected(_training(scale) if scale.trained else _start(scale))


def _start(scale: Scale) -> list[Claim]:
    bf16 = {f"{arm}-{DEEP}": scale.cosines(BF16, arm, DEEP) for arm in ("residual", "plain")}
    depths = (SHALLOW, DEEP, DEEPEST)
    plain = {f"plain-{depth}": scale.cosines(FLOAT32, "plain", depth) for depth in depths}
    shallow, deep, deepest = plain
    one, ends = {deep: plain[deep]}, {name: plain[name] for name in (shallow, deepest)}

    def exact() -> list[Criterion]:
        return [Criterion(f"cosine of {deep}", tuple(one[deep].values()), NEARLY_EXACT, unit="")]

    return [
        judge(CLAIMS["direction"], bf16, lambda: [_fall(bf16)], lambda: _means(bf16)),
        judge(CLAIMS["exact"], one, exact, lambda: _means(one)),
        judge(CLAIMS["depth"], ends, lambda: [_fall(ends)], lambda: _means(ends)),
    ]


def _fall(series: Mapping[str, Series]) -> Criterion:
    """The cosine of the first network lies above that of the second one, by the margin."""
    higher, lower = series
    return difference(series, higher, lower, COSINE_MARGIN, unit="")


def _means(series: Mapping[str, Series]) -> str:
    means = shared_means(series)
    return "cosine " + ", ".join(f"{mean:.3f} ({name})" for name, mean in means.items())


def _training(scale: Scale) -> list[Claim]:
    errors, rises = {}, {}
    for precision in (BF16, FLOAT32):
        records = scale.trained_records(precision)
        deep, shallow = (errors_by_seed(records, "plain", depth) for depth in (DEEP, SHALLOW))
        errors[precision] = {f"plain-{DEEP}, {precision}": deep}
        errors[precision][f"plain-{SHALLOW}, {precision}"] = shallow
        rises[precision] = deep.minus(shallow)
    four, two = {**errors[BF16], **errors[FLOAT32]}, errors[FLOAT32]
    change = f"{DEEP} - {SHALLOW} layers"

    def worse() -> list[Criterion]:
        name = f"{change}, bf16 - float32"
        return [difference(rises, BF16, FLOAT32, name=name, treatment=TREATMENT)]

    def each_rise() -> str:
        seeds = shared_seeds(four, TREATMENT)
        means = {name: statistics.fmean(rise[s] for s in seeds) for name, rise in rises.items()}
        texts = (f"{verdict.points(mean)} in {name}" for name, mean in means.items())
        return f"{change}: {', '.join(texts)}"

    def alone() -> list[Criterion]:
        deep, shallow = two
        return [difference(two, deep, shallow, name=change)]

    return [
        judge(CLAIMS["worse"], four, worse, each_rise, TREATMENT),
        judge(CLAIMS["alone"], two, alone, lambda: mean_errors(two, "training error")),
    ]


def answer(scale: Scale) -> list[str]:
    """Does precision make degradation worse? One sentence from the verdicts on training."""
    if not scale.trained:
        return []
    worse, alone = check(scale)
    margin = f"{100 * MARGIN:g} points"
    texts = {
        REPRODUCED: "Training in bf16 makes degradation worse",
        NOT_REPRODUCED: f"Training in bf16 makes degradation worse by less than {margin} or not",
        INCONCLUSIVE: "Whether training in bf16 makes degradation worse is undecided",
    }
    beside = {
        REPRODUCED: "degradation is there in float32 alone",
        NOT_REPRODUCED: f"in float32 alone it is below {margin}",
        INCONCLUSIVE: "whether it is there in float32 alone is undecided",
    }
    few = " (too few seeds for a test)" if worse.is_direction else ""
    return [f"{texts[worse.verdict]}; {beside[alone.verdict]}{few}."]


def table(scale: Scale) -> Table:
    """One line per network, and precision of training; means ± standard deviations over seeds."""
    return _training_table(scale) if scale.trained else _start_table(scale)


def _start_table(scale: Scale) -> Table:
    rows = [["network", "seeds", *MEASURED.values()]]
    for arm, depth in scale.networks(FLOAT32):
        columns = [list(scale.cosines(each, arm, depth).values()) for each in MEASURED]
        texts = (mean_and_deviation(cosines, 3) for cosines in columns)
        rows.append([f"{arm}-{depth}", str(len(columns[0])), *texts])
    return Table("Cosine with the exact gradient", rows, [cost(scale)])


def _training_table(scale: Scale) -> Table:
    times = {"start": False, "end": True}
    heads = [f"{name}, {time}" for time in times for name in MEASURED.values()]
    rows = [["network", "trained in", "seeds", "training error", "test error", *heads]]
    for precision in scale.precisions:
        for network in scale.networks(precision):
            records = scale.trained_records(precision)
            errors = [
                errors_by_seed(records, *network, measure)
                for measure in ("train_error", "test_error")
            ]
            row = ["-".join(map(str, network)), precision, str(len(errors[0]))]
            row += [mean_and_deviation([100 * e for e in each.values()]) for each in errors]
            for at_end in times.values():
                for measured in MEASURED:
                    cosines = scale.cosines(measured, *network, precision, at_end)
                    row.append(mean_and_deviation(cosines.values(), 3))
            rows.append(row)
    return Table(
        "Errors in %, and cosines with the exact gradient", rows, [*answer(scale), cost(scale)]
    )


def cost(scale: Scale) -> str:
    """What the snapshots took of the time of training and evaluation, as one sentence."""
    seconds = sum(row.seconds or 0.0 for rows in scale.rows.values() for row in rows)
    total = sum(record.seconds for record in scale.records)
    return f"Snapshots took {seconds:,.0f} of {total:,.0f} seconds."
