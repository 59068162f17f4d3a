"""Configuration → objects → fit → one record. `python -m plainres.train`, with -m for a sweep."""

import fcntl
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from plainres import record as records
from plainres.depth import num_blocks

if TYPE_CHECKING:  # torch is imported where it is used: a sweep with nothing left to do ends in seconds
    from plainres.data import Source

ROOT = Path(__file__).resolve().parents[2]
LOG = logging.getLogger("plainres")
CHECKPOINT_FILE = "last.ckpt"
LOCK_SECONDS = 60  # an orphan of a killed sweep notices within a few steps that its parent is gone


@dataclass(frozen=True)
class Cell:
    """One (arm, depth, seed) under one protocol, and the folder it lives in."""

    config: DictConfig
    arm: str

    @property
    def name(self) -> str:
        return records.cell_name(self.arm, self.config.model.depth, self.config.seed)

    @property
    def protocol_folder(self) -> Path:
        return Path(self.config.results_dir) / self.config.slug / self.config.protocol.name

    @property
    def folder(self) -> Path:
        return self.protocol_folder / "runs" / self.name

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the cell's numbers; its hash is the record's config_hash."""
        container = OmegaConf.to_container(self.config, resolve=True)
        assert isinstance(container, dict)
        return records.cell_config({str(key): value for key, value in container.items()}, self.arm)

    def check(self) -> None:
        """Raises ValueError for a configuration that no run can have; names what is legal."""
        num_blocks(self.config.model.depth)
        missing = OmegaConf.missing_keys(self.config)
        if missing:
            name = sorted(missing)[0]
            raise ValueError(f"{name} is not set; add {name}=… (data={self.config.data.name} needs it)")

    def finished(self) -> records.Record | None:
        """The record of this very configuration, if there is one."""
        record = records.read_record(self.folder)
        if record is None and self.config.missing:
            record = next((row for row in records.read_runs(self.protocol_folder) if row.cell == self.name), None)
        return record if record and record.config_hash == records.config_hash(self.identity) else None

    def refusal(self) -> str | None:
        """One line where the cell's folder belongs to another configuration, else None."""
        old = records.read_json(self.folder / records.CONFIG_FILE)
        if old is None or old == self.identity:
            return None
        return (
            f"{self.folder} was measured under another configuration ({'; '.join(records.config_differences(old, self.identity))}); "
            "FORCE=1 (force=true) sets it aside, NAME=… (protocol.name=…) measures beside it"
        )


def train_cell(cell: Cell) -> records.Record:
    """Trains one cell from where it stands and writes its record; returns a finished cell's record as it is.

    Raises:
        ValueError, OSError: the configuration, the data or the folder cannot be used; names what is wrong.
    """
    cell.check()
    if record := cell.finished():
        return record
    with _locked(cell.folder):
        if cell.config.force and cell.refusal():
            _set_aside(cell.folder)
        if refusal := cell.refusal():
            raise ValueError(refusal)
        if record := cell.finished():  # another sweep may have finished it while we waited
            return record
        records.write_json(cell.folder / records.CONFIG_FILE, cell.identity)
        return _fit(cell)


def _fit(cell: Cell) -> records.Record:
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.loggers import TensorBoardLogger

    from plainres import data
    from plainres.batches import Augmentation, EvaluationBatches, Normaliser, TrainingBatches
    from plainres.module import Classifier
    from plainres.runlog import RunLog
    from plainres.schedule import Schedule

    config, protocol, folder = cell.config, cell.config.protocol, cell.folder
    depth, seed = config.model.depth, config.seed
    threads = config.threads or _threads(config.jobs)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    _quiet_lightning()
    accelerator, device = _device(config.accelerator)
    precision = _precision(protocol.precision, device)
    commit, clean = records.repository_state(ROOT)

    source = load_source(config)
    identity = cell.identity
    schedule = Schedule(protocol.learning_rate, protocol.iterations, **identity["protocol"]["schedule"])
    augmentation = Augmentation(**{**identity["protocol"]["augmentation"], "mirror": protocol.augmentation.mirror and config.data.mirror})

    pl.seed_everything(seed, verbose=False)
    network = hydra.utils.instantiate(config.model, num_classes=source.num_classes, in_channels=source.in_channels)
    network = network.to(memory_format=torch.channels_last)

    pixels, labels = source.train.pixels.to(device), source.train.labels.to(device)
    normaliser = Normaliser(pixels, config.data.normalisation)
    stream = TrainingBatches(pixels, labels, normaliser, augmentation, protocol.batch_size, seed, stop=protocol.iterations)
    window = protocol.error_window or stream.steps_per_epoch
    parts = dict(data.parts(source))
    loaders = [EvaluationBatches(part.pixels.to(device), part.labels.to(device), normaliser) for part in parts.values()]

    checkpoint, start = _checkpoint(folder / CHECKPOINT_FILE)
    stream.start = start
    runlog = RunLog(cell.arm, depth, seed, folder, protocol.log_every, config.checkpoint_seconds, stop_with_parent=_is_sweep_worker())
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False, purge_step=start or None)
    module = Classifier(
        network,
        learning_rate=lambda iteration: schedule.at(iteration, depth),
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        window=min(window, protocol.iterations),
        evaluated=tuple(parts),
    )
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_steps=protocol.iterations,
        max_epochs=-1,
        val_check_interval=min(protocol.evaluate_every, protocol.iterations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=protocol.iterations,
        logger=logger,
        callbacks=[runlog],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    _reset_peak_memory(device)
    try:
        trainer.fit(module, stream, loaders, ckpt_path=checkpoint, weights_only=True)
    finally:
        runlog.close()
    diverged = runlog.diverged
    train_error = train_loss = train_error_eval = None
    final: dict[str, float] = {}
    if not diverged:
        train_error, train_loss = module.running_error_and_loss()
        final = _evaluate(trainer, module, loaders)  # the last evaluation within the run need not be at its end
        train_eval = EvaluationBatches(pixels, labels, normaliser)
        train_error_eval = _evaluate(trainer, module, [train_eval])[f"{module.evaluated[0]}_error"]
    record = records.Record(
        arm=cell.arm,
        depth=depth,
        seed=seed,
        shortcut=config.model.get("shortcut", ""),
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        protocol=protocol.name,
        data_label=config.data.label,
        num_classes=source.num_classes,
        status=records.DIVERGED if diverged else records.FINISHED,
        train_error=train_error,
        train_error_eval=train_error_eval,
        train_loss=train_loss,
        test_error=final.get("test_error"),
        test_loss=final.get("test_loss"),
        val_error=final.get("val_error"),
        iterations=trainer.global_step,
        error_window=module.window,
        seconds=runlog.seconds,
        images_per_second=trainer.global_step * protocol.batch_size / runlog.seconds,
        peak_memory_mib=_peak_memory_mib(device),
        precision=str(trainer.precision),
        processor=_processor(device),
        threads=threads,
        config_hash=records.config_hash(identity),
        data_fingerprint=source.fingerprint,
        commit=commit,
        clean=clean,
        python=".".join(map(str, sys.version_info[:3])),
        torch=torch.__version__,
        lightning=pl.__version__,
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    runlog.write_summary(logger, record)
    records.write_table(folder / records.CURVE_FILE, runlog.curve, records.CurvePoint)
    records.write_record(folder, record)  # last: from here on the cell is finished
    for spent in (CHECKPOINT_FILE, records.FAILURE_FILE):
        (folder / spent).unlink(missing_ok=True)
    return record


def load_source(config: DictConfig) -> "Source":
    """The images that a configuration names."""
    from plainres import data

    return data.load(config.data.name, config.data.root, config.data.image_size, config.data.val_size)


def _evaluate(trainer: Any, module: Any, loaders: list) -> dict[str, float]:
    trainer.validate(module, loaders, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _checkpoint(path: Path) -> tuple[Path | None, int]:
    """The checkpoint to continue from and its iteration; a damaged one is set aside."""
    import torch

    if not path.exists():
        return None, 0
    try:
        iteration = int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:
        aside = path.with_suffix(".corrupt")
        os.replace(path, aside)
        LOG.warning("checkpoint %s is damaged (%s): set aside as %s, the cell starts again", path, type(error).__name__, aside.name)
        return None, 0
    LOG.info("continues at iteration %d", iteration)
    return path, iteration


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps two processes from training one cell; the lock goes with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    with path.open("a+") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise OSError(f"{folder} is being trained by process {file.read().strip()}; wait for it or stop it") from None
                time.sleep(0.5)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _set_aside(folder: Path) -> None:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    folder.rename(aside)
    LOG.info("set aside as %s", aside)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(jobs: int) -> int:
    jobs = jobs if jobs > 0 else _cores()
    return max(1, _cores() // jobs) if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN else _cores()


def _device(accelerator: str) -> tuple[str, Any]:
    import torch

    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("accelerator 'gpu' was asked for, but torch sees no GPU; legal here: cpu")
    if accelerator not in ("cpu", "gpu"):
        raise ValueError(f"accelerator {accelerator!r} is unknown; legal: auto, cpu, gpu")
    return accelerator, torch.device("cuda" if accelerator == "gpu" else "cpu")


def _precision(requested: str, device: Any) -> str:
    """`auto`: bf16 where the processor multiplies it natively, else float32."""
    import torch

    legal = ("auto", "32-true", "bf16-mixed")
    if requested not in legal:
        raise ValueError(f"protocol.precision {requested!r} is unknown; legal: {', '.join(legal)}")
    if requested != "auto":
        return requested
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        if not capabilities and hasattr(torch.cpu, "_is_avx512_bf16_supported"):
            native = torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if native else "32-true"


def _processor(device: Any) -> str:
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _reset_peak_memory(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again, as a worker trains many cells
    except OSError:
        pass


def _peak_memory_mib(device: Any) -> float:
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _quiet_lightning() -> None:
    """Lightning's own lines go where the cell's log goes, not to the terminal."""
    logging.captureWarnings(True)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _is_sweep_worker() -> bool:
    if not HydraConfig.initialized():
        return False
    chosen = HydraConfig.get()
    return chosen.mode == RunMode.MULTIRUN and "joblib" in str(chosen.launcher.get("_target_", ""))


def one_line(error: BaseException) -> str:
    """An error as one line: Hydra's own are cut where its search path begins."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None and type(error).__module__.startswith("hydra"):
        text = f"{text} ({error.__cause__})"
    return " ".join(text.split("Config search path")[0].split())


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="train")
def _task(config: DictConfig) -> None:
    cell = Cell(config, HydraConfig.get().runtime.choices["model"])
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        train_cell(cell)
        return
    try:
        train_cell(cell)
    except Exception as error:  # one bad cell ends as a line of the sweep's report; the others go on
        LOG.error("%s", traceback.format_exc())
        known = isinstance(error, (ValueError, OSError))
        text = one_line(error) if known else f"{type(error).__name__}: {one_line(error)}; traceback in {cell.folder}/train.log"
        records.write_text(cell.folder / records.FAILURE_FILE, text + "\n")


def main() -> None:
    """The command: one line on stderr and a status other than 0 for whatever cannot be done."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as they are
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:joblib")
    try:
        _task()
    except KeyboardInterrupt:
        print("plainres: interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if wants_traceback:
            raise
        print(f"plainres: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
