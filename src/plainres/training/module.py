"""The LightningModule: loss, errors, optimiser. It knows no architecture and no data set."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, MetricCollection

from plainres.data.batches import Batch, StepDraws
from plainres.training.schedule import Plateau
from plainres.training.update import UpdateRunner, logits_of_heads


class Classifier(pl.LightningModule):
    """Trains `network` with cross-entropy and SGD; keeps the error of the last `window` iterations.

    Errors are fractions in [0, 1]; losses are nats per image. A training step is one or more
    updates (plainres.training.update), so Lightning's own count of optimiser steps stays at 0:
    `iteration` is the number of updates done.

    Args:
        network: (N, C, H, W) float → logits (N, classes); with auxiliary heads, in training mode,
            a tuple of logits, the main head's first.
        make_batch: random draws of one iteration → its batch.
        learning_rate: iteration, from 0 → learning rate of that update.
        momentum: 0.9 in the paper.
        weight_decay: on every parameter; 1e-4 in the paper, which does not say on which ones.
        window: iterations over which the running training error and loss are taken.
        evaluated: names of the evaluated sets, in the order of the validation loaders.
        nesterov: Nesterov momentum; the paper has none.
        clip_norm: largest norm of the gradient of all parameters together; None: no clipping, as in
            the paper.
        dtype: what is multiplied in. bfloat16: by autocast; weights, sums and losses stay float32.
            float64: all is computed in it, and the network has to be in it.
        graph: capture an update in a CUDA graph; None: where there is a GPU.
        auxiliary_weight: factor of each auxiliary head's loss.
        accumulate: in how many parts a batch goes through the network (plainres.training.update).
        devices: over which Lightning's DDP divides each batch. Errors and losses are means over all
            devices, and so are gradients; running statistics are those of the first device.
        plateau: what judges the running training error, where the schedule has one.
    """

    window_errors: Tensor
    window_losses: Tensor

    def __init__(
        self,
        network: nn.Module,
        make_batch: Callable[[Mapping[str, Tensor]], Batch],
        learning_rate: Callable[[int], float],
        momentum: float,
        weight_decay: float,
        window: int,
        evaluated: tuple[str, ...] = ("test",),
        nesterov: bool = False,
        clip_norm: float | None = None,
        dtype: torch.dtype = torch.float32,
        graph: bool | None = None,
        auxiliary_weight: float | None = None,
        accumulate: int = 1,
        devices: int = 1,
        plateau: Plateau | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.make_batch = make_batch
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.window = window
        self.evaluated = evaluated
        self.nesterov = nesterov
        self.clip_norm = clip_norm
        self.multiplied_in = dtype
        self.graph = graph
        self.auxiliary_weight = auxiliary_weight
        self.accumulate = accumulate
        self.devices = devices
        self.plateau = plateau
        self.iteration = 0
        self._runner: UpdateRunner | None = None
        # Buffers, so that a resumed run continues with the same running error
        self.register_buffer("window_errors", torch.zeros(window))
        self.register_buffer("window_losses", torch.zeros(window))
        self.metrics = MetricCollection(
            {
                f"{name}_{kind}": MeanMetric(nan_strategy="disable")
                for name in evaluated
                for kind in ("error", "loss")
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, C, H, W)."""
        return self.logits_of_heads(images)[0]

    def logits_of_heads(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, classes) of each head, the main one first; others in training mode only."""
        return logits_of_heads(self.network, images, self.multiplied_in)

    def training_step(self, step: StepDraws, batch_idx: int) -> None:
        assert step.iteration == self.iteration, (
            "the stream and the optimiser count different iterations"
        )
        if self._runner is None:
            optimiser: Any = self.optimizers(use_pl_optimizer=False)
            several: dict[str, Any] = {}
            if self.devices > 1:
                several = {"backward": self._backward, "synchronise": self.trainer.strategy.reduce}
            self._runner = UpdateRunner(
                self.logits_of_heads,
                self.make_batch,
                optimiser,
                self.window_errors,
                self.window_losses,
                self.graph if self.devices == 1 else False,
                self.clip_norm,
                self.auxiliary_weight,
                self.accumulate,
                **several,
            )
        end = step.iteration + step.num_updates
        rates = [self.learning_rate(iteration) for iteration in range(step.iteration, end)]
        self._runner.run(step.iteration, step.draws, rates)
        self.iteration = end
        if self.plateau is not None and end % self.plateau.every == 0:
            self.plateau.observe(end, self.running_error_and_loss()[0])

    def _backward(self, loss: Tensor, last: bool) -> None:
        """Gradients are averaged over the devices with those of the last part of a batch."""
        strategy: Any = self.trainer.strategy
        with nullcontext() if last else strategy.block_backward_sync():
            self.manual_backward(loss)

    def running_error_and_loss(self) -> tuple[float, float]:
        """Mean training error and loss of the last `window` iterations, or of all if fewer."""
        filled = min(self.iteration, self.window)
        means = torch.stack(
            [self.window_errors[:filled].mean(), self.window_losses[:filled].mean()]
        )
        error, loss = means.tolist()
        return error, loss

    def on_validation_start(self) -> None:
        if self.devices > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        name = self.evaluated[dataloader_idx]
        # Compiled code is for the shapes and the mode of training only
        with torch.compiler.set_stance("force_eager"):
            logits = self._evaluated(batch.images)
        # One value per image: the last batch may be smaller, and a MeanMetric that accepts NaN
        # takes no weights
        self.metrics[f"{name}_error"].update((logits.argmax(1) != batch.labels).float())
        self.metrics[f"{name}_loss"].update(
            functional.cross_entropy(logits, batch.labels, reduction="none")
        )

    def _evaluated(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W).

        Of several crops of each image (N, crops, C, H, W): the logarithm of the mean probabilities.
        """
        if images.ndim == 4:
            return self(images)
        probabilities = self(images.flatten(0, 1)).softmax(1)
        return probabilities.unflatten(0, images.shape[:2]).mean(1).log()

    def on_validation_epoch_end(self) -> None:
        for name, metric in self.metrics.items(keep_base=True):
            if metric.update_called:
                # the same on all devices; so Lightning need not warn
                self.log(name, metric.compute(), logger=False, sync_dist=True)
                metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["iteration"] = self.iteration
        if self.plateau is not None:
            checkpoint["plateau"] = asdict(self.plateau)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.iteration = checkpoint["iteration"]
        if self.plateau is not None:
            vars(self.plateau).update(checkpoint["plateau"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # One kernel for all parameters, which takes its learning rate from a tensor
        fused = self.window_errors.is_cuda
        return torch.optim.SGD(
            self.parameters(),
            lr=1.0,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=fused,
            foreach=not fused,  # on a CPU the same arithmetic with half the calls
        )
