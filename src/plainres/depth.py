"""Depth of the CIFAR networks of He et al. 2015, section 4.2: 6n+2 weighted layers, n blocks of two in each of three stages."""

NUM_STAGES = 3
LAYERS_PER_BLOCK = 2
MIN_DEPTH = 8
MAX_DEPTH = 1202
_LAYERS_OUTSIDE_STAGES = 2  # the stem convolution and the linear head
_STEP = NUM_STAGES * LAYERS_PER_BLOCK


def num_blocks(depth: int) -> int:
    """Blocks per stage of a network with `depth` weighted layers.

    Raises:
        ValueError: `depth` is not 6n+2 or lies outside 8…1202; names the nearest legal depths.
    """
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ValueError(f"depth {depth!r} is not a whole number; legal: 6n+2 from {MIN_DEPTH} to {MAX_DEPTH}, as 20, 32, 44, 56, 110")
    if depth < MIN_DEPTH or depth > MAX_DEPTH:
        nearest = MIN_DEPTH if depth < MIN_DEPTH else MAX_DEPTH
        raise ValueError(f"depth {depth} lies outside {MIN_DEPTH} to {MAX_DEPTH}; nearest: {nearest}")
    blocks, rest = divmod(depth - _LAYERS_OUTSIDE_STAGES, _STEP)
    if rest:
        below = blocks * _STEP + _LAYERS_OUTSIDE_STAGES
        raise ValueError(f"depth {depth} is not 6n+2; nearest: {below} and {below + _STEP}")
    return blocks


def legal_depths() -> range:
    """Every legal depth, from the shallowest to the deepest."""
    return range(MIN_DEPTH, MAX_DEPTH + 1, _STEP)
