"""Long runs: memory at a tenth of the run and at its end."""

import time
from functools import partial
from pathlib import Path
from random import Random

from experiments.torture import judge, sweeps
from experiments.torture.crashes import Kinds, Listed
from experiments.torture.places import Place, Result, Site

GROWTH = 1.05  # an end above this factor of the tenth and the margin is a leak
MARGIN, MARGIN_OF_SWEEP = 16.0, 200.0  # MiB; processes of a sweep start and end
SAMPLE_SECONDS = 0.2
LONG = 900.0  # seconds


def resident_mib(pid: int | str = "self") -> float:
    """Memory of a process; 0.0 of one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 2**10


def flat(tenth: float, end: float, margin: float) -> Result:
    text = f"{tenth:.0f} MiB at 10 %, {end:.0f} MiB at the end"
    return (judge.SURVIVED if end <= GROWTH * tenth + margin else judge.LOST), text


def iterations(count: int, place: Place, rng: Random) -> Result:
    """One cell that logs, evaluates and writes checkpoints all the time."""
    place.words = (
        *(*place.words, f"protocol.iterations={count}", "checkpoint_seconds=0.05"),
        *("protocol.log_every=10", "protocol.evaluate_every=100", "protocol.batch_size=8"),
        "protocol.evaluation_images=32",
    )
    log = place.folder.with_suffix(".memory")

    def action(number: int, name: str, half: object) -> None:
        if name == "replace":  # a file is complete
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{resident_mib()}\n")

    place.must(place.run(action=action, limit=LONG))
    sizes = [float(line) for line in log.read_text(encoding="utf-8").split()]
    return flat(sizes[len(sizes) // 10], sizes[-1], MARGIN)


def cells(count: int, place: Place, rng: Random) -> Result:
    """A sweep of cells of four iterations; the memory of all its processes together."""
    seeds = ",".join(map(str, range(count // 2)))
    short = ("protocol.iterations=4", "protocol.schedule.warmup_iterations=1")
    sweep = sweeps.Sweep(place, 2, f"seed={seeds}", *short, "protocol.evaluation_images=32")
    sizes: dict[bool, list[float]] = {True: [0.0], False: [0.0]}
    done = 0
    while sweep.process.poll() is None:
        done = len(list(place.tables.glob("runs/*/record.json")))
        if done <= count // 5 or done >= count * 4 // 5:
            sizes[done > count // 2].append(sum(map(resident_mib, sweeps.processes(place))))
        time.sleep(SAMPLE_SECONDS)
    place.must(sweep.wait(LONG))
    if len(judge.held(place.tables)) < count:
        return judge.LOST, "cells are missing"
    return flat(max(sizes[False]), max(sizes[True]), MARGIN_OF_SWEEP)


def memory(site: Site) -> Listed:
    return [
        ("10,000 iterations", partial(iterations, 10_000)),
        ("1,000 iterations", partial(iterations, 1000)),  # in the middle: the short form's
        ("100 cells", partial(cells, 100)),
    ]


KINDS: Kinds = {"memory": ("a long run: memory at 10 % of it and at its end", memory)}
