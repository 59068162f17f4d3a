"""What flows forward and backward in plain and residual networks?"""

from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.reporting.question import Drawing, Question
from experiments.signal.claims import PROBES_TABLE, Signal, check, label_of, read, table


def drawings(signal: Signal) -> list[Drawing]:
    """Responses and gradients by layer, gradients by depth; where trained, also during training."""
    from experiments.signal import figures

    draw: dict[str, Callable[[Signal], Any]] = {
        "responses": figures.responses_figure,
        "gradients": figures.gradients_figure,
        "by_depth": figures.depth_figure,
    }
    if signal.trained:
        draw["gradients_end"] = partial(figures.gradients_figure, at_end=True)
        draw["training"] = figures.training_figure
    return [
        Drawing(f"{signal.scale}-{name}", name.replace("_", " "), partial(function, signal))
        for name, function in draw.items()
    ]


QUESTION = Question(
    slug="signal",
    title="What flows forward and backward?",
    read=read,
    label=lambda signal: f"{signal.scale}: {label_of(signal)}",
    records=lambda signal: signal.all_records,
    claims=check,
    tables=lambda signal: [table(signal)],
    drawings=drawings,
    where=f"*/{PROBES_TABLE}",
    levels=2,
    introduction=[
        "*Start*: before the first update. *Response*: standard deviation of what a layer puts "
        "out. *Gradient second / last*: gradient norm at the second layer's output over that at "
        "the last one's. *Weight gradient*: of the second layer. Ratios are geometric means over "
        "seeds. –, and a line that ends: there is a seed whose value is exactly 0 or not finite."
    ],
)
