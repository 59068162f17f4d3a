"""The figure of the large networks."""

from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.large.claims import LAST, Runs, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import BLUE, VERMILLION, key_line, titled


def drawings(runs: Runs) -> list[Drawing]:
    alt = "loss before and after the updates, by network"
    return [Drawing("losses", alt, partial(losses_figure, runs))]


def losses_figure(runs: Runs) -> Figure:
    """First and last loss of the fixed batch, one row per cell; a diverged run has no last one."""
    figure, axis = plt.subplots(layout="constrained")
    cells = [(network, run) for network, own in runs.items() for run in own]
    first: dict[str, Any] = {"marker": "o", "color": BLUE, "markerfacecolor": "white"}
    last: dict[str, Any] = {"marker": "o", "color": VERMILLION}
    for place, (_, run) in enumerate(cells):
        if not run.diverged:
            axis.plot([run.first, run.last], [-place, -place], color=BLUE, linewidth=1.5)
            axis.plot(run.last, -place, **last)
        axis.plot(run.first, -place, **first)
    axis.set_yticks([-place for place in range(len(cells))], [network for network, _ in cells])
    axis.set_xlim(left=min(0.0, axis.get_xlim()[0]))
    axis.set_xlabel("training loss of the fixed batch (nats per image)")
    learned = sum(all(run.learned for run in own) for own in runs.values())
    title = f"{learned} of {len(runs)} large networks learn one batch at their own size"
    keys = [
        key_line("before the first update", linestyle="none", **first),
        key_line(f"mean of the last {LAST}", linestyle="none", **last),
    ]
    return titled(figure, title, label_of(runs), keys=keys)
