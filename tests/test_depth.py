"""Which depths exist, and what a person reads who asks for another."""

import pytest

from plainres.networks.depth import check_configured_depth, num_blocks

LEGAL = range(8, 1203, 6)


def test_every_legal_depth_has_its_own_number_of_blocks():
    assert [num_blocks(depth) for depth in LEGAL] == list(range(1, 201))
    assert [6 * num_blocks(depth) + 2 for depth in LEGAL] == list(LEGAL)


def test_every_other_depth_in_the_range_names_its_two_neighbours():
    legal = set(LEGAL)
    for depth in set(range(8, 1203)) - legal:
        below, above = max(d for d in legal if d < depth), min(d for d in legal if d > depth)
        message = rf"^depth {depth} is not 6n\+2; nearest: {below} and {above}$"
        with pytest.raises(ValueError, match=message):
            num_blocks(depth)


@pytest.mark.parametrize(
    ("depth", "nearest"),
    [(7, 8), (2, 8), (0, 8), (-4, 8), (1203, 1202), (1208, 1202), (10**9, 1202)],
)
def test_a_depth_outside_the_range_names_the_nearest_end(depth, nearest):
    message = f"^depth {depth} lies outside 8 to 1202; nearest: {nearest}$"
    with pytest.raises(ValueError, match=message):
        num_blocks(depth)


@pytest.mark.parametrize("depth", [20.0, 20.5, "20", None, True, [20]])
def test_only_whole_numbers_are_depths(depth):
    with pytest.raises(ValueError, match=r"is not a whole number; legal: 6n\+2 from 8 to 1202"):
        num_blocks(depth)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("plainres.networks.resnet.CifarNetwork", r"^depth 15 is not 6n\+2; nearest: 14 and 20$"),
        ("plainres.networks.classics.vgg", "^vgg has no depth 15; choose 11, 13, 16 or 19$"),
        ("plainres.networks.classics.LeNet5", "^LeNet5 has no depth 15; choose 5$"),
    ],
)
def test_a_configuration_is_checked_without_building_the_network(target, message):
    with pytest.raises(ValueError, match=message):
        check_configured_depth(target, 15)


@pytest.mark.parametrize("target", ["mine.Network", "mine.vgg", "plainres.networks.mine.Network"])
def test_a_network_of_ones_own_has_any_depth(target):
    check_configured_depth(target, 15)
