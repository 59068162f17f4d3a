"""Which vector instructions torch may use. Imports no torch.

Rounding depends on them: limited to AVX2, a newer processor replays the curves of an older one
digit by digit (docs/method.md, Reproducibility).
"""

import os
import platform
import sys
from pathlib import Path
from types import ModuleType

INSTRUCTION_SETS = ("AVX2", "native")
ATEN, ONEDNN = "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"
# torch (ATen) and oneDNN read these when they first compute, and never again
LIMITS = {ONEDNN: "AVX2", ATEN: "avx2"}


def check_instruction_set(name: str) -> None:
    """Raises ValueError for a word that is not in INSTRUCTION_SETS."""
    if name not in INSTRUCTION_SETS:
        raise ValueError(
            f"instruction_set {name!r} is unknown; legal: {', '.join(INSTRUCTION_SETS)}"
        )


def limit_instructions(name: str, accelerator: str = "cpu") -> None:
    """Limits this process and those that it starts to AVX2, before anything is computed.

    For `native`, on a GPU and on a processor without AVX2 the environment stays as it is.

    Args:
        name: one of INSTRUCTION_SETS.
        accelerator: of the run: auto, cpu or gpu.

    Raises:
        ValueError: torch has computed in this process, so that other instructions stay in use.
    """
    torch = sys.modules.get("torch")
    if name == "native" or _on_gpu(accelerator, torch) or not _has_avx2():
        return
    before = {variable: os.environ.get(variable) for variable in LIMITS}
    os.environ.update(LIMITS)
    # With ATen alone limited before, nothing tells what oneDNN has computed with
    unknown = before[ATEN] == LIMITS[ATEN] and before != LIMITS
    if torch is None or (not unknown and torch.backends.cpu.get_cpu_capability() == "AVX2"):
        return
    for variable, value in before.items():
        del os.environ[variable]
        if value is not None:
            os.environ[variable] = value
    raise ValueError(
        "instruction_set AVX2 comes too late: torch has already computed in this process with "
        "other instructions; set "
        + " and ".join(f"{variable}={value}" for variable, value in LIMITS.items())
        + " before, or instruction_set=native"
    )


def _on_gpu(accelerator: str, torch: ModuleType | None) -> bool:
    """Whether the run is known to be on a GPU: without torch nothing tells what `auto` becomes."""
    if accelerator == "auto" and torch is not None:
        return torch.cuda.is_available()
    return accelerator == "gpu"


def _has_avx2() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
