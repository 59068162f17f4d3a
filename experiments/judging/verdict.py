"""Claims and their verdicts. Nothing here knows arms or records.

A claim is reproduced when all its criteria hold, contradicted when one of them is turned round, each at 5 % after Holm's correction over
the claims that are judged together (experiments.judging.inference). With one seed there is no spread to judge by: the verdict is a direction, and
is told as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase

from experiments.judging.inference import POINTS, SIGNIFICANCE, Criterion, all_of, any_of, holm

VERDICTS = REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
DIRECTIONS = {
    REPRODUCED: "points that way",
    NOT_REPRODUCED: "points against it",
    INCONCLUSIVE: "points neither way",
}  # of one seed


@dataclass(frozen=True)
class Claim:
    """One claim, its verdict, and what it rests on.

    Args:
        seen: what was seen, as one sentence for a reader.
        criteria: all of them must hold.
        trend: p value of Page's test, which must be small too; None where the claim asks for no trend or there are too few rows.
        p: that chance alone would make the claim look as true as it does; after Holm's correction. None with one seed or nothing to judge.
        p_against: the same of its contradiction.
    """

    statement: str
    verdict: str
    seen: str
    criteria: tuple[Criterion, ...] = ()
    trend: float | None = None
    p: float | None = None
    p_against: float | None = None

    @property
    def words(self) -> str:
        """The verdict as a reader is told it: a direction where it rests on one seed."""
        one_seed = any(len(criterion.values) == 1 for criterion in self.criteria)
        return DIRECTIONS[self.verdict] if one_seed else self.verdict


def judge(
    statement: str, criteria: Sequence[Criterion], seen: str, trend: float | None = None
) -> Claim:
    """The claim on its own: its direction with one seed, its p values, not yet corrected, with several.

    Args:
        criteria: one or more, over the same seeds.
        trend: p value of Page's test, where the claim asks for a trend.
    """
    criteria = tuple(criteria)
    if len(criteria[0].values) == 1:
        verdict = INCONCLUSIVE
        if all(criterion.holds for criterion in criteria):
            verdict = REPRODUCED
        elif any(criterion.fails for criterion in criteria):
            verdict = NOT_REPRODUCED
        return Claim(statement, verdict, f"{seen}; one seed: a direction, not a test", criteria)
    p = all_of([criterion.p for criterion in criteria] + ([] if trend is None else [trend]))
    p_against = any_of([criterion.p_against for criterion in criteria])
    return Claim(statement, INCONCLUSIVE, seen, criteria, trend, p, p_against)


def corrected(claims: Sequence[Claim]) -> list[Claim]:
    """Claims that are judged together, with p values corrected over all of them, and the verdicts that follow.

    Claims without a p value stay as they are, and count in the correction.
    """
    adjusted = holm([1.0 if claim.p is None else claim.p for claim in claims])
    against = holm([1.0 if claim.p_against is None else claim.p_against for claim in claims])
    found = []
    for claim, p, p_against in zip(claims, adjusted, against, strict=True):
        if claim.p is None:
            found.append(claim)
        elif p < SIGNIFICANCE:
            found.append(
                replace(
                    claim,
                    verdict=REPRODUCED,
                    p=p,
                    p_against=p_against,
                    seen=f"{claim.seen}; {_odds(claim.p)}",
                )
            )
        elif p_against < SIGNIFICANCE:
            seen = f"{claim.seen}; the contrary holds: {_odds(claim.p_against or 0.0)}"
            found.append(
                replace(claim, verdict=NOT_REPRODUCED, p=p, p_against=p_against, seen=seen)
            )
        else:
            among = (
                f" where {len(claims)} claims are judged together" if claim.p < SIGNIFICANCE else ""
            )
            seen = f"{claim.seen}; {_odds(claim.p)}, too many{among}{_weakest(claim)}"
            found.append(replace(claim, p=p, p_against=p_against, seen=seen))
    return found


def lines(claims: Sequence[Claim]) -> list[str]:
    """Two lines a claim for a terminal: letter, verdict and statement; what was seen."""
    text = []
    for letter, claim in zip(ascii_lowercase, claims, strict=False):
        text += [f"({letter}) {claim.words.upper():18}  {claim.statement}", f"    {claim.seen}"]
    return text


def rows(claims: Sequence[Claim]) -> list[list[str]]:
    """The same as rows of a Markdown table, under a row of headings."""
    body = [
        [letter, claim.statement, f"**{claim.words}**", claim.seen]
        for letter, claim in zip(ascii_lowercase, claims, strict=False)
    ]
    return [["", "claim", "verdict", "seen"], *body]


def details(claims: Sequence[Claim]) -> list[list[str]]:
    """What each verdict rests on: one row a criterion, under a row of headings."""
    table = [["claim", "criterion", "mean", "95 % interval (t)", "95 % bootstrap", "p"]]
    for letter, claim in zip(ascii_lowercase, claims, strict=False):
        for criterion in claim.criteria:
            bound = amount(criterion.bound, criterion.unit) if criterion.bound else "0"
            wanted = f"{criterion.name} {'>' if criterion.above else '<'} {bound}"
            intervals = [
                _interval(pair, criterion.unit)
                for pair in (criterion.interval, criterion.bootstrap_interval)
            ]
            p = f"{criterion.p:.2g}" if len(criterion.values) > 1 else "–"
            table.append([letter, wanted, amount(criterion.mean, criterion.unit), *intervals, p])
        if claim.trend is not None:
            table.append([letter, "trend over all depths (Page)", "", "", "", f"{claim.trend:.2g}"])
        if claim.p is not None and claim.p_against is not None:
            table.append([letter, "all of these, after Holm", "", "", "", f"{claim.p:.2g}"])
            table.append(
                [letter, "the contrary of any, after Holm", "", "", "", f"{claim.p_against:.2g}"]
            )
    return table


def amount(value: float, unit: str) -> str:
    """A criterion's value with its unit; errors are fractions and told in percentage points."""
    return points(value) if unit == POINTS else f"{value:+.3f} {unit}".rstrip()


def points(value: float) -> str:
    """A difference of errors, a fraction, in percentage points."""
    return f"{100 * value:+.2f} points"


def rests_on_several(claims: Sequence[Claim]) -> bool:
    """Whether there is more than one seed somewhere, and so something to show of what verdicts rest on."""
    return any(len(criterion.values) > 1 for claim in claims for criterion in claim.criteria)


def status(claims: Sequence[Claim]) -> int:
    """Exit status of a check: 1 when a claim is not reproduced, else 0."""
    return 1 if any(claim.verdict == NOT_REPRODUCED for claim in claims) else 0


def _interval(pair: tuple[float, float] | None, unit: str) -> str:
    return "–" if pair is None else " … ".join(amount(end, unit).split()[0] for end in pair)


def _weakest(claim: Claim) -> str:
    """What keeps a claim from being reproduced."""
    weakest = max(claim.criteria, key=lambda criterion: criterion.p)
    return (
        f" (least sure: {weakest.name})"
        if claim.trend is None or weakest.p >= claim.trend
        else " (no steady trend)"
    )


def _odds(p: float) -> str:
    """A p value, not corrected, in words."""
    if p < 0.001:
        return "were it not so, fewer than 1 in 1,000 experiments would look like this"
    if p > 0.4:
        return "were it not so, many experiments would look like this"
    return f"were it not so, 1 in {round(1 / p):,} experiments would look like this"
