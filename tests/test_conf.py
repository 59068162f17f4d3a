"""Every shipped configuration composes and builds a network and a learning rate."""

import dataclasses
import json
import re

import hydra
import pytest
import torch
from composing import CONF, ROOT, committed, compose_cell, variants
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from experiments.grid import SLUGS
from plainres.data.batches import NORMALISATIONS, Augmentation
from plainres.data.sources import SOURCES as DATA_SETS
from plainres.records.identity import cell_config, config_differences, shared_config
from plainres.run.config import RANGES, RunConfig
from plainres.training.machine import PRECISIONS

PROTOCOLS = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
SOURCES = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(
    ("protocol", "model"),
    [*((protocol, "plain") for protocol in PROTOCOLS), *(("quick", model) for model in MODELS)],
)
def test_every_protocol_and_arm_composes_into_a_run(tmp_path, protocol, model):
    cell = compose_cell(tmp_path, f"protocol={protocol}", f"model={model}")
    cell.check()
    assert cell.name == f"{model}-{cell.config.model.depth}-seed0"
    assert cell.folder == tmp_path / "depth" / protocol / "runs" / cell.name
    settings = cell.config.protocol
    assert settings.name == protocol
    assert settings.precision in ("auto", *PRECISIONS)
    for every in (settings.evaluate_every, settings.log_every):
        assert settings.iterations % every == 0, "the last one is at the last iteration"
    Augmentation(**cell.identity["protocol"]["augmentation"])
    with torch.device("meta"):
        network = hydra.utils.instantiate(cell.config.model, num_classes=10, in_channels=3)
    assert sum(parameter.numel() for parameter in network.parameters()) > 0


def test_the_arms_differ_in_the_shortcut_alone(tmp_path):
    plain, residual = (
        compose_cell(tmp_path, f"model={arm}").identity for arm in ("plain", "residual")
    )
    changes = ["arm: plain → residual", "model.shortcut: none → zero_pad"]
    assert config_differences(plain, residual) == changes


def numbers_of(schema: type, prefix: str = "") -> set[str]:
    """The keys of a configuration that hold numbers, or lists of numbers."""
    keys = set()
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(field.type):
            keys |= numbers_of(field.type, f"{prefix}{field.name}.")
        elif re.search(r"\bint\b", str(field.type)):
            keys.add(prefix + field.name)
    return keys


def test_every_number_has_a_range():
    keys = numbers_of(RunConfig)
    assert {"seed", "protocol.momentum", "protocol.augmentation.scale", "data.pad_to"} <= keys
    assert keys <= {key for *_, names in RANGES for key in names}


@pytest.mark.parametrize(
    "override",
    [
        "protocol.learning_rate=inf",
        "protocol.augmentation.noise=nan",
        "protocol.augmentation.scale=[1.2,0.8]",
        "protocol.augmentation.scale=[0.8,inf]",
        "protocol.augmentation.padding=-1",
        "protocol.momentum=1.0",
        "protocol.schedule.factor=0",
        "protocol.schedule.milestones=[-1]",
        "data.val_size=-1",
        "data.image_size=0",
        "checkpoint_seconds=nan",
        "jobs=0",
        "seed=4294967296",
        "+vars.of.an_experiment=-inf",
        "+callbacks.mine.threshold=nan",
    ],
)
def test_a_number_outside_its_range_is_named(tmp_path, override):
    key, _, value = override.lstrip("+").partition("=")
    with pytest.raises(ValueError, match=rf"^{key}.* is not .*(number|finite)") as refused:
        compose_cell(tmp_path, "protocol=paper", override).check()
    assert value.strip("[]").split(",")[-1] in str(refused.value)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_composes(tmp_path, source):
    label = ["data.label=mine", f"data.root={tmp_path}"] if source == "image_folder" else []
    cell = compose_cell(tmp_path, f"data={source}", *label)
    cell.check()
    assert cell.config.data.name in DATA_SETS
    assert cell.config.data.normalisation in NORMALISATIONS
    assert cell.config.data.label


def test_a_source_on_the_command_line_wins_over_the_protocols_own(tmp_path):
    cell = compose_cell(tmp_path, "protocol=cpu", "data=cifar10_jpeg", "data.root=x.tar.xz")
    assert cell.config.data.name == "image_folder"
    assert cell.config.data.label == "CIFAR-10 (JPEG copy)"
    assert cell.config.data.image_size == 16
    assert cell.config.data.root == "x.tar.xz"


def test_the_widths_of_the_papers_networks_are_a_protocol_of_their_own(tmp_path):
    widths = {
        name: compose_cell(tmp_path, f"protocol={name}", "data=cifar10").config.model.width
        for name in PROTOCOLS
    }
    assert widths["cpu"] == 8
    assert {name for name in PROTOCOLS if widths[name] == 16} >= {"cpu16", "cpu32", "paper"}


def test_the_jpeg_copy_never_passes_for_the_original_and_digits_are_never_mirrored(tmp_path):
    copy, original, digits = (
        compose_cell(tmp_path, f"data={name}").config.data
        for name in ("cifar10_jpeg", "cifar10", "digits")
    )
    assert copy.label != original.label
    assert (original.mirror, digits.mirror) == (True, False)


# Slug → what the name of a results folder says to the command that measures it
COMMANDS = {
    "depth": r"(?P<protocol>.+)",
    "shortcuts": r"(?P<protocol>.+)",
    "machines": r"(?P<protocol>[^/]+)(/(?P<vars__start>\w+))?",
    "landscape": r"(?P<protocol>.+)",
    "robustness": r"(?P<setting>.+)",
    "lineage": r"(?P<network>.+)",
    "large": r"(?P<large>.+)",
    "thousand": r"(?P<thousand>.+)",
    "lenet": r"(?P<data>[^-]+)-(?P<model__era>.+)",
    "signal": r"(?P<signal>[^-]+)-(?P<model__norm>[^-]+)(-(?P<model>[^-]+)(-.+)?)?",
    "precision": r"(?P<precision>\w+)(-(?P<protocol__precision>.+))?",
    "autopsy": r"(?P<protocol>[^-]+)-(?P<rescue>.+)",
    "cures": r"(?P<protocol>[^-]+)-(?P<cure>.+)",
    "dose": r"(?P<protocol>.+)-(?P<activation>[^-]+)",
    "horizon": (
        r"(?P<horizon>[^-]+)(-((?P<vars__start>exact|perturbed)"
        r"|(?P<protocol__precision>\d.+)|(?P<activation>.+)))?"
    ),
    "rate": (
        r"(?P<model__padding>.+)-width(?P<protocol__width>.+)-batch(?P<protocol__batch_size>.+)"
        r"-pixels(?P<data__image_size>.+)-(?P<activation>.+)"
    ),
    "pace": (
        r"width(?P<protocol__width>.+)-batch(?P<protocol__batch_size>.+)"
        r"-rate(?P<protocol__learning_rate>.+)"
    ),
    "identity": (
        r"(?P<scale>\w+)/(decay_(?P<protocol__weight_decay>.+)"
        r"|(?P<child__position>[a-z]+)_(?P<child__blocks>\d+)|(?P<generation>.+))"
    ),
}


# The README's example of pictures of one's own, which is no experiment
OWN = (
    "slug=own protocol=finetune folder=photographs protocol.batch_size=8 protocol.iterations=30 "
    "data=image_folder data.root=x data.label=photographs model=residual_imagenet model.depth=18 "
    "model.weights=null"
)


# The exercises of the report
CLASS = {"wider": "protocol.width=8", "slower": "protocol.learning_rate=0.02"}


def command_of(slug: str, name: str) -> list[str]:
    """The overrides that measure results/slug/name."""
    if slug == "own":
        return OWN.split()
    if slug == "class":
        return ["+experiment=depth", f"folder={name}", CLASS[name]]
    if slug == "cures":  # deep-<name> holds what the variant deep_<name> measures
        name = re.sub("^deep-", "quick-deep_", name)
    if (slug, name) == ("machines", "quick/xeon"):  # was signal/quick-batch once
        slug, name = "signal", "quick-batch"
    if slug == "horizon":  # layout-<pixels> holds what the variant layout_<pixels> measures
        name = re.sub("^layout-", "layout_", name)
    said = re.fullmatch(COMMANDS[slug], name)
    assert said is not None, name
    options = {
        option.replace("__", "."): value
        for option, value in said.groupdict().items()
        if value is not None
    }
    if slug == "identity" and "generation" not in options:
        options = {"generation": "child" if "child.blocks" in options else "decay", **options}
    return [f"+experiment={slug}", *(f"{option}={value}" for option, value in options.items())]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.parent.relative_to(ROOT / "results").as_posix())
        for pattern in ("*/*", "identity/*/*", "machines/*/*")
        for path in sorted((ROOT / "results").glob(f"{pattern}/config.json"))
    ],
)
def test_committed_results_are_what_todays_configuration_measures(tmp_path, path):
    slug, *names = path.parent.relative_to(ROOT / "results").parts
    before = json.loads(committed(str(path.relative_to(ROOT))))
    data = ["data=cifar10_jpeg", "data.root=x"] if "JPEG" in before["data"]["label"] else []
    cell = compose_cell(tmp_path, *command_of(slug, "/".join(names)), *data)
    composed = OmegaConf.to_container(cell.config, resolve=True)
    assert config_differences(before, shared_config(cell_config(composed, cell.arm))) == []


@pytest.mark.parametrize(
    "name", ["quick/parent", "quick/trained_on", "quick/end_8", "quick/decay_0", "cpu/decay_0.003"]
)
def test_folders_of_the_identity_experiment_say_how_they_were_measured(tmp_path, name):
    assert compose_cell(tmp_path, *command_of("identity", name)).config.folder == name


@pytest.mark.parametrize("path", sorted((CONF / "variants").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_variant_says_what_it_is(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert f"{path.stem}=" in lines[0]
    names = variants(path.stem)
    assert names
    for name in names:
        assert lines[lines.index(f"{name}:") - 1].startswith("# ")


def test_configuration_is_at_most_80_files_and_100_columns():
    paths = list(CONF.rglob("*.yaml"))
    assert len(paths) <= 80
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert max(map(len, lines)) <= 100, path


@pytest.mark.parametrize("group", ["protocol", "experiment"])
def test_every_protocol_and_experiment_has_its_card_on_top(group):
    for path in (CONF / group).glob("*.yaml"):
        head = path.read_text(encoding="utf-8").split("\n\n")[0]
        card = "\n".join(line for line in head.splitlines() if line.startswith("#"))
        assert "Command:" in card, path
        assert path.stem == "smoke" or "Expected:" in card, path


@pytest.mark.parametrize(
    "target", ["os.system", "logging.os.system", "subprocess.run", "builtins.eval"]
)
def test_a_configuration_cannot_name_the_obvious_commands(target):
    with pytest.raises(InstantiationException, match="blocklisted"):
        hydra.utils.instantiate({"_target_": target, "_args_": ["true"]})


def test_a_slug_joins_conf_and_experiments():
    assert EXPERIMENTS == SLUGS
    for slug in EXPERIMENTS:
        assert OmegaConf.load(CONF / "experiment" / f"{slug}.yaml").slug == slug


def test_the_launcher_is_set_where_hydra_heeds_it():
    """hydra#2946: a launcher that an experiment file names is ignored in a sweep."""
    for path in (CONF / "experiment").glob("*.yaml"):
        assert "hydra/launcher" not in path.read_text(encoding="utf-8")
    assert "override hydra/launcher: local" in (CONF / "train.yaml").read_text(encoding="utf-8")
