"""How large a residual block's branch is beside its shortcut, along a run: a callback that only looks."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from plainres.networks.blocks import BasicBlock
from plainres.networks.resnet import CifarNetwork
from plainres.records import files
from plainres.training.grafting import STAGES, InsertedBlock
from plainres.training.runlog import RunLog


@dataclass(frozen=True)
class BranchNorm:
    """One row of branches.csv: ‖F(x)‖ / ‖x‖ of one residual block over all evaluated images, evaluation mode.

    `stage` from 1, `block` within it from 0; `inserted` blocks were not there when the network was first trained.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    stage: int
    block: int
    inserted: bool
    ratio: float


class BranchNorms(pl.Callback):
    """Writes ‖F(x)‖ / ‖x‖ of every BasicBlock with a shortcut, before the first iteration and at every evaluation of the run.

    F(x) is what the last batch normalisation gives, x what the shortcut gives. Both norms are taken over all evaluated images (the test
    set), channels and pixels at once, in evaluation mode. It watches the passes that the run makes anyway, and draws no random number:
    the run's own numbers stay what they are. A checkpoint carries its rows. A plain network leaves no table.
    """

    def __init__(self) -> None:
        self.rows: list[BranchNorm] = []
        self._squares: dict[nn.Module, Tensor] = {}  # of what a module gave, summed over all images
        self._handles: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [asdict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [BranchNorm(**row) for row in state_dict["rows"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.iteration > 0:
            return
        loaders: Any = trainer.val_dataloaders
        self._watch(pl_module.network)
        pl_module.eval()
        with torch.no_grad():
            for batch in loaders[0]:
                pl_module(batch.images)
        pl_module.train()
        self._note(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._watch(pl_module.network)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._note(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.rows:
            files.write_table(
                Path(trainer.default_root_dir) / "branches.csv", self.rows, BranchNorm
            )

    def _watch(self, network: nn.Module) -> None:
        self._squares = {}
        parts = [
            part
            for _, _, block in _residual_blocks(network)
            for part in (block.bn2, block.downsample)
            if part is not None
        ]
        self._handles = [part.register_forward_hook(self._add) for part in parts]

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        square = output.detach().float().square().sum().double()
        self._squares[module] = (
            self._squares[module] + square if module in self._squares else square
        )

    def _note(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for handle in self._handles:
            handle.remove()
        runlog = next(callback for callback in trainer.callbacks if isinstance(callback, RunLog))  # type: ignore[attr-defined]
        for stage, number, block in _residual_blocks(pl_module.network):
            assert block.downsample is not None
            ratio = math.sqrt(float(self._squares[block.bn2] / self._squares[block.downsample]))
            cell = (runlog.arm, runlog.depth, runlog.seed)
            self.rows.append(
                BranchNorm(
                    *cell,
                    pl_module.iteration,
                    stage,
                    number,
                    isinstance(block, InsertedBlock),
                    ratio,
                )
            )


def _residual_blocks(network: nn.Module) -> list[tuple[int, int, BasicBlock]]:
    """Stage from 1, number within it from 0, and block."""
    if not isinstance(network, CifarNetwork):
        return []
    found = []
    for stage in STAGES:
        for number, block in enumerate(network.get_submodule(f"layer{stage}").children()):
            if isinstance(block, BasicBlock) and block.downsample is not None:
                found.append((stage, number, block))
    return found
