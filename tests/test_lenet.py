"""LeNet-5's table on made-up records, and its cells as configurations."""

import hydra
import pytest
import torch
from composing import compose_cell
from made_up import elsewhere, made_up_record, write_made_up

from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from experiments.lenet import QUESTION


def measured(folder, seeds=1, **errors) -> None:
    for name, error in errors.items():
        rows = [
            made_up_record(arm="lenet5", depth=5, seed=seed, test_error=error * (1 + 0.01 * seed))
            for seed in range(seeds)
        ]
        write_made_up(folder / name.replace("_in_", "-"), rows, curves=True)


def verdicts(folder) -> list[str]:
    (runs,) = QUESTION.read(folder)
    return [claim.verdict for claim in QUESTION.claims(runs)]


@pytest.mark.parametrize("data", ["fashion_mnist", "digits"])
@pytest.mark.parametrize("era", ["modern", "1998", "1998-sigmoid"])
def test_every_cell_takes_32_by_32_images(tmp_path, data, era):
    cell = compose_cell(tmp_path, "+experiment=lenet", f"data={data}", f"model.era={era}")
    cell.check()
    assert cell.results_folder == tmp_path / "lenet" / f"{data}-{era}"
    assert (cell.config.data.image_size, cell.config.data.pad_to) == (28, 32)
    network = hydra.utils.instantiate(cell.config.model, num_classes=10, in_channels=1)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_claims_follow_the_errors(tmp_path):
    measured(
        tmp_path,
        **{"fashion_mnist_in_modern": 0.095, "fashion_mnist_in_1998": 0.11},
        **{"fashion_mnist_in_1998-sigmoid": 0.13, "digits_in_modern": 0.02},
    )
    assert verdicts(tmp_path) == [REPRODUCED] * 3
    measured(tmp_path, fashion_mnist_in_modern=0.12)
    assert verdicts(tmp_path) == [NOT_REPRODUCED, NOT_REPRODUCED, REPRODUCED]
    many = {"fashion_mnist_in_modern": 0.09, "fashion_mnist_in_1998-sigmoid": 0.13}
    measured(tmp_path, seeds=8, fashion_mnist_in_1998=0.11, **many)
    assert verdicts(tmp_path) == [REPRODUCED] * 3
    measured(tmp_path, seeds=8, fashion_mnist_in_1998=0.094, **many)
    assert verdicts(tmp_path) == [REPRODUCED, NOT_REPRODUCED, REPRODUCED], "below half a point"
    measured(tmp_path, seeds=8, fashion_mnist_in_1998=0.127, **many)
    assert verdicts(tmp_path) == [REPRODUCED, REPRODUCED, NOT_REPRODUCED]


def test_one_seed_on_two_machines_is_not_comparable(tmp_path):
    measured(tmp_path, seeds=2, fashion_mnist_in_modern=0.09, fashion_mnist_in_1998=0.11)
    elsewhere(tmp_path / "fashion_mnist-modern", "lenet5-5-seed1")
    (runs,) = QUESTION.read(tmp_path)
    claims = QUESTION.claims(runs)
    assert [claim.num_seeds for claim in claims] == [2, 1, 0]
    assert claims[1].summary.endswith(
        "not comparable: seed 1 (fashion_mnist-1998: ATen AVX2 / oneDNN AVX2; "
        "fashion_mnist-modern: another)"
    )


def test_what_is_missing_is_named(tmp_path):
    measured(tmp_path, digits_in_modern=0.02)
    (runs,) = QUESTION.read(tmp_path)
    claims = QUESTION.claims(runs)
    assert [claim.verdict for claim in claims] == [INCONCLUSIVE] * 3
    assert claims[0].summary == "missing: fashion_mnist-modern"
    assert claims[1].summary == "missing: fashion_mnist-1998, fashion_mnist-modern"
    assert claims[2].summary == "missing: fashion_mnist-1998-sigmoid, fashion_mnist-1998"


def test_the_report_says_what_all_cells_share(tmp_path):
    measured(tmp_path, digits_in_1998=0.02)
    assert QUESTION.text(tmp_path).startswith(
        "digits · protocol quick, 32×32, 2,000 iterations · 1 seed\n"
    )
