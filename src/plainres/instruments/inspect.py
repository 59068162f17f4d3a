"""The command `python -m plainres.instruments.inspect model=alexnet`: a network layer by layer.

It prints the summary, compares it with textbook figures where the network is a published one, and
draws height, width and channels.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig
from torch import nn

from plainres.networks.depth import check_configured_depth
from plainres.networks.summary import Layer, summarise
from plainres.records.errors import give_up, run_command
from plainres.run.cell import CONF
from plainres.run.config import check_ranges

# By conf/model: the images of the paper, where they are not the 32×32 colour images of CIFAR
SMALL_IMAGE = (3, 32, 32)
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
# Output shapes in the order of textbooks
KNOWN_SHAPES = {
    "lenet5": "6×28×28 6×14×14 16×10×10 16×5×5 400 120 84 10",
    "alexnet": "96×55×55 96×27×27 256×27×27 256×13×13 384×13×13 384×13×13 "
    "256×13×13 256×6×6 9216 4096 4096 1000",
    "vgg": "64×224×224 64×224×224 64×112×112 128×112×112 128×56×56 256×56×56 "
    "256×28×28 512×28×28 512×14×14 512×14×14 512×7×7 4096 4096 1000",
}
# By depth: from textbooks, and for VGG and ResNet from torchvision's documentation
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


def missing_shapes(layers: Sequence[Layer], known: Sequence[str]) -> list[str]:
    """The `known` output shapes, as "96×55×55", that the layers do not have in this order."""
    shapes = iter([_shape_text(layer.shape) for layer in layers])
    return [expected for expected in known if expected not in shapes]  # reads on where it stopped


def report(model: str, layers: Sequence[Layer], known_parameters: int | None = None) -> str:
    """The summary as a table with totals, and how it compares with textbook figures.

    Args:
        known_parameters: of the network as published; None where this one is not as published, or
            nothing is known.
    """
    heading = ["layer", "kind", "output (C×H×W)", "parameters", "multiply-adds"]
    lines = [[*heading, "receptive field", "stride"]]
    for layer in layers:
        counts = [
            f"{count:,}" if count else "" for count in (layer.parameters, layer.multiply_adds)
        ]
        field = [str(layer.receptive_field), str(layer.stride)]
        lines.append([layer.name, layer.kind, _shape_text(layer.shape), *counts, *field])
    parameters = sum(layer.parameters for layer in layers)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    lines.append(["all", "", "", f"{parameters:,}", f"{multiply_adds:,}", "", ""])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    if known_parameters is None:
        return "\n".join(text)
    text.append("")
    if known := KNOWN_SHAPES.get(model, "").split():
        missing = missing_shapes(layers, known)
        names = f", missing: {', '.join(missing)}" if missing else ""
        count = len(known) - len(missing)
        text.append(f"{count} of {len(known)} known shapes in their order{names}")
    comparison = "as known" if parameters == known_parameters else f"known: {known_parameters:,}"
    text.append(f"{parameters:,} parameters ({comparison})")
    return "\n".join(text)


class Stage(NamedTuple):
    """A shape that an image has on its way, C×H×W, and the kinds of layers and blocks there."""

    shape: tuple[int, ...]
    kinds: list[str]  # each once, in their order: the first one changes the shape


def stages_of(network: nn.Module, image_shape: tuple[int, ...]) -> list[Stage]:
    """The image's own shape, then one stage for each layer or block that changes it.

    A block is a module that is no nn.Sequential, as GoogLeNet's inception modules.
    """

    def blocks(module: nn.Module) -> list[nn.Module]:
        return [
            block
            for child in module.children()
            for block in (blocks(child) if isinstance(child, nn.Sequential) else [child])
        ]

    stages = [Stage(image_shape, ["image"])]

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        shape, kind = tuple(output.shape[1:]), type(module).__name__
        if len(shape) == 3 and shape != stages[-1].shape:
            stages.append(Stage(shape, []))
        if len(shape) == 3 and kind not in stages[-1].kinds:
            stages[-1].kinds.append(kind)

    handles = [block.register_forward_hook(add) for block in blocks(network)]
    summarise(network, image_shape)  # the forward pass
    for handle in handles:
        handle.remove()
    return stages


def draw_stages(title: str, stages: Sequence[Stage], path: Path) -> None:
    """Draws height, width and channels of what an image becomes, a row for each stage; PNG."""
    from matplotlib import pyplot as plt

    size = (10.0, max(5.6, 1.6 + 0.27 * len(stages)))  # inches: a slide, where the rows fit
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for axis, place, name, colour in (
        (axes[0], 1, "height, width (pixels, log.)", "#0072B2"),
        (axes[1], 0, "channels (log.)", "#D55E00"),
    ):
        sizes = [stage.shape[place] for stage in stages]
        axis.barh(range(len(stages)), sizes, color=colour)
        axis.set_xscale("log", base=2)
        powers = int(math.log2(max(sizes)))
        axis.set_xticks([2**power for power in range(0, powers + 1, 1 + powers // 4)])
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlim(left=0.5)  # the same in every picture, and a bar of 1 can be seen
        axis.set_xlabel(name)
        axis.spines[["right", "top"]].set_visible(False)
    labels = [
        f"{shorten(', '.join(stage.kinds), 30, placeholder=' …')}  {_shape_text(stage.shape)}"
        for stage in stages
    ]
    axes[0].set_yticks(range(len(stages)), labels)
    axes[0].set_ylabel("layers and blocks, output C×H×W")
    axes[0].invert_yaxis()
    heading = f"{title}\nwhat an image becomes, up to the linear layers"
    figure.suptitle(heading, fontsize=16, fontweight="bold", wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="inspect")
def _task(config: DictConfig) -> None:
    try:
        _inspect(config)
    except Exception as error:  # here, because Hydra prints lines of its own before it re-raises
        give_up([error])


def _inspect(config: DictConfig) -> None:
    model = HydraConfig.get().runtime.choices["model"]
    published = IMAGE_SHAPES.get(model, SMALL_IMAGE)
    asked = config.image_shape
    shape = tuple(asked) if isinstance(asked, ListConfig) else published
    sound = len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)
    if not sound or not isinstance(asked, ListConfig | None):
        raise ValueError(f"image_shape {asked} is not [channels, height, width], each from 1 up")
    classes = config.num_classes
    if classes is not None and not (type(classes) is int and classes > 0):
        raise ValueError(f"num_classes {config.num_classes} is not a whole number from 1 up")
    if config.picture and Path(str(config.picture)).suffix.lower() != ".png":
        raise ValueError(
            f"picture {config.picture} is no PNG file; legal: a name that ends in .png"
        )
    check_ranges(config)
    check_configured_depth(config.model["_target_"], config.model.depth)
    classes = classes or (1000 if published[1] > 32 else 10)
    with torch.device("meta"):
        network = hydra.utils.instantiate(config.model, num_classes=classes, in_channels=shape[0])
    print(report(model, summarise(network, shape), _known_parameters(model, config)))
    if config.picture:
        title, stages = _title(model, config.model), stages_of(network, shape)
        from matplotlib import pyplot as plt

        large = {"font.size": 14}  # to be projected
        with plt.style.context(["default", large]):  # whatever the user's matplotlibrc says
            draw_stages(title, stages, Path(str(config.picture)))
        print(f"\n{config.picture}")


def _title(model: str, config: DictConfig) -> str:
    """The network's name, depth, and the choices of its configuration that are a word or number."""
    words = [
        f"{name!s} {value}"
        for name, value in config.items()
        if isinstance(value, str | int) and name not in ("_target_", "depth")
    ]
    return ", ".join([f"{model}: {config.depth} layers", *words])


def _known_parameters(model: str, config: DictConfig) -> int | None:
    """Of the published network; None where more than depth and variant (era) differs from it."""
    if model not in KNOWN_PARAMETERS or config.image_shape or config.num_classes:
        return None
    overrides = HydraConfig.get().overrides.task
    keys = {override.lstrip("+~").partition("=")[0] for override in overrides}
    as_published = {key for key in keys if key.startswith("model.")} <= {"model.depth", "model.era"}
    return KNOWN_PARAMETERS[model].get(config.model.depth) if as_published else None


def main() -> None:
    """The command."""
    run_command(_task)


if __name__ == "__main__":
    main()
