"""The loss around a trained network: `python -m plainres.instruments.landscape model=residual`.

It is measured on a plane of two random directions, as in Li et al. 2018 (arXiv:1712.09913).
Directions are Gaussian; each filter of a direction is scaled to the norm of the network's filter;
biases and batch normalisation do not move, because normalisation undoes the scale of a filter. The
loss is that of a fixed random sample of training images.

With `statistics=running` batch normalisation uses its running statistics at every point, as in that
paper's code. They belong to the centre; away from it activations outgrow them, the more layers the
more. With `statistics=batch` each batch of up to 500 images is normalised by its own statistics, as
in training. The choice can decide the verdict, so sweep-landscape measures both.

Rows of the grid are independent. Each is written when it is done, and an interrupted command
continues with the others.
"""

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from plainres.records import stopping

if __name__ == "__main__":  # before the other imports, which take seconds
    stopping.listen()

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from joblib import Parallel, delayed
from omegaconf import MISSING, DictConfig
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from plainres.data.batches import Batch, EvaluationBatches, Normaliser
from plainres.data.images import Source
from plainres.records import files, schema
from plainres.records.errors import give_up, run_command
from plainres.records.identity import cell_name, config_differences, config_hash
from plainres.records.rows import Surface, SurfacePoint
from plainres.run.cell import Cell
from plainres.run.config import CONF, Number, RunConfig
from plainres.training import machine
from plainres.training.instructions import limit_instructions

STATISTICS = ("running", "batch")
_IMAGES_SEED = 2015  # one sample of images for all networks and directions


@dataclass
class LandscapeConfig(RunConfig):
    """conf/landscape.yaml."""

    direction_seed: int = MISSING
    points: int = MISSING  # a side of the grid
    radius: Number = MISSING  # 1: every filter moves by its own norm
    images: int | None = None
    statistics: str = MISSING  # one of STATISTICS


ConfigStore.instance().store(name="landscape_schema", node=LandscapeConfig)


@dataclass(frozen=True)
class Plane:
    """A network and a plane of weights: centre + x·across + y·up, one tensor per parameter each.

    The network has the weights of the last point.

    Args:
        batches: of the images on which the loss is taken.
        statistics: one of STATISTICS.
    """

    network: nn.Module
    centre: Sequence[Tensor]
    across: Sequence[Tensor]
    up: Sequence[Tensor]
    batches: Sequence[Batch]
    statistics: str

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Loss in nats per image and error as a fraction at (x, y)."""
        with torch.no_grad():
            for parameter, centre, across, up in zip(
                self.network.parameters(), self.centre, self.across, self.up, strict=True
            ):
                parameter.copy_(centre + x * across + y * up)
        return loss_and_error(self.network, self.batches, self.statistics)


def random_direction(weights: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """One Gaussian tensor per weight, each filter scaled to the norm of the weight's filter.

    A filter makes one output: weight[i] of a convolution or a linear layer. Biases and batch
    normalisation get zeros. Random draws depend on the shapes only: networks whose weights have the
    same shapes in the same order get the same draws.
    """
    direction = []
    for weight in weights:
        if weight.ndim < 2:
            direction.append(torch.zeros_like(weight))
            continue
        gaussian = torch.randn(weight.shape, generator=generator)
        ratio = weight.flatten(1).norm(dim=1) / gaussian.flatten(1).norm(dim=1)
        direction.append(gaussian * ratio.view(-1, *[1] * (weight.ndim - 1)))
    return direction


def cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Cosine of the angle between two directions, all weights as one vector."""
    one, other = (
        torch.cat([part.flatten() for part in direction]).double() for direction in (first, second)
    )
    return float(one @ other / (one.norm() * other.norm()))


def loss_and_error(
    network: nn.Module, batches: Sequence[Batch], statistics: str = "running"
) -> tuple[float, float]:
    """Mean cross-entropy in nats per image and error as a fraction.

    Leaves the network in evaluation mode, its running statistics as they were.

    Raises:
        ValueError: unknown statistics; names the legal ones.
    """
    _check_statistics(statistics)
    network.eval()
    norms = (
        [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        if statistics == "batch"
        else []
    )
    loss, wrong, count = 0.0, 0, 0
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        with torch.no_grad():
            for images, labels in batches:
                logits = network(images)
                loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
                wrong += int((logits.argmax(1) != labels).sum())
                count += len(labels)
    finally:
        for norm in norms:
            norm.eval()
            norm.track_running_stats = True
    return loss / count, wrong / count


def coordinates(points: int, radius: float) -> list[float]:
    """`points` numbers from -radius to radius, evenly; the middle one is 0.

    Raises:
        ValueError: points is even or below 3, or radius is not above 0.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points {points} is not an odd number from 3 up")
    if not radius > 0:
        raise ValueError(f"radius {radius} is not above 0")
    return [radius * (2 * place / (points - 1) - 1) for place in range(points)]


def fixed_images(total: int, count: int | None) -> Tensor:
    """Places, int64 (count,), ascending, of the images that every point is evaluated on.

    A random sample and not the first ones, because folders of images are sorted by class.

    Args:
        total: number of training images.
        count: None: all.

    Raises:
        ValueError: count lies outside 1 to total.
    """
    count = total if count is None else count
    if not 1 <= count <= total:
        raise ValueError(f"images {count} lies outside 1 to {total}, the number of training images")
    generator = torch.Generator().manual_seed(_IMAGES_SEED)
    return torch.randperm(total, generator=generator)[:count].sort().values


def write_surface(folder: Path, surface: Surface, points: Sequence[SurfacePoint]) -> Path:
    """Writes both files of a surface, its points first; returns the path of the points."""
    path = folder / f"{_name(surface)}.csv"
    files.write_table(path, points, SurfacePoint)
    files.write_json(path.with_suffix(".json"), asdict(surface))
    return path


def measure(cell: Cell) -> str:
    """Measures the missing points of a cell's surface and writes it; returns a line about it.

    Raises:
        ValueError, OSError: there is no such trained network, the settings are illegal, or the
            surface was measured with other settings.
    """
    config = cell.config
    check(cell)
    limit_instructions(config.instruction_set)
    at = coordinates(config.points, config.radius)
    record = _trained(cell)
    state = torch.load(cell.folder / files.WEIGHTS_FILE, map_location="cpu", weights_only=True)
    source = cell.load_images()
    if source.fingerprint != record.data_fingerprint:
        raise ValueError(
            f"{cell.folder} was trained on other images ({record.data_fingerprint}) than these "
            f"({source.fingerprint})"
        )
    plane = _plane(config, source, state)
    surface = _surface(cell, record, plane, _hash(state))
    path = cell.results_folder / f"{_name(surface)}.csv"
    if _measured(path, surface, config.force):
        return f"skipped, finished: {path}"
    settings = {
        **_settings(surface),
        "weights": surface.weights,
        "instruction_set": surface.instruction_set,
    }
    rows = cell.folder / "surfaces" / config_hash(settings)
    seconds, points = _measure_rows(plane, at, rows, config.jobs, _name(surface))
    surface = replace(surface, seconds=round(seconds, 3), finished_at=machine.timestamp())
    write_surface(cell.results_folder, surface, points)
    middle, largest = points[len(points) // 2], max(point.loss for point in points)
    return (
        f"{path}: loss {middle.loss:.4g}, error {middle.error:.2%} at the centre, "
        f"loss up to {largest:.4g} ({surface.data_label}, {surface.protocol}, "
        f"{surface.images} training images, {surface.statistics} statistics)"
    )


def check(cell: Cell) -> None:
    """Raises ValueError for a surface that cannot be measured, of whatever network."""
    cell.check()
    coordinates(cell.config.points, cell.config.radius)
    _check_statistics(cell.config.statistics)


def _check_statistics(statistics: str) -> None:
    if statistics not in STATISTICS:
        raise ValueError(f"statistics {statistics!r} is unknown; legal: {', '.join(STATISTICS)}")


def _trained(cell: Cell) -> schema.Record:
    """The record of the cell's trained network."""
    record = cell.finished()
    if record is None:
        raise ValueError(
            cell.refusal()
            or f"{cell.folder} holds no trained network; "
            "make sweep-landscape trains it and keeps its weights"
        )
    if record.status != schema.FINISHED:
        raise ValueError(f"{cell.folder} diverged: it has no surface")
    return record


def _plane(config: DictConfig, source: Source, state: Mapping[str, Tensor]) -> Plane:
    """The configured directions through a network with the weights and statistics of `state`."""
    network = hydra.utils.instantiate(
        config.model, num_classes=source.num_classes, in_channels=source.in_channels
    )
    network.load_state_dict(state)
    network = network.to(memory_format=torch.channels_last)
    centre = [parameter.detach().clone() for parameter in network.parameters()]
    generator = torch.Generator().manual_seed(config.direction_seed)
    across, up = random_direction(centre, generator), random_direction(centre, generator)
    places = fixed_images(len(source.train), config.images)
    pixels, labels = source.train.pixels, source.train.labels
    normaliser = Normaliser(pixels, config.data.normalisation)
    batches = list(EvaluationBatches(pixels[places], labels[places], normaliser))
    return Plane(network, centre, across, up, batches, config.statistics)


def _surface(cell: Cell, record: schema.Record, plane: Plane, weights: str) -> Surface:
    """The surface without its points: `seconds` and `finished_at` are still empty."""
    config = cell.config
    return Surface(
        arm=cell.arm,
        depth=record.depth,
        seed=record.seed,
        protocol=config.protocol.name,
        data_label=config.data.label,
        num_classes=record.num_classes,
        direction_seed=config.direction_seed,
        statistics=config.statistics,
        images=sum(len(batch.labels) for batch in plane.batches),
        points=config.points,
        radius=config.radius,
        cosine=cosine(plane.across, plane.up),
        config_hash=record.config_hash,
        weights=weights,
        data_fingerprint=record.data_fingerprint,
        seconds=0.0,
        finished_at="",
        **machine.provenance(torch.device("cpu")),
    )


def _name(surface: Surface) -> str:
    """Of its two files."""
    cell = cell_name(surface.arm, surface.depth, surface.seed)
    return f"surface-{cell}-directions{surface.direction_seed}-{surface.statistics}"


def _settings(surface: Surface) -> dict[str, Any]:
    """What defines the numbers of a surface, beside the network's weights."""
    names = ("config_hash", "direction_seed", "statistics", "images", "points", "radius")
    return {name: getattr(surface, name) for name in names}


def _measured(path: Path, surface: Surface, force: bool) -> bool:
    """Whether the same surface is there already; refuses one of other settings, unless `force`."""
    old = None if force else files.read_json(path.with_suffix(".json"))
    if old is None:
        return False
    settings = _settings(surface)
    differences = config_differences({name: old.get(name) for name in settings}, settings)
    if differences:
        raise ValueError(
            f"{path.with_suffix('.json')} was measured otherwise ({'; '.join(differences)}); "
            "FORCE=1 (force=true) replaces it, NAME=… (folder=…) measures beside it"
        )
    return old.get("weights") == surface.weights and path.exists()


def _measure_rows(
    plane: Plane, at: Sequence[float], folder: Path, jobs: int, name: str
) -> tuple[float, list[SurfacePoint]]:
    """Measures the rows that `folder` lacks; returns the seconds and points of all rows."""
    paths = [folder / f"row-{place:03}.json" for place in range(len(at))]
    left = [(y, path) for y, path in zip(at, paths, strict=True) if _read_row(path, at) is None]
    work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_measure_row)(plane, at, y, path) for y, path in left
    )
    quiet = not sys.stdout.isatty()
    for _ in track(work, total=len(left), description=name, transient=True, disable=quiet):
        pass
    rows = [_read_row(path, at) for path in paths]
    points = [
        SurfacePoint(x, y, loss, error)
        for y, (_, row) in zip(at, rows, strict=True)
        for x, (loss, error) in zip(at, row, strict=True)
    ]
    return sum(seconds for seconds, _ in rows), points


def _read_row(path: Path, at: Sequence[float]) -> Any:
    """Seconds and points of a measured row; None for one that is to be measured, or damaged."""
    try:
        row = files.read_json(path) or {}
        points = [(float(loss), float(error)) for loss, error in row["points"]]
        return (float(row["seconds"]), points) if len(points) == len(at) else None
    except (TypeError, ValueError, KeyError):
        return None


def _measure_row(plane: Plane, at: Sequence[float], y: float, path: Path) -> None:
    torch.set_num_threads(1)  # rows, not threads, share the cores
    torch.set_flush_denormal(True)
    start = time.monotonic()
    points = [plane.at(x, y) for x in at]
    files.write_json(path, {"y": y, "seconds": time.monotonic() - start, "points": points})


def _hash(state: Mapping[str, Tensor]) -> str:
    """Twelve hexadecimal digits of a network's parameters and statistics."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="landscape")
def _task(config: DictConfig) -> None:
    try:
        print(measure(Cell(config, HydraConfig.get().runtime.choices["model"])), flush=True)
    except Exception as error:  # Hydra would print lines of its own first
        give_up([error])


def main() -> None:
    """The command."""
    run_command(_task)


if __name__ == "__main__":
    main()
