"""Faults on purpose: a few of each kind are survived or noticed; the harness sees what is not."""

import json
import signal
from pathlib import Path

import pytest
from composing import python

from experiments.reporting import pages
from experiments.torture import judge, report
from experiments.torture.campaign import KINDS
from experiments.torture.changes import Changes, at, die, torn
from experiments.torture.places import Place, UnexpectedError
from experiments.torture.zygote import Ended, fork, wait
from plainres.records.files import read_table, write_table

# Which need the right to mount, or take long; kinds of whole sweeps are tests of test_sweep too
ABSENT = {
    *("disk-full", "read-only", "memory"),
    *("stop-sweep", "worker-killed", "parent-killed", "four-sweeps", "clock"),
    *("cut", "empty"),  # as "zero" is
}


def test_nothing_is_lost_and_nothing_silently_wrong(tmp_path):
    ended = python("-m", "experiments", "torture", "--short", "--out", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = read_table(tmp_path / report.TABLE, report.Row)
    for row in rows:
        assert sum(getattr(row, name) for name in judge.OUTCOMES) == row.injected > 0
        assert (row.lost, row.silently_wrong) == (0, 0)
    assert set(KINDS) - {row.kind for row in rows} <= ABSENT
    text = (tmp_path / "README.md").read_text()
    assert "Seed 0" in text
    for word in ("survived", "noticed", "lost", "silently wrong"):
        assert f"- **{word}**: " in text


def test_the_table_of_another_page_comes_from_the_campaign(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- torture:torture -->\n<!-- end -->\n")
    assert sorted(kind for kinds in report.GROUPS.values() for kind in kinds) == sorted(KINDS)
    rows = [report.Row(kind, 2, 1, 1, seconds=3) for kind in KINDS]
    write_table(tmp_path / report.TABLE, rows, report.Row)
    filled = pages.filled(page, {"torture": lambda name, page: report.summary(tmp_path)})
    assert "| told to stop | 4 | 2 | 2 | 0 | 0 |" in filled
    assert f"| **all** | {2 * len(KINDS)} |" in filled
    write_table(tmp_path / report.TABLE, rows[:1], report.Row)  # not every kind was done
    assert "| **all** | 2 | 1 | 1 | 0 | 0 |" in report.summary(tmp_path)


BROKEN = """
import sys, torch
from experiments.torture import campaign, zygote
zygote.load()
from plainres.training.module import Classifier

restored = Classifier.on_load_checkpoint

def wrongly_restored(self, checkpoint):
    restored(self, checkpoint)
    state = checkpoint["state_dict"]
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name] = state[name] + 1e-3

Classifier.on_load_checkpoint = wrongly_restored
sys.exit(campaign.main(["--kinds", "crash", "--only", "300", "--out", sys.argv[1]]))
"""


def test_a_checkpoint_that_restores_wrong_weights_is_counted_and_can_be_repeated(tmp_path):
    ended = python("-c", BROKEN, tmp_path)
    (row,) = read_table(tmp_path / report.TABLE, report.Row)
    assert (ended.returncode, row.silently_wrong, row.injected) == (3, 1, 1)
    assert "again: plainres torture --kinds crash --only 300 --seed 0" in ended.stdout


# The harness itself


def changed(folder: Path, action) -> tuple[int, list[str]]:
    """A fork that changes files in all ways; its status and the changes that were seen."""
    log = folder.parent / "seen"
    log.write_text("")

    def task() -> int:
        def seen(number, name, half):
            with log.open("a") as file:
                file.write(f"{name}\n")
            action(number, name, half)

        Changes(folder, seen).install()
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "text").write_text("text")
        (folder / "a" / "text").replace(folder / "c")
        with (folder / "bytes").open("wb", buffering=0) as file:
            file.write(b"12345678")
        (folder / "c").unlink()
        (log.parent / "outside").write_text("not counted")
        return 0

    return wait(fork(task)), log.read_text().split()


def test_every_change_of_a_file_is_seen_and_may_be_the_last(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    status, seen = changed(folder, lambda *_: None)
    assert status == 0
    assert " ".join(seen) == "mkdir mkdir mkdir open write replace open write unlink"
    for number in range(1, len(seen) + 1):
        again = tmp_path / str(number) / "folder"
        again.mkdir(parents=True)
        status, before = changed(again, at(number, die))
        assert (status, before) == (-signal.SIGKILL, seen[:number])


def test_a_torn_write_leaves_its_first_half(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    status, _ = changed(folder, torn(8))
    assert status == -signal.SIGKILL
    assert (folder / "bytes").read_bytes() == b"1234"


def cell(folder: Path, error: float) -> Path:
    runs = folder / "runs" / "plain-8-seed0"
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "record.json").write_text(json.dumps({"train_error": error, "seconds": error}))
    return folder


def test_what_is_gone_is_lost_and_what_differs_is_wrong(tmp_path):
    wanted = judge.held(cell(tmp_path / "a", 0.5))
    assert judge.difference(wanted, judge.held(cell(tmp_path / "b", 0.5))) is None
    assert judge.difference(wanted, judge.held(cell(tmp_path / "b", 0.25)))[0] == judge.WRONG
    assert judge.difference(wanted, judge.held(tmp_path / "c"))[0] == judge.LOST
    assert judge.difference({}, wanted)[0] == judge.WRONG


def ends(place: Place, *ended: tuple[int, str]):
    """A command that ends in these ways, one after another."""
    waiting = list(ended)
    return lambda: place.judged(Ended(*waiting.pop(0)))


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        ([(0, "")], judge.SURVIVED),
        ([(1, "plainres: what"), (0, "")], judge.SURVIVED),
        ([(1, "plainres: what")] * 3 + [(0, "")], judge.NOTICED),
        ([(1, "plainres: what")] * 6, judge.LOST),
        ([(1, "no word")] * 3, judge.LOST),
        ([(1, "Traceback\nplainres: what")] * 3, judge.LOST),
    ],
)
def test_the_outcome_follows_the_ends_of_the_command(tmp_path, ended, outcome):
    place = Place(tmp_path)
    assert place.outcome(lambda: None, ends(place, *ended))[0] == outcome


def test_what_the_refusal_says_is_to_be_deleted_is_deleted(tmp_path):
    place = Place(tmp_path)
    place.cell.mkdir(parents=True)
    refusals = [(2, f"plainres: x is gone; restore it, or delete {place.cell}: then again")] * 4
    ended = ends(place, *refusals, (0, ""))
    assert place.outcome(lambda: None, ended)[0] == judge.NOTICED
    assert place.tables.joinpath("runs").exists() and not place.cell.exists()


def test_status_0_with_other_results_is_never_survived(tmp_path):
    place = Place(tmp_path)
    place.wanted = judge.held(cell(tmp_path / "wanted", 0.5))
    cell(place.tables, 0.25)
    with pytest.raises(UnexpectedError) as unexpected:
        place.outcome(None, ends(place, (0, "")))
    assert unexpected.value.result[0] == judge.WRONG


def test_an_unknown_kind_is_one_line():
    ended = python("-m", "experiments", "torture", "--kinds", "earthquake")
    assert ended.returncode == 2
    assert "no kind 'earthquake'; choose crash, " in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
