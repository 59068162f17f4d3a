"""Under which conditions a row was measured, and which rows may be compared.

The rounding of sums depends on vector instructions, precision, PyTorch, kernels and threads. In
deep plain networks training amplifies it to tens of points. So a difference is taken between rows
of the same conditions only.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from plainres.records.schema import is_limited

AVX2 = "ATen AVX2 / oneDNN AVX2"
# Processors without wider instructions than AVX2, in rows that do not record the instruction set.
# Their committed errors replay in all digits on a newer processor (family 26) that is limited to
# AVX2 (seeds 0 to 2): plain-110 of machines/quick (family 25) as in cures/quick-untreated
AVX2_PROCESSORS = ("AMD EPYC (family 25, model 1)",)


class Measured(Protocol):
    """What a row must have: a plainres.records.schema.Record, or another table's row."""

    @property
    def seed(self) -> int: ...
    @property
    def processor(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def torch(self) -> str: ...
    @property
    def kernels(self) -> str: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...


class Conditions(NamedTuple):
    """What two rows must share to be compared; older rows without kernels had PyTorch's."""

    machine: str  # the instruction set where it is limited, else the processor
    precision: str
    torch: str  # major and minor version
    kernels: str
    threads: str


Row = TypeVar("Row", bound=Measured)


def conditions_of(row: Measured) -> Conditions:
    """The conditions under which a row was measured."""
    machine = row.processor
    aten, _, _ = row.instruction_set.partition(" / ")
    if is_limited(row.instruction_set):
        machine = row.instruction_set
    elif machine in AVX2_PROCESSORS:
        machine = AVX2
    elif aten not in ("", "ATen AVX512"):  # limited in a part, or without wider ones
        machine += f", {aten}"
    threads = f"{row.threads} thread{'s' * (row.threads != 1)}"
    if (devices := getattr(row, "devices", 1)) != 1:
        threads += f" on each of {devices} devices"
    return Conditions(
        machine,
        row.precision,
        ".".join(row.torch.split(".")[:2]),
        row.kernels or "library",
        threads,
    )


def differences(rows: Iterable[Measured], but: Collection[str] = ()) -> list[str]:
    """What the rows' conditions differ in, each as `name: value, value`; none where they agree.

    Args:
        but: names of conditions that may differ, because they are what is compared.
    """
    found = list(dict.fromkeys(map(conditions_of, rows)))
    lines = []
    for name, values in zip(Conditions._fields, zip(*found, strict=True), strict=False):
        if name not in but and len(distinct := sorted(set(values))) > 1:
            lines.append(f"{name}: {', '.join(distinct)}")
    return lines


def largest_comparable(rows: Sequence[Row]) -> list[Row]:
    """The rows that may be judged together, where possible most of them.

    They are of one precision, and those of one seed were measured under the same conditions.
    """
    if not rows:
        return []
    precision = Counter(row.precision for row in rows).most_common(1)[0][0]
    found: dict[int, Counter[Conditions]] = {}
    for row in rows:
        if row.precision == precision:
            found.setdefault(row.seed, Counter())[conditions_of(row)] += 1
    chosen = {seed: counts.most_common(1)[0][0] for seed, counts in found.items()}
    return [row for row in rows if conditions_of(row) == chosen.get(row.seed)]
