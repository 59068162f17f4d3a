"""Is the loss around a residual network smoother than around a plain one?"""

from functools import partial

from experiments.landscape.claims import (
    BASIN,
    CEILING,
    Planes,
    check,
    label_of,
    read,
    statistics_of,
    table,
)
from experiments.reporting.question import Drawing, Question


def drawings(planes: Planes) -> list[Drawing]:
    """Contours of all trained networks, and the relief of the first ones."""
    from experiments.landscape.figures import contour_figure, relief_figure

    kind = planes[0].surface.statistics
    return [
        Drawing(
            f"contour_{kind}", f"contours of the loss, {kind}", partial(contour_figure, planes)
        ),
        Drawing(f"relief_{kind}", f"the loss as a height, {kind}", partial(relief_figure, planes)),
    ]


QUESTION = Question(
    slug="landscape",
    title="Loss surfaces: is the loss around a residual network smoother?",
    read=read,
    label=lambda planes: f"{label_of(planes)} · batch normalisation with {statistics_of(planes)}",
    records=lambda planes: [plane.surface for plane in planes],
    claims=check,
    tables=lambda planes: [table(planes)],
    drawings=drawings,
    where="*/surface-*.csv",
    introduction=[
        "*Negative curvature*: share of inner points where the smaller eigenvalue of the surface's "
        "Hessian is negative and larger in size than a tenth of the other one. *Roughness*: how "
        "far a point lies off the mean of its four neighbours, over the spread of all points "
        "(log10 loss). *Basin*: share of points that keep more than "
        f"{1 - BASIN:.0%} of what training has gained over guessing. *Cosine*: of the two "
        f"directions. The figures draw losses above {CEILING} times that of guessing as that bound."
    ],
)
