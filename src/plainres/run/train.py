"""Trains one cell: build, fit, measure. `python -m plainres.run.train`, with -m for a sweep."""

import logging
import math
import multiprocessing
import os
import sys
import traceback
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainres.records import stopping

if __name__ == "__main__":  # before the other imports, which take a second
    stopping.listen()

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from plainres.records import files, schema
from plainres.records.errors import FAILED, give_up, one_line, run_command
from plainres.records.identity import config_hash
from plainres.run.cell import BusyError, Cell, claim_tables, set_other_images_aside, standing
from plainres.run.config import CONF, STREAMED, announce, images_at_once
from plainres.run.processes import BUSY
from plainres.run.ranks import DeviceError, beside
from plainres.run.trained import write_preparation
from plainres.training.instructions import limit_instructions
from plainres.training.launchers import no_launcher

# torch is imported inside functions: a sweep with nothing left to do ends in seconds
if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

    from plainres.data.batches import EvaluationBatches, Share, TrainingBatches
    from plainres.data.images import Images, Source
    from plainres.data.streaming import StreamedBatches, StreamedEvaluation
    from plainres.training.devices import DeviceEnvironment
    from plainres.training.machine import Precision
    from plainres.training.module import Classifier
    from plainres.training.runlog import RunLog, Start

    Stream = TrainingBatches | StreamedBatches
    Evaluation = EvaluationBatches | StreamedEvaluation

LOG = logging.getLogger(__name__)
GPU_UPDATES_PER_STEP = 100  # 0.3 to 1.2 s on an H100 with four cells at once


@dataclass(frozen=True)
class Run:
    """The objects of one training run.

    Args:
        start: where it begins: at iteration 0 or at a checkpoint.
        loaders: of the evaluated sets, in the order of `module.evaluated`.
        num_multiply_adds: of one image's forward pass.
        provenance: see plainres.training.machine.provenance.
        port: at which the processes of several devices find each other.
    """

    cell: Cell
    source: "Source"
    start: "Start"
    stream: "Stream"
    loaders: "list[Evaluation]"
    num_multiply_adds: int
    module: "Classifier"
    runlog: "RunLog"
    trainer: "pl.Trainer"
    device: "torch.device"
    provenance: dict[str, Any]
    port: int


def train_cell(cell: Cell) -> schema.Record:
    """Trains a cell, from its checkpoint if it has one, and writes its record.

    Returns the record; of a finished cell the one that it has.

    Raises:
        ValueError, OSError: configuration, data or folder cannot be used; names what is wrong.
    """
    cell.check()
    if not os.access(cell.folder, os.W_OK) and (record := cell.finished()):
        return record  # nobody can hold its lock
    with cell.locked():
        return _train_locked(cell)


def _train_locked(cell: Cell) -> schema.Record:
    if record := cell.finished():
        cell.tidy()  # a kill may have come between the record and this
        return record
    cell.claim_folder()
    files.remove_parts(cell.folder)
    run = build(cell)
    with stopping.deferred(), beside(cell, _train_beside, run.start, run.port):
        fit(run)
        record = measure(run)
        _save(run, record)
    return record


def _train_beside(cell: Cell, start: "Start", port: int, rank: int) -> None:
    """The same run in the process of another device; it writes nothing."""
    logging.getLogger().addHandler(logging.NullHandler())
    run = build(cell, rank, start, port)
    with stopping.deferred():
        fit(run)
        measure(run)


@no_launcher()
def build(cell: Cell, rank: int = 0, start: "Start | None" = None, port: int = 0) -> Run:
    """Makes the objects of a run from the configuration of its cell.

    Args:
        rank: of the device of this process among those of the run.
        start, port: of the Run of the first device; None and 0: this is it.
    """
    limit_instructions(cell.config.instruction_set, cell.config.accelerator)
    import pytorch_lightning as pl
    from lightning_fabric.plugins.environments.lightning import find_free_network_port

    from plainres.data.batches import Share
    from plainres.data.device import memory_format
    from plainres.data.images import evaluation_parts
    from plainres.networks.summary import summarise
    from plainres.training import devices, machine

    config = cell.config
    share = Share(rank, config.devices)
    _prepare_process(config)
    accelerator, device = machine.pick_device(config.accelerator)
    device = devices.pick(device, share)
    machine.pick_graph(config.cuda_graph, device)  # refused here, before images are read
    source = cell.load_images()
    for note in cell.notes() if rank == 0 else ():
        LOG.info(note)
        if not _in_sweep():
            print(note, file=sys.stderr)

    pl.seed_everything(config.seed, verbose=False)
    network = _network(cell, source).to(memory_format=memory_format(device))
    start = start or _start(cell, source, device)
    stream = _training_batches(cell, source, device, start, share)
    if config.keep_weights and rank == 0:
        write_preparation(cell, source, stream.normaliser)
    evaluated = dict(evaluation_parts(source))
    loaders = [_evaluation(cell, part, stream) for part in evaluated.values()]
    if config.child is not None:
        network = _child(cell, network.to(device), stream, source.test)
    layers = summarise(network, source.train.pixels.shape[1:])
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    if start.precision == "64-true":
        network = network.double()
    kernels = machine.pick_kernels(start.kernels, device, start.precision)
    kernels = devices.pick_kernels(config.kernels, kernels, share)
    shape = (images_at_once(config), *source.train.pixels.shape[1:])
    used = machine.use_kernels(network, kernels, device, shape)
    if config.kernels == "fused" and used != "fused":
        raise ValueError(f"kernels fused are not for this network and batch; legal: auto, {used}")
    if start.path is not None and used != start.kernels:
        raise ValueError(
            f"{start.path} was written with {start.kernels} kernels, and this network has {used} "
            "ones; continue with the network and batch that it began with"
        )
    start = replace(start, kernels=used)

    module = _module(cell, network, stream, tuple(evaluated), start.precision)
    runlog = _runlog(cell, start, share)
    port = port or find_free_network_port()
    environment = devices.DeviceEnvironment(share, port)
    options = devices.options(config, network, device)
    trainer = _trainer(cell, accelerator, runlog, stream, environment, options)
    # Lightning would end the process in its own way
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    code = (start.commit, start.clean)
    provenance = machine.provenance(device, start.precision, used, code)
    return Run(
        cell, source, start, stream, loaders, multiply_adds, module, runlog, trainer, device,
        provenance, port,
    )  # fmt: skip


@no_launcher()
def fit(run: Run) -> None:
    """Trains to the last iteration, or until the loss is not finite.

    Raises:
        ValueError: the checkpoint is intact but cannot be continued; names it and what to do.
    """
    import torch

    from plainres.training import machine

    machine.reset_peak_memory(run.device)
    path = run.start.path
    try:
        run.trainer.fit(run.module, run.stream, run.loaders, ckpt_path=path, weights_only=True)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        if path is None or run.runlog.running or isinstance(error, torch.OutOfMemoryError):
            raise
        raise _of_other_code(path, error) from error
    finally:
        run.runlog.close()


def _of_other_code(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} does not fit this code ({one_line(error)}); continue with the code that wrote "
        f"it, or delete {path.parent}/*.ckpt and the cell starts again"
    )


@no_launcher()
def measure(run: Run) -> schema.Record:
    """Evaluates the final weights; returns the record of the run."""
    import torch

    from plainres.training import machine

    cell, config, module = run.cell, run.cell.config, run.module
    errors = _final_errors(run)
    return schema.Record(
        arm=cell.arm,
        depth=config.model.depth,
        seed=config.seed,
        shortcut=config.model.get("shortcut", ""),
        num_parameters=sum(parameter.numel() for parameter in module.network.parameters()),
        num_multiply_adds=run.num_multiply_adds,
        protocol=config.protocol.name,
        data_label=config.data.label,
        num_classes=run.source.num_classes,
        data_fingerprint=run.source.fingerprint,
        config_hash=config_hash(cell.identity),
        parent=cell.identity.get("parent", ""),
        status=schema.DIVERGED if run.runlog.diverged else schema.FINISHED,
        **errors,
        iterations=module.iteration,
        error_window=module.window,
        seconds=run.runlog.seconds,
        images_per_second=module.iteration * run.stream.batch_size / run.runlog.seconds,
        peak_memory_mib=machine.peak_memory_mib(run.device),
        threads=torch.get_num_threads(),
        finished_at=machine.timestamp(),
        devices=config.devices,
        **run.provenance,
    )


def _prepare_process(config: DictConfig) -> None:
    """Threads, memory and logging of the process, before anything is computed."""
    import torch

    from plainres.training import machine

    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    machine.keep_freed_memory()
    logging.captureWarnings(True)
    for name in (
        "pytorch_lightning",
        "lightning.pytorch",
        "lightning_fabric",
        "lightning.fabric",
    ):  # into the cell's log file
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _network(cell: Cell, source: "Source") -> Any:
    """The untrained network, its weights perturbed where the protocol says so."""
    from plainres.networks.blocks import perturb

    network = cell.untrained(source)
    config = cell.config
    if config.protocol.perturbation is not None:
        perturb(network, config.protocol.perturbation, config.seed)
    return network


def _start(cell: Cell, source: "Source", device: "torch.device") -> "Start":
    """The checkpoint to continue from, or iteration 0.

    A checkpoint of other vector instructions, images, another PyTorch, or kernels or a processor
    that matter, is refused: a record names one, and with the former one the same command continues.
    `force` starts the cell again.
    """
    from plainres.training import machine
    from plainres.training.runlog import Start
    from plainres.training.update import updates_per_step

    protocol, every = cell.config.protocol, _evaluate_every(cell)
    limit = cell.config.updates_per_step or (GPU_UPDATES_PER_STEP if device.type == "cuda" else 1)
    if cell.config.data.name == STREAMED or protocol.schedule.kind == "plateau":
        limit = 1  # a batch is large, and a plateau is judged between two updates
    updates = updates_per_step(limit, protocol.log_every, every)
    instructions = machine.arithmetic(device)
    precision = machine.pick_precision(protocol.precision, device)
    kernels = machine.pick_kernels(cell.config.kernels, device, precision)
    commit, clean = files.repository_state(machine.ROOT)
    fresh = Start(
        path=None,
        iteration=0,
        updates_per_step=updates,
        precision=precision,
        instruction_set=instructions,
        config_hash=config_hash(cell.identity),
        kernels=kernels,
        torch=machine.torch_version(),
        images=source.fingerprint,
        processor=machine.unlimited_processor(device),
        commit=commit,
        clean=clean,
    )
    start = _newest_checkpoint(cell, fresh)
    if start.path is None:
        return start
    made_with = (
        (start.instruction_set or "a GPU", instructions or "a GPU"),
        (f"PyTorch {start.torch or fresh.torch}", f"PyTorch {fresh.torch}"),
        (f"images {start.images or fresh.images}", f"images {fresh.images}"),
        *[(start.processor, fresh.processor)] * bool(start.processor and fresh.processor),
        *[(f"{start.kernels} kernels", f"{kernels} kernels")] * (cell.config.kernels != "auto"),
    )
    if unlike := [pair for pair in made_with if len(set(pair)) > 1]:
        was, now = map(" and ".join, zip(*unlike, strict=True))
        line = f"{start.path} was written with {was}, and this process uses {now}"
        if not cell.config.force:
            raise ValueError(
                f"{line}; continue with what it began with, or FORCE=1 (force=true) starts the "
                "cell again"
            )
        LOG.warning("%s: the cell starts again", line)
        return replace(fresh, notice=start.notice)
    updates = start.updates_per_step
    if updates_per_step(updates, protocol.log_every, every) != updates:
        raise ValueError(
            f"{cell.folder} continues with {updates} updates per step; log_every "
            f"{protocol.log_every} and evaluate_every {every} must be multiples of {updates}, "
            "the latter a larger one"
        )
    LOG.info("continues at iteration %d", start.iteration)
    return start.continued(fresh.commit, fresh.clean)


def _newest_checkpoint(cell: Cell, fresh: "Start") -> "Start":
    """The newest checkpoint that is intact, else `fresh`. Damaged ones are set aside, and said."""
    from plainres.training.runlog import OtherCodeError, read_checkpoint

    start, damage = fresh, []
    if cell.config.keep_weights and (cell.folder / files.RECORD_FILE).exists():
        damage.append(f"{files.WEIGHTS_FILE} is missing or damaged")  # else it would be finished
    for path in [cell.folder / name for name in files.CHECKPOINT_FILES]:
        if not path.exists():
            continue
        try:
            start = read_checkpoint(path, fresh.config_hash, cell.config.protocol.iterations)
            break
        except (OSError, MemoryError):
            raise
        except OtherCodeError as error:
            raise _of_other_code(path, error) from error
        except Exception as error:
            if isinstance(error, RuntimeError) and "memory" in str(error):  # torch's
                raise
            aside = path.replace(path.with_suffix(files.DAMAGED_SUFFIX))
            what = one_line(error) if isinstance(error, ValueError) else type(error).__name__
            damage.append(f"{path.name} is damaged ({what}): set aside as {aside.name}")
    if not damage:
        return start
    end = f"it continues at iteration {start.iteration}" if start.path else "it starts again"
    notice = "; ".join([*damage, end])
    LOG.warning("%s: %s", cell.name, notice)
    if not _in_sweep():
        print(f"{cell.name}: {notice}", file=sys.stderr)
    return replace(start, notice=notice)


def _evaluate_every(cell: Cell) -> int:
    return min(cell.config.protocol.evaluate_every, cell.config.protocol.iterations)


def _workers(config: DictConfig) -> int:
    from plainres.training import machine

    return max(1, machine.num_cores() - 1) if config.workers is None else config.workers


def _evaluation(cell: Cell, images: Any, stream: "Stream", crops: int = 1) -> "Evaluation":
    from plainres.data.batches import EvaluationBatches

    config, count = cell.config, cell.config.protocol.evaluation_images
    if config.data.name != STREAMED:
        return EvaluationBatches(
            images.pixels, images.labels, stream.normaliser, count=count, share=stream.share
        )
    from plainres.data.streaming import StreamedEvaluation

    return StreamedEvaluation(
        images, stream.normaliser, _workers(config), crops, count, stream.share
    )


def _training_batches(
    cell: Cell, source: "Source", device: "torch.device", start: "Start", share: "Share"
) -> "Stream":
    from plainres.data.batches import Augmentation, Normaliser, TrainingBatches

    config, protocol = cell.config, cell.config.protocol
    mirror = protocol.augmentation.mirror and config.data.mirror
    augmentation = {**cell.identity["protocol"]["augmentation"], "mirror": mirror}
    if config.data.name == STREAMED:
        from plainres.data.streaming import StreamedBatches

        return StreamedBatches(
            source.train,  # type: ignore[arg-type]
            config.data.normalisation,
            Augmentation(**augmentation),
            protocol.batch_size,
            config.seed,
            protocol.iterations,
            start.iteration,
            share,
            device,
            _workers(config),
        )
    pixels, labels = source.train.pixels.to(device), source.train.labels.to(device)
    return TrainingBatches(
        pixels,
        labels,
        Normaliser(pixels, config.data.normalisation),
        Augmentation(**augmentation),
        protocol.batch_size,
        config.seed,
        protocol.iterations,
        start.iteration,
        start.updates_per_step,
        share,
    )


def _child(cell: Cell, network: Any, stream: "Stream", test: "Images") -> Any:
    """The network that `child._target_` makes of the parent's; it is trained instead.

    The function gets the arguments below and the options of `child`, except `parent`.

    Args:
        network: untrained, of the parent's shape, on the device.
    """
    assert cell.parent_folder is not None
    options: Any = OmegaConf.to_container(cell.config.child, resolve=True)
    del options["parent"]
    if "_target_" not in options:
        raise ValueError(
            "child._target_ is not set: the function that makes the network of the parent's"
        )
    continue_parent = hydra.utils.instantiate(options, _partial_=True)
    return continue_parent(
        network,
        weights=cell.parent_folder / files.WEIGHTS_FILE,
        folder=cell.folder,
        cell=(cell.arm, cell.config.model.depth, cell.config.seed),
        stream=stream,
        test=test,
    )


def _module(
    cell: Cell,
    network: Any,
    stream: "Stream",
    evaluated: tuple[str, ...],
    precision: "Precision",
) -> "Classifier":
    from plainres.training import machine
    from plainres.training.module import Classifier
    from plainres.training.schedule import Plateau

    config, protocol, schedule = cell.config, cell.config.protocol, cell.schedule
    window = min(protocol.error_window or stream.iterations_per_epoch, protocol.iterations)
    plateau = None
    if schedule.patience is not None and schedule.threshold is not None:
        plateau = Plateau(window, schedule.patience, schedule.threshold)
    return Classifier(
        network,
        make_batch=stream.make_batch,
        learning_rate=lambda iteration: schedule.at(
            iteration, config.model.depth, plateau.drops if plateau else ()
        ),
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        window=window,
        evaluated=evaluated,
        nesterov=bool(protocol.nesterov),
        clip_norm=protocol.clip_norm,
        dtype=machine.DTYPES[precision],
        graph=config.cuda_graph,
        auxiliary_weight=config.model.get("auxiliary_weight"),
        accumulate=protocol.accumulate or 1,
        devices=config.devices,
        plateau=plateau,
    )


def _runlog(cell: Cell, start: "Start", share: "Share") -> "RunLog":
    from plainres.training.runlog import RunLog

    config, protocol = cell.config, cell.config.protocol
    return RunLog(
        (cell.arm, config.model.depth, config.seed),
        cell.folder,
        start,
        protocol.log_every,
        _evaluate_every(cell),
        config.checkpoint_seconds,
        protocol.iterations,
        protocol.batch_size,
        share,
    )


def _trainer(
    cell: Cell,
    accelerator: str,
    runlog: "RunLog",
    stream: "Stream",
    environment: "DeviceEnvironment",
    options: dict[str, Any],
) -> "pl.Trainer":
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import TensorBoardLogger

    from plainres.training.checkpoints import TwoCheckpoints

    callbacks = (cell.config.callbacks or {}).values()
    # The checkpoint has all events up to it: a killed run's files may have fewer, more, or a torn
    # one. purge_step makes a TensorBoard that has read them forget them
    if environment.global_rank() == 0:
        for path in cell.folder.glob("events.out.tfevents.*"):
            path.unlink()
    logger = TensorBoardLogger(
        cell.folder, name="", version="", default_hp_metric=False, purge_step=0
    )
    logger.experiment.add_text("data", cell.config.data.label, stream.start)
    return pl.Trainer(
        accelerator=accelerator,
        benchmark=accelerator == "gpu",  # all batches have one shape
        max_epochs=1,  # the stream is one long epoch
        val_check_interval=_evaluate_every(cell) // stream.updates_per_step,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=len(stream),
        logger=logger,
        plugins=[TwoCheckpoints(), environment],
        callbacks=[runlog, *map(hydra.utils.instantiate, callbacks)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=cell.folder,
        **options,
    )


def _final_errors(run: Run) -> dict[str, Any]:
    """Errors and losses of the record by name; all None where the run diverged."""
    evaluated = ("test_error", "test_loss", "val_error")
    if run.runlog.diverged:
        return dict.fromkeys(("train_error", "train_loss", "train_error_eval", *evaluated))
    train_error, train_loss = run.module.running_error_and_loss()
    # Again, because the last evaluation within the run need not be at its end
    # and streamed test images may have ten crops now
    loaders = run.loaders
    if crops := run.cell.config.data.test_crops:
        loaders = [_evaluation(run.cell, run.source.test, run.stream, crops), *loaders[1:]]
    metrics = _evaluate(run, loaders)
    test_loss = metrics.pop("test_loss")
    if math.isfinite(test_loss):
        metrics["test_loss"] = test_loss
    train = _evaluation(run.cell, run.source.train, run.stream)
    return {
        "train_error": train_error,
        "train_loss": train_loss,
        "train_error_eval": _evaluate(run, [train])[f"{run.module.evaluated[0]}_error"],
        **{name: metrics.get(name) for name in evaluated},
    }


def _evaluate(run: Run, loaders: "list[Evaluation]") -> dict[str, float]:
    run.trainer.validate(run.module, loaders, verbose=False)
    return {name: float(value) for name, value in run.trainer.callback_metrics.items()}


def _save(run: Run, record: schema.Record) -> None:
    """Writes the cell's files; the record last: with it the cell is finished."""
    from plainres.training import checkpoints

    folder = run.cell.folder
    run.runlog.write_summary(run.trainer.logger, record)
    files.write_table(folder / files.CURVES_TABLE, run.runlog.curve, schema.CurvePoint)
    if run.cell.config.keep_weights:
        checkpoints.save(run.module.network.state_dict(), folder / files.WEIGHTS_FILE)
    files.write_record(folder, record)
    run.cell.tidy()


def _in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _is_worker() -> bool:
    """Whether a launcher of ours started this process, and takes its cell again when it is free."""
    return multiprocessing.parent_process() is not None


def task(config: DictConfig) -> None:
    """What Hydra runs; of a sweep one cell."""
    cell = Cell(config, HydraConfig.get().runtime.choices["model"])
    if _in_sweep():
        _train_in_sweep(cell)
        return
    announce([config])
    stopping.what_stands = lambda: standing([cell])
    try:
        cell.check()
        if (refusal := cell.refusal()) and not config.force:
            raise ValueError(refusal)
        if cell.damage:
            print(cell.damage, file=sys.stderr)
        record = cell.finished()
        if record is None or cell.has_own_images:
            limit_instructions(config.instruction_set, config.accelerator)
            if record is None:  # errors show before tables are set aside
                cell.notes()
                cell.check_parts()
            set_other_images_aside([(cell, record)] if record else [])
        if line := claim_tables([cell]):
            print(line)
        print(f"{schema.describe(train_cell(cell))}: {cell.folder}")
        files.gather(cell.results_folder)
    except DeviceError as error:
        give_up([str(error)], FAILED)
    except Exception as error:  # here, because Hydra prints lines of its own before it re-raises
        give_up([error])


def _train_in_sweep(cell: Cell) -> None:
    """A cell that fails becomes one line of the sweep's report; the others go on."""
    if cell.parent_diverged:
        return  # the sweep has reported it
    try:
        with cell.locked(wait=not _is_worker()):
            try:
                _train_locked(cell)
            except Exception as error:
                LOG.error("%s", traceback.format_exc())
                text = one_line(error)
                if not isinstance(error, (ValueError, OSError, DeviceError)):
                    text = f"{type(error).__name__}: {text}; traceback in {cell.folder}/train.log"
                cell.write_failure(text)
    except BusyError:
        sys.exit(BUSY)


def main() -> None:
    """The command."""
    command = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)
    run_command(command)


if __name__ == "__main__":
    # Under its own name, by which launchers send `task` to other processes
    import_module("plainres.run.train").main()
