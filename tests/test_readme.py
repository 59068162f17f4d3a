"""The main README says nothing that a record does not carry, and names only what exists."""

import re
import shutil
import subprocess

import pytest
from composing import ROOT, committed

from experiments import __main__ as everything
from experiments.depth.claims import summary
from plainres.records.files import RUNS_TABLE, read_runs

README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = re.findall(r"<!-- table:(\w+) -->\n(.*?)\n<!-- end -->", README, re.DOTALL)


@pytest.mark.parametrize(("protocol", "shown"), TABLES, ids=[protocol for protocol, _ in TABLES])
def test_tables_are_those_of_the_committed_records(tmp_path, protocol, shown):
    (tmp_path / RUNS_TABLE).write_text(
        committed(f"results/depth/{protocol}/{RUNS_TABLE}"), encoding="utf-8"
    )
    assert shown == summary(read_runs(tmp_path))


def test_there_is_a_table():
    assert TABLES


def test_links_and_figures_exist():
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert len(targets) > 2
    for target in targets:
        assert (ROOT / target).exists(), target


def test_every_explanation_is_named_and_said_to_be_run_when_it_is():
    rows = {
        match[1]: match[2]
        for match in re.finditer(
            r"^\| \[\w+\]\(experiments/(\w+)/README\.md\).*? \| (.*) \|$", README, re.MULTILINE
        )
    }
    assert set(rows) >= set(everything.WHY)
    listed = subprocess.run(
        ["git", "ls-files", "results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout
    if not listed:
        pytest.skip("nothing is committed")
    for slug, outcome in rows.items():
        assert (f"results/{slug}/" not in listed) == outcome.startswith("not yet run"), slug


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.MULTILINE)):
        name = "".join(target)
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name


def test_make_variables_are_legal_ones_and_a_misspelt_one_is_refused():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    legal = (
        re.search(r"^LEGAL := ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[1]
        .replace("\\\n", "")
        .split()
    )
    named = {
        word
        for line in re.findall(r"make [a-z-]+(?: [A-Z]+=\S+)+", README)
        for word in re.findall(r" ([A-Z]+)=", line)
    }
    assert named
    assert named | set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE)) <= set(legal)
    if shutil.which("make"):
        refused = subprocess.run(
            ["make", "help", "PROTOCL=cpu"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode != 0
        assert "PROTOCL is no variable here; legal: PYTHON PROTOCOL" in refused.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize(
    "variable",
    [
        "PROTOCOL",
        "NAME",
        "ARMS",
        "SEEDS",
        "DEPTHS",
        "ARGS",
        "DEPTH",
        "MODEL",
        "WEIGHTS",
        "SETTINGS",
        "NETWORKS",
        "RESCUES",
        "SCALES",
    ],
)
def test_no_target_passes_over_a_variable_that_it_is_given(variable):
    for target in re.findall(
        r"^(sweep-[a-z]+|inspect|own-images):",
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        re.MULTILINE,
    ):
        words = ["make", "--dry-run", target, f"{variable}=zzz"]
        shown = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert "zzz" in shown.stdout or (
            shown.returncode != 0 and f"{target} takes no {variable}" in shown.stderr
        ), target


def test_the_layout_names_the_modules():
    layout = README.split("## Layout")[1]
    for path in (ROOT / "src" / "plainres").glob("*.py"):
        if path.stem not in ("__init__", "errors", "machine"):  # said by their names
            assert re.search(rf"\b{path.stem}\b", layout), path.stem


def test_a_protocol_without_records_says_so():
    for path in (ROOT / "results" / "depth").glob("*/README.md"):
        assert (path.parent / RUNS_TABLE).exists() != (
            "**Not yet run.**" in path.read_text(encoding="utf-8")
        ), path
