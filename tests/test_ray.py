"""A sweep on a Ray of this machine; skips without hydra-ray-launcher."""

import importlib.util
import os
import signal
from types import SimpleNamespace

import pytest
from test_sweep import command, numbers, run, slow_process, wait_for

from plainres.records import files

GRID = ("-m", "+experiment=depth", "protocol=smoke", "model.depth=8", "seed=0")
ON_RAY = ("hydra/launcher=ray_tasks", "hydra.launcher.ray.init.num_cpus=2", "checkpoint_seconds=1")
KILLED = "plain-8-seed0"


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A sweep of which one cell's process is killed, beside one on this machine."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("no Ray (pip install -e '.[ray]')")
    results, local = tmp_path_factory.mktemp("ray"), tmp_path_factory.mktemp("local")
    assert run(local, *GRID).returncode == 0
    cell = results / "depth" / "smoke" / "runs" / KILLED
    with slow_process(results, command(results, *GRID, *ON_RAY)) as process:
        wait_for(lambda: list(cell.glob("*.ckpt")), 240)
        progress = files.read_progress(cell)
        assert progress is not None
        os.kill(progress.pid, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=300)
    folders = [each / "depth" / "smoke" for each in (results, local)]
    log = (cell / "train.log").read_text()
    return SimpleNamespace(
        status=process.returncode, stdout=stdout, stderr=stderr, folders=folders, log=log
    )


def test_a_cell_whose_process_is_killed_continues_on_ray(seen):
    assert seen.status == 0, seen.stderr
    assert "continues at iteration" in seen.log
    assert seen.stdout.count(KILLED) >= 1


def test_the_numbers_are_those_of_a_sweep_on_this_machine(seen):
    on_ray, local = map(numbers, seen.folders)
    assert on_ray == local
    assert len(local) == 2
