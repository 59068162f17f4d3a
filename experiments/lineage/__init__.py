"""What did each network of the lineage bring, on the same images?"""

from functools import partial

from experiments.lineage.claims import VGG, Lineage, check, label_of, read, records_of, table
from experiments.reporting.question import Drawing, Question


def drawings(lineage: Lineage) -> list[Drawing]:
    """Error against size and work; error of VGG against depth where there are several depths."""
    from experiments.lineage.figures import error_figure, vgg_figure

    alt = "error against parameters and multiply-adds"
    shown = [Drawing("error", alt, partial(error_figure, lineage))]
    if sum(network in lineage for network in VGG) > 1:
        shown.append(Drawing("vgg", "VGG: error against depth", partial(vgg_figure, lineage)))
    return shown


QUESTION = Question(
    slug="lineage",
    title="Lineage: what did each network bring?",
    read=read,
    label=label_of,
    records=records_of,
    claims=check,
    tables=lambda lineage: [table(lineage)],
    drawings=drawings,
    levels=2,
)
