"""The cells that a sweep's command line would launch, without launching them. Imports no torch."""

from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from plainres.records.errors import one_line
from plainres.run.cell import Cell
from plainres.run.config import CONF
from plainres.run.sweep import jobs_of


def swept_cells(words: Sequence[str]) -> list[Cell]:
    """The cells of `python -m plainres.run.train <words>`, in the order of their launch.

    Cells that differ in their seed alone are one cell, with seed 0: composing takes
    a tenth of a second.

    Raises:
        ValueError: no run can have such a configuration; one line.
    """
    overrides = [word for word in words if word != "-m"]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            config = loader.load_configuration("train", overrides, run_mode=RunMode.MULTIRUN)
            jobs = [
                tuple(word for word in job if not word.startswith("seed="))
                for job in jobs_of(config)
            ]
            cells = {
                job: Cell.of(loader.load_sweep_config(config, [*job, "seed=0"]))
                for job in dict.fromkeys(jobs)
            }
        for cell in cells.values():
            if cell.config.child is None:  # else its parent must have been trained
                cell.check()
    except Exception as error:  # Hydra has no common class for what it refuses
        raise ValueError(one_line(error)) from error
    return [cells[job] for job in jobs]
