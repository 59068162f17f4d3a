"""Up to which depth a series of networks trains."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from experiments.judging.errors import LEARNED

REFERENCE = 20  # layers; the error is held against that of this depth
TIMES = 2  # a network trains if its error is below so many times the reference's


class TrainableDepth(NamedTuple):
    """In layers; `at_least` where the deepest network that was measured still trains."""

    depth: float
    at_least: bool


def trainable_depth(
    errors: Mapping[int, float], chance: float, deepest: int = 0
) -> TrainableDepth | None:
    """The depth at which the error first passes twice that of 20 layers.

    Between two depths the logarithm of the error is taken as linear.

    Args:
        errors: fractions by depth, of one seed.
        chance: the error of guessing.
        deepest: the depth down to which a series must go, if all of it trains.

    Returns:
        None without the reference or a deeper network, where the reference has not learned or twice
        its error is hardly better than guessing, with an error of 0, or where all networks train
        and the deepest is missing.
    """
    depths = sorted(depth for depth in errors if depth >= REFERENCE)
    if depths[:1] != [REFERENCE] or len(depths) < 2 or min(errors[d] for d in depths) <= 0:
        return None
    if TIMES * errors[REFERENCE] > (1 - LEARNED) * chance:
        return None
    bound = math.log(TIMES * errors[REFERENCE])
    for shallow, deep in pairwise(depths):
        low, high = math.log(errors[shallow]), math.log(errors[deep])
        if high > bound:
            return TrainableDepth(shallow + (bound - low) / (high - low) * (deep - shallow), False)
    return TrainableDepth(float(depths[-1]), True) if depths[-1] >= deepest else None
