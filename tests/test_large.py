"""The large networks on made-up tables, and as configurations."""

import hydra
import pytest
import torch
from composing import CONF, compose_cell, variants
from made_up import made_up_record
from omegaconf import OmegaConf

from experiments.judging.verdict import DIRECTIONS, VERDICTS
from experiments.large import QUESTION
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, write_table
from plainres.records.schema import DIVERGED, CurvePoint, Record

NETWORKS = variants("large")


def measured(folder, network: str, losses: list[float], **changes) -> None:
    row = made_up_record(iterations=len(losses), **changes)
    points = [
        CurvePoint(row.arm, row.depth, row.seed, step, 0.5, loss, 0.01)
        for step, loss in enumerate(losses, 1)
    ]
    write_table(folder / network / RUNS_TABLE, [row], Record)
    write_table(folder / network / CURVES_TABLE, points, CurvePoint)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_takes_its_own_size_of_eight_pictures(tmp_path, network):
    cell = compose_cell(tmp_path, "+experiment=large", f"large={network}")
    cell.check()
    assert cell.results_folder == tmp_path / "large" / network
    assert 128 - cell.config.data.val_size == cell.config.protocol.batch_size == 8
    size = {"alexnet": 227, "inception_v3": 299, "inception_v3_heads": 299}.get(network, 224)
    assert cell.config.data.image_size == size
    with torch.device("meta"):
        built = hydra.utils.instantiate(cell.config.model, num_classes=2, in_channels=3).eval()
        assert built(torch.empty(1, 3, size, size)).shape == (1, 2)


def test_all_shipped_networks_are_swept(tmp_path):
    swept = compose_cell(tmp_path, "+experiment=large")
    params = OmegaConf.load(CONF / "experiment" / "large.yaml").hydra.sweeper.params
    assert swept.config.slug == "large"
    assert sorted(params.large.split(",")) == NETWORKS


def test_it_is_a_smoke_test_without_a_verdict(tmp_path):
    measured(tmp_path, "falls", [0.7, 0.9, 0.6, 0.6, 0.6, 0.5, 0.1, 0.2, 0.3, 0.1])
    measured(tmp_path, "rises", [0.7, 0.6, 0.6, 0.6, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9])
    measured(
        tmp_path, "bursts", [0.7, 0.6, 0.6, 0.6, 0.6, 0.1, 0.1], status=DIVERGED, train_error=None
    )
    assert QUESTION.scores(tmp_path) == []
    for text in (QUESTION.text(tmp_path), QUESTION.text(tmp_path, verbose=True)):
        assert "0.700" in text
        assert "0.240" in text, "first and last loss"
        flat = " ".join(text.split())
        assert "shows that 1 of 3 networks can be built and trained at their own size" in flat
        assert "nothing about the paper's claims" in flat
        assert not [word for word in (*VERDICTS, *DIRECTIONS.values()) if word in text]


def test_figure_and_readme_are_the_same_twice(tmp_path):
    measured(tmp_path, "falls", [0.7, 0.9, 0.6, 0.6, 0.6, 0.5, 0.1, 0.2, 0.3, 0.1])
    first = {path: path.read_bytes() for path in QUESTION.write(tmp_path)}
    assert {path: path.read_bytes() for path in QUESTION.write(tmp_path)} == first
    assert (
        "digits · protocol quick, one batch, 10 updates · 1 seed"
        in (tmp_path / "README.md").read_text()
    )


def test_nothing_measured_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"no records in .*; make sweep-large measures them"):
        QUESTION.read(tmp_path)
