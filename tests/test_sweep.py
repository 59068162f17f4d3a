"""The sweep from the command line: what it refuses, skips, survives and writes."""

import errno
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import composing
import pytest
import trained
from composing import CONF, ROOT, compose_cell
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from plainres.records import files
from plainres.records.identity import config_hash, shared_config
from plainres.records.locks import Users
from plainres.records.schema import describe
from plainres.run import sweep
from plainres.run.cell import Cell, claim_tables
from plainres.run.display import Display
from plainres.run.watch import Watch

SWEEP = ("-m", "+experiment=depth")
GRID = ("+experiment=depth", "protocol=smoke", "model.depth=14,8", "jobs=2")


def command(results: Path, *words: str) -> list[str]:
    words = (*words, "threads=1", f"results_dir={results}")
    return [sys.executable, "-m", "plainres.run.train", *words]


def run(results: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return composing.run(*command(results, *words), **environment)


def tables(results: Path) -> dict[str, bytes]:
    """The files of results/depth/smoke, without its folders."""
    folder = results / "depth" / "smoke"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def copy_tables(results: Path, other: Path) -> None:
    (other / "depth" / "smoke").mkdir(parents=True)
    for name, content in tables(results).items():
        (other / "depth" / "smoke" / name).write_bytes(content)


def numbers(folder: Path) -> dict[str, dict]:
    return {row.cell: trained.numbers(row) for row in files.read_runs(folder)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    results = tmp_path_factory.mktemp("undisturbed")
    return results, run(results, "-m", *GRID)


def test_a_sweep_leaves_records_tables_and_a_line_a_cell(undisturbed):
    results, finished = undisturbed
    assert finished.returncode == 0, finished.stderr
    folder = results / "depth" / "smoke"
    rows = files.read_runs(folder)
    cells = "plain-8-seed0 plain-14-seed0 residual-8-seed0 residual-14-seed0"
    assert [row.cell for row in rows] == cells.split()
    assert {row.data_label for row in rows} == {"digits"}
    for row in rows:
        assert finished.stdout.count(describe(row).split(",")[0] + ",") == 1
        assert (folder / "runs" / row.cell / files.RECORD_FILE).exists()
        assert list((folder / "runs" / row.cell).glob("events.out.tfevents.*"))
    assert len(files.read_curves(folder)) == 4 * 6
    assert "Traceback" not in finished.stdout + finished.stderr


def test_cells_are_listed_in_the_order_in_which_hydra_launches_them():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("train", list(GRID), run_mode=RunMode.MULTIRUN)
        names = [cell.name for cell in sweep.cells_of(config)]
    assert names == [f"{arm}-{depth}-seed0" for depth in (14, 8) for arm in ("plain", "residual")]


def test_both_arms_start_from_the_same_numbers_of_parameters(undisturbed):
    rows = numbers(undisturbed[0] / "depth" / "smoke")
    plain, residual = (rows[f"{arm}-14-seed0"] for arm in ("plain", "residual"))
    assert plain["num_parameters"] == residual["num_parameters"]


def test_typed_again_it_skips_what_is_finished_and_tidies_it(undisturbed):
    results, _ = undisturbed
    before = tables(results)
    left = results / "depth" / "smoke" / "runs" / "plain-8-seed0" / files.CHECKPOINT_FILE
    left.write_bytes(b"of a process that was killed between record and tidying")
    os.utime(left, (0, 0))
    again = run(results, "-m", *GRID)
    assert not left.exists()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("skipped, finished:") == 4
    assert "all 4 cells are finished" in again.stdout
    assert tables(results) == before


def test_another_configuration_is_refused_before_anything_runs(undisturbed):
    results, _ = undisturbed
    before = tables(results)
    refused = run(results, "-m", *GRID, "protocol.momentum=0.8")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "protocol.momentum: 0.9 → 0.8" in refused.stderr
    assert "FORCE=1" in refused.stderr
    assert tables(results) == before


def test_rows_of_a_committed_table_count_only_when_asked(undisturbed, tmp_path):
    copy_tables(undisturbed[0], tmp_path)
    skipped = run(tmp_path / "local", "-m", *GRID, "missing=true", f"committed_dir={tmp_path}")
    assert skipped.returncode == 0, skipped.stderr
    assert "all 4 cells are finished" in skipped.stdout
    assert not list(tmp_path.rglob("record.json"))
    assert compose_cell(tmp_path, "protocol=smoke", "model.depth=8").finished() is None


def test_cells_of_one_name_in_several_folders_are_several_cells(tmp_path):
    grid = "-m +experiment=robustness setting=baseline,nesterov data=digits jobs=1"
    cell = "model=plain model.depth=8 model.width=2 protocol.iterations=4 protocol.batch_size=32"
    short = "protocol.evaluate_every=4 protocol.schedule.warmup_iterations=1"
    words = f"{grid} {cell} {short}".split()
    first = run(tmp_path, *words)
    assert first.returncode == 0, first.stderr
    tables = {
        name: files.read_runs(tmp_path / "robustness" / name) for name in ("baseline", "nesterov")
    }
    assert [len(rows) for rows in tables.values()] == [1, 1]
    assert tables["baseline"][0].train_loss != tables["nesterov"][0].train_loss
    for name in tables:
        assert first.stdout.count(f"{name}/plain-8-seed0: train_error") == 1
    (tmp_path / "robustness" / "nesterov" / "runs" / "plain-8-seed0" / files.RECORD_FILE).unlink()
    again = run(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("skipped, finished: baseline/plain-8-seed0: ") == 1
    assert again.stdout.count("nesterov/plain-8-seed0: train_error") == 1


def test_parent_killed_as_soon_as_it_has_workers_leaves_none_of_them(undisturbed, tmp_path):
    """The same command at once finds a checkpoint that is damaged, and tells of it."""
    cell = tmp_path / "depth" / "smoke" / "runs" / "plain-8-seed0"
    with slow_process(tmp_path, command(tmp_path, "-m", *GRID)) as sweep:
        wait_for(lambda: len(group(sweep.pid)) > 3)  # the fork server and resource tracker too
        sweep.kill()
    wait_for(lambda: not group(sweep.pid), 40)  # 10 where nothing else runs
    cell.mkdir(parents=True, exist_ok=True)
    (cell / "last.ckpt").write_bytes(b"half a checkpoint")
    again = run(tmp_path, "-m", *GRID)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("plain-8-seed0: last.ckpt is damaged") == 1
    assert numbers(tmp_path / "depth" / "smoke") == numbers(undisturbed[0] / "depth" / "smoke")


def test_an_interrupted_sweep_writes_checkpoints_and_says_what_stands(undisturbed, tmp_path):
    """The request alone writes them; on the way it is repeated, as by an impatient user."""
    words = ("-m", *GRID, "checkpoint_seconds=1000")
    runs = tmp_path / "depth" / "smoke" / "runs"
    with slow_process(tmp_path, command(tmp_path, *words)) as sweep:
        wait_for(lambda: len(list(runs.glob("*-14-*/progress.json"))) == 2)
        time.sleep(1)
        for _ in range(3):
            os.killpg(sweep.pid, signal.SIGINT)
            time.sleep(0.05)
        since = time.monotonic()
        _, stderr = sweep.communicate(timeout=60)
        assert time.monotonic() - since < 5
    assert sweep.returncode == 130
    stands = "0 of 4 cells are finished, 2 continue from a checkpoint"
    assert stderr == f"plainres: interrupted (SIGINT): {stands}; the same command continues\n"
    wait_for(lambda: not group(sweep.pid), 10)
    again = run(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    for cell in ("plain-14-seed0", "residual-14-seed0"):
        assert "continues at iteration" in (runs / cell / "train.log").read_text()
    assert numbers(tmp_path / "depth" / "smoke") == numbers(undisturbed[0] / "depth" / "smoke")
    for table in ("curves.csv", "config.json"):
        assert tables(tmp_path)[table] == tables(undisturbed[0])[table]


def test_a_single_run_that_is_interrupted_writes_a_checkpoint(tmp_path):
    words = ("protocol=smoke", "model=plain", "model.depth=8", "checkpoint_seconds=1000")
    cell = compose_cell(tmp_path, *words[:3])
    with slow_process(tmp_path, command(tmp_path, *words)) as training:
        wait_for((cell.folder / files.PROGRESS_FILE).exists)
        training.send_signal(signal.SIGTERM)
        _, stderr = training.communicate(timeout=60)
    assert training.returncode == 143
    stands = "0 of 1 cells are finished, 1 continue from a checkpoint"
    assert stderr == f"plainres: interrupted (SIGTERM): {stands}; the same command continues\n"
    assert cell.has_checkpoint


def test_a_terminal_that_hangs_up_gets_its_cursor_back(tmp_path):
    words = command(tmp_path, "-m", *GRID, "model.depth=8", "jobs=1")
    ours, theirs = pty.openpty()
    with slow_process(tmp_path, words, stdout=theirs, stderr=theirs, TERM="xterm") as sweep:
        os.close(theirs)
        shown = b""
        while not re.search(rb"\d%", shown):
            shown += os.read(ours, 1000)
        sweep.send_signal(signal.SIGHUP)
        with suppress(OSError):  # the end of a terminal
            while more := os.read(ours, 1000):
                shown += more
    os.close(ours)
    assert sweep.returncode == 129
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0
    assert b"interrupted (SIGHUP): 0 of 2 cells are finished, 1 continue" in shown


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("plainres.run.train", "hydra"),
        ("plainres.run.train", "plainres.data.sources"),
        ("plainres.instruments.landscape", "hydra"),
    ],
)
def test_a_signal_while_it_imports_or_prepares_has_its_line_too(tmp_path, program, module):
    words = [sys.executable, "-m", program, *command(tmp_path, "-m", *GRID)[3:]]
    with process(tmp_path, words, SIGNALLED.format(module)) as sweep:
        _, stderr = sweep.communicate(timeout=60)
    assert sweep.returncode == 143
    assert stderr.startswith("plainres: interrupted (SIGTERM)")
    assert stderr.endswith("; the same command continues\n")
    assert len(stderr.splitlines()) == 1


def test_a_worker_that_is_killed_costs_its_cell_alone(undisturbed, tmp_path):
    words = ("-m", *GRID, "model.depth=8", "checkpoint_seconds=0")
    folder = tmp_path / "depth" / "smoke"
    cell = folder / "runs" / "plain-8-seed0"
    with slow_process(tmp_path, command(tmp_path, *words)) as sweep:
        wait_for((cell / "last.ckpt").exists)
        os.kill(files.read_json(cell / "progress.json")["pid"], signal.SIGKILL)
        _, stderr = sweep.communicate(timeout=120)
    assert sweep.returncode == 3
    assert stderr == (
        "plainres: plain-8-seed0 failed: its process was killed by SIGKILL (out of memory?); "
        "the same command continues from its checkpoint\n"
    )
    assert list(numbers(folder)) == ["residual-8-seed0"]
    again = run(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert "continues at iteration" in (cell / "train.log").read_text()
    assert numbers(folder).items() <= numbers(undisturbed[0] / "depth" / "smoke").items()
    assert len(numbers(folder)) == 2


def test_a_sweep_takes_the_cells_that_are_free_and_waits_for_those_of_another(
    undisturbed, tmp_path
):
    """What the other has finished is finished; until then nothing is written into its folder."""
    cell = compose_cell(tmp_path, "protocol=smoke", "model=plain", "model.depth=8")
    finished = undisturbed[0] / cell.folder.relative_to(tmp_path)
    words = command(tmp_path, "-m", *GRID, "model.depth=8", "jobs=1")
    with process(tmp_path, words, "") as sweep:
        with cell.locked():
            wait_for(cell.folder.with_name("residual-8-seed0").joinpath("record.json").exists)
            assert not cell.folder.exists()
            shutil.copytree(finished, cell.folder)
        stdout, stderr = sweep.communicate(timeout=60)
    assert (sweep.returncode, stderr) == (0, "")
    assert stdout.count(f"plain-8-seed0 is being trained by process {os.getpid()}") == 1
    assert stdout.count("plain-8-seed0: train_error") == 1
    assert numbers(cell.results_folder).items() <= numbers(finished.parents[1]).items()
    assert not list(cell.folder.glob("failure*"))


def test_a_run_with_another_configuration_leaves_the_tables_of_a_cell_in_training(tmp_path):
    cell, other = (
        compose_cell(tmp_path, "protocol=smoke", f"protocol.momentum={momentum}", "force=true")
        for momentum in (0.9, 0.8)
    )
    claim_tables([cell])
    with cell.locked(), pytest.raises(ValueError, match=r"trains a cell.*momentum: 0\.9 → 0\.8"):
        claim_tables([other])
    assert files.read_json(cell.results_folder / "config.json") == shared_config(cell.identity)


def test_a_sweep_in_one_process_outlives_the_shell_that_started_it(undisturbed, tmp_path):
    words = (*SWEEP, "protocol=smoke", "model.depth=8", "model=plain", "jobs=1")
    line = f"{shlex.join(command(tmp_path, *words))} & wait"
    folder = tmp_path / "depth" / "smoke"
    cell = folder / "runs" / "plain-8-seed0"
    with slow_process(tmp_path, ["sh", "-c", line]) as shell:
        wait_for((cell / "progress.json").exists)
        shell.kill()
    wait_for((cell / "record.json").exists)
    wait_for(lambda: not group(shell.pid))  # the tables are written after the record
    assert numbers(folder).items() <= numbers(undisturbed[0] / "depth" / "smoke").items()


def slow_process(folder: Path, words: list[str], **options: Any) -> subprocess.Popen:
    """A process, in a session of its own, in which an iteration takes a quarter of a second."""
    return process(folder, words, SLOW_STEPS, **options)


def process(
    folder: Path, words: list[str], customised: str, stdout=PIPE, stderr=PIPE, **environment: str
) -> subprocess.Popen:
    """A process, in a session of its own, that begins with Python code."""
    site = folder / "sitecustomize"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(customised)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        start_new_session=True,
        text=True,
        stdout=stdout,
        stderr=stderr,
    )


SLOW_STEPS = """
import importlib.abc, importlib.util, sys, time

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "plainres.data.batches":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            draws = module.TrainingBatches.random_draws
            def slow_draws(self, step):
                time.sleep(0.25)
                return draws(self, step)
            module.TrainingBatches.random_draws = slow_draws
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Slow())
"""


SIGNALLED = """
import importlib.abc, os, signal, sys

class Signalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{}":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Signalled())
"""


def group(leader: int) -> list[int]:
    """The living processes of a session."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, _, session = path.read_text().rsplit(")", 1)[1].split()[:4]
            if int(session) == leader and state != "Z":
                members.append(int(path.parent.name))
    return members


def wait_for(condition, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_a_cell_that_fails_leaves_the_others_and_a_line_whatever_launches_it(tmp_path, launcher):
    folder = tmp_path / "depth" / "smoke"
    (folder / "runs" / "residual-8-seed0" / "curves.csv").mkdir(parents=True)  # not to be written
    words = ("protocol=smoke", "model.depth=8", "seed=0,1", f"hydra/launcher={launcher}")
    ended = run(tmp_path, "-m", *words)
    assert ended.returncode == 3
    assert [row.cell for row in files.read_runs(folder)] == ["residual-8-seed1"]
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("plainres: residual-8-seed0 failed:")
    assert "curves.csv" in ended.stderr


def test_a_launcher_that_is_not_installed_is_one_line():
    launcher = {"_target_": "hydra_plugins.gone.Gone"}
    choices = {"choices": {"hydra/launcher": "ray_tasks"}}
    config = OmegaConf.create({"hydra": {"launcher": launcher, "runtime": choices}})
    with pytest.raises(ValueError, match=r"the launcher ray is not installed: .*\.\[ray\]"):
        sweep.check_launcher(config)


@pytest.mark.parametrize(
    ("launcher", "jobs"),
    [
        ({"n_jobs": -1}, -1),
        ({"array_parallelism": 256}, 256),
        ({"ray": {"init": {"num_cpus": None}}}, -1),
        ({"ray": {"init": {"num_cpus": 2}}}, 2),
        ({}, 1),
    ],
)
def test_a_launcher_says_how_many_cells_run_at_once(launcher, jobs):
    assert sweep.at_once(OmegaConf.create(launcher)) == jobs


def test_a_number_of_cells_is_a_number():
    for wrong in ("all", 0, 1.5):
        with pytest.raises(ValueError, match=f"array_parallelism={wrong} is not a number of cells"):
            sweep.at_once(OmegaConf.create({"array_parallelism": wrong}))


def test_two_cells_in_one_folder_are_refused(tmp_path):
    refused = run(tmp_path, "-m", *GRID, "model.width=2,4")
    assert refused.returncode == 2
    assert "share the folder" in refused.stderr


def test_arms_that_differ_in_more_than_the_shortcut_are_no_one_table(tmp_path):
    refused = run(tmp_path, "-m", "protocol=smoke", "model.depth=8", "model=residual,se")
    assert refused.returncode == 2
    assert "differ in more than arm, depth and seed (model.block: None → " in refused.stderr
    assert "folder=" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("protocol=smoke", "protocol.iterations=1"),
        ("protocol=smoke", "model.depth=8", "kernels=quick"),
        ("protocol=smoke", "model.depth=14", "protocol.learning_rate=0.05", "kernels=quick"),
        ("protocol=smoke", "model=residual", "model.depth=14", "model.shortcut=projection"),
    ],
)
def test_a_single_run_that_is_refused_leaves_the_tables_where_they_are(
    undisturbed, tmp_path, words
):
    copy_tables(undisturbed[0], tmp_path)
    refused = run(tmp_path, *words)
    assert refused.returncode == 2
    assert tables(tmp_path) == tables(undisturbed[0])


def test_a_damaged_record_is_named_before_anything_runs_and_its_cell_starts_again(
    tmp_path, make_record, capsys
):
    begun = sweep.Sweep()
    begun.cells = [compose_cell(tmp_path, "protocol=smoke", f"seed={seed}") for seed in (0, 1)]
    for seed, cell in enumerate(begun.cells):
        own = {"arm": "residual", "shortcut": "zero_pad", "seed": seed}
        own["data_fingerprint"] = cell.load_images().fingerprint
        cell.claim_folder()
        files.write_record(cell.folder, make_record(**own, config_hash=config_hash(cell.identity)))
    (begun.cells[0].folder / files.RECORD_FILE).write_text("{")
    assert begun._prepare(local=False) == begun.cells[:1]
    assert "residual-20-seed0: " in capsys.readouterr().out
    assert [row.seed for row in files.read_runs(begun.cells[0].results_folder)] == [1]
    begun.cells = begun.cells[1:]  # nothing to train, and the damaged cell stays
    with pytest.raises(files.DamagedCellsError, match=r"residual-20-seed0/record\.json is damaged"):
        begun._prepare(local=False)


def test_a_damaged_table_is_refused_before_anything_runs(tmp_path):
    cell, table = damaged_table(tmp_path)
    config = json.dumps(shared_config(cell.identity))
    (table.parent / "config.json").write_text(config)
    refused = run(tmp_path, "-m", *GRID)
    assert refused.returncode == 2
    assert "lacks the columns" in refused.stderr
    assert not list(tmp_path.rglob("record.json"))


def damaged_table(results: Path) -> tuple[Cell, Path]:
    """A cell of GRID and the table of its folder."""
    cell = compose_cell(results, "protocol=smoke")
    table = cell.results_folder / "runs.csv"
    files.write_text(table, "<<<<<<< HEAD\n")
    return cell, table


def test_a_table_that_cannot_be_gathered_in_the_end_is_no_warning(tmp_path, capsys):
    ended = sweep.Sweep()
    ended.cells = [damaged_table(tmp_path)[0]]
    with pytest.raises(SystemExit):
        ended.on_multirun_end(None)
    assert "lacks the columns" in capsys.readouterr().err


def test_an_error_of_the_last_look_is_no_warning(tmp_path, monkeypatch, capsys):
    ended = sweep.Sweep()
    ended.cells = [compose_cell(tmp_path, "protocol=smoke")]
    (ended.cells[0].results_folder / "runs").mkdir(parents=True)
    plan = ended._plan("0123456789ab", 1, ended.cells)
    ended._display = Display([Watch(plan)], ended.console)
    monkeypatch.setattr(ended._display, "stop", lambda: None)  # it was not started
    monkeypatch.setattr(Watch, "states", refuse_to_read)
    with pytest.raises(SystemExit) as end:
        ended.on_multirun_end(None)
    plan.close()
    assert end.value.code == 3
    assert "Stale file handle" in capsys.readouterr().err


def refuse_to_read(*_, **__):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_progress_that_cannot_be_read_is_none(tmp_path, monkeypatch):
    (tmp_path / files.PROGRESS_FILE).touch()
    (tmp_path / files.FAILURE_FILE).touch()
    monkeypatch.setattr(Path, "read_text", refuse_to_read)
    assert files.read_progress(tmp_path) is None
    assert files.read_failure(tmp_path, "a sweep") is None


DEPTH_21 = "depth 21 is not 6n+2; nearest: 20 and 26"
PROTOCOLS = (
    "options in 'protocol': cpu cpu-bf16 cpu16 cpu32 dry finetune imagenet imagenet_dry paper "
    "quick smoke"
)
OWN = ("data=image_folder", "data.label=x", "data.root=/not/there")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((*SWEEP, "model.depth=21"), DEPTH_21),
        (("model.depth=21",), DEPTH_21),
        ((*SWEEP, "model=resnet"), "Available options in 'model': alexnet every_second"),
        ((*SWEEP, "protocol=fast"), PROTOCOLS),
        ((*SWEEP, "data=mnist"), "Available options in 'data': cifar10"),
        ((*SWEEP, "data=image_folder"), "data.label is not set"),
        ((*SWEEP, *OWN), "/not/there does not exist"),
        ((*SWEEP, "seed=-1"), "seed -1 is not a whole number from 0 up"),
        ((*SWEEP, "protocol.iterations=50"), "warmup_iterations 100 lies outside 0 to"),
        ((*SWEEP, "model.depht=20"), "model.depht"),
        ((*SWEEP, "data.normalisation=x"), "normalisation 'x' is unknown; legal: channel, pixel"),
        ((*SWEEP, "kernels=x"), "kernels 'x' is unknown; legal: auto, library"),
        ((*SWEEP, "protocol.batch_size=9999"), "batch_size 9999 lies outside 1 to"),
        ((*SWEEP, "cuda_graph=true", "accelerator=cpu"), "cuda_graph=true needs a GPU"),
        ((*SWEEP, "model.norm=layer"), "norm 'layer' is unknown; legal: batch, none"),
        (("model.depth=8", "+child.blocks=2"), "child.parent is missing"),
    ],
)
def test_bad_input_is_one_line_that_names_it(tmp_path, words, expected):
    refused = run(tmp_path, *words)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert refused.stderr.startswith("plainres: ")
    assert expected in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not list(tmp_path.rglob("record.json"))


def test_results_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for words in (("-m", *GRID), ("protocol=smoke", "model.depth=8")):
        refused = run(tmp_path / "file", *words)
        assert refused.returncode == 3
        assert len(refused.stderr.splitlines()) == 1
        assert str(tmp_path / "file") in refused.stderr


def test_a_traceback_comes_when_asked_for(tmp_path):
    refused = run(tmp_path, *SWEEP, "model.depth=21", HYDRA_FULL_ERROR="1")
    assert refused.returncode == 2
    assert "Traceback" in refused.stderr


def test_a_single_run_waits_for_no_table_of_another_configuration(tmp_path):
    own = compose_cell(tmp_path, "protocol=smoke")
    assert claim_tables([own]) is None
    refused = run(tmp_path, "protocol=smoke", "protocol.momentum=0.8")
    Users(own.results_folder / "runs" / "users.lock").leave()
    assert refused.returncode == 2
    assert "another command measures into" in refused.stderr
    assert not list(tmp_path.rglob("record.json")), "nothing was trained first"


def test_a_single_run_prints_its_line_and_joins_the_tables(tmp_path):
    ended = run(tmp_path, "protocol=smoke", "model=plain", "model.depth=8")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("plain-8-seed0: train_error ")
    assert [row.cell for row in files.read_runs(tmp_path / "depth" / "smoke")] == ["plain-8-seed0"]
