"""Publishing: finished cells of this machine become rows of the committed tables."""

import pytest
from composing import compose_cell

from plainres.records import files
from plainres.records.identity import config_hash, shared_config
from plainres.records.schema import CurvePoint, Record
from plainres.run.cell import claim_tables
from plainres.run.publish import publish


@pytest.fixture
def measure(tmp_path, make_record, make_point):
    """A finished cell in tmp_path/local, with its tables gathered."""

    def of(*overrides: str, **values) -> Record:
        cell = compose_cell(tmp_path / "local", "model=plain", *overrides)
        own = {"arm": cell.arm, "depth": cell.config.model.depth, "seed": cell.config.seed}
        record = make_record(**own, config_hash=config_hash(cell.identity), **values)
        cell.claim_folder()
        files.write_table(cell.folder / files.CURVES_TABLE, [make_point(**own)], CurvePoint)
        files.write_record(cell.folder, record)
        claim_tables([cell])
        files.gather(cell.results_folder)
        return record

    return of


@pytest.fixture
def local(tmp_path):
    return tmp_path / "local" / "depth" / "quick"


def committed(tmp_path, slug="depth/quick"):
    return tmp_path / "results" / slug


def published(tmp_path, name="depth/quick") -> list[str]:
    return publish(tmp_path / "local", tmp_path / "results", name)


def test_finished_cells_become_rows_beside_those_of_others(tmp_path, local, measure):
    first = measure("seed=0", test_error=0.5)
    published(tmp_path)
    other = measure("seed=1")
    (local / "runs" / first.cell / files.RECORD_FILE).unlink()
    again = measure("seed=2")
    line = f"{committed(tmp_path)}: 2 cells published, 0 of them had rows before"
    assert published(tmp_path) == [line]
    assert files.read_runs(committed(tmp_path)) == [first, other, again]
    assert [point.seed for point in files.read_curves(committed(tmp_path))] == [0, 1, 2]
    config = files.read_json(committed(tmp_path) / files.CONFIG_FILE)
    cell = compose_cell(tmp_path / "local", "model=plain")
    assert config == files.read_json(local / files.CONFIG_FILE) == shared_config(cell.identity)
    assert "2 of them had rows before" in published(tmp_path)[0]
    assert not (committed(tmp_path) / "runs").exists()


def test_committed_tables_of_another_configuration_are_set_aside(tmp_path, measure):
    first = measure("protocol.momentum=0.8")
    published(tmp_path)
    cell = compose_cell(tmp_path / "local", "model=plain", "force=true")
    cell.claim_folder()
    second = measure("seed=0")
    line, count = published(tmp_path)
    assert "protocol.momentum: 0.8 → 0.9" in line
    assert count.endswith("1 cell published, 0 of them had rows before")
    assert files.read_runs(committed(tmp_path)) == [second]
    assert files.read_runs(committed(tmp_path) / "earlier.old1") == [first]


def test_a_cell_of_another_configuration_is_skipped_and_named(tmp_path, measure):
    measure("seed=1", "protocol.momentum=0.8")
    kept = measure("seed=0")
    lines = published(tmp_path)
    assert "plain-20-seed1: another configuration (protocol.momentum: 0.9 → 0.8)" in lines[0]
    assert files.read_runs(committed(tmp_path)) == [kept]


@pytest.mark.parametrize("table", ["runs.csv", "curves.csv"])
def test_a_damaged_table_is_refused_before_anything_is_written(tmp_path, measure, table):
    measure("folder=a")
    measure("folder=b")
    damaged = committed(tmp_path, "depth/b") / table
    damaged.parent.mkdir(parents=True)
    damaged.write_text("<<<<<<< HEAD\n")
    with pytest.raises(ValueError, match=f"{table} lacks the columns"):
        published(tmp_path, "depth")
    assert [path for path in (tmp_path / "results").rglob("*") if path.is_file()] == [damaged]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/plain-20-seed0/record.json", "is damaged: Expecting value.*the same sweep sets it"),
        ("runs/plain-20-seed0/curves.csv", "is damaged: the record has another sha256 of it"),
        ("config.json", "is damaged: Expecting value.*the same sweep writes it again"),
        ("surface-x.json", "is damaged: Expecting value"),
    ],
)
def test_a_damaged_cell_is_named_before_anything_is_written(
    tmp_path, local, measure, name, message
):
    measure("seed=0")
    measure("seed=1")
    (local / name).write_text("")
    with pytest.raises(ValueError, match=f"^{local / name} {message}"):
        published(tmp_path)
    assert not (tmp_path / "results").exists()


def test_nothing_finished_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="depth/quick has no finished cell"):
        published(tmp_path)


def test_a_surface_goes_with_its_cell(tmp_path, local, measure):
    record = measure("seed=0")
    for name, digits in (("own", record.config_hash), ("older", "0" * 12)):
        own = {"arm": "plain", "depth": 20, "seed": 0, "config_hash": digits}
        files.write_json(local / f"surface-{name}.json", own)
        files.write_text(local / f"surface-{name}.csv", "x,y\n0,0\n")
    published(tmp_path)
    names = {path.name for path in committed(tmp_path).glob("surface-*")}
    assert names == {"surface-own.json", "surface-own.csv"}
