"""A cell and its folder: what is finished, refused or set aside; nothing measured is lost."""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from composing import compose_cell
from hydra.errors import ConfigCompositionException, InstantiationException

from plainres.networks.blocks import BasicBlock
from plainres.records import files, schema
from plainres.records.errors import one_line
from plainres.records.identity import config_hash, shared_config
from plainres.records.locks import Users
from plainres.run import cell as cells
from plainres.run.cell import BusyError, Cell, claim_tables

QUICK = ("protocol=quick", "model=plain")


@pytest.fixture
def compose(tmp_path):
    """The cell of a command line, with its results in a folder of the test's own."""

    def of(*overrides: str) -> Cell:
        committed = f"committed_dir={tmp_path / 'committed'}"
        return compose_cell(tmp_path / "results", committed, *QUICK, *overrides)

    return of


@pytest.fixture
def record_of(make_record):
    """A record as the cell's own run would write it."""

    def of(cell: Cell, **values) -> schema.Record:
        own = {"arm": cell.arm, "depth": cell.config.model.depth, "seed": cell.config.seed}
        return make_record(**own, config_hash=config_hash(cell.identity), **values)

    return of


def measure(cell: Cell, record: schema.Record) -> None:
    """A run from claim to record, without the training."""
    cell.claim_folder()
    files.write_text(cell.folder / files.CURVES_TABLE, f"the curve of {cell.name}")
    files.write_record(cell.folder, record)


def content(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


# Identity


def test_a_cell_lives_where_its_name_says(compose, tmp_path):
    cell = compose("model.depth=56", "seed=2", "slug=why", "folder=mine")
    assert cell.name == "plain-56-seed2"
    assert cell.folder == tmp_path / "results" / "why" / "mine" / "runs" / "plain-56-seed2"


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.root=/elsewhere"],
        ["jobs=1"],
        ["threads=1"],
        ["force=true"],
        ["protocol.log_every=1", "protocol.evaluate_every=2"],
    ],
)
def test_how_and_where_a_cell_runs_is_not_its_identity(compose, overrides):
    assert compose(*overrides).identity == compose().identity


def test_another_number_of_threads_is_another_configuration(compose, record_of):
    measure(compose("threads=2"), record_of(compose("threads=2")))
    assert compose().finished() is None
    assert "(threads: 2 → None)" in compose().refusal()
    with pytest.raises(ValueError, match="threads 0 is not a whole number from 1 up"):
        compose("threads=0").check()


def test_the_identity_survives_its_file(compose):
    for protocol in ("quick", "cpu", "cpu16", "paper"):
        identity = compose(f"protocol={protocol}").identity
        assert json.loads(json.dumps(identity)) == identity


OWN_IMAGES = "data=image_folder"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.depth=21", "depth 21 is not 6n.2; nearest: 20 and 26"),
        ("model.depth=20.5", "depth 20.5 is not a whole number"),
        ("model.shortcut=projection", "projection in the plain arm, which has none; ARMS=residual"),
        ("model=residual model.shortcut=none", "shortcut none in the residual arm; ARMS=plain"),
        ("seed=-1", "seed -1 is not a whole number from 0 up"),
        (OWN_IMAGES, f"data.label is not set; {OWN_IMAGES} needs data.label=…"),
        (f"{OWN_IMAGES} data.label=mine", f"data.root is not set; {OWN_IMAGES} needs data.root="),
        ("protocol.iterations=0", "protocol.iterations 0 is not a whole number from 1 up"),
        ("protocol.iterations=50", "warmup_iterations 100 lies outside 0 to iterations - 1 = 49"),
        ("protocol.clip_norm=0", "clip_norm 0 is not a number above 0; null: no clipping"),
        ("protocol.perturbation=0", "perturbation 0 is not a number above 0; null: no change"),
        (
            "protocol.perturbation=1e-7 +child.parent=parent",
            "protocol.perturbation changes initial weights, and a child has those of its parent",
        ),
        ("protocol.log_every=0", "protocol.log_every 0 is not a whole number from 1 up"),
        ("protocol.evaluate_every=1", "evaluate_every 1 is not a whole number from 2 up"),
        ("protocol.evaluation_images=0", "protocol.evaluation_images 0 is not"),
        ("protocol.error_window=-1", "protocol.error_window -1 is not"),
        ("protocol.learning_rate=-1", "protocol.learning_rate -1 is not"),
        ("model.width=0", "model.width 0 is not a whole number from 1 up"),
        (
            "model=googlenet model.auxiliary_weight=heavy",
            "model.auxiliary_weight 'heavy' is not a number from 0 up; null: no auxiliary heads",
        ),
        (
            "protocol.precision=64-true +child.parent=x",
            "64-true with a child, whose parent's weigh",
        ),
        ("child=5", "child 5 is not a section or null"),
        ("folder=../../depth/quick", "folder '../../depth/quick' does not lie below results"),
        ("folder=/quick", "folder '/quick' does not lie below results_dir/slug"),
        ("slug=a/b", "slug 'a/b' is not the name of one folder"),
        ("callbacks=5", "callbacks 5 is not a section or null"),
        ("+callbacks.x.every=1", "callbacks.x needs _target_, the class of a Lightning callback"),
        ("+depth=20", "depth is unknown; legal: model, data, protocol, seed"),
        ("+protocol.rate=1", "protocol.rate is unknown; legal: name, width, iterations"),
        ("+protocol.schedule.rate=1", "protocol.schedule.rate is unknown; legal: kind, milest"),
        ("workers=2", "workers is for data 'streamed_folder' alone; null with others"),
        ("data.label=", "data.label is empty"),
        ("updates_per_step=2 data.name=streamed_folder", "updates_per_step 2 with streamed images"),
        ("data=cifar10 data.root=", "data.root is empty"),
        (
            "protocol.nesterov=true protocol.momentum=0",
            "protocol.nesterov needs protocol.momentum above 0; null without it",
        ),
        ("protocol.schedule.kind=poly", "schedule kind 'poly' is unknown; legal: step, cosine"),
    ],
)
def test_a_configuration_that_no_run_can_have(compose, overrides, message):
    with pytest.raises(ValueError, match=message):
        compose(*overrides.split()).check()


def test_an_arm_that_no_table_can_name(compose):
    with pytest.raises(ValueError, match="model=my/net names the arm; legal: a name without a fo"):
        replace(compose(), arm="my/net").check()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=x", "seed 'x' is not a whole number"),
        ("protocol.iterations=2000.5", "protocol.iterations '2000.5' is not a whole number"),
        ("protocol.batch_size=true", "protocol.batch_size 'true' is not a whole number"),
        ("protocol.evaluate_every=null", "field 'protocol.evaluate_every' is not Optional"),
        ("protocol.learning_rate=fast", "protocol.learning_rate 'fast' is not a number"),
        ("protocol.augmentation.mirror=often", "mirror 'often' is not true or false"),
        ("protocol.schedule.milestones=[a]", "milestones '[a]' is not a whole number"),
        ("data.image_size=small", "data.image_size 'small' is not a whole number"),
        ("protocol.iteration=3", "Key 'iteration' not in 'ProtocolConfig'"),
        ("data.size=3", "Key 'size' not in 'DataConfig'"),
    ],
)
def test_a_value_of_another_type_and_an_unknown_key_are_refused_by_hydra(
    compose, override, message
):
    with pytest.raises(ConfigCompositionException) as refusal:
        compose(override)
    line = one_line(refusal.value)
    assert override.split("=")[0] in line
    assert message in line
    assert "full_key" not in line


@pytest.mark.parametrize("text", ["0", "0.0", "0.1", "1"])
def test_a_number_stays_as_it_was_written(compose, text):
    decay = compose(f"protocol.weight_decay={text}").identity["protocol"]["weight_decay"]
    assert json.dumps(decay) == text


@pytest.mark.parametrize(
    "overrides", ["", "model.depth=1202 seed=5", f"{OWN_IMAGES} data.label=mine data.root=x"]
)
def test_a_configuration_that_a_run_can_have(compose, overrides):
    compose(*overrides.split()).check()


# Finished


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.norm=layer", "norm 'layer' is unknown; legal: batch, none"),
        ("+model.width_factor=2", "unexpected keyword argument 'width_factor'"),
        ("model=lenet5", "LeNet-5 takes 32×32 images, not 8×8"),
        ("+callbacks.x._target_=plainres.no.such", "callbacks.x._target_ plainres.no.such cannot"),
    ],
)
def test_parts_that_cannot_be_had(compose, overrides, message):
    with pytest.raises((ValueError, InstantiationException), match=message):
        compose(*overrides.split()).check_parts()


class NeedsNumbers(BasicBlock):
    def forward(self, x):
        return super().forward(x) if x.mean().item() < 1e9 else x


def test_a_network_of_ones_own_may_need_numbers(compose):
    path = f"+model.block.path={__name__}.NeedsNumbers"
    compose("+model.block._target_=hydra.utils.get_class", path).check_parts()


def test_a_cell_is_finished_once_its_record_is_there(compose, record_of):
    cell = compose()
    assert cell.finished() is None
    cell.claim_folder()
    assert cell.finished() is None
    record = record_of(cell)
    files.write_record(cell.folder, record)
    assert cell.finished() == record
    assert compose("data.root=/elsewhere", "jobs=1").finished() == record


def test_a_diverged_cell_is_finished_too(compose, record_of):
    cell = compose()
    measure(cell, record_of(cell, status=schema.DIVERGED, test_error=None))
    assert cell.finished().status == schema.DIVERGED


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "model.depth=32",
        "model=residual",
        "protocol.iterations=500",
        "folder=other",
    ],
)
def test_another_cells_record_is_not_this_ones(compose, record_of, override):
    measure(compose(), record_of(compose()))
    assert compose(override).finished() is None


def test_rows_of_the_table_count_as_finished_only_when_asked(compose, record_of):
    cell, neighbour = compose("seed=1"), compose("seed=2")
    rows = [record_of(cell), record_of(neighbour, test_error=0.75)]
    files.write_table(cell.committed_folder / files.RUNS_TABLE, rows, schema.Record)
    assert cell.finished() is None
    assert compose("seed=1", "missing=true").finished() == rows[0]
    assert compose("seed=2", "missing=true").finished() == rows[1]
    assert compose("seed=3", "missing=true").finished() is None
    assert compose("seed=1", "missing=true", "protocol.weight_decay=0").finished() is None
    files.write_table(compose("seed=3").results_folder / files.RUNS_TABLE, [], schema.Record)
    assert compose("seed=1", "missing=true").finished() == rows[0]


def test_the_folders_record_goes_before_the_tables_row(compose, record_of):
    cell = compose("missing=true")
    files.write_table(
        cell.committed_folder / files.RUNS_TABLE,
        [record_of(cell, test_error=0.75)],
        schema.Record,
    )
    measure(cell, record_of(cell, test_error=0.25))
    assert cell.finished().test_error == 0.25


# The folder


def test_a_new_folder_and_ones_own_are_not_refused(compose, record_of):
    cell = compose()
    assert cell.refusal() is None
    measure(cell, record_of(cell))
    before = content(cell.folder)
    assert cell.refusal() is None
    cell.claim_folder()
    compose("force=true").claim_folder()  # nothing to set aside
    assert content(cell.folder) == before
    assert [path.name for path in cell.folder.parent.iterdir()] == [cell.name]


def test_a_folder_of_another_configuration_is_refused_in_one_line_and_left_alone(
    compose, record_of
):
    measure(compose(), record_of(compose()))
    other = compose("protocol.learning_rate=0.05", "data.mirror=true")
    before = content(other.folder)
    line = other.refusal()
    assert line.startswith(f"{other.folder} was measured under another configuration")
    assert "(data.mirror: False → True; protocol.learning_rate: 0.1 → 0.05)" in line
    assert "FORCE=1" in line
    assert "folder=" in line
    assert "\n" not in line
    with pytest.raises(ValueError, match="was measured under another configuration") as refusal:
        other.claim_folder()
    assert str(refusal.value) == line
    assert content(other.folder) == before


def test_force_sets_folders_aside_one_after_another(compose, record_of):
    first = compose()
    second, third = (compose(f"protocol.momentum={m}", "force=true") for m in (0.8, 0.7))
    measure(first, record_of(first, test_error=0.5))
    before = content(first.folder)
    measure(second, record_of(second, test_error=0.25))
    aside = first.folder.with_name(first.name + ".old1")
    assert content(aside) == before
    assert second.finished().test_error == 0.25
    assert first.finished() is None
    third.claim_folder()
    assert content(aside) == before
    assert files.read_record(first.folder.with_name(first.name + ".old2")).test_error == 0.25
    assert list(content(third.folder)) == [files.CONFIG_FILE]
    assert files.read_json(third.folder / files.CONFIG_FILE) == third.identity


# The tables


def write_tables(cell: Cell, rows: list[schema.Record]) -> dict[str, bytes]:
    files.write_table(cell.results_folder / files.RUNS_TABLE, rows, schema.Record)
    files.write_table(cell.results_folder / files.CURVES_TABLE, [], schema.CurvePoint)
    return content(cell.results_folder)


def test_tables_of_the_same_configuration_stay(compose, record_of):
    cell = compose()
    assert claim_tables([cell]) is None
    before = write_tables(cell, [record_of(cell)])
    sweep = [
        compose("model=residual"),
        compose("model.depth=56", "seed=4"),
        compose("jobs=1", "data.root=/elsewhere"),
    ]
    for cell in sweep:
        assert claim_tables([cell]) is None
    assert claim_tables(sweep) is None
    assert content(cell.results_folder) == before


def test_tables_of_another_configuration_move_aside_without_loss(compose, record_of):
    first, second, third = (
        compose(f"data.label={label}") for label in ("digits", "other digits", "yet others")
    )
    claim_tables([first])
    write_tables(first, [record_of(first)])
    folder = first.results_folder
    surface = "surface-plain-20-seed0"
    for name in ("probes.csv", "power.csv", f"{surface}.csv", f"{surface}.json"):
        files.write_text(folder / name, "x")
    old = content(folder)
    line = claim_tables([second])
    assert line.startswith(
        f"the tables in {folder} are of another configuration (data.label: digits → other digits)"
    )
    assert line.endswith(f"set aside as {folder / 'earlier.old1'}")
    assert content(folder / "earlier.old1") == old
    assert list(content(folder)) == [files.CONFIG_FILE, *(f"earlier.old1/{n}" for n in sorted(old))]
    assert claim_tables([second]) is None

    newer = write_tables(second, [record_of(second, test_error=0.5)])
    newer = {name: text for name, text in newer.items() if "/" not in name}
    assert claim_tables([third]).endswith(f"set aside as {folder / 'earlier.old2'}")
    assert content(folder / "earlier.old1") == old
    assert content(folder / "earlier.old2") == newer


def test_a_command_that_measures_keeps_other_configurations_out(compose, record_of):
    own, other = compose(), compose("protocol.momentum=0.8")
    claim_tables([own])
    before = write_tables(own, [record_of(own)])
    lock = own.results_folder / "runs" / "users.lock"
    Users(lock).leave()
    with lock.open() as elsewhere:  # as another process has it
        fcntl.flock(elsewhere, fcntl.LOCK_SH)
        assert claim_tables([own]) is None, "the same configuration is welcome"
        with pytest.raises(ValueError, match=r"^another command measures into .*momentum: 0.9"):
            claim_tables([other])
        assert content(own.results_folder) == before
    assert "momentum: 0.9 → 0.8" in claim_tables([other]), "it has ended"


def test_zero_and_zero_point_zero_are_two_configurations(compose, record_of):
    whole, fraction = (compose(f"protocol.weight_decay={text}") for text in ("0", "0.0"))
    assert config_hash(whole.identity) != config_hash(fraction.identity)
    files.write_json(whole.folder / files.CONFIG_FILE, whole.identity)
    (whole.folder / files.CHECKPOINT_FILE).touch()
    assert whole.refusal() is None
    assert "(a number as 0 is written 0.0, or the reverse)" in fraction.refusal()
    claim_tables([whole])
    write_tables(whole, [record_of(whole)])
    assert "written 0.0" in claim_tables([fraction])


def test_tidying_keeps_the_checkpoint_of_a_cell_that_is_measured_again(compose, record_of):
    cell = compose()
    measure(cell, record_of(cell))
    former, newer = (cell.folder / name for name in files.CHECKPOINT_FILES)
    finished = (cell.folder / files.RECORD_FILE).stat().st_mtime
    for path, seconds in ((former, -1), (newer, 1)):
        path.touch()
        os.utime(path, (finished + seconds, finished + seconds))
    cell.tidy()
    assert (former.exists(), newer.exists()) == (False, True)


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_rows_say_what_tables_are_of_where_their_configuration_is_lost(compose, record_of, text):
    cell, path = compose(), compose().results_folder / files.CONFIG_FILE
    own = write_tables(cell, [record_of(cell)])
    if text is not None:
        path.write_text(text)
    assert claim_tables([cell]) is None
    assert content(cell.results_folder) == {**own, files.CONFIG_FILE: path.read_bytes()}
    assert files.read_config(cell.results_folder) == shared_config(cell.identity)

    path.unlink()
    if text is not None:
        path.write_text(text)
    other = compose("protocol.momentum=0.8")
    assert f"config.json is {'damaged' if text else 'gone'}" in claim_tables([other])
    assert content(other.results_folder / "earlier.old1").items() >= own.items()


def test_cells_keep_their_folders_when_tables_move(compose, record_of):
    first = compose()
    claim_tables([first])
    measure(first, record_of(first))
    write_tables(first, [record_of(first)])
    before = content(first.folder)
    assert claim_tables([compose("data.label=other digits")])
    assert content(first.folder) == before


@pytest.mark.parametrize("content", ["", '{"arm": "pl', '{"train_error": 5.0}'])
def test_a_damaged_record_is_named_and_set_aside_when_the_cell_starts_again(
    compose, record_of, content, caplog
):
    cell = compose()
    measure(cell, record_of(cell))
    assert cell.damage == ""
    (cell.folder / files.RECORD_FILE).write_text(content)
    assert cell.finished() is None
    assert cell.refusal() is None
    line = cell.damage
    assert line.startswith(f"plain-20-seed0: {cell.folder / files.RECORD_FILE}")
    assert "the same sweep sets it aside" in line
    assert "protocol.momentum: 0.9 → 0.8" in compose("protocol.momentum=0.8").refusal()
    cell.claim_folder()
    assert line in caplog.text
    assert (cell.folder / "record.corrupt").read_text() == content
    assert not (cell.folder / files.RECORD_FILE).exists()
    assert cell.damage == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 1}'])
def test_a_finished_cell_needs_no_configuration_beside_its_record(compose, record_of, text):
    cell = compose()
    measure(cell, record_of(cell))
    (cell.folder / files.CONFIG_FILE).write_text(text)
    assert cell.finished() == record_of(cell)
    assert cell.refusal() is None
    assert "config.json is damaged or gone" in compose("protocol.momentum=0.8").refusal()


# The lock

HOLD = """
import sys
from omegaconf import OmegaConf
from plainres.run.cell import Cell
place = {"results_dir": sys.argv[1], "slug": "depth", "folder": "quick"}
config = OmegaConf.create({**place, "model": {"depth": 20}, "seed": 0})
with Cell(config, "plain").locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_locked_cell_is_refused_and_free_again_afterwards(compose):
    one, other = compose(), compose()
    with one.locked():
        message = rf"^{one.folder} is being trained by process \d+$"
        with pytest.raises(BusyError, match=message), other.locked(wait=False):
            pass
        seed, arm = compose("seed=1"), compose("model=residual")
        with seed.locked(wait=False), arm.locked(wait=False):  # only this cell is
            pass
    with other.locked(wait=False):
        pass


def test_a_lock_ends_with_an_error(compose):
    with pytest.raises(KeyError), compose().locked():
        raise KeyError
    with compose().locked(wait=False):
        pass


def test_a_lock_goes_with_the_process_that_holds_it(compose, tmp_path):
    cell = compose()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "results")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            message = rf"is being trained by process {holder.pid}$"
            with pytest.raises(BusyError, match=message), cell.locked(wait=False):
                pass
        finally:
            holder.kill()
    with cell.locked(wait=False):
        assert not cell.folder.exists()  # the lock makes no folder that a claim would have to judge


def test_a_lock_is_waited_for(compose, monkeypatch):
    one, other = compose(), compose()
    held = one.locked()
    held.__enter__()
    waited = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        held.__exit__(None, None, None)

    monkeypatch.setattr(cells.time, "sleep", pause)
    with other.locked():
        pass
    assert len(waited) == 1


def test_force_replaces_the_row_in_the_table(compose, record_of):
    first, second = compose(), compose("protocol.momentum=0.8", "force=true")
    measure(first, record_of(first, test_error=0.5))
    measure(second, record_of(second, test_error=0.25))
    for path in first.results_folder.glob("runs/*/curves.csv"):
        files.write_table(path, [], schema.CurvePoint)
        files.write_record(path.parent, files.read_record(path.parent))
    assert [row.test_error for row in files.gather(first.results_folder)] == [0.25]


def test_a_measured_folder_without_its_configuration_is_not_taken_over(compose, record_of):
    first = compose()
    measure(first, record_of(first))
    (first.folder / files.CONFIG_FILE).write_text("{")
    assert compose("protocol.momentum=0.8").refusal()
