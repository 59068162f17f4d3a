"""The loss around a trained network on a plane of two random directions: `python -m plainres.instruments.landscape model=residual`.

As Li et al. 2018 (arXiv:1712.09913): directions are Gaussian, each filter of them scaled to the norm of the network's filter, and zero
for biases and batch normalisation, which scale away what the filters do. The loss is that of a fixed draw of training images.

Batch normalisation takes its running statistics at every point, as in that paper's code: the network that would be deployed at those
weights. They belong to the centre, and away from it the activations outgrow them, the more layers the more. With `statistics=batch` each
batch of up to 500 images is normalised by itself, as in training, and nothing but the weights is looked at. The choice can decide the
verdict, so make sweep-landscape measures both.

Rows of the grid are independent pieces of work: each is written when it is done, and an interrupted command goes on with the others.
"""

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from joblib import Parallel, delayed
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from plainres.data.batches import Batch, EvaluationBatches, Normaliser
from plainres.records import files, schema
from plainres.records.errors import give_up, run_command
from plainres.records.identity import cell_name, config_differences, config_hash
from plainres.run.cell import CONF, ROOT, Cell
from plainres.training import machine

STATISTICS = ("running", "batch")
_IMAGES_SEED = (
    2015  # which images are looked at must depend neither on the network nor on the directions
)


@dataclass(frozen=True)
class SurfacePoint:
    """One row of a surface table: the loss at centre + x·first direction + y·second direction; nats per image, a fraction in [0, 1]."""

    x: float
    y: float
    loss: float
    error: float


@dataclass(frozen=True)
class Surface:
    """A trained network's loss on a plane of weights, and where it comes from; its points lie in a CSV beside it.

    Args:
        direction_seed: of the pair of directions.
        statistics: what batch normalisation took at every point, one of plainres.instruments.landscape's.
        images: training images that every point is evaluated on.
        points: a side of the grid, which reaches from -radius to radius; at 1 a filter moves by its own norm.
        cosine: between the two directions, all weights as one vector.
        weights: hash of the network's weights.
        seconds: of one core, over all points.
    """

    arm: str
    depth: int
    seed: int
    protocol: str
    data_label: str
    num_classes: int
    direction_seed: int
    statistics: str
    images: int
    points: int
    radius: float
    cosine: float
    config_hash: str
    weights: str
    data_fingerprint: str
    seconds: float
    precision: str
    processor: str
    commit: str
    clean: bool | None
    python: str
    torch: str
    finished_at: str

    @property
    def name(self) -> str:
        """Of its two files."""
        cell = cell_name(self.arm, self.depth, self.seed)
        return f"surface-{cell}-directions{self.direction_seed}-{self.statistics}"


@dataclass(frozen=True)
class Plane:
    """A network and a plane of weights through it: centre + x·across + y·up, each with one tensor a parameter.

    `batches` are what the loss is taken on, `statistics` one of STATISTICS. The network's weights are wherever the last look left them.
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
    """One Gaussian tensor a weight, each filter scaled to the norm of the weight's; zero for biases and batch normalisation.

    A filter is what makes one output: weight[i] of a convolution or a linear layer. Every draw is as large as its weight, so networks whose
    weights have the same shapes in the same order are looked at along the same draws.
    """
    direction = []
    for weight in weights:
        if weight.ndim < 2:
            direction.append(torch.zeros_like(weight))
            continue
        drawn = torch.randn(weight.shape, generator=generator)
        ratio = weight.flatten(1).norm(dim=1) / drawn.flatten(1).norm(dim=1)
        direction.append(drawn * ratio.view(-1, *[1] * (weight.ndim - 1)))
    return direction


def cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Of the angle between two directions, all weights as one vector."""
    one, other = (
        torch.cat([part.flatten() for part in direction]).double() for direction in (first, second)
    )
    return float(one @ other / (one.norm() * other.norm()))


def loss_and_error(
    network: nn.Module, batches: Sequence[Batch], statistics: str = "running"
) -> tuple[float, float]:
    """Mean cross-entropy in nats per image and error as a fraction; the network is left in evaluation mode, its statistics as they were.

    Raises:
        ValueError: unknown statistics; names the legal ones.
    """
    if statistics not in STATISTICS:
        raise ValueError(f"statistics {statistics!r} is unknown; legal: {', '.join(STATISTICS)}")
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


def fixed_images(count: int, wanted: int | None) -> Tensor:
    """Places, int64 (wanted,), ascending, of the training images that every point is evaluated on; all where wanted is None.

    Drawn and not the first, because folders of images come class by class.

    Raises:
        ValueError: wanted lies outside 1 to count.
    """
    wanted = count if wanted is None else wanted
    if not 1 <= wanted <= count:
        raise ValueError(
            f"images {wanted} lies outside 1 to {count}, the number of training images"
        )
    return (
        torch.randperm(count, generator=torch.Generator().manual_seed(_IMAGES_SEED))[:wanted]
        .sort()
        .values
    )


def write_surface(folder: Path, surface: Surface, points: Sequence[SurfacePoint]) -> Path:
    """Writes both files of a surface, its points first; returns the path of the latter."""
    path = folder / f"{surface.name}.csv"
    files.write_table(path, points, SurfacePoint)
    files.write_json(path.with_suffix(".json"), asdict(surface))
    return path


def measure(cell: Cell) -> str:
    """Measures what is missing of a cell's surface and writes its table; returns a line that says what there is.

    Raises:
        ValueError, OSError: there is no such trained network, the settings are illegal, or the surface was measured otherwise.
    """
    config = cell.config
    cell.check()
    at = coordinates(config.points, config.radius)
    if config.statistics not in STATISTICS:
        raise ValueError(
            f"statistics {config.statistics!r} is unknown; legal: {', '.join(STATISTICS)}"
        )
    record = cell.finished()
    if record is None:
        raise ValueError(
            cell.refusal()
            or f"{cell.folder} holds no trained network; make sweep-landscape trains it and keeps its weights"
        )
    if record.status != schema.FINISHED:
        raise ValueError(f"{cell.folder} diverged: it has no surface")
    state = torch.load(cell.folder / files.WEIGHTS_FILE, map_location="cpu", weights_only=True)
    source = cell.load_images()
    if source.fingerprint != record.data_fingerprint:
        raise ValueError(
            f"{cell.folder} was trained on other images ({record.data_fingerprint}) than these ({source.fingerprint})"
        )
    chosen = fixed_images(len(source.train), config.images)

    settings: dict[str, Any] = {
        "config_hash": record.config_hash,
        "direction_seed": config.direction_seed,
        "statistics": config.statistics,
        "images": len(chosen),
        "points": config.points,
        "radius": config.radius,
    }
    weights = _hash(state)
    network = hydra.utils.instantiate(
        config.model, num_classes=source.num_classes, in_channels=source.in_channels
    )
    network.load_state_dict(state)
    network = network.to(memory_format=torch.channels_last)
    centre = [parameter.detach().clone() for parameter in network.parameters()]
    generator = torch.Generator().manual_seed(config.direction_seed)
    across, up = random_direction(centre, generator), random_direction(centre, generator)
    commit, clean = files.repository_state(ROOT)
    surface = Surface(
        arm=cell.arm,
        depth=config.model.depth,
        seed=config.seed,
        protocol=config.protocol.name,
        data_label=config.data.label,
        num_classes=source.num_classes,
        cosine=cosine(across, up),
        weights=weights,
        data_fingerprint=source.fingerprint,
        seconds=0.0,
        precision="32-true",
        processor=machine.processor_name(torch.device("cpu")),
        commit=commit,
        clean=clean,
        python=".".join(map(str, sys.version_info[:3])),
        torch=torch.__version__,
        finished_at="",
        **settings,
    )
    path = cell.results_folder / f"{surface.name}.json"
    old = files.read_json(path)
    if old is not None and not config.force:
        differences = config_differences({name: old.get(name) for name in settings}, settings)
        if differences:
            raise ValueError(
                f"{path} was measured otherwise ({'; '.join(differences)}); FORCE=1 (force=true) replaces it, "
                "folder=… measures beside it"
            )
        if old.get("weights") == weights and path.with_suffix(".csv").exists():
            return f"skipped, finished: {path.with_suffix('.csv')}"

    normaliser = Normaliser(source.train.pixels, config.data.normalisation)
    batches = list(
        EvaluationBatches(source.train.pixels[chosen], source.train.labels[chosen], normaliser)
    )
    plane = Plane(network, centre, across, up, batches, config.statistics)
    rows = cell.folder / "surfaces" / config_hash({**settings, "weights": weights})
    _measure_rows(plane, at, rows, config.jobs, surface.name)
    found = [files.read_json(_row_file(rows, place)) for place in range(len(at))]
    points = [
        SurfacePoint(x, y, loss, error)
        for y, row in zip(at, found, strict=True)
        for x, (loss, error) in zip(at, row["points"], strict=True)
    ]
    ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    surface = replace(
        surface, seconds=round(sum(row["seconds"] for row in found), 3), finished_at=ended
    )
    written = write_surface(cell.results_folder, surface, points)
    middle = points[len(points) // 2]
    return (
        f"{written}: loss {middle.loss:.4g}, error {middle.error:.2%} at the centre, loss up to {max(point.loss for point in points):.4g} "
        f"({surface.data_label}, {surface.protocol}, {surface.images} training images, {surface.statistics} statistics)"
    )


def _measure_rows(plane: Plane, at: Sequence[float], folder: Path, jobs: int, name: str) -> None:
    left = [place for place in range(len(at)) if files.read_json(_row_file(folder, place)) is None]
    work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_measure_row)(plane, at, at[place], _row_file(folder, place)) for place in left
    )
    for _ in track(
        work, total=len(left), description=name, transient=True, disable=not sys.stdout.isatty()
    ):
        pass


def _measure_row(plane: Plane, at: Sequence[float], y: float, path: Path) -> None:
    torch.set_num_threads(1)  # rows, not threads, share the cores
    torch.set_flush_denormal(True)
    started = time.monotonic()
    points = [plane.at(x, y) for x in at]
    files.write_json(path, {"y": y, "seconds": time.monotonic() - started, "points": points})


def _row_file(folder: Path, place: int) -> Path:
    return folder / f"row-{place:03}.json"


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
    except Exception as error:  # here: Hydra prints lines of its own before it lets one through
        give_up([error])


def main() -> None:
    """The command."""
    run_command(_task, "interrupted; the same command continues")


if __name__ == "__main__":
    main()
