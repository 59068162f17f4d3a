"""What flows through a residual network at its start, by mean field theory, without any constant.

A block puts out relu(x + F), and its last batch normalisation gives F mean 0 and variance 1 in each
channel. So one value x walks at random and never below 0; over b blocks its variance grows by
about 1 - 2/π a block. (De & Smith 2020, arXiv:2002.10444, have blocks without the last ReLU, where
it grows by 1.) On the way back a value's squared gradient passes where x + F > 0; and the branch
adds λ / Var[x] of what passed, evenly over all values: λ of its ReLU and second normalisation
(experiments.theory), 1 / Var[x] of its first one. Stages join as in CifarNetwork with option A:
every second pixel in both directions is kept, and half of the channels start anew at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from experiments.theory import gradient_growth

STAGES = 3
STEP = 0.1  # of the grid on which densities are kept


@dataclass(frozen=True)
class BlockSignals:
    """Of one block.

    Args:
        variance: of its output, mean over channels.
        gradient: squared gradient norm at its last convolution, in units of that at the output of
            the network's last block.
    """

    variance: float
    gradient: float


class _Block(NamedTuple):
    stage: int
    resizes: bool
    densities: Sequence[np.ndarray]  # of its input, by the stage in which channels began
    variance: float  # of its input


@cache
def residual_signals(blocks: int) -> tuple[BlockSignals, ...]:
    """Prediction for each block of a residual network with ReLU and circular padding.

    Args:
        blocks: of one of the three stages.
    """
    grid = np.arange(0, 7 * np.sqrt(STAGES * blocks) + 5, STEP)
    moves, passes = _steps(grid)
    densities = [moves[0]]  # behind the first layer: a rectified normal value
    passed, variances = [], []
    for stage in range(STAGES):
        variance = _variance(grid, densities)
        densities = densities if stage == 0 else [*densities, np.eye(len(grid))[0]]
        for number in range(blocks):
            passed.append(_Block(stage, stage > 0 and number == 0, densities, variance))
            densities = [density @ moves for density in densities]
            variance = _variance(grid, densities)
            variances.append(variance)
    gradients = _gradients(passed, passes)
    return tuple(map(BlockSignals, variances, gradients))


def _steps(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability to go from one value to another in a block; and to do so with x + F above 0."""
    low, high = (ndtr(grid[None] + side * STEP / 2 - grid[:, None]) for side in (-1, 1))
    moves = high - low
    passes = moves.copy()
    moves[:, 0] = high[:, 0]
    passes[:, 0] = high[:, 0] - ndtr(-grid)
    return moves, passes


def _shares(stage: int) -> list[float]:
    """Of the channels that began in each stage so far."""
    return [2.0**-stage, *(2.0 ** (begun - 1 - stage) for begun in range(1, stage + 1))]


def _variance(grid: np.ndarray, densities: Sequence[np.ndarray]) -> float:
    each = [density @ grid**2 - (density @ grid) ** 2 for density in densities]
    return float(np.dot(_shares(len(densities) - 1), each))


def _gradients(blocks: Sequence[_Block], passes: np.ndarray) -> list[float]:
    """From the last block to the first; per value of the image's pixels and channels."""
    growth = gradient_growth()
    squares = [np.ones(len(passes))] * STAGES  # of one value's gradient, by its size
    gradients = []
    for block in reversed(blocks):
        values = 2.0**-block.stage  # there are: twice the channels, a quarter of the pixels
        passed = [passes @ square for square in squares]
        shares = _shares(block.stage)
        means = [d @ p for d, p in zip(block.densities, passed, strict=True)]
        total = values * float(np.dot(shares, means))
        gradients.append(growth * total)
        inputs = 2 * values if block.resizes else values
        branch = growth / block.variance * total / inputs
        if block.resizes:
            passed = [square / 4 for square in passed[:-1]]  # the other pixels are left out
        squares = [square + branch for square in passed]
    return gradients[::-1]
