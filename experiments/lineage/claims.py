"""What each network of the lineage brought, on the same images: `python -m experiments.lineage.claims results/lineage`.

Each folder below results/lineage is one network. Differences are taken within seeds, which share batches; how a verdict follows from
them: experiments.verdict.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import verdict
from experiments.inference import Criterion
from experiments.tables import read_folders, require_same_images
from experiments.text import columns, tell
from experiments.verdict import INCONCLUSIVE, Claim
from plainres.record import Record

# Folder → name and year, in the order of their papers
NETWORKS = {
    "lenet5": ("LeNet-5", 1998),
    "alexnet": ("AlexNet, half width", 2012),
    "vgg11": ("VGG-11, half width", 2014),
    "vgg13": ("VGG-13, half width", 2014),
    "vgg16": ("VGG-16, half width", 2014),
    "vgg19": ("VGG-19, half width", 2014),
    "vgg16_bn": ("VGG-16 with BN, half width", 2015),
    "plain20": ("plain-20", 2015),
    "plain56": ("plain-56", 2015),
    "residual20": ("residual-20", 2015),
    "residual56": ("residual-56", 2015),
    "se20": ("SE-residual-20", 2017),
}
MARGIN = 0.005  # half a point: less than that is no difference

Lineage = Mapping[str, Sequence[Record]]  # folder → its records


@dataclass(frozen=True)
class Step:
    """`better` has a lower error than `worse`; with a margin, one that is higher by no more than that.

    Args:
        measure: a field of Record, a fraction.
    """

    statement: str
    better: str
    worse: str
    measure: str = "test_error"
    margin: float = 0.0


STEPS = (
    Step("AlexNet errs less than LeNet-5 on test images", "alexnet", "lenet5"),
    Step("VGG-16 errs less than AlexNet on test images", "vgg16", "alexnet"),
    Step("VGG-16 errs less than VGG-11 on test images: depth helps", "vgg16", "vgg11"),
    Step("VGG-19 does not err less than VGG-16: it no longer helps", "vgg16", "vgg19", margin=MARGIN),
    Step("batch normalisation lowers VGG-16's test error", "vgg16_bn", "vgg16"),
    Step("plain: training error rises from 20 to 56 layers", "plain20", "plain56", "train_error"),
    Step("residual: it does not", "residual56", "residual20", "train_error", MARGIN),
    Step("residual-56 errs less than VGG-16 on test images, with fewer parameters", "residual56", "vgg16"),
    Step("squeeze-and-excitation lowers residual-20's test error", "se20", "residual20"),
)


def read_lineage(folder: Path) -> dict[str, list[Record]]:
    """The records of each network, in the order of the papers, networks of one's own last.

    Raises:
        ValueError: there are no records, a table is damaged, or networks were trained on different images.
    """
    found = read_folders(folder, "sweep-lineage")
    require_same_images(found)
    order = [*NETWORKS, *found]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def name_of(network: str) -> str:
    """A folder's network for a reader."""
    return NETWORKS[network][0] if network in NETWORKS else network


def error(record: Record, measure: str) -> float:
    """The record's value of a measure; that of guessing for a diverged run."""
    value: float | None = getattr(record, measure)
    return 1 - 1 / record.num_classes if value is None else value


def check(lineage: Lineage) -> list[Claim]:
    """The steps as claims, in the order of STEPS; corrected together where there are several seeds."""
    claims = []
    for step in STEPS:
        by_seed = [{record.seed: record for record in lineage.get(name, ())} for name in (step.better, step.worse)]
        seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
        if not seeds:
            missing = [name for name, records in zip((step.better, step.worse), by_seed, strict=True) if not records]
            claims.append(Claim(step.statement, INCONCLUSIVE, f"missing: {', '.join(missing) or 'a seed that both have'}"))
            continue
        differences = tuple(error(by_seed[1][seed], step.measure) - error(by_seed[0][seed], step.measure) for seed in seeds)
        criterion = Criterion(f"{name_of(step.worse)} - {name_of(step.better)}", differences, bound=-step.margin)
        seen = f"{criterion.name}: {verdict.points(criterion.mean)} of {step.measure}"
        if "fewer parameters" in step.statement:
            fewer, more = by_seed[0][seeds[0]].num_parameters, by_seed[1][seeds[0]].num_parameters
            seen += f" ({fewer:,} against {more:,} parameters)"
        claims.append(verdict.judge(step.statement, [criterion], seen))
    return verdict.corrected(claims)


def table(lineage: Lineage) -> list[list[str]]:
    """One line a network under a row of headings; means over seeds, errors in per cent."""
    heads = ["training error", "in evaluation mode", "test error"]
    lines = [["network", "year", "parameters", "multiply-adds", *heads, "seconds/iteration", "seeds"]]
    for network, records in lineage.items():
        first = records[0]
        errors = [
            f"{100 * statistics.fmean(error(record, measure) for record in records):.2f}"
            for measure in ("train_error", "train_error_eval", "test_error")
        ]
        work = "–" if first.num_multiply_adds is None else f"{first.num_multiply_adds:,}"
        pace = statistics.fmean(record.seconds / record.iterations for record in records)
        year = str(NETWORKS[network][1]) if network in NETWORKS else "–"
        lines.append([name_of(network), year, f"{first.num_parameters:,}", work, *errors, f"{pace:.3f}", str(len(records))])
    return lines


def _report(folder: Path) -> tuple[list[str], int]:
    lineage = read_lineage(folder)
    claims = check(lineage)
    return [*columns(table(lineage)), "", *verdict.lines(claims)], verdict.status(claims)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints table and verdicts; 1 when a claim is not reproduced, 2 and one line where there is nothing to judge."""
    return tell(_report, "What each network of the lineage brought.", "results/lineage", arguments)


if __name__ == "__main__":
    sys.exit(main())
