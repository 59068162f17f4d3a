"""Tables as LaTeX: what LaTeX would stumble over, and the numbers that check prints."""

import re
import shutil
import subprocess

import pytest
from composing import ROOT

from experiments import __main__ as command
from experiments.judging.verdict import Claim
from experiments.reporting import latex
from experiments.reporting.question import questions

RESULTS = ROOT / "results"
FOLDERS = [
    pytest.param(question, folder, id=folder.relative_to(RESULTS).as_posix())
    for question in questions().values()
    for folder in question.folders(RESULTS)[:1]
]
LETTERS = re.compile(r"\\[&%$#_{}]")  # that stand for themselves


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row, of every table."""
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    return [[c.strip() for c in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines]


def check_structure(text: str) -> None:
    code = [line for line in text.splitlines() if not line.startswith("%")]
    for line in code:
        bare = LETTERS.sub("", line)
        assert "%" not in bare.removesuffix("{%"), line
        assert not set(bare) & set("#~_") - set(latex.FIT), line
        assert bare.count("$") % 2 == 0, line
        assert not set(bare) & set(latex.LETTERS) - set("\\{}$%&^|<>#_"), line
    bare = LETTERS.sub("", "\n".join(code))
    assert bare.count("{") == bare.count("}")
    for environment in ("table", "tabular"):
        begins = bare.count(rf"\begin{{{environment}}}")
        assert begins == bare.count(rf"\end{{{environment}}}") > 0
    for columns, body in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end", bare, re.DOTALL):
        count = len(re.sub(r"\{.*?\}", "", columns))
        assert {len(row) for row in rows_of(body)} == {count}


@pytest.mark.parametrize(("question", "folder"), FOLDERS)
def test_every_question_is_legal_latex(question, folder):
    text = question.latex(folder, verbose=True)
    check_structure(text)
    assert text.startswith("% \\usepackage{booktabs")
    shown = len(rows_of(text))
    tables = [table.rows for part in question.read(folder) for table in question.tables(part)]
    assert shown >= sum(map(len, tables))


def test_depth_has_the_numbers_of_check_and_says_what_they_rest_on(capsys):
    assert command.main(["check", "depth", "--protocol", "cpu-bf16", "--latex"]) == 0
    text = capsys.readouterr().out
    check_structure(text)
    rows = rows_of(text)
    assert ["plain", "$34.24$", "$32.90$", r"$37.34 \pm 0.69$"] in [row[:4] for row in rows]
    assert text.count("CIFAR-10 (JPEG copy) $\\cdot$ protocol cpu-bf16 $\\cdot$ 1 to 3 seeds") == 2
    (verdict,) = [row for row in rows if row[0] == "(a)"]
    assert verdict[2] == "supports"
    assert re.fullmatch(r"\$\+\d+\.\d\d\$ points", verdict[4])
    assert re.fullmatch(r"\[\$\+[\d.]+\$, \$\+[\d.]+\$\]", verdict[5])
    assert verdict[6:] == ["$3$", "--"], "no test below so many seeds"


def test_numbers_stand_in_math_and_text_as_it_is():
    rows = [["a_b", "x"], ["50 %", "-1,024.5"], ["–", "+0.50 ± 0.25"]]
    lines = latex.table("100 % of a_b & {c} 10⁷ → ‖x‖ ≤ 1 < 2", rows, ["a note"])
    text = "\n".join(lines)
    check_structure(text)
    caption = r"100 \% of a\_b \& \{c\} 10$^{7}$ $\to$ $\|$x$\|$ $\leq$ 1 $<$ 2"
    assert rf"\caption{{{caption} Mean $\pm$ standard deviation over seeds.}}" in text
    assert r"\begin{tabular}{rr}" in text
    assert r"$50\,\%$ & $-1{,}024.5$ \\" in text
    assert r"-- & $+0.50 \pm 0.25$ \\" in text
    assert lines[0] == "% a note"
    assert "[$-3.85$, $-1.79$]" in latex.table("", [["a"], ["[-3.85, -1.79]"]])[-4]
    assert "plain-20, 1e-05" in latex.table("", [["a"], ["plain-20, 1e-05"]])[-4]


def test_a_claim_that_is_not_tested_has_no_numbers():
    (_, row) = latex.verdicts([Claim("it holds", "inconclusive", "missing: all")])
    assert row == ["(a)", "it holds", "inconclusive", "–", "–", "–", "–", "–"]


@pytest.mark.parametrize("words", [["check", "--latex"], ["check", "depth", "--latex", "--json"]])
def test_without_a_question_or_with_json_it_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "--latex" in err


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no pdflatex")
@pytest.mark.parametrize(("question", "folder"), FOLDERS)
def test_latex_compiles(question, folder, tmp_path):
    head = "\\documentclass{article}\n\\usepackage{booktabs, graphicx}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(f"{head}{question.latex(folder)}\n\\end{{document}}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
