"""The LightningModule: loss, errors, optimiser. It knows no architecture and no data set."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, MetricCollection

from plainres.batches import Batch


class Classifier(pl.LightningModule):
    """Trains `network` with cross-entropy and SGD, and keeps the running error of the last `window` iterations.

    Errors are fractions in [0, 1]; losses are nats per image.

    Args:
        network: (N, C, H, W) float → logits (N, classes).
        learning_rate: iteration, from 0 → learning rate of that update.
        momentum: 0.9 in the paper.
        weight_decay: on every parameter, as in the paper; 1e-4 there.
        window: iterations over which the running training error and loss are taken.
        evaluated: names of the sets that validation loaders hold, in their order.
    """

    window_errors: Tensor
    window_losses: Tensor

    def __init__(
        self,
        network: nn.Module,
        learning_rate: Callable[[int], float],
        momentum: float,
        weight_decay: float,
        window: int,
        evaluated: tuple[str, ...] = ("test",),
    ):
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.window = window
        self.evaluated = evaluated
        # Buffers, so that a resumed run goes on with the same running error.
        self.register_buffer("window_errors", torch.zeros(window))
        self.register_buffer("window_losses", torch.zeros(window))
        self.metrics = MetricCollection(
            {f"{name}_{kind}": MeanMetric(nan_strategy="disable") for name in evaluated for kind in ("error", "loss")}
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, C, H, W)."""
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert batch.step == self.global_step, "the stream and the optimiser count different iterations"
        logits = self.network(batch.images)
        loss = functional.cross_entropy(logits, batch.labels)
        slot = batch.step % self.window
        self.window_errors[slot] = _error(logits, batch.labels)
        self.window_losses[slot] = loss.detach()
        return loss

    def running_error_and_loss(self) -> tuple[float, float]:
        """Mean training error and loss of the last `window` iterations, or of all so far where there are fewer."""
        filled = min(self.global_step, self.window)
        means = torch.stack([self.window_errors[:filled].mean(), self.window_losses[:filled].mean()])
        error, loss = means.tolist()
        return error, loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        name = self.evaluated[dataloader_idx]
        logits = self.network(batch.images)
        self.metrics[f"{name}_error"].update(_error(logits, batch.labels), weight=len(batch.labels))
        self.metrics[f"{name}_loss"].update(functional.cross_entropy(logits, batch.labels), weight=len(batch.labels))

    def on_validation_epoch_end(self) -> None:
        for name, metric in self.metrics.items(keep_base=True):
            if metric.update_called:
                self.log(name, metric.compute(), logger=False)
                metric.reset()

    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), lr=1.0, momentum=self.momentum, weight_decay=self.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self.learning_rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _error(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(1) != labels).float().mean()
