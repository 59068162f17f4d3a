"""Depth, the number of weighted layers on the main path, and what it means for each family of networks."""

NUM_STAGES = 3
LAYERS_PER_BLOCK = 2
MIN_DEPTH = 8
MAX_DEPTH = 1202
_LAYERS_OUTSIDE_STAGES = 2  # the stem convolution and the linear head
_STEP = NUM_STAGES * LAYERS_PER_BLOCK


# Blocks in each of the four stages of the ImageNet networks, and weighted layers of a block (He et al. 2015, Table 1)
IMAGE_STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_MIN_DEPTH = 50

_FIXED_DEPTHS: dict[str, tuple[int, ...]] = {
    "plainres.networks.resnet.ImageNetwork": tuple(IMAGE_STAGES),
    "plainres.networks.classics.LeNet5": (5,),
    "plainres.networks.classics.AlexNet": (8,),
    "plainres.networks.classics.vgg": (11, 13, 16, 19),
    "plainres.networks.classics.googlenet": (22,),
    "plainres.networks.classics.inception_v3": (48,),
}


def check_depth(family: str, depth: int) -> None:
    """Raises ValueError where a network of `family` cannot have that depth; names the nearest or legal ones.

    Args:
        family: dotted name of what builds the network; other names than those known here may have any depth.
    """
    if family == "plainres.networks.resnet.CifarNetwork":
        num_blocks(depth)
    elif family in _FIXED_DEPTHS and depth not in _FIXED_DEPTHS[family]:
        name = family.rsplit(".", 1)[1]
        raise ValueError(
            f"depth {depth} is none of {name}'s; legal: {', '.join(map(str, _FIXED_DEPTHS[family]))}"
        )


def num_blocks(depth: int) -> int:
    """Blocks per stage of a CIFAR network (He et al. 2015, section 4.2): 6n+2 layers, n blocks of two in each of three stages.

    Raises:
        ValueError: `depth` is not 6n+2 or lies outside 8…1202; names the nearest legal depths.
    """
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ValueError(
            f"depth {depth!r} is not a whole number; legal: 6n+2 from {MIN_DEPTH} to {MAX_DEPTH}, as 20, 32, 44, 56, 110"
        )
    if depth < MIN_DEPTH or depth > MAX_DEPTH:
        nearest = MIN_DEPTH if depth < MIN_DEPTH else MAX_DEPTH
        raise ValueError(
            f"depth {depth} lies outside {MIN_DEPTH} to {MAX_DEPTH}; nearest: {nearest}"
        )
    blocks, rest = divmod(depth - _LAYERS_OUTSIDE_STAGES, _STEP)
    if rest:
        below = blocks * _STEP + _LAYERS_OUTSIDE_STAGES
        raise ValueError(f"depth {depth} is not 6n+2; nearest: {below} and {below + _STEP}")
    return blocks
