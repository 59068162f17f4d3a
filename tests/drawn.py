"""What a figure really draws: its texts, and whether they lie inside the canvas."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from unittest.mock import patch

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text


@contextmanager
def texts_cut_off() -> Iterator[set[str]]:
    """The texts that are drawn meanwhile and do not lie inside the canvas of their figure.

    Labels of ticks outside the axes are texts too; matplotlib has them and does not draw them.
    """
    texts: set[str] = set()
    draw = Text.draw

    def measure(text: Text, renderer, *arguments, **named) -> None:
        if text.get_visible() and text.get_text().strip():
            extent, canvas = text.get_window_extent(renderer), text.get_figure(root=True).bbox
            low, high = canvas.min <= extent.min, extent.max <= canvas.max
            if not (low.all() and high.all()):
                texts.add(text.get_text())
        draw(text, renderer, *arguments, **named)

    with patch.object(Text, "draw", measure):
        yield texts


def cut_off(figure: Figure) -> set[str]:
    """The texts of a figure that do not lie inside its PNG; closes the figure."""
    with texts_cut_off() as texts:
        figure.savefig(BytesIO(), format="png")
    plt.close(figure)
    return texts
