"""The learning rate, value by value, and the optimiser that uses it."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from composing import compose_cell
from torch import nn

from plainres.data.batches import Batch, StepDraws
from plainres.training.module import Classifier
from plainres.training.schedule import Plateau, Schedule


def shipped(protocol: str) -> Schedule:
    return compose_cell(Path("nowhere"), f"protocol={protocol}").schedule


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 104, 110, 1202])
def test_the_papers_protocol_at_every_iteration(depth):
    schedule = shipped("paper")
    start = [0.01] * 400 + [0.1] * 31_600 if depth >= 110 else [0.1] * 32_000
    rates = [schedule.at(iteration, depth) for iteration in range(64_000)]
    assert schedule.iterations == 64_000
    assert rates[:32_000] == start, "after the warm-up the full rate returns exactly"
    decayed = torch.tensor([0.01] * 16_000 + [0.001] * 16_000, dtype=torch.double)
    torch.testing.assert_close(
        torch.tensor(rates[32_000:], dtype=torch.double), decayed, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("protocol", ["cpu", "quick"])
def test_cosine_climbs_to_its_peak_and_falls_to_nothing(protocol):
    schedule = shipped(protocol)
    values = [schedule.at(iteration, 20) for iteration in range(schedule.iterations)]
    warm = schedule.warmup_iterations
    assert warm > 0
    assert values[0] == pytest.approx(0.1 / warm)
    steps = [later - earlier for earlier, later in pairwise(values[:warm])]
    assert steps == pytest.approx([0.1 / warm] * (warm - 1))
    assert max(values) == values[warm - 1] == values[warm] == 0.1
    assert all(earlier >= later for earlier, later in pairwise(values[warm:]))
    assert values[warm + (schedule.iterations - warm) // 2] == pytest.approx(0.05)
    assert 0 < values[-1] < 1e-5 * 0.1


def test_cosine_without_warm_up_starts_at_its_peak():
    schedule = Schedule(0.2, 10, kind="cosine")
    assert schedule.at(0, 20) == 0.2
    assert schedule.at(5, 20) == pytest.approx(0.1)


def test_shallow_networks_skip_the_warm_up_and_fall_from_the_start():
    schedule = Schedule(1.0, 8, kind="cosine", warmup_iterations=4, warmup_min_depth=50)
    assert [schedule.at(iteration, 50) for iteration in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule.at(0, 44) == 1.0
    assert schedule.at(4, 44) == pytest.approx(0.5)


def test_milestones_and_factor_of_ones_own():
    schedule = Schedule(1.0, 10, milestones=[2, 5], factor=0.5)
    expected = [1.0] * 2 + [0.5] * 3 + [0.25] * 5
    assert [schedule.at(iteration, 20) for iteration in range(10)] == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "poly"}, "schedule kind 'poly' is unknown; legal: step, cosine"),
        ({"warmup": "none"}, "schedule warmup 'none' is unknown; legal: linear, constant"),
        ({"warmup": "constant", "warmup_iterations": 2}, "needs warmup_learning_rate"),
        ({"iterations": 0}, "iterations 0 is below 1"),
        ({"kind": "cosine", "milestones": [5]}, r"milestones \[5\] are for kind 'step'"),
        ({"kind": "cosine", "factor": 0.5}, "factor 0.5 is for kinds 'step' and 'plateau'"),
        ({"warmup_learning_rate": 0.01}, "warmup_learning_rate 0.01 is for warmup 'constant'"),
        ({"warmup_iterations": 10}, "warmup_iterations 10 lies outside 0 to iterations - 1 = 9"),
        ({"warmup_iterations": -1}, "warmup_iterations -1 lies outside 0"),
    ],
)
def test_illegal_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**({"learning_rate": 0.1, "iterations": 10} | values))


def test_the_optimiser_follows_the_schedule_and_keeps_its_momentum_over_every_change():
    """Against SGD with momentum by hand; the rate changes within steps and between them."""
    schedule = Schedule(
        0.1,
        12,
        milestones=(6, 9),
        warmup="constant",
        warmup_iterations=3,
        warmup_learning_rate=0.01,
        warmup_min_depth=110,
    )
    expected = [0.01] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001] * 3
    torch.manual_seed(0)
    network = nn.Linear(4, 3, bias=False).double()
    images, labels = torch.randn(12, 5, 4, dtype=torch.double), torch.randint(0, 3, (12, 5))
    used = []

    def learning_rate(iteration: int) -> float:
        used.append(schedule.at(iteration, 110))
        return used[-1]

    def make_batch(draws) -> Batch:
        return Batch(images[draws["indices"]], labels[draws["indices"]])

    module = Classifier(
        network, make_batch, learning_rate, momentum=0.9, weight_decay=0.05, window=5
    )
    optimiser = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer: optimiser

    by_hand, velocity = network.weight.detach().clone(), torch.zeros(3, 4, dtype=torch.double)
    for first, last in ((0, 4), (4, 8), (8, 11), (11, 12)):
        module.training_step(StepDraws(first, {"indices": torch.arange(first, last)}), 0)
        for step in range(first, last):
            guessed = (images[step] @ by_hand.T).softmax(1)
            loss = -guessed[torch.arange(5), labels[step]].log().mean()
            wrong = guessed - nn.functional.one_hot(labels[step], 3)
            gradient = wrong.T @ images[step] / 5 + 0.05 * by_hand
            velocity = 0.9 * velocity + gradient
            by_hand = by_hand - expected[step] * velocity
            if step >= last - 5:  # the window holds the last five
                assert module.window_losses[step % 5] == pytest.approx(float(loss), rel=1e-6)
        torch.testing.assert_close(network.weight.detach(), by_hand, rtol=1e-5, atol=0)
        torch.testing.assert_close(
            optimiser.state[network.weight]["momentum_buffer"], velocity, rtol=1e-5, atol=0
        )
    assert used == pytest.approx(expected, rel=1e-12)
    assert module.iteration == 12


def test_the_rate_falls_at_a_plateau_of_the_training_error():
    options = {"kind": "plateau", "patience": 1, "threshold": 0.01}
    schedule, plateau = Schedule(0.1, 100, **options), Plateau(10, 1, 0.01)
    errors = [0.9, 0.8, 0.795, 0.79, 0.7, 0.5, 0.495, 0.6, 0.4]
    for number, error in enumerate(errors, 1):
        plateau.observe(10 * number, error)
    assert plateau.drops == [40, 80], "two windows in a row that are not 0.01 lower"
    rates = [schedule.at(iteration, 18, plateau.drops) for iteration in (0, 39, 40, 79, 80, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    with pytest.raises(ValueError, match="are for kind 'plateau', which needs both"):
        Schedule(0.1, 100, patience=2)
