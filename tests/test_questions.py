"""Every question has one shape: what it reads, claims, tables and figures, and the README of them.

On the committed tables, so that no question can forget a case that was measured.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from composing import CONF, ROOT, python
from drawn import caption, cut_off, overlapping, texts_of, thick_lines
from matplotlib import pyplot as plt

from experiments.judging.verdict import DIRECTIONS, VERDICTS
from experiments.reporting.question import EXPERIMENTS, Question, questions
from experiments.reporting.style import MOST_LINES, SIZE, STYLE, TYPE

RESULTS = ROOT / "results"
QUESTIONS = questions()
FOLDERS = {
    folder.relative_to(RESULTS).as_posix(): question
    for question in QUESTIONS.values()
    for folder in question.folders(RESULTS)
}
BORROWS = {  # records of these
    "shortcuts": ("signal",),
    "autopsy": ("depth", "signal"),
    "machines": ("depth", "signal"),
}
each_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
MEASURED = {question.slug: question for question in FOLDERS.values()}
each_measured_question = pytest.mark.parametrize("question", MEASURED.values(), ids=MEASURED)
each_folder = pytest.mark.parametrize(("folder", "question"), FOLDERS.items(), ids=FOLDERS)


def smallest_folder(question: Question) -> Path:
    """The committed folder with the fewest bytes."""
    folders = question.folders(RESULTS)
    return min(folders, key=lambda f: sum(p.stat().st_size for p in f.rglob("*.csv")))


def test_every_experiment_is_a_question():
    assert set(QUESTIONS) == {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    assert {question.slug for question in QUESTIONS.values()} == set(QUESTIONS)


@each_question
def test_every_slug_has_the_three_files(question):
    for name in ("README.md", "claims.py", "figures.py"):
        assert (EXPERIMENTS / question.slug / name).exists(), name


@each_question
def test_an_empty_folder_is_one_line_that_names_what_measures_it(question, tmp_path):
    with pytest.raises(ValueError, match=f"make sweep-{question.slug}") as failure:
        question.read(tmp_path / question.slug / "quick")
    assert "\n" not in str(failure.value)


@each_folder
def test_text_and_scores_agree_and_verdicts_are_words_that_are_known(folder, question):
    text, scores = question.text(RESULTS / folder), question.scores(RESULTS / folder)
    verdicts = {*VERDICTS, *DIRECTIONS.values()}
    for score in scores:
        assert score["verdict"] in verdicts
        assert f"({score['claim']}) {score['verdict']}" in text
        assert score["statement"] in text
        assert score["headline"] in text
    assert text.count("\n    ") >= len(scores), "each verdict with its statement"


@each_folder
def test_committed_readmes_are_what_the_committed_tables_give(folder, question):
    assert (RESULTS / folder / "README.md").read_text("utf-8") == question.readme(RESULTS / folder)


@each_folder
def test_every_figure_can_be_projected_and_says_what_it_rests_on(folder, question):
    for part in question.read(RESULTS / folder):
        data = {record.data_label for record in question.records(part)}
        for drawing in question.drawings(part):
            with plt.rc_context(STYLE):
                figure = drawing.draw()
                below = caption(figure)
                assert any(label in below for label in data), drawing.name
                assert re.search(r" · protocol \w+.* · \d.* seeds?\b", below), drawing.name
                assert figure.get_size_inches().tolist() == list(SIZE), drawing.name
                assert max(map(thick_lines, figure.axes)) <= MOST_LINES, drawing.name
                texts = texts_of(figure)
                assert min(text.points for text in texts) >= TYPE, drawing.name
                assert not cut_off(texts), drawing.name
                assert not overlapping(texts), drawing.name


@pytest.mark.parametrize("slug", ["depth", "landscape", "shortcuts"])  # lines, areas, borrowed rows
def test_the_same_tables_give_the_same_bytes(slug, tmp_path):
    question = questions()[slug]
    committed = smallest_folder(question)
    copy = tmp_path / "results" / committed.relative_to(RESULTS)
    tables_only = shutil.ignore_patterns("figures", "runs", "*.md")
    shutil.copytree(committed, copy, ignore=tables_only)
    for slug in BORROWS.get(question.slug, ()):
        shutil.copytree(RESULTS / slug, tmp_path / "results" / slug, ignore=tables_only)
    one_part = replace(question, read=lambda folder: question.read(folder)[:1])  # in less time
    first = {path: path.read_bytes() for path in one_part.write(copy)}
    assert {path.suffix for path in first} == {".png", ".svg", ".md"}
    assert {path: path.read_bytes() for path in one_part.write(copy)} == first


def test_no_question_needs_torch():
    script = (
        "import sys\n"
        "from importlib import import_module\n"
        "from experiments.reporting.question import questions\n"
        "for slug in questions():\n"
        "    import_module(f'experiments.{slug}.figures')\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
