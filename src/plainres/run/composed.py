"""The cells that a command line would launch, without launching them. Imports no torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from plainres.records.errors import is_unusable, one_line
from plainres.run.cell import Cell
from plainres.run.config import CONF
from plainres.run.sweep import jobs_of


def swept_cells(words: Sequence[str]) -> list[Cell]:
    """The cells of `python -m plainres.run.train <words>`, in the order of their launch.

    Cells that differ in their seed alone are composed once, which takes a tenth of a second.

    Raises:
        ValueError: no run can have such a configuration; one line.
    """
    cells: list[Cell] = []
    composed: dict[tuple[str, ...], Cell] = {}
    with _composing(words, "train") as (jobs, compose):
        for job in jobs:
            network = tuple(word for word in job if not word.startswith("seed="))
            cell = composed.setdefault(network, composed.get(network) or compose(job))
            config = deepcopy(cell.config)
            for word in set(job) - set(network):
                config.seed = word.partition("=")[2]
            cells.append(replace(cell, config=config))
            cells[-1].check()
    return cells


def check_values(
    words: Sequence[str], name: str = "train", check: Callable[[Cell], None] = Cell.check
) -> None:
    """Raises ValueError, one line, where a value of a command line is illegal.

    Of its cells as many are composed as show each value once, but for seeds and depths.

    Args:
        name: of the configuration in conf.
        check: of a cell.
    """
    seen: set[str] = set()
    with _composing(words, name) as (jobs, compose):
        for job in jobs:
            values = [word for word in job if not word.startswith(("seed=", "model.depth="))]
            if not seen or not seen.issuperset(values):
                seen.update(values)
                check(compose(job))


@contextmanager
def _composing(
    words: Sequence[str], name: str
) -> Iterator[tuple[list[list[str]], Callable[[list[str]], Cell]]]:
    """The overrides of each cell, and what makes a cell of them."""
    overrides = [word for word in words if word != "-m"]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            config = loader.load_configuration(name, overrides, run_mode=RunMode.MULTIRUN)
            yield jobs_of(config), lambda job: Cell.of(loader.load_sweep_config(config, job))
    except Exception as error:  # Hydra has no common class for what it refuses
        if is_unusable(error):
            raise ValueError(one_line(error)) from error
        raise
