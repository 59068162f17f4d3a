"""The floor of the paper's grid: counts known from elsewhere, and measured seconds above it."""

import pytest
import torch
from made_up import made_up_record

from experiments.bench import floor
from plainres.networks.resnet import CifarNetwork
from plainres.networks.summary import summarise
from plainres.records.files import RUNS_TABLE, write_table
from plainres.records.schema import Record


@pytest.mark.parametrize("depth", [20, 56])
def test_multiply_adds_are_those_of_the_network(depth):
    with torch.device("meta"):
        network = CifarNetwork(depth, "zero_pad")
    expected = sum(layer.multiply_adds for layer in summarise(network, (3, 32, 32)))
    assert floor.multiply_adds(depth) == expected


def test_traffic_grows_by_the_same_for_every_block():
    difference = floor.traffic(26) - floor.traffic(20)
    assert difference == floor.traffic(110) - floor.traffic(104)
    first_stage, others = 128 * 16 * 32 * 32, 128 * (32 * 16 * 16 + 64 * 8 * 8)
    assert difference == 13 * 2 * 2 * (first_stage + others)


def test_measured_cells_stand_above_the_floor(tmp_path, capsys):
    rows = [
        made_up_record(depth=20, iterations=64000, seconds=121.2),
        made_up_record(depth=56, iterations=100, seconds=1.0),
    ]
    write_table(tmp_path / RUNS_TABLE, rows, Record)
    assert floor.main([str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    by_depth = {line[0]: line[1:] for line in lines}
    assert by_depth["20"] == ["2.0", "40", "2.0", "12", "121", "10.1"]
    assert by_depth["56"] == ["6.2", "113", "6.2", "34", "–", "–"]
