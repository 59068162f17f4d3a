"""Faults that end the process or fail a change of a file, at every change and at any time."""

import errno
import shutil
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random

from experiments.torture.changes import Action, at, die, fails, torn
from experiments.torture.places import Place, Result, Run, Site

Listed = list[tuple[str, Run]]  # what is done, in a few words, and what does it
CHAIN = 3  # kills of one cell
CHAINS = 30
CELL_SECONDS = 0.8


def spread(items: Iterable, count: int) -> list:
    """`count` of the items, evenly spread, or all."""
    listed = list(items)
    if len(listed) <= count:
        return listed
    return [listed[(2 * index + 1) * len(listed) // (2 * count)] for index in range(count)]


def at_change(action: Action, site: Site, place: Place, generator: Random) -> Result:
    place.fill(site.fresh).run(action=action)
    return place.outcome()


def crash(site: Site) -> Listed:
    numbers = site.numbers()
    return [(f"before change {n}", partial(at_change, at(n, die), site)) for n in numbers]


def half_written(site: Site) -> Listed:
    numbers = site.numbers("write")
    return [(f"half of change {n}", partial(at_change, torn(n), site)) for n in numbers]


def failing(site: Site) -> Listed:
    kinds = ((errno.EIO, False), (errno.EROFS, True), (errno.ESTALE, False))
    return [
        (f"{errno.errorcode[e]} at change {n}", partial(at_change, fails(n, e, later), site))
        for n in spread(site.numbers(), 25)
        for e, later in kinds
    ]


def chained(folder: Path | None, site: Site, place: Place, generator: Random) -> Result:
    """`folder`: where the results are, if not beside the temporary files."""
    temporary = place.environment["TMPDIR"]
    if folder is not None:
        place = Place(folder / place.folder.name)
        place.environment["TMPDIR"] = temporary
    place.fill(site.fresh)
    for _ in range(CHAIN):
        if place.run(strike=(generator.uniform(0, CELL_SECONDS), signal.SIGKILL)).status == 0:
            shutil.rmtree(place.cell)  # it was faster, and begins again
    return place.outcome()


def kill(site: Site) -> Listed:
    return [(f"at {CHAIN} random times", partial(chained, None, site))] * CHAINS


def kill_elsewhere(site: Site) -> Listed | str:
    if site.elsewhere is None:
        return "there is no other file system"
    return [(f"at {CHAIN} random times", partial(chained, site.elsewhere, site))] * CHAINS


def gone(name: str, number: int, site: Site, place: Place, generator: Random) -> Result:
    path = getattr(place, name)
    place.fill(site.fresh).wanted = {}  # the neighbour may go too
    place.run(action=at(number, lambda: shutil.rmtree(path, ignore_errors=True)))
    return place.fill(site.fresh).outcome()


def vanish(site: Site) -> Listed:
    return [
        (f"{name} before change {number}", partial(gone, name, number, site))
        for number in spread(site.numbers(), 8)
        for name in ("cell", "results", "temporary")
    ]


# Name → what is done, for the README; all faults of a site, or why there are none
Kinds = dict[str, tuple[str, Callable[[Site], Listed | str]]]
KINDS: Kinds = {
    "crash": ("kill -9 just before each change of a file", crash),
    "torn": ("kill -9 in the middle of each write", half_written),
    "kill": ("kill -9 at three random times, one after another", kill),
    "kill-elsewhere": ("the same; temporary files are on another file system", kill_elsewhere),
    "disk-error": ("one change of a file, or all from one on, fail as on a bad disk", failing),
    "vanished": ("a folder is deleted while the cell trains", vanish),
}
