"""Blocks put into a network: which ones keep every bit, and which requests are refused."""

import copy

import pytest
import torch
from torch import nn

from plainres.data.batches import Batch
from plainres.networks.blocks import SqueezeExcitationBlock
from plainres.networks.resnet import CifarNetwork
from plainres.training import grafting

PLACES = [(stage, position) for stage in grafting.STAGES for position in grafting.POSITIONS]


def images(seed: int = 1, count: int = 32) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def network(shortcut: str, depth: int = 20) -> CifarNetwork:
    """A network with other statistics and scales than at its initialisation."""
    torch.manual_seed(0)
    made = CifarNetwork(depth, shortcut, width=4, in_channels=1)
    with torch.no_grad():
        for step in range(3):
            made(2 * images(step) + 0.5)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return made


def same(one: nn.Module, other: nn.Module, training: bool) -> bool:
    networks = [copy.deepcopy(each).train(training) for each in (one, other)]
    with torch.no_grad():
        return torch.equal(*(each(images(9)) for each in networks))


def inserted(network: nn.Module) -> list[grafting.InsertedBlock]:
    return [module for module in network.modules() if isinstance(module, grafting.InsertedBlock)]


def batch_of(images: torch.Tensor) -> Batch:
    return Batch(images, torch.zeros(len(images), dtype=torch.int64))


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
@pytest.mark.parametrize("shortcut", ["zero_pad", "projection"])
def test_a_zero_branch_keeps_every_bit_of_every_logit(shortcut, blocks, training):
    parent = network(shortcut)
    for stage, position in PLACES:
        child = grafting.insert(parent, blocks, stage, position, "identity")
        assert len(inserted(child)) == blocks
        assert same(parent, child, training)


def test_a_zero_branch_learns():
    child = grafting.insert(network("zero_pad"), 1, 2, "middle", "zero_branch").train()
    optimiser = torch.optim.SGD(child.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(child(images()), torch.arange(32) % 10).backward()
        optimiser.step()
    (block,) = inserted(child)
    assert block.bn2.weight.abs().min() > 0
    assert block.conv1.weight.grad is not None
    assert block.conv1.weight.grad.abs().max() > 0, (
        "from the second iteration on, because the scale in front of it was 0 before"
    )


@pytest.mark.parametrize("blocks", [1, 8])
def test_dirac_blocks_are_the_identity_up_to_rounding_in_evaluation_mode_alone(blocks):
    parent = network("none")
    batches = [images(step) for step in range(3)]
    for stage, position in PLACES:
        child = grafting.insert(parent, blocks, stage, position, "dirac", batches)
        change = grafting.effect(parent, child, *([batch_of(images(9))] for _ in range(3)))
        assert change["logit_difference_eval"] < 1e-4 * change["logit_size"]
        assert change["logit_difference_batch"] > 1e-2 * change["logit_size"]
        assert not same(parent, child, training=True)


def test_dirac_statistics_are_those_of_the_input_over_all_images():
    parent, batches = network("none").eval(), [images(1), images(2, count=8)]
    child = grafting.insert(parent, 2, 2, "end", "dirac", batches)
    with torch.no_grad():
        firsts = [parent.relu(parent.bn1(parent.conv1(batch))) for batch in batches]
        x = torch.cat([parent.layer2(parent.layer1(first)) for first in firsts])
    for block in list(child.layer2)[-2:]:
        for norm in (block.bn1, block.bn2):
            torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
            variance = x.var((0, 2, 3), correction=0)
            torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-7)
    assert child.layer2[0].conv1.weight.equal(parent.layer2[0].conv1.weight)


def test_on_the_images_of_its_own_statistics_a_dirac_block_is_nearly_exact_in_training_mode():
    """Training mode changes what differs between a batch and all images: here hardly anything."""
    parent = network("none").eval()
    child = grafting.insert(parent, 1, 1, "end", "dirac", [images(9)])
    x = torch.relu(torch.randn(32, 4, 8, 8))
    block = inserted(child)[0].train()
    for norm in (block.bn1, block.bn2):
        grafting._undo_statistics(norm, x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))
    with torch.no_grad():
        torch.testing.assert_close(block(x), x, rtol=1e-4, atol=1e-4)
        assert (block(1.3 * x + 0.1) - (1.3 * x + 0.1)).abs().max() > 0.1


@pytest.mark.parametrize("shortcut", ["none", "zero_pad"])
def test_fresh_blocks_change_logits_in_either_arm(shortcut):
    parent = network(shortcut)
    assert not same(parent, grafting.insert(parent, 1, 2, "middle", "he"), training=False)


def test_position_says_where():
    for depth, place in ((20, 1), (56, 4), (14, 1)):
        child = grafting.insert(network("zero_pad", depth), 2, 3, "middle", "identity")
        kinds = [isinstance(block, grafting.InsertedBlock) for block in child.layer3]
        assert kinds.index(True) == place
        assert sum(kinds) == 2
    end = grafting.insert(network("zero_pad"), 1, 3, "end", "identity")
    assert isinstance(end.layer3[-1], grafting.InsertedBlock)


def test_the_parent_stays_as_it_is():
    parent = network("none")
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    child = grafting.insert(parent, 2, 2, "middle", "dirac", [images()])
    batches = [batch_of(images())]
    kept = {name: value.clone() for name, value in child.state_dict().items()}
    grafting.effect(parent, child, batches, batches, batches)
    assert parent.training
    for one, expected in ((parent, before), (child, kept)):
        state = one.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_errors_and_differences_are_those_of_the_given_batches():
    class Says(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.classes = classes

        def forward(self, x):
            return nn.functional.one_hot(torch.full((len(x),), self.classes), 4).float() * 2

    labels = (torch.tensor([1, 1, 2]), torch.tensor([2]))
    batches = [Batch(images(count=len(each)), each) for each in labels]
    change = grafting.effect(Says(1), Says(2), batches, batches[:1], batches)
    assert (change["logit_difference_eval"], change["logit_size"]) == (2.0, 0.5)
    assert (change["parent_error_eval"], change["error_eval"]) == pytest.approx((1 / 3, 2 / 3))
    assert (change["parent_error_batch"], change["error_batch"]) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 2, "middle", "he"), "below 0"),
        ((1, 4, "middle", "he"), "legal: 1, 2, 3"),
        ((1, 2, "start", "he"), "legal: middle, end"),
        ((1, 2, "end", "zero"), "legal: identity, zero_branch, dirac, he"),
        ((1, 2, "end", "dirac"), "legal: identity, zero_branch, he"),
    ],
)
def test_illegal_values_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        grafting.insert(network("zero_pad"), *arguments)


def test_what_the_arm_cannot_have_is_refused():
    with pytest.raises(ValueError, match="legal: identity, dirac, he"):
        grafting.insert(network("none"), 1, 2, "end", "zero_branch")
    with pytest.raises(ValueError, match="from images"):
        grafting.insert(network("none"), 1, 2, "end", "dirac")
    weighed = CifarNetwork(14, "zero_pad", block=SqueezeExcitationBlock)
    for other in (CifarNetwork(14, "projection_everywhere"), weighed):
        with pytest.raises(ValueError, match="between BasicBlocks"):
            grafting.insert(other, 1, 2, "end", "he")


def test_weights_of_another_depth_are_refused(tmp_path):
    torch.save(network("none", 14).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="does not fit"):
        grafting.load_parent(network("none", 20), tmp_path / "weights.pt")
    parent = network("none", 14)
    assert len(grafting.load_parent(parent, tmp_path / "weights.pt")) == 12
