"""The depth at which arithmetic loses the direction of the gradient, predicted from λ.

    python -c "from experiments.horizon import prediction; prediction.write()"

writes prediction.csv beside this file. That was done once, before any cell of this question was
measured; a test compares the file with what this module computes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.theory import ACTIVATIONS, gradient_growth
from plainres.records.files import read_table, write_table

TABLE = Path(__file__).with_name("prediction.csv")
# Precision → unit of rounding: half the distance from 1 to the next number
UNITS = {"bf16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}


@dataclass(frozen=True)
class Prediction:
    """A row of prediction.csv.

    Args:
        growth: λ, see experiments.theory.
        unit: of rounding, ε.
        finite_depth: ln(1 / ε) / ln √λ layers: an error of rounding grows by √λ in each
            layer, and from ε to 1 in so many. None where λ is 1.
    """

    activation: str
    precision: str
    growth: float
    unit: float
    finite_depth: float | None

    @property
    def depth(self) -> float:
        """In layers; may be infinite."""
        return math.inf if self.finite_depth is None else self.finite_depth


def depth_of(error: float, growth: float) -> float:
    """Layers after which a relative error has grown to 1: ln(1 / error) / ln √λ.

    Args:
        growth: λ, above 1.
    """
    return -math.log(error) / (math.log(growth) / 2)


def depth_of_many(error: float, growth: float) -> float:
    """The same if each layer adds an independent error of this size: their sum has grown to 1.

    Squares add up: error² (1 + λ + … + λ^(L - 1)) = 1. Derived after `start` was measured.
    """
    return math.log1p((growth - 1) / error**2) / math.log(growth)


def predict() -> list[Prediction]:
    made = []
    for name, parameters in ACTIVATIONS.items():
        growth = gradient_growth(*parameters)
        for precision, unit in UNITS.items():
            depth = depth_of(unit, growth) if growth > 1 + 1e-12 else None
            made.append(
                Prediction(
                    name,
                    precision,
                    float(f"{growth:.6g}"),
                    float(f"{unit:.6g}"),
                    depth and float(f"{depth:.4g}"),
                )
            )
    return made


@cache
def predictions() -> Mapping[tuple[str, str], Prediction]:
    """The rows of prediction.csv by activation and precision."""
    return {(row.activation, row.precision): row for row in read_table(TABLE, Prediction)}


def write() -> None:
    write_table(TABLE, predict(), Prediction)
