"""A trained network that was kept, for pictures that it has not seen.

Beside the weights lies preparation.pt: the network's configuration, the names of its classes and
how a picture becomes its input. So no training image is needed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import OmegaConf

from plainres.records import files
from plainres.records.seal import is_intact
from plainres.run.config import STREAMED

# torch is imported inside functions: a sweep with nothing left to do ends in seconds
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from plainres.data.batches import Normaliser
    from plainres.data.images import Source
    from plainres.run.cell import Cell


def write_preparation(cell: "Cell", source: "Source", normaliser: "Normaliser") -> None:
    """What `load` needs beside the weights, into the cell's folder.

    Nothing for a child: its network is made from that of its parent.
    """
    from plainres.training import checkpoints

    if cell.config.child is not None:
        return
    model: Any = OmegaConf.to_container(cell.config.model, resolve=True)
    data, shape = cell.config.data, list(source.train.pixels.shape[1:])
    native = shape[1] if shape[1] == shape[2] and data.pad_to is None else None
    preparation = {
        "model": {**model, **({"weights": None} if "weights" in model else {})},
        "classes": list(source.class_names),
        "shape": shape,  # C, H, W, with what is added up to pad_to
        "image_size": data.image_size or native,
        "pad_to": data.pad_to,
        "streamed": data.name == STREAMED,
        "mean": normaliser.mean.cpu(),  # (1, C, H, W), or 1 for H and W
        "deviation": normaliser.deviation.cpu(),
    }
    checkpoints.save(preparation, cell.folder / files.PREPARATION_FILE)


def class_names(folder: Path) -> tuple[str, ...]:
    """Of the network in a cell's folder, in the order of its outputs.

    Raises:
        ValueError: there is no preparation.pt, or it is damaged.
    """
    return tuple(_read_preparation(folder)["classes"])


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode, and how a picture becomes its input.

    Args:
        dtype: what it multiplies in, as in training.
        shape: (C, H, W) of its input.
        image_size: pixels a side of a picture before `pad_to`; None: pictures have that size.
        pad_to: black is added up to so many pixels a side; None: none is.
        streamed: its images were decoded from the disk during training, and cropped.
        mean, deviation: of the training images, to be broadcast to (1, C, H, W).
    """

    network: "nn.Module"
    dtype: "torch.dtype"
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    image_size: int | None
    pad_to: int | None
    streamed: bool
    mean: "Tensor"
    deviation: "Tensor"

    @classmethod
    def load(cls, folder: Path) -> "TrainedNetwork":
        """The network in a cell's folder, on the CPU.

        Raises:
            ValueError: there is none, or a file of it is damaged; names what to do.
        """
        import torch

        from plainres.training.machine import DTYPES, pick_precision

        record = files.read_record(folder)
        if record is None:
            raise ValueError(f"{folder} has no finished network")
        if not (folder / files.PREPARATION_FILE).exists() and record.parent:
            raise ValueError(
                f"{folder} has a network that was made from another one (child); legal: one that "
                "was trained from its start"
            )
        kept = _read_preparation(folder)
        network = _network(kept)
        dtype = DTYPES[pick_precision(record.precision, torch.device("cpu"))]
        if dtype == torch.float64:
            network = network.double()
        network.load_state_dict(_read(folder / files.WEIGHTS_FILE))
        return cls(
            network.eval().to(memory_format=torch.channels_last),
            dtype,
            tuple(kept["classes"]),
            tuple(kept["shape"]),
            kept["image_size"],
            kept["pad_to"],
            kept.get("streamed", False),  # not in older files
            kept["mean"],
            kept["deviation"],
        )

    def read(self, path: Path) -> "Tensor":
        """A picture as the network's input before normalisation, uint8 (C, H, W).

        The middle square, resized by area, as training images are; of a streamed network the
        centre crop that it is evaluated on. A network of grey images gets the luma of a colour
        picture (ITU-R 601).

        Raises:
            ValueError: the file is no picture, or has another size and cannot be resized.
        """
        import torch

        from plainres.data.images import Images, pad
        from plainres.data.pictures import open_picture, read_picture

        if not path.is_file():  # a pipe would be waited for
            raise ValueError(f"{path} is no file")
        try:
            if self.streamed:
                from plainres.data.streaming import evaluated

                return evaluated(self.shape[-1])(open_picture(path.read_bytes()))
            pixels = read_picture(path.read_bytes(), self.image_size)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
        height, width = pixels.shape[1:]
        if self.shape[0] == 1:
            weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
            pixels = (pixels * weights).sum(0, keepdim=True).round().to(torch.uint8)
        if self.pad_to is not None and max(height, width) <= self.pad_to:
            pixels = pad(Images(pixels[None], torch.zeros(1)), self.pad_to).pixels[0]
        if tuple(pixels.shape) != self.shape:
            raise ValueError(
                f"{path} has {height}×{width} pixels, and the network takes "
                f"{self.shape[1]}×{self.shape[2]}: it was trained without data.image_size, which "
                "resizes pictures"
            )
        return pixels

    def probabilities(self, path: Path) -> "Tensor":
        """Of each class, float32 (classes,), for a picture; raises as `read` does."""
        import torch

        from plainres.training.update import logits_of_heads

        images = (self.read(path)[None].float() / 255 - self.mean) / self.deviation
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return logits_of_heads(self.network, images, self.dtype)[0][0].softmax(0)


def _network(kept: dict[str, Any]) -> "nn.Module":
    """Of the shape that was trained; its weights are not."""
    return hydra.utils.instantiate(
        kept["model"], num_classes=len(kept["classes"]), in_channels=kept["shape"][0]
    )


def _read_preparation(folder: Path) -> dict[str, Any]:
    return _read(folder / files.PREPARATION_FILE)


def _read(path: Path) -> Any:
    """What `checkpoints.save` wrote.

    Raises:
        ValueError: the file is not there or damaged; names what to do.
    """
    import torch

    if not is_intact(path):
        raise ValueError(
            f"{path} is {'damaged' if path.exists() else 'not there'}; delete {path.parent} and "
            "train the network again, with keep_weights=true"
        )
    return torch.load(path, map_location="cpu", weights_only=True)
