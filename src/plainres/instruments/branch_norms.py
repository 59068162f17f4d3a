"""Norms of residual branches along a run, relative to their shortcuts: a callback."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from plainres.data.device import to_float64
from plainres.networks.blocks import BasicBlock
from plainres.networks.resnet import CifarNetwork
from plainres.records import files
from plainres.records.rows import BranchNorm
from plainres.training.grafting import STAGES, InsertedBlock
from plainres.training.runlog import RunLog


class BranchNorms(pl.Callback):
    """Writes ‖F(x)‖ / ‖x‖ of each BasicBlock with a shortcut, at first and at evaluations.

    F(x) is the output of the second normalisation, x that of the shortcut. Both norms are over all
    evaluated test images, channels and pixels, in evaluation mode. The callback hooks into the
    evaluations of the run and draws no random number, so training and record stay as they are;
    fused kernels leave a network with hooks to the library, so test losses on the way may differ in
    the last digit. A checkpoint holds its rows. A plain network gets no table, a ratio that is not
    finite no row.

    Raises:
        ValueError: a block's branch does not end with that normalisation.
    """

    def __init__(self) -> None:
        self.rows: list[BranchNorm] = []
        self._squares: dict[nn.Module, Tensor] = {}  # sum of squares of a module's outputs
        self._handles: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [asdict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [BranchNorm(**row) for row in state_dict["rows"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.iteration > 0:
            return
        loaders: Any = trainer.val_dataloaders
        self._add_hooks(pl_module.network)
        pl_module.eval()
        with torch.no_grad():
            for batch in loaders[0]:
                pl_module(batch.images)
        pl_module.train()
        self._append_rows(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._add_hooks(pl_module.network)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._append_rows(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.rows:
            path = Path(trainer.default_root_dir) / "branches.csv"
            files.write_table(path, self.rows, BranchNorm)

    def _add_hooks(self, network: nn.Module) -> None:
        self._squares = {}
        self._handles = [
            module.register_forward_hook(self._add_squares)
            for _, _, block in _residual_blocks(network)
            for module in (block.bn2, block.downsample)
            if module is not None
        ]

    def _add_squares(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        square = to_float64(output.detach().float().square().sum())
        before = self._squares.get(module)
        self._squares[module] = square if before is None else before + square

    def _append_rows(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for handle in self._handles:
            handle.remove()
        cell = RunLog.of(trainer).cell
        for stage, number, block in _residual_blocks(pl_module.network):
            assert block.downsample is not None
            ratio = math.sqrt(float(self._squares[block.bn2] / self._squares[block.downsample]))
            inserted = isinstance(block, InsertedBlock)
            row = BranchNorm(*cell, pl_module.iteration, stage, number, inserted, ratio)
            self.rows += [row] if math.isfinite(ratio) else []


def _residual_blocks(network: nn.Module) -> list[tuple[int, int, BasicBlock]]:
    """Stage from 1, number within it from 0, and block."""
    if not isinstance(network, CifarNetwork):
        return []
    found = [
        (stage, number, block)
        for stage in STAGES
        for number, block in enumerate(network.get_submodule(f"layer{stage}").children())
        if isinstance(block, BasicBlock) and block.downsample is not None
    ]
    for _, _, block in found:
        if type(block).layers is not BasicBlock.layers:
            raise ValueError(f"branches of {type(block).__name__} cannot be measured; BasicBlock")
    return found
