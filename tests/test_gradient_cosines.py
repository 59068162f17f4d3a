"""Gradients in low precision beside exact ones: hand-made cases, and a run that stays as it is."""

from dataclasses import replace

import pytest
import torch
from composing import compose_cell
from torch import nn
from torch.nn import functional
from trained import SMOKE, curve, interrupt, numbers

from plainres.data.batches import Augmentation, Batch, Normaliser, TrainingBatches
from plainres.instruments import gradient_cosines as cosines
from plainres.networks.blocks import BasicBlock
from plainres.networks.resnet import CifarNetwork
from plainres.records import files, schema
from plainres.run import train
from plainres.training.module import Classifier

CALLBACK = (
    "+callbacks={cosines:{_target_:plainres.instruments.gradient_cosines.GradientCosines,images:8}}"
)


def network(depth: int = 8, shortcut: str = "zero_pad", **options) -> CifarNetwork:
    torch.manual_seed(0)
    made = CifarNetwork(depth, shortcut, width=4, in_channels=1, **options)
    return made.to(memory_format=torch.channels_last)


def batch(count: int = 8) -> Batch:
    torch.manual_seed(1)
    images = torch.randn(count, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    return Batch(images, torch.arange(count) % 10)


def stream_of(pixels: torch.Tensor, labels: torch.Tensor) -> TrainingBatches:
    normaliser = Normaliser(pixels, "channel")
    return TrainingBatches(pixels, labels, normaliser, Augmentation(), 2, seed=0, stop=1)


def snapshot(net: nn.Module, count: int = 8, images: int = 4) -> list[cosines.GradientCosine]:
    torch.manual_seed(2)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8)
    stream = stream_of(pixels, torch.arange(count) % 10)
    return cosines.GradientCosines(images).snapshot(("plain", 8, 0, 0), net, stream)


def flat(gradients: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def rows_of(cell) -> list[cosines.GradientCosine]:
    return files.read_table(cell.folder / "gradient_cosines.csv", cosines.GradientCosine)


def without_seconds(rows) -> list[cosines.GradientCosine]:
    return [replace(row, seconds=None) for row in rows]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    # A module's fixture is made before the test's own cache
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PLAINRES_CACHE", str(tmp_path_factory.mktemp("cache")))
        cell = compose_cell(tmp_path_factory.mktemp("measured"), *SMOKE, CALLBACK)
        return cell, train.train_cell(cell)


@pytest.mark.parametrize(
    ("gradient", "exact", "cosine", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 1.0, 0.0),
        ([6.0, 8.0], [3.0, 4.0], 1.0, 1.0),
        ([-4.0, 3.0], [3.0, 4.0], 0.0, 2**0.5),
        ([-3e-100, -4e-100], [3e-100, 4e-100], -1.0, 2.0),
    ],
)
def test_cosine_and_error_of_vectors(gradient, exact, cosine, error):
    pair = (torch.tensor(values, dtype=torch.float64) for values in (gradient, exact))
    assert cosines.compare(*pair) == pytest.approx((cosine, error))


def test_a_gradient_of_zero_has_no_direction():
    zero, one = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    assert not any(map(cosines.finite, cosines.compare(one, zero)))
    assert cosines.finite(cosines.compare(zero, one).cosine) is None
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    nn.init.zeros_(net[2].weight)
    layer = snapshot(net)[1]
    assert (layer.cosine_float32, layer.error_bf16, layer.cosine_images) == (None, None, None)


def test_a_sum_whose_sign_bf16_turns_around():
    """257, 257, 257 and 770.5 are 256, 256, 256 and 772 in bf16, and numbers of float32.

    So three of them minus the fourth is 0.5 in float32 and -4 in bf16. The gradient by the
    convolution's only weight has that sign.
    """
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[2].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, -1.0], [0.0] * 4]))
    images = torch.tensor([257.0, 257.0, 257.0, 770.5]).view(1, 1, 1, 4)
    exact, float32, bf16 = (
        cosines.loss_gradients(net, Batch(images, torch.tensor([0])), precision)
        for precision in ("float64", "float32", "bf16")
    )
    # by the weight w: (p - 1) · 0.5 where p = 1 / (1 + exp(-0.5 w)); bf16: (p - 1) · -4
    assert exact[0].item() == pytest.approx(-0.5 / (1 + torch.tensor(0.5).exp().item()))
    assert cosines.compare(float32[0], exact[0]) == pytest.approx((1.0, 0.0), abs=1e-3)
    assert cosines.compare(bf16[0], exact[0]).cosine == -1
    assert bf16[0].item() == pytest.approx(4 / (1 + torch.tensor(-4.0).exp().item()), rel=0.01)


def test_what_float32_holds_exactly_has_a_cosine_of_one():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    for row in snapshot(net):
        assert row.cosine_float32 == pytest.approx(1, abs=1e-12)
        assert row.error_float32 < 1e-6
        assert 0.99 < row.cosine_bf16 < 1 - 1e-7
        assert 1e-4 < row.error_bf16 < 0.1


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("options", [{}, {"checkpoint_activations": True}])
def test_gradients_are_those_of_training_to_the_last_bit(precision, options):
    net, (images, labels) = network(14, **options), batch()
    module = Classifier(net, None, None, 0.9, 0.0, 1, dtype=cosines.PRECISIONS[precision])
    measured = cosines.loss_gradients(net, Batch(images, labels), precision)
    functional.cross_entropy(module.logits_of_heads(images)[0], labels).backward()
    for gradient, parameter in zip(measured, net.parameters(), strict=True):
        assert torch.equal(gradient, parameter.grad.double())


def test_float64_is_exact_beside_the_others():
    """Images in another order are summed in another order: float64 hardly sees it."""
    net, (images, labels) = network(56, "none"), batch(16)
    turned = Batch(images.flip(0), labels.flip(0))
    exact, other = (
        flat(cosines.loss_gradients(net, each, "float64"))
        for each in (Batch(images, labels), turned)
    )
    rounding = cosines.compare(other, exact).error
    single = flat(cosines.loss_gradients(net, Batch(images, labels), "float32"))
    assert 0 < rounding < 1e-6 * cosines.compare(single, exact).error


def test_gradients_of_deep_plain_networks_lose_their_direction_in_bf16():
    plain, residual = (snapshot(network(56, shortcut))[0] for shortcut in ("none", "zero_pad"))
    assert plain.cosine_bf16 < 0.5 < 0.8 < residual.cosine_bf16
    assert plain.error_bf16 > residual.error_bf16 > residual.error_float32


def test_rows_are_the_convolutions_after_all_parameters_together():
    net = network(14, "projection")
    rows = snapshot(net)
    weights = [each.weight for each in net.modules() if isinstance(each, nn.Conv2d)]
    assert [row.layer for row in rows] == list(range(len(weights) + 1))
    torch.manual_seed(2)
    pixels = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    images = Normaliser(pixels, "channel")(pixels.float() / 255)[::2]
    double = network(14, "projection").double()
    loss = functional.cross_entropy(double(images.double()), torch.arange(8)[::2])
    single = functional.cross_entropy(net(images), torch.arange(8)[::2])
    pairs = zip(
        torch.autograd.grad(single, weights),
        torch.autograd.grad(
            loss, [each.weight for each in double.modules() if isinstance(each, nn.Conv2d)]
        ),
        strict=True,
    )
    expected = [functional.cosine_similarity(a.flatten(), b.flatten(), 0).item() for a, b in pairs]
    assert [row.cosine_float32 for row in rows[1:]] == pytest.approx(expected, rel=1e-4)


def test_other_images_are_every_second_one_between():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    pixels = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    pairs = stream_of(pixels.repeat_interleave(2, 0), torch.arange(4).repeat_interleave(2))
    (row,) = cosines.GradientCosines(4).snapshot(("plain", 8, 0, 0), net, pairs)
    assert row.cosine_images == pytest.approx(1)
    halves = stream_of(pixels.repeat(2, 1, 1, 1), torch.arange(4).repeat(2))
    (row,) = cosines.GradientCosines(4).snapshot(("plain", 8, 0, 0), net, halves)
    assert row.cosine_images < 0.9


def test_images_lie_in_memory_as_in_training():
    layouts = []

    def note(module, inputs):
        layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    net.register_forward_pre_hook(note)
    pixels = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    stream = stream_of(pixels, torch.arange(8))
    assert cosines.GradientCosines(4).snapshot(("plain", 8, 0, 0), net, stream)
    assert layouts == [True] * 4


def test_dropout_drops_the_same_units_in_each_precision():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
    row = snapshot(nn.Sequential(*layers))[0]
    assert row.cosine_float32 == pytest.approx(1)
    assert row.cosine_bf16 > 0.99


@pytest.mark.parametrize("options", [{}, {"checkpoint_activations": True}, {"norm": "none"}])
def test_a_snapshot_leaves_everything_as_it_is(options):
    net = network(14, **options)
    net(batch().images).sum().backward()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    torch.manual_seed(2)
    torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    random = torch.get_rng_state()
    assert snapshot(net)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.dtype == before[name].dtype
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_loss_that_is_not_finite_has_no_rows():
    net = network()
    nn.init.constant_(net.fc.bias, torch.nan)
    assert snapshot(net) == []


@pytest.mark.parametrize("how", ["compiled", "fused"])
def test_other_kernels_are_refused_in_one_line(how):
    net = network()
    for module in net.modules():
        if type(module) is BasicBlock and how == "compiled":
            module.compile(backend="eager")
        elif type(module) is BasicBlock:  # without Triton, which the module needs
            name = {"__module__": "plainres.training.fused"}
            module.__class__ = type("FusedBlock", (BasicBlock,), name)
    with pytest.raises(
        ValueError, match=r"^gradient_cosines.csv is for library kernels.*kernels=l"
    ):
        snapshot(net)


@pytest.mark.parametrize("options", [{"images": 1}, {"at": []}, {"at": [-1, 3]}])
def test_illegal_options_are_refused(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        cosines.GradientCosines(**options)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_measured_run_has_the_record_of_one_that_is_not(measured, tmp_path, precision):
    words = (*SMOKE, f"protocol.precision={precision}")
    without, with_it = (
        compose_cell(tmp_path / name, *words, *more)
        for name, more in (("without", ()), ("with", (CALLBACK,)))
    )
    assert without.identity == with_it.identity
    records = [train.train_cell(cell) for cell in (without, with_it)]
    assert numbers(records[0]) == numbers(records[1])
    assert records[0].precision == precision
    assert curve(without) == curve(with_it)
    assert not (without.folder / "gradient_cosines.csv").exists()
    start = [
        [row for row in rows_of(cell) if row.iteration == 0] for cell in (with_it, measured[0])
    ]
    assert without_seconds(start[0]) == without_seconds(start[1]), "whatever the run trains in"


def test_every_layer_has_a_row_in_every_snapshot(measured):
    rows = rows_of(measured[0])
    assert [(row.iteration, row.layer) for row in rows] == [
        (step, layer) for step in (0, 1, 10, 24) for layer in range(8)
    ]
    for row in rows:
        assert (row.arm, row.depth, row.seed) == ("residual", 8, 0)
        assert 0.9 < row.cosine_float32 <= 1.000001
        assert row.error_float32 < row.error_bf16
        assert (row.seconds is not None) == (row.layer == 0)


@pytest.mark.parametrize("iteration", [1, 10, 17])
def test_an_interrupted_run_leaves_the_same_rows(measured, tmp_path, iteration):
    cell = compose_cell(tmp_path, *SMOKE, CALLBACK, "checkpoint_seconds=0")
    interrupt(cell, iteration)
    assert numbers(train.train_cell(cell)) == numbers(measured[1])
    assert without_seconds(rows_of(cell)) == without_seconds(rows_of(measured[0]))


def test_a_diverged_run_keeps_its_rows_so_far(tmp_path):
    words = ("model=plain", "protocol.learning_rate=1e30")
    cell = compose_cell(tmp_path, *SMOKE, CALLBACK, *words)
    assert train.train_cell(cell).status == schema.DIVERGED
    assert rows_of(cell)[0].iteration == 0


def test_rows_are_gathered_beside_the_curves(measured):
    cell, _ = measured
    files.gather(cell.results_folder)
    gathered = cell.results_folder / "gradient_cosines.csv"
    assert files.read_table(gathered, cosines.GradientCosine) == rows_of(cell)
