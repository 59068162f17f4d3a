"""The figure of LeNet-5."""

from functools import partial

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.lenet.claims import DIGITS, FASHION, MODERN, OLD, Runs, label_of
from experiments.reporting.question import Drawing
from experiments.reporting.style import titled

NAMES = {FASHION: "Fashion-MNIST", DIGITS: "digits"}
VARIANTS = {  # colours: Okabe and Ito
    MODERN: ("#0072B2", "ReLU, max pooling"),
    OLD: ("#D55E00", "tanh, average pooling"),
}


def drawings(runs: Runs) -> list[Drawing]:
    return [Drawing("curves", "error against iteration", partial(curves_figure, runs))]


def curves_figure(runs: Runs) -> Figure:
    """Error against iteration: one panel per data set, one colour per variant, one line per seed.

    Training error is dashed, test error solid.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, (data, title) in zip(axes, NAMES.items(), strict=True):
        for variant, (colour, parts) in VARIANTS.items():
            points = runs.curves.get(f"{data}-{variant}", ())
            for number, seed in enumerate(sorted({point.seed for point in points})):
                line = [point for point in points if point.seed == seed]
                errors = [100 * point.train_error for point in line]
                steps = [point.iteration for point in line]
                axis.plot(steps, errors, color=colour, linestyle="--", linewidth=1)
                tested = [
                    (p.iteration, 100 * p.test_error) for p in line if p.test_error is not None
                ]
                steps, errors = [step for step, _ in tested], [error for _, error in tested]
                label = f"{parts} ({variant})" if number == 0 else None
                axis.plot(steps, errors, color=colour, linewidth=1.6, label=label)
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.set_ylim(0, 30)
    axes[0].set_ylabel("error (%): training dashed, test solid")
    axes[0].legend(loc="upper right", fontsize=9)
    return titled(figure, "LeNet-5", label_of(runs))
