"""The rows of tables: what one training run measured and where. Imports no torch."""

from dataclasses import dataclass

from plainres.records.identity import cell_name

FINISHED = "finished"
DIVERGED = "diverged"


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


def describe(record: Record) -> str:
    """A finished cell as one line."""
    if record.status == DIVERGED:
        return f"{record.cell}: diverged at iteration {record.iterations} ({record.data_label})"
    return (
        f"{record.cell}: train_error {record.train_error:.2%}, "
        f"test_error {record.test_error:.2%} ({record.data_label}, {record.protocol}, "
        f"{record.iterations} iterations, {duration(record.seconds)})"
    )


def duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss; `?:??` where they are unknown."""
    if seconds is None:
        return "?:??"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
