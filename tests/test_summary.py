"""Networks layer by layer, against textbook figures and real gradients; the command inspect."""

import sys

import pytest
import torch
from composing import python
from drawn import cut_off, texts_drawn
from torch import nn

from experiments.__main__ import PICTURED
from experiments.reporting.style import TYPE
from plainres.instruments import inspect
from plainres.networks.blocks import SqueezeExcitationBlock
from plainres.networks.classics import AlexNet, LeNet5, googlenet, inception_v3, vgg
from plainres.networks.cures import FixupNetwork
from plainres.networks.resnet import CifarNetwork, ImageNetwork
from plainres.networks.summary import summarise


def rows_of(make, image_shape):
    with torch.device("meta"):
        return summarise(make(), image_shape)


@pytest.mark.parametrize(("model", "make"), [("lenet5", LeNet5), ("alexnet", AlexNet)])
def test_known_shapes_and_parameters(model, make):
    rows = rows_of(make, inspect.IMAGE_SHAPES[model])
    assert inspect.missing_shapes(rows, inspect.KNOWN_SHAPES[model].split()) == []
    assert sum(row.parameters for row in rows) in inspect.KNOWN_PARAMETERS[model].values()


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_known_parameters_of_vgg(depth):
    rows = rows_of(lambda: vgg(depth), (3, 224, 224))
    assert sum(row.parameters for row in rows) == inspect.KNOWN_PARAMETERS["vgg"][depth]
    assert inspect.missing_shapes(rows, inspect.KNOWN_SHAPES["vgg"].split()) == []


def se_50() -> ImageNetwork:
    return ImageNetwork(50, "projection", squeeze_excitation=True)


def se_20() -> CifarNetwork:
    return CifarNetwork(20, "zero_pad", block=SqueezeExcitationBlock)


@pytest.mark.parametrize(
    ("make", "image_shape", "parameters", "multiply_adds"),
    [
        (lambda: CifarNetwork(20, "zero_pad"), (3, 32, 32), 269_722, 40_551_040),
        (lambda: ImageNetwork(50, "projection"), (3, 224, 224), 25_557_032, 4_089_184_256),
        (lambda: ImageNetwork(152, "projection"), (3, 224, 224), 60_192_808, 11_513_626_624),
        (se_50, (3, 224, 224), 28_088_024, 4_091_699_200),
        (googlenet, (3, 224, 224), 6_624_904, 1_498_376_192),
        (inception_v3, (3, 299, 299), 23_834_568, 5_713_216_096),
    ],
    ids=["residual-20", "residual-50", "residual-152", "se-50", "googlenet", "inception_v3"],
)
def test_totals(make, image_shape, parameters, multiply_adds):
    rows = rows_of(make, image_shape)
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.multiply_adds for row in rows) == multiply_adds


def input_side_of_one_output(network: nn.Module, size: int) -> int:
    """Pixels a side that the middle output depends on: those with a gradient (weights positive)."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    image = torch.rand(1, 1, size, size, requires_grad=True)
    output = network(image)
    rows, columns = output.shape[-2:]
    output[0, 0, rows // 2, columns // 2].backward()
    lines = [(image.grad[0, 0].abs().sum(side) > 0).nonzero() for side in (0, 1)]
    return max(int(line.max() - line.min()) + 1 for line in lines)


class EverySecondPixel(nn.Module):
    def forward(self, x):
        return x[:, :, ::2, ::2]


@pytest.mark.parametrize(
    "layers",
    [
        (
            nn.Conv2d(1, 2, 5),
            nn.AvgPool2d(2),
            nn.Conv2d(2, 2, 3, padding=1),
            nn.AvgPool2d(3, stride=2),
            nn.Conv2d(2, 1, 3),
        ),
        (nn.Conv2d(1, 2, 3, 2, dilation=2), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 3, stride=2)),
        (nn.Conv2d(1, 2, (1, 7)), nn.Conv2d(2, 2, (9, 1), (2, 1)), nn.Conv2d(2, 1, (3, 1))),
        (nn.Conv2d(1, 2, 3), EverySecondPixel(), nn.Conv2d(2, 1, 3)),
    ],
)
def test_the_receptive_field_is_what_an_output_depends_on(layers):
    network = nn.Sequential(*layers)
    rows = summarise(network, (1, 65, 65))
    assert rows[-1].receptive_field == input_side_of_one_output(network, 65)


def test_a_shortcut_takes_the_wider_of_two_fields_and_squeezing_sees_the_image():
    rows = {row.name: row for row in rows_of(lambda: CifarNetwork(8, "projection"), (3, 32, 32))}
    assert rows["layer2.0.downsample.0"].stride == 2
    assert rows["layer2.0.downsample.0"].receptive_field == 7
    assert rows["layer2.0.bn2"].receptive_field == 13
    assert rows["layer3.0.conv1"].receptive_field == 13 + 2 * 2
    squeezed = rows_of(se_20, (3, 32, 32))
    fields = {row.name: (row.receptive_field, row.stride) for row in squeezed}
    assert fields["layer1.0.se.avgpool"][0] >= 32
    assert fields["layer2.0.conv1"][1] == 2


def test_layers_come_in_the_order_of_the_pass_and_leave_the_network_as_it_was():
    network = LeNet5().train()
    rows = summarise(network, (1, 32, 32))
    kinds = [row.kind for row in rows if row.parameters]
    assert kinds == ["Conv2d"] * 2 + ["Linear"] * 3
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (googlenet, "3×224 64×112 64×56 192×56 192×28 256×28 480×28"),
        (se_20, "3×32 16×32 32×16 64×8"),
    ],
)
def test_stages_are_of_layers_and_whole_blocks(make, sizes):
    channels_and_sides = [map(int, size.split("×")) for size in sizes.split()]
    shapes = [(channels, side, side) for channels, side in channels_and_sides]
    with torch.device("meta"):
        network = make()
    stages = inspect.stages_of(network, shapes[0])
    assert [stage.shape for stage in stages[: len(shapes)]] == shapes
    assert not any(module._forward_hooks for module in network.modules())


def test_stages_show_what_differs_where_shapes_do_not():
    kinds = {
        era: [stage.kinds for stage in inspect.stages_of(LeNet5(era=era), (1, 32, 32))]
        for era in ("modern", "1998", "1998-sigmoid")
    }
    assert kinds["modern"] == [["image"], *2 * [["Conv2d", "ReLU"], ["MaxPool2d"]]]
    assert kinds["1998"] == [["image"], *2 * [["Conv2d", "Tanh"], ["AvgPool2d"]]]
    assert kinds["1998-sigmoid"] == [["image"], *2 * [["Conv2d", "Sigmoid"], ["AvgPool2d"]]]


def test_parameters_that_a_block_owns_itself_are_counted():
    network = FixupNetwork(8, "zero_pad", norm="none")
    rows = summarise(network, (3, 32, 32))
    counted = sum(row.parameters for row in rows)
    assert counted == sum(parameter.numel() for parameter in network.parameters())
    owned = [row.parameters for row in rows if row.kind == "FixupBlock"]
    assert owned == [5] * 3, "four biases and a factor each"


def test_missing_shapes_are_named():
    rows = rows_of(LeNet5, (1, 32, 32))
    assert inspect.missing_shapes(rows, ["6×28×28", "7×7×7"]) == ["7×7×7"]
    assert inspect.missing_shapes(rows, ["16×5×5", "6×28×28"]) == ["6×28×28"], "comes earlier"


@pytest.fixture
def run(monkeypatch, capsys):
    """The status, stdout and stderr of the command, in this process."""

    def of(*words: str) -> tuple[int, str, str]:
        for name in ("HYDRA_FULL_ERROR", "PLAINRES_TRACEBACK"):
            monkeypatch.setenv(name, "0")
        # Hydra's `disabled` would switch off the loggers of the tests that follow
        silent = ("hydra/job_logging=none", "hydra/hydra_logging=none")
        monkeypatch.setattr(sys, "argv", ["inspect", *silent, *words])
        status = 0
        try:
            inspect.main()
        except SystemExit as stopped:
            status = stopped.code
        return status, *capsys.readouterr()

    return of


def test_the_command_prints_the_layers_and_draws_their_shapes(tmp_path):
    words = ("model=alexnet", f"picture={tmp_path / 'alexnet.png'}")
    shown = python("-m", "plainres.instruments.inspect", *words)
    assert shown.returncode == 0, shown.stderr
    assert "12 of 12 known shapes in their order" in shown.stdout
    assert "62,378,344 parameters (as known)" in shown.stdout
    assert (tmp_path / "alexnet.png").stat().st_size > 1000


@pytest.mark.parametrize("network", PICTURED)
def test_every_text_of_a_picture_can_be_projected_and_lies_inside_it(run, tmp_path, network):
    with texts_drawn() as texts:
        status, _, err = run(*f"model={network}".split(), f"picture={tmp_path / 'picture.png'}")
    assert status == 0, err
    assert not cut_off(texts)
    assert min(text.points for text in texts) >= TYPE


@pytest.mark.parametrize(
    "words", [("model=lenet5", "num_classes=3"), ("model=residual_imagenet", "model.shortcut=none")]
)
def test_a_network_that_is_not_the_published_one_is_not_compared_with_it(run, words):
    status, out, err = run(*words)
    assert status == 0, err
    assert "known" not in out


def test_another_depth_is_compared_with_its_own_figures(run):
    _, out, err = run("model=residual_imagenet", "model.depth=50")
    assert "25,557,032 parameters (as known)" in out, err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=vgg", "model.depth=15"), "vgg has no depth 15; choose 11, 13, 16 or 19"),
        (("model=lenet5", "image_shape=[1,28,28]"), "LeNet-5 takes 32×32 images"),
        (("model=vgg", "model.head=small", "image_shape=[3,16,16]"), "takes no 3×16×16 images"),
        (("model=resnet",), "Available options in 'model'"),
        (("model=vgg", "image_shape=[224]"), "is not [channels, height, width]"),
        (("model=vgg", "image_shape=224"), "image_shape 224 is not [channels, height, width]"),
        (("model=vgg", "image_shape=[3,0,224]"), "is not [channels, height, width], each from 1"),
        (("model.width=-3",), "model.width -3 is not a whole number from 1 up"),
        (("num_classes=0",), "num_classes 0 is not a whole number from 1 up"),
    ],
)
def test_bad_input_is_one_line(run, words, expected):
    status, _, err = run(*words)
    assert status != 0
    assert len(err.splitlines()) == 1, err
    assert expected in err
