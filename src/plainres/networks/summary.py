"""A network layer by layer: output shape, parameters, multiply-adds and receptive field of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Layer:
    """One row of the summary: a module without children, or with parameters of its own.

    Args:
        parameters: its own, without those of its children.
        shape: of the output for one image, (C, H, W) or (features,).
        multiply_adds: for one image; convolutions and linear layers only.
        receptive_field: pixels of the image, on the longer side, that one output depends on; may
            exceed the image.
        stride: pixels of the image between neighbouring outputs, on the longer side.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int
    stride: int


def summarise(network: nn.Module, image_shape: Sequence[int]) -> list[Layer]:
    """The layers of a network in the order of a forward pass over one image.

    Args:
        network: on the meta device nothing is computed, so that its size costs nothing.
        image_shape: (C, H, W).

    Raises:
        ValueError: the network cannot take images of that shape.
    """
    layers: list[Layer] = []

    def add_layer(name: str):
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            shape = tuple(output.shape[1:])
            multiply_adds = 0
            if isinstance(module, nn.Conv2d):
                multiply_adds = math.prod(shape) * math.prod(module.weight.shape[1:])
            elif isinstance(module, nn.Linear):
                multiply_adds = module.in_features * module.out_features
            parameters = sum(each.numel() for each in module.parameters(recurse=False))
            field, stride = map(max, zip(*getattr(output, "field", ((1, 1), (1, 1))), strict=True))
            kind = type(module).__name__
            layers.append(Layer(name, kind, shape, parameters, multiply_adds, field, stride))

        return hook

    handles = [
        module.register_forward_hook(add_layer(name))
        for name, module in network.named_modules()
        if not list(module.children()) or list(module.parameters(recurse=False))
    ]
    image: Any = torch.zeros(1, *image_shape, device=next(network.parameters()).device)
    image.field = ((1, 1), (1, 1))
    training = network.training
    try:
        with torch.no_grad(), _ReceptiveFields():
            network.eval()(image)
    except RuntimeError as error:
        shape = "×".join(map(str, image_shape))
        raise ValueError(
            f"the network takes no {shape} images ({' '.join(str(error).split())}); "
            "data.image_size=… or data.pad_to=… changes their size"
        ) from None
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return layers


class _ReceptiveFields(TorchFunctionMode):
    """Gives every tensor that is computed from the image a `field`.

    That is (receptive field, stride) of its rows, and the same of its columns.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            inputs = [x for x in _tensors([*args, *kwargs.values()]) if hasattr(x, "field")]
            if inputs:
                name = function.__name__
                widest = max(inputs, key=lambda x: x.shape[-1] if x.ndim == 4 else 0)
                result.field = tuple(  # type: ignore[attr-defined]
                    _field_after(
                        name,
                        args,
                        kwargs,
                        widest,
                        max(x.field[side][0] for x in inputs),
                        result,
                        side,
                    )
                    for side in (0, 1)
                )
        return result


def _field_after(
    name: str, args: Any, kwargs: Any, image: Any, field: int, result: Tensor, side: int
) -> tuple[int, int]:
    """Receptive field and stride of a function's result, on side 0 (height) or 1 (width).

    Args:
        name: of the function.
        image: its largest input.
        field: the largest receptive field among its inputs.
    """
    stride = image.field[side][1]
    dimension = 2 + side
    if name == "conv2d":
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        values = dict(zip(names, args, strict=False)) | kwargs
        step, dilation = (_on_side(values.get(key, 1), side) for key in ("stride", "dilation"))
        return field + (values["weight"].shape[dimension] - 1) * dilation * stride, stride * step
    if name in ("max_pool2d", "avg_pool2d"):
        values = dict(zip(("input", "kernel_size", "stride"), args, strict=False)) | kwargs
        kernel = _on_side(values["kernel_size"], side)
        step = _on_side(values.get("stride") or kernel, side)
        return field + (kernel - 1) * stride, stride * step
    if image.ndim == 4 and result.ndim == 4:
        step = math.ceil(image.shape[dimension] / result.shape[dimension])
        if "adaptive" in name:
            return field + (step - 1) * stride, stride * step
        if name == "__getitem__":  # every second pixel, as shortcuts take them
            return field, stride * step
    if image.ndim == 4 and result.ndim == 2:
        return field + (image.shape[dimension] - 1) * stride, stride * image.shape[dimension]
    return field, stride


def _on_side(value: Any, side: int) -> int:
    """A size that is given once for both sides, or for each."""
    return int(value[side % len(value)]) if isinstance(value, Sequence) else int(value)


def _tensors(values: Sequence[Any]) -> list[Any]:
    """All tensors of a nested list or tuple."""
    tensors = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += _tensors(value)
    return tensors
