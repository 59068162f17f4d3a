"""What is done on Apple's mps and AMD's ROCm, shown without such a machine.

Tensors on mps are played by torch's meta tensors, which have device, shape, type and layout but no
numbers.
"""

import subprocess

import pytest
import torch
from composing import compose_cell
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.judging.conditions import conditions_of
from plainres.data import device
from plainres.data.batches import (
    Augmentation,
    Batch,
    EvaluationBatches,
    Normaliser,
    TrainingBatches,
)
from plainres.data.device import memory_format
from plainres.instruments import probes
from plainres.instruments.gradient_cosines import loss_gradients
from plainres.instruments.snapshots import fixed_images
from plainres.networks.resnet import CifarNetwork
from plainres.run import train
from plainres.training import grafting, machine, runlog
from plainres.training.update import UpdateRunner

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))
META = torch.device("meta")


class LikeMps(TorchDispatchMode):
    """Refuses what mps cannot do: float64, and networks on images that are not channels first.

    There batch normalisation goes wrong without an error (pytorch/pytorch issue 175189).
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, result)) if _on_meta(each)]
        assert not any(each.dtype == torch.float64 for each in tensors), f"float64 in {function}"
        if "batch_norm" in str(function) or "convolution" in str(function):
            assert not any(map(_channels_last, tensors)), f"channels last in {function}"
        return result


def _channels_last(tensor) -> bool:
    if tensor.ndim != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _on_meta(value) -> bool:
    return isinstance(value, torch.Tensor) and value.device == META


@pytest.fixture
def mps(monkeypatch):
    """Within the test meta tensors have the limits of mps."""
    move = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        if _on_meta(tensor) and args[:1] == (CPU,):  # it has no numbers to move: any will do
            dtypes = [each for each in args if isinstance(each, torch.dtype)]
            return torch.ones(tensor.shape, dtype=dtypes[0] if dtypes else tensor.dtype)
        return move(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(device, "MPS", META.type)
    with LikeMps():
        yield


def stream() -> TrainingBatches:
    images = torch.zeros(96, 3, 8, 8, dtype=torch.uint8, device=META)
    labels = torch.zeros(96, dtype=torch.int64, device=META)
    augmentation = Augmentation(2, True, 25.0, (0.8, 1.2), 1.0, 0.1)
    normaliser = Normaliser(images, "channel")
    return TrainingBatches(images, labels, normaliser, augmentation, 32, 0, 4)


def test_updates_on_mps_need_no_float64_and_keep_channels_first(mps):
    network = CifarNetwork(8, "projection", width=4).to(memory_format=memory_format(META)).to(META)
    batches, errors, losses = stream(), torch.zeros(2, device=META), torch.zeros(2, device=META)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, foreach=True)
    runner = UpdateRunner(network, batches.make_batch, optimiser, errors, losses)
    for step in batches:
        draws = {name: draw.to(META) for name, draw in step.draws.items()}
        runner.run(step.iteration, draws, [0.1])
    assert _on_meta(network.conv1.weight.grad)
    network.eval()
    for images, _ in EvaluationBatches(batches.images, batches.labels, batches.normaliser):
        assert _on_meta(network(images))


@pytest.mark.parametrize("double", [False, True])
def test_what_needs_float64_is_computed_on_the_cpu(mps, double, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda tensor: True)  # a loss without a number
    network = CifarNetwork(8, "zero_pad", width=4).to(META)
    images, labels = fixed_images(stream(), 8)
    assert _on_meta(images)
    assert probes.probe(network, images, labels, double)
    gradients = loss_gradients(network, Batch(images, labels), "float64")
    mean, variance = grafting._statistics(network.eval(), network.layer2, [images])
    assert not any(map(_on_meta, (*gradients, mean, variance)))


@pytest.fixture(params=["NVIDIA", "AMD", "Apple"])
def gpu(request, monkeypatch):
    """torch sees a GPU of this maker."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param != "Apple")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    monkeypatch.setattr(torch.version, "hip", "7.1" if request.param == "AMD" else None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: request.param == "Apple")
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: True)
    monkeypatch.setattr(machine, "_apple_chip", lambda: "a GPU")
    monkeypatch.setattr(machine, "has_triton", lambda: request.param != "Apple")
    return request.param


PICKED = {  # Lightning's accelerator, torch's device, precision, kernels, graph, name in records
    "NVIDIA": ("gpu", CUDA, "bf16-mixed", "fused", True, "a GPU"),
    "AMD": ("gpu", CUDA, "bf16-mixed", "library", False, "a GPU (ROCm)"),
    "Apple": ("mps", MPS, "32-true", "library", False, "a GPU (mps)"),
}


@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_what_is_picked_on_each_gpu(gpu, asked):
    accelerator, device = machine.pick_device(asked)
    precision = machine.pick_precision("auto", device)
    kernels = machine.pick_kernels("auto", device, precision)
    graph = machine.pick_graph(None, device)
    name = machine.processor_name(device)
    assert (accelerator, device, precision, kernels, graph, name) == PICKED[gpu]
    assert machine.pick_device("cpu") == ("cpu", CPU)


def test_a_line_says_what_a_gpu_lacks(gpu, tmp_path):
    notes = compose_cell(tmp_path, "protocol=smoke").notes()
    lines = {
        "NVIDIA": [],
        "AMD": ["AMD's ROCm: PyTorch's kernels, one by one; our own and CUDA graphs were never"],
        "Apple": ["Apple's mps: no float64 (what needs it is computed on the CPU), no CUDA graphs"],
    }
    assert [note[: len(line)] for note, line in zip(notes, lines[gpu], strict=True)] == lines[gpu]
    assert not machine.shortcomings(CPU)


def test_rows_of_different_gpus_are_never_compared(gpu, make_record):
    device = machine.pick_device("auto")[1]
    here = make_record(**machine.provenance(device))
    others = [
        make_record(**machine.provenance(device) | {"processor": name})
        for *_, name in PICKED.values()
        if name != here.processor
    ]
    assert len({conditions_of(row) for row in (here, *others)}) == len(PICKED)


def test_what_apple_cannot_do_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: False)
    with pytest.raises(ValueError, match="Apple's mps, which has no float64; legal here: auto, 32"):
        machine.pick_precision("64-true", MPS)
    with pytest.raises(ValueError, match="macOS 14 on Apple's mps; legal here: auto, 32-true"):
        machine.pick_precision("bf16-mixed", MPS)
    with pytest.raises(ValueError, match="legal here: auto, library, compiled"):
        machine.pick_kernels("fused", MPS, "32-true")


def test_a_graph_where_there_are_none_is_refused_before_anything_is_read(tmp_path):
    cell = compose_cell(tmp_path, "protocol=smoke", "accelerator=cpu", "cuda_graph=true")
    with pytest.raises(ValueError, match="this run is on cpu; legal here: null, false"):
        train.train_cell(cell)


def test_a_checkpoint_of_another_kind_of_gpu_is_not_continued(gpu):
    kinds = {"NVIDIA": "", "AMD": "ROCm", "Apple": "mps"}
    assert machine.arithmetic(machine.pick_device("auto")[1]) == kinds[gpu]


def test_the_generator_of_mps_is_kept(monkeypatch):
    states = {"now": torch.arange(3, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda device: states["now"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new, device: states.update(now=new))
    kept = runlog.generator_states()
    states["now"] = torch.zeros(3, dtype=torch.uint8)
    runlog.set_generator_states(kept)
    assert states["now"].tolist() == [0, 1, 2]


def test_a_row_names_the_chip_of_a_mac(monkeypatch):
    """Otherwise all are "arm", and rows of an M1 would be compared with those of an M4."""

    def answer(command, **options):
        assert command == ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.CompletedProcess(command, 0, "Apple M2\n")

    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.subprocess, "run", answer)
    assert machine.processor_name(CPU) == "Apple M2"
    assert machine.processor_name(MPS) == "Apple M2 (mps)"


def test_memory_on_mps_is_what_the_driver_holds_since_the_cell_began(monkeypatch):
    held = [64 * 2**20]
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: held[-1])
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: held.append(2**20))
    assert machine.peak_memory_mib(MPS) == 64
    machine.reset_peak_memory(MPS)
    assert machine.peak_memory_mib(MPS) == 1
