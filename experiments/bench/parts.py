"""What is measured: each part as a list of jobs, in the order of one round. Imports no torch."""

import ctypes.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

DEPTHS = (20, 110)
TEXTBOOK, LIMIT, PLAINRES, SIDE_BY_SIDE = "textbook", "limit", "plainres", "side by side"
ONE_SWEEP, ONE_AT_A_TIME, TEN_COMMANDS = "one cell a core", "one cell at a time", "ten commands"
CELL, COMMAND, LIBRARIES, DEFAULT = "cell", "command", "libraries", "default"
CONVOLUTION, PRODUCT = "3×3 convolution", "matrix product"
FLOAT32, BF16 = PRECISIONS = ("float32", "bf16")
PRODUCT_SIZE = 2048
PEAK_SHARE = 0.2  # of the seconds of a window
EAGER, GRAPH, COMPILED, FUSED = GPU_WAYS = ("library, no graph", "library", "compiled", "fused")
MPS_VARIABLE = "CUDA_MPS_PIPE_DIRECTORY"  # set: NVIDIA's multi-process service runs, and processes share the GPU at the same time
AGREEMENT_ITERATIONS = 20
THOUSAND = "1202 layers, 32×32, activations checkpointed"


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
        bf16: its protocol trains in it where the processor multiplies in it.
    """

    name: str
    shape: Shape
    overrides: tuple[str, ...]
    bf16: bool


SETTINGS = (
    Setting(
        "digits 8×8", Shape(width=4, image_size=8, in_channels=1), ("protocol=quick",), bf16=False
    ),
    Setting("16×16", Shape(image_size=16), ("protocol=cpu16", "data=random"), bf16=True),
    Setting("32×32", Shape(image_size=32), ("protocol=paper", "data=random"), bf16=True),
)
DIGITS, SMALL, LARGE = SETTINGS


@dataclass(frozen=True)
class Job:
    """One measurement.

    Args:
        case, way: what is measured and how; ways of a case are compared.
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
class Choices:
    """What a person chooses, and the machine.

    Args:
        seconds: of a window.
        iterations: of a cell in part `sweep`.
        thousand: the network of 1,202 layers too.
        gpu: there is one.
        bf16: the processor multiplies in it.
        scratch: a folder that is gone after the run.
    """

    cores: int
    seconds: float
    iterations: int
    thousand: bool
    scratch: Path
    gpu: bool = False
    bf16: bool = False


def columns(choices: Choices) -> Iterator[Job]:
    """Four ways to train the same network on the same shape of images."""
    for setting in SETTINGS:
        for depth in DEPTHS:
            shape = replace(setting.shape, depth=depth)
            case = f"ResNet-{depth}, {setting.name}"
            overrides = [*setting.overrides, "model=residual", f"model.depth={depth}"]
            trained = {"overrides": overrides, "seconds": choices.seconds}
            all_cores = {**trained, "threads": choices.cores}
            yield Job(case, TEXTBOOK, "textbook.textbook", choices.cores, all_cores, shape)
            yield _limit(
                choices, case, LIMIT, shape, choices.cores, bf16=setting.bf16 and choices.bf16
            )
            yield Job(case, PLAINRES, "cells.train", choices.cores, all_cores, shape)
            yield Job(
                case,
                SIDE_BY_SIDE,
                "cells.train",
                1,
                {**trained, "threads": 1},
                shape,
                copies=choices.cores,
            )


def sweep(choices: Choices) -> Iterator[Job]:
    """The ten cells of the depth sweep, three ways."""
    case = f"ten cells of digits, {choices.iterations} iterations each"
    for way, jobs, threads in (
        (ONE_SWEEP, choices.cores, 1),
        (ONE_AT_A_TIME, 1, choices.cores),
        (TEN_COMMANDS, None, choices.cores),
    ):
        yield Job(
            case, way, "commands.sweep", threads, {"iterations": choices.iterations, "jobs": jobs}
        )


def roofline(choices: Choices) -> Iterator[Job]:
    """The bare loop, and the fastest arithmetic of the machine."""
    for precision in PRECISIONS if choices.bf16 else (FLOAT32,):
        for shape, case in _shapes():
            yield _limit(
                choices, case, limit_way(precision), shape, choices.cores, bf16=precision == BF16
            )
    for threads in sorted({1, choices.cores}):
        for precision in PRECISIONS:
            options = {
                "bf16": precision == BF16,
                "threads": threads,
                "seconds": PEAK_SHARE * choices.seconds,
            }
            for stage in range(3):
                channels, image_size = LARGE.shape.width << stage, LARGE.shape.image_size >> stage
                arguments = {
                    "channels": channels,
                    "image_size": image_size,
                    "batch_size": LARGE.shape.batch_size,
                    **options,
                }
                case = f"{CONVOLUTION}, {channels} channels, {image_size}×{image_size}"
                yield Job(
                    case, peak_way(precision, threads), "roofline.convolution", threads, arguments
                )
            case = f"{PRODUCT}, {PRODUCT_SIZE}×{PRODUCT_SIZE}"
            yield Job(
                case,
                peak_way(precision, threads),
                "roofline.product",
                threads,
                {"size": PRODUCT_SIZE, **options},
            )


def profile(choices: Choices) -> Iterator[Job]:
    """Where the bare loop's time goes."""
    for shape, case in _shapes():
        yield Job(
            case,
            LIMIT,
            "roofline.profile",
            choices.cores,
            {**asdict(shape), "threads": choices.cores},
            shape,
        )


def variants(choices: Choices) -> Iterator[Job]:
    """The bare loop with one choice changed."""
    for setting, threads in ((SMALL, 1), (LARGE, choices.cores)):
        shape = setting.shape
        case = f"ResNet-{shape.depth}, {setting.name}, {_counted(threads)}"
        bf16 = setting.bf16 and choices.bf16
        loop = _limit(choices, case, DEFAULT, shape, threads, bf16=bf16)
        yield loop
        options: dict[str, dict[str, Any]] = {
            "NCHW": {"channels_last": False},
            "float32" if bf16 else "bf16 autocast": {"bf16": not bf16},
            "network compiled": {"compiled": "network"},
            "each block compiled": {"compiled": "blocks"},
            "denormals kept": {"flush_denormals": False},
            "SGD parameter by parameter": {"foreach": False},
            "SGD fused": {"foreach": False, "fused": True},
        }
        for way, changed in options.items():
            # A cache of its own for each, so that nothing is compiled already in the first round.
            folder = choices.scratch / f"inductor-{shape.image_size}-{changed.get('compiled')}"
            cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder)} if "compiled" in changed else {}
            yield replace(loop, way=way, arguments={**loop.arguments, **changed}, environment=cache)
        cores = (
            sorted(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else range(choices.cores)
        )
        environments = {
            "no oneDNN primitive cache": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"},
            "oneDNN primitive cache of 4096": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096"},
            "threads pinned": {
                "OMP_PROC_BIND": "true",
                "GOMP_CPU_AFFINITY": " ".join(map(str, cores[:threads])),
            },
        }
        for way, environment in environments.items():
            yield replace(loop, way=way, environment=environment)
        for way, names in (
            ("jemalloc", ("jemalloc",)),
            ("tcmalloc", ("tcmalloc_minimal", "tcmalloc")),
        ):
            library = next(filter(None, map(ctypes.util.find_library, names)), None)
            environment = {"LD_PRELOAD": library} if library else {}
            yield replace(
                loop,
                way=way,
                environment=environment,
                unavailable="" if library else "not installed",
            )
        for batch_size in (32, 64, 256):
            yield _limit(
                choices,
                case,
                f"batch of {batch_size}",
                replace(shape, batch_size=batch_size),
                threads,
                bf16=bf16,
            )


def startup(choices: Choices) -> Iterator[Job]:
    """What a person waits for before anything happens."""
    train, results = ["-m", "plainres.run.train"], "results/depth/quick"
    commands: tuple[tuple[list[str], dict[str, Any]], ...] = (
        ([*train, "--help"], {}),
        ([*train, "--cfg", "job"], {}),
        (["-m", "experiments.depth.claims", results], {"worst_status": 1}),
        (["-m", "experiments.depth.figures", "{copy}"], {"copied": results}),
    )
    for words, options in commands:
        case = "python " + " ".join(words).replace("{copy}", results)
        yield Job(case, COMMAND, "commands.command", choices.cores, {"words": words, **options})
    words = ["-c", "import pytorch_lightning"]
    yield Job(
        f'python {words[0]} "{words[1]}"',
        LIBRARIES,
        "commands.command",
        choices.cores,
        {"words": words},
    )
    for setting in (DIGITS, SMALL):
        overrides = [*setting.overrides, "model=residual", f"model.depth={setting.shape.depth}"]
        arguments = {"overrides": overrides, "threads": 1}
        yield Job(
            f"ResNet-{setting.shape.depth}, {setting.name}",
            CELL,
            "cells.start",
            1,
            arguments,
            setting.shape,
        )


def scaling(choices: Choices) -> Iterator[Job]:
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
            yield _limit(
                choices, case, f"{name} {value}", replace(shape, **{name: value}), choices.cores
            )
    if choices.thousand:
        options = {
            "checkpoint_activations": True,
            "seconds": 0,
            "warm_iterations": 0,
            "least_iterations": 1,
        }
        yield _limit(
            choices, THOUSAND, LIMIT, replace(LARGE.shape, depth=1202), choices.cores, **options
        )


def gpu(choices: Choices) -> Iterator[Job]:
    """plainres on a GPU at the paper's shapes: how an iteration is run, and how many cells at once."""
    missing = "" if choices.gpu else "no GPU"
    for depth, ways in ((20, GPU_WAYS), (110, (GRAPH, COMPILED, FUSED))):
        for way in ways:
            yield _on_gpu(choices, depth, way, way, 1, missing)
    with_service = "" if os.environ.get(MPS_VARIABLE) else f"{MPS_VARIABLE} is not set"
    yield _on_gpu(choices, 56, f"6 cells, {FUSED}", FUSED, 6, missing)
    yield _on_gpu(
        choices,
        56,
        f"6 cells, {FUSED}, multi-process service",
        FUSED,
        6,
        missing or with_service,
        service=True,
    )


def _on_gpu(
    choices: Choices,
    depth: int,
    name: str,
    way: str,
    copies: int,
    unavailable: str,
    service: bool = False,
) -> Job:
    shape = replace(LARGE.shape, depth=depth)
    overrides = [*LARGE.overrides, "model=residual", f"model.depth={depth}", "accelerator=gpu"]
    overrides += [f"cuda_graph={str(way != EAGER).lower()}", f"kernels={way.partition(',')[0]}"]
    arguments = {"overrides": overrides, "threads": 1, "seconds": choices.seconds}
    environment = {} if service else {MPS_VARIABLE: "/nowhere"}
    return Job(
        f"ResNet-{depth}, 32×32",
        name,
        "cells.train",
        1,
        arguments,
        shape,
        copies,
        environment,
        unavailable,
    )


def agreement(choices: Choices) -> Iterator[Job]:
    """The first losses on CPU and GPU."""
    ways: dict[str, dict[str, Any]] = {
        "CPU, float32": {"device": "cpu"},
        "GPU, float32, CUDA graph": {"device": "cuda", "graph": True},
        "GPU, tf32, CUDA graph": {"device": "cuda", "graph": True, "tf32": True},
        "GPU, bf16, CUDA graph": {"device": "cuda", "graph": True, "bf16": True},
        "GPU, bf16, CUDA graph, fused": {
            "device": "cuda",
            "graph": True,
            "bf16": True,
            "kernels": "fused",
        },
        "GPU, bf16, CUDA graph, compiled": {
            "device": "cuda",
            "graph": True,
            "bf16": True,
            "kernels": "compiled",
        },
    }
    for arm, shortcut in (("plain", "none"), ("residual", "zero_pad")):
        for way, options in ways.items():
            arguments = {
                "shortcut": shortcut,
                "depth": 20,
                "iterations": AGREEMENT_ITERATIONS,
                "threads": choices.cores,
                **options,
            }
            missing = "" if choices.gpu or options["device"] == "cpu" else "no GPU"
            yield Job(
                f"{arm}-20, 32×32",
                way,
                "agreement.losses",
                choices.cores,
                arguments,
                LARGE.shape,
                unavailable=missing,
            )


@dataclass(frozen=True)
class Part:
    """A question, the jobs that answer it, and how often they are done where nobody says."""

    question: str
    rounds: int
    jobs: Callable[[Choices], Iterator[Job]]
    on_gpu: bool = False


PARTS = {
    "columns": Part(
        "what does plainres cost beside the loop of the textbooks and beside a bare loop?",
        3,
        columns,
    ),
    "sweep": Part("what does a sweep gain from running one cell on each core?", 1, sweep),
    "roofline": Part("how much of the machine's arithmetic does the bare loop use?", 1, roofline),
    "profile": Part("where does the bare loop's time go?", 1, profile),
    "variants": Part("what would one other choice bring?", 1, variants),
    "startup": Part("how long does one wait before something happens?", 3, startup),
    "scaling": Part(
        "how do time and memory grow with depth, width, image size and batch size?", 1, scaling
    ),
    "agreement": Part("do CPU and GPU compute the same?", 1, agreement, on_gpu=True),
    "gpu": Part("what does the paper's protocol cost on a GPU?", 1, gpu, on_gpu=True),
}


def limit_way(precision: str) -> str:
    return LIMIT if precision == FLOAT32 else f"{LIMIT}, {precision}"


def peak_way(precision: str, threads: int) -> str:
    return f"{precision}, {_counted(threads)}"


def _counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def _shapes() -> Iterator[tuple[Shape, str]]:
    for setting in SETTINGS:
        for depth in DEPTHS:
            yield replace(setting.shape, depth=depth), f"ResNet-{depth}, {setting.name}"


def _limit(
    choices: Choices, case: str, way: str, shape: Shape, threads: int, **options: Any
) -> Job:
    arguments = {**asdict(shape), "threads": threads, "seconds": choices.seconds, **options}
    return Job(case, way, "loops.limit", threads, arguments, shape)
