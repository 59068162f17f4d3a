"""A fused network against the original one, for test_fused.

A process of its own, because Triton reads TRITON_INTERPRET once.
"""

import copy
import json
import sys

import torch
from torch.nn import functional

from plainres.networks.resnet import CifarNetwork
from plainres.training.fused import fuse_blocks


def compare(shortcut: str) -> dict[str, float]:
    """Largest relative differences after two iterations, and in evaluation mode."""
    torch.manual_seed(0)
    network = CifarNetwork(8, shortcut, in_channels=1).to(memory_format=torch.channels_last)
    fused = copy.deepcopy(network)
    result: dict[str, float] = {"fused": fuse_blocks(fused)}
    images, labels = (
        torch.randn(3, 1, 4, 4).to(memory_format=torch.channels_last),
        torch.tensor([1, 5, 7]),
    )
    logits = []
    for one in (network, fused):
        for _ in range(2):
            one.zero_grad()
            made = one(images)
            functional.cross_entropy(made, labels).backward()
        logits.append(made)
    pairs = {
        "logits": [logits],
        "gradients": [
            (p.grad, q.grad) for p, q in zip(network.parameters(), fused.parameters(), strict=True)
        ],
        "statistics": list(zip(network.buffers(), fused.buffers(), strict=True)),
        "evaluation": [(network.eval()(images), fused.eval()(images))],
    }
    for name, tensors in pairs.items():
        result[name] = max(
            float((one - other).abs().max() / one.abs().max()) for one, other in tensors
        )
    result["names"] = network.state_dict().keys() == fused.state_dict().keys()
    return result


if __name__ == "__main__":
    print(json.dumps({shortcut: compare(shortcut) for shortcut in sys.argv[1:]}))
