"""Faults of whole sweeps, which are real commands with worker processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from random import Random

from experiments.torture import judge, zygote
from experiments.torture.crashes import CELL_SECONDS, Kinds, Listed
from experiments.torture.places import Place, Result, Site
from experiments.torture.zygote import HANGS, Ended
from plainres.run.config import ROOT

SWEEP = (
    *("-m", "+experiment=depth", "protocol=smoke", "model=plain,residual", "model.depth=8"),
    *("protocol.iterations=400", "protocol.log_every=20", "protocol.evaluate_every=200"),
    *("keep_weights=true", "threads=1", "accelerator=cpu", "checkpoint_seconds=0.1"),
)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LIMIT = 180.0  # seconds of a whole sweep
OUT_WITHIN = 10.0  # seconds after a signal, and until nothing of a killed sweep is alive
SHIFTED = """
import time
now = time.time
time.time = lambda: now() + {seconds}
"""


class Sweep:
    """A sweep that runs, in a session of its own."""

    def __init__(self, place: Place, jobs: int, *more: str, **environment: str):
        words = [*SWEEP, *more, f"jobs={jobs}", f"results_dir={place.results}"]
        self.place, self.output = place, place.folder / f"sweep{time.monotonic_ns()}"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plainres.run.train", *words],
                cwd=ROOT,
                env={**os.environ, **place.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def wait(self, limit: float = LIMIT) -> Ended:
        """How it ended; HANGS if it had to be killed."""
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            zygote.kill_session(self.process.pid)
            self.process.wait()
            status = HANGS
        return Ended(status, self.output.read_text(encoding="utf-8", errors="replace"))

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until the condition holds or the sweep has ended."""
        while not condition() and self.process.poll() is None:
            time.sleep(0.02)

    def trains(self) -> bool:
        return any(self.place.tables.glob("runs/*/progress.json"))

    def children(self) -> list[int]:
        """Its Python processes but for itself and what only helps (resource trackers)."""
        return [
            pid
            for pid, command in processes(self.place).items()
            if pid != self.process.pid and b"python" in command and b"tracker" not in command
        ]


def processes(place: Place) -> dict[int, bytes]:
    """Number and command line of the processes of a place: its TMPDIR is in their environment."""
    mark, found = os.fsencode(f"TMPDIR={place.temporary}"), {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "cmdline").read_bytes()
    return found


@cache
def wanted(site: Site) -> judge.Held:
    """Of an undisturbed sweep."""
    place = Place(site.folder / "swept")
    return judge.held(place.must(Sweep(place, 2).wait()).tables)


@contextmanager
def nothing_left(place: Place) -> Iterator[dict[int, bytes]]:
    """Puts into the dictionary the processes that are alive too long after the block; ends them."""
    left: dict[int, bytes] = {}
    yield left
    deadline = time.monotonic() + OUT_WITHIN
    while (alive := processes(place)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left |= alive
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def struck(
    strike: Callable[[Sweep, Random], object],
    jobs: int,
    limit: float,
    site: Site,
    place: Place,
    rng: Random,
) -> Result:
    """Strikes a sweep, which must be out within `limit` seconds with all its processes."""
    place.wanted = wanted(site)
    with nothing_left(place) as left:
        sweep = Sweep(place, jobs)
        strike(sweep, rng)
        ended = place.judged(sweep.wait(limit))
    if ended.status == HANGS:
        return judge.LOST, f"not out {limit:.0f} s later"
    if left:
        commands = b"; ".join(left.values()).replace(b"\0", b" ").decode()
        return judge.LOST, f"alive {OUT_WITHIN:.0f} s after its end: {commands}"
    return place.outcome(again=lambda: place.judged(Sweep(place, jobs).wait()))


def stop(number: int, training: bool, sweep: Sweep, rng: Random) -> None:
    """A signal while the sweep starts, or while cells train."""
    sweep.wait_for(sweep.trains if training else lambda: True)
    time.sleep(rng.uniform(0, 1.5))
    sweep.process.send_signal(number)


def stop_sweep(site: Site) -> Listed:
    wanted(site)
    return [
        (
            f"{number.name}, jobs={jobs}, {'training' if training else 'starting'}",
            partial(struck, partial(stop, number, training), jobs, OUT_WITHIN, site),
        )
        for training in (True, False, True)
        for jobs in (1, 2)
        for number in SIGNALS
    ]


def stop_run(site: Site) -> Listed:
    def stopped(number: int, place: Place, rng: Random) -> Result:
        place.fill(site.fresh).run(strike=(rng.uniform(0, CELL_SECONDS), number))
        return place.outcome()

    _ = site.fresh
    return [(number.name, partial(stopped, number)) for number in SIGNALS for _ in range(12)]


def kill_worker(sweep: Sweep, rng: Random) -> None:
    sweep.wait_for(sweep.trains)
    time.sleep(rng.uniform(0, 1))
    progress = sorted(sweep.place.tables.glob("runs/*/progress.json"))
    training = {json.loads(path.read_text(encoding="utf-8"))["pid"] for path in progress}
    if alive := sorted(training & set(sweep.children())):
        os.kill(rng.choice(alive), signal.SIGKILL)


def worker_killed(site: Site) -> Listed:
    wanted(site)
    return [("jobs=2", partial(struck, kill_worker, 2, LIMIT, site))] * 6


def kill_parent(seconds: float, sweep: Sweep, rng: Random) -> None:
    sweep.wait_for(lambda: len(sweep.children()) > 1)  # more than what starts workers
    time.sleep(seconds)
    sweep.process.kill()


def parent_killed(site: Site) -> Listed:
    wanted(site)
    moments = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0)
    return [
        (f"{moment} s later", partial(struck, partial(kill_parent, moment), 2, LIMIT, site))
        for moment in moments
    ]


def four_sweeps(site: Site) -> Listed:
    """All must end well; they may wait for each other."""

    def four(place: Place, rng: Random) -> Result:
        place.wanted = wanted(site)
        ended = [place.judged(sweep.wait()) for sweep in [Sweep(place, 2) for _ in range(4)]]
        bad = next((one for one in ended if one.status), None)
        result = place.outcome(again=lambda: place.judged(Sweep(place, 2).wait()))
        if bad is None or result[0] != judge.SURVIVED:
            return result
        return (judge.NOTICED if bad.says_why else judge.LOST), bad.last_line

    wanted(site)
    return [("", four)] * 3


def clock(site: Site) -> Listed:
    """A cell fails while the clock of the processes is not that of the files."""

    def shifted(seconds: int, jobs: int, place: Place, rng: Random) -> Result:
        place.wanted = wanted(site)
        (place.folder / "sitecustomize.py").write_text(SHIFTED.format(seconds=seconds))
        paths = [str(place.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        obstacle = place.cell / "curves.csv"  # cannot be written, so the cell fails
        obstacle.mkdir(parents=True)
        ended = place.judged(Sweep(place, jobs, PYTHONPATH=os.pathsep.join(paths)).wait())
        if not ended.says_why or place.cell.name not in ended.output:
            return judge.LOST, f"status {ended.status}, and the failed cell is not named"
        shutil.rmtree(obstacle, ignore_errors=True)
        return place.outcome(again=lambda: place.judged(Sweep(place, jobs).wait()))

    wanted(site)
    return [
        (f"{seconds:+d} s, jobs={jobs}", partial(shifted, seconds, jobs))
        for seconds in (5, -5)
        for jobs in (2, 1)
    ]


KINDS: Kinds = {
    "stop-run": ("SIGTERM, SIGINT or SIGHUP to a single run", stop_run),
    "stop-sweep": ("SIGTERM, SIGINT or SIGHUP to a sweep, which starts or trains", stop_sweep),
    "worker-killed": ("kill -9 of one worker of a sweep", worker_killed),
    "parent-killed": ("kill -9 of a sweep 0 to 3 s after its workers exist", parent_killed),
    "four-sweeps": ("four identical sweeps at once", four_sweeps),
    "clock": ("a cell fails while clock and file times differ by 5 s", clock),
}
