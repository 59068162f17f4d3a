"""TensorBoard on the events, opened on the finding."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from tensorboard import default, program
from tensorboard.program import TensorBoardServerException

from experiments.events.write import MEANS

PATIENCE = 60.0  # seconds, for TensorBoard to read the events


def port_of(text: str | None) -> int | None:
    """The port that was asked for.

    Raises:
        ValueError: no number of a port, or another program serves there.
    """
    if text is None:
        return None
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"port {text!r} is not a number from 0 to 65535")
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", int(text))) == 0:
            raise ValueError(f"port {text} is taken; PORT= takes another one")
    return int(text)


def serve(folder: Path, address: str, port: int | None) -> None:
    """Serves until Ctrl-C; prints where, once the means can be seen.

    Args:
        folder: of the events.
        address: path, query and fragment to which a browser that asks for `/` is sent.
        port: None: the first one that is free, from 6006.

    Raises:
        ValueError: the port cannot be served; one line.
    """

    def server(app: Any, flags: Any) -> Any:
        make: Any = program.create_port_scanning_werkzeug_server
        return make(_opened_at(address, app), flags)

    board = program.TensorBoard(default.get_plugins(), server_class=server)
    board.configure(logdir=str(folder), port=port)
    try:
        with redirect_stderr(io.StringIO()):  # advice about TensorBoard's own options
            url = board.launch()
    except TensorBoardServerException as error:
        raise ValueError(error.msg) from None
    means = {path.relative_to(folder).as_posix() for path in folder.glob(MEANS.format("*"))}
    end = time.monotonic() + PATIENCE
    while not _has_read(url, means) and time.monotonic() < end:
        time.sleep(0.2)
    print(f"TensorBoard: {url} (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


def _has_read(url: str, runs: set[str]) -> bool:
    """Whether TensorBoard has read the layout of Custom Scalars and the scalars of these runs."""

    opener = build_opener(ProxyHandler({}))  # a proxy does not know this machine's ports

    def answer(plugin: str, question: str) -> dict[str, Any]:
        with opener.open(f"{url}data/plugin/{plugin}/{question}") as response:
            return json.load(response)

    return bool(answer("custom_scalars", "layout")) and runs <= answer("scalars", "tags").keys()


def _opened_at(address: str, app: Callable) -> Callable:
    """The application; who asks for `/` and nothing more is sent to the address."""

    def opened(environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if environ["PATH_INFO"] in ("", "/") and not environ["QUERY_STRING"]:
            start_response("302 Found", [("Location", address)])
            return []
        return app(environ, start_response)

    return opened
