"""A sweep as commands: `plainres sweep <question>` runs one plain Hydra command after another.

Most questions are one sweep of conf/experiment/<slug>.yaml. experiments/<slug>/grid.py says which
options the question takes (`TAKES`), and has a `commands` function where its parts are unlike.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DEPTHS = (110, 56, 44, 32, 20)  # deepest first, so that cells that run side by side end together
SHALLOW = (14, 8)
SLUGS = sorted(path.parent.name for path in Path(__file__).parent.glob("*/claims.py"))


_PLAIN = re.compile(r"(?!(?i:null|true|false|inf|nan)$)[a-z_][\w.-]*", re.ASCII | re.IGNORECASE)


def words_of(name: str, text: str) -> list[str]:
    """The words of a variable, as a shell splits them.

    Raises:
        ValueError: a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{name.upper()}={text} cannot be split into words: {error}") from None


def literal(text: str) -> str:
    """A value that Hydra takes as this very text: no list, number or interpolation."""
    if _PLAIN.fullmatch(text):
        return text
    return (
        '"'
        + re.sub(r'(\\*)("|\$\{|$)', lambda at: at[1] * 2 + "\\" * bool(at[2]) + at[2], text)
        + '"'
    )


# Launcher → option of a sweep → the key of conf/hydra/launcher that it sets
LAUNCHERS = {
    "local": {"jobs": "jobs"},
    "slurm": {
        "partition": "hydra.launcher.partition",
        "gpus": "hydra.launcher.gpus_per_node",
        "hours": "hydra.launcher.timeout_min",
        "jobs": "hydra.launcher.array_parallelism",
    },
    "ray": {
        "gpus": "hydra.launcher.ray.remote.num_gpus",
        "jobs": "hydra.launcher.ray.init.num_cpus",
    },
}


@dataclass(frozen=True)
class Command:
    """One process: `python -m <module> <words>`, with variables added to its environment."""

    module: str
    words: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """What a person asked for; lists as written, such as `20,56`. None: the question's own.

    Args:
        variants: of the question's variants (settings, networks, remedies, scales).
        name: of the results folder.
        surface: Hydra overrides of plainres.instruments.landscape.
        launcher: of LAUNCHERS; the options below it are its own.
        overrides: any Hydra overrides, passed on last.
    """

    slug: str
    protocol: str = "quick"
    seeds: str = "0"
    depths: str | None = None
    arms: str | None = None
    variants: str | None = None
    name: str | None = None
    surface: str | None = None
    shallow: bool = False
    launcher: str = "local"
    partition: str | None = None
    gpus: str | None = None
    hours: str | None = None
    jobs: str | None = None
    force: bool = False
    missing: bool = False
    overrides: Sequence[str] = ()

    @property
    def folder(self) -> list[str]:
        """The override that names the results folder, if a person named it."""
        return [f"folder={literal(self.name)}"] if self.name else []

    @property
    def shared(self) -> list[str]:
        """The overrides that every cell of the sweep gets."""
        depths = self.depths
        if self.shallow:
            given = depths.split(",") if depths else map(str, DEPTHS)
            depths = ",".join(dict.fromkeys([*given, *map(str, SHALLOW)]))
        words = [f"seed={self.seeds}"]
        words += [f"model.depth={depths}"] if depths else []
        words += [f"jobs={self.jobs}"] if self.jobs and self.launcher == "local" else []
        words += ["force=true"] if self.force else []
        words += ["missing=true"] if self.missing else []
        return [*words, *self.overrides]

    @property
    def launched(self) -> list[str]:
        """The overrides that say how cells are launched, where it is not on this machine.

        Raises:
            ValueError: no such launcher, or it has no such option; names what is legal.
        """
        if self.launcher not in LAUNCHERS:
            raise ValueError(f"no launcher {self.launcher!r}; choose {', '.join(LAUNCHERS)}")
        keys = LAUNCHERS[self.launcher]
        given = {name: getattr(self, name) for name in LAUNCHERS["slurm"]}
        for name, value in given.items():
            if value and name not in keys:
                names = ", ".join(each.upper() for each in keys)
                raise ValueError(
                    f"LAUNCHER={self.launcher} takes no {name.upper()}; it takes {names}"
                )
        if self.launcher == "local":
            return []
        if self.hours:
            given["hours"] = _minutes(self.hours)
        words = [
            f"{keys[name]}={literal(value) if name == 'partition' else value}"
            for name, value in given.items()
            if value
        ]
        # the package of the Ray launcher has a configuration called ray
        name = {"ray": "ray_tasks"}.get(self.launcher, self.launcher)
        return [f"hydra/launcher={name}", *words]

    def train(self, *words: str) -> Command:
        """A sweep of this question's grid with further overrides."""
        grid = ["-m", f"+experiment={self.slug}"]
        return Command("plainres.run.train", [*grid, *words, *self.launched, *self.shared])


def _minutes(hours: str) -> str:
    try:
        minutes = math.ceil(60 * float(hours))
    except (ValueError, OverflowError):
        minutes = 0
    if minutes < 1:
        raise ValueError(f"HOURS={hours} is not a number of hours above 0")
    return str(minutes)


def takes(slug: str) -> tuple[str, ...]:
    """The options of a sweep that a question takes beside those that all take."""
    return getattr(_module(slug), "TAKES", ("protocol", "arms", "name"))


def commands(sweep: Sweep) -> list[Command]:
    """The commands of a sweep, in their order."""
    own = getattr(_module(sweep.slug), "commands", None)
    if own is not None:
        return own(sweep)
    words = [f"protocol={sweep.protocol}"] if "protocol" in takes(sweep.slug) else []
    words += [f"model={sweep.arms}"] if sweep.arms else []
    return [sweep.train(*words, *sweep.folder)]


def _module(slug: str) -> Any:
    name = f"experiments.{slug}.grid"
    return import_module(name) if find_spec(name) else None
