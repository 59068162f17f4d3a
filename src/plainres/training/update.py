"""One training iteration as a call without arguments, which a CUDA graph can hold: no value of it passes through Python."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from plainres.data.batches import Batch

EAGER_ITERATIONS = 3  # before a graph is captured: they make the momentum buffers and let libraries choose their algorithms


class Iterations:
    """Runs iterations: batch, forward, backward, update, error and loss of the batch; on a GPU as replays of one CUDA graph.

    An iteration reads what chance decided and its learning rate from fixed tensors, at a place that it moves on itself. So the host
    only says "again", and waits for nothing.

    Args:
        forward: images (N, C, H, W) → logits (N, classes), or a tuple of them where there are auxiliary heads; the main head's come first.
        make_batch: what chance decides in one iteration → its batch, on the device.
        optimiser: its learning rate is overwritten.
        errors, losses: (window,) on the device; iteration i writes element i % window.
        graph: None captures a CUDA graph where the device has them.
        clip_norm: gradients are shortened to this norm, taken over all parameters together; None: they stay as they are.
        auxiliary_weight: what the loss of each auxiliary head counts for in the gradient. Errors and losses are the main head's.
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
    ):
        self.forward = forward
        self.make_batch = make_batch
        self.optimiser = optimiser
        self.errors = errors
        self.losses = losses
        self.clip_norm = clip_norm
        self.auxiliary_weight = auxiliary_weight
        self.captures = errors.is_cuda if graph is None else graph
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager = 0
        self._draws: dict[str, Tensor] = {}
        self._rates = torch.empty(0)
        self._rate = torch.zeros((), device=errors.device)
        self._place = torch.zeros(
            1, dtype=torch.int64, device=errors.device
        )  # within _draws and _rates
        self._slot = torch.zeros(
            1, dtype=torch.int64, device=errors.device
        )  # within errors and losses
        self._set_rate(self._rate)

    def run(self, step: int, draws: Mapping[str, Tensor], rates: Sequence[float]) -> None:
        """Iterations `step` to `step + len(rates) - 1`.

        Args:
            draws: each tensor (iterations, …) on the device; the first call has the most iterations.
            rates: learning rate of each iteration.
        """
        if not self._draws:
            self._draws = {name: torch.empty_like(draw) for name, draw in draws.items()}
            self._rates = torch.empty(len(rates), device=self.errors.device)
        for name, draw in draws.items():
            self._draws[name][: len(draw)].copy_(draw)
        self._rates[: len(rates)].copy_(torch.tensor(rates))
        self._place.zero_()
        self._slot.fill_(step % len(self.errors))
        for rate in rates:
            if not self.captures:
                self._set_rate(
                    rate
                )  # a number: without a graph, a tensor would be read once for every parameter
            self._run_one()

    def _set_rate(self, rate: float | Tensor) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _run_one(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        elif not self.captures:
            self._iterate()
        elif self._eager < EAGER_ITERATIONS:
            self._eager += 1
            aside = torch.cuda.Stream()  # as torch.cuda.graph wants it
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._iterate()
            torch.cuda.current_stream().wait_stream(aside)
        else:
            self.optimiser.zero_grad(
                set_to_none=True
            )  # the graph's gradients live in its own memory
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._iterate()
            self._graph.replay()  # capturing runs nothing

    def _iterate(self) -> None:
        self._rate.copy_(self._rates[self._place].squeeze(0))
        images, labels = self.make_batch(
            {name: draw[self._place].squeeze(0) for name, draw in self._draws.items()}
        )
        self.optimiser.zero_grad(set_to_none=True)
        logits, *auxiliary = heads(self.forward(images))
        loss = functional.cross_entropy(logits, labels)
        self._with_auxiliary(loss, auxiliary, labels).backward()
        if (
            self.clip_norm is not None
        ):  # the norm stays on the device: nothing waits for it, and a graph can hold it
            parameters = [
                parameter for group in self.optimiser.param_groups for parameter in group["params"]
            ]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimiser.step()
        self.errors.index_copy_(0, self._slot, batch_error(logits, labels).view(1))
        self.losses.index_copy_(0, self._slot, loss.detach().to(self.losses.dtype).view(1))
        self._place += 1
        self._slot.add_(1).remainder_(len(self.errors))

    def _with_auxiliary(self, loss: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> Tensor:
        if not auxiliary:
            return loss
        if self.auxiliary_weight is None:
            raise ValueError(
                f"the network has {len(auxiliary)} auxiliary heads; model.auxiliary_weight=… says what their losses count for"
            )
        return loss + self.auxiliary_weight * sum(
            functional.cross_entropy(logits, labels) for logits in auxiliary
        )


def heads(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The logits of each head of a network, the main one first; a network without auxiliary heads has one."""
    return output if isinstance(output, tuple) else (output,)


def batch_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction of a batch whose largest logit is not the label's; scalar on the device."""
    return (logits.detach().argmax(1) != labels).float().mean()
