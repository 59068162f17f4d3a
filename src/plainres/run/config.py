"""What Hydra is told before it composes a configuration: types, and the variants of questions.

Types are checked by Hydra when it composes; keys, ranges and choices without effect here.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"

# Not float alone: a cell's hash tells 0 from 0.0, so a number stays as it was written
Number = Union[int, float]  # noqa: UP007 (OmegaConf before Python 3.11 takes no other form)


@dataclass
class ScheduleConfig:
    """The learning rate over a run (plainres.training.schedule.Schedule)."""

    kind: str = MISSING  # step, cosine or plateau
    milestones: list[int] | None = None  # iterations
    factor: Number | None = None  # at each milestone
    warmup: str = MISSING  # linear or constant
    warmup_iterations: int = MISSING
    warmup_learning_rate: Number | None = None
    warmup_min_depth: int | None = None  # weighted layers
    patience: int | None = None  # error windows
    threshold: Number | None = None  # of an error as a fraction


@dataclass
class AugmentationConfig:
    """Random changes of training images (plainres.data.batches.Augmentation); null: none."""

    padding: int = MISSING  # pixels a side, before a random crop to the old size
    mirror: bool = MISSING  # left and right, where the data allow it
    rotation: Number | None = None  # degrees, either way
    scale: list[Number] | None = None  # smallest and largest factor
    shift: Number | None = None  # pixels, either way
    noise: Number | None = None  # standard deviations of the normalised images
    shorter_side: list[int] | None = None  # pixels, smallest and largest, before a random crop
    area: list[Number] | None = None  # of a random crop, smallest and largest part of the image
    lighting: Number | None = None  # standard deviation of the colours' change


@dataclass
class ProtocolConfig:
    """How a network is trained."""

    name: str = MISSING
    width: int = MISSING  # channels of the first stage of a CIFAR network
    iterations: int = MISSING  # updates
    batch_size: int = MISSING  # images
    learning_rate: Number = MISSING  # peak
    momentum: Number = MISSING
    nesterov: bool | None = None
    clip_norm: Number | None = None  # Euclidean norm of all gradients together
    weight_decay: Number = MISSING
    perturbation: Number | None = None  # relative change of every initial weight
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    precision: str = MISSING  # auto or one of plainres.training.machine.PRECISIONS
    error_window: int | None = None  # iterations
    evaluation_images: int | None = None  # of each set
    accumulate: int | None = None  # parts of a batch, one after the other
    batch_statistics: str | None = None  # one of BATCH_STATISTICS
    log_every: int = MISSING  # iterations
    evaluate_every: int = MISSING  # iterations


@dataclass
class DataConfig:
    """Which images, and how they are prepared."""

    name: str = MISSING  # one of plainres.data's sources
    label: str = MISSING  # what figures and tables call them
    root: str | None = MISSING  # a folder or an archive; null where data need none
    image_size: int | None = None  # pixels a side
    pad_to: int | None = None  # pixels a side
    val_size: int = MISSING  # images taken from the training set
    test_share: Number | None = None  # of each class, where the images have no test set
    test_crops: int | None = None  # of each test image at the end: 1 or 10
    normalisation: str = MISSING  # one of plainres.data.batches.NORMALISATIONS
    mirror: bool = MISSING  # whether a mirrored image is still of its class


@dataclass
class RunConfig:
    """One run: conf/train.yaml; conf/base.yaml says what each key means.

    `model`, `child` and `callbacks` are free: their `_target_` says what they take. `vars` is free
    too: values that other keys of an experiment refer to.
    """

    model: Any = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    seed: int = MISSING
    slug: str = MISSING
    folder: str = MISSING
    recorded_name: str | None = None
    results_dir: str = MISSING
    committed_dir: str = MISSING
    force: bool = MISSING
    missing: bool = MISSING
    jobs: int = MISSING
    threads: int = MISSING
    workers: int | None = None
    instruction_set: str = MISSING  # one of plainres.training.instructions.INSTRUCTION_SETS
    accelerator: str = MISSING
    devices: int = MISSING
    updates_per_step: int | None = None
    kernels: str = MISSING
    cuda_graph: bool | None = None
    keep_weights: bool = MISSING
    checkpoint_seconds: Number = MISSING
    child: Any = None
    callbacks: Any = None
    vars: Any = None


PLACE = ("results_dir", "committed_dir", "slug", "folder")  # of a RunConfig
PLACES_VARIABLE = "PLAINRES_PLACES"

# What is legal beyond the type: words, types, test, keys. The types are for `model`, which is free
NUMBER = (int, float)
RANGES: tuple[tuple[str, Any, Any, tuple[str, ...]], ...] = (
    ("a whole number from 0 up to 4294967295", int, lambda value: 0 <= value < 2**32, ("seed",)),
    (
        "a whole number from 0 up",
        int,
        lambda value: value >= 0,
        (
            "protocol.schedule.warmup_iterations",
            "protocol.schedule.warmup_min_depth",
            "protocol.augmentation.padding",
            "protocol.schedule.patience",
            "data.val_size",
            "workers",
        ),
    ),
    (
        "a whole number from 1 up",
        int,
        lambda value: value >= 1,
        (
            "protocol.width",
            "protocol.iterations",
            "protocol.batch_size",
            "protocol.log_every",
            "protocol.error_window",
            "protocol.evaluation_images",
            "model.width",
            "data.image_size",
            "data.pad_to",
            "threads",
            "devices",
            "updates_per_step",
        ),
    ),
    (
        "a whole number from 2 up",
        int,
        lambda value: value >= 2,
        # a run is saved and stopped between two evaluations
        ("protocol.accumulate", "protocol.evaluate_every"),
    ),
    ("-1 or a whole number from 1 up", int, lambda value: value == -1 or value >= 1, ("jobs",)),
    (
        "a list of whole numbers from 0 up",
        ListConfig,
        lambda value: all(iteration >= 0 for iteration in value),
        ("protocol.schedule.milestones",),
    ),
    (
        "a number from 0 up",
        NUMBER,
        lambda value: 0 <= value < math.inf,
        (
            "protocol.learning_rate",
            "protocol.weight_decay",
            "protocol.schedule.warmup_learning_rate",
            "protocol.augmentation.rotation",
            "protocol.augmentation.shift",
            "protocol.augmentation.noise",
            "protocol.augmentation.lighting",
            "protocol.schedule.threshold",
            "model.auxiliary_weight",
            "checkpoint_seconds",
        ),
    ),
    (
        "a number from 0 up and below 1",
        NUMBER,
        lambda value: 0 <= value < 1,
        ("protocol.momentum",),
    ),
    ("a number above 0 and below 1", NUMBER, lambda value: 0 < value < 1, ("data.test_share",)),
    (
        "a number above 0",
        NUMBER,
        lambda value: 0 < value < math.inf,
        ("protocol.clip_norm", "protocol.perturbation", "protocol.schedule.factor"),
    ),
    (
        "two numbers above 0, the smaller first",
        ListConfig,
        lambda value: len(value) == 2 and 0 < value[0] <= value[1] < math.inf,
        ("protocol.augmentation.scale",),
    ),
    (
        "two whole numbers from 1 up, the smaller first",
        ListConfig,
        lambda value: len(value) == 2 and 1 <= value[0] <= value[1],
        ("protocol.augmentation.shorter_side",),
    ),
    (
        "two numbers above 0 and up to 1, the smaller first",
        ListConfig,
        lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1,
        ("protocol.augmentation.area",),
    ),
    ("a section or null", DictConfig, lambda value: True, ("child", "callbacks")),
    ("1 or 10, and of streamed images", int, lambda value: value in (1, 10), ("data.test_crops",)),
)
NULL = {
    "protocol.clip_norm": "no clipping",
    "protocol.perturbation": "no change",
    "model.auxiliary_weight": "no auxiliary heads",
    "protocol.accumulate": "the whole batch at once",
}
STREAMED = "streamed_folder"  # data whose images are decoded when they are needed
BATCH_STATISTICS = ("synchronised", "local")


def check_keys(config: DictConfig, section: str = "") -> None:
    """Raises ValueError for a key that no run reads; names those of its section.

    Hydra itself refuses them, unless they are written with a plus.
    """
    kind = OmegaConf.get_type(config)
    if not is_dataclass(kind):
        return
    legal = [each.name for each in fields(kind)]
    for name in map(str, config):
        if name not in legal:
            raise ValueError(f"{section}{name} is unknown; legal: {', '.join(legal)}")
        if isinstance(inner := config._get_node(name), DictConfig):
            check_keys(inner, f"{section}{name}.")


def check_ranges(config: DictConfig) -> None:
    """Raises ValueError for a number outside its range; names key, value and what is legal."""
    for words, kinds, legal, keys in RANGES:
        for key in keys:
            value = OmegaConf.select(config, key)
            if value is None:  # the types say where that is legal
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or not legal(value):
                if isinstance(value, float) and not math.isfinite(value):
                    words = words.replace("a number", "a finite number")
                null = f"; null: {NULL[key]}" if key in NULL else ""
                raise ValueError(f"{key} {value!r} is not {words}{null}")
    for key, number in _numbers(OmegaConf.to_container(config, resolve=True)):
        if not math.isfinite(number):
            raise ValueError(f"{key} {number!r} is not a finite number")


def images_at_once(config: DictConfig) -> int:
    """Images of a batch that go through the network at once, on each device.

    Raises:
        ValueError: the batch cannot be divided so, or this run not at all; names what is legal.
    """
    protocol, devices = config.protocol, config.devices
    if protocol.batch_statistics not in (None, *BATCH_STATISTICS):
        raise ValueError(
            f"protocol.batch_statistics {protocol.batch_statistics!r} is unknown; legal: null, "
            f"{', '.join(BATCH_STATISTICS)}"
        )
    if devices == 1 and protocol.batch_statistics is not None:
        raise ValueError("protocol.batch_statistics is for devices above 1; null with one device")
    streams = config.data.name == STREAMED
    for key in ("child", "callbacks"):
        if devices > 1 and config[key]:
            raise ValueError(f"devices {devices} with {key}, which needs devices=1")
        if streams and config[key]:
            raise ValueError(f"{key} needs images in memory, and data {STREAMED!r} has none there")
    for key in ("data.test_crops", "workers"):
        if OmegaConf.select(config, key) is not None and not streams:
            raise ValueError(f"{key} is for data {STREAMED!r} alone; null with others")
    parts = devices * (protocol.accumulate or 1)
    if protocol.batch_size % parts:
        raise ValueError(
            f"protocol.batch_size {protocol.batch_size} is not a multiple of {parts}, "
            "devices times protocol.accumulate"
        )
    return protocol.batch_size // parts


def check_effects(config: DictConfig) -> None:
    """Raises ValueError for a choice without effect, or without a name; says which."""
    protocol = config.protocol
    for key in ("data.label", "data.root"):
        if (value := OmegaConf.select(config, key)) is not None and not value.strip():
            raise ValueError(f"{key} is empty")
    one_by_one = config.data.name == STREAMED or protocol.schedule.kind == "plateau"
    if one_by_one and config.updates_per_step not in (None, 1):
        raise ValueError(
            f"updates_per_step {config.updates_per_step} with streamed images or a plateau, whose "
            "updates are steps; null or 1"
        )
    if protocol.nesterov and not protocol.momentum:
        raise ValueError("protocol.nesterov needs protocol.momentum above 0; null without it")
    for name, callback in (config.callbacks or {}).items():
        if not isinstance(callback, DictConfig) or "_target_" not in callback:
            raise ValueError(f"callbacks.{name} needs _target_, the class of a Lightning callback")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number with a fraction, by its key; whole numbers are finite."""
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(inner, f"{key}.{name}" if key else str(name))


def announce(configs: Iterable[DictConfig]) -> None:
    """Tells the command that started this process into which folders its cells are measured.

    One JSON object a line, of PLACE, in the file that PLACES_VARIABLE names; without it nothing.
    """
    if path := os.environ.get(PLACES_VARIABLE):
        lines = [json.dumps({name: config[name] for name in PLACE}) for config in configs]
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in dict.fromkeys(lines))


def register_variants(folder: Path = CONF / "variants") -> None:
    """Makes each entry of `folder`/<group>.yaml an option of the Hydra group <group>.

    An entry changes the whole configuration, as a file with `# @package _global_` would.
    """
    store = ConfigStore.instance()
    for path in sorted(folder.glob("*.yaml")):
        for name, changes in OmegaConf.load(path).items():
            store.store(group=path.stem, name=str(name), node=changes, package="_global_")


ConfigStore.instance().store(name="run_schema", node=RunConfig)
register_variants()
