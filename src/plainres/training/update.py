"""One update of the weights, and a runner that repeats it; on a GPU as replays of a CUDA graph."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from plainres.data.batches import Batch
from plainres.training.machine import pick_graph

# Before a graph is captured: they make the momentum buffers, and libraries choose their algorithms
EAGER_UPDATES = 3


def update(
    forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    make_batch: Callable[[Mapping[str, Tensor]], Batch],
    optimiser: torch.optim.Optimizer,
    random_draws: Mapping[str, Tensor],
    clip_norm: float | None = None,
    auxiliary_weight: float | None = None,
    parts: int = 1,
    backward: Callable[[Tensor, bool], None] = lambda loss, last: loss.backward(),
) -> tuple[Tensor, Tensor]:
    """Batch, forward, loss, backward, step; returns the batch's error and loss, scalars.

    Python reads no value from the device, so a CUDA graph can hold all of it.

    Args:
        parts: the batch goes through the network in so many parts of one size, whose gradients are
            added up.
        backward: adds the gradient of a loss; the second argument says whether it is that of the
            last part.
    """
    optimiser.zero_grad(set_to_none=True)
    errors, losses = [], []
    for number in range(parts):
        draws = random_draws
        if parts > 1:
            draws = {name: each.chunk(parts)[number] for name, each in random_draws.items()}
        images, labels = make_batch(draws)
        logits, *auxiliary_logits = heads(forward(images))
        loss = functional.cross_entropy(logits, labels)
        total_loss = _with_auxiliary(loss, auxiliary_logits, labels, auxiliary_weight)
        backward(total_loss if parts == 1 else total_loss / parts, number == parts - 1)
        errors.append(batch_error(logits, labels))
        losses.append(loss.detach())
    if clip_norm is not None:
        parameters = [one for group in optimiser.param_groups for one in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimiser.step()
    return _mean(errors), _mean(losses)


class UpdateRunner:
    """Runs updates and notes the error and the loss of each.

    An update reads its random draws, and where it is captured its learning rate, from fixed
    tensors, at a position that it moves on itself. So it can be replayed, and Python waits for
    nothing.

    Args:
        forward: images (N, C, H, W) to logits (N, classes); with auxiliary heads a tuple of logits,
            the main head's first.
        make_batch: random draws of one iteration → its batch, on the device.
        optimiser: its learning rate is overwritten.
        errors, losses: (window,) on the device; iteration i writes element i % window. Both are the
            main head's.
        graph: whether to capture a CUDA graph; None: as training.machine.pick_graph.
        clip_norm: largest norm of the gradient of all parameters together; None: no clipping.
        auxiliary_weight: factor of each auxiliary head's loss.
        parts, backward: as in `update`.
        synchronise: a value of this device → the mean over all devices.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
        make_batch: Callable[[Mapping[str, Tensor]], Batch],
        optimiser: torch.optim.Optimizer,
        errors: Tensor,
        losses: Tensor,
        graph: bool | None = None,
        clip_norm: float | None = None,
        auxiliary_weight: float | None = None,
        parts: int = 1,
        backward: Callable[[Tensor, bool], None] = lambda loss, last: loss.backward(),
        synchronise: Callable[[Tensor], Tensor] = lambda value: value,
    ):
        self.optimiser = optimiser
        self.errors = errors
        self.losses = losses
        self.captures = pick_graph(graph, errors.device)
        self._update = partial(
            update,
            forward,
            make_batch,
            optimiser,
            clip_norm=clip_norm,
            auxiliary_weight=auxiliary_weight,
            parts=parts,
            backward=backward,
        )
        self._synchronise = synchronise
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_updates = 0
        self._draws: dict[str, Tensor] = {}
        self._rates = torch.empty(0)
        self._rate = torch.zeros((), device=errors.device)
        # Positions within _draws and _rates, and within errors and losses
        self._position = torch.zeros(1, dtype=torch.int64, device=errors.device)
        self._slot = torch.zeros(1, dtype=torch.int64, device=errors.device)
        self._set_rate(self._rate)

    def run(self, iteration: int, draws: Mapping[str, Tensor], rates: Sequence[float]) -> None:
        """Iterations `iteration` to `iteration + len(rates) - 1`.

        Args:
            draws: tensors (iterations, ...) on the device; no later call has more iterations than
                the first one.
            rates: learning rate of each iteration.
        """
        if not self._draws:
            self._draws = {name: torch.empty_like(tensor) for name, tensor in draws.items()}
            self._rates = torch.empty(len(rates), device=self.errors.device)
        for name, tensor in draws.items():
            self._draws[name][: len(tensor)].copy_(tensor)
        if self.captures:
            self._rates[: len(rates)].copy_(torch.tensor(rates))
        self._position.zero_()
        self._slot.fill_(iteration % len(self.errors))
        for rate in rates:
            if not self.captures:  # a number: a tensor would be read once for every parameter
                self._set_rate(rate)
            self._run_next()

    def _set_rate(self, rate: float | Tensor) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _run_next(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        elif not self.captures:
            self._update_next()
        elif self._eager_updates < EAGER_UPDATES:
            self._eager_updates += 1
            stream = torch.cuda.Stream()  # torch.cuda.graph asks for warm-up on a side stream
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._update_next()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            # The graph's gradients live in its own memory
            self.optimiser.zero_grad(set_to_none=True)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._update_next()
            self._graph.replay()  # capturing runs nothing

    def _update_next(self) -> None:
        if self.captures:
            self._rate.copy_(self._rates[self._position].squeeze(0))
        draws = {name: each[self._position].squeeze(0) for name, each in self._draws.items()}
        error, loss = self._synchronise(torch.stack(self._update(draws)))
        self.errors.index_copy_(0, self._slot, error.to(self.errors.dtype).view(1))
        self.losses.index_copy_(0, self._slot, loss.to(self.losses.dtype).view(1))
        self._position += 1
        self._slot.add_(1).remainder_(len(self.errors))


def updates_per_step(limit: int, log_every: int, evaluate_every: int) -> int:
    """The most updates, up to `limit`, of one training step without logging or evaluation in it.

    A step is shorter than evaluate_every, because checkpoints are taken between evaluations.

    Raises:
        ValueError: limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"updates_per_step {limit} is below 1")
    common = math.gcd(log_every, evaluate_every)
    return next(
        length
        for length in range(limit, 0, -1)
        if common % length == 0 and (length < evaluate_every or length == 1)
    )


def logits_of_heads(
    network: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    images: Tensor,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, ...]:
    """Logits (N, classes) of each head, the main one first, in float32 or float64.

    Args:
        images: normalised float32 (N, C, H, W).
        dtype: what is multiplied in: float32; float64, in which the parameters have to be;
            bfloat16 or float16, by autocast, with parameters and logits in float32.
    """
    if dtype == torch.float64:
        return heads(network(images.to(dtype)))
    low = dtype != torch.float32
    # Without autocast's cache: weights change within a step, and each is used once per update
    with torch.autocast(
        images.device.type, dtype if low else torch.bfloat16, enabled=low, cache_enabled=False
    ):
        # The loss is taken in float32
        return tuple(logits.float() for logits in heads(network(images)))


def heads(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The logits of each head, the main one first; a network without auxiliary heads has one."""
    return output if isinstance(output, tuple) else (output,)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean()


def batch_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction of a batch whose largest logit is not the label's; scalar on the device."""
    return (logits.detach().argmax(1) != labels).float().mean()


def _with_auxiliary(
    loss: Tensor, auxiliary_logits: Sequence[Tensor], labels: Tensor, weight: float | None
) -> Tensor:
    """The main head's loss plus `weight` times the loss of each auxiliary head."""
    if not auxiliary_logits:
        return loss
    if weight is None:
        raise ValueError(
            f"the network has {len(auxiliary_logits)} auxiliary heads; "
            "set the factor of their losses: model.auxiliary_weight=…"
        )
    return loss + weight * sum(
        functional.cross_entropy(logits, labels) for logits in auxiliary_logits
    )
