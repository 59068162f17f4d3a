"""In what a protocol differs from He et al. 2015, section 4.2.

Computed from a configuration, and for a results folder from its rows too: they say which images,
precision and machine were really used. `PAPER` has what a configuration can hold. `FACTS` has what
it cannot: there the code decides, and the paper does otherwise or does not say.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.reporting.text import columns, seeds_of
from plainres.records.files import CONFIG_FILE, read_config, read_runs
from plainres.records.schema import Record

SMALLER = "smaller on purpose"
DIFFERS = "differs"
UNKNOWN = "not known from the paper"
KINDS = {DIFFERS: "differs", SMALLER: "smaller", UNKNOWN: "not known"}  # and in the overview

Flat = Mapping[str, Any]  # key of a configuration, with dots → value

# What a key means where it is null
NULL = {
    "data.val_size": 0,
    "model.initialisation": "he",
    "model.norm": "batch",
    "model.shortcut": "zero_pad",
    "protocol.nesterov": False,
    "protocol.schedule.factor": 0.1,
    "protocol.schedule.milestones": [],
    "protocol.schedule.warmup_min_depth": 0,
}
NATIVE_PIXELS = {"cifar10": 32}  # data.name → pixels a side, where data.image_size is null
# The paper has several values of these, or they only name what other keys say
NOT_COMPARED = {"arm", "seed", "model.depth", "protocol.name", "data.name"}
# Of the rows or the process, not of the cell's configuration
OF_ROWS = {"machine", "runs"}


@dataclass(frozen=True)
class Deviation:
    """One difference; `keys` of the configuration, `code`: what makes it so, where no key does."""

    name: str
    paper: str
    place: str
    here: str
    kind: str  # one of KINDS
    keys: list[str] = field(default_factory=list)
    code: str = ""


@dataclass(frozen=True)
class Setting:
    """What the paper says of keys of a configuration.

    Args:
        values: key → the paper's value; None: the key is null.
        place: in the paper.
        words: the values, in this order, for a reader.
        size: a smaller value of the first key is smaller on purpose.
    """

    name: str
    values: Mapping[str, Any]
    place: str
    words: Callable[..., str] = str
    size: bool = False

    @property
    def keys(self) -> list[str]:
        return list(self.values)

    def deviation(self, flat: Flat) -> Deviation | None:
        theirs, ours = list(self.values.values()), [flat.get(key) for key in self.keys]
        if ours == theirs:
            return None
        smaller = self.size and ours[0] is not None and (theirs[0] is None or ours[0] < theirs[0])
        return Deviation(
            self.name,
            self.words(*theirs),
            self.place,
            self.words(*ours),
            SMALLER if smaller else DIFFERS,
            self.keys,
        )


@dataclass(frozen=True)
class Fact:
    """What the code does, whatever the paper's values are.

    Args:
        key: names the fact for tests.
        place: where the paper, or another source, says what stands in `paper`.
        here: as text, or computed from a configuration, which then also has what rows say.
        keys: of the configuration that `here` tells.
        code: what makes it so.
        applies: whether it plays a part under this configuration.
    """

    key: str
    name: str
    paper: str
    place: str
    here: str | Callable[[Flat], str]
    code: str
    kind: str = UNKNOWN
    keys: Sequence[str] = ()
    applies: Callable[[Flat], bool] = lambda flat: True

    def deviation(self, flat: Flat) -> Deviation | None:
        if not self.applies(flat):
            return None
        here = self.here if isinstance(self.here, str) else self.here(flat)
        return Deviation(
            self.name, self.paper, self.place, here, self.kind, list(self.keys), self.code
        )


def _pixels(size: int | None, padded: int | None) -> str:
    words = f"{size}×{size}" if size else "the images' own"
    return f"{words}, padded to {padded}×{padded}" if padded else words


def _count(number: int | None) -> str:
    return "all" if number is None else f"{number:,}"


def _schedule(kind: str, milestones: Sequence[int], factor: float) -> str:
    if kind != "step":
        return f"falls to 0 as a {kind}"
    return f"times {factor:g} at {' and '.join(map(_count, milestones)) or 'no iteration'}"


def _momentum(momentum: float, nesterov: bool) -> str:
    return f"{momentum:g}{', Nesterov' * bool(nesterov)}"


def _augmentation(padding: int, mirror: bool, may_mirror: bool, *warps: Any) -> str:
    parts = [f"pad {padding} and crop"] if padding else []
    parts += ["mirror"] if mirror and may_mirror else []
    names = ("rotation to {} degrees", "size times {}", "shift to {} pixels", "noise of {}")
    for name, value in zip(names, warps, strict=True):
        if value is not None:
            text = " to ".join(map(str, value)) if isinstance(value, Sequence) else value
            parts.append(name.format(text))
    return ", ".join(parts) or "none"


def _warmup(flat: Flat) -> str:
    kind, iterations, rate, depth = (
        flat.get(f"protocol.schedule.{key}")
        for key in ("warmup", "warmup_iterations", "warmup_learning_rate", "warmup_min_depth")
    )
    if not iterations:
        return "none"
    how = f"{rate:g} for" if kind == "constant" else f"rises ({kind}) over"
    which = f"every network of {depth} layers or more" if depth else "every network"
    first = f"exactly the first {iterations:,} iterations, whatever the error"
    return f"{how} {first}; {which}, plain too"


def _split(flat: Flat) -> str:
    held_out = flat["data.val_size"]
    return f"{held_out:,} training images held out" if held_out else "no training image held out"


def _training_error(flat: Flat) -> str:
    window = flat.get("protocol.error_window")
    over = f"{window:,} iterations" if window else "epoch"
    return f"augmented batches in training mode, mean over the last {over}"


def _words(names: Mapping[str, str]) -> Callable[[str], str]:
    return lambda value: names.get(value, value)


# What a configuration can hold of sections 4.2 and 3.4
PAPER: tuple[Setting, ...] = (
    Setting("images", {"data.label": "CIFAR-10"}, "section 4.2"),
    Setting(
        "image size", {"data.image_size": 32, "data.pad_to": None}, "section 4.2", _pixels, True
    ),
    Setting(
        "input",
        {"data.normalisation": "pixel_mean"},
        "section 4.2",
        _words(
            {
                "pixel_mean": "mean of each pixel subtracted",
                "channel": "mean of each channel subtracted, divided by its deviation",
            }
        ),
    ),
    Setting(
        "augmentation",
        {
            "protocol.augmentation.padding": 4,
            "protocol.augmentation.mirror": True,
            "data.mirror": True,
            "protocol.augmentation.rotation": None,
            "protocol.augmentation.scale": None,
            "protocol.augmentation.shift": None,
            "protocol.augmentation.noise": None,
        },
        "section 4.2",
        _augmentation,
    ),
    Setting(
        "network",
        {"model._target_": "plainres.network.CifarNetwork"},
        "section 4.2",
        _words({"plainres.network.CifarNetwork": "6n+2 layers, 3×3 convolutions in three stages"}),
    ),
    Setting(
        "channels of the stages",
        {"model.width": 16},
        "section 4.2",
        lambda width: f"{width}/{2 * width}/{4 * width}" if width else "another network",
        True,
    ),
    Setting(
        "shortcut",
        {"model.shortcut": "zero_pad"},
        "sections 3.3, 4.2",
        _words({"zero_pad": "option A: identity, zeros for new channels"}),
    ),
    Setting(
        "normalisation",
        {"model.norm": "batch"},
        "sections 3.4, 4.2",
        _words({"batch": "batch normalisation after every convolution"}),
    ),
    Setting(
        "initialisation",
        {"model.initialisation": "he"},
        "sections 3.4, 4.2",
        _words({"he": "He et al. 2015, arXiv:1502.01852"}),
    ),
    Setting("iterations", {"protocol.iterations": 64_000}, "section 4.2", _count, True),
    Setting("batch size", {"protocol.batch_size": 128}, "section 4.2", _count, True),
    Setting("learning rate", {"protocol.learning_rate": 0.1}, "section 4.2"),
    Setting(
        "schedule",
        {
            "protocol.schedule.kind": "step",
            "protocol.schedule.milestones": [32_000, 48_000],
            "protocol.schedule.factor": 0.1,
        },
        "section 4.2",
        _schedule,
    ),
    Setting(
        "momentum",
        {"protocol.momentum": 0.9, "protocol.nesterov": False},
        "section 4.2",
        _momentum,
    ),
    Setting("weight decay", {"protocol.weight_decay": 1e-4}, "section 4.2"),
    Setting(
        "gradient clipping",
        {"protocol.clip_norm": None},
        "not named",
        lambda norm: "none" if norm is None else f"to norm {norm:g}",
    ),
    Setting(
        "precision",
        {"protocol.precision": "32-true"},
        "not said; Caffe, whose SGD the authors use, computes in float32",
        _words(
            {
                "32-true": "float32",
                "bf16-mixed": "mixed: products in bf16, weights in float32",
                "auto": "bf16 where the machine multiplies in bf16, else float32",
            }
        ),
    ),
    Setting("images evaluated", {"protocol.evaluation_images": None}, "section 4.2", _count, True),
)

AUTHORS = "README of github.com/KaimingHe/deep-residual-networks"
FACTS: tuple[Fact, ...] = (
    Fact(
        "machine",
        "machine",
        "two GPUs",
        "section 4.2",
        lambda flat: flat["machine"],
        "plainres.training.machine.pick_device",
        DIFFERS,
    ),
    Fact(
        "warmup",
        "warm-up",
        "residual-110: rate 0.01 until the training error is below 80 %, about 400 iterations; "
        "plain-110: not said; whether the 400 count among the 64,000: not said",
        "section 4.2",
        _warmup,
        "plainres.training.schedule.Schedule.at",
        DIFFERS,
        [
            f"protocol.schedule.{key}"
            for key in ("warmup", "warmup_iterations", "warmup_learning_rate", "warmup_min_depth")
        ],
    ),
    Fact(
        "velocity",
        "learning rate and momentum",
        "not said; the authors use Caffe's rule, with the rate inside the velocity: "
        "v ← 0.9 v + rate · gradient, w ← w − v",
        AUTHORS,
        "PyTorch's rule, with the rate outside: v ← 0.9 v + gradient, w ← w − rate · v. "
        "So a new rate applies at once to the old velocity too. At a constant rate the rules are "
        "equal",
        "plainres.training.module.Classifier.configure_optimizers",
        applies=lambda flat: bool(flat.get("protocol.momentum")),
    ),
    Fact(
        "batch_statistics",
        "images in a statistic of batch normalisation",
        "128 on two GPUs; Caffe normalises on each GPU alone, which makes 64; not said",
        "section 4.2; github.com/BVLC/caffe/issues/5927",
        lambda flat: f"the whole batch: {flat['protocol.batch_size']}",
        "plainres.training.update.update",
        keys=["protocol.batch_size"],
        applies=lambda flat: flat["model.norm"] == "batch",
    ),
    Fact(
        "running_statistics",
        "batch normalisation in evaluation",
        "not said; the authors' ImageNet models have averages over a large batch, taken after "
        "training, and no moving ones",
        AUTHORS,
        "moving averages of training, a tenth of each new batch (PyTorch's default)",
        "plainres.networks.blocks.make_norm",
        applies=lambda flat: flat["model.norm"] == "batch",
    ),
    Fact(
        "decayed",
        "what weight decay applies to",
        "not said; Facebook's reimplementation says that the paper has it on weights of "
        "convolutions only; Caffe has it on all parameters unless told otherwise",
        "README of github.com/facebookarchive/fb.resnet.torch; caffe.proto, decay_mult",
        "all parameters: also scale and shift of batch normalisation, and the linear layer",
        "plainres.training.module.Classifier.configure_optimizers",
        applies=lambda flat: bool(flat.get("protocol.weight_decay")),
    ),
    Fact(
        "border",
        "border of a padded image",
        "not said whether images are padded before or after the mean is subtracted",
        "section 4.2",
        "after: zeros, so the border is the mean",
        "plainres.data.batches.TrainingBatches.make_batch",
        applies=lambda flat: bool(flat.get("protocol.augmentation.padding")),
    ),
    Fact(
        "pixel_scale",
        "scale of the input",
        "not said",
        "section 4.2",
        "pixels from 0 to 1; batch normalisation after the first convolution takes a factor out",
        "plainres.data.batches.Normaliser",
        applies=lambda flat: flat["data.normalisation"] == "pixel_mean",
    ),
    Fact(
        "fan",
        "He's initialisation",
        "not said which of its two forms, fan-in or fan-out, nor how the linear layer starts",
        "arXiv:1502.01852, section 2.2",
        "fan-out; the linear layer has PyTorch's default",
        "plainres.networks.blocks.initialise",
        applies=lambda flat: flat["model.initialisation"] == "he",
    ),
    Fact(
        "new_channels",
        "zeros of option A",
        "not said before or after the old channels",
        "section 3.3",
        "half of them before, half after; every second pixel of the old ones",
        "plainres.networks.blocks.ZeroPadShortcut",
        applies=lambda flat: flat["model.shortcut"] == "zero_pad",
    ),
    Fact(
        "order",
        "order of the images",
        "not said; the authors' ImageNet models: shuffled at every epoch",
        AUTHORS,
        "a new permutation every epoch; its last, incomplete batch is dropped",
        "plainres.data.batches.TrainingBatches.random_draws",
    ),
    Fact(
        "split",
        "validation images",
        "trained on the training set; the length of training was found on a split of 45,000 and "
        "5,000; whether the networks shown had all 50,000 is not said again",
        "section 4.2",
        _split,
        "plainres.data.images.split",
        keys=["data.val_size"],
    ),
    Fact(
        "training_error",
        "training error",
        "dashed in Figure 6; not said on which images and in which mode",
        "section 4.2",
        _training_error,
        "plainres.training.module.Classifier.running_error_and_loss",
        keys=["protocol.error_window"],
    ),
    Fact(
        "runs",
        "runs of a network",
        "five of residual-110, the best one shown beside mean and deviation; of others not said",
        "Table 6",
        lambda flat: f"{flat['runs']}, all shown, none selected",
        "experiments.depth.claims.table",
        applies=lambda flat: "runs" in flat,
    ),
)
ENTRIES: tuple[Setting | Fact, ...] = (*PAPER, *FACTS)
COVERED = {key for each in ENTRIES for key in each.keys}


@dataclass(frozen=True)
class Ledger:
    """The deviations of one protocol; `source`: what they were computed from."""

    protocol: str
    source: str
    deviations: list[Deviation]


def deviations(flat: Flat) -> list[Deviation]:
    """Every difference, by kind. A key that this module does not know is one too."""
    known = [each.deviation(flat) for each in ENTRIES]
    others = [
        Deviation(key, "not named", "sections 3.4, 4.2", str(value), DIFFERS, [key])
        for key, value in flat.items()
        if value is not None and key not in COVERED | NOT_COMPARED | OF_ROWS
    ]
    found = [each for each in (*known, *others) if each is not None]
    return sorted(found, key=lambda each: list(KINDS).index(each.kind))


def of_configuration(protocol: str, config: Mapping[str, Any], instruction_set: str) -> Ledger:
    """The ledger of a `cell_config`, before anything is measured."""
    machine = f"one GPU, or one processor with its {instruction_set} vector instructions"
    flat = {**flatten(config), "machine": machine}
    return Ledger(protocol, "its configuration; nothing measured", deviations(flat))


def of_folder(folder: Path) -> Ledger | None:
    """The ledger of what was measured; None where nothing was.

    Raises:
        ValueError: there are rows, but not the configuration that they share.
    """
    records = read_runs(folder)
    if not records:
        return None
    config = read_config(folder)
    if config is None:
        raise ValueError(f"no {CONFIG_FILE} in {folder}")
    flat = {**flatten(config), **_of_rows(records)}
    cells = f"{len(records)} cell{'s' * (len(records) != 1)}"
    return Ledger(folder.name, f"{folder.as_posix()}, {cells}", deviations(flat))


def _of_rows(records: Sequence[Record]) -> dict[str, str]:
    def all_of(values: set[str]) -> str:
        return "; ".join(sorted(values))

    machines = set()
    for row in records:
        parts = [row.processor, row.instruction_set, row.kernels and f"{row.kernels} kernels"]
        machines.add(", ".join([*filter(None, parts), f"torch {row.torch}"]))
    shortcuts = {row.shortcut for row in records if row.arm != "plain"}
    return {
        "data.label": all_of({row.data_label for row in records}),
        "protocol.precision": all_of({row.precision for row in records}),
        "machine": all_of(machines),
        "runs": seeds_of(records),
        **({"model.shortcut": all_of(shortcuts)} if shortcuts else {}),
    }


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A `cell_config`, or what the cells of a folder share of it, with what null means."""

    def leaves(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.items():
            name = f"{path}{key}"
            found |= leaves(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
        return found

    flat = {**NULL, **leaves(config)}
    flat.setdefault("data.image_size", NATIVE_PIXELS.get(flat.get("data.name", "")))
    if flat.get("arm") == "plain":  # its shortcut, none, is the paper's
        flat["model.shortcut"] = NULL["model.shortcut"]
    return flat


def text(ledger: Ledger) -> str:
    """One protocol in full, for the terminal."""
    lines = [f"{ledger.protocol}: deviations from He et al. 2015, section 4.2 ({ledger.source})"]
    for kind in KINDS:
        entries = [each for each in ledger.deviations if each.kind == kind]
        lines += ["", kind] if entries else []
        for each in entries:
            lines.append(f"  {each.name}")
            for side, words in (("paper", f"{each.paper} ({each.place})"), ("here ", each.here)):
                indent = " " * 11
                lines += textwrap.wrap(
                    f"    {side}  {words}", 100, subsequent_indent=indent, break_on_hyphens=False
                )
    return "\n".join(lines)


def overview(ledgers: Sequence[Ledger]) -> str:
    """All protocols in one table: one row per thing, one column per protocol."""
    found = dict.fromkeys(each.name for ledger in ledgers for each in ledger.deviations)
    names = [each.name for each in ENTRIES if each.name in found]
    names += [name for name in found if name not in names]
    rows = [["", *(ledger.protocol for ledger in ledgers)]]
    for name in names:
        kinds = [
            next((KINDS[each.kind] for each in ledger.deviations if each.name == name), "–")
            for ledger in ledgers
        ]
        rows.append([name, *kinds])
    sources = [[ledger.protocol, ledger.source] for ledger in ledgers]
    return "\n".join(
        [
            "Deviations from He et al. 2015, section 4.2; not known: the paper does not say",
            "",
            *columns(rows, left=True),
            "",
            *columns(sources, left=True),
            "PROTOCOL=<name> shows one protocol in full",
        ]
    )


def table(ledger: Ledger) -> list[list[str]]:
    """One protocol as a table for a page."""
    rows = [["what", "the paper (source)", "here", "kind"]]
    for each in ledger.deviations:
        rows.append([each.name, f"{each.paper} ({each.place})", each.here, each.kind])
    return rows
