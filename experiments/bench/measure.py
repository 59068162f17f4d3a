"""One measurement in a process of its own: `python -m experiments.bench.measure <request.json> <result.json>`.

Imports what it measures and nothing else.
"""

import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.bench.window import Process
from plainres.records.errors import one_line

FAILED = "failed"
MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Request:
    """What to call: `function` is `module.name` in this package, called with the process and the arguments."""

    function: str
    arguments: dict[str, Any]
    folder: str
    copies: int
    spawned: float

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def main(request_path: str, result_path: str) -> int:
    """Writes the numbers that the function returns, or one line under FAILED that says why there are none; status 1 then."""
    request = Request(**json.loads(Path(request_path).read_text(encoding="utf-8")))
    result: Mapping[str, float | str]
    try:
        _check_preloaded()
        module, _, name = request.function.rpartition(".")
        function = getattr(importlib.import_module(f"experiments.bench.{module}"), name)
        result = function(
            Process(Path(request.folder), request.copies, request.spawned), **request.arguments
        )
    except Exception as error:
        result = {FAILED: f"{type(error).__name__}: {one_line(error)[:MOST_CHARACTERS]}"}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
    return FAILED in result


def _check_preloaded() -> None:
    """The loader only warns of a library that it cannot preload."""
    library = os.environ.get("LD_PRELOAD", "")
    if library and library not in Path("/proc/self/maps").read_text(encoding="utf-8"):
        raise OSError(f"{library} was not preloaded")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
