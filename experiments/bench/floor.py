"""The least time that the paper's grid can take on one GPU: `python -m experiments.bench.floor`. Counted, not measured; no torch.

Arithmetic: the multiply-adds of convolutions and the linear layer, forward and twice backward (for inputs and for weights), at the
device's peak in bf16. Traffic: every activation in bf16 crosses the memory bus as often as it must when only elementwise work is fused
with its neighbours; weights, images and metrics are too small to count. What stays in a cache between two kernels makes the traffic less,
so that this second number is a floor for runs from memory only. The larger of the two is the floor.

With records in results/depth/paper it also says how far above the floor they lie.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.depth.claims import ARMS, DEPTHS
from experiments.reporting.text import columns
from plainres.records.files import read_runs
from plainres.records.schema import Record

BATCH_SIZE, ITERATIONS = 128, 64_000  # He et al. 2015, section 4.2
WIDTHS_AND_SIZES = ((16, 32), (32, 16), (64, 8))  # channels and pixels a side of each stage
BYTES = 2  # of a bf16 number
# Crossings of each layer's output, in numbers of its elements. Forward: the convolution reads its input and writes its output (2), batch
# normalisation takes its statistics on the way, then reads it and writes the rectified result (2). Backward: two reads for the sums of
# batch normalisation and two more for its gradient, which is written (5); the convolution reads that and writes the gradient of its
# input (2), and reads both once more for the gradient of its weights (2).
CROSSINGS = 13


@dataclass(frozen=True)
class Device:
    """Peak arithmetic in bf16 without sparsity (FLOP/s) and memory bandwidth (bytes/s), from the maker's data sheet."""

    name: str
    flops: float
    bandwidth: float


H100 = Device("H100 SXM", 989e12, 3.35e12)


def multiply_adds(depth: int) -> int:
    """Of one image's forward pass through the paper's network for CIFAR-10."""
    blocks = (depth - 2) // 6
    total, channels = 0, 3
    for stage, (width, size) in enumerate(WIDTHS_AND_SIZES):
        layers = 2 * blocks + (stage == 0)  # the stem runs at the first stage's shape
        total += 9 * size * size * width * (channels + (layers - 1) * width)
        channels = width
    return total + 10 * channels


def traffic(depth: int) -> int:
    """Least bytes an iteration moves."""
    blocks = (depth - 2) // 6
    elements = sum(
        (2 * blocks + (stage == 0)) * width * size * size
        for stage, (width, size) in enumerate(WIDTHS_AND_SIZES)
    )
    return CROSSINGS * BYTES * BATCH_SIZE * elements


def seconds(depth: int, device: Device = H100) -> tuple[float, float]:
    """Arithmetic's and traffic's floor of one cell."""
    flops = 2 * 3 * multiply_adds(depth) * BATCH_SIZE * ITERATIONS
    return flops / device.flops, traffic(depth) * ITERATIONS / device.bandwidth


def table(records: Sequence[Record], device: Device = H100) -> list[list[str]]:
    """One line a depth under a row of headings, and a sum over the ten cells; measured seconds where a GPU's records are there."""
    lines = [
        [
            "depth",
            "PFLOP a cell",
            "TB a cell",
            "arithmetic (s)",
            "traffic (s)",
            "measured (s)",
            "measured / floor",
        ]
    ]
    whole = [0.0, 0.0]
    for depth in DEPTHS:
        arithmetic, memory = seconds(depth, device)
        whole = [whole[0] + len(ARMS) * arithmetic, whole[1] + len(ARMS) * memory]
        measured = [
            row.seconds for row in records if row.depth == depth and row.iterations == ITERATIONS
        ]
        mean = sum(measured) / len(measured) if measured else None
        work = [
            f"{arithmetic * device.flops / 1e15:.1f}",
            f"{memory * device.bandwidth / 1e12:.0f}",
            f"{arithmetic:.1f}",
            f"{memory:.0f}",
        ]
        found = (
            ["–", "–"] if mean is None else [f"{mean:.0f}", f"{mean / max(arithmetic, memory):.1f}"]
        )
        lines.append([str(depth), *work, *found])
    return [*lines, ["ten cells", "", "", f"{whole[0]:.0f}", f"{whole[1]:.0f}", "", ""]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table for one H100."""
    parser = argparse.ArgumentParser(
        description="The least time that the paper's grid can take on one GPU."
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("results/depth/paper"),
        help="records to compare with, if there are any",
    )
    try:
        records = read_runs(parser.parse_args(arguments).folder)
    except ValueError as error:
        print(f"plainres: {error}", file=sys.stderr)
        return 1
    print(f"{H100.name}: {H100.flops / 1e12:.0f} TFLOP/s in bf16, {H100.bandwidth / 1e12:g} TB/s\n")
    print("\n".join(columns(table(records))))
    if records:
        print(
            "\nMeasured seconds are those of a cell; cells that share a GPU each count all of them."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
