"""Initialisations from papers that train deep networks without shortcuts, beside those of blocks.

Each starts from He's (`blocks.initialise`) and then replaces the kernels.
"""

import torch
from torch import nn

from plainres.networks import blocks
from plainres.networks.blocks import check_choice

INITIALISATIONS = (*blocks.INITIALISATIONS, "orthogonal", "delta_orthogonal", "looks_linear")


@torch.no_grad()
def initialise(network: nn.Module, kind: str = "he", slope: float = 0.0) -> None:
    """Initialises a network in place.

    `orthogonal`: each kernel, as a matrix of output channels × (input channels · taps), has
    orthonormal rows or columns times the gain of the activation (Saxe et al. 2013, arXiv:1312.6120;
    torch.nn.init.orthogonal_). `delta_orthogonal`: the same with all taps zero but the middle one,
    so that a layer keeps the norm of every pixel (Xiao et al. 2018, arXiv:1806.05393).
    `looks_linear`: see `_look_linear`.

    Args:
        kind: one of INITIALISATIONS; the first three are those of `blocks.initialise`.
        slope: of the activation for negative values; gives the gain √(2 / (1 + slope²)).

    Raises:
        ValueError: unknown kind, or channels that cannot be paired; names what is legal.
    """
    check_choice("initialisation", kind, INITIALISATIONS)
    if kind in blocks.INITIALISATIONS:
        blocks.initialise(network, kind)
        return
    blocks.initialise(network)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if kind == "looks_linear":
        _look_linear(convolutions, [m for m in network.modules() if isinstance(m, nn.Linear)])
        return
    gain = nn.init.calculate_gain("leaky_relu", slope)
    for convolution in convolutions:
        weight = convolution.weight
        if kind == "delta_orthogonal":
            rows, columns = (size // 2 for size in convolution.kernel_size)
            nn.init.zeros_(weight)
            weight = weight[:, :, rows, columns]
        nn.init.orthogonal_(weight, gain)


def _look_linear(convolutions: list[nn.Conv2d], linear: list[nn.Linear]) -> None:
    """Pairs of channels that are each other's negative: the network is linear at its start.

    Balduzzi et al. 2017 (arXiv:1702.08591, section 4), with V orthogonal. The first layer is
    [V; -V], all others are [[V, -V], [-V, V]], and the linear layer is [v, -v]. A ReLU
    splits z and -z into their positive parts, and V · relu(z) - V · relu(-z) = V · z. Batch
    normalisation treats z and -z alike, and keeps this.
    """
    for number, convolution in enumerate(convolutions):
        weight = convolution.weight
        if weight.shape[0] % 2 or (number and weight.shape[1] % 2):
            raise ValueError(
                f"initialisation 'looks_linear' pairs channels, and {weight.shape[1]} → "
                f"{weight.shape[0]} cannot be paired; legal: an even width"
            )
        half = weight[: len(weight) // 2]
        if number:
            half = half[:, : half.shape[1] // 2]
        half = nn.init.orthogonal_(half.clone(memory_format=torch.contiguous_format))
        if number:
            half = torch.cat([half, -half], 1)
        weight.copy_(torch.cat([half, -half]))
    for layer in linear:
        half = layer.weight[:, : layer.in_features // 2]
        layer.weight.copy_(torch.cat([half, -half], 1))
