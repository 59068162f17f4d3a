"""Activations: the paper's ReLU, and rectifiers with a slope and a shift."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

RELU = partial(nn.ReLU, inplace=True)


class Rectifier(nn.Module):
    """u where u = x + `offset` is positive, `negative_slope` · u elsewhere; any shape."""

    def __init__(self, negative_slope: float = 0.0, offset: float = 0.0):
        super().__init__()
        self.negative_slope = negative_slope
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x + self.offset, self.negative_slope)


def make_activation(slope: float | None, shift: float | None) -> Callable[[], nn.Module]:
    """Builds a network's activations: a Rectifier, or PyTorch's ReLU where both are None."""
    if slope is None and shift is None:
        return RELU
    return partial(Rectifier, slope or 0.0, shift or 0.0)
