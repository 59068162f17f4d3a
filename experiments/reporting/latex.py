"""Tables as LaTeX, to be put into a paper; they need the packages booktabs and graphicx."""

import re
from collections.abc import Sequence
from string import ascii_lowercase

from experiments.judging.verdict import NOT_REPRODUCED, Claim, amount, p_text

PREAMBLE = r"% \usepackage{booktabs, graphicx}"
NUMBER = re.compile(r"[-+]?\d[\d.,]*( ± [\d.]+)?( %)?")
SIGNED = re.compile(r"(?<![\w.$])[-+]\d[\d.]*")  # within text
WIDE = 40  # characters: longer text is set in a paragraph
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
# What LaTeX reads otherwise, or has no letter for
LETTERS: dict[str, str | int | None] = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{letter: f"${letter}$" for letter in "<>|"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "−": "$-$", "·": r"$\cdot$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "‖": r"$\|$", "–": "--", "…": r"\dots{}"},
    **{"λ": r"$\lambda$", "ε": r"$\varepsilon$", "√": r"$\surd$"},
    **{raised: f"$^{{{digit}}}$" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}


def table(caption: str, rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> list[str]:
    """The lines of a table with a caption; the first row is its heading, notes are comments."""
    head, *body = rows
    columns = "".join(map(_alignment, zip(*body, strict=True))) or "l" * len(head)
    if any("±" in cell for row in body for cell in row):
        caption += " Mean ± standard deviation over seeds."
    lines = [f"% {line}" for note in notes for line in note.splitlines()]
    lines += [r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}", FIT]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(head), r"\midrule"]
    lines += [*map(_row, body), r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
    return lines


def verdicts(claims: Sequence[Claim]) -> list[list[str]]:
    """A row for each claim: effect and interval of its weakest criterion, n and p.

    Where a claim is not reproduced, p is that of the opposite.
    """
    rows = [["", "claim", "verdict", "criterion", "effect", "95 % interval", "n", "p"]]
    for letter, claim in zip(ascii_lowercase, claims, strict=False):
        numbers = ["–"] * 5
        if weakest := claim.weakest:
            effect, low, high = (
                amount(value, weakest.unit)
                for value in (weakest.mean, *(weakest.interval or (0.0, 0.0)))
            )
            interval = f"[{low.split()[0]}, {high.split()[0]}]" if weakest.interval else "–"
            value = claim.p_against if claim.verdict == NOT_REPRODUCED else claim.p
            p = "–" if value is None else p_text(value).removeprefix("p").removeprefix(" = ")
            numbers = [weakest.name, effect, interval, str(claim.num_seeds), p]
        rows.append([f"({letter})", claim.statement, claim.words, *numbers])
    return rows


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands here."""
    return text.translate(str.maketrans(LETTERS))


def _alignment(column: Sequence[str]) -> str:
    if all(NUMBER.fullmatch(cell) or cell in ("–", "") for cell in column):
        return "r"
    return "p{7cm}" if max(map(len, column)) > WIDE else "l"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    """Numbers in math, where a minus is a minus."""
    if not NUMBER.fullmatch(text):
        return SIGNED.sub(r"$\g<0>$", escaped(text))
    number = text.replace(",", "{,}").replace("±", r"\pm").replace(" %", r"\,\%")
    return f"${number}$"
