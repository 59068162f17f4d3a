"""The trainable depth of each activation, predicted from that of ReLU and from λ alone.

    python -c "from experiments.dose import prediction; prediction.write()"

writes prediction.csv beside this file. That was done once, before the networks with other
activations were trained; a test compares the file with what this module computes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.dose.depths import trainable_depth
from experiments.judging.errors import chance_error, error_or_chance
from experiments.judging.pairs import grouped
from experiments.theory import ACTIVATIONS, gradient_growth
from plainres.records.files import read_runs, read_table, write_table

TABLE = Path(__file__).with_name("prediction.csv")
SOURCE = Path(__file__).parents[2] / "results" / "depth" / "quick"  # plain networks with ReLU


@dataclass(frozen=True)
class Prediction:
    """A row of prediction.csv.

    Args:
        growth: λ, see experiments.theory.
        finite_depth: c / ln λ layers; None where λ is 1, and no depth is too deep.
    """

    activation: str
    growth: float
    finite_depth: float | None

    @property
    def depth(self) -> float:
        """In layers; may be infinite."""
        return math.inf if self.finite_depth is None else self.finite_depth


def predict() -> list[Prediction]:
    """c / ln λ, with c from the geometric mean of ReLU's trainable depths over seeds."""
    rows = [row for row in read_runs(SOURCE) if row.arm == "plain"]
    depths = [
        trainable_depth(
            {row.depth: error_or_chance(row) for row in own}, chance_error(own[0].num_classes)
        )
        for own in grouped(rows, lambda row: row.seed).values()
    ]
    logs = [math.log(found.depth) for found in depths if found and not found.at_least]
    constant = math.exp(math.fsum(logs) / len(logs)) * math.log(gradient_growth())
    made = []
    for name, parameters in ACTIVATIONS.items():
        growth = gradient_growth(*parameters)
        depth = float(f"{constant / math.log(growth):.4g}") if growth > 1 + 1e-12 else None
        made.append(Prediction(name, float(f"{growth:.6g}"), depth))
    return made


@cache
def predictions() -> Mapping[str, Prediction]:
    """The rows of prediction.csv by activation."""
    return {row.activation: row for row in read_table(TABLE, Prediction)}


def write() -> None:
    write_table(TABLE, predict(), Prediction)
