"""The record of a cell: its numbers and where they come from; how records become the committed tables. Imports no torch."""

import csv
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, get_type_hints

RECORD_FILE = "record.json"
CONFIG_FILE = "config.json"
CURVE_FILE = "curve.csv"
INSERTION_FILE = "insertion.csv"
BRANCH_FILE = "branches.csv"
PROBES_FILE = "probes.csv"
PROGRESS_FILE = "progress.json"
FAILURE_FILE = "failure.txt"
CHECKPOINT_FILE = "last.ckpt"
WEIGHTS_FILE = "weights.pt"
DAMAGED_CHECKPOINT_FILE = "last.corrupt"
DAMAGED = (
    f"its checkpoint is damaged: set aside as {DAMAGED_CHECKPOINT_FILE}, the cell starts again"
)
RUNS_TABLE = "runs.csv"
CURVES_TABLE = "curves.csv"
INSERTIONS_TABLE = "insertions.csv"
BRANCHES_TABLE = "branches.csv"
PROBES_TABLE = "probes.csv"

FINISHED = "finished"
DIVERGED = "diverged"

# Where files lie, how often something is looked at, and what stands elsewhere too (a network's width is model.width): none of it
# changes what a run measures.
_NOT_HASHED = frozenset(
    {
        "data.root",
        "model.checkpoint_activations",
        "protocol.width",
        "protocol.log_every",
        "protocol.evaluate_every",
    }
)

# An identity must not hang on where a class lives in the code: module today → name that rows were recorded under
_RECORDED_MODULES = {
    "plainres.networks.resnet": "plainres.network",
    "plainres.networks.blocks": "plainres.blocks",
    "plainres.networks.classics": "plainres.classics",
}


@dataclass(frozen=True)
class Record:
    """One cell: one training run of (arm, depth, seed) under one protocol. Errors are fractions in [0, 1], losses nats per image.

    `train_error` and `train_loss` are running values of training mode on augmented batches over the protocol's last
    `error_window` iterations; `train_error_eval` is evaluation mode on unaugmented training images; `test_error` and
    `val_error` are the final weights in evaluation mode. A diverged run (`status`) has none of them. `num_multiply_adds` is of one
    image's forward pass, convolutions and linear layers; `kernels` says whose trained it; `instruction_set` is what the processor's vector
    instructions were limited to (machine.instruction_set). Older records lack these three.
    """

    arm: str
    depth: int
    seed: int
    shortcut: str
    num_parameters: int
    protocol: str
    data_label: str
    num_classes: int
    status: str
    train_error: float | None
    train_error_eval: float | None
    train_loss: float | None
    test_error: float | None
    test_loss: float | None
    val_error: float | None
    iterations: int
    error_window: int
    seconds: float
    images_per_second: float
    peak_memory_mib: float
    precision: str
    processor: str
    threads: int
    config_hash: str
    data_fingerprint: str
    commit: str
    clean: bool | None
    python: str
    torch: str
    lightning: str
    finished_at: str
    num_multiply_adds: int | None = None
    kernels: str = ""
    instruction_set: str = ""

    @property
    def cell(self) -> str:
        return cell_name(self.arm, self.depth, self.seed)


@dataclass(frozen=True)
class CurvePoint:
    """One row of curves.csv; `iteration` counts finished updates, test values are there only where they were taken."""

    arm: str
    depth: int
    seed: int
    iteration: int
    train_error: float
    train_loss: float
    learning_rate: float
    test_error: float | None = None
    test_loss: float | None = None
    val_error: float | None = None


@dataclass(frozen=True)
class Insertion:
    """One row of insertions.csv: what the blocks put into a trained network changed before the child was trained.

    Arm, depth and seed are those of the parent, `blocks` is how many were inserted (0: none, the parent is trained on), `parent_weights`
    twelve hexadecimal digits of the parent's weights file. Logit differences are the largest of child and parent, `logit_size` is the
    mean size of the parent's logits, errors are fractions. `_eval`: evaluation mode, test images for the logits and unaugmented training
    images for the errors. `_batch`: training mode, each batch normalised by its own statistics, over augmented training batches.
    """

    arm: str
    depth: int
    seed: int
    blocks: int
    stage: int
    position: str
    initialisation: str
    parent_weights: str
    logit_difference_eval: float
    logit_difference_batch: float
    logit_size: float
    error_eval: float
    parent_error_eval: float
    error_batch: float
    parent_error_batch: float


@dataclass(frozen=True)
class BranchSize:
    """One row of branches.csv: ‖F(x)‖ / ‖x‖ of one residual block over all evaluated images, evaluation mode.

    `stage` from 1, `block` within it from 0; `inserted` blocks were not there when the network was first trained.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    stage: int
    block: int
    inserted: bool
    ratio: float


@dataclass(frozen=True)
class ProbePoint:
    """One row of probes.csv: what plainres.instruments.probes saw in one layer after `iteration` updates. A value that is not finite is left out.

    Args:
        layer: convolutions of the main path, from 1; 0 is the image.
        response: standard deviation over images, channels and positions of the layer's response, after batch normalisation where there
            is one, before the shortcut's addition and ReLU (the paper's Figure 7).
        weight_gradient: Euclidean norm of the loss's gradient with respect to the layer's weights.
        response_gradient: the same with respect to the convolution's output, over all images; in layer 0 to the images.
        dead: fraction of the channels behind the layer's ReLU that are zero at every position of every image.
        correlation: in layer 0: how alike gradients at neighbouring inputs are (plainres.instruments.probes.neighbours_correlation).
        seconds: in layer 0: what this look cost.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    layer: int
    response: float | None
    weight_gradient: float | None = None
    response_gradient: float | None = None
    dead: float | None = None
    correlation: float | None = None
    seconds: float | None = None


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


def cell_name(arm: str, depth: int, seed: int) -> str:
    """Name of a cell and of its folder."""
    return f"{arm}-{depth}-seed{seed}"


def cell_config(config: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """What defines the numbers of a cell, out of its resolved configuration; an option left null is as if it did not exist.

    So an option added later leaves the hash of older cells as it was, as long as null means "as before".
    """
    chosen = {
        "arm": arm,
        **{key: config[key] for key in ("seed", "model", "data", "protocol")},
        "child": config.get("child"),
    }

    def kept(node: Mapping[str, Any], path: str) -> dict[str, Any]:
        result = {}
        for key, value in sorted(node.items()):
            name = f"{path}{key}"
            if name in _NOT_HASHED or value is None:
                continue
            if key == "_target_":
                module, _, target = value.rpartition(".")
                value = f"{_RECORDED_MODULES.get(module, module)}.{target}"
            result[key] = kept(value, f"{name}.") if isinstance(value, Mapping) else value
        return result

    return kept(chosen, "")


def shared_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What all cells of one results folder share: a `cell_config` without arm, depth, shortcut, seed and parent."""
    shared = {key: value for key, value in config.items() if key not in ("arm", "seed", "parent")}
    shared["model"] = {
        key: value for key, value in config["model"].items() if key not in ("depth", "shortcut")
    }
    return shared


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a `cell_config`."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """`name: old → new` for every value in which two `cell_config`s differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += config_differences(before, after, f"{path}{key}.")
        elif before != after:
            found.append(f"{path}{key}: {before} → {after}")
    return found


def write_json(path: Path, value: Any) -> None:
    """Atomically: a reader sees the old file or the new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomically, in UTF-8; makes the folder."""
    with atomic(path) as part:
        part.write(text.encode())


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when the block ends well, and is gone when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as part:
        try:
            yield part
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            os.replace(part.name, path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def read_json(path: Path) -> Any:
    """The file's value, or None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def read_record(cell_folder: Path) -> Record | None:
    """The record of a finished cell, or None; what it holds beyond the schema is passed over.

    Raises:
        ValueError: a value without default is missing; names file and value.
    """
    path = cell_folder / RECORD_FILE
    values = read_json(path)
    if not values:
        return None
    if lacking := sorted(_required(Record) - set(values)):
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    return Record(
        **{field.name: values[field.name] for field in fields(Record) if field.name in values}
    )


def write_record(cell_folder: Path, record: Record) -> None:
    write_json(cell_folder / RECORD_FILE, asdict(record))


def write_table(path: Path, rows: Sequence[Any], row_type: type) -> None:
    """A CSV file with one column per field; six significant digits, empty where there is no value."""
    names = [field.name for field in fields(row_type)]
    lines = [",".join(names)]
    for row in rows:
        lines.append(",".join(_quoted(_written(getattr(row, name))) for name in names))
    write_text(path, "\n".join(lines) + "\n")


def read_table(path: Path, row_type: type) -> list[Any]:
    """The rows of a CSV file as `row_type`, none where there is no file; unknown columns are passed over.

    Raises:
        ValueError: a column without default is missing or a value does not fit; names file, line and column.
    """
    if not path.exists():
        return []
    kinds = get_type_hints(row_type)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        if missing := sorted(_required(row_type) - columns):
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
        kinds = {name: kind for name, kind in kinds.items() if name in columns}
        rows = []
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row.values():
                raise ValueError(f"{where}: the row is cut short")
            rows.append(
                row_type(
                    **{
                        name: _read(row[name], kind, f"{where}, {name}")
                        for name, kind in kinds.items()
                    }
                )
            )
        return rows


def read_runs(folder: Path) -> list[Record]:
    """The records in a results folder's runs.csv."""
    return read_table(folder / RUNS_TABLE, Record)


def read_curves(folder: Path) -> list[CurvePoint]:
    """The points in a results folder's curves.csv."""
    return read_table(folder / CURVES_TABLE, CurvePoint)


def read_probes(folder: Path) -> list[ProbePoint]:
    """The points in a results folder's probes.csv."""
    return read_table(folder / PROBES_TABLE, ProbePoint)


def write_surface(folder: Path, surface: Surface, points: Sequence[SurfacePoint]) -> Path:
    """Writes both files of a surface, its points first; returns the path of the latter."""
    path = folder / f"{surface.name}.csv"
    write_table(path, points, SurfacePoint)
    write_json(path.with_suffix(".json"), asdict(surface))
    return path


def read_surfaces(folder: Path) -> list[tuple[Surface, list[SurfacePoint]]]:
    """The surfaces of a results folder with their points, by name of their files.

    Raises:
        ValueError: a file is damaged, or the points are not as many as the surface says; names it.
    """
    found = []
    for path in sorted(folder.glob("surface-*.json")):
        values = read_json(path) or {}
        if lacking := sorted(_required(Surface) - set(values)):
            raise ValueError(f"{path} lacks {', '.join(lacking)}")
        surface = Surface(**{field.name: values[field.name] for field in fields(Surface)})
        points = read_table(path.with_suffix(".csv"), SurfacePoint)
        if len(points) != surface.points**2:
            raise ValueError(
                f"{path.with_suffix('.csv')} has {len(points)} points instead of {surface.points**2}"
            )
        found.append((surface, points))
    return found


def gather(folder: Path) -> list[Record]:
    """Takes the finished cells of `folder`/runs into runs.csv, curves.csv and the other tables; rows of cells that have no folder stay.

    Cells of another configuration than `folder`/config.json are passed over. Returns all records of the table, sorted by arm, depth and
    seed.
    """
    found = {}
    shared = read_json(folder / CONFIG_FILE)
    for path in sorted((folder / "runs").glob("*/" + RECORD_FILE)):
        record, own = read_record(path.parent), read_json(path.parent / CONFIG_FILE)
        if shared and own and shared_config(own) != shared:
            continue
        if (
            record and record.cell == path.parent.name
        ):  # a folder that was set aside has another name
            found[record.cell] = record
    runs = [record for record in read_runs(folder) if record.cell not in found] + list(
        found.values()
    )
    runs.sort(key=lambda row: (row.arm, row.depth, row.seed))
    if runs:
        write_table(folder / RUNS_TABLE, runs, Record)
    for file, table, row_type in (
        (CURVE_FILE, CURVES_TABLE, CurvePoint),
        (INSERTION_FILE, INSERTIONS_TABLE, Insertion),
        (BRANCH_FILE, BRANCHES_TABLE, BranchSize),
        (PROBES_FILE, PROBES_TABLE, ProbePoint),
    ):
        _gather_table(folder, found, file, table, row_type)
    return runs


def _gather_table(
    folder: Path, found: Iterable[str], file: str, table: str, row_type: type
) -> None:
    """Takes the rows that each found cell has in `file` into `folder`/`table`; no rows, no table."""
    old = [
        row
        for row in read_table(folder / table, row_type)
        if cell_name(row.arm, row.depth, row.seed) not in found
    ]
    rows = old + [
        row for cell in found for row in read_table(folder / "runs" / cell / file, row_type)
    ]
    if rows:
        rows.sort(
            key=lambda row: (row.arm, row.depth, row.seed)
        )  # stable: each cell's rows keep their order
        write_table(folder / table, rows, row_type)


def repository_state(folder: Path) -> tuple[str, bool | None]:
    """The commit checked out in `folder` and whether its files, results apart, are as committed; ("unknown", None) outside git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    try:
        return git("rev-parse", "HEAD").strip(), not git(
            "status", "--porcelain", "--", ".", ":(top,exclude)results"
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown", None


def _required(row_type: type) -> set[str]:
    return {field.name for field in fields(row_type) if field.default is MISSING}


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    return (
        '"' + text.replace('"', '""') + '"'
        if any(character in text for character in ',"\r\n')
        else text
    )


def _read(text: str, kind: Any, where: str) -> Any:
    options: Iterable[Any] = getattr(kind, "__args__", (kind,))
    if text == "" and type(None) in options:
        return None
    target = next(option for option in options if option is not type(None))
    try:
        return {"True": True, "False": False}[text] if target is bool else target(text)
    except (ValueError, KeyError):
        raise ValueError(f"{where}: {text!r} is no {target.__name__}") from None
