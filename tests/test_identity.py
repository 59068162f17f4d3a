"""Children of trained networks as cells, and the size of their branches."""

import dataclasses
import shutil

import hydra
import pytest
import torch
from composing import compose_cell, python, variants
from trained import interrupt, numbers

from plainres.data.batches import Normaliser
from plainres.instruments.branch_norms import BranchNorm
from plainres.records import files
from plainres.records.identity import config_differences, config_hash, row_hash, shared_config
from plainres.records.rows import SketchPoint
from plainres.run import train
from plainres.training.grafting import Insertion, insert

SHORT = ("+experiment=identity", "scale=smoke", "model.depth=14", "threads=1")
SCALES = variants("scale")


def cell(folder, *overrides: str):
    return compose_cell(folder, *SHORT, *overrides)


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    """A results folder with a parent of each arm; tests write into folders beside them."""
    folder = tmp_path_factory.mktemp("results")
    for arm in ("plain", "residual"):
        train.train_cell(cell(folder, f"model={arm}", "generation=parent"))
    return folder


def insertion(child_cell) -> Insertion:
    return files.read_table(child_cell.folder / "insertions.csv", Insertion)[0]


@pytest.mark.parametrize("scale", SCALES)
def test_every_generation_composes(tmp_path, scale):
    for generation in ("parent", "trained_on", "child", "decay"):
        made = compose_cell(
            tmp_path, "+experiment=identity", f"scale={scale}", f"generation={generation}"
        )
        protocol = made.config.protocol
        assert made.results_folder.parent == tmp_path / "identity" / scale
        assert protocol.iterations % protocol.evaluate_every == 0
        assert protocol.iterations % protocol.log_every == 0
        assert protocol.error_window <= protocol.iterations
        assert (made.config.child is None) == (generation == "parent")
        if made.config.child is not None:
            assert (
                made.parent_folder == tmp_path / "identity" / scale / "parent" / "runs" / made.name
            )


def test_children_and_the_parent_trained_on_are_trained_alike(tmp_path):
    one, other = (
        compose_cell(tmp_path, "+experiment=identity", f"generation={which}").config
        for which in ("child", "trained_on")
    )
    assert {**one.protocol, "name": ""} == {**other.protocol, "name": ""}
    assert one.data == other.data


def test_a_parent_at_quick_is_the_cell_of_the_depth_sweep(tmp_path):
    parent = compose_cell(tmp_path, "+experiment=identity").identity
    depth = compose_cell(tmp_path).identity
    assert config_differences(parent, depth) == ["protocol.name: quick/parent → quick"]


def test_a_missing_parent_is_one_line_that_names_the_command(tmp_path):
    message = r"make sweep-identity trains it first .*\+experiment=identity generation=parent"
    with pytest.raises(ValueError, match=message):
        train.train_cell(cell(tmp_path, "generation=child"))
    assert not cell(tmp_path, "generation=child").folder.exists()


def test_a_sweep_passes_over_the_children_of_a_diverged_parent_and_trains_the_others(tmp_path):
    for arm, rate in (("plain", "1e30"), ("residual", "0.01")):
        learning = f"protocol.learning_rate={rate}"
        train.train_cell(cell(tmp_path, f"model={arm}", "generation=parent", learning))
    with pytest.raises(ValueError, match="diverged"):
        train.train_cell(cell(tmp_path, "model=plain", "generation=child"))

    def swept(*words: str) -> list[str]:
        """The lines that a sweep over children prints."""
        child = ("generation=child", "child.blocks=1", "child.position=end", "jobs=1")
        words = (*SHORT, *child, *words, f"results_dir={tmp_path}")
        done = python("-m", "plainres.run.train", "-m", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert swept()[0].startswith("skipped plain-14-seed0: its parent ")
    rows = files.read_runs(tmp_path / "identity" / "smoke" / "end_1")
    assert [row.cell for row in rows] == ["residual-14-seed0"]
    assert swept("model=plain")[1:] == ["no cell is left to train"]


def test_a_residual_child_begins_as_its_parent_and_grows(parents):
    child_cell = cell(parents, "generation=child", "child.blocks=2")
    record = train.train_cell(child_cell)
    row = insertion(child_cell)
    place = (row.blocks, row.stage, row.position, row.initialisation)
    assert place == (2, 2, "middle", "zero_branch")
    assert (row.logit_difference_eval, row.logit_difference_batch) == (0, 0)
    assert (row.error_eval, row.error_batch) == (row.parent_error_eval, row.parent_error_batch)
    parent = files.read_record(child_cell.parent_folder)
    assert row.parent_error_eval * 1408 == pytest.approx(
        round(row.parent_error_eval * 1408), abs=0.01
    ), "of all images of digits"
    assert row.parent_error_eval == pytest.approx(parent.train_error_eval, abs=0.005)
    assert record.num_parameters == parent.num_parameters + 2 * (2 * 9 * 4 * 4 + 4 * 4)
    assert record.num_multiply_adds == parent.num_multiply_adds + 2 * 2 * 9 * 4 * 4 * 16
    assert (record.depth, record.iterations, record.protocol) == (14, 12, "smoke")


def test_a_plain_child_does_not_begin_as_its_parent(parents):
    child_cell = cell(parents, "generation=child", "model=plain", "child.position=end")
    train.train_cell(child_cell)
    row = insertion(child_cell)
    assert row.initialisation == "dirac"
    assert row.logit_difference_batch > 0.01 * row.logit_size
    assert row.logit_difference_eval < 1e-4 * row.logit_size
    assert not (child_cell.folder / "branches.csv").exists()


def test_the_parent_trained_on_begins_where_the_parent_ended(parents):
    words = (
        "generation=trained_on",
        "model=plain",
        "keep_weights=true",
        "protocol.learning_rate=0",
    )
    child_cell = cell(parents, *words)
    record = train.train_cell(child_cell)
    assert insertion(child_cell).logit_difference_batch == 0
    old, new = (
        torch.load(folder / files.WEIGHTS_FILE, weights_only=True)
        for folder in (child_cell.parent_folder, child_cell.folder)
    )
    for name in old:
        if "running" not in name and "tracked" not in name:
            assert torch.equal(old[name], new[name]), "at a learning rate of 0 weights stay"
    assert record.num_parameters == files.read_record(child_cell.parent_folder).num_parameters


def test_an_interrupted_child_ends_with_the_record_of_an_undisturbed_one(parents):
    overrides = ("generation=decay", "checkpoint_seconds=0", "child.stage=3")
    cells = [
        cell(parents, *overrides, f"folder=smoke/{name}") for name in ("undisturbed", "interrupted")
    ]
    whole = train.train_cell(cells[0])
    interrupt(cells[1], 13)
    continued = train.train_cell(cells[1])
    different = {
        name for name, value in numbers(whole).items() if numbers(continued)[name] != value
    }
    assert different == {"config_hash"}
    for file in ("insertions.csv", "branches.csv", files.CURVES_TABLE):
        assert (cells[0].folder / file).read_text() == (cells[1].folder / file).read_text()


def test_a_child_belongs_to_one_configuration_of_its_parent(parents, tmp_path):
    child_cell = cell(parents, "generation=child")
    parent = files.read_record(child_cell.parent_folder)
    assert child_cell.identity["parent"] == parent.config_hash
    assert train.train_cell(child_cell).parent == parent.config_hash
    before = config_hash(child_cell.identity)
    moved = tmp_path / "identity" / "smoke" / "parent" / "runs" / child_cell.name
    files.write_record(moved, dataclasses.replace(parent, config_hash="0" * 12))
    shutil.copy(child_cell.parent_folder / files.WEIGHTS_FILE, moved)
    assert config_hash(cell(tmp_path, "generation=child").identity) != before


def test_the_hash_of_a_row_follows_from_the_row_and_its_folders_configuration(parents):
    for of_cell in (cell(parents, "generation=child"), cell(parents, "generation=parent")):
        record = train.train_cell(of_cell)
        shared = shared_config(of_cell.identity)
        assert row_hash(shared, record) == record.config_hash
        for change in ({"arm": "x"}, {"depth": 8}, {"seed": 1}, {"shortcut": "x"}, {"parent": "x"}):
            changed = dataclasses.replace(record, **change)
            assert row_hash(shared, changed) != record.config_hash, change


def test_a_cell_without_a_parent_keeps_its_hash(tmp_path):
    identity = compose_cell(tmp_path, "model=plain").identity
    assert not {"child", "parent"} & identity.keys()
    assert config_hash(identity) == "64439713626f", "as in results/depth/quick/runs.csv"


def test_branches_are_measured_and_change_no_number(parents):
    measured_cell = cell(parents, "generation=decay", "folder=smoke/measured")
    unmeasured_cell = cell(parents, "generation=decay", "folder=smoke/measured", "callbacks=null")
    assert measured_cell.identity == unmeasured_cell.identity
    record = train.train_cell(measured_cell)
    rows = files.read_table(measured_cell.folder / "branches.csv", BranchNorm)
    assert sorted({row.iteration for row in rows}) == [0, 8, 16, 24]
    assert len(rows) == 4 * (2 + 6 + 2)
    inserted = {(row.stage, row.block) for row in rows if row.inserted}
    assert inserted == {(2, 1), (2, 2), (2, 3), (2, 4)}
    assert all(row.ratio > 0 for row in rows)
    measured_cell.folder.rename(measured_cell.folder.with_name("aside"))
    assert numbers(train.train_cell(unmeasured_cell)) == numbers(record)


def test_a_zero_branch_has_size_0_at_first_and_the_ratio_is_that_of_the_norms(parents):
    child_cell = cell(parents, "generation=child", "folder=smoke/zero", "keep_weights=true")
    train.train_cell(child_cell)
    rows = files.read_table(child_cell.folder / "branches.csv", BranchNorm)
    rows = [row for row in rows if row.inserted]
    assert [(row.iteration, row.stage, row.block) for row in rows] == [(0, 2, 1), (12, 2, 1)]
    assert rows[0].ratio == 0
    source = child_cell.load_images()
    parent = hydra.utils.instantiate(child_cell.config.model, num_classes=10, in_channels=1)
    child = insert(parent, 1, 2, "middle", "identity")
    child.load_state_dict(torch.load(child_cell.folder / files.WEIGHTS_FILE, weights_only=True))
    images = Normaliser(source.train.pixels, "channel")(source.test.pixels / 255)
    block = child.layer2[1]
    with torch.no_grad():
        x = child.layer2[0](child.layer1(torch.relu(child.bn1(child.conv1(images)))))
        branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    assert rows[1].ratio == pytest.approx(float(branch.norm() / x.norm()), rel=1e-4)
    assert rows[1].ratio > 0


def test_a_run_that_diverges_leaves_tables_that_can_be_read(tmp_path):
    words = ("protocol=smoke", "model=residual", "model.depth=8", "model.norm=none")
    words += ("kernels=library", "protocol.learning_rate=1000")
    for name in ("branch_norms.BranchNorms", "weight_sketch.WeightSketch"):
        key = name.partition(".")[0]
        words += (f"+callbacks.{key}._target_=plainres.instruments.{name}",)
    made = compose_cell(tmp_path, *words)
    assert train.train_cell(made).status == "diverged"
    branches = files.read_table(made.folder / "branches.csv", BranchNorm)
    sketches = files.read_table(made.folder / "sketch.csv", SketchPoint)
    assert {row.iteration for row in branches} == {0}
    assert {row.iteration for row in sketches} == {0, 1}


def test_tables_are_gathered_beside_runs(parents):
    child_cell = cell(parents, "generation=child", "child.blocks=4")
    train.train_cell(child_cell)
    folder = child_cell.results_folder
    for _ in range(2):
        files.gather(folder)
        assert files.read_table(folder / "insertions.csv", Insertion) == [insertion(child_cell)]
        assert len(files.read_table(folder / "branches.csv", BranchNorm)) == 2 * 10
    files.gather(cell(parents, "generation=parent").results_folder)
    assert not (parents / "identity" / "smoke" / "parent" / "insertions.csv").exists()
