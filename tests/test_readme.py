"""The main README says nothing that a record does not carry, and names only what exists."""

import re
import shlex

import pytest
from composing import ROOT, committed

from experiments import __main__ as command
from experiments.depth.claims import summary
from experiments.grid import SLUGS
from experiments.reporting import pages
from plainres.records.files import RUNS_TABLE, read_runs

README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = re.findall(r"<!-- table:([\w-]+) -->\n(.*?)\n<!-- end -->", README, re.DOTALL)


@pytest.mark.parametrize(("protocol", "shown"), TABLES, ids=[protocol for protocol, _ in TABLES])
def test_tables_are_those_of_the_committed_records(tmp_path, protocol, shown):
    (tmp_path / RUNS_TABLE).write_text(
        committed(f"results/depth/{protocol}/{RUNS_TABLE}"), encoding="utf-8"
    )
    assert shown == summary(read_runs(tmp_path))


def test_links_and_figures_exist():
    targets = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"^\[.*\]: (.*)", README, re.M)
    targets = [target for target in targets if "://" not in target]
    assert TABLES
    assert len(targets) > 2
    for target in targets:
        assert (ROOT / target).exists(), target


def test_every_question_has_one_line():
    named = set(re.findall(r"\]\(experiments/(\w+)/README\.md\)", README))
    assert named >= {*SLUGS, "bench"}


def test_commands_exist_and_take_what_is_shown():
    """Every `make …` of the README is a command that parses, without being run."""
    lines = README.replace("\\\n", " ")
    shown = re.findall(r"`make ([a-z][^`]*)`", lines) + re.findall(
        r"^make (.*)$", lines, re.MULTILINE
    )
    assert len(shown) > 8
    for text in shown:
        target, *words = shlex.split(text.partition("#")[0])
        verb, _, question = target.partition("-") if target != "own-images" else (target, "", "")
        if target in ("test", "lint", "install", "help", "clean"):
            continue
        given = [verb, *([question] if question else []), *words]
        options = command.parse(given, command.verbs())
        assert options.verb == verb, text


def test_what_is_written_by_hand_is_short():
    lines = pages.by_hand(ROOT / "README.md").splitlines()
    assert len(lines) <= 140
    assert all(len(line) <= 100 or line.startswith("|") for line in lines)


def test_a_protocol_without_records_says_so():
    for path in (ROOT / "results" / "depth").glob("*/README.md"):
        assert (path.parent / RUNS_TABLE).exists() != (
            "**Not yet run.**" in path.read_text(encoding="utf-8")
        ), path
