"""Sweeps on a real Slurm of one node, which a test starts; skips where it cannot."""

import importlib.util
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import composing
import pytest
import trained
from composing import ROOT
from one_node_slurm import Slurm, missing
from test_sweep import command, wait_for

from plainres.records import files

pytestmark = pytest.mark.slurm
GRID = ("-m", "+experiment=depth", "protocol=smoke", "model.depth=8", "seed=0,1,2")
LIMITED, CANCELLED = "plain-8-seed0", "plain-8-seed1"  # the first two, which run side by side
MINUTES = 240  # seconds, on a busy machine
ON_SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.partition=low",
    "hydra.launcher.timeout_min=1",
    "hydra.launcher.signal_delay_s=5",  # Slurm looks every 30 s: a cell is told after 25 to 55 s
)


def rows(results: Path) -> dict[str, dict]:
    found = files.read_runs(results / "depth" / "smoke")
    return {row.cell: trained.numbers(row) for row in found}


class Cluster:
    """Sweeps on a Slurm; two cells are slow for as long as they have to be.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path, slurm: Slurm):
        self.slurm, self.results, self.slow = slurm, folder / "results", folder / "slow"
        self.runs = self.results / "depth" / "smoke" / "runs"
        self.slow.mkdir()
        for name in (LIMITED, CANCELLED):
            (self.slow / name).touch()

    @contextmanager
    def sweep(self):
        """A sweep that is typed at a terminal; `text` holds what it says when it has ended."""
        callback = f"+callbacks.slow={{_target_:slow_cells.Slow,folder:'{self.slow}'}}"
        words = command(self.results, *GRID, *ON_SLURM, callback)
        path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **self.slurm.environment, "PYTHONPATH": path}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
        )
        ended = SimpleNamespace(process=process)
        try:
            yield ended
            while process.poll() is None:
                self.slurm.hasten()
                time.sleep(0.5)
        finally:
            process.kill()
            ended.stdout, ended.stderr = process.communicate()

    def progress(self, cell: str) -> dict:
        path = self.runs / cell / files.PROGRESS_FILE
        return json.loads(path.read_text()) if path.exists() else {"iteration": 0, "sweep": None}

    def wait_until_trains(self, *cells: str, beyond: int = 0) -> None:
        def train() -> bool:
            self.slurm.hasten()
            seen = [self.progress(cell) for cell in cells]
            return all(each["sweep"] and each["iteration"] > beyond for each in seen)

        wait_for(train, MINUTES)

    def board(self) -> list[str]:
        """What `plainres status` shows in a second terminal."""
        words = ("-m", "experiments", "status", "depth", f"results_dir={self.results}", "--json")
        shown = json.loads(composing.python(*words).stdout)["sweeps"]
        return [
            f"{each['arm']}-8-seed{each['seed']} {each['status']}" for each in shown[0]["cells"]
        ]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A sweep that is harmed in every way, typed three times, beside one on this machine."""
    if reason := missing():
        pytest.skip(reason)
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("no submitit (pip install -e '.[slurm]')")
    local = tmp_path_factory.mktemp("local")
    assert composing.run(*command(local, *GRID)).returncode == 0
    seen = SimpleNamespace(local=rows(local))
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        cluster = Cluster(tmp_path_factory.mktemp("sweep"), slurm)
        seen.runs = cluster.runs
        with cluster.sweep() as seen.first:
            cluster.wait_until_trains(LIMITED, CANCELLED)
            slurm.kill_node()
            array = next(iter(slurm.jobs())).split("_")[0]
            slurm.call("scancel", f"{array}_1")
            slurm.start_node()
            wait_for(lambda: cluster.progress(LIMITED)["sweep"] is None, MINUTES)
            seen.requeued = slurm.jobs(), cluster.board()
            (cluster.slow / LIMITED).unlink()
        seen.after_first = set(rows(cluster.results))
        with cluster.sweep() as seen.second:
            cluster.wait_until_trains(CANCELLED, beyond=cluster.progress(CANCELLED)["iteration"])
            seen.second.process.send_signal(signal.SIGINT)
        seen.jobs_after_second = slurm.jobs()
        with cluster.sweep() as seen.third:
            cluster.wait_until_trains(CANCELLED, beyond=cluster.progress(CANCELLED)["iteration"])
            slurm.call("sbatch", "--partition=high", "--ntasks=2", "--wrap=true", "--output=none")
            wait_for(lambda: any("BeginTime" in state for state in slurm.jobs().values()), MINUTES)
            seen.preempted = slurm.jobs()
            (cluster.slow / CANCELLED).unlink()
        seen.rows = rows(cluster.results)
    return seen


def continued(seen, cell: str) -> int:
    """How often a cell went on from a checkpoint."""
    return (seen.runs / cell / "train.log").read_text().count("continues at iteration")


def test_a_cancelled_job_fails_alone_and_the_sweep_says_so(seen):
    assert seen.first.process.returncode == 3, seen.first.stderr
    assert seen.after_first == set(seen.local) - {CANCELLED}
    (line,) = seen.first.stderr.splitlines()
    assert line.startswith(f"plainres: {CANCELLED} failed: job ")
    assert "ended as CANCELLED (logs: " in line
    assert line.endswith("the same command continues from its checkpoint")


def test_a_cell_that_meets_its_time_limit_is_queued_again_and_continues(seen):
    jobs, board = seen.requeued
    assert "PENDING BeginTime" in jobs.values()
    assert f"{LIMITED} waiting" in board
    assert continued(seen, LIMITED) >= 1


def test_an_interrupted_sweep_leaves_no_job_and_loses_nothing(seen):
    assert seen.second.process.returncode == 130
    assert "interrupted (SIGINT): 5 of 6 cells are finished, 1 continue" in seen.second.stderr
    assert all(state.startswith("COMPLETING") for state in seen.jobs_after_second.values())


def test_a_cell_whose_place_is_needed_is_queued_again(seen):
    assert seen.third.process.returncode == 0, seen.third.stderr
    assert any("BeginTime" in state for state in seen.preempted.values())
    assert continued(seen, CANCELLED) >= 3


def test_the_numbers_are_those_of_a_sweep_on_this_machine(seen):
    assert seen.rows == seen.local
    assert len(seen.rows) == 6


def test_only_what_failed_leaves_logs(seen):
    logs = {path.parent.name for path in seen.runs.glob(".submitit/*/*.err")}
    assert len(logs) == 2  # the cancelled job and the interrupted one
