"""The least time of the paper's grid on one GPU: `python -m experiments.bench.floor`. No torch.

The floor is counted, not measured. It is the larger of two numbers:
- arithmetic: multiply-adds of convolutions and the linear layer, forward and twice backward (for
  inputs and for weights), at the device's peak in bf16;
- traffic: every activation in bf16 crosses the memory bus as often as it must when only
  elementwise work is fused with its neighbours. Weights, images and metrics are too small to count.
  What stays in a cache between two kernels makes the traffic less: this floor holds for runs from
  memory only.

Where results/depth/paper has records, it also says how far above the floor they are.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.reporting.text import columns
from plainres.records.errors import Parser, status_of
from plainres.records.files import read_runs
from plainres.records.schema import Record

# He et al. 2015, section 4.2
ARMS, DEPTHS = ("plain", "residual"), (20, 32, 44, 56, 110)
BATCH_SIZE, ITERATIONS = 128, 64_000
WIDTHS_AND_SIZES = ((16, 32), (32, 16), (64, 8))  # of each stage: channels, pixels of a side
BYTES = 2  # of a bf16 number
# Crossings of each layer's output, in numbers of its elements. Forward: the convolution reads its
# input and writes its output (2) and takes the statistics of batch normalisation on the way, which
# then reads it and writes the rectified result (2). Backward: two reads for the sums of batch
# normalisation, two more for its gradient, which is written (5); the convolution reads that and
# writes the gradient of its input (2), and reads both once more for its weights' gradient (2).
CROSSINGS = 13


# From the maker's data sheet: peak in bf16 without sparsity (FLOP/s), bandwidth (bytes/s)
DEVICE, PEAK, BANDWIDTH = "H100 SXM", 989e12, 3.35e12


def stages(depth: int) -> list[tuple[int, int, int]]:
    """Layers, channels and pixels of a side of each stage; the stem counts for the first."""
    blocks = (depth - 2) // 6
    return [(2 * blocks + (width == 16), width, size) for width, size in WIDTHS_AND_SIZES]


def multiply_adds(depth: int) -> int:
    """Of one image's forward pass through the paper's network for CIFAR-10."""
    total, channels = 0, 3
    for layers, width, size in stages(depth):
        total += 9 * size * size * width * (channels + (layers - 1) * width)
        channels = width
    return total + 10 * channels


def traffic(depth: int) -> int:
    """The fewest bytes that one iteration moves."""
    elements = sum(layers * width * size * size for layers, width, size in stages(depth))
    return CROSSINGS * BYTES * BATCH_SIZE * elements


def seconds(depth: int) -> tuple[float, float]:
    """One cell's floor from arithmetic, and from traffic."""
    flops = 2 * 3 * multiply_adds(depth) * BATCH_SIZE * ITERATIONS
    return flops / PEAK, traffic(depth) * ITERATIONS / BANDWIDTH


def table(records: Sequence[Record]) -> list[list[str]]:
    """Headings, one line per depth, and the sum over the ten cells."""
    heads = ["depth", "PFLOP per cell", "TB per cell", "arithmetic (s)", "traffic (s)"]
    lines = [[*heads, "measured (s)", "measured / floor"]]
    for depth in DEPTHS:
        arithmetic, memory = seconds(depth)
        line = [str(depth), f"{arithmetic * PEAK / 1e15:.1f}", f"{memory * BANDWIDTH / 1e12:.0f}"]
        line += [f"{arithmetic:.1f}", f"{memory:.0f}"]
        cells = [row for row in records if (row.depth, row.iterations) == (depth, ITERATIONS)]
        if cells:
            mean = statistics.fmean(row.seconds for row in cells)
            line += [f"{mean:.0f}", f"{mean / max(arithmetic, memory):.1f}"]
        lines.append(line if cells else [*line, "–", "–"])
    sums = [len(ARMS) * sum(column) for column in zip(*map(seconds, DEPTHS), strict=True)]
    return [*lines, ["ten cells", "", "", *(f"{total:.0f}" for total in sums), "", ""]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table for one H100."""
    parser = Parser(description="Least time of the paper's grid on one GPU.")
    folder = Path("results/depth/paper")
    parser.add_argument("folder", type=Path, nargs="?", default=folder, help=f"default: {folder}")
    records = read_runs(parser.parse_args(arguments).folder)
    print(f"{DEVICE}: {PEAK / 1e12:.0f} TFLOP/s in bf16, {BANDWIDTH / 1e12:g} TB/s\n")
    print("\n".join(columns(table(records))))
    if records:
        print("\nMeasured seconds are a cell's own; cells that share a GPU each count all of them.")
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
