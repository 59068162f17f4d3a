"""The machine of a run: cores, device, precision, kernels, memory, provenance."""

import ctypes
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import joblib
import torch
from torch import nn
from torch.utils._triton import has_triton

from plainres.networks import blocks
from plainres.records import files
from plainres.records.schema import is_limited
from plainres.training.instructions import LIMITS, ONEDNN

Precision = Literal["32-true", "bf16-mixed", "64-true"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# What plainres.training.update.logits_of_heads multiplies in
DTYPES: dict[Precision, torch.dtype] = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "64-true": torch.float64,
}
Kernels = Literal["library", "compiled", "fused"]
KERNELS: tuple[Kernels, ...] = get_args(Kernels)
ACCELERATORS = ("auto", "cpu", "gpu")
ROOT = Path(__file__).resolve().parents[3]  # the repository, whose commit is recorded
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST_TRIM, LARGEST_MMAP = 2**31 - 1, 2**25  # bytes: the limits of an int, and of glibc


def num_cores() -> int:
    """Cores that this process may use: of its affinity, and of its container."""
    return joblib.cpu_count()


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next iteration, up to 2 GiB.

    Otherwise it returns the activations of a large network to the system in every iteration, and
    gets them back page fault by page fault. Nothing changes without glibc, or where the environment
    configures its allocator (`MALLOC_…_`, `GLIBC_TUNABLES`).
    """
    configured = any(
        name == "GLIBC_TUNABLES" or (name.startswith("MALLOC_") and name.endswith("_"))
        for name in os.environ
    )
    if configured or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Set too, because setting the trim threshold alone would fix this one at 128 KiB
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP)
    mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM)


def pick_device(accelerator: str) -> tuple[str, torch.device]:
    """Lightning's accelerator and torch's device for `auto`, `cpu` or `gpu`.

    A GPU is NVIDIA's, AMD's (ROCm, which torch calls cuda too) or Apple's (mps).

    Raises:
        ValueError: unknown accelerator, or no GPU where one was asked for.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(
            f"accelerator {accelerator!r} is unknown; legal: {', '.join(ACCELERATORS)}"
        )
    found = gpus()
    if accelerator == "gpu" and not found:
        raise ValueError(
            "accelerator 'gpu' was asked for, but torch sees no GPU; legal here: auto, cpu"
        )
    if not found or accelerator == "cpu":
        return "cpu", torch.device("cpu")
    kind = found[0].type  # without a number: torch's current one
    return "gpu" if kind == "cuda" else kind, torch.device(kind)


def gpus() -> list[torch.device]:
    """The GPUs that torch sees."""
    if torch.cuda.is_available():
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [torch.device("mps")] if torch.backends.mps.is_available() else []


def _is_rocm(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.hip is not None


def shortcomings(device: torch.device) -> str:
    """A line about what a GPU that is not NVIDIA's lacks here, else ""."""
    if device.type == "mps":
        return (
            "Apple's mps: no float64 (what needs it is computed on the CPU), no CUDA graphs, no "
            "kernels of our own; never tested on one; ARGS=accelerator=cpu trains on the CPU"
        )
    if _is_rocm(device):
        return (
            "AMD's ROCm: PyTorch's kernels, one by one; our own and CUDA graphs were never tested "
            "on it (ARGS='kernels=fused cuda_graph=true' tries them)"
        )
    return ""


def pick_precision(requested: str, device: torch.device) -> Precision:
    """Lightning's precision; `auto` is bf16 where the processor multiplies bf16, else float32.

    With instructions limited to AVX2 a CPU would only emulate bf16. On Apple's mps `auto` is
    float32.

    Raises:
        ValueError: unknown precision, or one that Apple's mps does not have; names the legal ones.
    """
    on_mps = device.type == "mps"
    if requested == "64-true" and on_mps:
        raise ValueError(
            "protocol.precision '64-true' is not there on Apple's mps, which has no float64; legal "
            "here: auto, 32-true, bf16-mixed; or ARGS=accelerator=cpu"
        )
    if requested == "bf16-mixed" and on_mps and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise ValueError(
            "protocol.precision 'bf16-mixed' needs macOS 14 on Apple's mps; legal here: auto, "
            "32-true"
        )
    for precision in PRECISIONS:
        if requested == precision:
            return precision
    if requested != "auto":
        raise ValueError(
            f"protocol.precision {requested!r} is unknown; legal: auto, {', '.join(PRECISIONS)}"
        )
    return "bf16-mixed" if _multiplies_bf16(device) else "32-true"


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "mps" or os.environ.get(ONEDNN) == LIMITS[ONEDNN]:
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(
            capabilities.get("avx512_bf16")
            or capabilities.get("amx_bf16")
            or capabilities.get("arm_bf16")
        )
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def pick_kernels(requested: str, device: torch.device, precision: Precision) -> Kernels:
    """Kernels to train with: `library`, `compiled` (torch.compile), `fused` (training.fused and
    training.fused_cpu).

    `auto` is the fastest: on a CPU `fused` with Numba, not in bf16; on a GPU with Triton, in bf16;
    else `library` on a CPU, on AMD's ROCm and on Apple's mps, `compiled` on another GPU.

    Raises:
        ValueError: unknown, or `fused` where it cannot be; names the legal ones.
    """
    on_gpu = device.type == "cuda" and has_triton()
    can_fuse = (
        precision != "bf16-mixed" and find_spec("numba") is not None
        if device.type == "cpu"
        else on_gpu and precision == "bf16-mixed"
    )
    if requested == "fused" and not can_fuse:
        raise ValueError(
            "kernels 'fused' need the package numba and 32-true or 64-true on a CPU, Triton and "
            "bf16-mixed on a GPU; legal here: auto, library, compiled"
        )
    for kernels in KERNELS:
        if requested == kernels:
            return kernels
    if requested != "auto":
        raise ValueError(f"kernels {requested!r} is unknown; legal: auto, {', '.join(KERNELS)}")
    if can_fuse and not _is_rocm(device):
        return "fused"
    return "compiled" if on_gpu and not _is_rocm(device) else "library"


def pick_graph(requested: bool | None, device: torch.device) -> bool:
    """Whether updates are captured in a CUDA graph; None: on a GPU of NVIDIA.

    By default none on ROCm, whose library of convolutions (MIOpen) is not safe in graphs.

    Raises:
        ValueError: a graph was asked for where there are none.
    """
    if requested and device.type != "cuda":
        raise ValueError(
            f"cuda_graph=true needs a GPU of NVIDIA or AMD, and this run is on {device.type}; "
            "legal here: null, false"
        )
    return device.type == "cuda" and not _is_rocm(device) if requested is None else requested


def missing_kernels(requested: str, device: torch.device, precision: Precision) -> str:
    """A line where kernels that are several times faster lack a package, else ""."""
    if (requested, device.type, precision) != ("auto", "cpu", "32-true") or find_spec("numba"):
        return ""
    return (
        "small networks train two to four times slower without the package numba, and their "
        "numbers are not digit by digit the committed ones; pip install 'plainres[kernels]'"
    )


def use_kernels(
    network: nn.Module, kernels: Kernels, device: torch.device, batch: Sequence[int]
) -> Kernels:
    """Prepares a network, in place, for its kernels; returns them, or the next best for `fused`
    ones if the network cannot be fused: `compiled` on a GPU, `library` on a CPU.

    Args:
        batch: shape of a batch of images, (N, C, H, W).
    """
    if kernels == "fused" and device.type == "cpu":
        from plainres.training.fused_cpu import fuse_network  # needs Numba

        if not fuse_network(network, batch):
            kernels = "library"
    elif kernels == "fused":
        from plainres.training.fused import fuse_blocks  # needs Triton

        if not fuse_blocks(network):
            kernels = "compiled"
    if kernels == "compiled":
        blocks.compile_blocks(network)
    return kernels


def provenance(
    device: torch.device,
    precision: str = "32-true",
    kernels: str = "library",
    code: tuple[str, bool | None] | None = None,
) -> dict[str, Any]:
    """Code, versions and machine behind a measurement, as fields of records.schema.Record.

    Take it before the measurement: somebody may edit the code meanwhile.

    Args:
        code: commit and whether it is clean; None: as they are now (records.files).
    """
    commit, clean = code or files.repository_state(ROOT)
    return {
        "commit": commit,
        "clean": clean,
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": str(torch.__version__),
        "lightning": version("pytorch-lightning"),
        "processor": processor_name(device),
        "instruction_set": instruction_set(device),
        "precision": precision,
        "kernels": kernels,
    }


def timestamp() -> str:
    """Now, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def processor_name(device: torch.device) -> str:
    """Name of the GPU; or of the processor, with family and model: its generation.

    ROCm and mps are part of the name, so that no row of theirs is compared with others.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) + " (ROCm)" * _is_rocm(device)
    if device.type == "mps":
        return f"{_apple_chip()} (mps)"
    if sys.platform == "darwin":
        return _apple_chip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = {
            key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
        }
        return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _apple_chip() -> str:
    """As "Apple M2"; the processor and the GPU are on one chip."""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return platform.processor() or platform.machine()


def instruction_set(device: torch.device) -> str:
    """Vector instructions in use on a CPU: ATen's, and oneDNN's limit; "" on a GPU.

    Rounding depends on them (training.instructions).
    """
    if device.type != "cpu":
        return ""
    limit = os.environ.get(ONEDNN, "ALL")
    return f"ATen {torch.backends.cpu.get_cpu_capability()} / oneDNN {limit}"


def torch_version() -> str:
    """Major and minor version of PyTorch; rounding may change with them."""
    return ".".join(str(torch.__version__).split(".")[:2])


def arithmetic(device: torch.device) -> str:
    """What a checkpoint is continued with alone: its `instruction_set`; ROCm or mps; "" for CUDA.

    A row that began on one kind of GPU and ended on another would belong to neither.
    """
    if device.type == "mps":
        return "mps"
    return "ROCm" if _is_rocm(device) else instruction_set(device)


def unlimited_processor(device: torch.device) -> str:
    """Its name where sums are rounded in its own way: a GPU, or a CPU without a limit; else ""."""
    return "" if is_limited(instruction_set(device)) else processor_name(device)


def reset_peak_memory(device: torch.device) -> None:
    """Resets the peak where the system can: a process may train several cells, as in a test."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    if device.type == "mps":
        torch.mps.empty_cache()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: resets VmHWM
    except OSError:
        pass


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory since `reset_peak_memory` in MiB: of the GPU, or of the process on a CPU.

    Apple's mps notes no peak: what it holds now, with its cache, which keeps what was freed.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 2**20
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
