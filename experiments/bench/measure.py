"""One measurement in a process of its own: `python -m experiments.bench.measure REQUEST RESULT`.

REQUEST is JSON, RESULT the path of a JSON file. Imports what it measures and nothing else.
"""

import importlib
import json
import sys
from pathlib import Path

from experiments.bench.window import Process
from plainres.records.errors import one_line

FAILED = "failed"
MAX_CHARACTERS = 300


def main(request: str, result_path: str) -> int:
    """Writes the numbers that the requested function returns.

    If it raises, one line under FAILED says why, and the status is 1.
    """
    asked = json.loads(request)
    process = Process(Path(asked["folder"]), asked["threads"], asked["copies"], asked["spawned"])
    module, _, name = asked["function"].rpartition(".")
    try:
        function = getattr(importlib.import_module(f"experiments.bench.{module}"), name)
        result = function(process, **asked["arguments"])
    except Exception as error:
        result = {FAILED: f"{type(error).__name__}: {one_line(error)[:MAX_CHARACTERS]}"}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
    return FAILED in result


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
