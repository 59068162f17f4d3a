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
