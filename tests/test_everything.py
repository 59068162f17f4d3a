"""All questions at once: none is forgotten, each gets the folder its own command takes."""

import pytest
from composing import CONF, ROOT
from made_up import made_up_curve, made_up_record

from experiments import __main__ as everything
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, write_table
from plainres.records.schema import CurvePoint, Record


def tables(folder, **changes) -> None:
    rows = [made_up_record(**changes)]
    write_table(folder / RUNS_TABLE, rows, Record)
    write_table(folder / CURVES_TABLE, made_up_curve(rows[0]), CurvePoint)


def test_no_question_is_forgotten():
    assert set(everything.TABLES) - {"bench"} == {
        path.stem for path in (CONF / "experiment").glob("*.yaml")
    }
    assert set(everything.TABLES) == {
        path.parent.name for path in (ROOT / "experiments").glob("*/figures.py")
    }


@pytest.mark.parametrize(
    ("slug", "table", "folder"),
    [
        ("depth", "quick/runs.csv", "quick"),
        ("pace", "batch128-rate0.1/runs.csv", "."),
        ("identity", "quick/middle_1/runs.csv", "quick"),
        ("landscape", "quick/surface-plain-56-seed0-directions0-running.csv", "quick"),
        ("bench", "columns.csv", "."),
    ],
)
def test_each_gets_the_folder_its_command_takes(tmp_path, slug, table, folder):
    path = tmp_path / slug / table
    path.parent.mkdir(parents=True)
    path.touch()
    assert everything.folders(slug, tmp_path) == [tmp_path / slug / folder]


def test_figures_and_verdicts_of_all_there_is(tmp_path, capsys):
    tables(tmp_path / "depth" / "quick")
    tables(tmp_path / "lineage" / "plain20", arm="plain")
    assert everything.main(["figures", "--results", str(tmp_path)]) == 0
    assert (tmp_path / "depth" / "quick" / "figures" / "curves.png").exists()
    assert (tmp_path / "lineage" / "figures" / "error.png").exists()
    assert everything.main(["check", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"== {tmp_path / 'depth' / 'quick'}\n" in out
    assert f"== {tmp_path / 'lineage'}\n" in out


def test_one_contradiction_is_the_status_of_all(tmp_path):
    tables(tmp_path / "depth" / "quick")
    tables(tmp_path / "lineage" / "alexnet", test_error=0.4)
    tables(tmp_path / "lineage" / "lenet5", test_error=0.3)
    assert everything.main(["check", "--results", str(tmp_path)]) == 1
    assert everything.main(["check", "depth", "--results", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("words", "said"), [(["depht"], "'depht' is no question; legal: depth"), (["why"], "no tables")]
)
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, words, said):
    assert everything.main(["check", *words, "--results", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
