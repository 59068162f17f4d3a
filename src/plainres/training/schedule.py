"""The learning rate as a function of the iteration (He et al. 2015, section 4.2: not epochs)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

KINDS = ("step", "cosine", "plateau")
WARMUPS = ("linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """Learning rate over `iterations` iterations, numbered from 0.

    Args:
        learning_rate: peak value.
        iterations: length of the run.
        kind: `step` multiplies by `factor` at each of `milestones`; `cosine` falls to 0 after the
            warm-up; `plateau` multiplies by `factor` where the training error falls no more
            (Plateau; section 3.4).
        milestones: iterations from which one more `factor` applies (32,000 and 48,000 in the
            paper).
        factor: of `step` and `plateau`; None: 0.1, as in the paper.
        warmup: `linear` starts at learning_rate / warmup_iterations and rises; `constant` is
            `warmup_learning_rate` (in the paper 0.01 until ResNet-110's training error is below
            80 %, about 400 iterations).
        warmup_iterations: 0: no warm-up.
        warmup_learning_rate: used by `constant` only.
        warmup_min_depth: networks with fewer layers have no warm-up.
        patience, threshold: of `plateau`.

    Raises:
        ValueError: unknown kind or warm-up, or illegal numbers; names what is legal.
    """

    learning_rate: float
    iterations: int
    kind: str = "step"
    milestones: Sequence[int] = ()
    factor: float | None = None
    warmup: str = "linear"
    warmup_iterations: int = 0
    warmup_learning_rate: float | None = None
    warmup_min_depth: int = 0
    patience: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name, legal in (("kind", KINDS), ("warmup", WARMUPS)):
            if (value := getattr(self, name)) not in legal:
                raise ValueError(f"schedule {name} {value!r} is unknown; legal: {', '.join(legal)}")
        constant = self.warmup == "constant" and self.warmup_iterations
        if constant and self.warmup_learning_rate is None:
            raise ValueError("schedule warmup 'constant' needs warmup_learning_rate")
        if self.kind != "step" and self.milestones:
            raise ValueError(
                f"schedule milestones {list(self.milestones)} are for kind 'step', and the kind is "
                f"{self.kind!r}; null with others"
            )
        if self.kind == "cosine" and self.factor is not None:
            raise ValueError(
                f"schedule factor {self.factor:g} is for kinds 'step' and 'plateau', and the kind "
                "is 'cosine'; null with it"
            )
        if self.warmup == "linear" and self.warmup_learning_rate is not None:
            raise ValueError(
                f"schedule warmup_learning_rate {self.warmup_learning_rate:g} is for warmup "
                "'constant', and the warmup is 'linear'; null with it"
            )
        own = (self.patience is not None, self.threshold is not None)
        if own != (self.kind == "plateau",) * 2:
            raise ValueError(
                "schedule patience and threshold are for kind 'plateau', which needs both"
            )
        if self.iterations < 1:
            raise ValueError(f"iterations {self.iterations} is below 1")
        if not 0 <= self.warmup_iterations < self.iterations:
            raise ValueError(
                f"warmup_iterations {self.warmup_iterations} lies outside 0 to "
                f"iterations - 1 = {self.iterations - 1}"
            )

    def at(self, iteration: int, depth: int, drops: Sequence[int] = ()) -> float:
        """Learning rate of update number `iteration` (from 0) of a network of that depth.

        Args:
            drops: of `plateau`, the milestones so far.
        """
        warmup_iterations = self.warmup_iterations if depth >= self.warmup_min_depth else 0
        if iteration < warmup_iterations:
            if self.warmup == "constant":
                assert self.warmup_learning_rate is not None
                return self.warmup_learning_rate
            return self.learning_rate * (iteration + 1) / warmup_iterations
        if self.kind != "cosine":
            milestones = self.milestones if self.kind == "step" else drops
            factor = 0.1 if self.factor is None else self.factor
            return self.learning_rate * factor ** sum(
                iteration >= milestone for milestone in milestones
            )
        progress = (iteration - warmup_iterations) / (self.iterations - warmup_iterations)
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2


@dataclass
class Plateau:
    """When the training error falls no more. The paper does not say what it calls a plateau.

    Args:
        every: iterations over which an error is taken, and after which the next one is judged.
        patience: judged errors in a row that are no lower than the lowest since the last drop minus
            `threshold`, and that are still no plateau; the next one is.
        threshold: of an error as a fraction.
        drops: iterations from which the rate is lower, so far.
    """

    every: int
    patience: int
    threshold: float
    drops: list[int] = field(default_factory=list)
    lowest: float = math.inf
    waited: int = 0

    def observe(self, iteration: int, error: float) -> None:
        """Judges the mean error of the `every` iterations up to `iteration`."""
        if error < self.lowest - self.threshold:
            self.lowest, self.waited = error, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.drops.append(iteration)
            self.lowest, self.waited = math.inf, 0
