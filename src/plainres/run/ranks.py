"""The processes of all devices of a run but the first, which has the process that was started.

Imports no torch before it is needed.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from plainres.records import stopping
from plainres.records.errors import one_line
from plainres.run.cell import Cell
from plainres.run.processes import cause_of_death, start_server

SAY_SECONDS = 1.0  # for another device to fail too, and say so
END_SECONDS = 3.0  # for them to end by themselves, after the first one


class DeviceError(RuntimeError):
    """The process of another device failed; says how."""


@contextmanager
def beside(cell: Cell, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Runs `work(cell, *arguments, rank)` for the ranks from 1 up during this block.

    Raises:
        DeviceError: one of them failed, which is why the block failed.
    """
    others: list[tuple[int, Any, Any]] = []
    try:
        for rank in range(1, cell.config.devices):
            others.append((rank, *_start(work, cell, *arguments, rank)))
        try:
            yield
        except Exception as error:
            for rank, process, reasons in others:
                if reason := _reason(process, reasons, cell):
                    raise DeviceError(f"device {rank}: {reason}") from error
            for _, process, _ in others:
                process.kill()
            raise
    finally:
        if others:
            _leave_group()
        for _, process, _ in others:
            process.join(END_SECONDS)
            if process.exitcode is None:
                process.kill()
                process.join()


def _leave_group() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _start(work: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """A process, and where it says why it failed."""
    start_server()
    context = multiprocessing.get_context("forkserver")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(writing, work, *arguments))
    process.start()
    writing.close()
    return process, reading


def _run(writing: Any, work: Callable[..., None], *arguments: Any) -> None:
    """In another process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    stopping.listen(parent.sentinel)
    try:
        work(*arguments)
    except Exception as error:
        writing.send(one_line(error))
        raise SystemExit(1) from None


def _reason(process: Any, reasons: Any, cell: Cell) -> str:
    """Why a process failed; "" where it lives, and so did not fail before the first one."""
    if not reasons.poll(SAY_SECONDS):  # true also at the end of a process that said nothing
        return ""
    process.join(END_SECONDS)
    try:
        return reasons.recv()
    except EOFError:
        lives = process.exitcode is None
        return "was cut off" if lives else cause_of_death(process.exitcode, cell)
