"""What is measured: each part is a list of jobs, in the order of one round. Imports no torch."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# Ways and cases, as the tables spell them
TEXTBOOK, BARE_LOOP, PLAINRES, SIDE_BY_SIDE = "textbook", "limit", "plainres", "side by side"
ONE_SWEEP, ONE_AT_A_TIME, TEN_COMMANDS = "one cell a core", "one cell at a time", "ten commands"
TABLES = "tables"
NOT_COMPILED, COMPILED_BEFORE = "kernels not compiled yet", "kernels compiled before"
CELL, COMMAND, LIBRARIES = "cell", "command", "libraries"
EAGER, GRAPH, COMPILED, FUSED = GPU_WAYS = ("library, no graph", "library", "compiled", "fused")
LIBRARY = GRAPH
THOUSAND = "1202 layers, 32×32, activations checkpointed"
SERVICE, MPS_VARIABLE = "multi-process service", "CUDA_MPS_PIPE_DIRECTORY"  # NVIDIA's
NO_GPU = "no GPU"
AGREEMENT_ITERATIONS = 20


@dataclass(frozen=True)
class Shape:
    """A network and its batch; image_size in pixels."""

    depth: int = 20
    width: int = 16
    image_size: int = 16
    in_channels: int = 3
    batch_size: int = 128

    @property
    def images(self) -> tuple[int, int, int, int]:
        """The shape of a batch (N, C, H, W)."""
        return self.batch_size, self.in_channels, self.image_size, self.image_size


@dataclass(frozen=True)
class Setting:
    """Images of one size, and the configuration that trains on such images."""

    name: str
    shape: Shape
    overrides: tuple[str, ...]
    bf16: bool  # its protocol trains in bf16 where the processor multiplies in it

    def cell(self, depth: int) -> tuple[str, Shape, list[str]]:
        """Case, shape and overrides of a residual network of that depth."""
        overrides = [*self.overrides, "model=residual", f"model.depth={depth}"]
        return f"ResNet-{depth}, {self.name}", replace(self.shape, depth=depth), overrides


SETTINGS = (
    Setting("digits 8×8", Shape(width=4, image_size=8, in_channels=1), ("protocol=quick",), False),
    Setting("16×16", Shape(image_size=16), ("protocol=cpu16", "data=random"), True),
    Setting("32×32", Shape(image_size=32), ("protocol=paper", "data=random"), True),
)
DIGITS, SMALL, LARGE = SETTINGS


@dataclass(frozen=True)
class Job:
    """One measurement: a function of experiments.bench, called in a fresh process."""

    case: str
    way: str  # the ways of a case are compared
    function: str  # module.name
    threads: int  # of each process
    arguments: Mapping[str, Any]
    shape: Shape | None = None
    copies: int = 1  # processes at once; their images per second are added
    environment: Mapping[str, str] = field(default_factory=dict)
    unavailable: str = ""  # why it cannot be measured here


@dataclass(frozen=True)
class Options:
    """What a person asks for, and what the machine has."""

    cores: int
    seconds: float  # of a window
    iterations: int  # of a cell in part `sweep`
    thousand: bool  # measure the network of 1,202 layers too
    gpu: bool = False  # the machine has one
    bf16: bool = False  # the processor multiplies in it


def columns(options: Options) -> Iterator[Job]:
    """Four ways to train the same network on images of the same shape."""
    cores = options.cores
    for setting in SETTINGS:
        for depth in (20, 110):
            case, shape, overrides = setting.cell(depth)
            cell = {"overrides": overrides, "seconds": options.seconds}
            bf16 = setting.bf16 and options.bf16
            yield Job(case, TEXTBOOK, "textbook.textbook", cores, cell, shape)
            yield _bare_loop(options, case, BARE_LOOP, shape, bf16=bf16)
            yield Job(case, PLAINRES, "cells.train", cores, cell, shape)
            yield Job(case, SIDE_BY_SIDE, "cells.train", 1, cell, shape, copies=cores)


def kernels(options: Options) -> Iterator[Job]:
    """The library's and the fused kernels of a CPU in float32, one thread."""
    eight = Setting(
        "16×16, width 8, batch 64",
        Shape(width=8, batch_size=64),
        ("protocol=cpu", "data=random"),
        False,
    )
    for setting in (DIGITS, eight):
        for depth in (20, 110):
            case, shape, overrides = setting.cell(depth)
            for way in (LIBRARY, FUSED):
                words = [*overrides, "accelerator=cpu", f"kernels={way}"]
                arguments = {"overrides": words, "seconds": options.seconds}
                yield Job(case, way, "cells.train", 1, arguments, shape)


def sweep(options: Options) -> Iterator[Job]:
    """The ten cells of the depth sweep, three ways."""
    case, cores = f"ten cells of digits, {options.iterations} iterations each", options.cores
    ways = ((ONE_SWEEP, 1, cores), (ONE_AT_A_TIME, cores, 1), (TEN_COMMANDS, cores, None))
    for way, threads, jobs in ways:
        arguments = {"iterations": options.iterations, "jobs": jobs}
        yield Job(case, way, "commands.sweep", threads, arguments)


def first(options: Options) -> Iterator[Job]:
    """What `make sweep-depth` does when all is installed, the first time and later."""
    for way in (NOT_COMPILED, COMPILED_BEFORE):
        arguments = {"compiled": way == COMPILED_BEFORE}
        case = "ten cells of quick, figures and verdicts"
        yield Job(case, way, "commands.first_sweep", 1, arguments)


def startup(options: Options) -> Iterator[Job]:
    """What a person waits for before anything happens."""
    train, plainres = ["-m", "plainres.run.train"], ["-m", "experiments"]
    for way, words in (
        (COMMAND, [*train, "--help"]),
        (COMMAND, [*train, "--cfg", "job"]),
        (COMMAND, [*plainres, "check", "depth", "--protocol", "quick"]),
        (COMMAND, [*plainres, "figures", "depth"]),
        (LIBRARIES, ["-c", "import pytorch_lightning"]),
    ):
        case = " ".join(f'"{word}"' if " " in word else word for word in ["python", *words])
        yield Job(case, way, "commands.command", options.cores, {"words": words})
    for setting in (DIGITS, SMALL):
        case, shape, overrides = setting.cell(setting.shape.depth)
        yield Job(case, CELL, "cells.start", 1, {"overrides": overrides}, shape)


def scaling(options: Options) -> Iterator[Job]:
    """The bare loop with one dimension of the network or its batch varied."""
    series: tuple[tuple[str, str, Shape, tuple[int, ...]], ...] = (
        ("depth, 8×8, width 4", "depth", DIGITS.shape, (20, 56, 110, 218, 434, 1202)),
        ("depth, 32×32, width 16", "depth", LARGE.shape, (20, 56, 110)),
        ("width, ResNet-20, 16×16", "width", SMALL.shape, (8, 16, 32, 64)),
        ("image size, ResNet-20, width 16", "image_size", SMALL.shape, (8, 16, 32, 64)),
        ("batch size, ResNet-20, 16×16", "batch_size", SMALL.shape, (32, 64, 128, 256)),
    )
    for case, name, shape, values in series:
        for value in values:
            yield _bare_loop(options, case, f"{name} {value}", replace(shape, **{name: value}))
    if options.thousand:
        shape, once = replace(LARGE.shape, depth=1202), replace(options, seconds=0)
        yield _bare_loop(once, THOUSAND, BARE_LOOP, shape, checkpoint_activations=True)


def agreement(options: Options) -> Iterator[Job]:
    """The first losses on CPU and GPU."""
    float32, bf16 = "protocol.precision=32-true", "protocol.precision=bf16-mixed"
    graph, library = ("accelerator=gpu", "cuda_graph=true"), "kernels=library"
    ways: dict[str, tuple[str, ...]] = {
        "CPU, float32": ("accelerator=cpu", float32, library),
        "GPU, float32, CUDA graph": (*graph, float32, library),
        "GPU, tf32, CUDA graph": (*graph, float32, library),
        "GPU, bf16, CUDA graph": (*graph, bf16, library),
        "GPU, bf16, CUDA graph, fused": (*graph, bf16, "kernels=fused"),
        "GPU, bf16, CUDA graph, compiled": (*graph, bf16, "kernels=compiled"),
    }
    for arm in ("plain", "residual"):
        for way, own in ways.items():
            overrides = [*LARGE.overrides, f"model={arm}", "model.depth=20", *own]
            numbers = {"iterations": AGREEMENT_ITERATIONS, "tf32": "tf32" in way}
            arguments = {"overrides": overrides, **numbers}
            missing = NO_GPU if way.startswith("GPU") and not options.gpu else ""
            job = Job(f"{arm}-20, 32×32", way, "cells.losses", options.cores, arguments)
            yield replace(job, shape=LARGE.shape, unavailable=missing)


def gpu(options: Options) -> Iterator[Job]:
    """plainres on a GPU at the paper's shapes: kinds of kernels, and several cells at once."""
    runs = [
        *((20, way, way, 1) for way in GPU_WAYS),
        *((110, way, way, 1) for way in (GRAPH, COMPILED, FUSED)),
        (56, f"6 cells, {FUSED}", FUSED, 6),
        (56, f"6 cells, {FUSED}, {SERVICE}", FUSED, 6),
    ]
    for depth, way, kernels, copies in runs:
        case, shape, overrides = LARGE.cell(depth)
        overrides += ["accelerator=gpu", f"cuda_graph={str(kernels != EAGER).lower()}"]
        overrides.append(f"kernels={kernels.partition(',')[0]}")
        arguments = {"overrides": overrides, "seconds": options.seconds}
        environment, missing = {MPS_VARIABLE: "/nowhere"}, "" if options.gpu else NO_GPU
        if SERVICE in way:
            environment = {}
            if not os.environ.get(MPS_VARIABLE):
                missing = missing or f"{MPS_VARIABLE} is not set"
        yield Job(case, way, "cells.train", 1, arguments, shape, copies, environment, missing)


MANY, POINTS = 100_000, 10  # cells, and points of the curve of each


def many(options: Options) -> Iterator[Job]:
    """Tables of many made-up cells: gathered, judged and drawn."""
    case = f"{MANY:,} cells, {POINTS} points of a curve each"
    arguments = {"cells": MANY, "points": POINTS}
    yield Job(case, TABLES, "many.tables", 1, arguments)


@dataclass(frozen=True)
class Part:
    """A question, the number of rounds by default, and the jobs that answer the question."""

    question: str
    rounds: int
    jobs: Callable[[Options], Iterator[Job]]
    on_gpu: bool = False


PARTS = {
    "columns": Part("how fast is plainres beside a textbook loop and a bare loop?", 3, columns),
    "kernels": Part("what do fused kernels gain on a CPU?", 3, kernels),
    "sweep": Part("what does a sweep gain from running one cell on each core?", 1, sweep),
    "first": Part("how long does one wait for the verdicts of `make sweep-depth`?", 3, first),
    "startup": Part("how long does one wait before something happens?", 3, startup),
    "scaling": Part("how do time and memory grow with depth, width, image and batch?", 1, scaling),
    "many": Part("how long do the tables of 100,000 cells take?", 1, many),
    "agreement": Part("do CPU and GPU compute the same?", 1, agreement, on_gpu=True),
    "gpu": Part("what does the protocol `paper` cost on a GPU?", 1, gpu, on_gpu=True),
}


def _bare_loop(options: Options, case: str, way: str, shape: Shape, **extra: Any) -> Job:
    arguments = {"shape": asdict(shape), "seconds": options.seconds, **extra}
    return Job(case, way, "loops.bare_loop", options.cores, arguments, shape)
