"""Measures what training costs: `python -m experiments.bench.run [--parts columns,sweep]`.

In each round every job runs once, in a process of its own, so that slow drifts of the machine meet
all ways of a case alike. A part's table is written when the part is finished.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.bench.measure import FAILED
from experiments.bench.parts import PARTS, Job, Options
from experiments.bench.tables import Measurement, number
from plainres.records.errors import INTERRUPTED, UNUSABLE, Parser, give_up, status_of
from plainres.records.files import read_json, write_table
from plainres.records.schema import duration
from plainres.run.config import ROOT

LOCAL = ROOT / "results" / "local" / "bench"
POLL_SECONDS = 0.05
BUSY = 0.25  # load per core above which other work disturbs
ADDED = "images_per_second"  # over copies; other numbers are averaged


class MeasurementError(Exception):
    """A measurement failed; the message says why in one line."""


class Progress:
    """Prints one line per measurement, with the time that is left.

    Args:
        planned: number of measurements of each part, all rounds together.
    """

    def __init__(self, planned: Mapping[str, int]):
        self.planned = planned
        self.seconds: dict[str, list[float]] = {part: [] for part in planned}

    def done(self, part: str, text: str, seconds: float) -> None:
        self.seconds[part].append(seconds)
        every = [one for of_part in self.seconds.values() for one in of_part]
        left = sum(  # a part that has not begun is taken to be like those that have
            (self.planned[name] - len(of_part)) * mean(of_part or every)
            for name, of_part in self.seconds.items()
        )
        count = f"{part} {len(self.seconds[part])}/{self.planned[part]}"
        print(f"{count}  {text}  ({duration(left)} left)", flush=True)


def run_part(
    part: str,
    jobs: Sequence[Job],
    rounds: int,
    measure: Callable[[Job], Mapping[str, float]],
    provenance: Mapping[str, Any],
    progress: Progress,
) -> tuple[list[Measurement], list[str]]:
    """All rows of a part, and a line for each measurement that failed.

    One row per number; without a number, one row that says why.
    """
    rows: list[Measurement] = []
    failures: list[str] = []
    for at in range(1, rounds + 1):
        for job in jobs:
            began = time.monotonic()
            names = ("depth", "width", "image_size", "batch_size")
            same: dict[str, Any] = {name: getattr(job.shape, name, None) for name in names}
            same |= {**provenance, "threads": job.threads}
            same["measured_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            values: Mapping[str, float | None] = {"": None}
            note = shown = job.unavailable
            if not job.unavailable:
                try:
                    values = numbers = measure(job)
                    name, value = next(iter(numbers.items()))
                    shown = f"{number(value)} {name.replace('_', ' ')}"
                except MeasurementError as failure:
                    note = shown = str(failure)
                    failures.append(f"{part}: {job.case}, {job.way}: {note}")
            rows += [
                Measurement(job.case, job.way, at, name, value, note, **same)
                for name, value in values.items()
            ]
            text = f"round {at}: {job.case}: {job.way}: {shown}"
            progress.done(part, text, time.monotonic() - began)
    return rows, failures


def measure_in_processes(job: Job) -> dict[str, float]:
    """Runs all copies of a job at once; adds their images per second, averages other numbers.

    Raises:
        MeasurementError: a copy failed.
    """
    with tempfile.TemporaryDirectory(prefix="plainres-bench-") as name:
        folder, copies = Path(name), range(job.copies)
        processes = [_start(job, folder, copy) for copy in copies]
        try:
            while None in (statuses := [process.poll() for process in processes]):
                if any(statuses):
                    break
                time.sleep(POLL_SECONDS)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        results = [read_json(folder / f"result{copy}.json") or {} for copy in copies]
        failures = [result[FAILED] for result in results if FAILED in result]
        failures += [_last_line(folder, copy) for copy in copies if not results[copy]]
    if failures:
        raise MeasurementError(failures[0])
    sums = {name: sum(result[name] for result in results) for name in results[0]}
    return {name: value / (1 if name == ADDED else job.copies) for name, value in sums.items()}


def _start(job: Job, folder: Path, copy: int) -> subprocess.Popen:
    request = {
        "function": job.function,
        "arguments": dict(job.arguments),
        "folder": str(folder),
        "threads": job.threads,
        "copies": job.copies,
        "spawned": time.monotonic(),
    }
    words = ["experiments.bench.measure", json.dumps(request), str(folder / f"result{copy}.json")]
    with (folder / f"output{copy}.txt").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**os.environ, **job.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _last_line(folder: Path, copy: int) -> str:
    text = (folder / f"output{copy}.txt").read_text(encoding="utf-8", errors="replace")
    return text.strip().rpartition("\n")[2].strip() or "exited without output"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the requested parts.

    One line for an illegal option, a failed measurement or an interruption.
    """
    parser = Parser(
        prog="plainres bench", description="Measures what training costs on this machine."
    )
    on_cpu = ",".join(name for name, part in PARTS.items() if not part.on_gpu)
    rounds = ", ".join(f"{name} {part.rounds}" for name, part in PARTS.items())
    add = parser.add_argument
    add("--parts", default=on_cpu, help=f"comma-separated: {','.join(PARTS)} (default: {on_cpu})")
    add("--rounds", type=int, help=f"of each measurement (default: {rounds})")
    add("--seconds", type=float, default=5.0, help="of each measurement, at least (default: 5)")
    add("--iterations", type=int, default=200, help="of a cell in part sweep (default: 200)")
    add("--thousand", action="store_true", help="part scaling: 1,202 layers too, some minutes")
    add("--results", type=Path, default=LOCAL, help="folder (default: results/local/bench)")
    options = parser.parse_args(arguments)
    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    if not parts:
        give_up([f"no part; legal: {', '.join(PARTS)}"], UNUSABLE)
    if unknown := [part for part in parts if part not in PARTS]:
        give_up([f"part {unknown[0]!r} is unknown; legal: {', '.join(PARTS)}"], UNUSABLE)
    rounds_or_default = 1 if options.rounds is None else options.rounds
    numbers = (options.seconds, options.iterations, rounds_or_default)
    if not all(0 < value < math.inf for value in numbers):
        give_up(["--seconds, --rounds and --iterations must be above 0"], UNUSABLE)
    try:
        failures = _measure(parts, options)
    except KeyboardInterrupt:
        print("plainres: interrupted; finished parts are kept", file=sys.stderr)
        return INTERRUPTED
    if failures:
        give_up(failures)
    return 0


def _measure(parts: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Writes the table of each part and the report; returns a line per failed measurement."""
    import torch

    from experiments.bench import figures
    from plainres.training import machine

    cores = machine.num_cores()
    if (load := os.getloadavg()[0]) > BUSY * cores:
        print(f"other work runs on this machine (load {load:.1f}): numbers will suffer", flush=True)
    has_gpu = torch.cuda.is_available()
    bf16 = machine.pick_precision("auto", torch.device("cpu")) == "bf16-mixed"
    requested = Options(cores, options.seconds, options.iterations, options.thousand, has_gpu, bf16)
    jobs = {part: list(PARTS[part].jobs(requested)) for part in parts}
    rounds = {part: options.rounds or PARTS[part].rounds for part in parts}
    progress = Progress({part: rounds[part] * len(jobs[part]) for part in parts})
    failures = []
    for part in parts:
        device = torch.device("cuda" if PARTS[part].on_gpu and has_gpu else "cpu")
        source = machine.provenance(device)
        provenance = {name: source[name] for name in ("processor", "torch", "commit", "clean")}
        provenance["cores"] = cores
        rows, failed = run_part(
            part, jobs[part], rounds[part], measure_in_processes, provenance, progress
        )
        failures += failed
        path = options.results / f"{part}.csv"
        write_table(path, rows, Measurement)
        figures.write_report(options.results)
        print(f"wrote {path} and the README beside it", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(status_of(main))
