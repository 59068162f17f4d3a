"""The figure of the robustness experiment."""

from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.judging.inference import fewest_seeds
from experiments.reporting.question import Drawing
from experiments.reporting.style import ARM_STYLES, key_line, titled
from experiments.robustness.claims import DEEP, SHALLOW, Settings, label_of


def drawings(part: Settings) -> list[Drawing]:
    alt = f"error of {SHALLOW} and {DEEP} layers by setting"
    return [Drawing("rises", alt, partial(rises_figure, part))]


def rises_figure(part: Settings) -> Figure:
    """One line per setting and arm, from the error of the shallow network to that of the deep."""
    settings = part.settings
    figure, axis = plt.subplots(layout="constrained")
    for place, setting in enumerate(settings):
        arms = (("plain", "plain", 0.16), (setting.shortcut_arm, "residual", -0.16))
        for arm, styled_as, offset in arms:
            colour, marker, _ = ARM_STYLES[styled_as]
            style: Any = {"marker": marker, "color": colour}
            cells = [(arm, depth) for depth in (SHALLOW, DEEP)]
            points = [100 * setting.errors[cell] for cell in cells if cell in setting.errors]
            y = [offset - place] * len(points)
            axis.plot(points, y, linestyle="-", **style, markevery=[0])
            if len(points) == 2:
                axis.plot(points[1], y[1], **style, markerfacecolor="white")
    names = [setting.name.replace("_", " ") for setting in settings]
    axis.set_yticks([-place for place in range(len(settings))], names)
    axis.set_xlabel(f"running training error (%): {SHALLOW} layers filled, {DEEP} layers open")
    styles = zip(("plain", "with shortcuts"), ARM_STYLES.values(), strict=True)
    handles = [key_line(name, color=colour, marker=marker) for name, (colour, marker, _) in styles]
    judged = [setting.judged["degrades"] for setting in settings]
    count = f"{judged.count(True)} of {len(judged) - judged.count(None)} settings"
    seeds = {record.seed for record in part.records}
    untested = ", not tested" if len(seeds) < fewest_seeds(1) else ""
    title = f"plain-{DEEP} errs more than plain-{SHALLOW} in {count}{untested}"
    return titled(figure, title, label_of(part), "one choice changed at a time", keys=handles)
