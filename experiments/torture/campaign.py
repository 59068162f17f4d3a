"""Runs faults, as many at a time as there are cores, and counts their outcomes."""

import argparse
import json
import os
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from experiments.torture import crashes, damage, disks, judge, memory, pictures, sweeps, zygote
from experiments.torture.places import Place, Run, Site, UnexpectedError
from experiments.torture.report import Facts, Row, table, write
from plainres.records import files
from plainres.records.errors import Parser

KINDS = crashes.KINDS | sweeps.KINDS | damage.KINDS | disks.KINDS | pictures.KINDS | memory.KINDS
# Faults of the short form; of others one
SHORT = dict.fromkeys(("memory", "stop-sweep", "clock", "cut", "empty"), 0)
SHORT |= dict.fromkeys(("worker-killed", "parent-killed", "four-sweeps"), 0)
# Of kinds with many faults, as many as end in 20 minutes on two cores; of others all
LONG = {
    **{"crash": 130, "torn": 33, "kill": 15, "kill-elsewhere": 15, "disk-error": 20},
    **{"vanished": 12, "stop-run": 18, "stop-sweep": 12, "flip": 60, "cut": 19, "zero": 19},
    **{"foreign": 36, "wrong-type": 20, "disk-full": 24},
}


class Fault(NamedTuple):
    """One fault; `number` counts within its kind, from 0, in the long form too."""

    kind: str
    number: int
    text: str
    run: Run


def faults_of(site: Site, kind: str, most: int | None) -> list[Fault] | str:
    """The faults of a kind, at `most` so many; a string says why this machine has none."""
    listed = KINDS[kind][1](site)
    if isinstance(listed, str):
        return listed
    faults = [Fault(kind, number, *fault) for number, fault in enumerate(listed)]
    return faults if most is None else crashes.spread(faults, most)


def campaign(options: argparse.Namespace, kinds: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    """Runs the faults; prints one line for each that is lost or silently wrong.

    Returns a row for each kind, and why the others were not run.
    """
    zygote.load()
    site = Site()
    rows: dict[str, Row] = {}
    not_run: dict[str, str] = {}
    faults: list[Fault] = []
    try:
        for kind in kinds:
            most = SHORT.get(kind, 1) if options.short else LONG.get(kind)
            listed = faults_of(site, kind, most if options.only is None else None)
            if isinstance(listed, str):
                not_run[kind] = listed
                print(f"{kind}: not run: {listed}", flush=True)
                continue
            rows[kind] = Row(kind)
            faults += [fault for fault in listed if options.only in (None, fault.number)]
        if not faults and options.only is not None:
            raise ValueError(f"no fault of {', '.join(kinds)} has number {options.only}")
        for count, (fault, (outcome, why), seconds) in enumerate(done(faults, site, options), 1):
            if count % 100 == 0:
                print(f"{count} of {len(faults)} faults", flush=True)
            row = rows[fault.kind]
            row.injected += 1
            row.seconds += seconds
            setattr(row, outcome, getattr(row, outcome) + 1)
            if outcome in (judge.LOST, judge.WRONG) or options.only is not None:
                again = f"--kinds {fault.kind} --only {fault.number} --seed {options.seed}"
                print(
                    f"{outcome}: {fault.kind}, {fault.text}: {' '.join(why.split())}; "
                    f"again: plainres torture {again}",
                    flush=True,
                )
        return [row for row in rows.values() if row.injected], not_run
    finally:
        site.close()


def done(
    faults: Sequence[Fault], site: Site, options: argparse.Namespace
) -> Iterator[tuple[Fault, tuple[str, str], float]]:
    """Each fault, in a process of its own: its outcome, and the seconds that it took."""
    running: dict[int, tuple[Fault, Path, float]] = {}
    waiting = list(reversed(faults))
    while waiting or running:
        while waiting and len(running) < options.jobs:
            fault = waiting.pop()
            folder = site.folder / f"{fault.kind}-{fault.number}"
            pid = zygote.fork(partial(do, fault, folder, options.seed))
            running[pid] = fault, folder, time.monotonic()
        pid, _ = os.wait()
        if pid in running:
            fault, folder, began = running.pop(pid)
            result = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
            yield fault, result, time.monotonic() - began
            shutil.rmtree(folder, ignore_errors=True)


def do(fault: Fault, folder: Path, seed: int) -> int:
    """Does a fault and writes its outcome; one that cannot be done is LOST, with the traceback."""
    try:
        result = fault.run(Place(folder), Random(f"{seed} {fault.kind} {fault.number}"))
    except UnexpectedError as unexpected:
        result = unexpected.result
    except BaseException:
        result = judge.LOST, f"the fault could not be done: {traceback.format_exc()}"
    folder.with_suffix(".json").write_text(json.dumps(result), encoding="utf-8")
    return 0


def main(words: Sequence[str]) -> int:
    """The command; status 3 where something was lost or silently wrong."""
    parser = Parser(prog="plainres torture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--only", type=int)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(words)
    kinds = options.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"no kind {unknown[0]!r}; choose {', '.join(KINDS)}")
    if options.jobs < 1:
        raise ValueError(f"JOBS={options.jobs} is no number of faults at a time; legal: 1 or more")
    if options.out:
        files.check_writable(options.out)
    began = time.monotonic()
    rows, not_run = campaign(options, kinds)
    print("\n".join(table(rows)))
    if options.out:
        facts = Facts(options.seed, options.jobs, time.monotonic() - began)
        texts = {kind: text for kind, (text, _) in KINDS.items()}
        write(options.out, rows, texts, not_run, facts)
    return 3 if any(row.lost + row.silently_wrong for row in rows) else 0
