"""The report: one page from committed tables alone. The same page in a browser: below."""

import base64
import gzip
import json
import re
import shlex
import shutil
from html.parser import HTMLParser

import pytest
from composing import ROOT, python

from experiments import __main__ as command
from experiments import grid
from experiments.depth import claims, deviations
from experiments.judging.pairs import read_records
from experiments.judging.verdict import DIRECTIONS, VERDICTS
from experiments.report import classroom, ledgers
from experiments.report.finding import findings, sentence
from experiments.report.page import page, write
from experiments.reporting.question import questions
from plainres.records.files import RUNS_TABLE, read_json

RESULTS = ROOT / "results"
WORDS = {*VERDICTS, *DIRECTIONS.values()}
SECONDS = 20
BYTES = 8_000_000
MINUTES = 5  # of an exercise


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def text():
    return page(RESULTS)


@pytest.fixture(scope="module")
def elements(text):
    return Elements(text)


def data_of(text: str) -> dict:
    """What the page's script reads."""
    packed = re.search(r'id="data">(.*?)</script>', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def copied(folders, to):
    """The tables of some results folders in a new place."""
    for name in folders:
        ignored = shutil.ignore_patterns("figures", "runs", "*.md")
        shutil.copytree(RESULTS / name, to / name, ignore=ignored)
    return to


def test_a_fresh_process_makes_the_same_bytes_in_time_without_torch(text, tmp_path):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from experiments.report.page import page\n"
        f"text = page(Path({str(RESULTS)!r}))\n"
        f"Path({str(tmp_path / 'page')!r}).write_text(text, encoding='utf-8')\n"
        f"sys.exit('torch' in sys.modules or 2 * (time.process_time() > {SECONDS}))"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr or "torch imported (1), or too slow (2)"
    assert (tmp_path / "page").read_text(encoding="utf-8") == text


def test_it_is_one_small_file_that_loads_nothing(text, elements):
    assert len(text.encode()) < BYTES
    for tag, attributes in elements.elements:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
        if tag == "link":
            assert attributes["href"].startswith("data:")
    policy = next(a["content"] for t, a in elements.elements if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_no_path_of_this_machine_and_no_unknown_word_is_on_it(text, elements):
    assert str(ROOT) not in text + json.dumps(data_of(text))
    assert ">None<" not in text
    assert "undefined" not in elements.text.lower()


def test_every_verdict_of_every_question_is_on_it(elements):
    for question in questions().values():
        for folder in question.folders(RESULTS):
            for score in question.scores(folder):
                assert score["verdict"] in WORDS
                claim = f"{score['verdict']} ({score['claim']}) {score['statement']}"
                assert " ".join(claim.split()) in elements.text
                assert score["headline"] in elements.text


def test_ids_are_unique_links_lead_somewhere_and_pictures_say_what_they_show(elements):
    ids = [a["id"] for _, a in elements.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements.elements:
        href = attributes.get("href") or ""
        if href.startswith("#"):
            assert href[1:] in ids
        elif href and tag == "a":
            assert (ROOT / "results/local/report" / href).resolve().exists(), href
        if tag == "img":
            assert re.search(r" · protocol", attributes["alt"])


def test_the_charts_hold_the_committed_errors_and_say_them_in_words(text):
    shown = data_of(text)["findings"]
    assert {*shown} == {path.parent.name for path in (RESULTS / "depth").glob(f"*/{RUNS_TABLE}")}
    for name, finding in shown.items():
        records = read_records(RESULTS / "depth" / name)
        drawn = {
            (split, meta["arm"], x, meta["seed"]): y
            for trace in finding["charts"]["depth"]["data"]
            if (meta := trace["meta"]) and meta["view"] == "seed" and (split := meta["split"])
            for x, y in zip(trace["x"], trace["y"], strict=True)
        }
        assert len(drawn) == 2 * len(records)
        for row in records:
            for split in ("train", "test"):
                error = 100 * getattr(row, f"{split}_error")
                assert drawn[split, row.arm, row.depth, row.seed] == pytest.approx(error, abs=1e-3)
        for split, chart in [("train", "depth"), ("test", "plain"), ("train", "residual")]:
            assert re.search(r"20 layers \d+\.\d %.*protocol", finding["alts"][split][chart])


def test_every_curve_is_there_with_cell_seed_iteration_and_error(text):
    finding = data_of(text)["findings"]["quick"]
    curves = [
        trace
        for arm in claims.ARMS
        for trace in finding["charts"][arm]["data"]
        if trace["meta"]["view"] == "seed" and trace["meta"]["split"] == "train"
    ]
    assert len(curves) == len(read_records(RESULTS / "depth/quick"))
    for trace in curves:
        arm, depth, seed = (trace["meta"][key] for key in ("arm", "depth", "seed"))
        assert f"{arm}-{depth}" in trace["hovertemplate"]
        assert f"seed {seed}" in trace["hovertemplate"]
        assert "iteration %{x:,}" in trace["hovertemplate"]
        assert "error %{y:.2f} %" in trace["hovertemplate"]


def test_the_sentence_follows_the_numbers(make_record):
    def said(plain, residual):
        rows = [
            make_record(arm=arm, depth=depth, train_error=error)
            for arm, errors in (("plain", plain), ("residual", residual))
            for depth, error in zip((20, 56), errors, strict=True)
        ]
        return sentence(claims.DepthRuns(RESULTS, rows, claims.grid_of(rows)))

    assert "rises from 10 % to 30 % in plain" in said((0.1, 0.3), (0.1, 0.05)).replace("\xa0", " ")
    assert "shortcuts it falls from 10 % to 5.0 %" in said((0.1, 0.3), (0.1, 0.05)).replace(
        "\xa0", " "
    )
    assert "hardly changes" in said((0.1, 0.3), (0.1, 0.101))
    assert "falls from 30" in said((0.3, 0.1), (0.1, 0.3))


def test_the_ledger_has_every_deviation_and_none_else(elements):
    folders = [RESULTS / "depth" / name for name in ("quick", "paper")]
    names, differences, unknown = ledgers.ledger(folders)
    assert names == ["quick", "paper"]
    for place, folder in enumerate(folders):
        here = {row.name for row in (*differences, *unknown) if row.here[place]}
        assert here == {each.name for each in deviations.of_folder(folder).deviations}
    for each in deviations.of_folder(RESULTS / "depth/quick").deviations:
        assert " ".join(each.here.split()) in elements.text


def test_tables_whose_rows_differ_in_their_conditions_are_marked(elements):
    tables = {row.folder: row for row in ledgers.measured(RESULTS)}
    assert tables["pace/width8-batch64-rate0.1"].mixed == ["machine", "precision"]
    assert not tables["depth/quick"].mixed
    assert "pace/width8-batch64-rate0.1 mixed: machine, precision" in elements.text
    assert not any(name.startswith("local") for name in tables)


def test_what_this_machine_measured_stands_beside_the_committed_results(tmp_path):
    local = copied(["depth/quick"], tmp_path)
    shutil.copytree(local / "depth/quick", local / "depth/mine")
    (local / "depth/damaged").mkdir()
    (local / "depth/damaged" / RUNS_TABLE).write_text("arm,depth\n", encoding="utf-8")
    found, unusable = findings(RESULTS, local)
    names = {each.name: each for each in found}
    own = [t for t in names["quick"].charts["plain"]["data"] if t["meta"]["own"]]
    assert len(own) == len(names["mine"].charts["plain"]["data"])
    assert names["mine"].own
    assert any("digit by digit" in line for line in names["quick"].reference)
    assert len(unusable) == 1
    assert "damaged" in unusable[0]
    path = write(RESULTS, local)
    assert "mine (yours)" in path.read_text(encoding="utf-8")


def test_without_tables_it_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="make sweep-depth") as failure:
        page(tmp_path)
    assert "\n" not in str(failure.value)


def test_the_command_takes_nothing_and_prints_the_path(tmp_path, monkeypatch, capsys):
    copied(["depth/quick", "class"], tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert command.main(["report"]) == 0
    assert capsys.readouterr().out.strip() == "results/local/report/index.html"
    assert (tmp_path / "results/local/report/index.html").exists()


@pytest.mark.parametrize("exercise", classroom.EXERCISES, ids=lambda each: each.title)
def test_an_exercise_is_a_command_whose_cells_are_committed_and_fast(exercise, tmp_path):
    target, *variables = shlex.split(exercise.command)[1:]
    options = command.parse([*target.split("-", 1), *variables], command.verbs())
    asked = {k: v for k, v in vars(options).items() if k in command._SWEEP and v}
    (made,) = grid.commands(grid.Sweep(options.question, **asked, overrides=options.overrides))
    assert f"model.depth={','.join(map(str, exercise.depths))}" in made.words
    assert f"seed={','.join(map(str, exercise.seeds))}" in made.words
    if options.arms:
        assert f"model={','.join(exercise.arms)}" in made.words
    rows = classroom.cells(exercise, classroom.committed(exercise, RESULTS))
    assert len(rows) == len(exercise.arms) * len(exercise.depths) * len(exercise.seeds)
    assert sum(row.seconds for row in rows) < 60 * MINUTES * classroom.CORES
    assert {row.data_label for row in rows} == {"digits"}  # needs no network
    config = read_json(RESULTS / exercise.folder / "config.json")
    for override in options.overrides:
        key, value = override.split("=")
        section, name = key.split(".")
        section, name = ("model", "width") if name == "width" else (section, name)
        assert str(config[section][name]) == value


def test_outcomes_are_those_of_the_committed_tables(elements):
    outcomes = classroom.outcomes(RESULTS)
    assert len(outcomes) == len(classroom.EXERCISES) >= 4
    for each in outcomes:
        assert "·" in each.label
        for row in each.table[1:]:
            assert "–" not in row
            assert " ".join(row) in elements.text
