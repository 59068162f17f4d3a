"""The launcher `processes`: Hydra takes launchers from the package hydra_plugins alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import II, DictConfig


@dataclass
class ProcessesConfig:
    """hydra/launcher=processes."""

    _target_: str = "hydra_plugins.plainres_launcher.Processes"
    n_jobs: int = II("jobs")  # cells at once; -1: one per core


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


ConfigStore.instance().store(
    group="hydra/launcher", name="processes", node=ProcessesConfig, provider="plainres"
)
