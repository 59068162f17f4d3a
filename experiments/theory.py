"""How fast gradients grow through plain layers, by the mean field theory of normalisation."""

import math

ACTIVATIONS = {  # name → slope and shift, as in conf/variants/activation.yaml; λ falls
    "relu": (0.0, 0.0),
    "shifted_50": (0.0, 0.5),
    "leaky_25": (0.25, 0.0),
    "shifted_100": (0.0, 1.0),
    "leaky_50": (0.5, 0.0),
    "shifted_200": (0.0, 2.0),
    "leaky_75": (0.75, 0.0),
    "linear": (1.0, 0.0),
}
NAMES = {  # in tables and figures
    "relu": "ReLU",
    "shifted_50": "shift 0.5",
    "leaky_25": "slope 0.25",
    "shifted_100": "shift 1",
    "leaky_50": "slope 0.5",
    "shifted_200": "shift 2",
    "leaky_75": "slope 0.75",
    "linear": "linear",
}


def gradient_growth(slope: float = 0.0, shift: float = 0.0) -> float:
    """λ: by how much squared gradients grow backwards through one plain layer, at the start.

    λ = E[φ′(z)²] / Var[φ(z)] with z standard normal and φ a rectifier
    (plainres.networks.activations.Rectifier): batch normalisation divides
    what the layer before gave by its standard deviation, and the gradient too. For the ReLU it is
    π / (π - 1) = 1.467 (Yang et al. 2019, arXiv:1902.08129, for large batches and widths). It is
    at least 1, and 1 for a linear layer.
    """
    below, density = _normal(-shift), math.exp(-shift * shift / 2) / math.sqrt(2 * math.pi)
    above = 1 - below
    # Of u = z + shift: mean of its positive and negative part, and of their squares
    positive, negative = shift * above + density, density - shift * below
    squares = (shift * shift + 1) * above + shift * density
    negative_squares = (shift * shift + 1) * below - shift * density
    mean = positive - slope * negative
    variance = squares + slope * slope * negative_squares - mean * mean
    return (above + slope * slope * below) / variance


def _normal(value: float) -> float:
    """Probability that a standard normal variable lies below."""
    return (1 + math.erf(value / math.sqrt(2))) / 2
