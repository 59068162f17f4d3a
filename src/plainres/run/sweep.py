"""A sweep: a Hydra callback in the process that starts the workers.

It refuses what cannot run before anything runs, shows how far the cells are, gathers their records
and reports failures. Imports no torch before it must.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from plainres.records import files, stopping
from plainres.records.errors import give_up
from plainres.records.identity import config_hash
from plainres.records.plan import Plan, PlannedCell, path_of
from plainres.records.schema import Record, describe
from plainres.run import processes
from plainres.run.cell import Cell, claim_tables, set_other_images_aside, standing
from plainres.run.config import announce
from plainres.run.display import Display
from plainres.run.estimate import expected_seconds
from plainres.run.watch import DONE, Watch
from plainres.training.instructions import limit_instructions

PART_VARIABLE = "PLAINRES_PART"


def jobs_of(config: DictConfig) -> list[list[str]]:
    """The overrides of each cell of a sweep, in the order in which Hydra launches them.

    Args:
        config: what Hydra composed for the sweep itself, its `hydra` node included.
    """
    loader = GlobalHydra.instance().config_loader()
    params = [f"{name}={values}" for name, values in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(
        [*params, *config.hydra.overrides.task]
    )
    return BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]


def cells_of(config: DictConfig) -> list[Cell]:
    """The cells of a sweep: `jobs_of`, composed."""
    loader = GlobalHydra.instance().config_loader()
    return [Cell.of(loader.load_sweep_config(config, job)) for job in jobs_of(config)]


def check_launcher(config: DictConfig) -> None:
    """Raises ValueError where the package of a launcher is not installed; names what to install."""
    if config.hydra.launcher._target_ not in Plugins.instance().class_name_to_class:
        name = config.hydra.runtime.choices["hydra/launcher"].partition("_")[0]
        raise ValueError(
            f"the launcher {name} is not installed: .venv/bin/pip install -e '.[{name}]'"
        )


def at_once(launcher: DictConfig) -> int:
    """How many cells a launcher runs at the same time; below 1: one per core.

    Raises:
        ValueError: its configuration says no number.
    """
    for name in ("n_jobs", "array_parallelism", "ray.init.num_cpus"):
        jobs = OmegaConf.select(launcher, name)
        if jobs is None:
            continue
        if not isinstance(jobs, int) or (jobs < 1 and name != "n_jobs"):
            raise ValueError(f"hydra.launcher.{name}={jobs} is not a number of cells")
        return jobs
    return -1 if "ray" in launcher else 1


class Screen(Console):
    """Where a sweep prints: a reader that is gone (`| head`) stops the lines, not the sweep."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Sweep(Callback):
    """Hydra callback: checks, shows, gathers, reports."""

    def __init__(self, sweep: str | None = None, folder: str | None = None) -> None:
        """Without arguments in the sweep's own process; in its jobs with its id and folder."""
        self.sweep, self.folder = sweep, folder
        self.cells: list[Cell] = []
        self.console = Screen(soft_wrap=True)
        self._display: Display | None = None

    def __reduce__(self) -> tuple[type["Sweep"], tuple[str | None, str]]:
        return Sweep, (self.sweep, str(Path.cwd()))  # launchers send it to jobs on other machines

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if self.sweep and self.folder:
            os.environ[files.SWEEP_VARIABLE] = self.sweep
            os.chdir(self.folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = self.sweep = os.environ[files.SWEEP_VARIABLE] = uuid4().hex  # workers inherit it
        launcher = config.hydra.launcher
        local = launcher._target_.endswith(".Processes")
        try:
            check_launcher(config)
            jobs = at_once(launcher)
            self.cells = cells_of(config)
            announce(cell.config for cell in self.cells)
            stopping.what_stands = self._what_stands
            unfinished = self._prepare(local)
        except Exception as error:  # Hydra would warn of an exception and go on; an exit ends it
            give_up([error])
        if not unfinished:
            count = len(self.cells)
            self._print(
                f"all {count} cells are finished; "
                "FORCE=1 with another configuration measures them again"
                if count
                else "no cell is left to train"
            )
            sys.exit(0)
        from plainres.training.machine import num_cores

        jobs = min(jobs if jobs > 0 else num_cores(), len(unfinished))
        try:
            processes.plan = self._plan(sweep, jobs, unfinished)
        except Exception as error:
            give_up([error])
        atexit.register(processes.plan.close)
        self._display = Display([Watch(processes.plan)], self.console, self._gather)
        self._display.start()
        atexit.register(self._display.stop)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        failures: list[Exception | str] = []
        for last in (self._unfinished, self._gather):
            try:
                failures += last() or []
            except Exception as error:  # which Hydra would make a warning of
                failures.append(error)
        if failures:
            give_up(failures)

    def _unfinished(self) -> list[str]:
        """A line for each cell that has no record, at the end."""
        if self._display is None:
            return []
        self._display.stop()
        return [s.line for s in self._display.watches[0].states() if s.status != DONE]

    def _what_stands(self) -> str:
        """For the line of a sweep that was interrupted, which must not meet the display."""
        if self._display is not None:
            self._display.stop(0.4)
        return standing(self.cells)

    def _prepare(self, local: bool) -> list[Cell]:
        """Refuses what cannot run, names what is finished, returns the cells that are left.

        Args:
            local: cells run on this machine; the fork server imports while this process reads the
                images.
        """
        folders = [cell.folder for cell in self.cells]
        for folder in folders:
            if folders.count(folder) > 1:
                raise ValueError(
                    f"two cells of this sweep share the folder {folder}: "
                    "sweep over arm, depth and seed only"
                )
        for cell in [cell for cell in self.cells if cell.parent_diverged]:
            self._print(f"skipped {cell.name}: its parent {cell.parent_folder} diverged")
            self.cells.remove(cell)
        for cell in self.cells:
            cell.check()
            if (refusal := cell.refusal()) and not cell.config.force:
                raise ValueError(refusal)
        unfinished, finished = [], []
        for cell in self.cells:
            if record := cell.finished():
                finished.append((cell, record))
                prefix = f"{cell.config.folder}/" if self._several_folders else ""
                self._print(f"skipped, finished: {prefix}{describe(record)}")
                if cell.has_checkpoint and files.read_record(cell.folder) and not cell.trained_by():
                    cell.tidy()  # the process was killed between the record and this
            else:
                unfinished.append(cell)
                if cell.damage:
                    self._print(cell.damage)
        if unfinished:
            for folder in self._results_folders:
                files.check_writable(folder / "runs")
            self._limit_instructions()
            if local:
                processes.start_server()
            # an error of the data shows here, once, and the workers find the decoded images
            for note in unfinished[0].notes():
                self._print(note)
            if local:
                for cell in _shallowest(unfinished):
                    cell.check_parts()
        if unfinished or any(cell.has_own_images for cell in self.cells):
            self._limit_instructions()
            unfinished += set_other_images_aside(finished)
        for folder in self._results_folders:
            cells = [cell for cell in self.cells if cell.results_folder == folder]
            if line := claim_tables(cells):
                self._print(line)
        try:
            self._gather()  # a damaged table shows here, and not after hours
        except files.DamagedCellsError:
            if not unfinished:
                raise  # else at the end: the sweep may measure these cells again
        return unfinished

    def _limit_instructions(self) -> None:
        """Before torch is loaded here; the workers inherit the environment."""
        configs = [cell.config for cell in self.cells]
        if len({config.instruction_set for config in configs}) > 1:
            raise ValueError("cells of one sweep have one instruction_set; a sweep for each")
        limit_instructions(configs[0].instruction_set, configs[0].accelerator)

    @property
    def _results_folders(self) -> list[Path]:
        return sorted({cell.results_folder for cell in self.cells})

    @property
    def _several_folders(self) -> bool:
        return len(self._results_folders) > 1

    def _title(self) -> str:
        config, folders = self.cells[0].config, self._results_folders
        name = f"{len(folders)} folders" if self._several_folders else config.folder
        part = os.environ.get(PART_VARIABLE)  # of several sweeps, one after the other
        return f"{config.slug}/{name} on {config.data.label}{f', {part}' if part else ''}"

    def _plan(self, sweep: str, jobs: int, unfinished: Sequence[Cell]) -> Plan:
        """Writes the plan, and returns it."""
        path = path_of(unfinished[0].results_folder, sweep)
        left = {cell.folder for cell in unfinished}
        cells = [
            PlannedCell(
                arm=cell.arm,
                depth=cell.config.model.depth,
                seed=cell.config.seed,
                results=cell.config.folder,
                folder=os.path.relpath(cell.folder, path.parent),
                iterations=cell.config.protocol.iterations,
                config_hash=config_hash(cell.identity),
                keep_weights=cell.config.keep_weights,
                expected=_expected_seconds(cell),
                finished=cell.folder not in left,
            )
            for cell in self.cells
        ]
        plan = Plan(sweep, self._title(), jobs, cells, path)
        plan.write()
        return plan

    def _gather(self) -> None:
        damaged = []
        for folder in self._results_folders:
            try:
                files.gather(folder)
            except files.DamagedCellsError as error:
                damaged.append(str(error))
        if damaged:
            raise files.DamagedCellsError("; ".join(damaged))

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False)


def _shallowest(cells: Sequence[Cell]) -> Iterable[Cell]:
    """Of cells that differ in depth, seed or protocol alone the shallowest one."""
    found: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.config.model.depth):
        model = {**cell.identity["model"], "depth": None}
        found.setdefault(str([model, cell.identity["data"], cell.config.callbacks]), cell)
    return found.values()


def _expected_seconds(cell: Cell) -> float | None:
    """Of training, from this machine's table, the committed one, or that of the same protocol."""
    protocol, depth = cell.config.protocol, cell.config.model.depth
    of_protocol = Path(cell.config.committed_dir, "depth", protocol.name)
    for folder in (cell.results_folder, cell.committed_folder, of_protocol):
        if rows := _rows(folder):
            return expected_seconds(rows, cell.arm, depth, protocol.iterations)
    return None


@cache
def _rows(folder: Path) -> list[Record]:
    """The records of a folder; none of a damaged table, of which the sweep speaks elsewhere."""
    with suppress(ValueError, OSError):
        return files.read_runs(folder)
    return []
