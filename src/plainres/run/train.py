"""Configuration → objects → fit → one record. `python -m plainres.run.train`, with -m for a sweep."""

import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig

from plainres.records import files, schema
from plainres.records.errors import give_up, one_line, run_command
from plainres.records.identity import config_hash
from plainres.records.schema import describe
from plainres.run.cell import CONF, ROOT, Cell, claim_tables

if (
    TYPE_CHECKING
):  # torch is imported where it is used: a sweep with nothing left to do ends in seconds
    from plainres.data.images import Source
    from plainres.training.machine import Precision

LOG = logging.getLogger(__name__)
GPU_ITERATIONS_PER_CHUNK = 100  # on a GPU, about 0.1 s
FITTED_BATCHES = 20  # training batches that an inserted block's statistics are taken from, and its effect on training mode
ERROR_IMAGES = 4000  # training images for the errors before a child is trained


def train_cell(cell: Cell) -> schema.Record:
    """Trains one cell from where it stands and writes its record; returns a finished cell's record as it is.

    Raises:
        ValueError, OSError: the configuration, the data or the folder cannot be used; names what is wrong.
    """
    cell.check()
    with cell.locked():
        if record := cell.finished():
            return record
        cell.claim_folder()
        return _fit(cell)


def _fit(cell: Cell) -> schema.Record:
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.loggers import TensorBoardLogger

    from plainres.data.batches import Augmentation, Normaliser, TrainingBatches
    from plainres.data.images import Images, evaluation_parts
    from plainres.networks.summary import summarise
    from plainres.training import machine
    from plainres.training.module import Classifier
    from plainres.training.runlog import RunLog
    from plainres.training.update import updates_per_step

    config, protocol, folder = cell.config, cell.config.protocol, cell.folder
    depth, seed = config.model.depth, config.seed
    threads = config.threads or _num_threads(config.jobs)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    machine.keep_freed_memory()
    _quiet_lightning()
    accelerator, device = machine.pick_device(config.accelerator)
    commit, clean = files.repository_state(ROOT)

    source = load_source(config)
    described = cell.identity
    augmentation = Augmentation(
        **{
            **described["protocol"]["augmentation"],
            "mirror": protocol.augmentation.mirror and config.data.mirror,
        }
    )

    pl.seed_everything(seed, verbose=False)
    network = _network(config, source).to(memory_format=torch.channels_last)
    multiply_adds = sum(
        layer.multiply_adds for layer in summarise(network, source.train.pixels.shape[1:])
    )

    pixels, labels = source.train.pixels.to(device), source.train.labels.to(device)
    normaliser = Normaliser(pixels, config.data.normalisation)
    evaluate_every = min(protocol.evaluate_every, protocol.iterations)
    wanted = config.updates_per_step or (GPU_ITERATIONS_PER_CHUNK if accelerator == "gpu" else 1)
    chunk = updates_per_step(wanted, protocol.log_every, evaluate_every)
    checkpoint, start, chunk, precision = _checkpoint(
        folder, chunk, machine.pick_precision(protocol.precision, device)
    )
    if updates_per_step(chunk, protocol.log_every, evaluate_every) != chunk:
        raise ValueError(
            f"{folder} continues with {chunk} updates per step; log_every {protocol.log_every} and evaluate_every {evaluate_every} "
            f"must be multiples of {chunk}, the latter a larger one"
        )
    stream = TrainingBatches(
        pixels,
        labels,
        normaliser,
        augmentation,
        protocol.batch_size,
        seed,
        protocol.iterations,
        start,
        updates_per_step=chunk,
    )
    window = protocol.error_window or stream.iterations_per_epoch
    parts = dict(evaluation_parts(source))
    loaders = [
        _evaluated(part, protocol.evaluation_images, normaliser, device) for part in parts.values()
    ]

    if config.child is not None:
        network = _child(cell, network.to(device), parts["test"], source.train, stream, normaliser)
        multiply_adds = sum(
            layer.multiply_adds for layer in summarise(network, source.train.pixels.shape[1:])
        )

    kernels = take_kernels(network, machine.pick_kernels(config.kernels, device, precision))
    runlog = RunLog(
        cell.arm,
        depth,
        seed,
        folder,
        protocol.log_every,
        evaluate_every,
        config.checkpoint_seconds,
        iterations=protocol.iterations,
        batch_size=protocol.batch_size,
        updates_per_step=chunk,
        precision=precision,
        stop_with_parent=_is_worker(),
    )
    logger = TensorBoardLogger(
        folder, name="", version="", default_hp_metric=False, purge_step=start or None
    )
    logger.experiment.add_text("data", config.data.label, start)
    module = Classifier(
        network,
        make_batch=stream.make_batch,
        learning_rate=lambda iteration: cell.schedule.at(iteration, depth),
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        window=min(window, protocol.iterations),
        evaluated=tuple(parts),
        nesterov=bool(protocol.nesterov),
        clip_norm=protocol.clip_norm,
        bf16=precision == "bf16-mixed",
        graph=config.cuda_graph,
        auxiliary_weight=config.model.get("auxiliary_weight"),
    )
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        benchmark=accelerator == "gpu",  # all batches have one shape
        max_epochs=1,  # the stream is one long epoch
        val_check_interval=evaluate_every // chunk,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=len(stream),
        logger=logger,
        callbacks=[
            runlog,
            *(hydra.utils.instantiate(observer) for observer in (config.callbacks or {}).values()),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    machine.reset_peak_memory(device)
    try:
        trainer.fit(module, stream, loaders, ckpt_path=checkpoint, weights_only=True)
    finally:
        runlog.close()
    diverged = runlog.diverged
    train_error = train_loss = train_error_eval = None
    final: dict[str, float] = {}
    if not diverged:
        train_error, train_loss = module.running_error_and_loss()
        final = _evaluate(
            trainer, module, loaders
        )  # the last evaluation within the run need not be at its end
        train_eval = _evaluated(
            Images(pixels, labels), protocol.evaluation_images, normaliser, device
        )
        train_error_eval = _evaluate(trainer, module, [train_eval])[f"{module.evaluated[0]}_error"]
    record = schema.Record(
        arm=cell.arm,
        depth=depth,
        seed=seed,
        shortcut=config.model.get("shortcut", ""),
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        protocol=protocol.name,
        data_label=config.data.label,
        num_classes=source.num_classes,
        status=schema.DIVERGED if diverged else schema.FINISHED,
        train_error=train_error,
        train_error_eval=train_error_eval,
        train_loss=train_loss,
        test_error=final.get("test_error"),
        test_loss=final.get("test_loss"),
        val_error=final.get("val_error"),
        iterations=module.iteration,
        error_window=module.window,
        seconds=runlog.seconds,
        images_per_second=module.iteration * protocol.batch_size / runlog.seconds,
        peak_memory_mib=machine.peak_memory_mib(device),
        precision=precision,
        processor=machine.processor_name(device),
        threads=threads,
        config_hash=config_hash(described),
        data_fingerprint=source.fingerprint,
        commit=commit,
        clean=clean,
        python=".".join(map(str, sys.version_info[:3])),
        torch=torch.__version__,
        lightning=pl.__version__,
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        num_multiply_adds=multiply_adds,
        kernels=kernels,
        instruction_set=machine.instruction_set(device),
    )
    runlog.write_summary(logger, record)
    files.write_table(folder / files.CURVES_TABLE, runlog.curve, schema.CurvePoint)
    if config.keep_weights:
        with files.atomic(folder / files.WEIGHTS_FILE) as part:
            torch.save(network.state_dict(), part)
    files.write_record(folder, record)  # last: from here on the cell is finished
    for spent in (files.CHECKPOINT_FILE, files.FAILURE_FILE):
        (folder / spent).unlink(missing_ok=True)
    return record


def _child(cell: Cell, network: Any, test: Any, train: Any, stream: Any, normaliser: Any) -> Any:
    """The network that the cell's parent became, with the cell's blocks in it; leaves what they change as a row of insertion.csv.

    Args:
        network: of the parent's shape, on the device.
        test, train: images of the source.
        stream: the cell's training batches.
    """
    from plainres.training import grafting as surgery

    assert cell.parent_folder is not None
    child, device = cell.config.child, next(network.parameters()).device
    weights = surgery.load_parent(network, cell.parent_folder / files.WEIGHTS_FILE)
    batches = [stream.batch(step) for step in range(min(FITTED_BATCHES, stream.stop))]
    initialisation = surgery.resolve(child.initialisation, cell.config.model.shortcut)
    grown = surgery.insert(
        network,
        child.blocks,
        child.stage,
        child.position,
        initialisation,
        [batch.images for batch in batches],
    )
    some, every = (
        _evaluated(train, ERROR_IMAGES, normaliser, device),
        _evaluated(test, None, normaliser, device),
    )
    changed = surgery.effect(network, grown, every, some, batches)
    row = surgery.Insertion(
        arm=cell.arm,
        depth=cell.config.model.depth,
        seed=cell.config.seed,
        blocks=child.blocks,
        stage=child.stage,
        position=child.position,
        initialisation=initialisation,
        parent_weights=weights,
        **asdict(changed),
    )
    files.write_table(cell.folder / "insertions.csv", [row], surgery.Insertion)
    return grown.train()


def _network(config: DictConfig, source: "Source") -> Any:
    """The network, untrained; what it says of an illegal value passes through Hydra as it is."""
    try:
        return hydra.utils.instantiate(
            config.model, num_classes=source.num_classes, in_channels=source.in_channels
        )
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def take_kernels(network: Any, kernels: str) -> str:
    """Prepares the network, in place, for the kernels it is to train with; returns those that it has in the end."""
    from plainres.networks.blocks import compile_blocks

    if kernels == "fused":
        from plainres.training.fused import fuse_blocks

        if not fuse_blocks(network):
            kernels = "compiled"
    if kernels == "compiled":
        compile_blocks(network)
    return kernels


def load_source(config: DictConfig) -> "Source":
    """The images that a configuration names."""
    from plainres.data import sources

    chosen = config.data
    return sources.load_and_keep(
        chosen.name, chosen.root, chosen.image_size, chosen.val_size, chosen.pad_to
    )


def _evaluated(part: Any, count: int | None, normaliser: Any, device: Any) -> Any:
    """`count` images of a part of the source, or all, on the device, to be evaluated."""
    from plainres.data.batches import EvaluationBatches, evenly_spaced

    chosen = evenly_spaced(len(part), count)
    return EvaluationBatches(
        part.pixels[chosen].to(device), part.labels[chosen].to(device), normaliser
    )


def _evaluate(trainer: Any, module: Any, loaders: list) -> dict[str, float]:
    trainer.validate(module, loaders, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _checkpoint(
    folder: Path, chunk: int, precision: "Precision"
) -> tuple[Path | None, int, int, "Precision"]:
    """The checkpoint to continue from, its iteration, the iterations of its chunks, its precision; the last two as given without one.

    Chunks keep their length over interruptions, because Lightning counts them, and a run keeps its precision on whatever machine it
    goes on. A damaged checkpoint is set aside, and the sweep's display says so.
    """
    import torch

    from plainres.training.runlog import RunLog

    path, aside = folder / files.CHECKPOINT_FILE, folder / files.DAMAGED_CHECKPOINT_FILE
    if not path.exists():
        return None, 0, chunk, precision
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        kept = checkpoint["callbacks"][RunLog.__qualname__]
        found = path, checkpoint["iteration"], kept["updates_per_step"], kept["precision"]
    except Exception as error:
        path.replace(aside)
        aside.touch()
        line = f"{folder.name}: {files.DAMAGED} ({type(error).__name__})"
        LOG.warning(line)
        if not _in_sweep():
            print(line, file=sys.stderr)
        return None, 0, chunk, precision
    LOG.info("continues at iteration %d", found[1])
    return found


def _num_threads(jobs: int) -> int:
    """Threads of one cell when `jobs` of them share the cores; a cell that runs alone has all."""
    from plainres.training import machine

    cores = machine.num_cores()
    if not _in_sweep():
        return cores
    return max(1, cores // jobs) if jobs > 0 else 1


def _quiet_lightning() -> None:
    """Lightning's own lines go where the cell's log goes, not to the terminal."""
    logging.captureWarnings(True)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _is_worker() -> bool:
    """Whether a sweep started this process: not where it is the sweep itself (jobs=1), whose parent, a shell, may end before it."""
    return multiprocessing.parent_process() is not None


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def _task(config: DictConfig) -> None:
    cell = Cell(config, HydraConfig.get().runtime.choices["model"])
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        _train_in_sweep(cell)
        return
    try:
        print(f"{describe(train_cell(cell))}: {cell.folder}")
        if line := claim_tables([cell]):
            print(line)
        files.gather(cell.results_folder)
    except (ValueError, OSError) as error:
        give_up([error])


def _train_in_sweep(cell: Cell) -> None:
    """One bad cell ends as a line of the sweep's report; the others go on."""
    if cell.parent_diverged:
        return  # the sweep has said so
    try:
        train_cell(cell)
    except SystemExit:  # SIGTERM, as Lightning hands it on: a worker of joblib would take the next cell, or wait for one for minutes
        if _is_worker():
            os._exit(128 + signal.SIGTERM)
        raise
    except Exception as error:
        LOG.error("%s", traceback.format_exc())
        known = isinstance(error, (ValueError, OSError))
        text = (
            one_line(error)
            if known
            else f"{type(error).__name__}: {one_line(error)}; traceback in {cell.folder}/train.log"
        )
        files.write_text(cell.folder / files.FAILURE_FILE, text + "\n")


def main() -> None:
    """The command."""
    run_command(_task, "interrupted; the same command continues")


if __name__ == "__main__":
    main()
