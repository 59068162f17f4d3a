"""Runs the cells of a sweep, each in a process of its own: one that dies costs one cell.

A fork server has imported what a run needs, so that a cell starts in a fraction of a second.
Imports no torch.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobRuntime, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from plainres.records import stopping
from plainres.records.errors import give_up
from plainres.records.plan import Plan
from plainres.run.cell import Cell

BUSY = os.EX_TEMPFAIL  # status of a worker whose cell another process trains
LOST = 255  # multiprocessing's status of a worker whose fork server was killed
BUSY_SECONDS = 1.0  # between two looks at cells that other processes train
STOP_SECONDS = 4.2  # for workers to write their checkpoints and end
plan: Plan | None = None  # of the sweep, which is told what no worker can say


@dataclass(frozen=True)
class Job:
    """A cell as Hydra's launchers know it: what differs from the sweep's configuration."""

    number: int
    overrides: Sequence[str]
    loader: Any
    sweep: DictConfig

    @cached_property
    def config(self) -> DictConfig:
        config = self.loader.load_sweep_config(self.sweep, list(self.overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{self.number}"
            config.hydra.job.num = self.number
        return config

    @cached_property
    def cell(self) -> Cell:
        return Cell.of(self.config)

    @property
    def done(self) -> bool:
        """Whether nothing is to be trained; what cannot be read is the worker's to report."""
        with suppress(ValueError, OSError):
            return self.cell.parent_diverged or self.cell.finished() is not None
        return False


def start_server() -> None:
    """Starts the fork server if none runs; the environment must limit instructions by now.

    Signals are blocked in it and in what it starts: this process decides, and no worker is lost
    between its start and its first handler.
    """
    forkserver.set_forkserver_preload(["plainres.run.preloaded"])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
    try:
        resource_tracker.ensure_running()  # which unblocks signals when it starts
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def launch(
    overrides: Sequence[Sequence[str]],
    first_number: int,
    at_once: int,
    loader: Any,
    task: TaskFunction,
    config: DictConfig,
) -> None:
    """Runs jobs, as many at once; cells that other processes train come last.

    Args:
        overrides: of each job.
        first_number: of the first job in Hydra's count.
        loader: Hydra's config loader.
        config: of the sweep.
    """
    if at_once < 1:
        from plainres.training.machine import num_cores

        at_once = num_cores()
    waiting = [Job(first_number + i, words, loader, config) for i, words in enumerate(overrides)]
    running: dict[Any, tuple[Any, Job]] = {}  # by sentinel
    with _ended(running):
        while True:
            for job in list(waiting):
                if len(running) == at_once:
                    break
                if job.done:
                    waiting.remove(job)
                elif (other := job.cell.trained_by()) is None:
                    waiting.remove(job)
                    process = _started(job, task)
                    running[process.sentinel] = process, job
                elif plan and not plan.notices:
                    plan.notify(
                        f"{job.cell.name} is being trained by process {other}; cells of other "
                        "processes come last, and this sweep waits for them"
                    )
            if not (waiting or running):
                break
            timeout = BUSY_SECONDS if waiting and len(running) < at_once else None
            for sentinel in connection.wait(list(running), timeout):
                process, job = running.pop(sentinel)
                process.join()
                if process.exitcode == LOST:  # it may be alive, under its cell's lock
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                if process.exitcode == BUSY:
                    waiting.append(job)
                elif process.exitcode and plan:
                    plan.fail(job.cell.folder, cause_of_death(process.exitcode, job.cell))


def cause_of_death(status: int, cell: Cell) -> str:
    """Why a worker ended, in one line; its status is multiprocessing's, in which -9 is SIGKILL."""
    number = -status if status < 0 else status - 128
    try:
        cause = f"was killed by {signal.Signals(number).name}"
    except ValueError:
        cause = "was lost" if status == LOST else f"ended with status {status}"
    if number == signal.SIGKILL:
        cause += " (out of memory?)"
    how = "continues from its checkpoint" if cell.has_checkpoint else "starts it again"
    return f"its process {cause}; the same command {how}"


def _started(job: Job, task: TaskFunction) -> Any:
    start_server()
    process = multiprocessing.get_context("forkserver").Process(
        target=_work, args=(job.config, task), name=job.cell.name
    )
    process.start()
    return process


def _work(config: DictConfig, task: TaskFunction) -> None:
    """In a worker: one job, as Hydra's own launchers run it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    stopping.listen(parent.sentinel)
    setup_globals()
    version.setbase("1.3")
    JobRuntime.instance().set("name", config.hydra.job.name)
    no_loader: Any = None
    context = HydraContext(config_loader=no_loader, callbacks=Callbacks(config))
    try:
        _ = run_job(
            hydra_context=context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        ).return_value
    except Exception as error:
        give_up([error])


@contextmanager
def _ended(running: dict[Any, tuple[Any, Job]]) -> Iterator[None]:
    """After this block no worker is alive, however it ends; they have time for a checkpoint."""
    try:
        yield
    finally:
        deadline = time.monotonic() + STOP_SECONDS
        workers = [process for process, _ in running.values()]
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.exitcode is None:
                worker.kill()
