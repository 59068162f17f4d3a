"""The learning rate as a function of the iteration (He et al. 2015, section 4.2: not epochs)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("step", "cosine")
WARMUPS = ("linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """Learning rate over `iterations` iterations, numbered from 0.

    Args:
        learning_rate: peak value.
        iterations: length of the run.
        kind: `step` multiplies by `factor` at each of `milestones`; `cosine` falls to 0 after the
            warm-up.
        milestones: iterations from which one more `factor` applies (32,000 and 48,000 in the
            paper).
        factor: 0.1 in the paper.
        warmup: `linear` starts at learning_rate / warmup_iterations and rises; `constant` is
            `warmup_learning_rate` (in the paper 0.01 until ResNet-110's training error is below
            80 %, about 400 iterations).
        warmup_iterations: 0: no warm-up.
        warmup_learning_rate: used by `constant` only.
        warmup_min_depth: networks with fewer layers have no warm-up.

    Raises:
        ValueError: unknown kind or warm-up, or illegal numbers; names what is legal.
    """

    learning_rate: float
    iterations: int
    kind: str = "step"
    milestones: Sequence[int] = ()
    factor: float = 0.1
    warmup: str = "linear"
    warmup_iterations: int = 0
    warmup_learning_rate: float | None = None
    warmup_min_depth: int = 0

    def __post_init__(self) -> None:
        for name, legal in (("kind", KINDS), ("warmup", WARMUPS)):
            if (value := getattr(self, name)) not in legal:
                raise ValueError(f"schedule {name} {value!r} is unknown; legal: {', '.join(legal)}")
        constant = self.warmup == "constant" and self.warmup_iterations
        if constant and self.warmup_learning_rate is None:
            raise ValueError("schedule warmup 'constant' needs warmup_learning_rate")
        if self.iterations < 1:
            raise ValueError(f"iterations {self.iterations} is below 1")
        if not 0 <= self.warmup_iterations < self.iterations:
            raise ValueError(
                f"warmup_iterations {self.warmup_iterations} lies outside 0 to "
                f"iterations - 1 = {self.iterations - 1}"
            )

    def at(self, iteration: int, depth: int) -> float:
        """Learning rate of update number `iteration` (from 0) of a network of that depth."""
        warmup_iterations = self.warmup_iterations if depth >= self.warmup_min_depth else 0
        if iteration < warmup_iterations:
            if self.warmup == "constant":
                assert self.warmup_learning_rate is not None
                return self.warmup_learning_rate
            return self.learning_rate * (iteration + 1) / warmup_iterations
        if self.kind == "step":
            return self.learning_rate * self.factor ** sum(
                iteration >= milestone for milestone in self.milestones
            )
        progress = (iteration - warmup_iterations) / (self.iterations - warmup_iterations)
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2
