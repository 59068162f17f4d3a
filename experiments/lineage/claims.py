"""What did each network of the lineage bring, on the same images?

Each folder below results/lineage is one network; those below `rates` are short trainings of it at
several learning rates, judged on held-out training images, from which its rate was chosen.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path

from experiments.judging import pairs, verdict
from experiments.judging.errors import LEARNED, MARGIN, error_or_chance, has_learned
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, Claim
from experiments.reporting import markdown
from experiments.reporting.question import Table
from plainres.records.files import read_config
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
VGG = ("vgg11", "vgg13", "vgg16", "vgg19")
MEASURES = {"test_error": "test error", "train_error": "training error"}
OWN = ("model.", "protocol.name", "protocol.learning_rate")  # what networks may differ in
TRIALS = "rates"


@dataclass(frozen=True)
class Lineage:
    """Records by network, the learning rate of each, and the errors from which it was chosen."""

    networks: Mapping[str, Sequence[Record]]
    rates: Mapping[str, float]
    trials: Mapping[str, Mapping[float, Record]]  # by network and rate

    @property
    def records(self) -> list[Record]:
        return [*chain(*self.networks.values())]


@dataclass(frozen=True)
class Step:
    """The error of `worse` minus that of `better` lies above `bound`, a fraction."""

    statement: str
    better: str
    worse: str
    measure: str = "test_error"  # one of MEASURES
    bound: float = MARGIN
    smaller: bool = False  # `better` must have fewer parameters too
    may_fail: bool = False  # `worse` may be a network that has not learned


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


def read(folder: Path) -> list[Lineage]:
    """The records of each network, in the order of the papers, networks of one's own last."""
    lineage = pairs.read_folders(folder, "sweep-lineage")
    pairs.require_same_images(lineage)
    configs = {name: config for name in lineage if (config := read_config(folder / name))}
    for (one, config), (other, another) in pairwise(configs.items()):
        changes = config_differences(config, another)
        if unlike := "; ".join(line for line in changes if not line.startswith(OWN)):
            pair = f"{one} and {other} were not trained alike"
            raise ValueError(f"{pair} ({unlike}): they cannot be compared")
    order = [*NETWORKS, *lineage]
    networks = dict(sorted(lineage.items(), key=lambda item: order.index(item[0])))
    rates = {name: config["protocol"].get("learning_rate") for name, config in configs.items()}
    return [Lineage(networks, rates, _read_trials(folder / TRIALS))]


def _read_trials(folder: Path) -> dict[str, dict[float, Record]]:
    """The record of each network and rate, from folders <network>-<rate>."""
    trials: dict[str, dict[float, Record]] = {}
    for name, records in pairs.read_folders(folder, "").items() if folder.exists() else ():
        network, _, rate = name.rpartition("-")
        if len(records) != 1:
            raise ValueError(f"{folder / name} has {len(records)} cells; a trial is one")
        trials.setdefault(network, {})[float(rate)] = records[0]
    return trials


def label_of(lineage: Lineage) -> str:
    iterations = max(record.iterations for record in lineage.records)
    return markdown.label_of(lineage.records, f"{iterations:,} iterations")


def chosen_rate(trials: Mapping[float, Record]) -> float:
    """The rate with the lowest error on held-out images; of equal ones the smaller."""
    return min(sorted(trials), key=lambda rate: error_or_chance(trials[rate], "val_error"))


def name_of(network: str) -> str:
    """A folder's network for a reader."""
    return NETWORKS[network][0] if network in NETWORKS else network


def mean_error(records: Sequence[Record], measure: str) -> float:
    """Mean error over seeds in per cent; a diverged run counts as chance."""
    return 100 * statistics.fmean(error_or_chance(record, measure) for record in records)


def check(lineage: Lineage) -> list[Claim]:
    """The steps as claims, in the order of STEPS; corrected together."""
    return verdict.corrected([_judged(lineage, step) for step in STEPS])


def _judged(lineage: Lineage, step: Step) -> Claim:
    worse, better = name_of(step.worse), name_of(step.better)
    rows = {
        worse: lineage.networks.get(step.worse, ()),
        better: lineage.networks.get(step.better, ()),
    }
    series = {
        name: pairs.Series.of(own, lambda row: error_or_chance(row, step.measure))
        for name, own in rows.items()
    }
    claim = pairs.compare(step.statement, series, step.bound, MEASURES[step.measure])
    if not claim.criteria:
        return claim
    seeds = pairs.shared_seeds(series)
    judged = {name: [r for r in records if r.seed in seeds] for name, records in rows.items()}
    failed = [name for name, records in judged.items() if not all(map(_learned, records))]
    if failed and not (step.may_fail and failed == [worse]):
        names, removed = " and ".join(failed), f"less than {LEARNED:.0%} of the error at chance"
        return Claim(step.statement, INCONCLUSIVE, f"{names} did not learn: {removed} removed")
    if step.smaller:
        fewer, more = (judged[name][0].num_parameters for name in (better, worse))
        summary = f"{claim.summary}; {fewer:,} against {more:,} parameters"
        if fewer >= more:
            return Claim(step.statement, NOT_REPRODUCED, summary)
        claim = replace(claim, summary=summary)
    return claim


def _learned(record: Record) -> bool:
    return has_learned(error_or_chance(record), record.num_classes)


def table(lineage: Lineage) -> Table:
    """One line per network; means over seeds, errors in per cent."""
    heads = ["training error", "in evaluation mode", "test error", "seconds/iteration", "seeds"]
    rows = [["network", "year", "parameters", "multiply-adds", "rate", *heads]]
    for network, records in lineage.networks.items():
        first = records[0]
        year = str(NETWORKS[network][1]) if network in NETWORKS else "–"
        work = "–" if first.num_multiply_adds is None else f"{first.num_multiply_adds:,}"
        measures = ("train_error", "train_error_eval", "test_error")
        errors = [f"{mean_error(records, measure):.2f}" for measure in measures]
        pace = statistics.fmean(record.seconds / record.iterations for record in records)
        rate = lineage.rates.get(network)
        size = [f"{first.num_parameters:,}", work, "–" if rate is None else f"{rate:g}"]
        rows.append([name_of(network), year, *size, *errors, f"{pace:.3f}", str(len(records))])
    note = (
        "Errors in %, means over seeds. Training error: running (training mode, augmented images, "
        "in AlexNet with dropout). In evaluation mode: the same network on unaugmented training "
        "images. Test error: final weights. Multiply-adds: forward pass of one image. Rate: of "
        "learning."
    )
    return Table("", rows, [note])


def rates_table(lineage: Lineage) -> Table:
    """Held-out error of each network at each learning rate, in per cent."""
    rates = sorted({rate for trials in lineage.trials.values() for rate in trials})
    rows = [["network", *(f"rate {rate:g}" for rate in rates)]]
    for network in sorted(lineage.trials, key=[*NETWORKS, *lineage.trials].index):
        trials = lineage.trials[network]
        errors = {
            rate: f"{100 * error_or_chance(trials[rate], 'val_error'):.2f}" for rate in trials
        }
        errors[chosen_rate(trials)] += " (chosen)"
        rows.append([name_of(network), *(errors.get(rate, "–") for rate in rates)])
    record = next(record for trials in lineage.trials.values() for record in trials.values())
    note = (
        f"Errors in % on training images that were held out, after {record.iterations:,} "
        f"iterations, seed {record.seed}; no cell of the other table has this seed."
    )
    return Table("How the learning rates were chosen", rows, [note])


def tables(lineage: Lineage) -> list[Table]:
    return [table(lineage), *([rates_table(lineage)] if lineage.trials else [])]
