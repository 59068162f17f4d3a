"""What a network on a person's own pictures takes for what: printed, drawn, and as a README."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.markdown import label_of, markdown, measured_on, paragraph
from experiments.reporting.style import publish, titled
from experiments.reporting.text import columns, percent
from plainres.records.confusion import CLASSES_TABLE, CONFUSION_TABLE, Confusion, read
from plainres.records.files import read_runs
from plainres.records.schema import Record

SHOWN = 10  # classes on the terminal
LISTED = 50  # in the README
NUMBERED = 12  # classes up to which the figure has the counts
NAMED = 40  # and the names
LONGEST = 20  # characters of a name in the figure


def report(folder: Path) -> str:
    """The errors per class of a results folder, as text; writes the figure and the README.

    An empty text where no network has a confusion matrix.

    Raises:
        ValueError: a table is damaged; names it.
    """
    networks = read(folder)
    if not networks:
        return ""
    lines = []
    for network in networks:
        lines += [f"test errors by class, {_title(network)}", *columns(_rows(network, SHOWN)), ""]
    cells = {(each.arm, each.depth, seed) for each in networks for seed in each.seeds}
    records = [row for row in read_runs(folder) if (row.arm, row.depth, row.seed) in cells]
    drawing = partial(confusion_figure, networks, label_of(records))
    written = publish(folder, {"confusion": drawing}, _readme(folder, networks, records))
    return "\n".join(
        [*lines, *map(str, (folder / CONFUSION_TABLE, folder / CLASSES_TABLE)), str(written[0])]
    )


def confusion_figure(networks: Sequence[Confusion], label: str) -> Figure:
    """One panel per network: true class (row) against predicted class (column)."""
    sides = [min(9.0, max(3.5, 2 + 0.35 * len(network.names))) for network in networks]
    figure, axes = plt.subplots(
        *(1, len(networks)),
        figsize=(sum(sides) + 1.5, max(sides) + 1.6),
        squeeze=False,
        width_ratios=sides,
        layout="compressed",
    )
    for axis, network in zip(axes[0], networks, strict=True):
        _draw(axis, network)
    image = axes[0][0].images[0]
    figure.colorbar(image, ax=axes[0].tolist(), label="of the images of the true class (%)")
    return titled(figure, "which class is taken for which (test images)", label)


def _draw(axis: Axes, network: Confusion) -> None:
    shares = [[100 * count / max(1, sum(row)) for count in row] for row in network.counts]
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axis.grid(False)
    axis.set_title(_title(network).replace(": ", "\n"), fontsize=9)
    number = len(network.names)
    counted = "" if number <= NAMED else " (number, from 0)"
    axis.set_xlabel(f"predicted class{counted}")
    axis.set_ylabel(f"true class{counted}")
    if number <= NAMED:
        names = [name if len(name) <= LONGEST else name[:LONGEST] + "…" for name in network.names]
        axis.set_xticks(range(number), names, rotation=90, fontsize=8, parse_math=False)
        axis.set_yticks(range(number), names, fontsize=8, parse_math=False)
    if number <= NUMBERED:
        for row, counts in enumerate(network.counts):
            for column, count in enumerate(counts):
                colour = "white" if shares[row][column] > 50 else "black"
                axis.text(column, row, str(count), color=colour, ha="center", va="center")


def _title(network: Confusion) -> str:
    seeds = ", ".join(map(str, network.seeds))
    return (
        f"{network.arm}-{network.depth}, seed{'s' * (len(network.seeds) > 1)} {seeds}: "
        f"{network.errors:,} of {network.images:,} images wrong "
        f"({percent(network.errors / network.images)} %)"
    )


def _rows(network: Confusion, limit: int) -> list[list[str]]:
    """A heading, then the classes, the worst first, and how many were left out beyond `limit`."""
    rows = [["class", "images", "errors", "error (%)", "most often taken for"]]
    classes = sorted(network.classes(), key=lambda each: -(each.error_percent or 0))
    for each in classes[:limit]:
        error = "–" if each.error_percent is None else f"{each.error_percent:.2f}"
        taken_for = f"{each.taken_for} ({each.times})" if each.times else "–"
        rows.append([each.class_name, str(each.images), str(each.errors), error, taken_for])
    if more := len(classes[limit:]):
        rows.append([f"and {more} more", "", "", "", f"see {CLASSES_TABLE}"])
    return rows


def _readme(folder: Path, networks: Sequence[Confusion], records: Sequence[Record]) -> str:
    lines = [f"# {folder.name}: test errors by class", "", *paragraph(f"{label_of(records)}."), ""]
    lines += ["![which class is taken for which](figures/confusion.png)", ""]
    for network in networks:
        table = markdown(_rows(network, LISTED))
        lines += [*paragraph(f"{_title(network)}."), "", *table, ""]
    lines += paragraph(
        f"All classes: [{CLASSES_TABLE}]({CLASSES_TABLE}). Counts by true class (rows) and "
        f"predicted class (columns): [{CONFUSION_TABLE}]({CONFUSION_TABLE})."
    )
    return "\n".join([*lines, "", *paragraph(measured_on(records))]) + "\n"
