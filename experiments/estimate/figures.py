"""The results folder `estimate`: how good the costs are, and a schedule simulated with them.

The same tables give the same bytes.
"""

import statistics
from functools import partial
from itertools import product
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from experiments.estimate.costs import (
    CIFAR,
    DEVICES,
    Costs,
    Network,
    held_out,
    measured,
    mib_of,
    seconds_of,
    shape_of,
)
from experiments.estimate.plan import (
    LIMIT,
    Work,
    estimate,
    in_order,
    longest_first,
    lower_bound,
    mean_and_largest,
)
from experiments.grid import DEPTHS
from experiments.reporting.markdown import label_of, markdown, paragraph
from experiments.reporting.style import (
    BLUE,
    GREEN,
    REFERENCE,
    VERMILLION,
    key_line,
    publish,
    titled,
)
from plainres.records.files import read_config, read_runs

FOLDER = "estimate"
PROTOCOL, DEVICE, SEEDS, ARMS = "paper", "h100", range(5), ("plain", "residual")
SLOTS = range(1, 257)  # cells at once
TICKS = (1, 4, 16, 64, 256)
LONGEST, LAUNCHED, SHALLOWEST = "longest first", "grid order", "shallowest first"
LINES = {LONGEST: (BLUE, "-"), LAUNCHED: (VERMILLION, "--"), SHALLOWEST: (GREEN, "-.")}


def orders(results: Path, costs: Costs) -> dict[str, list[float]]:
    """Seconds of the cells of five seeds of the paper's grid, in the order of their launch.

    The grid's own order has the deepest networks first; SHALLOWEST is that of DEPTHS=20,32,….
    """
    config = read_config(results / "depth" / PROTOCOL)
    if config is None:
        raise ValueError(f"{results / 'depth' / PROTOCOL} has no configuration to simulate")
    protocol, size = config["protocol"], config["data"]["image_size"]
    shape = shape_of(config["model"], size, protocol["batch_size"])

    def seconds(depths: tuple[int, ...]) -> list[float]:
        works = [
            Work(Network(arm, depth), shape, protocol["iterations"])
            for depth, arm, _ in product(depths, ARMS, SEEDS)
        ]
        return estimate(works, DEVICE, 1, costs).seconds

    launched = seconds(DEPTHS)
    return {
        LONGEST: sorted(launched, reverse=True),
        LAUNCHED: launched,
        SHALLOWEST: seconds(DEPTHS[::-1]),
    }


def schedule_figure(seconds: dict[str, list[float]], label: str) -> Figure:
    """Hours until the last cell ends, and how far that is above the lower bound."""
    figure, (hours, ratio) = plt.subplots(1, 2, layout="constrained")
    least = [lower_bound(seconds[LAUNCHED], slots) for slots in SLOTS]
    for name, (colour, dashes) in LINES.items():
        ends = [in_order(seconds[name], slots) for slots in SLOTS]
        style = {"color": colour, "linestyle": dashes, "label": name}
        hours.plot(SLOTS, [end / 3600 for end in ends], **style)
        ratio.plot(SLOTS, [e / b for e, b in zip(ends, least, strict=True)], **style)
    bound = {**REFERENCE, "label": "lower bound"}
    hours.plot(SLOTS, [end / 3600 for end in least], **bound)
    ratio.axhline(1, **REFERENCE)
    hours.set(title="time", ylabel="hours, logarithmic", yscale="log")
    hours.yaxis.set_major_locator(LogLocator(base=2))
    hours.yaxis.set_major_formatter("{x:g}")
    ratio.set(title="time / lower bound", ylabel="ratio")
    for axis in (hours, ratio):
        _slots_axis(axis)
    worst = max(
        in_order(seconds[SHALLOWEST], n) / longest_first(seconds[LAUNCHED], n) for n in SLOTS
    )
    keys = [
        *(key_line(name, color=colour, linestyle=d) for name, (colour, d) in LINES.items()),
        key_line("lower bound", **REFERENCE),
    ]
    title = f"Shallow cells first: up to {worst:.1f} times as long as the longest first"
    return titled(figure, title, label, keys=keys)


def _slots_axis(axis: Axes) -> None:
    axis.set(xscale="log", xlabel="cells at once")
    axis.set_xticks(TICKS, [str(tick) for tick in TICKS])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())


def readme(results: Path, costs: Costs, label: str) -> str:
    """The generated README.md: held-out errors, schedules."""
    seconds = orders(results, costs)
    lines = [
        "# Estimate: what will a sweep cost?",
        "",
        *paragraph(
            "Generated from committed tables by `make figures`. What is fitted, and how: "
            "[experiments/estimate](/experiments/estimate/README.md)."
        ),
        "",
        "## How good are the costs?",
        "",
        *paragraph(
            "Each network is left out in turn, and its seconds per iteration and its memory are "
            "computed from the others of its row. Mean and largest relative error; – where "
            "too few networks are left."
        ),
        "",
        *markdown(_errors(costs)),
        "",
        *paragraph(_summary(costs)),
        "",
        "## In which order?",
        "",
        f"![time by cells at once, for three orders of launch · {label}](figures/schedule.png)",
        "",
        *paragraph(
            f"Simulated with the costs of {DEVICES[DEVICE].text}: hours until the last cell ends. "
            f"{LAUNCHED.capitalize()} is that of `make sweep-depth`; {SHALLOWEST} is that of "
            f"`DEPTHS={','.join(map(str, DEPTHS[::-1]))}`."
        ),
        "",
        *markdown(_schedules(seconds)),
    ]
    return "\n".join(lines) + "\n"


def _errors(costs: Costs) -> list[list[str]]:
    heads = ["device", "precision", "kernels", "networks", "measured"]
    table = [[*heads, "seconds: mean, largest", "memory: mean, largest"]]
    for setting, known in sorted(costs.items()):
        if setting.shape.family == CIFAR:
            depths = sorted({network.depth for network in known})
            ends = "–".join(map(str, dict.fromkeys((depths[0], depths[-1]))))
            text = f"{len(known)}, {ends} layers"
            row = [setting.device, setting.precision, setting.kernels, str(setting.shape), text]
            for values in (seconds_of(known), mib_of(known)):
                errors = held_out(values)
                pair = mean_and_largest(errors) if errors else ()
                row.append(", ".join(f"{100 * each:.1f} %" for each in pair) or "–")
            table.append(row)
    return table


def _summary(costs: Costs) -> str:
    """Over all held-out networks."""
    errors = {s: held_out(seconds_of(k)) for s, k in costs.items() if s.shape.family == CIFAR}
    good = {s: e for s, e in errors.items() if e and mean_and_largest(e)[0] <= LIMIT}
    poor = [s for s, e in errors.items() if e and s not in good]
    sizes = [abs(error) for of_one in good.values() for error in of_one.values()]
    within = sum(size <= LIMIT for size in sizes)
    text = (
        f"In {len(good)} rows the mean error is at most {100 * LIMIT:.0f} %: {len(sizes)} "
        f"networks, {within} of them within {100 * LIMIT:.0f} %, mean "
        f"{100 * statistics.fmean(sizes):.1f} %. "
    )
    names = "; ".join(f"{s.device}, {s.shape}" for s in sorted(poor))
    return text + (f"Above it: {names}. Estimates that use these print a warning." if poor else "")


def _schedules(seconds: dict[str, list[float]]) -> list[list[str]]:
    rows = [["cells at once", *LINES, "lower bound"]]
    for slots in (n for n in SLOTS if n & (n - 1) == 0):
        ends = [in_order(seconds[name], slots) for name in LINES]
        ends.append(lower_bound(seconds[LAUNCHED], slots))
        rows.append([str(slots), *(f"{end / 3600:.2f}" for end in ends)])
    return rows


def label_of_schedule(results: Path) -> str:
    """Whose costs the simulation has."""
    records = read_runs(results / "depth" / PROTOCOL)
    measured_on = label_of(records).rpartition(" · ")[0]
    return f"{measured_on} · {len(SEEDS)} seeds · simulated with costs of an H100"


def write_report(results: Path) -> list[Path]:
    """Writes figures/ and README.md of results/estimate; returns what it wrote."""
    costs, label = measured(results), label_of_schedule(results)
    folder = results / FOLDER
    folder.mkdir(exist_ok=True)
    draw = partial(schedule_figure, orders(results, costs), label)
    return publish(folder, {"schedule": draw}, readme(results, costs, label))
