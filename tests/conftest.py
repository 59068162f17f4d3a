"""What every test stands on: one thread, and no cache but the test's own."""

import pytest
import torch

from plainres.record import CurvePoint, Record

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A folder for decoded images, so that no test reads or writes ~/.cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PLAINRES_CACHE", str(folder))
    return folder


@pytest.fixture
def make_record():
    """A finished cell's record; keywords replace its values."""

    def make(**values) -> Record:
        defaults = {
            "arm": "plain",
            "depth": 20,
            "seed": 0,
            "shortcut": "none",
            "num_parameters": 269722,
            "protocol": "quick",
            "data_label": "digits",
            "num_classes": 10,
            "status": "finished",
            "train_error": 0.0125,
            "train_error_eval": 0.01,
            "train_loss": 0.05,
            "test_error": 0.0875,
            "test_loss": 0.3,
            "val_error": None,
            "iterations": 2000,
            "error_window": 200,
            "seconds": 61.5,
            "images_per_second": 4162.25,
            "peak_memory_mib": 0.0,
            "precision": "32-true",
            "processor": "a processor",
            "threads": 1,
            "config_hash": "0123456789ab",
            "data_fingerprint": "ba9876543210",
            "commit": "c0ffee",
            "clean": True,
            "python": "3.11.7",
            "torch": "2.9.0",
            "lightning": "2.6.0",
            "finished_at": "2026-01-02T03:04:05Z",
        }
        return Record(**(defaults | values))

    return make


@pytest.fixture
def make_point():
    """A point of a cell's curve; keywords replace its values."""

    def make(**values) -> CurvePoint:
        defaults = {
            "arm": "plain",
            "depth": 20,
            "seed": 0,
            "iteration": 50,
            "train_error": 0.25,
            "train_loss": 0.75,
            "learning_rate": 0.1,
        }
        return CurvePoint(**(defaults | values))

    return make
