"""Runs the cells of a sweep as one array job of Slurm, through submitit. Imports no torch.

A cell that is told to stop writes its checkpoint. At its time limit, and where Slurm needs its
place, it is queued again and continues; a job that is cancelled is not. Slurm says what became of
a job by `squeue` alone: a cluster need not have accounting.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from hydra.core.singleton import Singleton
from omegaconf import DictConfig

from plainres.records import files, stopping
from plainres.records.errors import one_line
from plainres.run import processes
from plainres.run.processes import STOP_SECONDS, Job

SECONDS = 10.0  # between two questions to Slurm
TERM_SECONDS = 25.0  # for a job to end after SIGTERM; Slurm's own limit is 30 where nobody set it
# Of a job that will not run again
ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "NODE_FAIL"),
    *("BOOT_FAIL", "PREEMPTED", "REVOKED", "SPECIAL_EXIT"),
}


def launch(
    run: Any,
    overrides: Sequence[Sequence[str]],
    first_number: int,
    loader: Any,
    config: DictConfig,
    *,
    submitit_folder: str,
    max_num_timeout: int,
    **parameters: Any,
) -> None:
    """Submits jobs and waits for them; those of finished cells are left out.

    Args:
        run: what a job calls, with the arguments of hydra-submitit-launcher.
        overrides: of each job.
        first_number: of the first job in Hydra's count.
        loader: Hydra's config loader.
        config: of the sweep.
        parameters: of conf/hydra/launcher/slurm.yaml, by the names that submitit gives them.

    Raises:
        ValueError: Slurm does not take the job; with its own words.
    """
    import submitit

    jobs = [Job(first_number + i, words, loader, config) for i, words in enumerate(overrides)]
    jobs = [job for job in jobs if not job.done]
    if not jobs:
        return
    shared = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
    named = {name if name in shared else f"slurm_{name}": each for name, each in parameters.items()}
    state = Singleton.get_state()
    arguments = [
        (list(job.overrides), "hydra.sweep.dir", job.number, str(job.number), state) for job in jobs
    ]
    try:
        executor = submitit.AutoExecutor(
            submitit_folder, cluster="slurm", slurm_max_num_timeout=max_num_timeout
        )
        executor.update_parameters(**named)
        submitted = executor.map_array(run, *zip(*arguments, strict=True))
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise ValueError(f"hydra/launcher=slurm: {one_line(error)}") from error
    left = dict(zip(submitted, jobs, strict=True))
    if processes.plan:
        array = submitted[0].job_id.split("_")[0]
        processes.plan.notify(f"Slurm has {len(jobs)} cells as job {array}")
    try:
        _wait(left)
    finally:
        _cancel(left)


def _wait(left: dict[Any, Job]) -> None:
    """Until no job is left; says why jobs ended that have no result."""
    asked = time.monotonic()
    gone: set[Any] = set()  # as Slurm says; their result may still be on its way
    while left:
        time.sleep(1)
        for job in list(left):
            if job.paths.result_pickle.exists():
                _end(job, left.pop(job), _error(job))
        if time.monotonic() - asked < SECONDS or (states := _states()) is None:
            continue
        asked = time.monotonic()
        for job in list(left):
            state = states.get(job.job_id, "GONE")
            if state not in {"GONE", *ENDED}:
                gone.discard(job)
                if state == "PENDING":
                    _waits(left[job])
            elif job in gone:
                _end(job, left.pop(job), f"ended as {state}")
            else:
                gone.add(job)
                with suppress(OSError):  # a network file system looks again
                    job.paths.folder.chmod(job.paths.folder.stat().st_mode)


def _states() -> Mapping[str, str] | None:
    """State by job, of this user's that Slurm remembers; None: it does not answer."""
    words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T"]
    asked = subprocess.run(
        [*words, f"--user={os.getuid()}"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return None
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines() if " " in line)


def _error(job: Any) -> str | None:
    """The last line of a job's traceback; None: it has done what it had to do."""
    outcome, result = job._get_outcome_and_result()
    return f"ended with {result.strip().splitlines()[-1]}" if outcome == "error" else None


def _end(job: Any, of: Job, reason: str | None) -> None:
    """Says why a job failed, and leaves its files; deletes those of the others."""
    if reason is None:
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    elif processes.plan and not of.done:
        how = "continues from its checkpoint" if of.cell.has_checkpoint else "starts it again"
        text = f"job {job.job_id} {reason} (logs: {job.paths.folder}); the same command {how}"
        processes.plan.fail(of.cell.folder, text)


def _waits(of: Job) -> None:
    """Takes a cell that is queued again out of those that run, for the displays."""
    folder = of.cell.folder
    progress = files.read_progress(folder)
    if progress is None or progress.sweep != os.environ.get(files.SWEEP_VARIABLE):
        return
    with suppress(OSError), of.cell.locked(wait=False):
        files.write_json(folder / files.PROGRESS_FILE, {**asdict(progress), "sweep": None})


def _cancel(left: Mapping[Any, Job]) -> None:
    """The jobs that are left; their cells have time for a checkpoint."""
    if not left:
        return
    names = [job.job_id for job in left]
    subprocess.run(["scancel", *names], check=False)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and any(job.cell.trained_by() for job in left.values()):
        time.sleep(0.1)


@contextmanager
def in_job() -> Iterator[None]:
    """In a job: what Slurm sends asks the cell to stop; then the job is queued again.

    submitit would do that in its signal handler, in which no cell can write its checkpoint. SIGTERM
    means that Slurm needs the place, or that a person has cancelled the job.
    """
    signals = (signal.SIGUSR1, signal.SIGUSR2)  # one is submitit's
    handlers = [handler for handler in map(signal.getsignal, signals) if callable(handler)]
    stopping.listen(seconds=TERM_SECONDS)
    for number in signals:
        stopping.heed(number)
    try:
        yield
    except stopping.Stopped as stopped:
        if stopped.number in signals or _runs(os.environ["SLURM_JOB_ID"]):
            for queue_again in handlers:
                queue_again(stopped.number, None)
        raise


def _runs(job_id: str) -> bool:
    """Whether a job that was told to end is still to run, as Slurm sees it."""
    words = ["squeue", "--noheader", "--format=%T", f"--jobs={job_id}"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    return asked.stdout.strip() == "RUNNING"
