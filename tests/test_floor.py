"""The floor of the paper's grid: counts that are known from elsewhere, and how measured seconds stand above it."""

import pytest
import torch
from made_up import made_up_record

from experiments.bench import floor
from plainres.networks.resnet import CifarNetwork
from plainres.networks.summary import summarise
from plainres.records.files import RUNS_TABLE, write_table
from plainres.records.schema import Record


def test_multiply_adds_are_those_of_the_network():
    for depth in (20, 56):
        with torch.device("meta"):
            network = CifarNetwork(depth, "zero_pad")
        assert floor.multiply_adds(depth) == sum(
            layer.multiply_adds for layer in summarise(network, (3, 32, 32))
        )


def test_traffic_grows_by_the_same_for_every_block():
    assert floor.traffic(26) - floor.traffic(20) == floor.traffic(110) - floor.traffic(104)
    first_stage, others = 128 * 16 * 32 * 32, 128 * (32 * 16 * 16 + 64 * 8 * 8)
    assert floor.traffic(26) - floor.traffic(20) == 13 * 2 * 2 * (first_stage + others)


def test_a_slow_device_takes_longer():
    slow = floor.Device("slow", floor.H100.flops / 10, floor.H100.bandwidth / 2)
    fast_arithmetic, fast_traffic = floor.seconds(20)
    assert floor.seconds(20, slow) == pytest.approx((10 * fast_arithmetic, 2 * fast_traffic))


def test_measured_cells_stand_above_the_floor(tmp_path, capsys):
    rows = [
        made_up_record(depth=20, iterations=64000, seconds=121.2),
        made_up_record(depth=56, iterations=100, seconds=1.0),
    ]
    write_table(tmp_path / RUNS_TABLE, rows, Record)
    assert floor.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    twenty, fifty_six = (
        next(line.split() for line in lines if line.split()[:1] == [depth])
        for depth in ("20", "56")
    )
    assert twenty[-2:] == ["121", "10.1"]
    assert fifty_six[-2:] == ["–", "–"]
