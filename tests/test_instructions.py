"""The vector instructions of a run: their limit, and what records and checkpoints say of them."""

import os
import subprocess
import sys

import pytest
import torch
from composing import ROOT, compose_cell
from trained import SMOKE, curve, interrupt, numbers

from plainres.data import sources
from plainres.data.images import Source
from plainres.records import files
from plainres.run import train
from plainres.training import instructions, machine
from plainres.training.instructions import LIMITS, limit_instructions

CPU = torch.device("cpu")
AVX2 = "ATen AVX2 / oneDNN AVX2"
OWN = instructions._has_avx2()
pytestmark = pytest.mark.skipif(not OWN, reason="a processor without AVX2 is not limited")


def fresh(*words: str) -> subprocess.CompletedProcess[str]:
    """A Python process whose environment limits nothing."""
    environment = {name: value for name, value in os.environ.items() if name not in LIMITS}
    options = {"capture_output": True, "text": True, "timeout": 300, "check": False}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, **options)


def trained(results, *words: str) -> list:
    """The records of a command that trains smoke cells in such a process."""
    words = (*words, *SMOKE, "accelerator=cpu", f"results_dir={results}")
    done = fresh("-m", "plainres.run.train", *words)
    assert done.returncode == 0, done.stderr
    return files.read_runs(results / "depth" / "smoke")


@pytest.fixture(scope="module")
def native() -> str:
    """What a process that nothing limits computes with."""
    script = "from plainres.training import machine; import torch; print(machine.instruction_set("
    return fresh("-c", f"{script}torch.device('cpu')))").stdout.strip()


def test_a_native_run_has_all_instructions(tmp_path, native):
    assert native.endswith(" / oneDNN ALL")
    rows = trained(tmp_path / "native", "instruction_set=native")
    assert [row.instruction_set for row in rows] == [native]


def test_the_cells_of_a_sweep_are_limited_to_avx2(tmp_path):
    rows = trained(tmp_path, "-m", "model=plain,residual", "jobs=2")
    assert [row.instruction_set for row in rows] == [AVX2] * 2


def test_so_are_the_surfaces_of_landscapes(tmp_path):
    words = ("+experiment=landscape", "keep_weights=true")
    done = fresh("-m", "plainres.run.train", *SMOKE, f"results_dir={tmp_path}", *words)
    assert done.returncode == 0, done.stderr
    words = ("points=3", "images=32", "jobs=2", f"results_dir={tmp_path}")
    done = fresh("-m", "plainres.instruments.landscape", *SMOKE, *words)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("surface-*.json")
    assert files.read_json(path)["instruction_set"] == AVX2


def test_it_is_no_part_of_a_cells_identity(tmp_path):
    cells = (compose_cell(tmp_path, f"instruction_set={name}") for name in ("AVX2", "native"))
    first, second = (cell.identity for cell in cells)
    assert first == second


@pytest.mark.parametrize("words", [(), ("-m",)])
def test_an_unknown_instruction_set_is_one_line(tmp_path, words):
    words = (*words, *SMOKE, "instruction_set=AVX512", f"results_dir={tmp_path}")
    refused = fresh("-m", "plainres.run.train", *words)
    assert refused.returncode == 2
    line = "plainres: instruction_set 'AVX512' is unknown; legal: AVX2, native\n"
    assert refused.stderr == line


def test_a_sweep_over_instruction_sets_is_refused(tmp_path):
    words = ("protocol=smoke,dry", "model.depth=8", f"results_dir={tmp_path}")
    refused = fresh("-m", "plainres.run.train", "-m", *words)
    assert refused.returncode == 2
    assert refused.stderr.endswith("have one instruction_set; a sweep for each\n")


LATE = """
import os, sys, torch
from plainres.training.instructions import limit_instructions
os.environ.update(dict(word.split("=") for word in sys.argv[1:]))
torch.ones(4) + 1
try:
    limit_instructions("AVX2")
except ValueError as error:
    print(error)
print(sorted(os.environ.keys() & {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"}))
"""


@pytest.mark.parametrize("limited", [[], ["ATEN_CPU_CAPABILITY=avx2"]])
def test_where_torch_has_computed_with_others_it_is_refused_and_nothing_is_set(native, limited):
    if not limited and "AVX2" in native:
        pytest.skip("a processor that has nothing beyond AVX2")
    line, left = fresh("-c", LATE, *limited).stdout.splitlines()
    assert line.startswith("instruction_set AVX2 comes too late: torch has already computed")
    assert line.endswith("or instruction_set=native")
    assert left == str([word.partition("=")[0] for word in limited])


def test_where_torch_has_computed_with_these_it_is_not(native):
    words = [f"{name}={value}" for name, value in LIMITS.items()]
    assert fresh("-c", LATE, *words).stdout == f"{sorted(LIMITS)}\n"


@pytest.mark.parametrize("why", ["native", "gpu", "no AVX2"])
def test_elsewhere_the_environment_stays_as_it_is(monkeypatch, why):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(instructions, "_has_avx2", lambda: why != "no AVX2")
    limit_instructions("native" if why == "native" else "AVX2", "gpu" if why == "gpu" else "cpu")
    assert not LIMITS.keys() & os.environ.keys()


@pytest.mark.parametrize(("limit", "precision"), [("AVX2", "32-true"), (None, "bf16-mixed")])
def test_precision_auto_is_float32_under_avx2(monkeypatch, limit, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    if limit is None:
        monkeypatch.delenv(instructions.ONEDNN)
    assert machine.pick_precision("auto", CPU) == precision


ARITHMETIC, TORCH = "ATen AVX512 / oneDNN ALL", "2.9"
# What another process has instead, and how a refusal says what this one has
OTHERS = {
    ARITHMETIC: (machine, "arithmetic", lambda device: ARITHMETIC, f"uses {AVX2};"),
    TORCH: (machine, "torch_version", lambda: TORCH, f"uses PyTorch {machine.torch_version()};"),
    "0123456789ab": (Source, "fingerprint", "0123456789ab", "uses images "),
}


@pytest.fixture(params=OTHERS)
def interrupted(request, tmp_path, monkeypatch):
    """A checkpoint of another process: what is other, a refusal's words, what composes its cell."""

    def compose(*words: str):
        return compose_cell(tmp_path, *SMOKE, "checkpoint_seconds=0", *words)

    sources.load_and_keep.cache_clear()
    with monkeypatch.context() as patched:
        *place, now = OTHERS[request.param]
        patched.setattr(*place)
        interrupt(compose(), 13)
    sources.load_and_keep.cache_clear()
    return request.param, now, compose


def test_a_checkpoint_of_others_is_refused_in_one_line(interrupted):
    former, now, compose = interrupted
    path = compose().folder / files.CHECKPOINT_FILE
    before = path.read_bytes()
    with pytest.raises(ValueError, match="the cell") as refused:
        train.train_cell(compose())
    line = str(refused.value)
    for words in (str(path), former, now, "FORCE=1"):
        assert words in line
    assert "\n" not in line
    assert path.read_bytes() == before


def test_kernels_and_an_unlimited_processor_stay_as_they_were(tmp_path, monkeypatch):
    def on(processor: str, kernels: str = "library"):
        monkeypatch.setattr(machine, "unlimited_processor", lambda device: processor)
        return compose_cell(tmp_path, *SMOKE, "checkpoint_seconds=0", f"kernels={kernels}")

    interrupt(on("GPU A"), 13)
    with pytest.raises(ValueError, match="was written with GPU A, and this process uses GPU B;"):
        train.train_cell(on("GPU B"))
    with pytest.raises(ValueError, match="with library kernels, and this process uses fused kern"):
        train.train_cell(on("GPU A", "fused"))
    train.train_cell(on("GPU A"))


def test_force_starts_such_a_cell_again(interrupted, tmp_path):
    undisturbed = compose_cell(tmp_path / "undisturbed", *SMOKE)
    record = train.train_cell(undisturbed)
    *_, compose = interrupted
    cell = compose("force=true")
    assert numbers(train.train_cell(cell)) == numbers(record)
    assert curve(cell) == curve(undisturbed)
