"""What 3×3 convolutions see beyond the border of an image."""

import pytest
import torch
from composing import compose_cell

from plainres.networks.resnet import CifarNetwork
from plainres.training import fused, grafting


def outputs(padding: str | None, images: torch.Tensor, shortcut: str = "none") -> torch.Tensor:
    """What the first stage puts out."""
    torch.manual_seed(0)
    network = CifarNetwork(14, shortcut, 4, padding=padding).double()
    return network.layer1(network.relu(network.bn1(network.conv1(images)))).detach()


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_circular_padding_has_no_border_and_zeros_are_the_default(shortcut):
    images = torch.randn(8, 3, 8, 8).double()
    moved = images.roll((3, 2), (2, 3))
    back = outputs("circular", moved, shortcut).roll((-3, -2), (2, 3))
    torch.testing.assert_close(back, outputs("circular", images, shortcut))
    usual = outputs(None, images, shortcut)
    assert torch.equal(usual, outputs("zeros", images, shortcut))
    assert not torch.allclose(outputs(None, moved, shortcut).roll((-3, -2), (2, 3)), usual)


def test_images_may_be_smaller_than_the_kernel():
    network = CifarNetwork(8, "none", 4, padding="circular")
    assert network(torch.randn(8, 3, 4, 4)).shape == (8, 10)


def test_another_padding_is_refused():
    with pytest.raises(ValueError, match="padding 'reflect' is unknown; legal: zeros, circular"):
        CifarNetwork(8, "none", 4, padding="reflect")


def test_fused_blocks_and_inserted_blocks_have_zeros_only():
    network = CifarNetwork(8, "zero_pad", 16, padding="circular")
    with pytest.raises(ValueError, match="padding zeros"):
        grafting.insert(network, 1, 1, "end", "he")
    assert fused.fuse_blocks(network) == 0
    assert fused.fuse_blocks(CifarNetwork(8, "zero_pad", 16)) == 3


def test_a_cell_has_it_by_a_word_and_others_keep_their_identity(tmp_path):
    words = ("protocol=smoke", "model=plain", "model.depth=8")
    assert "padding" not in compose_cell(tmp_path, *words).identity["model"]
    circular = compose_cell(tmp_path, *words, "model.padding=circular")
    assert circular.identity["model"]["padding"] == "circular"
