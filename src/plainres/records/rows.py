"""Rows of the tables that instruments write beside a cell's record. Imports no torch."""

from dataclasses import dataclass

# Of a HorizonPoint: float32 with images and weights in the layout (N, C, H, W). There the library's
# normalisation on a CPU sums in float64
CONTIGUOUS = "float32_contiguous"


@dataclass(frozen=True)
class ProbePoint:
    """One row of probes.csv: one layer after `iteration` updates.

    Values that are not finite are left out.

    Args:
        layer: convolutions of the main path, from 1; 0 is the image.
        response: standard deviation of the layer's response over images, channels and positions,
            after batch normalisation if there is one, before the addition of the shortcut and the
            ReLU (the paper's Figure 7).
        weight_gradient: Euclidean norm of the gradient of the loss by the layer's weights.
        response_gradient: the same by the convolution's output, over all images; in layer 0 by the
            images.
        dead: fraction of channels that the layer's ReLU makes zero at every position of every
            image.
        correlation: in layer 0: `neighbours_correlation`.
        seconds: in layer 0: duration of the probe.
        passed: what the layer passes on, behind the addition of the shortcut and the ReLU: its
            standard deviation over images and positions, root mean square over channels. By so
            much the next batch normalisation divides what comes from this layer.
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
    passed: float | None = None


@dataclass(frozen=True)
class BlockSignal:
    """One row of backward_gain.csv: the output of one block after `iteration` updates.

    Values that are not finite are left out.

    Args:
        layer: blocks in the order of the network, from 1.
        gain: Euclidean norm of the gradient at this output, divided by that at the output of the
            last block, where it is a standard normal direction. Over all images.
        response: standard deviation over images, channels and positions.
        cosine: of two images' outputs, mean over all pairs.
        seconds: of the snapshot, in layer 1.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    layer: int
    gain: float | None
    response: float | None
    cosine: float | None
    seconds: float | None = None


@dataclass(frozen=True)
class HorizonPoint:
    """One row of horizon.csv: a network's gradient in one precision after `iteration` updates.

    A cosine is that of the angle between a gradient and the exact one: 1 into the exact direction,
    0 at a right angle to it. A gradient that is 0 or not finite points nowhere: 0.

    Args:
        precision: a key of gradient_cosines.PRECISIONS.
        cosine: of all parameters together. Where gradients grow towards the input, the first layers
            decide it.
        median_cosine: median over the convolutions of the cosine of a layer's weights.
        normalisation_error: relative error of the output of the first batch normalisation, the
            norm of the difference over the norm; None without one.
        seconds: in the first row: duration of the snapshot.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    precision: str
    cosine: float
    median_cosine: float
    normalisation_error: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class SketchPoint:
    """One row of sketch.csv: the weights after `iteration` updates.

    Args:
        norm: Euclidean norm of all weights.
        projections: DIRECTIONS numbers, separated by spaces: products of the weights with vectors
            of independent standard normal numbers.
        seconds: duration of the snapshot.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    norm: float
    projections: str
    seconds: float | None = None


@dataclass(frozen=True)
class GradientCosine:
    """One row of gradient_cosines.csv: the weights of one layer after `iteration` updates.

    A cosine is that of the angle between a gradient and the exact one of the same weights and
    images: 1 into the exact direction, 0 at a right angle to it. An error is the norm of the
    difference of the two, divided by the norm of the exact one. Values that are not finite are left
    out, as those of a gradient that is 0.

    Args:
        layer: convolutions in the order of the network, from 1; 0: all parameters together.
        cosine_images: between the exact gradients of the images and of as many other ones, which
            says how much two batches agree.
        seconds: in layer 0: duration of the snapshot.
    """

    arm: str
    depth: int
    seed: int
    iteration: int
    layer: int
    cosine_float32: float | None
    error_float32: float | None
    cosine_bf16: float | None
    error_bf16: float | None
    cosine_images: float | None
    seconds: float | None = None


@dataclass(frozen=True)
class Insertion:
    """One row of insertions.csv: what inserted blocks change before the child is trained.

    Arm, depth and seed are those of the parent; `blocks` is the number of inserted blocks, 0 for a
    parent that is trained on; `parent_weights` has twelve hexadecimal digits of the weights file.

    Logit differences are the largest between child and parent; `logit_size` is the mean size of the
    parent's logits; errors are fractions. `_eval`: evaluation mode, test images for the logits and
    unaugmented training images for the errors. `_batch`: training mode, each batch normalised by
    its own statistics, augmented training batches.
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
class BranchNorm:
    """One row of branches.csv: ‖F(x)‖ / ‖x‖ of a residual block after `iteration` updates.

    `stage` counts from 1, `block` within it from 0; `inserted` blocks are those that
    plainres.training.grafting put into a trained network.
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
class SurfacePoint:
    """One row of a surface table: loss (nats per image) and error at centre + x·across + y·up."""

    x: float
    y: float
    loss: float
    error: float


@dataclass(frozen=True)
class Surface:
    """A trained network's loss on a plane of weights, with provenance; a CSV file has its points.

    Args:
        direction_seed: of the pair of directions.
        statistics: of batch normalisation, one of landscape.STATISTICS.
        images: number of training images that every point is evaluated on.
        points: on a side of the grid.
        radius: the grid reaches from -radius to radius; at 1 a filter has moved by its own norm.
        cosine: of the angle between the two directions, all weights as one vector.
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
    finished_at: str
    commit: str
    clean: bool | None
    python: str
    torch: str
    lightning: str
    processor: str
    instruction_set: str
    precision: str
    kernels: str
