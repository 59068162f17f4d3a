"""A cell and its folder: what is finished, what continues, what has another configuration.

Imports no torch.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from plainres.networks.depth import check_configured_depth
from plainres.records import files, schema
from plainres.records.checks import PATTERNS
from plainres.records.errors import one_line
from plainres.records.identity import (
    cell_config,
    cell_name,
    config_differences,
    config_hash,
    row_hash,
    shared_config,
)
from plainres.records.locks import Users, is_locked, try_lock
from plainres.run.config import CONF, check_effects, check_keys, check_ranges, images_at_once
from plainres.training.instructions import check_instruction_set
from plainres.training.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

    from plainres.data.images import Source

LOG = logging.getLogger(__name__)
LOCK_SECONDS = 0.5  # between two tries


class BusyError(OSError):
    """Another process trains the cell."""


@dataclass(frozen=True)
class Cell:
    """One (arm, depth, seed) under one protocol, and the folder it lives in."""

    config: DictConfig
    arm: str

    @classmethod
    def of(cls, config: DictConfig) -> "Cell":
        """The cell of what Hydra composed, its `hydra` node included."""
        own = deepcopy(config)
        with open_dict(own):
            del own["hydra"]
        return cls(own, config.hydra.runtime.choices["model"])

    @cached_property
    def name(self) -> str:
        return cell_name(self.arm, self.config.model.depth, self.config.seed)

    @cached_property
    def results_folder(self) -> Path:
        """Where this machine keeps the cell's folder and the tables."""
        return Path(self.config.results_dir) / self.config.slug / self.config.folder

    @cached_property
    def committed_folder(self) -> Path:
        return Path(self.config.committed_dir) / self.config.slug / self.config.folder

    @cached_property
    def folder(self) -> Path:
        return self.results_folder / "runs" / self.name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What defines the cell's numbers; its hash is the record's config_hash."""
        own = self._own_identity
        return own if self.parent_folder is None else {**own, "parent": self._parent_hash()}

    @cached_property
    def _own_identity(self) -> dict[str, Any]:
        """The identity but for that of the parent, which may not be trained yet."""
        container = OmegaConf.to_container(self.config, resolve=True)
        assert isinstance(container, dict)
        return cell_config({str(key): value for key, value in container.items()}, self.arm)

    @property
    def parent_folder(self) -> Path | None:
        """The folder of the trained network that this cell continues with; None: a new network."""
        child = self.config.child
        if not isinstance(child, DictConfig):
            return None
        if "parent" not in child:
            raise ValueError("child.parent is missing: the results folder of a trained network")
        return Path(self.config.results_dir, self.config.slug, child.parent, "runs", self.name)

    @property
    def parent_diverged(self) -> bool:
        """Whether the parent diverged; such a cell cannot be trained, and a sweep skips it."""
        record = None if self.parent_folder is None else files.read_record(self.parent_folder)
        return record is not None and record.status == schema.DIVERGED

    def _parent_hash(self) -> str:
        """The config_hash of the parent's record, which is part of the child's identity.

        Raises:
            ValueError: no finished parent with weights; names the command that trains it.
        """
        assert self.parent_folder is not None
        record = files.read_record(self.parent_folder)
        if record is None or not files.has_weights(self.parent_folder):
            raise ValueError(
                f"{self.parent_folder} has no trained network with its weights; "
                f"make sweep-{self.config.slug} trains it first (python -m plainres.run.train "
                f"-m +experiment={self.config.slug} generation=parent)"
            )
        if record.status == schema.DIVERGED:
            raise ValueError(f"{self.parent_folder} diverged: nothing can be inserted into it")
        return record.config_hash

    @cached_property
    def schedule(self) -> Schedule:
        """The learning rate of the protocol."""
        protocol = self._own_identity["protocol"]
        return Schedule(protocol["learning_rate"], protocol["iterations"], **protocol["schedule"])

    def load_images(self) -> "Source":
        """The images of the configuration; those of the last call are kept."""
        from plainres.data.sources import load_and_keep

        data = self.config.data
        return load_and_keep(
            data.name, data.root, data.image_size, data.val_size, data.pad_to, data.test_share
        )

    def notes(self) -> list[str]:
        """What the user has to know before the cell runs: of its images, kernels and device.

        Raises:
            ValueError: it cannot run with these images, or on this machine; names what is legal.
        """
        from plainres.data.batches import check_batches, check_normalisation
        from plainres.training import machine

        source = self.load_images()
        check_batches(len(source.train), self.config.protocol.batch_size)
        check_normalisation(self.config.data.normalisation, source.in_channels)
        notes = list(source.notes)
        # Only the machine that trains need have a GPU
        if self.config.accelerator != "gpu" or machine.gpus():
            _, device = machine.pick_device(self.config.accelerator)
            precision = machine.pick_precision(self.config.protocol.precision, device)
            machine.pick_kernels(self.config.kernels, device, precision)
            machine.pick_graph(self.config.cuda_graph, device)
            notes.append(machine.missing_kernels(self.config.kernels, device, precision))
            notes.append(machine.shortcomings(device))
        return list(filter(None, notes))

    def untrained(self, source: "Source") -> "nn.Module":
        """The untrained network of the configuration, for these images.

        Raises:
            ValueError: there is none; names what is legal.
            InstantiationException: `_target_` does not take these options, or fails.
        """
        try:
            return instantiate(
                self.config.model, num_classes=source.num_classes, in_channels=source.in_channels
            )
        except InstantiationException as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None
            raise

    def check_parts(self) -> None:
        """For the machine that trains: builds the network, passes an image, imports callbacks.

        Raises:
            ValueError, InstantiationException: device, callbacks or network cannot be had, or the
                network takes no such images; names what is legal.
        """
        from plainres.networks.summary import summarise
        from plainres.training import machine

        machine.pick_device(self.config.accelerator)
        for name, callback in (self.config.callbacks or {}).items():
            try:
                get_object(callback["_target_"])
            except Exception as error:  # an import may fail in any way
                raise ValueError(
                    f"callbacks.{name}._target_ {callback['_target_']} cannot be imported "
                    f"({one_line(error)})"
                ) from error
        source = self.load_images()
        summarise(self.untrained(source), source.train.pixels.shape[1:])

    def check(self) -> None:
        """Raises ValueError for a configuration that no run can have; names what is legal."""
        _check_place(self.config.slug, self.config.folder)
        words, pattern = PATTERNS["arm"]
        if not re.fullmatch(pattern, self.arm):
            raise ValueError(f"model={self.arm} names the arm; legal: {words} without a folder")
        check_configured_depth(self.config.model["_target_"], self.config.model.depth)
        if (
            self.arm == "plain"
            and (shortcut := self.config.model.get("shortcut", "none")) != "none"
        ):
            raise ValueError(
                f"model.shortcut {shortcut} in the plain arm, which has none; "
                "ARMS=residual (model=residual) has them"
            )
        if self.arm == "residual" and self.config.model.get("shortcut") == "none":
            raise ValueError(
                "model.shortcut none in the residual arm; ARMS=plain (model=plain) has none"
            )
        missing = OmegaConf.missing_keys(self.config)
        if missing:
            raise ValueError(
                f"{min(missing)} is not set; data={self.config.data.name} needs {min(missing)}=…"
            )
        check_keys(self.config)
        check_ranges(self.config)
        images_at_once(self.config)
        check_effects(self.config)
        check_instruction_set(self.config.instruction_set)
        if self.config.child is not None and self.config.protocol.perturbation is not None:
            raise ValueError(
                "protocol.perturbation changes initial weights, and a child has those of its "
                "parent; null: no change"
            )
        if self.config.child is not None and self.config.protocol.precision == "64-true":
            raise ValueError(
                "protocol.precision 64-true with a child, whose parent's weights are read in "
                "float32; legal: 32-true, bf16-mixed, auto"
            )
        _ = self.schedule  # raises ValueError for numbers that fit no run

    def finished(self) -> schema.Record | None:
        """The record of this configuration, or None.

        With `missing` a committed row counts too. With `keep_weights` a cell without intact weights
        is not finished.
        """
        record = self._record()
        if self.config.keep_weights and not files.has_weights(self.folder):
            return None
        if record is None:
            return self.committed
        return record if record.config_hash == config_hash(self.identity) else None

    @property
    def committed(self) -> schema.Record | None:
        """The committed row of this configuration, where `missing` says that it counts."""
        if not self.config.missing:
            return None
        rows, own = files.read_runs(self.committed_folder), config_hash(self.identity)
        return next((row for row in rows if (row.cell, row.config_hash) == (self.name, own)), None)

    @property
    def damage(self) -> str:
        """A line where the cell's record is damaged, else "". Training sets such a record aside.

        The same configuration gives the same numbers again, and a sweep may run unattended.
        """
        try:
            files.read_record(self.folder)
        except files.DamagedFileError as error:
            return f"{self.name}: {error} (aside: {self._damaged_record.name})"
        return ""

    @property
    def _damaged_record(self) -> Path:
        return (self.folder / files.RECORD_FILE).with_suffix(files.DAMAGED_SUFFIX)

    def _record(self) -> schema.Record | None:
        """The record in the cell's folder; None for a damaged one."""
        with suppress(files.DamagedFileError):
            return files.read_record(self.folder)
        return None

    def refusal(self) -> str | None:
        """One line where the cell's folder was measured under another configuration, else None."""
        record, old = self._record(), _readable_config(self.folder)
        own = config_hash(self.identity)
        if record is None:
            started = self.has_checkpoint or (self.folder / files.RECORD_FILE).exists()
            if not started or old is None or config_hash(old) == own:
                return None
        elif record.config_hash == own:
            return None
        if old is None:
            differences = f"its {files.CONFIG_FILE} is damaged or gone"
        elif config_hash(old) == own:
            differences = f"its {files.CONFIG_FILE} is not that of its record"
        else:
            differences = _differences(old, self.identity)
        return (
            f"{self.folder} was measured under another configuration ({differences}); "
            "FORCE=1 (force=true) sets it aside, NAME=… (folder=…) measures beside it"
        )

    def claim_folder(self) -> None:
        """Makes the folder that of this configuration.

        Raises:
            ValueError: it belongs to another configuration and `force` is not set; names what
                differs and what to do.
        """
        if refusal := self.refusal():
            if not self.config.force:
                raise ValueError(refusal)
            self.set_aside()
        if damage := self.damage:
            LOG.warning(damage)
            (self.folder / files.RECORD_FILE).replace(self._damaged_record)
        files.write_json(self.folder / files.CONFIG_FILE, self.identity)

    def set_aside(self) -> None:
        """Renames the folder, and makes an empty one."""
        aside = self.folder.rename(_free_name(self.folder))
        self.folder.mkdir()  # the log file lies in it
        LOG.info("%s set aside as %s", self.folder, aside)

    @property
    def has_own_images(self) -> bool:
        """Whether its images are a user's own, and there: they may have changed since."""
        data = self.config.data
        return data.name == "image_folder" and Path(data.root).exists()

    @property
    def has_checkpoint(self) -> bool:
        return files.has_checkpoint(self.folder)

    def tidy(self) -> None:
        """Deletes what a finished cell needs no more.

        A checkpoint that is newer than the record stays: the cell is being measured again, with
        its weights.
        """
        record = self.folder / files.RECORD_FILE
        finished = record.stat().st_mtime if record.exists() else 0.0
        for name in (*files.CHECKPOINT_FILES, files.FAILURE_FILE):
            path = self.folder / name
            if path.exists() and path.stat().st_mtime <= finished:
                path.unlink()
        files.remove_parts(self.folder)

    @property
    def _lock_file(self) -> Path:
        return files.lock_of(self.folder)

    def trained_by(self) -> str | None:
        """The id of the process that trains the cell now; None: no process."""
        return _holder(self._lock_file)

    @contextmanager
    def locked(self, wait: bool = True) -> Iterator[None]:
        """Keeps two processes from training one cell; the lock ends with the process.

        A process without it writes nothing into the cell's folder. The wait for another process
        begins with one line on stderr.

        Raises:
            BusyError: another process trains the cell, and `wait` is not set.
        """
        with files.write_errors(self._lock_file):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            opened = self._lock_file.open("a+")
        with opened as file:
            if not try_lock(file):
                other = self._lock_file.read_text(encoding="utf-8").strip()
                busy = f"{self.folder} is being trained by process {other}"
                if not wait:
                    raise BusyError(busy)
                print(f"plainres: {busy}: waiting for it", file=sys.stderr, flush=True)
                while not try_lock(file):
                    time.sleep(LOCK_SECONDS)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def write_failure(self, text: str) -> None:
        """Says why the cell failed, for the sweep that this process belongs to."""
        own = {"sweep": os.environ.get(files.SWEEP_VARIABLE), "text": text}
        files.write_json(self.folder / files.FAILURE_FILE, own)


def _holder(lock: Path) -> str | None:
    """The id of the process that holds a lock file."""
    return lock.read_text(encoding="utf-8").strip() if lock.exists() and is_locked(lock) else None


def standing(cells: Sequence[Cell]) -> str:
    """How many cells are finished, and how many continue."""
    unfinished = [cell for cell in cells if not cell.finished()]
    continued = sum(cell.has_checkpoint for cell in unfinished)
    done = f"{len(cells) - len(unfinished)} of {len(cells)} cells are finished"
    return f"{done}, {continued} continue from a checkpoint" if continued else done


def set_other_images_aside(finished: Sequence[tuple[Cell, schema.Record]]) -> list[Cell]:
    """Sets cells aside, with `force`, that were measured on other images than there are now.

    Returns these cells.

    Raises:
        ValueError: there is one, and `force` is not set; names it and what to do.
    """
    moved = []
    for cell, record in finished:
        now = cell.load_images().fingerprint
        if record.data_fingerprint == now:
            continue
        if not cell.config.force or not (cell.folder / files.RECORD_FILE).exists():
            raise ValueError(
                f"{cell.folder} was measured on other images (fingerprint "
                f"{record.data_fingerprint}, now {now}); another data.label names the new ones, "
                "FORCE=1 (force=true) sets the cell aside"
            )
        cell.set_aside()
        moved.append(cell)
    return moved


def compose_cell(results: Path, *overrides: str) -> Cell:
    """The cell that `python -m plainres.run.train results_dir=<results> <overrides>` trains."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"results_dir={results}", *overrides], return_hydra_config=True)
    return Cell.of(config)


def claim_tables(cells: Sequence[Cell]) -> str | None:
    """Makes the tables of the cells' results folder those of their configuration.

    The rows of runs.csv share everything but arm, depth, shortcut and seed; config.json beside it
    says what. Returns a line where tables of another configuration are set aside.

    Until this process ends others measure into the folder under the same configuration only.

    Raises:
        ValueError: the cells do not share a configuration, or another process measures under
            another one; names what differs.
    """
    folder, shared = cells[0].results_folder, shared_config(cells[0].identity)
    for cell in cells[1:]:
        if unlike := config_differences(shared, shared_config(cell.identity)):
            raise ValueError(
                f"cells of {folder} differ in more than arm, depth and seed "
                f"({'; '.join(unlike)}); folder=… for each"
            )
    users = Users(folder / "runs" / "users.lock")
    alone = users.join()
    try:
        old = None if alone else _readable_config(folder)
        if old is not None and config_hash(old) != config_hash(shared):
            users.leave()
            raise ValueError(
                f"another command measures into {folder} under another configuration "
                f"({_differences(old, shared)}); wait for it, or NAME=… (folder=…) measures "
                "beside it"
            )
        line = set_tables_aside(folder, shared)
        _require_their_shortcuts(folder, cells)
        return line
    finally:
        users.share()


def _require_their_shortcuts(folder: Path, cells: Sequence[Cell]) -> None:
    """Raises ValueError if an arm has another shortcut in the rows that stay; names both."""
    rows: list[schema.Record] = []
    with suppress(ValueError):  # damaged ones are named where tables are gathered
        rows = files.read_runs(folder)
    own = {cell.name for cell in cells}
    measured = {row.arm: row.shortcut for row in rows if row.cell not in own}
    for cell in cells:
        shortcut = cell.config.model.get("shortcut", "")
        if measured.get(cell.arm, shortcut) != shortcut:
            raise ValueError(
                f"model.shortcut {shortcut}: the {cell.arm} arm of {folder} has "
                f"{measured[cell.arm]}; NAME=… (folder=…) measures beside it"
            )


def set_tables_aside(folder: Path, shared: Mapping[str, Any]) -> str | None:
    """Moves tables of another configuration than `shared` into a folder of their own; says so.

    The rows say of which configuration they are where config.json does not.
    """
    path = folder / files.CONFIG_FILE
    old, line = _readable_config(folder), None
    unlike = ""
    if old is None:
        unlike = f"{path.name} is {'damaged' if path.exists() else 'gone'}"
    elif config_hash(old) != config_hash(shared):
        unlike = _differences(old, shared)
        for lock in (folder / "runs").glob(".*.lock"):
            if other := _holder(lock):
                raise ValueError(
                    f"process {other} trains a cell of {folder} under another configuration "
                    f"({unlike}); wait for it, or NAME=… (folder=…) measures beside it"
                )
    if unlike and any(row_hash(shared, row) != row.config_hash for row in files.read_runs(folder)):
        aside = _free_name(folder / "earlier")
        aside.mkdir()
        for file in (*folder.glob("*.csv"), *folder.glob("*.json")):
            file.rename(aside / file.name)
        line = (
            f"the tables in {folder} are of another configuration ({unlike}): set aside as {aside}"
        )
    files.update_json(path, shared)
    return line


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two configurations whose hashes differ."""
    return "; ".join(config_differences(old, new)) or "a number as 0 is written 0.0, or the reverse"


def _check_place(slug: str, folder: str) -> None:
    """Raises ValueError for a folder that does not lie below results_dir/slug."""
    if "/" in slug or slug.startswith(".") or not slug:
        raise ValueError(f"slug {slug!r} is not the name of one folder")
    if any(part.startswith(".") or not part for part in folder.split("/")):
        raise ValueError(f"folder {folder!r} does not lie below results_dir/slug")


def _readable_config(folder: Path) -> dict[str, Any] | None:
    """The configuration in a folder, or None where it is damaged or gone."""
    try:
        return files.read_config(folder)
    except files.DamagedFileError:
        return None


def _free_name(folder: Path) -> Path:
    """`folder`.old1, or the first number that is free."""
    number = 1
    while (name := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    return name
