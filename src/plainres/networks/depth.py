"""Depth → layers: how many blocks a network of that depth has, and which depths each family has.

Depth is the number of weighted layers on the main path (He et al. 2015). Imports no torch.
"""

CIFAR_DEPTHS = range(8, 1203, 6)  # 6n+2, section 4.2

# Table 1: blocks in each of four stages; of two layers (18, 34), or bottlenecks of three layers
IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_MIN_DEPTH = 50

# Simonyan and Zisserman 2014, Table 1
VGG_CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}

# Class or function that builds the network → its depths
_DEPTHS = {
    "CifarNetwork": CIFAR_DEPTHS,
    "ImageNetwork": tuple(IMAGENET_BLOCKS),
    "LeNet5": (5,),
    "AlexNet": (8,),
    "vgg": tuple(VGG_CONFIGURATIONS),
    "googlenet": (22,),
    "inception_v3": (48,),
}


def num_blocks(depth: int) -> int:
    """Blocks in each of the three stages of a CIFAR network: n of 6n+2.

    The 6n+2 layers are one convolution, three stages of n blocks of two layers, one linear layer.

    Raises:
        ValueError: `depth` is not 6n+2 or lies outside 8…1202; names the nearest legal depths.
    """
    _check_cifar_depth(depth)
    return (depth - 2) // 6


def check_depth(family: str, depth: int) -> None:
    """Raises ValueError if networks of this family have no such depth; names those they have.

    Args:
        family: name of the class or function that builds the network.
    """
    if family == "CifarNetwork":
        _check_cifar_depth(depth)
    elif not isinstance(depth, int) or depth not in _DEPTHS[family]:
        *others, last = map(str, _DEPTHS[family])
        legal = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{family} has no depth {depth}; choose {legal}")


def check_configured_depth(target: str, depth: int) -> None:
    """As `check_depth`, for `_target_` of a configuration; a network of your own has any depth."""
    module, _, family = target.rpartition(".")
    if module.startswith("plainres.networks.") and family in _DEPTHS:
        check_depth(family, depth)


def _check_cifar_depth(depth: int) -> None:
    first, last, step = CIFAR_DEPTHS[0], CIFAR_DEPTHS[-1], CIFAR_DEPTHS.step
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ValueError(
            f"depth {depth!r} is not a whole number; "
            f"legal: 6n+2 from {first} to {last}, as 20, 32, 44, 56, 110"
        )
    if not first <= depth <= last:
        nearest = first if depth < first else last
        raise ValueError(f"depth {depth} lies outside {first} to {last}; nearest: {nearest}")
    if depth not in CIFAR_DEPTHS:
        below = depth - (depth - first) % step
        raise ValueError(f"depth {depth} is not 6n+2; nearest: {below} and {below + step}")
