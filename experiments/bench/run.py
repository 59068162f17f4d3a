"""Measures what training costs: `python -m experiments.bench.run [--parts columns,roofline] [--rounds 3] [--seconds 5]`.

Round after round each job runs once, in a process of its own, so that slow drifts of the machine meet all ways of a case alike. A
part's table is written when the part is finished.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bench import figures
from experiments.bench.measure import FAILED, Request
from experiments.bench.parts import PARTS, Choices, Job
from experiments.bench.tables import Row, number, table_path, write_rows
from plainres.records.errors import give_up
from plainres.records.files import read_json
from plainres.records.schema import duration
from plainres.run.config import ROOT

RESULTS = ROOT / "results" / "bench"
BUSY = 0.25  # load per core above which other work disturbs
ADDED = "images_per_second"  # over copies; other numbers are their mean

Measure = Callable[[Job], Mapping[str, float]]


class MeasurementError(Exception):
    """A measurement did not come about; says why in one line."""


class Progress:
    """One line a measurement, with the time that is left.

    Args:
        planned: number of jobs of each part, all rounds together.
    """

    def __init__(self, planned: Mapping[str, int]):
        self.left = dict(planned)
        self.taken: dict[str, list[float]] = {part: [] for part in planned}

    def done(self, part: str, text: str, seconds: float) -> None:
        self.left[part] -= 1
        self.taken[part].append(seconds)
        of_part = len(self.taken[part])
        print(
            f"{part} {of_part}/{of_part + self.left[part]}  {text}  ({duration(self.remaining())} left)",
            flush=True,
        )

    def remaining(self) -> float:
        """Seconds; a part that has not begun is taken to be like those that have."""
        every = [seconds for taken in self.taken.values() for seconds in taken]
        return sum(count * _mean(self.taken[part] or every) for part, count in self.left.items())


def run_part(
    part: str,
    jobs: Sequence[Job],
    rounds: int,
    measure: Measure,
    provenance: Mapping[str, Any],
    progress: Progress,
) -> tuple[list[Row], list[str]]:
    """All rows of a part, and a line for each measurement that failed."""
    rows: list[Row] = []
    failures: list[str] = []
    for at in range(1, rounds + 1):
        for job in jobs:
            began, note, values = time.monotonic(), job.unavailable, {}
            measured_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            if not note:
                try:
                    values = dict(measure(job))
                except MeasurementError as failure:
                    note = str(failure)
                    failures.append(f"{part}: {job.case}, {job.way}: {note}")
            rows += _rows(job, at, values, note, {**provenance, "measured_at": measured_at})
            name, value = next(iter(values.items()), ("", 0.0))
            shown = f"{number(value)} {name.replace('_', ' ')}" if values else note
            progress.done(
                part, f"round {at}: {job.case}: {job.way}: {shown}", time.monotonic() - began
            )
    return rows, failures


def in_fresh_processes(job: Job) -> dict[str, float]:
    """Starts the job's copies at once and puts their numbers together.

    Raises:
        MeasurementError: one of them ended badly.
    """
    with tempfile.TemporaryDirectory(prefix="plainres-bench-") as name:
        folder = Path(name)
        processes = []
        for copy in range(job.copies):
            request = Request(
                job.function, dict(job.arguments), str(folder), job.copies, time.monotonic()
            )
            request.write(folder / f"request{copy}.json")
            words = [
                "-m",
                "experiments.bench.measure",
                str(folder / f"request{copy}.json"),
                str(folder / f"result{copy}.json"),
            ]
            with (folder / f"output{copy}.txt").open("wb") as output:
                environment = {**os.environ, **job.environment}
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *words],
                        cwd=ROOT,
                        env=environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        try:
            _wait(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        results = [read_json(folder / f"result{copy}.json") for copy in range(job.copies)]
        for result in results:
            if result and FAILED in result:
                raise MeasurementError(result[FAILED])
        if None in results:
            lines = (
                (folder / f"output{results.index(None)}.txt")
                .read_text(encoding="utf-8", errors="replace")
                .splitlines()
            )
            raise MeasurementError(
                next(
                    (line.strip() for line in reversed(lines) if line.strip()),
                    "ended without a word",
                )
            )
    return {
        name: sum(r[name] for r in results) / (1 if name == ADDED else job.copies)
        for name in results[0]
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the chosen parts; status 1 and one line where a choice is illegal or a measurement failed."""
    parser = argparse.ArgumentParser(description="Measures what training costs on this machine.")
    default_parts = [name for name, part in PARTS.items() if not part.on_gpu]
    parser.add_argument(
        "--parts",
        default=",".join(default_parts),
        help=f"of {', '.join(PARTS)} (default: all of a CPU)",
    )
    defaults = ", ".join(f"{name} {part.rounds}" for name, part in PARTS.items())
    parser.add_argument(
        "--rounds",
        type=int,
        default=None,
        help=f"how often each measurement is made (default: {defaults})",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of steady training a measurement, at least (default: 5)",
    )
    parser.add_argument(
        "--iterations", type=int, default=200, help="of each cell in part sweep (default: 200)"
    )
    parser.add_argument(
        "--thousand",
        action="store_true",
        help="part scaling: the network of 1,202 layers at 32×32 too, some minutes",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="folder of the tables (default: results/bench)",
    )
    options = parser.parse_args(arguments)
    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    for part in parts:
        if part not in PARTS:
            give_up([f"part {part!r} is unknown; legal: {', '.join(PARTS)}"])
    if (
        options.seconds <= 0
        or (options.rounds is not None and options.rounds < 1)
        or options.iterations < 1
    ):
        give_up(["--seconds, --rounds and --iterations lie above 0"])
    try:
        failures = _measure(parts, options)
    except KeyboardInterrupt:
        print("plainres: interrupted; finished parts are kept", file=sys.stderr)
        return 130
    if failures:
        give_up(failures)
    return 0


def _measure(parts: Sequence[str], options: argparse.Namespace) -> list[str]:
    import torch

    from plainres.training import machine

    cores = machine.num_cores()
    if (load := os.getloadavg()[0]) > BUSY * cores:
        print(
            f"other work is running on this machine (load {load:.1f}): numbers will suffer",
            flush=True,
        )
    failures = []
    with tempfile.TemporaryDirectory(prefix="plainres-bench-") as scratch:
        choices = Choices(
            cores,
            options.seconds,
            options.iterations,
            options.thousand,
            Path(scratch),
            gpu=torch.cuda.is_available(),
            bf16=machine.pick_precision("auto", torch.device("cpu")) == "bf16-mixed",
        )
        jobs = {part: list(PARTS[part].jobs(choices)) for part in parts}
        rounds = {part: options.rounds or PARTS[part].rounds for part in parts}
        progress = Progress({part: rounds[part] * len(jobs[part]) for part in parts})
        for part in parts:
            on_gpu = PARTS[part].on_gpu and choices.gpu
            measured = machine.provenance(torch.device("cuda" if on_gpu else "cpu"))
            columns = ("processor", "torch", "commit", "clean")
            provenance = {"cores": cores, **{name: measured[name] for name in columns}}
            rows, failed = run_part(
                part, jobs[part], rounds[part], in_fresh_processes, provenance, progress
            )
            write_rows(options.results, part, rows)
            figures.make(options.results)
            print(f"wrote {table_path(options.results, part)} and the README beside it", flush=True)
            failures += failed
    return failures


def _wait(processes: Sequence[subprocess.Popen]) -> None:
    """Until all have ended, or one of them badly."""
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            return
        time.sleep(0.05)


def _rows(
    job: Job, at: int, values: Mapping[str, float], note: str, provenance: Mapping[str, Any]
) -> list[Row]:
    named: Mapping[str, float | None] = values or {"": None}
    shape = job.shape
    return [
        Row(
            case=job.case,
            way=job.way,
            round=at,
            quantity=name,
            value=value,
            note=note,
            depth=shape.depth if shape else None,
            width=shape.width if shape else None,
            image_size=shape.image_size if shape else None,
            batch_size=shape.batch_size if shape else None,
            threads=job.threads,
            **provenance,
        )
        for name, value in named.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
