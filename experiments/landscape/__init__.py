"""Is the loss around a residual network smoother than around a plain one?"""

from experiments.landscape import claims
from experiments.reporting.question import Question

QUESTION = Question(
    slug="landscape",
    title="Loss surfaces: is the loss around a residual network smoother?",
    read=claims.read,
    label=lambda planes: (
        f"{claims.label_of(planes)} · batch normalisation with {claims.statistics_of(planes)}"
    ),
    records=lambda planes: [plane.surface for plane in planes],
    claims=claims.check,
    tables=lambda planes: [claims.table(planes)],
    where="*/surface-*.csv",
    introduction=[
        "*Negative curvature*: share of inner points where the smaller eigenvalue of the surface's "
        "Hessian is negative and larger in size than a tenth of the other one. *Roughness*: how "
        "far a point lies off the mean of its four neighbours, over the spread of all points "
        "(log10 loss). *Basin*: share of the surface with more than "
        f"{1 - claims.BASIN:.0%} of what training has gained over guessing. *Cosine*: of the two "
        f"directions. The figures draw losses above {claims.CEILING} times that of guessing as "
        "that bound."
    ],
)
