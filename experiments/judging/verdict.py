"""Claims and their verdicts. Nothing here knows arms or records.

A claim is reproduced when all its criteria hold, and not reproduced when the opposite of one of
them holds, each at 5 % after Holm's correction over both directions of the claims that are judged
together (experiments.judging.inference). With few seeds no test can be significant: then the
verdict is a direction, `supports` or `contradicts` where all seeds agree, and the text says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase

import numpy as np

from experiments.judging.inference import (
    POINTS,
    SIGNIFICANCE,
    Criterion,
    all_of,
    any_of,
    fewest_seeds,
    holm,
)

VERDICTS = REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
AGAINST = ", all seeds speak against it"
DIRECTIONS = {REPRODUCED: "supports", NOT_REPRODUCED: "contradicts", INCONCLUSIVE: "undecided"}


@dataclass(frozen=True)
class Claim:
    """One claim, its verdict, and what it rests on.

    Args:
        trend: p value of Page's test, which must be significant too; None where the claim asks for
            no trend or there are too few seeds.
        p: after Holm's correction; None where nothing is tested.
        seeds_needed: for a test, known once corrected; with fewer the verdict is a direction.
    """

    statement: str
    verdict: str
    summary: str  # what was measured, as one sentence for a reader
    criteria: tuple[Criterion, ...] = ()  # all of them must hold
    trend: float | None = None
    p: float | None = None
    p_against: float | None = None  # of the opposite
    reason: str = ""  # why an uncertain verdict is not a clear one
    seeds_needed: int = 0

    @property
    def num_seeds(self) -> int:
        """The seeds that the verdict rests on; 0 where nothing is tested."""
        return min((len(criterion.values) for criterion in self.criteria), default=0)

    @property
    def is_direction(self) -> bool:
        """Whether there are criteria, but too few seeds for a test."""
        return bool(self.criteria) and self.num_seeds < self.seeds_needed

    @property
    def words(self) -> str:
        """The verdict for a reader."""
        return DIRECTIONS[self.verdict] if self.is_direction else self.verdict

    @property
    def contradicted(self) -> bool:
        """Whether a test, or a count, speaks against the claim; a direction does not."""
        return self.verdict == NOT_REPRODUCED and not self.is_direction

    @property
    def weakest(self) -> Criterion | None:
        """The criterion that decides: with several seeds the one with the largest p."""
        if not self.criteria:
            return None
        if self.num_seeds > 1:
            return max(self.criteria, key=lambda criterion: criterion.p)
        return next((c for c in self.criteria if not c.holds), self.criteria[0])

    @property
    def p_words(self) -> str:
        """The p value of the claim, or its opposite where all speak for that; "" without a test."""
        if self.p is None:
            return ""
        if self.verdict == NOT_REPRODUCED or self.reason == AGAINST:
            return f"opposite: {p_text(self.p_against or 0.0)}"
        return p_text(self.p)

    @property
    def headline(self) -> str:
        """Effect, interval, n and p of the weakest criterion; "" where none is tested."""
        weakest = self.weakest
        if weakest is None:
            return ""
        name = f"{weakest.name}: " if len(self.criteria) > 1 else ""
        effect = f"{name}{amount(weakest.mean, weakest.unit)}"
        if weakest.interval is not None:
            low, high = (amount(end, weakest.unit).split()[0] for end in weakest.interval)
            effect += f" [{low}, {high}]"
        if self.p is None:
            few = f"no test below {self.seeds_needed} seeds"
            p = few if self.is_direction else "not tested"
        else:
            p = self.p_words
        return f"{effect}, n = {self.num_seeds}, {p}{self.reason}"


def judge(
    statement: str, criteria: Sequence[Criterion], summary: str, trend: float | None = None
) -> Claim:
    """The claim alone: the direction in which all seeds agree, and p values, not yet corrected.

    Args:
        criteria: one or more, over the same seeds.
        trend: p value of Page's test, where the claim asks for a trend.
    """
    criteria = tuple(criteria)
    direction = INCONCLUSIVE
    if all(criterion.holds_in_all for criterion in criteria):
        direction = REPRODUCED
    elif any(criterion.fails_in_all for criterion in criteria):
        direction = NOT_REPRODUCED
    claim = Claim(statement, direction, summary, criteria, trend)
    if claim.num_seeds == 1:
        return claim
    p = all_of([criterion.p for criterion in criteria] + ([] if trend is None else [trend]))
    return replace(claim, p=p, p_against=any_of([criterion.p_against for criterion in criteria]))


def corrected(claims: Sequence[Claim]) -> list[Claim]:
    """Claims that are judged together: p values after Holm's correction over all of them.

    One family for both directions, so that at most 5 % of such families have any wrong verdict.
    Claims without a p value count in the correction. A claim of fewer seeds than a test needs
    keeps its direction.
    """
    p_values = [p for claim in claims for p in (claim.p, claim.p_against)]
    adjusted = iter(holm(np.array([1.0 if p is None else p for p in p_values])).tolist())
    needed = fewest_seeds(len(claims))
    results = []
    for claim in claims:
        p, p_against = next(adjusted), next(adjusted)
        claim = replace(claim, seeds_needed=needed)
        if claim.num_seeds < needed:
            claim = replace(claim, p=None, p_against=None)
        elif claim.p is not None:
            result, reason = INCONCLUSIVE, ""
            if p < SIGNIFICANCE:
                result = REPRODUCED
            elif p_against < SIGNIFICANCE:
                result = NOT_REPRODUCED
            elif claim.p < SIGNIFICANCE:
                reason = f", not significant after Holm's correction over {len(claims)} claims"
            elif claim.trend is not None and claim.trend >= SIGNIFICANCE:
                reason = f", no significant trend ({p_text(claim.trend)})"
            elif claim.verdict == NOT_REPRODUCED:
                reason = AGAINST
            claim = replace(claim, verdict=result, p=p, p_against=p_against, reason=reason)
        results.append(claim)
    return results


def lines(claims: Sequence[Claim]) -> list[str]:
    """Two or three lines per claim for a terminal: verdict and numbers, statement, measurement."""
    text = []
    for letter, claim in zip(ascii_lowercase, claims, strict=False):
        numbers = f" · {claim.headline}" if claim.headline else ""
        text += [f"({letter}) {claim.words}{numbers}", f"    {claim.statement}"]
        text += [f"    {claim.summary}"] if claim.summary else []
    return text


def rows(claims: Sequence[Claim]) -> list[list[str]]:
    """The claims as rows of a Markdown table, under a row of headings."""
    body = [
        [letter, claim.statement, f"**{claim.words}**", claim.headline, claim.summary]
        for letter, claim in zip(ascii_lowercase, claims, strict=False)
    ]
    return [["", "claim", "verdict", "effect [95 % interval], n, p", "measured"], *body]


def details(claims: Sequence[Claim]) -> list[list[str]]:
    """What each verdict rests on: one row per criterion, under a row of headings."""
    table = [["claim", "criterion", "mean", "95 % interval (t)", "95 % bootstrap", "p"]]
    for letter, claim in zip(ascii_lowercase, claims, strict=False):
        for criterion in claim.criteria:
            unit, p = criterion.unit, f"{criterion.p:.2g}" if len(criterion.values) > 1 else "–"
            bound = amount(criterion.bound, unit) if criterion.bound else "0"
            condition = f"{criterion.name} {'>' if criterion.above else '<'} {bound}"
            pairs = (criterion.interval, criterion.bootstrap_interval)
            intervals = [_interval(pair, unit) for pair in pairs]
            table.append([letter, condition, amount(criterion.mean, unit), *intervals, p])
        if claim.trend is not None:
            table.append([letter, "trend over all depths (Page)", "", "", "", f"{claim.trend:.2g}"])
        if claim.p is not None and claim.p_against is not None:
            table.append([letter, "all of these, after Holm", "", "", "", f"{claim.p:.2g}"])
            table.append([letter, "any opposite, after Holm", "", "", "", f"{claim.p_against:.2g}"])
    return table


def amount(value: float, unit: str) -> str:
    """A value with its unit; errors are fractions and shown in percentage points."""
    return points(value) if unit == POINTS else f"{value:+.3f} {unit}".rstrip()


def points(value: float) -> str:
    """A difference of errors, a fraction, in percentage points."""
    return f"{100 * value:+.2f} points"


def p_text(p: float) -> str:
    """`p = 0.013`, two significant digits; `p < 0.001` below that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def rests_on_several(claims: Sequence[Claim]) -> bool:
    """Whether any claim rests on more than one seed, so that there are intervals to show."""
    return any(claim.num_seeds > 1 for claim in claims)


def _interval(pair: tuple[float, float] | None, unit: str) -> str:
    return "–" if pair is None else " … ".join(amount(end, unit).split()[0] for end in pair)
