"""What a border of zeros does to a plain network at its start, by mean field theory.

With zero padding a convolution at the border sees fewer inputs, so the mean over images of what it
puts out differs from pixel to pixel. Batch normalisation counts such differences as variance. The
larger the mean of an activation, the more they take: what tells two images apart gets smaller, and
so does λ. (With circular padding all pixels have the same mean, and normalisation takes it away.)

Layers are wide and batches large. In one channel the response of image s at pixel p is m(p) +
r(p, s): m is a normal field with the covariance between two images, r is independent between images
and has the rest of the variance. Normalisation divides by the root of σ², the mean of r² over
pixels plus the spread of m over pixels. It differs from channel to channel, so channels are drawn
at random. On one processor they are always the same; on another one the axes of the field may be
others (λ then differed by 0.3 % at most, the cosine by 0.003). On the way back a pixel's squared
gradient is multiplied by the mean over channels of E[φ′²] / σ², and spread over the pixels
from which it came. λ is the largest eigenvalue of that.

    python -c "from experiments.rate import border; border.write()"

writes border.csv beside this file, in half a minute; everything else reads that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from experiments.theory import ACTIVATIONS
from plainres.records.files import read_table, write_table

TABLE = Path(__file__).with_name("border.csv")
PIXELS = (16, 8, 4, 2, 1)  # a side of a stage
CHANNELS = 2048  # drawn in each layer
LAYERS, KEPT = 30, 10  # from images without anything in common; means are of the last ones
POWERS = 30  # of the operator, for its largest eigenvalue


@dataclass(frozen=True)
class BorderSignals:
    """A row of border.csv: of a layer deep in a plain network with zero padding.

    Args:
        pixels: a side of the stage.
        growth: λ, by which squared gradients grow backwards in one layer.
        cosine: of what two images give behind the activation.
    """

    activation: str
    pixels: int
    growth: float
    cosine: float


@cache
def border_signals() -> Mapping[tuple[float, float, int], BorderSignals]:
    """The rows of border.csv, by slope, shift and pixels."""
    rows = read_table(TABLE, BorderSignals)
    return {(*ACTIVATIONS[row.activation], row.pixels): row for row in rows}


def write() -> None:
    rows = [predict(name, pixels) for name in ACTIVATIONS for pixels in PIXELS]
    write_table(TABLE, rows, BorderSignals)


def predict(activation: str, pixels: int) -> BorderSignals:
    """Computes a row.

    Args:
        activation: a key of experiments.theory.ACTIVATIONS.
    """
    slope, shift = ACTIVATIONS[activation]
    draws = np.random.default_rng(0)
    # Means of φ² and, of two images, of φ times φ
    square, between = np.ones((pixels, pixels)), np.zeros((pixels,) * 4)
    growths, cosines = [], []
    for _ in range(LAYERS):
        variance = _spread(square).ravel()
        covariance = _spread(between).reshape(pixels**2, pixels**2)
        means = _normal_fields(draws, covariance)
        own = np.maximum(variance - np.diag(covariance), 0)  # of r; 0 where only rounding is left
        total = own.mean() + (means**2).mean(axis=1, keepdims=True)
        scale = np.sqrt(total)
        outputs, squares, slopes = _moments(means / scale + shift, np.sqrt(own) / scale, slope)
        square = squares.mean(axis=0).reshape(square.shape)
        between = (outputs.T @ outputs / CHANNELS).reshape(between.shape)
        growths.append(_eigenvalue((slopes / total).mean(axis=0).reshape(square.shape)))
        cosines.append(np.einsum("ijij", between) / square.sum())
    growth, cosine = np.exp(np.log(growths[-KEPT:]).mean()), np.mean(cosines[-KEPT:])
    return BorderSignals(activation, pixels, float(f"{growth:.4g}"), round(float(cosine), 4))


def _spread(values: np.ndarray) -> np.ndarray:
    """Mean over the nine inputs of a 3×3 convolution; covariances move in both their pixels."""
    side, copies = len(values), values.ndim // 2
    padded = np.pad(values, 1)
    moves = [(slice(y, y + side), slice(x, x + side)) for y in range(3) for x in range(3)]
    return sum((padded[move * copies] for move in moves), np.zeros_like(values)) / len(moves)


def _normal_fields(draws: np.random.Generator, covariance: np.ndarray) -> np.ndarray:
    """One for each channel, without its mean over pixels; each comes with its negative."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    half = draws.standard_normal((CHANNELS // 2, len(covariance))) @ root.T
    fields = np.concatenate([half, -half])
    return fields - fields.mean(axis=1, keepdims=True)


def _moments(
    mean: np.ndarray, deviation: np.ndarray, slope: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[φ], E[φ²] and E[φ′²] of a rectifier with a slope, of normal values."""
    deviation = np.maximum(deviation, 1e-12)
    ratio = mean / deviation
    above, density = ndtr(ratio), deviation * np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
    positive, negative = mean * above + density, density - mean * (1 - above)
    squares = mean**2 + deviation**2
    above_square = squares * above + mean * density
    below_square = squares * (1 - above) - mean * density
    return (
        positive - slope * negative,
        above_square + slope**2 * below_square,
        above + slope**2 * (1 - above),
    )


def _eigenvalue(factors: np.ndarray) -> float:
    gradient, value = np.ones_like(factors), 0.0
    for _ in range(POWERS):
        moved = _spread(gradient * factors)
        value = float(moved.sum() / gradient.sum())
        gradient = moved / moved.mean()
    return value
