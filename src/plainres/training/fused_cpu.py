"""Optional CPU kernels in Numba for CIFAR networks of few channels: `kernels=fused` on a CPU.

Needs: the package numba; a CifarNetwork of BasicBlocks with batch normalisation and zero padding,
4 to 16 channels (a multiple of 4) in its first stage, and one Rectifier or ReLU everywhere; images
up to 16×16; float32 or float64; batches of a multiple of 32.
`plainres.training.machine.pick_kernels` decides; only `fuse_network` is called from outside.
Training steps and evaluations run here; what instruments do (hooks, gradients of images, other
parameters) runs in the library. Without it only speed is lost: results are the same up to rounding.
Records of different kernels are never paired.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from plainres.networks.activations import Rectifier
from plainres.networks.blocks import BasicBlock, ScaledShortcut, ZeroPadShortcut, convolves
from plainres.networks.resnet import CifarNetwork
from plainres.training import cpu_kernels
from plainres.training.cpu_kernels import CHANNELS_AT_ONCE, IMAGES_AT_ONCE, LAYER

LARGEST_WIDTH, LARGEST_IMAGE = 16, 16  # channels of the first stage, pixels a side
EVALUATED_AT_ONCE = 128  # images, where no training batch says how many
NUMBERS = {torch.float32: np.float32, torch.float64: np.float64}


class FusedCifarNetwork(CifarNetwork):
    """A CifarNetwork that trains and evaluates with `cpu_kernels`."""

    _program: "Program | None"
    _watched: list[nn.Module]
    _norms: list[nn.BatchNorm2d]

    def forward(self, x: Tensor) -> Tensor:
        if not _runs(self, x):
            return super().forward(x)
        if self._program is None or not self._program.fits(self, x):
            self._program = Program(self, x)
        if self.training:
            return _Pass.apply(x, self._program, *self._program.parameters)
        return torch.cat([self._program.evaluate(part) for part in x.split(self._program.images)])


def fuse_network(network: Any, batch: Sequence[int]) -> bool:
    """Turns a CifarNetwork into a FusedCifarNetwork where possible, in place; says whether.

    Parameters and their names stay.

    Args:
        batch: shape of a batch of images, (N, C, H, W).
    """
    if type(network) is not CifarNetwork or network.checkpoint_activations:
        return False
    if batch[0] % IMAGES_AT_ONCE or max(batch[2:]) > LARGEST_IMAGE:
        return False
    width = network.conv1.out_channels
    blocks = list(_blocks(network))
    known = convolves(network.conv1, 3) and all(map(_computes_as_basic_block, blocks))
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    normalised = isinstance(network.bn1, nn.BatchNorm2d) and all(map(_is_usual, norms))
    activations = {_activation(each.relu) for each in (network, *blocks)}
    one = len(activations) == 1 and None not in activations
    if not (known and normalised and one) or width % CHANNELS_AT_ONCE or width > LARGEST_WIDTH:
        return False
    modules = [module for module in network.modules() if module is not network]
    network.__class__ = FusedCifarNetwork
    network.__dict__ |= {
        "_program": None,
        "_watched": modules,
        "_norms": norms,
    }
    return True


def _computes_as_basic_block(block: nn.Module) -> bool:
    """Also for an InsertedBlock, which is one by another name."""
    kind: Any = type(block)
    return (
        isinstance(block, BasicBlock)
        and kind.forward is BasicBlock.forward
        and kind.layers is BasicBlock.layers
        and convolves(block.conv1, 3)
        and convolves(block.conv2, 3)
        and block.conv2.stride == (1, 1)
        and type(block.bn1) is type(block.bn2) is nn.BatchNorm2d
        and (block.downsample is None or _is_known_shortcut(block.downsample))
    )


def _is_known_shortcut(module: nn.Module) -> bool:
    if type(module) is nn.Sequential:
        return [*map(type, module)][1:] == [nn.BatchNorm2d] and convolves(module[0], 1)
    kept = module.shortcut if type(module) is ScaledShortcut else module
    return type(kept) in (nn.Identity, ZeroPadShortcut)


def _is_usual(norm: nn.BatchNorm2d) -> bool:
    """Whether a normalisation is as PyTorch makes it unless told otherwise."""
    usual = nn.BatchNorm2d(norm.num_features, device="meta")
    return repr(norm) == repr(usual)


def _activation(module: nn.Module) -> tuple[float, float] | None:
    """Slope and offset; None for an activation that the kernels do not have.

    They read the sign of an input from its output, so the slope may not be negative.
    """
    if type(module) is Rectifier and module.negative_slope >= 0:
        return module.negative_slope, module.offset
    return (0.0, 0.0) if type(module) is nn.ReLU else None


def _blocks(network: Any) -> Iterator[Any]:
    for stage in (network.layer1, network.layer2, network.layer3):
        yield from stage


def _runs(network: FusedCifarNetwork, images: Tensor) -> bool:
    """Whether this pass is an update's or an evaluation's, of a size that the kernels are for."""
    return (
        images.dtype in NUMBERS
        and images.device.type == "cpu"
        and max(images.shape[2:]) <= LARGEST_IMAGE
        and not images.requires_grad
        and not torch.is_autocast_enabled("cpu")
        and network.training == torch.is_grad_enabled()
        and not (network.training and len(images) % IMAGES_AT_ONCE)
        and not any(
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
            for module in network._watched
        )
        and all(
            norm.training == network.training and norm.track_running_stats
            for norm in network._norms
        )
    )


class Memory:
    """Zeros (C, H, W, N) inside a border, and their address and steps in bytes."""

    def __init__(self, shape: tuple[int, ...], images: int, dtype: torch.dtype, border: int):
        channels, height, width = self.shape = shape
        rows, columns = height + 2 * border, width + 2 * border
        everything = torch.zeros(channels, rows, columns, images, dtype=dtype)
        self.inside = everything[:, border : border + height, border : border + width]
        self.address = self.inside.data_ptr()
        self.plane, self.row = (step * dtype.itemsize for step in everything.stride()[:2])


class Program:
    """A network's layers as a table of LAYER, and the memory that a forward and backward pass need.

    The table holds addresses of parameters and buffers; `fits` says whether they are still right.

    Args:
        images: a batch (N, C, H, W), whose shape the program is for.
    """

    def __init__(self, network: Any, images: Tensor):
        self.images = len(images) if network.training else EVALUATED_AT_ONCE
        self.dtype = images.dtype
        others = {p.dtype for p in network.parameters()} - {self.dtype}
        if others:  # the kernels would read past their ends
            names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
            own = str(self.dtype).removeprefix("torch.")
            raise RuntimeError(f"{own} images, parameters also of {names}")
        self.passes = 0
        self.parameters: list[Tensor] = [network.fc.weight, network.fc.bias]
        self._sizes = [network.fc.weight.numel(), network.fc.bias.numel()]
        self._head = network.fc
        self._layers: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
        self._rows: list[dict[str, Any]] = []
        self._memory: dict[Any, Memory] = {}
        self._input = self._new("images", tuple(images.shape[1:]), border=1)
        self._write_rows(network)
        self._addresses = self._current_addresses()
        self._table = np.array(
            [tuple(row.get(name, 0) for name in LAYER.names or ()) for row in self._rows], LAYER
        )
        self._packed = torch.empty(
            max(conv.weight.numel() for conv, _ in self._layers), dtype=self.dtype
        )
        number, norm = NUMBERS[self.dtype], network.bn1
        self._momentum, self._epsilon = number(norm.momentum), number(norm.eps)
        self._slope, self._offset = map(number, _activation(network.relu) or ())
        self._classes, channels = network.fc.weight.shape
        self._linear = (
            self._new("features", (channels, 1, 1)).address,
            network.fc.weight.data_ptr(),
            network.fc.bias.data_ptr(),
            channels,
            self._classes,
            network.fc.weight.stride(0) * self.dtype.itemsize,
        )
        places = np.cumsum([0, *self._sizes]).tolist()
        self._gradients = [
            (each.shape, each.stride(), place)
            for each, place in zip(self.parameters, places, strict=False)
        ]

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of the network has parameters elsewhere, and gets a program of its own."""

    def fits(self, network: Any, images: Tensor) -> bool:
        """Whether shapes and addresses are those of the program."""
        shape = tuple(images.shape[1:])
        return (
            (shape, images.dtype) == (self._input.shape, self.dtype)
            and (not network.training or len(images) == self.images)
            and self._current_addresses() == self._addresses
            and all(norm.momentum == network.bn1.momentum for _, norm in self._layers)
            and self._momentum == NUMBERS[self.dtype](network.bn1.momentum)
        )

    def forward(self, images: Tensor, training: bool) -> Tensor:
        """Logits (K, N) of a batch (N, C, H, W)."""
        self.passes += 1
        self._input.inside.copy_(images.permute(1, 2, 3, 0))
        logits = torch.empty(self._classes, self.images, dtype=self.dtype)
        cpu_kernels.forward(
            self._table, self.images, self._packed.data_ptr(), self._linear, logits.data_ptr(),
            training, self._momentum, self._epsilon, self._slope, self._offset,
        )  # fmt: skip
        return logits

    def evaluate(self, images: Tensor) -> Tensor:
        """Logits (n, K) of n ≤ N images, with running statistics."""
        count = len(images)
        if count < self.images:
            filling = images.new_zeros(self.images - count, *images.shape[1:])
            images = torch.cat([images, filling])
        return self.forward(images, training=False).t()[:count]

    def backward(self, logits_gradient: Tensor) -> list[Tensor]:
        """Gradients of `parameters`, from that of the logits (K, N) of the last forward pass."""
        gradients = torch.empty(sum(self._sizes), dtype=self.dtype)
        cpu_kernels.backward(
            self._table, self.images, self._packed.data_ptr(), self._linear,
            logits_gradient.data_ptr(), gradients.data_ptr(), self._slope,
        )  # fmt: skip
        return [gradients.as_strided(*gradient) for gradient in self._gradients]

    def _current_addresses(self) -> list[int]:
        """Of the parameters and buffers that the modules have now."""
        return [
            tensor.data_ptr()
            for module in (self._head, *chain.from_iterable(self._layers))
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]

    def _new(self, name: Any, shape: tuple[int, ...], border: int = 0) -> Memory:
        """Memory; the same one for the same name and shape."""
        key = name, shape
        if key not in self._memory:
            self._memory[key] = Memory(shape, self.images, self.dtype, border)
        return self._memory[key]

    def _write_rows(self, network: Any) -> None:
        stem = self._row(network.conv1, network.bn1, self._input)
        x: Memory = stem["output"]
        blocks = []
        for block in _blocks(network):
            first = self._row(block.conv1, block.bn1, x)
            added: Any = block.downsample
            factor, projection = 1.0, None
            if isinstance(added, ScaledShortcut):
                added, factor = added.shortcut, added.factor
            if isinstance(added, nn.Sequential):
                convolution, norm = iter(added)
                projection = self._row(convolution, norm, x, activated=False)
                x = projection["output"]
            second = self._row(block.conv2, block.bn2, first["output"])
            if added is not None:
                second |= _shortcut(x, added, factor)
            blocks.append((first, projection, second))
            x = second["output"]
        self._place_gradients(stem, blocks)

    def _row(
        self, convolution: Any, norm: Any, x: Memory, activated: bool = True
    ) -> dict[str, Any]:
        """Adds a layer without shortcut; where its gradients go is not yet said."""
        number, weight = len(self._rows), convolution.weight
        (stride, _), (taps, _) = convolution.stride, convolution.kernel_size
        channels = weight.shape[0]
        height, width = (math.ceil(length / stride) for length in x.shape[1:])
        shape = channels, height, width
        y = self._new(("y", number), shape, border=1)
        with_gaps = shape if stride == 1 else (channels, *x.shape[1:])
        z_gradient = self._new(("gradient of z", stride), with_gaps, border=1)
        size = self.dtype.itemsize
        steps = dict(zip(("out", "in", "row", "column"), weight.stride(), strict=True))
        gradient = sum(self._sizes) * size
        row = {
            "output": y,
            **dict(zip(("in_channels", "in_height", "in_width"), x.shape, strict=True)),
            **dict(zip(("out_channels", "height", "width"), shape, strict=True)),
            **{"taps": taps, "stride": stride, "activated": activated},
            **{"x": x.address, "x_row": x.row, "x_plane": x.plane},
            "weight": weight.data_ptr(),
            **{f"weight_{name}": step * size for name, step in steps.items()},
            **{"scale": norm.weight.data_ptr(), "shift": norm.bias.data_ptr()},
            "running_mean": _address(norm.running_mean),
            "running_variance": _address(norm.running_var),
            "num_batches": _address(norm.num_batches_tracked),
            "z": self._new(("z", number), shape).address,
            "statistics": self._new(("statistics", number), (channels, 2, 1)).address,
            **{"y": y.address, "y_row": y.row, "y_plane": y.plane},
            "z_gradient": z_gradient.address,
            **{"z_gradient_row": z_gradient.row, "z_gradient_plane": z_gradient.plane},
            "weight_gradient": gradient,
            "scale_gradient": gradient + weight.numel() * size,
            "shift_gradient": gradient + (weight.numel() + channels) * size,
        }
        self._rows.append(row)
        self._layers.append((convolution, norm))
        self.parameters += [weight, norm.weight, norm.bias]
        self._sizes += [weight.numel(), channels, channels]
        return row

    def _place_gradients(self, stem: dict[str, Any], blocks: list[Any]) -> None:
        """Says where each layer finds the gradient of y and leaves that of x.

        Three places are enough: of a block's output, of what is between its layers, of its input.
        An identity shortcut leaves the gradient where it is, and the first layer's is added to it.
        """
        largest = max(math.prod(row["output"].shape) for row in self._rows)
        of_y, between, of_x = (
            self._new(("gradient", number), (largest, 1, 1)).address for number in range(3)
        )
        for first, projection, second in reversed(blocks):
            second |= {"y_gradient": of_y, "x_gradient": between}
            first |= {"y_gradient": between, "x_gradient": of_x}
            if projection is not None:
                projection |= {"y_gradient": of_y, "x_gradient": of_x}
                first["x_gradient_adds"] = 1
            elif "shortcut" in second:
                first["x_gradient_adds"] = 1
                if second["is_identity"]:
                    first["x_gradient"] = of_y
                    continue
                second["shortcut_gradient"] = of_x
            of_y, of_x = of_x, of_y
        stem["y_gradient"] = of_y


def _shortcut(source: Memory, module: nn.Module, factor: float) -> dict[str, Any]:
    """The columns of a layer to which `source` is added."""
    stride, first = (
        (module.stride, module.padding[0]) if isinstance(module, ZeroPadShortcut) else (1, 0)
    )
    channels, height, width = source.shape
    return {
        **{"shortcut": source.address, "shortcut_factor": factor},
        **{"shortcut_row": source.row, "shortcut_plane": source.plane},
        **{"shortcut_stride": stride, "shortcut_first": first, "shortcut_channels": channels},
        **{"shortcut_height": height, "shortcut_width": width},
        "is_identity": isinstance(module, nn.Identity) and factor == 1,
    }


def _address(tensor: Tensor | None) -> int:
    assert tensor is not None, "batch normalisation keeps running statistics"
    return tensor.data_ptr()


class _Pass(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, program: Program, *parameters: Tensor) -> Tensor:
        logits = program.forward(images, training=True)
        ctx.program, ctx.passes = program, program.passes
        return logits.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.passes != ctx.program.passes:
            raise RuntimeError("fused kernels keep the activations of the last forward pass only")
        return None, None, *ctx.program.backward(gradient.t().contiguous())
