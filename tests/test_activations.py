"""Activations with a slope and a shift."""

import pytest
import torch
from composing import compose_cell
from torch import nn

from plainres.networks.activations import Rectifier
from plainres.networks.blocks import BasicBlock, SqueezeExcitationBlock
from plainres.networks.resnet import CifarNetwork
from plainres.run.train import train_cell


def test_a_rectifier_is_two_lines_that_meet():
    x = torch.tensor([-3.0, -1.0, 0.0, 2.0], requires_grad=True)
    y = Rectifier(0.25, 1.0)(x)
    assert y.tolist() == [-0.5, 0.0, 1.0, 3.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.25, 0.25, 1.0, 1.0]


@pytest.mark.parametrize("block", [BasicBlock, SqueezeExcitationBlock])
def test_a_network_has_its_activation_everywhere_or_the_papers(block):
    network = CifarNetwork(14, "zero_pad", 4, slope=0.5, block=block)
    relus = [each for name, each in network.named_modules() if name.split(".")[-1] == "relu"]
    assert [(each.negative_slope, each.offset) for each in relus] == [(0.5, 0.0)] * 7
    usual = CifarNetwork(14, "zero_pad", 4, block=block)
    assert not any(isinstance(each, Rectifier) for each in usual.modules())
    assert sum(type(each) is nn.ReLU for each in usual.modules()) >= 7


def test_slope_and_shift_of_zero_are_a_relu():
    torch.manual_seed(0)
    usual = CifarNetwork(14, "none", 4)
    other = CifarNetwork(14, "none", 4, slope=0.0, shift=0.0)
    other.load_state_dict(usual.state_dict())
    x = torch.randn(8, 3, 8, 8)
    assert torch.equal(usual(x), other(x))


def test_a_cell_has_them_by_a_word_and_others_keep_their_identity(tmp_path):
    words = ("protocol=smoke", "model=plain", "model.depth=8")
    usual = compose_cell(tmp_path, *words)
    leaky = compose_cell(tmp_path, *words, "model.slope=0.5", "folder=leaky")
    assert "slope" not in usual.identity["model"]
    assert leaky.identity["model"]["slope"] == 0.5
    assert train_cell(leaky).train_loss != train_cell(usual).train_loss
