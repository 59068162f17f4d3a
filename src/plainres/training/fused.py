"""Optional GPU kernels in Triton for the layers of the CIFAR networks.

Needs: a CUDA GPU, the package triton, bf16-mixed precision, BasicBlocks with batch normalisation
and 16, 32 or 64 channels. `plainres.training.machine.pick_kernels` decides; only `fuse_blocks` is
called from outside. `kernels=library` and `kernels=compiled` do not use this module.
Without it only speed is lost (docs/method.md): a layer's result is the same up to rounding. Records
of different kernels are never paired.

One layer is a 3×3 convolution, batch normalisation, shortcut and ReLU, in two kernels forward and
four backward. With 16 to 64 channels a training iteration is a thousand kernels of a few
microseconds, and libraries are made for more channels. The convolution here is an implicit GEMM
that also sums the statistics of batch normalisation. As under autocast, products are of bfloat16
numbers and sums of float32; weights, statistics and gradients of weights stay float32. Sums over
programs are atomic: their order, and so the last digits, differ from run to run.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor, channels_last, empty_like, nn, zeros
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from plainres.networks.blocks import BasicBlock, convolves

CHANNELS = (16, 32, 64)
ELEMENTS = 4096  # of a program of the elementwise kernels


def _tuned(configurations: list[tuple[int, int, int]], adds_to: str) -> Any:
    """Lets Triton choose pixels, programs and warps for each new shape, and cache the choice."""
    choices = [
        triton.Config(
            {"pixels": pixels} | ({"programs": programs} if programs else {}), num_warps=warps
        )
        for pixels, programs, warps in configurations
    ]
    if triton.knobs.runtime.interpret:  # for tests: one program costs milliseconds there
        programs = {"programs": 2} if "programs" in choices[0].kwargs else {}
        choices = [triton.Config({"pixels": 32} | programs)]
    return triton.autotune(
        choices, ["height", "channels", "num_pixels"], reset_to_zero=[adds_to], cache_results=True
    )


@_tuned([(256, 0, 4), (128, 0, 4), (64, 0, 4), (64, 0, 2)], adds_to="sums")
@triton.jit
def _convolve(
    x,
    weight,
    y,
    sums,
    num_pixels,
    height: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    in_stride: tl.constexpr,
    out_stride: tl.constexpr,
    row_stride: tl.constexpr,
    column_stride: tl.constexpr,
    turned: tl.constexpr,
    summed: tl.constexpr,
    pixels: tl.constexpr,
):
    """y[pixel, out] = Σ over taps and in of x[pixel + tap, in] · weight[in, out, tap].

    `turned`: taps are rotated by 180°. `summed`: the sums of y and of its squares over all pixels
    are added to sums[0] and sums[1].
    """
    pixel = tl.program_id(0) * pixels + tl.arange(0, pixels)
    row, column = (pixel // width) % height, pixel % width
    channel = tl.arange(0, channels)
    total = tl.zeros((pixels, channels), tl.float32)
    for tap in tl.static_range(9):
        down, right = tap // 3 - 1, tap % 3 - 1
        inside = (
            (pixel < num_pixels)
            & (row + down >= 0)
            & (row + down < height)
            & (column + right >= 0)
            & (column + right < width)
        )
        inputs = tl.load(
            x + (pixel + down * width + right)[:, None] * channels + channel[None, :],
            mask=inside[:, None],
            other=0.0,
        )
        place = 8 - tap if turned else tap
        start = weight + (place // 3) * row_stride + (place % 3) * column_stride
        factor = tl.load(start + channel[:, None] * in_stride + channel[None, :] * out_stride)
        total = tl.dot(inputs, factor.to(inputs.dtype), total)
    written = total.to(y.dtype.element_ty)
    tl.store(
        y + pixel[:, None] * channels + channel[None, :],
        written,
        mask=(pixel < num_pixels)[:, None],
    )
    if summed:
        value = written.to(tl.float32)  # beyond the last pixel it is 0
        tl.atomic_add(sums + channel, tl.sum(value, 0), sem="relaxed")
        tl.atomic_add(sums + channels + channel, tl.sum(value * value, 0), sem="relaxed")


@_tuned([(128, 264, 4), (128, 132, 4), (64, 132, 4), (64, 66, 4), (64, 33, 4)], adds_to="result")
@triton.jit
def _correlate(
    x,
    gradient,
    result,
    num_pixels,
    height: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    in_stride: tl.constexpr,
    out_stride: tl.constexpr,
    row_stride: tl.constexpr,
    column_stride: tl.constexpr,
    pixels: tl.constexpr,
    programs: tl.constexpr,
):
    """result[in, out, tap] += Σ over pixels of x[pixel + tap, in] · gradient[pixel, out].

    One program computes one row of taps.
    """
    channel = tl.arange(0, channels)
    down = tl.program_id(1) - 1
    left = tl.zeros((channels, channels), tl.float32)
    middle = tl.zeros((channels, channels), tl.float32)
    right = tl.zeros((channels, channels), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(num_pixels, pixels), programs):
        pixel = block * pixels + tl.arange(0, pixels)
        row, column = (pixel // width) % height, pixel % width
        inside = pixel < num_pixels
        incoming = tl.load(
            gradient + pixel[:, None] * channels + channel[None, :], mask=inside[:, None], other=0.0
        )
        inside = inside & (row + down >= 0) & (row + down < height)
        source = x + (pixel + down * width)[None, :] * channels + channel[:, None]
        left = tl.dot(
            tl.load(source - channels, mask=(inside & (column > 0))[None, :], other=0.0),
            incoming,
            left,
        )
        middle = tl.dot(tl.load(source, mask=inside[None, :], other=0.0), incoming, middle)
        right = tl.dot(
            tl.load(source + channels, mask=(inside & (column < width - 1))[None, :], other=0.0),
            incoming,
            right,
        )
    target = (
        result
        + channel[:, None] * in_stride
        + channel[None, :] * out_stride
        + (down + 1) * row_stride
    )
    tl.atomic_add(target, left, sem="relaxed")
    tl.atomic_add(target + column_stride, middle, sem="relaxed")
    tl.atomic_add(target + 2 * column_stride, right, sem="relaxed")


@triton.jit
def _statistics(sums, channel, num_pixels, epsilon, channels: tl.constexpr):
    """Mean, variance and 1 / standard deviation of each channel, from sums and squares."""
    mean = tl.load(sums + channel) / num_pixels
    variance = tl.maximum(tl.load(sums + channels + channel) / num_pixels - mean * mean, 0.0)
    return mean, variance, 1.0 / tl.sqrt(variance + epsilon)


@triton.jit
def _normalise(
    y,
    sums,
    scale,
    shift,
    shortcut,
    z,
    running_mean,
    running_variance,
    num_batches,
    num_pixels,
    momentum,
    epsilon,
    channels: tl.constexpr,
    has_shortcut: tl.constexpr,
    pixels: tl.constexpr,
):
    """z = relu(scale · (y - mean) / deviation + shift + shortcut).

    The first program updates the running statistics.
    """
    channel = tl.arange(0, channels)
    mean, variance, inverse = _statistics(sums, channel, num_pixels, epsilon, channels)
    factor = inverse * tl.load(scale + channel)
    constant = tl.load(shift + channel) - mean * factor
    pixel = tl.program_id(0) * pixels + tl.arange(0, pixels)
    place = pixel[:, None] * channels + channel[None, :]
    inside = (pixel < num_pixels)[:, None]
    value = (
        tl.load(y + place, mask=inside, other=0.0).to(tl.float32) * factor[None, :]
        + constant[None, :]
    )
    if has_shortcut:
        value += tl.load(shortcut + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(z + place, tl.maximum(value, 0.0).to(z.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        old_mean, old_variance = (
            tl.load(running_mean + channel),
            tl.load(running_variance + channel),
        )
        unbiased = variance * (num_pixels / (num_pixels - 1.0))
        tl.store(running_mean + channel, old_mean + momentum * (mean - old_mean))
        tl.store(running_variance + channel, old_variance + momentum * (unbiased - old_variance))
        tl.store(num_batches, tl.load(num_batches) + 1)


@triton.jit
def _sum_gradients(
    gradient,
    z,
    y,
    sums,
    gradient_sums,
    num_pixels,
    epsilon,
    channels: tl.constexpr,
    pixels: tl.constexpr,
):
    """Adds the gradients of shift and scale of batch normalisation to gradient_sums[0] and [1]."""
    channel = tl.arange(0, channels)
    mean, _, inverse = _statistics(sums, channel, num_pixels, epsilon, channels)
    pixel = tl.program_id(0) * pixels + tl.arange(0, pixels)
    place = pixel[:, None] * channels + channel[None, :]
    inside = (pixel < num_pixels)[:, None]
    positive = tl.load(z + place, mask=inside, other=0.0).to(tl.float32) > 0.0
    incoming = tl.where(
        positive, tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32), 0.0
    )
    normal = (tl.load(y + place, mask=inside, other=0.0).to(tl.float32) - mean[None, :]) * inverse[
        None, :
    ]
    tl.atomic_add(gradient_sums + channel, tl.sum(incoming, 0), sem="relaxed")
    tl.atomic_add(gradient_sums + channels + channel, tl.sum(incoming * normal, 0), sem="relaxed")


@triton.jit
def _normalise_backward(
    gradient,
    z,
    y,
    sums,
    gradient_sums,
    scale,
    y_gradient,
    shortcut_gradient,
    num_pixels,
    epsilon,
    channels: tl.constexpr,
    has_shortcut: tl.constexpr,
    pixels: tl.constexpr,
):
    """Gradients of y, and of the shortcut if there is one, from the gradient of z."""
    channel = tl.arange(0, channels)
    mean, _, inverse = _statistics(sums, channel, num_pixels, epsilon, channels)
    mean_gradient = tl.load(gradient_sums + channel) / num_pixels
    along = tl.load(gradient_sums + channels + channel) / num_pixels
    factor = inverse * tl.load(scale + channel)
    pixel = tl.program_id(0) * pixels + tl.arange(0, pixels)
    place = pixel[:, None] * channels + channel[None, :]
    inside = (pixel < num_pixels)[:, None]
    positive = tl.load(z + place, mask=inside, other=0.0).to(tl.float32) > 0.0
    incoming = tl.where(
        positive, tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32), 0.0
    )
    normal = (tl.load(y + place, mask=inside, other=0.0).to(tl.float32) - mean[None, :]) * inverse[
        None, :
    ]
    result = (incoming - mean_gradient[None, :] - normal * along[None, :]) * factor[None, :]
    tl.store(y_gradient + place, result.to(y_gradient.dtype.element_ty), mask=inside)
    if has_shortcut:
        tl.store(
            shortcut_gradient + place, incoming.to(shortcut_gradient.dtype.element_ty), mask=inside
        )


class _Layer(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        shortcut: Tensor | None,
        norm: nn.BatchNorm2d,
    ) -> Tensor:
        x = x.contiguous(memory_format=channels_last)
        if shortcut is not None:
            shortcut = shortcut.contiguous(memory_format=channels_last)
        count, channels, height, width = x.shape
        num_pixels = count * height * width
        # One tensor that kernels add to: sums forward, sums backward, gradient of the weights
        added = zeros(4 * channels + weight.numel(), device=x.device)
        y, z = empty_like(x), empty_like(x)
        _convolved(x, weight, y, added, turned=False, summed=True)
        block = ELEMENTS // channels
        _normalise[(triton.cdiv(num_pixels, block),)](
            y,
            added,
            scale,
            shift,
            shortcut if shortcut is not None else y,
            z,
            norm.running_mean,
            norm.running_var,
            norm.num_batches_tracked,
            num_pixels,
            norm.momentum,
            norm.eps,
            channels,
            shortcut is not None,
            block,
        )
        ctx.save_for_backward(x, weight, scale, y, z)
        ctx.added, ctx.epsilon, ctx.has_shortcut = added, norm.eps, shortcut is not None
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, y, z = ctx.saved_tensors
        added = ctx.added
        gradient = gradient.contiguous(memory_format=channels_last)
        count, channels, height, width = x.shape
        num_pixels = count * height * width
        block = ELEMENTS // channels
        grid = (triton.cdiv(num_pixels, block),)
        gradient_sums = added[2 * channels : 4 * channels]
        _sum_gradients[grid](
            gradient, z, y, added, gradient_sums, num_pixels, ctx.epsilon, channels, block
        )
        y_gradient = empty_like(y)
        shortcut_gradient = empty_like(y) if ctx.has_shortcut else None
        _normalise_backward[grid](
            gradient,
            z,
            y,
            added,
            gradient_sums,
            scale,
            y_gradient,
            shortcut_gradient if ctx.has_shortcut else y_gradient,
            num_pixels,
            ctx.epsilon,
            channels,
            ctx.has_shortcut,
            block,
        )
        x_gradient = empty_like(x)
        _convolved(y_gradient, weight, x_gradient, added, turned=True, summed=False)
        weight_gradient = added[4 * channels :].as_strided(
            weight.shape, weight.stride(), added.storage_offset() + 4 * channels
        )
        out, into, row, column = weight.stride()
        _correlate[lambda config: (config["programs"], 3)](
            x,
            y_gradient,
            weight_gradient,
            num_pixels,
            height,
            width,
            channels,
            into,
            out,
            row,
            column,
        )
        shift_gradient, scale_gradient = gradient_sums[:channels], gradient_sums[channels:]
        return x_gradient, weight_gradient, scale_gradient, shift_gradient, shortcut_gradient, None


def _convolved(
    x: Tensor, weight: Tensor, y: Tensor, sums: Tensor, turned: bool, summed: bool
) -> None:
    count, channels, height, width = x.shape
    out, into, row, column = weight.stride()
    if turned:
        out, into = into, out
    num_pixels = count * height * width
    _convolve[lambda config: (triton.cdiv(num_pixels, config["pixels"]),)](
        x,
        weight,
        y,
        sums,
        num_pixels,
        height,
        width,
        channels,
        into,
        out,
        row,
        column,
        turned,
        summed,
    )


def layer(
    x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, shortcut: Tensor | None = None
) -> Tensor:
    """relu(norm(convolution(x)) + shortcut) in training mode, differentiable once.

    Updates the running statistics of `norm`.

    Args:
        x, shortcut: (N, C, H, W), channels last, of one dtype; C is one of CHANNELS.
        convolution: 3×3, stride 1, padding 1, no bias, C to C channels; its weights are rounded to
            the dtype of x.
    """
    return _Layer.apply(x, convolution.weight, norm.weight, norm.bias, shortcut, norm)


class FusedBlock(BasicBlock):
    """A BasicBlock that uses `layer` in training; if it changes the size, for its second layer."""

    def forward(self, x: Tensor) -> Tensor:
        # hooks of a module need its call
        if not self.training or self.conv1._forward_hooks:
            return super().forward(x)
        assert isinstance(self.bn1, nn.BatchNorm2d)
        assert isinstance(self.bn2, nn.BatchNorm2d)
        out = (
            layer(x, self.conv1, self.bn1)
            if _fits(self.conv1)
            else self.relu(self.bn1(self.conv1(x)))
        )
        shortcut = None if self.downsample is None else self.downsample(x)
        return layer(out, self.conv2, self.bn2, shortcut)


def fuse_blocks(network: nn.Module) -> int:
    """Turns BasicBlocks of a network into FusedBlocks where possible, in place; returns how many.

    Parameters and their names stay.
    """
    count = 0
    for module in network.modules():
        if (
            type(module) is BasicBlock
            and type(module.relu) is nn.ReLU
            and isinstance(module.bn2, nn.BatchNorm2d)
            and _fits(module.conv2)
        ):
            module.__class__ = FusedBlock
            count += 1
    return count


def _fits(convolution: nn.Conv2d) -> bool:
    return (
        convolves(convolution, 3)
        and convolution.stride == (1, 1)
        and convolution.in_channels == convolution.out_channels in CHANNELS
    )
