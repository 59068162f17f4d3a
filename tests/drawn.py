"""What a figure really draws: its texts, how large they are, and where they lie."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import NamedTuple
from unittest.mock import patch

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from experiments.reporting.style import STYLE

TOUCHING = 1.0  # pixels that two texts may share
THIN = 1.5  # points: lines of single seeds, of references and of fits are as thin or thinner


class Drawn(NamedTuple):
    """A text that was drawn."""

    text: str
    points: float  # the size of its type
    extent: Bbox
    inside: bool  # the canvas


@contextmanager
def texts_drawn() -> Iterator[list[Drawn]]:
    """The texts that are drawn meanwhile.

    Labels of ticks outside the axes are texts too; matplotlib has them and does not draw them.
    """
    texts: list[Drawn] = []
    draw = Text.draw

    def measure(text: Text, renderer, *arguments, **named) -> None:
        if text.get_visible() and text.get_text().strip():
            extent = Text.get_window_extent(text, renderer)  # of an annotation without its arrow
            canvas = text.get_figure(root=True).bbox
            inside = (canvas.min <= extent.min).all() and (extent.max <= canvas.max).all()
            texts.append(Drawn(text.get_text(), text.get_fontsize(), extent, bool(inside)))
        draw(text, renderer, *arguments, **named)

    with patch.object(Text, "draw", measure):
        yield texts


def cut_off(texts: list[Drawn]) -> set[str]:
    """The texts that do not lie inside the canvas of their figure."""
    return {each.text for each in texts if not each.inside}


def texts_of(figure: Figure) -> list[Drawn]:
    """The texts of a figure, with those of its ticks, once its layout has settled; closes it."""
    figure.set_dpi(STYLE["savefig.dpi"])
    figure.draw_without_rendering()
    with texts_drawn() as texts:
        figure.draw_without_rendering()
    plt.close(figure)
    return texts


def overlapping(texts: list[Drawn]) -> list[tuple[str, str]]:
    """The pairs of texts that lie over each other."""
    return [
        (one.text, other.text)
        for one, other in combinations(texts, 2)
        if (shared := Bbox.intersection(one.extent, other.extent))
        and min(shared.width, shared.height) > TOUCHING
    ]


def thick_lines(axis: Axes) -> int:
    """The lines of a panel, without thin ones and straight ones between two points."""
    return sum(
        line.get_linewidth() > THIN and line.get_linestyle() != "None" and len(line.get_xdata()) > 2
        for line in axis.get_lines()
    )


def caption(figure: Figure) -> str:
    """What stands below a figure: data, protocol, seeds."""
    return " ".join(figure.get_supxlabel().split())


def title(figure: Figure) -> str:
    """What a figure says, as one line."""
    return " ".join(figure.get_suptitle().split())
