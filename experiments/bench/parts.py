"""What is measured: each part is a list of jobs, in the order of one round. Imports no torch."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# Ways and cases, as the tables spell them
TEXTBOOK, BARE_LOOP, PLAINRES, SIDE_BY_SIDE = "textbook", "limit", "plainres", "side by side"
ONE_SWEEP, ONE_AT_A_TIME, TEN_COMMANDS = "one cell a core", "one cell at a time", "ten commands"
CELL, COMMAND, LIBRARIES = "cell", "command", "libraries"
EAGER, GRAPH, COMPILED, FUSED = GPU_WAYS = ("library, no graph", "library", "compiled", "fused")
THOUSAND = "1202 layers, 32×32, activations checkpointed"
MPS_VARIABLE = "CUDA_MPS_PIPE_DIRECTORY"  # set where NVIDIA's multi-process service runs
AGREEMENT_ITERATIONS = 20


@dataclass(frozen=True)
class Shape:
    """A network and its batch; image_size in pixels."""

    depth: int = 20
    width: int = 16
    image_size: int = 16
    in_channels: int = 3
    batch_size: int = 128


@dataclass(frozen=True)
class Setting:
    """Images of one size, and the configuration that trains on such images.

    Args:
        bf16: its protocol trains in bf16 where the processor multiplies in it.
    """

    name: str
    shape: Shape
    overrides: tuple[str, ...]
    bf16: bool


SETTINGS = (
    Setting("digits 8×8", Shape(width=4, image_size=8, in_channels=1), ("protocol=quick",), False),
    Setting("16×16", Shape(image_size=16), ("protocol=cpu16", "data=random"), True),
    Setting("32×32", Shape(image_size=32), ("protocol=paper", "data=random"), True),
)
DIGITS, SMALL, LARGE = SETTINGS


@dataclass(frozen=True)
class Job:
    """One measurement.

    Args:
        case, way: what is measured and how; the ways of a case are compared.
        function: `module.name` in experiments.bench, called with `arguments` in a fresh process.
        threads: of each process, as the table states it.
        copies: processes at once; their images per second are added.
        environment: variables of the process.
        unavailable: why it cannot be measured here.
    """

    case: str
    way: str
    function: str
    threads: int
    arguments: Mapping[str, Any]
    shape: Shape | None = None
    copies: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    unavailable: str = ""


@dataclass(frozen=True)
class Options:
    """What a person asks for, and what the machine has.

    Args:
        seconds: of a window.
        iterations: of a cell in part `sweep`.
        thousand: measure the network of 1,202 layers too.
        gpu: the machine has one.
        bf16: the processor multiplies in it.
    """

    cores: int
    seconds: float
    iterations: int
    thousand: bool
    gpu: bool = False
    bf16: bool = False


def columns(options: Options) -> Iterator[Job]:
    """Four ways to train the same network on images of the same shape."""
    cores = options.cores
    for setting in SETTINGS:
        for depth in (20, 110):
            shape = replace(setting.shape, depth=depth)
            case = f"ResNet-{depth}, {setting.name}"
            shared = {"overrides": _overrides(setting, depth), "seconds": options.seconds}
            parallel, single = {**shared, "threads": cores}, {**shared, "threads": 1}
            bf16 = setting.bf16 and options.bf16
            yield Job(case, TEXTBOOK, "textbook.textbook", cores, parallel, shape)
            yield _bare_loop(options, case, BARE_LOOP, shape, bf16=bf16)
            yield Job(case, PLAINRES, "cells.train", cores, parallel, shape)
            yield Job(case, SIDE_BY_SIDE, "cells.train", 1, single, shape, copies=cores)


def sweep(options: Options) -> Iterator[Job]:
    """The ten cells of the depth sweep, three ways."""
    case = f"ten cells of digits, {options.iterations} iterations each"
    ways = ((ONE_SWEEP, options.cores), (ONE_AT_A_TIME, 1), (TEN_COMMANDS, None))
    for way, jobs in ways:
        threads = 1 if way == ONE_SWEEP else options.cores
        arguments = {"iterations": options.iterations, "jobs": jobs}
        yield Job(case, way, "commands.sweep", threads, arguments)


def startup(options: Options) -> Iterator[Job]:
    """What a person waits for before anything happens."""
    train, plainres = ["-m", "plainres.run.train"], ["-m", "experiments"]
    commands = (
        [*train, "--help"],
        [*train, "--cfg", "job"],
        [*plainres, "check", "depth", "--protocol", "quick"],
        [*plainres, "figures", "depth"],
    )
    for words in commands:
        case = "python " + " ".join(words)
        yield Job(case, COMMAND, "commands.command", options.cores, {"words": words})
    code = "import pytorch_lightning"
    arguments = {"words": ["-c", code]}
    yield Job(f'python -c "{code}"', LIBRARIES, "commands.command", options.cores, arguments)
    for setting in (DIGITS, SMALL):
        depth = setting.shape.depth
        cell = {"overrides": _overrides(setting, depth), "threads": 1}
        case = f"ResNet-{depth}, {setting.name}"
        yield Job(case, CELL, "cells.start", 1, cell, setting.shape)


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
        once = {"seconds": 0, "warm_iterations": 0, "min_iterations": 1}
        shape = replace(LARGE.shape, depth=1202)
        yield _bare_loop(options, THOUSAND, BARE_LOOP, shape, checkpoint_activations=True, **once)


def agreement(options: Options) -> Iterator[Job]:
    """The first losses on CPU and GPU."""
    graph = {"device": "cuda", "graph": True}
    ways: dict[str, dict[str, Any]] = {
        "CPU, float32": {"device": "cpu"},
        "GPU, float32, CUDA graph": graph,
        "GPU, tf32, CUDA graph": {**graph, "tf32": True},
        "GPU, bf16, CUDA graph": {**graph, "bf16": True},
        "GPU, bf16, CUDA graph, fused": {**graph, "bf16": True, "kernels": "fused"},
        "GPU, bf16, CUDA graph, compiled": {**graph, "bf16": True, "kernels": "compiled"},
    }
    cores = options.cores
    for arm, shortcut in (("plain", "none"), ("residual", "zero_pad")):
        shared = {"shortcut": shortcut, "depth": 20, "iterations": AGREEMENT_ITERATIONS}
        shared["threads"] = cores
        for way, extra in ways.items():
            job = Job(f"{arm}-20, 32×32", way, "agreement.losses", cores, {**shared, **extra})
            missing = _without_gpu(options, extra["device"])
            yield replace(job, shape=LARGE.shape, unavailable=missing)


def gpu(options: Options) -> Iterator[Job]:
    """plainres on a GPU at the paper's shapes: kinds of kernels, and several cells at once."""

    def job(depth: int, way: str, kernels: str, copies: int = 1, service: bool = False) -> Job:
        overrides = [*_overrides(LARGE, depth), "accelerator=gpu"]
        overrides.append(f"cuda_graph={str(kernels != EAGER).lower()}")
        overrides.append(f"kernels={kernels.partition(',')[0]}")
        missing = _without_gpu(options, "cuda")
        if service and not os.environ.get(MPS_VARIABLE):
            missing = missing or f"{MPS_VARIABLE} is not set"
        arguments = {"overrides": overrides, "threads": 1, "seconds": options.seconds}
        shape = replace(LARGE.shape, depth=depth)
        environment = {} if service else {MPS_VARIABLE: "/nowhere"}
        case, function = f"ResNet-{depth}, 32×32", "cells.train"
        return Job(case, way, function, 1, arguments, shape, copies, environment, missing)

    for depth, ways in ((20, GPU_WAYS), (110, (GRAPH, COMPILED, FUSED))):
        for way in ways:
            yield job(depth, way, way)
    yield job(56, f"6 cells, {FUSED}", FUSED, 6)
    yield job(56, f"6 cells, {FUSED}, multi-process service", FUSED, 6, service=True)


@dataclass(frozen=True)
class Part:
    """A question, the number of rounds by default, and the jobs that answer the question."""

    question: str
    rounds: int
    jobs: Callable[[Options], Iterator[Job]]
    on_gpu: bool = False


PARTS = {
    "columns": Part("how fast is plainres beside a textbook loop and a bare loop?", 3, columns),
    "sweep": Part("what does a sweep gain from running one cell on each core?", 1, sweep),
    "startup": Part("how long does one wait before something happens?", 3, startup),
    "scaling": Part("how do time and memory grow with depth, width, image and batch?", 1, scaling),
    "agreement": Part("do CPU and GPU compute the same?", 1, agreement, on_gpu=True),
    "gpu": Part("what does the paper's protocol cost on a GPU?", 1, gpu, on_gpu=True),
}


def _overrides(setting: Setting, depth: int) -> list[str]:
    return [*setting.overrides, "model=residual", f"model.depth={depth}"]


def _without_gpu(options: Options, device: str) -> str:
    return "" if options.gpu or device == "cpu" else "no GPU"


def _bare_loop(options: Options, case: str, way: str, shape: Shape, **extra: Any) -> Job:
    shared = {"shape": asdict(shape), "threads": options.cores, "seconds": options.seconds}
    return Job(case, way, "loops.bare_loop", options.cores, {**shared, **extra}, shape)
