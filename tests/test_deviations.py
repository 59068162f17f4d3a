"""The ledger of deviations: what configuration, rows and code do unlike the paper."""

import json
import pydoc
import re
from dataclasses import asdict, replace

import pytest
import torch
from composing import CONF, ROOT, compose_cell, python
from made_up import made_up_record, write_made_up
from torch import nn

from experiments import __main__ as command
from experiments.depth import QUESTION, claims
from experiments.depth import deviations as ledger
from experiments.reporting.markdown import ADDED, SELECTION, cautions, markdown
from plainres.data.batches import Augmentation, Batch, Normaliser, StepDraws, TrainingBatches
from plainres.networks.blocks import ZeroPadShortcut
from plainres.networks.resnet import CifarNetwork
from plainres.records.files import CONFIG_FILE, write_json
from plainres.records.identity import shared_config
from plainres.training import machine
from plainres.training.module import Classifier

PROTOCOLS = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
MIRRORS = ("data.mirror", "protocol.augmentation.mirror")  # both must allow it
TEXTS = (".md", ".py", ".yaml")
PAPERS_OWN = ("protocol=paper", "data=cifar10", "protocol.precision=32-true")


def configuration(*overrides: str) -> dict:
    return compose_cell(ROOT / "nowhere", *overrides).identity


def entries(config: dict) -> list[ledger.Deviation]:
    return ledger.of_configuration("made up", config, "AVX2").deviations


def another(value):
    """A value unlike this one, and smaller than no size of the paper."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, 99]
    return f"not {value}" if isinstance(value, str) else value * 2 + 1


def nested(flat: dict) -> dict:
    """The configuration with these keys."""
    config: dict = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = config
        for name in path:
            node = node.setdefault(name, {})
        node[last] = value
    return config


def test_the_papers_values_are_no_deviation():
    """All that is left stands in the code."""
    left = entries(configuration(*PAPERS_OWN))
    assert left
    assert all(each.code for each in left)
    assert {each.name for each in left} == {
        fact.name for fact in ledger.FACTS if fact.key != "runs"
    }


# The ledger is of section 4.2, and imagenet is of 3.4
@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if "imagenet" not in name])
def test_no_value_of_a_configuration_can_change_without_a_word(protocol):
    config = configuration(f"protocol={protocol}", "data=cifar10")
    flat, before = ledger.flatten(config), entries(config)
    keys = flat.keys() - ledger.NOT_COMPARED
    if flat["protocol.schedule.kind"] != "step":  # these play no part then
        keys -= {"protocol.schedule.milestones", "protocol.schedule.factor"}
    assert len(keys) > 20
    for key in keys:
        changed = MIRRORS if key in MIRRORS else (key,)
        value = another(all(flat[each] for each in MIRRORS) if key in MIRRORS else flat[key])
        after = entries(nested(flat | dict.fromkeys(changed, value)))
        names = {each.name for each in after if each not in before and key in each.keys}
        gone = {each.name for each in before if each not in after and key in each.keys}
        assert names | gone, f"{key}={value}"
        for each in after:
            assert each.paper != each.here, each


def test_a_key_that_the_ledger_does_not_know_is_a_deviation():
    config = configuration(*PAPERS_OWN)
    config["protocol"]["dropout"] = 0.5
    new = [each for each in entries(config) if each not in entries(configuration(*PAPERS_OWN))]
    assert [(each.name, each.here, each.kind) for each in new] == [
        ("protocol.dropout", "0.5", ledger.DIFFERS)
    ]


@pytest.mark.parametrize(
    ("override", "name", "here", "kind"),
    [
        ("protocol.width=8", "channels of the stages", "8/16/32", ledger.SMALLER),
        ("protocol.width=32", "channels of the stages", "32/64/128", ledger.DIFFERS),
        ("data.image_size=16", "image size", "16×16", ledger.SMALLER),
        ("protocol.iterations=50000", "iterations", "50,000", ledger.SMALLER),
        ("protocol.evaluation_images=500", "images evaluated", "500", ledger.SMALLER),
        ("model=projection", "shortcut", "projection", ledger.DIFFERS),
        ("protocol.nesterov=true", "momentum", "0.9, Nesterov", ledger.DIFFERS),
        ("protocol.schedule.kind=cosine", "schedule", "falls to 0 as a cosine", ledger.DIFFERS),
        ("data.val_size=5000", "validation images", "5,000 training images held out", "not known"),
        ("data.image_size=null", "image size", None, None),
        ("model=plain", "shortcut", None, None),
    ],
)
def test_a_changed_value_is_told_and_a_smaller_size_is_on_purpose(override, name, here, kind):
    found = [each for each in entries(configuration(*PAPERS_OWN, override)) if each.name == name]
    assert [each.here for each in found] == ([here] if here else [])
    assert all(each.kind.startswith(kind) for each in found)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def shown(capsys, *words: str) -> str:
    assert command.main(["deviations", *words]) == 0
    return capsys.readouterr().out


def of_protocol(capsys, *words: str) -> dict[str, dict]:
    """The entries of one protocol by name, from the command's JSON."""
    (one,) = json.loads(shown(capsys, *words, "--json"))
    return {each["name"]: each for each in one["deviations"]}


def test_rows_say_what_was_really_used(results, capsys):
    assert of_protocol(capsys, "PROTOCOL=paper")["precision"]["here"].startswith("bf16 where")
    folder = results / "depth" / "paper"
    rows = [
        made_up_record(data_label="a copy", precision="32-true", processor="a GPU", kernels="fused")
    ]
    write_made_up(folder, rows)
    write_json(folder / CONFIG_FILE, shared_config(configuration("protocol=paper")))
    measured = of_protocol(capsys, "PROTOCOL=paper")
    assert "precision" not in measured
    assert measured["images"]["here"] == "a copy"
    assert "a GPU" in measured["machine"]["here"]
    assert "fused kernels" in measured["machine"]["here"]
    assert measured["runs of a network"]["here"].startswith("1 seed,")
    overridden = of_protocol(capsys, "PROTOCOL=paper", "protocol.width=8")
    assert "channels of the stages" in overridden, "an override asks for what was not measured"
    assert overridden["precision"]["here"].startswith("bf16 where")


@pytest.mark.parametrize("instructions", ["AVX2", "native"])
def test_vector_instructions_are_told_before_anything_is_measured(results, capsys, instructions):
    asked = of_protocol(capsys, "PROTOCOL=cpu", f"instruction_set={instructions}")
    assert f" {instructions} " in asked["machine"]["here"]


def test_rows_without_their_configuration_are_refused(results, capsys):
    write_made_up(results / "depth" / "cpu", [made_up_record()])
    assert "no config.json in results/depth/cpu" in refused(capsys, "PROTOCOL=cpu")


def refused(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        command.main(["deviations", *words])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["PROTOCOL=papre"], "no protocol 'papre'; choose cpu, "),
        (["PROTOCOL=paper", "protocol.iterations=few"], "protocol.iterations 'few' is not a whole"),
        (
            ["PROTOCOL=paper", "protocol.batch_size=0"],
            "protocol.batch_size 0 is not a whole number",
        ),
        (["PROTOCOL=paper", "protocol.batch=9"], "protocol.batch"),
    ],
)
def test_what_no_run_can_have_is_one_line(results, capsys, words, said):
    assert said in refused(capsys, *words)


def test_without_a_protocol_one_table_has_them_all(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = shown(capsys)
    ledgers = json.loads(shown(capsys, "--json"))
    names = [one["protocol"] for one in ledgers]
    assert names == [name for name in PROTOCOLS if name not in command.NOT_OF_DEPTH]
    assert text.splitlines()[2].split() == names
    for one in ledgers:
        for each in one["deviations"]:
            assert re.search(rf"^{re.escape(each['name'])}  ", text, re.MULTILINE), each["name"]


def test_the_json_is_that_of_the_ledger_and_always_the_same(results, capsys):
    first = shown(capsys, "PROTOCOL=quick", "--json")
    assert first == shown(capsys, "PROTOCOL=quick", "--json")
    (one,) = json.loads(first)
    assert one.keys() == {"protocol", "source", "deviations"}
    found = entries(configuration("protocol=quick"))
    fields = {"name", "paper", "place", "here", "kind", "keys", "code"}
    for each, expected in zip(one["deviations"], found, strict=True):
        assert each.keys() == fields == asdict(expected).keys()
        assert each["kind"] in ledger.KINDS
        assert all(each[name] for name in ("name", "paper", "place", "here"))


def test_the_command_needs_no_torch():
    code = (
        "import sys\nfrom experiments.__main__ import main\n"
        "main(['deviations', 'protocol.width=4'])\nsys.exit('torch' in sys.modules)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_page_has_the_ledger_of_the_paper_protocol():
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    cell = compose_cell(ROOT / "nowhere", "protocol=paper", "data=cifar10_jpeg")
    found = ledger.of_configuration("paper", cell.identity, cell.config.instruction_set)
    assert "\n".join(markdown(ledger.table(found))) in page


@pytest.mark.parametrize(
    ("protocol", "seeds", "says"),
    [
        ("cpu16", [0], "residual networks."),
        ("cpu", [1, 2], "; seeds 1, 2 had no part in the choice."),
        ("cpu", [0, 1], "; seed 1 had no part in the choice."),
        ("cpu32", [0], None),
    ],
)
def test_that_cpu_was_chosen_after_cpu16_is_said_of_both(protocol, seeds, says):
    label = {"data_label": "CIFAR-10 (JPEG copy)"}
    rows = [made_up_record(protocol=protocol, seed=seed, **label) for seed in seeds]
    found = cautions(rows)
    assert len(found) == (says is not None)
    assert all(each.startswith(SELECTION) and each.endswith(says) for each in found)


def test_it_is_said_wherever_verdicts_of_cpu_are_shown():
    results = ROOT / "results"
    for page in ("depth/cpu", "autopsy", "dose", "robustness", "shortcuts/cpu", "thousand"):
        text = (results / page / "README.md").read_text(encoding="utf-8")
        assert SELECTION in " ".join(text.split()), page
    assert SELECTION in " ".join(QUESTION.text(results / "depth" / "cpu").split())


def test_of_added_seeds_it_is_said_that_others_had_been_seen_and_of_no_others():
    results, said = ROOT / "results", {}
    for page in results.glob("**/README.md"):
        text = " ".join(page.read_text(encoding="utf-8").split())
        if (name := page.parent.relative_to(results).as_posix()).split("/")[0] != "local":
            said[name] = set(re.findall(f"(Seeds? [0-9, ]+): {ADDED}", text))
    assert {name: found for name, found in said.items() if found} == {
        "shortcuts/quick": {"Seeds 8, 9"},
        "thousand": {"Seeds 8, 9"},
        "autopsy": {"Seed 9"},
        "signal": {"Seed 9"},
    }
    row = made_up_record(commit="22040951fc2a", finished_at="2026-11-28T20:00:00Z")
    assert cautions([row]) == []
    assert cautions([replace(row, seed=9, finished_at="2026-11-29T16:00:00Z")]) != []


def test_nothing_says_that_a_protocol_is_the_papers_to_the_letter():
    folders = [ROOT / name for name in ("conf", "docs", "experiments", "results", "src")]
    pages = [path for folder in folders for path in folder.rglob("*") if path.suffix in TEXTS]
    assert len(pages) > 100
    for path in [*pages, ROOT / "README.md"]:
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert "to the letter" not in text, path


# What the code does, fact by fact


def batches(count: int = 30, size: int = 8, batch: int = 8, augmentation=None) -> TrainingBatches:
    torch.manual_seed(0)
    pixels = torch.randint(1, 256, (count, 1, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, 4, (count,))
    normaliser = Normaliser(pixels, "pixel_mean")
    options = {"batch_size": batch, "seed": 1, "stop": 99}
    return TrainingBatches(pixels, labels, normaliser, augmentation or Augmentation(), **options)


def small_network() -> CifarNetwork:
    torch.manual_seed(0)
    network = CifarNetwork(8, "zero_pad", width=2, num_classes=4, in_channels=1)
    with torch.no_grad():
        for parameter in network.parameters():  # no parameter is 0, so that decay shows
            parameter += 0.1 * torch.rand_like(parameter)
    return network


def update(network: nn.Module, rates: list[float], decay: float = 0.0, momentum: float = 0.9):
    """Trains in place with one update per rate; returns the batches and the module."""
    stream = batches()
    made: list[Batch] = []

    def make_batch(draws) -> Batch:
        made.append(stream.make_batch(draws))
        return made[-1]

    module = Classifier(network, make_batch, rates.__getitem__, momentum, decay, window=len(rates))
    optimiser = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer: optimiser
    for iteration in range(len(rates)):
        draws = {name: each[None] for name, each in stream.random_draws(iteration).items()}
        module.training_step(StepDraws(iteration, draws), 0)
    return made, module


def by_rule(rates: list[float], inside: bool) -> torch.Tensor:
    """Weights of a linear network after updates by hand; `inside`: the rate in the velocity."""
    network, stream = linear_network(), batches()
    velocity: torch.Tensor | float = 0.0
    weight = network[1].weight
    for iteration, rate in enumerate(rates):
        images, labels = stream.batch(iteration)
        (gradient,) = torch.autograd.grad(
            nn.functional.cross_entropy(network(images), labels), weight
        )
        with torch.no_grad():
            velocity = 0.9 * velocity + (rate * gradient if inside else gradient)
            weight -= velocity if inside else rate * velocity
    return weight.detach()


def linear_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False))


def check_velocity():
    for rates, equal in (([0.1] * 4, True), ([0.01, 0.01, 0.1, 0.1], False)):
        network = linear_network()
        update(network, rates)
        weight = network[1].weight.detach()
        torch.testing.assert_close(weight, by_rule(rates, inside=False))
        assert torch.allclose(weight, by_rule(rates, inside=True), atol=1e-5) == equal


def first_layer_outputs() -> tuple[CifarNetwork, torch.Tensor]:
    """A network after one update, and the outputs of its first convolution before it."""
    network = small_network()
    before = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    before.load_state_dict(network.conv1.state_dict())
    made, _ = update(network, [0.1])
    return network, before(made[0].images).detach()


def check_batch_statistics():
    network, outputs = first_layer_outputs()
    whole, half = (part.var((0, 2, 3)) for part in (outputs, outputs[: len(outputs) // 2]))
    torch.testing.assert_close(network.bn1.running_var, 0.9 + 0.1 * whole)
    assert not torch.allclose(network.bn1.running_var, 0.9 + 0.1 * half)


def check_running_statistics():
    network, outputs = first_layer_outputs()
    torch.testing.assert_close(network.bn1.running_mean, 0.1 * outputs.mean((0, 2, 3)))


def check_decayed():
    initial, free, decayed = small_network(), small_network(), small_network()
    update(free, [0.1], momentum=0.0)
    update(decayed, [0.1], decay=0.5, momentum=0.0)
    others = dict(free.named_parameters()), dict(decayed.named_parameters())
    for name, parameter in initial.named_parameters():
        pulled = (others[0][name] - others[1][name]).detach()
        torch.testing.assert_close(pulled, 0.1 * 0.5 * parameter.detach(), msg=name)


def check_border():
    stream = batches(augmentation=Augmentation(padding=2))
    draws = stream.random_draws(0) | {"corner": torch.zeros(8, 2, dtype=torch.long)}
    images = stream.make_batch(draws).images
    assert (images[:, :, :2] == 0).all()
    assert (images[:, :, 2:, 2:] != 0).float().mean() > 0.9


def check_pixel_scale():
    stream = batches()
    pixels = stream.images[:8].float()
    images = stream.normaliser(pixels / 255)
    torch.testing.assert_close(images + stream.normaliser.mean, pixels / 255)
    network = small_network().train()
    torch.testing.assert_close(network(images), network(255 * images), rtol=1e-2, atol=1e-2)


def check_fan():
    torch.manual_seed(0)
    network = CifarNetwork(20, "zero_pad", width=16)
    widening = network.layer3[0].conv1.weight  # 32 → 64 channels
    assert widening.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert network.fc.weight.abs().max() <= 64**-0.5
    assert network.fc.weight.std().item() == pytest.approx((64 * 3) ** -0.5, rel=0.05)


def check_new_channels():
    x = torch.arange(1.0, 33).view(1, 2, 4, 4)
    out = ZeroPadShortcut(2, 6, 2)(x)
    assert torch.equal(out[:, 2:4], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 4:].any()


def check_order():
    stream = batches(count=30, batch=8)
    first, second = (
        torch.cat([stream.random_draws(each)["indices"] for each in range(start, start + 3)])
        for start in (0, 3)
    )
    for epoch in (first, second):
        assert len(set(epoch.tolist())) == 24
    assert first.tolist() != second.tolist()


def check_warmup():
    for arm in ("plain", "residual"):
        schedule = compose_cell(ROOT / "nowhere", "protocol=paper", f"model={arm}").schedule
        assert [schedule.at(399, 110), schedule.at(400, 110), schedule.at(0, 56)] == [
            0.01,
            0.1,
            0.1,
        ]


def check_split():
    counts = []
    for size in (0, 100):
        source = compose_cell(
            ROOT / "nowhere", "data=digits", f"data.val_size={size}"
        ).load_images()
        counts.append((len(source.train), source.validation and len(source.validation)))
    assert counts == [(1408, None), (1308, 100)]


def check_training_error():
    network, before = small_network(), small_network().train()
    made, module = update(network, [0.0, 0.0])  # so that the weights stay
    errors = [(before(images).argmax(1) != labels).float().mean() for images, labels in made]
    assert module.running_error_and_loss()[0] == pytest.approx(float(sum(errors)) / 2)


def check_machine():
    assert machine.pick_device("cpu") == ("cpu", torch.device("cpu"))


def check_runs():
    rows = [made_up_record(seed=seed, train_error=error) for seed, error in ((0, 0.2), (1, 0.4))]
    assert claims.table(claims.grid_of(rows))[2][1].startswith("30.00 ± 14.14")


CHECKS = {
    name.removeprefix("check_"): each for name, each in globals().items() if name[:6] == "check_"
}


def test_every_fact_is_checked():
    assert CHECKS.keys() == {fact.key for fact in ledger.FACTS}


@pytest.mark.parametrize("fact", ledger.FACTS, ids=lambda fact: fact.key)
def test_the_code_does_what_the_ledger_says(fact):
    assert pydoc.locate(fact.code) is not None
    CHECKS[fact.key]()
