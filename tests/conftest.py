"""What every test stands on: one thread, and no cache but the test's own."""

import os
import signal
from functools import partial
from urllib.error import URLError

import pytest
import torch
from made_up import made_up_record

from plainres.records.schema import CurvePoint
from plainres.training import machine
from plainres.training.instructions import limit_instructions

for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(name) is signal.SIG_IGN:  # under nohup, or in the background of a script
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
limit_instructions("AVX2")  # before a test computes anything
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
torch.set_num_threads(1)


LONGEST = ("test_sweep.py", "test_torture.py", "test_questions.py", "test_notebook.py")


def pytest_collection_modifyitems(items):
    """The longest files first, so that workers end together."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Cells of a test train in one thread: tests beside it take the other cores."""
    monkeypatch.setattr(machine, "num_cores", lambda: 1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A folder for decoded images, so that no test reads or writes ~/.cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PLAINRES_CACHE", str(folder))
    return folder


@pytest.fixture
def make_record():
    """A finished cell's record, plain-20-seed0; keywords replace its values."""
    return partial(made_up_record, arm="plain", shortcut="none")


@pytest.fixture
def make_point():
    """A point of a cell's curve; keywords replace its values."""

    def make(**values) -> CurvePoint:
        cell = {"arm": "plain", "depth": 20, "seed": 0, "iteration": 50}
        numbers = {"train_error": 0.25, "train_loss": 0.75, "learning_rate": 0.1}
        return CurvePoint(**(cell | numbers | values))

    return make


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's cache of weights in a folder of its own, and no network."""

    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path
