"""Pages that are written by hand: their verdicts, tables and figures are computed."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from composing import ROOT
from made_up import made_up_record

from experiments.blocks import blocks
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import DIRECTIONS, INCONCLUSIVE, VERDICTS, Claim
from experiments.reporting import contents, pages
from experiments.reporting.question import Question, Table, questions
from plainres.records.files import RUNS_TABLE, read_runs, write_table
from plainres.records.schema import Record

PAGES = ["README.md", *(f"experiments/{slug}/README.md" for slug in [*questions(), "bench"])]
# Words of a verdict, and p values
JUDGED = re.compile(rf"\b({'|'.join([*VERDICTS, *DIRECTIONS.values()])})\b|\bp [=<] ")


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_what_the_committed_tables_give(monkeypatch, page):
    monkeypatch.chdir(ROOT)
    path = ROOT.joinpath(page).relative_to(ROOT)
    assert pages.filled(path, blocks(Path("results"))) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_no_verdict_is_written_by_hand_and_no_figure_without_its_label(page):
    text = pages.by_hand(ROOT / page)
    screenshot = r"!\[the page: .* · CIFAR-10 \(JPEG copy\) · .* seeds\]\(docs/report\.png\)"
    assert "![" not in re.sub(screenshot, "", text)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\*[^*]+\*", "", text.replace("**", ""))  # italics: the word itself is meant
    assert not JUDGED.search(text), JUDGED.search(text)


def test_the_page_about_all_tables_is_what_they_give(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = ROOT / "results" / "README.md"
    assert page.read_text(encoding="utf-8") == contents.text(ROOT / "results")


def test_cells_and_hours_are_added_up_and_those_of_this_machine_left_out(monkeypatch, tmp_path):
    record = made_up_record(seconds=5400.0)
    for folder in ("made", "local/made"):
        write_table(tmp_path / folder / RUNS_TABLE, [record, replace(record, seed=1)], Record)
    asked = Question(
        slug="made",
        title="",
        read=lambda folder: [SimpleNamespace(records=read_runs(folder))],
        label=lambda part: "part",
        where="runs.csv",
    )
    monkeypatch.setattr(contents, "questions", lambda: {"made": asked})
    lines = contents.text(tmp_path).splitlines()
    assert "| [made](made/README.md) | part | 2 | 3.0 |" in lines
    assert "| **all** | **2** | **3.0** |" in lines


@pytest.mark.parametrize("slug", questions())
def test_a_question_with_claims_shows_its_verdicts(slug):
    page = (ROOT / "experiments" / slug / "README.md").read_text(encoding="utf-8")
    asked = questions()[slug]
    scores = [score for each in asked.folders(ROOT / "results") for score in asked.scores(each)]
    assert (f"<!-- verdicts:{slug} -->" in page) == bool(scores)


def one_seed(statements):
    criterion = Criterion("a - b", (0.1,))
    return verdict.corrected([verdict.judge(each, [criterion], "") for each in statements])


def shown(root, claims):
    """The verdicts of a question with a folder, of one part, for each key of `claims`."""
    for name in claims:
        root.joinpath("results", "made", name).mkdir(parents=True)
        root.joinpath("results", "made", name, "runs.csv").touch()
    asked = Question(
        slug="made",
        title="",
        read=lambda folder: [folder.name],
        label=lambda name: f"part {name}",
        claims=claims.get,
    )
    return asked.verdicts(root / "results", root / "experiments" / "made" / "README.md")


def test_verdicts_are_a_column_for_each_folder_and_say_what_they_are_judged_on(tmp_path):
    large, small = ("it rises (20 → 110)", "it (b) is"), ("it rises (20 → 56)", "it (b) is")
    claims = {
        "large": one_seed(large),
        "small": one_seed(small),
        "smaller": [Claim("it rises (20 → 56)", INCONCLUSIVE, "missing: plain-20")],
    }
    links = [f"[part {name}](../../results/made/{name}/README.md)" for name in claims]
    head, _, rises, other = shown(tmp_path, claims).splitlines()
    assert head == f"| claim | {' | '.join(links)} |"
    long, short = "supports (n = 1; 20 → 110)", "supports (n = 1; 20 → 56)"
    assert rises == f"| (a) it rises | {long} | {short} | inconclusive (20 → 56) |"
    assert other == "| (b) it (b) is | supports (n = 1) | supports (n = 1) | – |"


def test_parts_without_a_shared_claim_have_tables_of_their_own(tmp_path):
    statements = {"1": "ab", "2": "x", "3": "bc", "4": "d", "5": "cd"}  # 5 joins 4 to 3
    claims = {name: one_seed(own) for name, own in statements.items()}
    chain, alone = shown(tmp_path, claims).split("\n\n")
    heads = [cell.partition("]")[0].strip(" [") for cell in chain.splitlines()[0].split("|")[2:-1]]
    assert heads == ["part 1", "part 3", "part 4", "part 5"]
    first = [line.split(" | ")[0] for line in chain.splitlines()[2:]]
    assert first == ["| (a) a", "| b", "| c", "| d"], "others have two letters"
    assert alone.splitlines()[0].endswith("| effect [95 % interval], n, p |")
    assert alone.splitlines()[2].startswith("| (a) x | supports | +10.00 points, n = 1")


def test_blocks_are_made_anew_and_the_rest_stays(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- kind:a/b-c -->\nold\nlines\n<!-- end -->\nafter\n")
    pages.fill(page, {"kind": lambda name, path: f"new {name} for {path.name}"})
    begin, end = "<!-- kind:a/b-c -->", "<!-- end -->"
    assert page.read_text() == f"before\n{begin}\nnew a/b-c for README.md\n{end}\nafter\n"
    assert pages.by_hand(page) == "before\n\nafter\n"
    with pytest.raises(ValueError, match="no block 'kind'; choose other"):
        pages.fill(page, {"other": lambda name, path: ""})


def test_a_page_shows_a_table_by_its_name(tmp_path):
    asked = Question(
        slug="made",
        title="",
        read=lambda folder: ["a", "b"],
        label=str,
        tables=lambda part: [
            Table("", [["x"], [part]], name=part),
            Table("", [["unnamed"]]),
        ],
    )
    assert asked.measured(tmp_path, "b").splitlines() == ["| x |", "| --- |", "| b |"]
    with pytest.raises(ValueError, match=r"has no table 'c'; choose a, b$"):
        asked.measured(tmp_path, "c")
