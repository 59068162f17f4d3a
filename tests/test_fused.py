"""Fused layers give the library's results; without a GPU in Triton's interpreter, in float32."""

import json
from pathlib import Path

import pytest
import torch
from composing import python

SHORTCUTS = ("none", "zero_pad", "projection")


@pytest.fixture(scope="module")
def differences():
    pytest.importorskip("triton")
    script = Path(__file__).with_name("interpreted.py")
    done = python(script, *SHORTCUTS, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_fused_network_equals_the_original_network(differences, shortcut):
    result = differences[shortcut]
    assert (result["fused"], result["names"]) == (3, True)
    for name in ("logits", "gradients", "statistics", "evaluation"):
        assert result[name] < 1e-4, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 16), (64, 8)])
def test_a_fused_layer_on_a_gpu_differs_from_the_librarys_by_rounding(channels, size):
    from plainres.training.fused import layer

    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(
        "cuda", memory_format=torch.channels_last
    )
    norm = torch.nn.BatchNorm2d(channels).cuda()
    x, shortcut, gradient = (
        torch.randn(5, channels, size, size, device="cuda").to(memory_format=torch.channels_last)
        for _ in range(3)
    )
    inputs = [tensor.bfloat16().requires_grad_() for tensor in (x, shortcut)]
    parameters = [convolution.weight, norm.weight, norm.bias]
    mine = layer(inputs[0], convolution, norm, inputs[1])
    grads = torch.autograd.grad(mine, [*inputs, *parameters], gradient.bfloat16())
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    convolution.double(), norm.double()
    y = convolution(exact[0])
    theirs = torch.relu(norm(y) + exact[1])
    expected = torch.autograd.grad(
        theirs, [*exact, convolution.weight, norm.weight, norm.bias], gradient.bfloat16().double()
    )
    assert float((mine.detach().double() - theirs.detach()).norm() / theirs.detach().norm()) < 1e-2
    for one, two in zip(grads, expected, strict=True):
        # not exact: where rounding moves a value over 0, the gradient of the ReLU changes
        assert float((one.double() - two).norm() / two.norm()) < 1e-1
