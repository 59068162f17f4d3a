"""What a network does to an image, layer by layer: `python -m plainres.networks.summary model=alexnet` (make inspect MODEL=alexnet).

Each row is one layer in the order of a forward pass: output shape, parameters, multiply-adds, and receptive field in pixels of the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from plainres.networks.depth import check_depth
from plainres.records.errors import give_up, one_line, run_command
from plainres.run.cell import CONF

IMAGE_SHAPES = {
    "lenet5": (1, 32, 32),
    "alexnet": (3, 227, 227),
    "vgg": (3, 224, 224),
    "googlenet": (3, 224, 224),
    "inception_v3": (3, 299, 299),
    "plain_imagenet": (3, 224, 224),
    "residual_imagenet": (3, 224, 224),
    "se_imagenet": (3, 224, 224),
}
SMALL_IMAGE = (3, 32, 32)
NUM_CLASSES = {"lenet5": 10} | dict.fromkeys(
    ("plain", "residual", "projection", "projection_everywhere", "scaled", "every_second", "se"), 10
)
# Output shapes in the order in which textbooks give them, and parameters
KNOWN_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "lenet5": ((6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)),
    "alexnet": (
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (9216,),
        (4096,),
        (4096,),
        (1000,),
    ),
    "vgg": (
        (64, 224, 224),
        (64, 224, 224),
        (64, 112, 112),
        (128, 112, 112),
        (128, 56, 56),
        (256, 56, 56),
        (256, 28, 28),
        (512, 28, 28),
        (512, 14, 14),
        (512, 14, 14),
        (512, 7, 7),
        (4096,),
        (4096,),
        (1000,),
    ),
}
# Of textbooks, and for VGG and ResNet of torchvision's documentation, by depth
KNOWN_PARAMETERS = {
    "lenet5": {5: 61_706},
    "alexnet": {8: 62_378_344},
    "vgg": {11: 132_863_336, 13: 133_047_848, 16: 138_357_544, 19: 143_667_240},
    "residual_imagenet": {
        18: 11_689_512,
        34: 21_797_672,
        50: 25_557_032,
        101: 44_549_160,
        152: 60_192_808,
    },
}


@dataclass(frozen=True)
class Layer:
    """One row of the ledger.

    Args:
        shape: of one image's output, (C, H, W) or (features,).
        multiply_adds: for one image; convolutions and linear layers only.
        receptive_field: pixels of the image, on the longer side, that one output can see; may exceed the image.
        stride: pixels of the image between neighbouring outputs, on the longer side.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int
    stride: int


class _Fields(TorchFunctionMode):
    """Carries a `field` along with every tensor that comes from the image: (receptive field, stride) of its rows, and of its columns."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            before = [
                tensor for tensor in _tensors([*args, *kwargs.values()]) if hasattr(tensor, "field")
            ]
            if before:
                largest = max(
                    before, key=lambda tensor: tensor.shape[-1] if tensor.ndim == 4 else 0
                )
                result.field = tuple(  # type: ignore[attr-defined]
                    _after(
                        function.__name__,
                        args,
                        kwargs,
                        largest,
                        max(tensor.field[side][0] for tensor in before),
                        result,
                        side,
                    )
                    for side in (0, 1)
                )
        return result


def _after(
    name: str, args: Any, kwargs: Any, image: Any, field: int, result: Tensor, side: int
) -> tuple[int, int]:
    """Receptive field and stride, on side 0 (height) or 1 (width), of what a function makes of `image`.

    Args:
        field: the largest receptive field among all that it takes.
    """
    stride = image.field[side][1]
    dimension = 2 + side
    if name == "conv2d":
        values = (
            dict(
                zip(
                    ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
                    args,
                    strict=False,
                )
            )
            | kwargs
        )
        step, dilation = _of(values.get("stride", 1), side), _of(values.get("dilation", 1), side)
        return field + (values["weight"].shape[dimension] - 1) * dilation * stride, stride * step
    if name in ("max_pool2d", "avg_pool2d"):
        values = dict(zip(("input", "kernel_size", "stride"), args, strict=False)) | kwargs
        kernel = _of(values["kernel_size"], side)
        return field + (kernel - 1) * stride, stride * _of(values.get("stride") or kernel, side)
    if image.ndim == 4 and result.ndim == 4:
        step = math.ceil(image.shape[dimension] / result.shape[dimension])
        if "adaptive" in name:
            return field + (step - 1) * stride, stride * step
        if name == "__getitem__":  # every second pixel, as shortcuts take them
            return field, stride * step
    if image.ndim == 4 and result.ndim == 2:
        return field + (image.shape[dimension] - 1) * stride, stride * image.shape[dimension]
    return field, stride


def _of(value: Any, side: int) -> int:
    """A size that is given for both sides, or for each."""
    return int(value[side % len(value)]) if isinstance(value, Sequence) else int(value)


def _tensors(values: Sequence[Any]) -> list[Any]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def ledger(network: nn.Module, image_shape: Sequence[int]) -> list[Layer]:
    """The layers of a network in the order of a forward pass over one image.

    Args:
        network: on the meta device nothing is computed, and size costs nothing.
        image_shape: (C, H, W).

    Raises:
        ValueError: the network cannot take images of that shape.
    """
    rows: list[Layer] = []

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            shape = tuple(output.shape[1:])
            multiply_adds = 0
            if isinstance(module, nn.Conv2d):
                multiply_adds = math.prod(shape) * math.prod(module.weight.shape[1:])
            elif isinstance(module, nn.Linear):
                multiply_adds = module.in_features * module.out_features
            parameters = sum(parameter.numel() for parameter in module.parameters())
            field, stride = map(max, zip(*getattr(output, "field", ((1, 1), (1, 1))), strict=True))
            rows.append(
                Layer(name, type(module).__name__, shape, parameters, multiply_adds, field, stride)
            )

        return hook

    leaves = [
        (name, module) for name, module in network.named_modules() if not list(module.children())
    ]
    handles = [module.register_forward_hook(note(name)) for name, module in leaves]
    device = next(network.parameters()).device
    image: Any = torch.zeros(1, *image_shape, device=device)
    image.field = ((1, 1), (1, 1))
    training = network.training
    try:
        with torch.no_grad(), _Fields():
            network.eval()(image)
    except RuntimeError as error:
        shape = "×".join(map(str, image_shape))
        raise ValueError(
            f"the network takes no {shape} images ({one_line(error)}); data.image_size=… or data.pad_to=… changes their size"
        ) from None
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return rows


def missing_shapes(
    rows: Sequence[Layer], known: Sequence[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """Of the `known` output shapes those that do not follow in this order in the ledger."""
    shapes = iter([row.shape for row in rows])
    return [wanted for wanted in known if not any(shape == wanted for shape in shapes)]


def table(rows: Sequence[Layer]) -> list[list[str]]:
    """The ledger as text, a total below; under a row of headings."""
    lines = [
        [
            "layer",
            "kind",
            "output (C×H×W)",
            "parameters",
            "multiply-adds",
            "receptive field",
            "stride",
        ]
    ]
    for row in rows:
        shape = "×".join(map(str, row.shape))
        numbers = [f"{value:,}" if value else "" for value in (row.parameters, row.multiply_adds)]
        lines.append(
            [row.name, row.kind, shape, *numbers, str(row.receptive_field), str(row.stride)]
        )
    totals = [
        f"{sum(getattr(row, name) for row in rows):,}" for name in ("parameters", "multiply_adds")
    ]
    return [*lines, ["all", "", "", *totals, "", ""]]


def report(model: str, rows: Sequence[Layer], known_parameters: int | None = None) -> str:
    """What the command prints: the ledger, and how it compares with what textbooks give.

    Args:
        known_parameters: of the network as published; None where this one is not as published, or nothing is known.
    """
    lines = table(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    if known_parameters is None:
        return "\n".join(text)
    text.append("")
    if known := KNOWN_SHAPES.get(model):
        missing = missing_shapes(rows, known)
        found = f"{len(known) - len(missing)} of {len(known)} known shapes in their order"
        text.append(
            found
            + (
                f", missing: {', '.join('×'.join(map(str, shape)) for shape in missing)}"
                if missing
                else ""
            )
        )
    parameters = sum(row.parameters for row in rows)
    text.append(
        f"{parameters:,} parameters ({'as known' if parameters == known_parameters else f'known: {known_parameters:,}'})"
    )
    return "\n".join(text)


def steps(network: nn.Module, image_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes that an image goes through, one a layer or block (as of GoogLeNet) that changes it, beginning with the image's own."""

    def parts(module: nn.Module) -> list[nn.Module]:
        return [
            part
            for child in module.children()
            for part in (parts(child) if isinstance(child, nn.Sequential) else [child])
        ]

    shapes = [image_shape]

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        shape = tuple(output.shape[1:])
        if len(shape) == 3 and shape != shapes[-1]:
            shapes.append(shape)

    handles = [part.register_forward_hook(note) for part in parts(network)]
    ledger(network, image_shape)  # the forward pass
    for handle in handles:
        handle.remove()
    return shapes


def taper(model: str, shapes: Sequence[tuple[int, ...]], path: Path) -> None:
    """Draws how height and width shrink while channels grow, one bar a step; PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, 1, figsize=(max(6.0, 0.45 * len(shapes)), 5), sharex=True, layout="constrained"
    )
    labels = ["×".join(map(str, shape)) for shape in shapes]
    for axis, values, name, colour in (
        (
            axes[0],
            [shape[1] for shape in shapes],
            "height and width\n(pixels, logarithmic)",
            "#0072B2",
        ),
        (axes[1], [shape[0] for shape in shapes], "channels\n(logarithmic)", "#D55E00"),
    ):
        axis.bar(range(len(shapes)), values, color=colour)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(bottom=0.5)  # the same in every picture, and a bar of 1 is seen
        axis.set_ylabel(name)
        axis.spines[["right", "top"]].set_visible(False)
    axes[1].set_xticks(range(len(shapes)), labels, rotation=90, fontsize=7)
    axes[1].set_xlabel("output after each layer or block that changes it, C×H×W")
    axes[0].set_title(f"{model}: height and width shrink, channels grow")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="ledger")
def _task(config: DictConfig) -> None:
    try:
        _inspect(config)
    except Exception as error:  # here: Hydra prints lines of its own before it lets one through
        give_up([error])


def _inspect(config: DictConfig) -> None:
    model = HydraConfig.get().runtime.choices["model"]
    shape = tuple(config.image_shape or IMAGE_SHAPES.get(model, SMALL_IMAGE))
    if len(shape) != 3:
        raise ValueError(f"image_shape {list(shape)} is not [channels, height, width]")
    check_depth(config.model["_target_"], config.model.depth)
    classes = config.num_classes or NUM_CLASSES.get(model, 1000)
    with torch.device("meta"):
        network = hydra.utils.instantiate(config.model, num_classes=classes, in_channels=shape[0])
    rows = ledger(network, shape)
    print(report(model, rows, _known_parameters(model, config)))
    if config.picture:
        taper(f"{model}, {config.model.depth} layers", steps(network, shape), Path(config.picture))
        print(f"\n{config.picture}")


def _known_parameters(model: str, config: DictConfig) -> int | None:
    """Of the network that the configuration names; None where anything but its depth and era is not as published."""
    if model not in KNOWN_PARAMETERS or config.image_shape or config.num_classes:
        return None
    keys = [
        override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task
    ]
    as_published = all(
        key in ("model.depth", "model.era") for key in keys if key.startswith("model.")
    )
    return KNOWN_PARAMETERS[model].get(config.model.depth) if as_published else None


def main() -> None:
    """The command."""
    run_command(_task)


if __name__ == "__main__":
    main()
