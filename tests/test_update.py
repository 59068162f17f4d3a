"""Updates, alone and in a CUDA graph, equal the loop that one would write by hand."""

import pytest
import torch
from torch import nn

from plainres.data.batches import Augmentation, Normaliser, TrainingBatches
from plainres.networks.blocks import compile_blocks
from plainres.networks.resnet import CifarNetwork
from plainres.training.update import EAGER_UPDATES, UpdateRunner, batch_error, updates_per_step

RATES = [0.05, 0.1, 0.1, 0.02, 0.1, 0.05, 0.01, 0.1, 0.1]
EVERYTHING = Augmentation(
    padding=1, mirror=True, rotation=10.0, scale=(0.9, 1.1), shift=0.5, noise=0.1
)


def network_and_stream(device: str = "cpu", length: int = 1, shortcut: str = "zero_pad"):
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8).to(device)
    labels = torch.randint(0, 4, (30,)).to(device)
    normaliser = Normaliser(pixels, "channel")
    options = {"batch_size": 8, "seed": 1, "stop": len(RATES), "updates_per_step": length}
    stream = TrainingBatches(pixels, labels, normaliser, EVERYTHING, **options)
    network = CifarNetwork(8, shortcut, width=4, num_classes=4, in_channels=1)
    return network.to(device, memory_format=torch.channels_last), stream


def by_hand(
    network: nn.Module,
    stream: TrainingBatches,
    clip_norm: float | None = None,
    weights: tuple[float, ...] = (1.0,),
) -> tuple[list[float], list[float]]:
    """Errors and losses of the first output; the gradient is of all outputs, weighted."""
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    errors, losses = [], []
    for iteration, rate in enumerate(RATES):
        optimiser.param_groups[0]["lr"] = rate
        images, labels = stream.batch(iteration)
        optimiser.zero_grad()
        outputs = network(images) if len(weights) > 1 else (network(images),)
        each = [nn.functional.cross_entropy(logits, labels) for logits in outputs]
        sum(weight * loss for weight, loss in zip(weights, each, strict=True)).backward()
        if clip_norm is not None:
            gradients = [parameter.grad.flatten() for parameter in network.parameters()]
            norm = torch.cat(gradients).norm()
            for parameter in network.parameters():
                parameter.grad *= min(1.0, clip_norm / float(norm))
        optimiser.step()
        errors.append(float((outputs[0].argmax(1) != labels).float().mean()))
        losses.append(float(each[0].detach()))
    return errors, losses


def in_steps(
    network: nn.Module,
    stream: TrainingBatches,
    graph: bool | None = None,
    window: int = len(RATES),
    clip_norm=None,
    auxiliary_weight=None,
):
    device = next(network.parameters()).device
    options = {"momentum": 0.9, "weight_decay": 1e-3, "fused": device.type == "cuda" or None}
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0, **options)
    errors, losses = torch.zeros(window, device=device), torch.zeros(window, device=device)
    runner = UpdateRunner(
        network, stream.make_batch, optimiser, errors, losses, graph, clip_norm, auxiliary_weight
    )
    for step in stream:
        draws = {name: each.to(device) for name, each in step.draws.items()}
        rates = RATES[step.iteration : step.iteration + step.num_updates]
        runner.run(step.iteration, draws, rates)
    return errors.tolist(), losses.tolist()


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_updates_equal_a_loop_by_hand(length):
    (network, stream), (other, steps) = network_and_stream(), network_and_stream(length=length)
    assert by_hand(network, stream) == in_steps(other, steps)
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(("clip_norm", "clips"), [(0.5, True), (1e6, False)])
def test_gradients_are_clipped_to_a_norm_over_all_parameters(clip_norm, clips):
    (network, stream), (other, steps) = network_and_stream(), network_and_stream(length=4)
    free, unclipped = network_and_stream()
    losses = by_hand(network, stream, clip_norm)[1]
    assert in_steps(other, steps, clip_norm=clip_norm)[1] == pytest.approx(losses, rel=1e-4)
    assert (by_hand(free, unclipped)[1] != losses) == clips


class WithHeads(nn.Module):
    """A network with two auxiliary heads, each on the logits."""

    def __init__(self):
        super().__init__()
        self.main = network_and_stream()[0]
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, images):
        logits = self.main(images)
        return logits, self.first(logits), self.second(logits)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_auxiliary_losses_count_by_their_weight_in_the_gradient_alone(weight):
    network, other = WithHeads(), WithHeads()
    (_, stream), (_, steps) = network_and_stream(), network_and_stream(length=4)
    losses = by_hand(network, stream, weights=(1.0, weight, weight))[1]
    assert in_steps(other, steps, auxiliary_weight=weight)[1] == pytest.approx(losses, rel=1e-4)
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_auxiliary_heads_without_a_weight_are_refused():
    message = r"^the network has 2 auxiliary heads; set .* losses: model\.auxiliary_weight=…$"
    with pytest.raises(ValueError, match=message):
        in_steps(WithHeads(), network_and_stream()[1])


def test_the_window_holds_the_last_iterations():
    (network, stream), (other, steps) = network_and_stream(), network_and_stream(length=4)
    _, losses = by_hand(network, stream)
    _, window = in_steps(other, steps, window=4)
    assert window == [losses[8], losses[5], losses[6], losses[7]]


@pytest.mark.parametrize(
    ("limit", "log_every", "evaluate_every", "length"),
    [
        (100, 100, 1000, 100),  # the paper's protocol on a GPU
        (100, 50, 500, 50),
        (100, 100, 100, 50),  # a checkpoint needs a place between two evaluations
        (1, 50, 500, 1),
        (7, 30, 60, 6),
        (100, 1, 1, 1),
    ],
)
def test_a_step_ends_wherever_something_is_logged_or_evaluated(
    limit, log_every, evaluate_every, length
):
    assert updates_per_step(limit, log_every, evaluate_every) == length


def test_batch_error_is_the_fraction_of_wrong_labels():
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    assert batch_error(logits, torch.tensor([1, 1, 1, 0])) == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("length", "clip_norm"), [(1, None), (2, None), (9, None), (9, 0.5)])
def test_a_cuda_graph_changes_no_number(length, clip_norm, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    assert len(RATES) > EAGER_UPDATES + 1, "some updates are replays"
    (network, stream), (other, steps) = (network_and_stream("cuda", length) for _ in range(2))
    eager, replayed = (
        in_steps(net, batches, graph=graph, clip_norm=clip_norm)
        for net, batches, graph in ((network, stream, False), (other, steps, True))
    )
    assert replayed[0] == eager[0]
    assert replayed[1] == pytest.approx(eager[1], rel=1e-4)
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


# torch.compile reads .grad of every input
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("shortcut", ["none", "zero_pad", "projection"])
def test_compiled_blocks_train_to_the_same_losses(shortcut):
    """Without code generation, which needs a compiler; evaluation takes the network as it is."""
    network, stream = network_and_stream(shortcut=shortcut)
    other, steps = network_and_stream(length=4, shortcut=shortcut)
    compile_blocks(other, backend="aot_eager")
    _, losses = in_steps(network, stream)
    assert in_steps(other, steps)[1] == pytest.approx(losses, rel=1e-4)
    assert network.state_dict().keys() == other.state_dict().keys()
    images = stream.batch(0).images
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        torch.testing.assert_close(
            network.eval()(images), other.eval()(images), rtol=1e-2, atol=1e-3
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("default")
def test_compiled_blocks_on_a_gpu_train_to_the_same_losses():
    (network, stream), (other, steps) = network_and_stream("cuda"), network_and_stream("cuda", 4)
    compile_blocks(other)
    _, losses = in_steps(network, stream)
    assert in_steps(other, steps)[1] == pytest.approx(losses, rel=3e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_to_the_losses_of_a_cpu():
    (network, stream), (other, steps) = network_and_stream(), network_and_stream("cuda", 4)
    _, losses = in_steps(network, stream)
    assert in_steps(other, steps)[1] == pytest.approx(losses, rel=1e-2)
