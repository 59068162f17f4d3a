"""Is the loss around a residual network smoother than around a plain one?"""

from experiments.landscape.claims import (
    BASIN,
    CEILING,
    check,
    label_of,
    read,
    statistics_of,
    table,
)
from experiments.reporting.question import Question

QUESTION = Question(
    slug="landscape",
    title="Loss surfaces: is the loss around a residual network smoother?",
    read=read,
    label=lambda planes: f"{label_of(planes)} · batch normalisation with {statistics_of(planes)}",
    records=lambda planes: [plane.surface for plane in planes],
    claims=check,
    tables=lambda planes: [table(planes)],
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
