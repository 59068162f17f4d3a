"""The launchers of conf/hydra/launcher: Hydra takes them from the package hydra_plugins alone."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Processes(Launcher):
    """Runs each job in a process of its own (plainres.run.processes)."""

    def __init__(self, n_jobs: int):
        self.n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.setting: dict[str, Any] = {
            "loader": hydra_context.config_loader,
            "task": task_function,
            "config": config,
        }

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        from plainres.run import processes

        processes.launch(job_overrides, initial_job_idx, self.n_jobs, **self.setting)
        return []


with suppress(ImportError):  # of an optional package
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    class Slurm(SlurmLauncher):
        """Runs all jobs as one array job of Slurm, and waits for each (plainres.run.slurm)."""

        def __call__(self, *arguments: Any) -> None:
            """In the job. A failure is an exception, of which submitit keeps the traceback."""
            from plainres.run import slurm

            with slurm.in_job():
                _ = super().__call__(*arguments).return_value

        def launch(
            self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
        ) -> list[JobReturn]:
            from plainres.run import slurm

            loader = self.hydra_context.config_loader
            slurm.launch(self, job_overrides, initial_job_idx, loader, self.config, **self.params)
            return []
