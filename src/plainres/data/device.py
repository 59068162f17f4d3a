"""What differs between devices for tensors and random numbers."""

from contextlib import AbstractContextManager

import torch

MPS = "mps"  # torch's name of Apple's GPU


def memory_format(device: torch.device) -> torch.memory_format:
    """Of images and of networks: channels last, but for Apple's mps.

    There the gradients of batch normalisation of channels-last images were wrong, without an error,
    or training stopped, depending on the version (pytorch/pytorch issue 175189).
    """
    return torch.contiguous_format if device.type == MPS else torch.channels_last


def with_float64(device: torch.device) -> torch.device:
    """Where float64 can be had: on the device itself, for Apple's mps on the CPU."""
    return torch.device("cpu") if device.type == MPS else device


def to_float64(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in float64, on the CPU if its own device is Apple's mps."""
    return tensor.to(with_float64(tensor.device), torch.float64)


def fork_generators(device: torch.device) -> AbstractContextManager[None]:
    """Within the block random numbers may be drawn, on the CPU and on the device; then the
    generators are as they were."""
    devices = [] if device.type == "cpu" else [device]
    return torch.random.fork_rng(devices, device_type=device.type)
