"""What each network of the lineage brought, on the same images: `python -m experiments.lineage.claims results/lineage`.

Each folder below results/lineage is one network. Differences are taken within seeds, which share batches; how a verdict follows from
them: experiments.judging.verdict.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.pairs import read_folders, require_same_images
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, Claim
from experiments.reporting.text import columns, tell
from plainres.records.files import CONFIG_FILE, read_json
from plainres.records.identity import config_differences
from plainres.records.schema import Record

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
LEARNED = 0.05  # of the errors of guessing undone: a network that undid fewer has not learned
OWN = ("model.", "protocol.name")  # what networks may differ in

Lineage = Mapping[str, Sequence[Record]]  # folder → its records


@dataclass(frozen=True)
class Step:
    """The error of `worse` minus that of `better` lies above `bound`.

    Args:
        measure: a field of Record, a fraction.
        smaller: `better` must have fewer parameters too.
        may_fail: whether `worse` may be a network that has not learned.
    """

    statement: str
    better: str
    worse: str
    measure: str = "test_error"
    bound: float = MARGIN
    smaller: bool = False
    may_fail: bool = False


STEPS = (
    Step("AlexNet errs less than LeNet-5 on test images", "alexnet", "lenet5"),
    Step("VGG-16 errs less than AlexNet on test images", "vgg16", "alexnet"),
    Step("VGG-16 errs less than VGG-11 on test images: depth helps", "vgg16", "vgg11"),
    Step(
        "VGG-19 does not err less than VGG-16: it no longer helps", "vgg16", "vgg19", bound=-MARGIN
    ),
    Step("batch normalisation lowers VGG-16's test error", "vgg16_bn", "vgg16"),
    Step(
        "plain: training error rises from 20 to 56 layers",
        "plain20",
        "plain56",
        "train_error",
        may_fail=True,
    ),
    Step("residual: it does not", "residual56", "residual20", "train_error", -MARGIN),
    Step(
        "residual-56 errs less than VGG-16 on test images, with fewer parameters",
        "residual56",
        "vgg16",
        smaller=True,
    ),
    Step("squeeze-and-excitation lowers residual-20's test error", "se20", "residual20"),
)


def read_lineage(folder: Path) -> dict[str, list[Record]]:
    """The records of each network, in the order of the papers, networks of one's own last.

    Raises:
        ValueError: there are no records, a table is damaged, or networks were trained on different images or by different protocols.
    """
    found = read_folders(folder, "sweep-lineage")
    require_same_images(found)
    configs = {name: config for name in found if (config := read_json(folder / name / CONFIG_FILE))}
    for (one, config), (other, another) in pairwise(configs.items()):
        if unlike := [
            line for line in config_differences(config, another) if not line.startswith(OWN)
        ]:
            raise ValueError(
                f"{one} and {other} were not trained alike ({'; '.join(unlike)}): they cannot be compared"
            )
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
        by_seed = [
            {record.seed: record for record in lineage.get(name, ())}
            for name in (step.better, step.worse)
        ]
        seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
        if not seeds:
            missing = [
                name
                for name, records in zip((step.better, step.worse), by_seed, strict=True)
                if not records
            ]
            claims.append(
                Claim(
                    step.statement,
                    INCONCLUSIVE,
                    f"missing: {', '.join(missing) or 'a seed that both have'}",
                )
            )
            continue
        pairs = [(by_seed[0][seed], by_seed[1][seed]) for seed in seeds]
        if untaught := [name_of(name) for name in _untaught(step, pairs)]:
            claims.append(
                Claim(
                    step.statement,
                    INCONCLUSIVE,
                    f"{' and '.join(untaught)} did not learn: undid less than {LEARNED:.0%} of errors",
                )
            )
            continue
        differences = tuple(
            error(worse, step.measure) - error(better, step.measure) for better, worse in pairs
        )
        criterion = Criterion(
            f"{name_of(step.worse)} - {name_of(step.better)}", differences, step.bound
        )
        claim = verdict.judge(
            step.statement,
            [criterion],
            f"{criterion.name}: {verdict.points(criterion.mean)} of {step.measure}",
        )
        if step.smaller:
            fewer, more = (record.num_parameters for record in pairs[0])
            claim = replace(claim, seen=f"{claim.seen} ({fewer:,} against {more:,} parameters)")
            if fewer >= more:
                claim = Claim(step.statement, NOT_REPRODUCED, claim.seen)
        claims.append(claim)
    return verdict.corrected(claims)


def _untaught(step: Step, pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    """Which of a step's networks did not learn, though it must have for a comparison to say something."""
    found = []
    for place, name in enumerate((step.better, step.worse)):
        records = [pair[place] for pair in pairs]
        if any(
            error(record, "train_error") > (1 - LEARNED) * (1 - 1 / record.num_classes)
            for record in records
        ):
            found.append(name)
    return [] if step.may_fail and found == [step.worse] else found


def table(lineage: Lineage) -> list[list[str]]:
    """One line a network under a row of headings; means over seeds, errors in per cent."""
    heads = ["training error", "in evaluation mode", "test error"]
    lines = [
        ["network", "year", "parameters", "multiply-adds", *heads, "seconds/iteration", "seeds"]
    ]
    for network, records in lineage.items():
        first = records[0]
        errors = [
            f"{100 * statistics.fmean(error(record, measure) for record in records):.2f}"
            for measure in ("train_error", "train_error_eval", "test_error")
        ]
        work = "–" if first.num_multiply_adds is None else f"{first.num_multiply_adds:,}"
        pace = statistics.fmean(record.seconds / record.iterations for record in records)
        year = str(NETWORKS[network][1]) if network in NETWORKS else "–"
        lines.append(
            [
                name_of(network),
                year,
                f"{first.num_parameters:,}",
                work,
                *errors,
                f"{pace:.3f}",
                str(len(records)),
            ]
        )
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
