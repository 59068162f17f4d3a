"""Rows of the tables that every experiment has: records and curves."""

from dataclasses import dataclass, field

from plainres.records.identity import cell_name

FINISHED = "finished"
DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class Record:
    """One cell: one training run of (arm, depth, seed) under one protocol.

    Errors are fractions in [0, 1], losses nats per image. A diverged run (`status`) has none. What
    each value may be: plainres.records.checks.

    Args:
        train_error, train_loss: means of training mode on augmented batches, over the last
            `error_window` iterations.
        train_error_eval: evaluation mode, on unaugmented training images.
        test_error, test_loss, val_error: evaluation mode, with the final weights; test_loss is
            None where it is not finite.
        seconds: of training and the evaluations within it.
        precision: Lightning's name, such as bf16-mixed.
        commit: of the code; several with + between where a run went on with other code.
        num_multiply_adds: convolutions and linear layers, forward pass of one image.
        kernels: library, compiled or fused.
        instruction_set: the vector instructions in use (training.machine.instruction_set).
        parent: config_hash of the network that a child continues with; "": of no child.
        devices: over which Lightning's DDP divided each batch; processor and memory are of the
            first one. Older records lack these five.
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
    parent: str = ""
    devices: int = 1

    @property
    def cell(self) -> str:
        return cell_name(self.arm, self.depth, self.seed)

    @property
    def contradiction(self) -> str:
        """What makes no sense together; "" for nothing."""
        for name in ("train_error", "train_error_eval", "train_loss", "test_error"):
            if (getattr(self, name) is None) != (self.status == DIVERGED):
                value = "no value" if self.status == FINISHED else "a value"
                return f"{name} has {value}, and the run is {self.status}"
        return ""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One row of curves.csv; `iteration` counts updates.

    Test values where they were taken; test_loss is None where it is not finite.
    """

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
class Progress:
    """How far a running cell is.

    Args:
        pid: of the process that trains it.
        seconds, seconds_remaining: of training; the latter None before it can be estimated.
        sweep: id of the sweep that the run belongs to; None: of none.
        notice: what the sweep's display says once, as of a damaged checkpoint; "": nothing.
        train_errors: the curve so far, at intervals of equal length, the last one now.
    """

    pid: int
    iteration: int
    iterations: int
    train_error: float | None
    seconds: float
    seconds_remaining: float | None
    sweep: str | None = None
    notice: str = ""
    train_errors: list[float] = field(default_factory=list)


def is_limited(instruction_set: str) -> bool:
    """Whether oneDNN had a limit, by a record's instruction set; "" of a GPU has none."""
    return bool(instruction_set) and not instruction_set.endswith("oneDNN ALL")


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
