"""One run on several devices of this machine: Lightning's DDP with one process for each device."""

from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from plainres.data.batches import Share
from plainres.training.machine import Kernels

SILENCE = timedelta(minutes=10)  # of another device, after which the run ends
# Not before every step: evaluation alone needs equal running statistics (training.module)
_TODAY = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _TODAY else "broadcast_buffers": False}
NORMS = nn.modules.batchnorm._BatchNorm
DROPOUTS = nn.modules.dropout._DropoutNd


class DeviceEnvironment(LightningEnvironment):
    """The processes of a run, which were started already; this is that of one device.

    Args:
        port: of this machine, at which they find each other.
    """

    def __init__(self, share: Share, port: int):
        super().__init__()
        self._main_port = port
        self._rank = share.rank
        self.set_world_size(share.devices)
        self.set_global_rank(share.rank)

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def pick(device: torch.device, share: Share) -> torch.device:
    """The device of this process.

    Raises:
        ValueError: the machine has fewer.
    """
    if share.devices == 1 or device.type == "cpu":
        return device
    if (found := torch.cuda.device_count()) < share.devices:
        raise ValueError(f"devices {share.devices} exceeds {found}, the GPUs that torch sees")
    torch.cuda.set_device(share.rank)
    return torch.device("cuda", share.rank)


def pick_kernels(requested: str, kernels: Kernels, share: Share) -> Kernels:
    """The library's on several devices, and on one those of plainres.training.machine.

    Raises:
        ValueError: others were asked for on several devices.
    """
    if share.devices == 1:
        return kernels
    if requested not in ("auto", "library"):
        raise ValueError(f"kernels {requested!r} are for one device; legal: auto, library")
    return "library"


def options(config: DictConfig, network: nn.Module, device: torch.device) -> dict[str, Any]:
    """Those of Lightning's Trainer.

    Raises:
        ValueError: the network cannot be trained on several devices; names what can be changed.
    """
    if config.devices == 1:
        return {"devices": 1}
    modules = list(network.modules())
    if any(isinstance(module, DROPOUTS) and module.p for module in modules):
        raise ValueError(
            f"devices {config.devices}: the network has dropout, whose random numbers a checkpoint "
            "keeps for one device only; devices=1"
        )
    together = config.protocol.batch_statistics != "local"
    together = together and any(isinstance(module, NORMS) for module in modules)
    if together and device.type == "cpu":
        raise ValueError(
            "PyTorch cannot take batch statistics over the whole batch (SyncBatchNorm) on CPUs; "
            "protocol.batch_statistics=local takes them on each device, model.norm=none has none"
        )
    return {
        "devices": config.devices,
        "strategy": DDPStrategy(timeout=SILENCE, **_BUFFERS),
        "sync_batchnorm": together,
        "use_distributed_sampler": False,
    }
