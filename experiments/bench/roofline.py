"""What the machine can do at best, and where the bare loop's time goes."""

import time
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity

from experiments.bench.loops import prepare, train
from experiments.bench.window import LEAST_ITERATIONS, WARM_ITERATIONS, Process, Window

NUM_OPERATORS = 12
LEAST_CALLS = 3


def convolution(
    process: Process,
    channels: int,
    image_size: int,
    batch_size: int,
    bf16: bool,
    threads: int,
    seconds: float,
) -> dict[str, float]:
    """GFLOP/s of the fastest of many 3×3 convolutions, forward, channels last."""
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if bf16 else torch.float32
    images = torch.randn(batch_size, channels, image_size, image_size, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.randn(channels, channels, 3, 3, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    multiply_adds = images.numel() * channels * 9  # the padding's products counted, as is usual
    return {
        "gflop_per_second": 2e-9
        * multiply_adds
        / _fastest(lambda: functional.conv2d(images, weight, padding=1), seconds)
    }


def product(
    process: Process, size: int, bf16: bool, threads: int, seconds: float
) -> dict[str, float]:
    """GFLOP/s of the fastest of many products of two square matrices."""
    torch.set_num_threads(threads)
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16 if bf16 else torch.float32)
    return {"gflop_per_second": 2e-9 * size**3 / _fastest(lambda: left @ right, seconds)}


def profile(
    process: Process,
    depth: int,
    width: int,
    image_size: int,
    in_channels: int,
    batch_size: int,
    threads: int,
) -> dict[str, float]:
    """Self CPU time of an iteration of the bare loop under torch.profiler, and each operator's share of it, the largest first."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    network, batches, optimiser = prepare(depth, width, image_size, in_channels, batch_size)
    train(network, batches, optimiser, Window(process, 0, 0, WARM_ITERATIONS).iteration_ends)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler:
        train(network, batches, optimiser, Window(process, 0, 0, LEAST_ITERATIONS).iteration_ends)
    events = sorted(
        profiler.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True
    )
    total = sum(event.self_cpu_time_total for event in events)  # microseconds
    shares = {
        f"share {event.key}": event.self_cpu_time_total / total for event in events[:NUM_OPERATORS]
    }
    return {"cpu_seconds_per_iteration": total / 1e6 / LEAST_ITERATIONS, **shares}


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest call within about `seconds`; of the first one where that takes longer already."""
    with torch.inference_mode():
        first = _seconds(call)
        if first > seconds:
            return first
        taken: list[float] = []
        ends = time.monotonic() + seconds
        while len(taken) < LEAST_CALLS or time.monotonic() < ends:
            taken.append(_seconds(call))
    return min(taken)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
