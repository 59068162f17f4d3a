"""The rule of the verdicts for many simulated sweeps at once, and other rules to compare it with.

COMMITTED is the rule of experiments.judging; a test holds it to `claims.check` on random grids.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from experiments.depth.claims import REQUIRED, Grid, check
from experiments.judging.errors import MARGIN
from experiments.judging.inference import SIGNIFICANCE, fewest_seeds, holm, page_trend, signs

T, FLIP, SIGN = "Student's t", "sign-flip", "sign"
FLOORS = {2: 20, 3: 56}  # claims (c), (d) → residual depth that must have room to fall
CHUNK = 2**22  # sums at once, 32 MiB

Network = tuple[str, int]  # arm, depth
Array = np.ndarray


@dataclass(frozen=True)
class Rule:
    """Which tests a criterion must pass, and what Holm's correction goes over.

    Args:
        tests: the largest p value counts.
        both: one family over both directions of all claims; else each direction is a family.
        joint: the opposite of a claim by sign flips of all its criteria together instead of by
            Bonferroni's correction of the sign-flip test; its t tests keep that correction.
    """

    name: str
    tests: tuple[str, ...]
    both: bool = True
    joint: bool = False

    def fewest_seeds(self, claims: int) -> int:
        """With fewer seeds the verdict is a direction."""
        return 2 if self.tests == (T,) else fewest_seeds(claims)

    def least_factor(self, claims: int) -> int:
        """Holm's factor for one claim where all others are significant: its least correction."""
        return claims + 1 if self.both else 1


COMMITTED = Rule("t, sign-flip and sign test (in use)", (T, FLIP, SIGN))
RULES = (
    Rule("t, each direction alone (before)", (T,), both=False),
    Rule("t", (T,)),
    Rule("t and sign-flip", (T, FLIP)),
    COMMITTED,
    Rule("t and joint sign-flip", (T, FLIP), joint=True),
)


class Criteria:
    """All criteria of the six claims as sums over networks.

    A criterion holds where its excess, errors @ weights + constant, lies above 0.

    Args:
        networks: that sweeps have; the names of cells without the seed.

    Attributes:
        weights: (networks, criteria).
        constants: (criteria,).
        claims: for each claim the places of its criteria; none where it cannot be judged.
        trends: the claims that ask for a rising trend of the plain networks, at `deep`.
    """

    def __init__(self, networks: Sequence[Network]):
        self.networks = list(networks)
        depths = tuple(sorted({depth for _, depth in networks if depth >= REQUIRED[0]}))
        # Seed i of this grid has error 1 in network i alone, the last seed has error 0 everywhere
        units = tuple(range(len(self.networks) + 1))
        cells = itertools.product(enumerate(networks), units)
        errors = {(*network, unit): float(unit == place) for (place, network), unit in cells}
        claims = check(Grid(errors, depths, units))
        criteria = [criterion for claim in claims for criterion in claim.criteria]
        values = np.array([criterion.values for criterion in criteria]).T
        bounds = np.array([criterion.bound for criterion in criteria])
        signs = np.where([criterion.above for criterion in criteria], 1.0, -1.0)
        self.names = [criterion.name for criterion in criteria]
        self.weights = signs * np.round(values[:-1] - values[-1], 9)
        self.constants = signs * (values[-1] - bounds)
        ends = np.cumsum([len(claim.criteria) for claim in claims])
        self.claims = np.split(np.arange(len(criteria)), ends[:-1])
        self.trends = [place for place, claim in enumerate(claims) if claim.trend is not None]
        self.pages: dict[int, dict[int, float | None]] = {}  # p values by seeds and sum of ranks
        self.deep = [self.networks.index(("plain", depth)) for depth in depths]

    def excess(self, claim: int, errors: Array) -> Array:
        """Of one claim, (sweeps, seeds, criteria)."""
        places = self.claims[claim]
        return errors @ self.weights[:, places] + self.constants[places]

    def has_room(self, claim: int, errors: Array) -> Array:
        """Where the network whose error must fall does not lie on the floor, (sweeps,)."""
        if claim not in FLOORS:
            return np.ones(len(errors), dtype=bool)
        network = self.networks.index(("residual", FLOORS[claim]))
        return errors[..., network].max(1) > MARGIN


def judge(criteria: Criteria, errors: Array) -> dict[Rule, Array]:
    """By rule whether each claim is reproduced, and not reproduced: (sweeps, claims, 2), bool.

    Args:
        errors: fractions, (sweeps, seeds, networks).
    """
    sweeps, seeds, _ = errors.shape
    shape = (sweeps, len(criteria.claims), 2)
    p_values = {rule: np.ones(shape) for rule in RULES}
    directions = np.zeros(shape, dtype=bool)
    for claim, places in enumerate(criteria.claims):
        if len(places):
            judged = criteria.has_room(claim, errors)
            excess = criteria.excess(claim, errors)
            directions[judged, claim] = _directions(excess)[judged]
            trend = _trend(criteria, claim, errors)
            for rule, p in _of_claim(excess, trend, SIGNIFICANCE).items():
                p_values[rule][judged, claim] = p[judged]
    verdicts = {}
    for rule, p in p_values.items():
        if seeds < rule.fewest_seeds(len(criteria.claims)):
            verdicts[rule] = directions
        elif rule.both:
            verdicts[rule] = holm(p.reshape(sweeps, -1)).reshape(shape) < SIGNIFICANCE
        else:
            verdicts[rule] = holm(p.swapaxes(1, 2)).swapaxes(1, 2) < SIGNIFICANCE
    return verdicts


def judge_alone(criteria: Criteria, claim: int, errors: Array) -> dict[Rule, Array]:
    """`judge` of one claim, where all other claims are significant: (sweeps, 2)."""
    claims = len(criteria.claims)
    excess = criteria.excess(claim, errors)
    directions = _directions(excess)
    flipping = (rule for rule in RULES if FLIP in rule.tests)
    level = SIGNIFICANCE / min(rule.least_factor(claims) for rule in flipping)
    by_rule = _of_claim(excess, _trend(criteria, claim, errors), level)
    return {
        rule: directions
        if errors.shape[1] < rule.fewest_seeds(claims)
        else p * rule.least_factor(claims) < SIGNIFICANCE
        for rule, p in by_rule.items()
    }


def _directions(excess: Array) -> Array:
    """(sweeps, 2): all seeds support all criteria; all seeds speak against one of them."""
    supports = np.all(excess > 0, axis=(1, 2))
    contradicts = np.any(np.all(excess < 0, axis=1), axis=1)
    return np.stack([supports, contradicts], axis=1)


def _of_claim(excess: Array, trend: Array | None, level: float) -> dict[Rule, Array]:
    """P values of a claim and of its opposite by each rule, (sweeps, 2).

    Those of the sign-flip test are computed where Student's t gives less than `level`; elsewhere
    they are 1, which changes no verdict.
    """
    count = excess.shape[2]
    above = _by_t(excess)
    t = [above, 1 - above]
    tests = {
        T: t,
        FLIP: [_by_flips(side * excess, p < level) for side, p in zip((1, -1), t, strict=True)],
        SIGN: [_by_signs(excess), _by_signs(-excess)],
    }
    least = np.minimum(1, count * t[1].min(1))
    joint = np.maximum(least, _by_joint_flips(-excess, least < level))
    results = {}
    for rule in RULES:
        yes, no = (np.max([tests[test][side] for test in rule.tests], 0) for side in (0, 1))
        p = yes.max(1) if trend is None else np.maximum(yes.max(1), trend)
        opposite = joint if rule.joint else np.minimum(1, count * no.min(1))
        results[rule] = np.stack([p, opposite], axis=1)
    return results


def _by_t(excess: Array) -> Array:
    """Student's t test, (sweeps, criteria)."""
    seeds = excess.shape[1]
    error = excess.std(1, ddof=1) / np.sqrt(seeds)
    return special.stdtr(seeds - 1, -excess.mean(1) / error)


def _by_signs(excess: Array) -> Array:
    """The sign test of the median, (sweeps, criteria)."""
    seeds = excess.shape[1]
    tail = stats.binom.sf(np.arange(-1, seeds), seeds, 0.5)
    return tail[(excess > 0).sum(1)]


def _by_flips(excess: Array, where: Array) -> Array:
    """The sign-flip test of the mean, (sweeps, criteria); 1 elsewhere."""
    agree = (excess > 0).all(1)
    p = np.where(agree, 0.5 ** excess.shape[1], 1.0)
    mixed = where & ~agree
    rows = excess.transpose(0, 2, 1)[mixed]
    flips = signs(excess.shape[1])
    results = [np.empty(0)]
    for part in _parts(len(rows), len(flips)):
        least = rows[part].sum(1) - 1e-12 * np.abs(rows[part]).sum(1)
        results.append((rows[part] @ flips.T >= least[:, None]).mean(1))
    p[mixed] = np.concatenate(results)
    return p


def _by_joint_flips(excess: Array, where: Array) -> Array:
    """P value, (sweeps,), of "any criterion's mean lies above 0"; 1 elsewhere.

    The sign of a seed is that of all its criteria. The largest of their sums, each divided by its
    norm, is compared with that under every assignment of signs (Westfall and Young's maximum).
    """
    rows = excess[where] / np.sqrt((excess[where] ** 2).sum(1, keepdims=True))
    flips = signs(excess.shape[1])
    p = np.ones(len(excess))
    results = [np.empty(0)]
    for part in _parts(len(rows), len(flips) * excess.shape[2]):
        least = rows[part].sum(1).max(1) - 1e-12
        results.append(((flips @ rows[part]).max(2) >= least[:, None]).mean(1))
    p[where] = np.concatenate(results)
    return p


def _parts(rows: int, size: int) -> Iterator[slice]:
    """Slices of so many rows that each has at most CHUNK values of `size` per row."""
    step = max(1, CHUNK // size)
    return (slice(start, start + step) for start in range(0, rows, step))


def _trend(criteria: Criteria, claim: int, errors: Array) -> Array | None:
    """P values, (sweeps,), of Page's test where the claim asks for a trend."""
    if claim not in criteria.trends:
        return None
    deep = errors[..., criteria.deep]
    ranks = deep.argsort(2).argsort(2)
    sums = (ranks * np.arange(deep.shape[2])).sum((1, 2))
    found, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    # Page's p value depends on this sum alone
    known = criteria.pages.setdefault(deep.shape[1], {})
    for total, place in zip(found, first, strict=True):
        if total not in known:
            known[total] = page_trend(ranks[place])
    return np.array([known[total] for total in found])[inverse]
