"""LeNet-5's table on made-up records, and its cells as configurations."""

import hydra
import pytest
import torch
from composing import compose_cell
from made_up import made_up_curve, made_up_record

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.lenet import claims, figures
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, write_table
from plainres.records.schema import CurvePoint, Record


def measured(folder, seeds=1, **errors) -> None:
    for name, error in errors.items():
        rows = [
            made_up_record(arm="lenet5", depth=5, seed=seed, test_error=error * (1 + 0.01 * seed))
            for seed in range(seeds)
        ]
        folder_of = folder / name.replace("_in_", "-")
        write_table(folder_of / RUNS_TABLE, rows, Record)
        write_table(
            folder_of / CURVES_TABLE,
            [point for row in rows for point in made_up_curve(row)],
            CurvePoint,
        )


def verdicts(folder) -> list[str]:
    return [claim.verdict for claim in claims.check(claims.read_cells(folder))]


@pytest.mark.parametrize("data", ["fashion_mnist", "digits"])
@pytest.mark.parametrize("era", ["modern", "1998"])
def test_every_cell_takes_32_by_32_images(tmp_path, data, era):
    cell = compose_cell(tmp_path, "+experiment=lenet", f"data={data}", f"model.era={era}")
    cell.check()
    assert cell.results_folder == tmp_path / "lenet" / f"{data}-{era}"
    assert (cell.config.data.image_size, cell.config.data.pad_to) == (28, 32)
    assert hydra.utils.instantiate(cell.config.model, num_classes=10, in_channels=1)(
        torch.zeros(1, 1, 32, 32)
    ).shape == (1, 10)


def test_claims_follow_the_errors(tmp_path):
    measured(
        tmp_path, fashion_mnist_in_modern=0.095, fashion_mnist_in_1998=0.11, digits_in_modern=0.02
    )
    assert verdicts(tmp_path) == [REPRODUCED, REPRODUCED]
    measured(tmp_path, fashion_mnist_in_modern=0.12)
    assert verdicts(tmp_path) == [NOT_REPRODUCED, NOT_REPRODUCED]
    measured(tmp_path, seeds=3, fashion_mnist_in_modern=0.09, fashion_mnist_in_1998=0.11)
    assert verdicts(tmp_path) == [REPRODUCED, REPRODUCED]


def test_what_is_missing_is_named(tmp_path):
    measured(tmp_path, digits_in_modern=0.02)
    found = claims.check(claims.read_cells(tmp_path))
    assert [claim.verdict for claim in found] == [INCONCLUSIVE] * 2
    assert "fashion_mnist-modern" in found[0].seen


def test_figure_and_readme_are_the_same_twice(tmp_path):
    measured(
        tmp_path, fashion_mnist_in_modern=0.095, fashion_mnist_in_1998=0.11, digits_in_1998=0.02
    )
    first = {path: path.read_bytes() for path in figures.make(tmp_path)}
    assert {path: path.read_bytes() for path in figures.make(tmp_path)} == first
    assert "32×32, 2,000 iterations · 1 seed" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("command", [claims.main, figures.main])
def test_nothing_measured_is_one_line(tmp_path, capsys, command):
    assert command([str(tmp_path)]) != 0
    assert capsys.readouterr().err.count("\n") == 1
