"""Which classes a network takes for which, and what it takes a new picture for."""

import csv
import json
import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from composing import CONF, compose_cell
from drawn import cut_off, texts_of
from made_up import made_up_record
from PIL import Image
from trained import SHORT, SMOKE, numbers

from experiments import __main__ as command
from experiments.reporting.confusion import confusion_figure, report
from plainres.data.batches import Normaliser
from plainres.data.images import Images, Source
from plainres.instruments import classify
from plainres.records import confusion, files
from plainres.records.confusion import Confusion
from plainres.records.errors import UNUSABLE
from plainres.records.schema import DIVERGED
from plainres.run import train, trained
from plainres.run.trained import TrainedNetwork

COUNTED = (
    "keep_weights=true",
    "+callbacks.confusion._target_=plainres.instruments.confusion.ConfusionMatrix",
)
CLASSES = ("an, 'other'", "arm", "depth")  # in alphabetical order


def draw_pictures(root) -> None:
    """Colour pictures of several shapes and formats; each class has its own hue."""
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 5)):
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                shape = (40 + 3 * number, 52 - 4 * number, 3)
                pixels = random.integers(0, 160, shape, dtype=np.uint8)
                pixels[..., label] += 90
                path = root / part / name / f"{number}.{('png', 'jpg')[number % 2]}"
                Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A results folder with a network on colour pictures of several sizes, and the pictures."""
    folder = tmp_path_factory.mktemp("own")
    draw_pictures(folder / "pictures")
    words = ("slug=own", "folder=pets", "protocol=smoke", SHORT[0], "protocol.iterations=6")
    data = (
        "data=image_folder",
        f"data.root={folder / 'pictures'}",
        "data.label=pets",
        "data.image_size=28",
        "data.pad_to=32",
        "protocol.batch_size=8",
    )
    cell = compose_cell(folder, *words, *data, *COUNTED, "model=lenet5", "threads=1")
    record = train.train_cell(cell)
    files.gather(cell.results_folder)
    return cell, record, folder / "pictures"


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A network on grey digits in bfloat16, and its record without the confusion matrix."""
    folder = tmp_path_factory.mktemp("grey")
    words = (*SMOKE, "protocol.precision=bf16-mixed")
    cell = compose_cell(folder, *words, *COUNTED)
    return cell, train.train_cell(cell), train.train_cell(compose_cell(folder / "plain", *words))


def matrix_of(cell) -> Confusion:
    (only,) = confusion.read(cell.folder)
    return only


@pytest.mark.parametrize("name", ["own", "grey"])
def test_the_matrix_has_the_recorded_test_error(request, name):
    cell, record, *_ = request.getfixturevalue(name)
    matrix = matrix_of(cell)
    assert matrix.errors / matrix.images == pytest.approx(record.test_error, abs=1e-7)
    rows = files.read_table(cell.folder / confusion.CLASSES_TABLE, confusion.ClassErrors)
    assert sum(row.errors for row in rows) == matrix.errors
    labels = cell.load_images().test.labels
    assert [row.images for row in rows] == torch.bincount(labels).tolist()


def test_counting_changes_no_number_of_the_run(grey):
    assert numbers(grey[1]) == numbers(grey[2])


def test_tables_are_rows_of_true_and_columns_of_predicted_classes(own):
    cell = own[0]
    for folder in (cell.folder, cell.results_folder):
        with (folder / "confusion.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        # folders in alphabetical order; a class may be called as a column is
        assert head == [
            "arm",
            "depth",
            "seed",
            "true",
            *(f"predicted {n}" for n in CLASSES),
        ]
        assert [row[:4] for row in rows] == [["lenet5", "5", "0", name] for name in CLASSES]
        assert [sum(map(int, row[4:])) for row in rows] == [5, 5, 5]


@pytest.mark.parametrize("name", ["own", "grey"])
def test_a_picture_is_prepared_as_in_training_and_gets_the_class_that_was_counted(
    request, name, tmp_path
):
    cell = request.getfixturevalue(name)[0]
    source, matrix = cell.load_images(), matrix_of(cell)
    network = TrainedNetwork.load(cell.folder)
    if name == "own":
        root = request.getfixturevalue(name)[2] / "test"
        paths = [path for each in CLASSES for path in sorted((root / each).iterdir())]
    else:
        paths = [tmp_path / f"{number:03}.png" for number in range(len(source.test))]
        for path, pixels in zip(paths, source.test.pixels, strict=True):
            Image.fromarray(pixels[0].numpy()).save(path)
    counts = Counter()
    for path, pixels, label in zip(paths, source.test.pixels, source.test.labels, strict=True):
        assert torch.equal(network.read(path), pixels), path
        counts[int(label), int(network.probabilities(path).argmax())] += 1
    classes = range(len(matrix.names))
    assert [[counts[row, column] for column in classes] for row in classes] == matrix.counts


def test_no_training_image_is_needed_and_probabilities_are_sorted(own, tmp_path, capsys):
    cell, _, pictures = own
    picture = pictures / "test" / "arm" / "0.png"
    assert classify.classify([str(picture)], tmp_path, str(cell.results_folder)) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{picture}: ")
    assert line.count("%") == len(CLASSES)
    guesses = classify.most_likely(TrainedNetwork.load(cell.folder), picture)
    values = [guess.probability for guess in guesses]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-5)


def test_the_command_takes_folders_and_prints_json(own, monkeypatch, capsys):
    cell, _, pictures = own
    monkeypatch.setattr(command, "LOCAL", cell.results_folder.parents[1])
    monkeypatch.chdir(pictures.parent)
    pictures.with_name("pets").mkdir()  # as the pictures may be called
    for place in ([], ["RESULTS=own/pets"], ["RESULTS=pets"], [f"RESULTS={cell.folder}"]):
        words = ["classify", f"PICTURE={pictures / 'test' / 'arm'}", "--json", *place]
        assert command.main(words) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["picture"][-5:] for row in rows] == [
            "0.png",
            "1.jpg",
            "2.png",
            "3.jpg",
            "4.png",
        ]
        assert {guess["class_name"] for guess in rows[0]["classes"]} == set(CLASSES)


def test_a_file_that_is_no_picture_is_one_line_and_the_others_go_on(own, tmp_path, capsys):
    cell, _, pictures = own
    folder = tmp_path / "holiday"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for path in (folder / "0.png", folder / ".ipynb_checkpoints" / "0.png"):
        path.write_bytes((pictures / "test" / "arm" / "0.png").read_bytes())
    (folder / "notes.png").write_text("no picture")
    os.mkfifo(folder / "pipe.png")
    assert classify.classify([str(folder)], tmp_path, str(cell.folder)) == UNUSABLE
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert shown.err.splitlines() == [
        f"plainres: {folder / 'notes.png'} cannot be read as an image (UnidentifiedImageError)",
        f"plainres: {folder / 'pipe.png'} is no file",
    ]


def test_a_network_without_image_size_takes_pictures_of_its_own_size(grey, tmp_path):
    network = TrainedNetwork.load(grey[0].folder)
    Image.new("RGB", (20, 12)).save(tmp_path / "a.png")
    assert network.read(tmp_path / "a.png").shape == (1, 8, 8)
    with pytest.raises(ValueError, match="12×20 pixels, and the network takes 8×8"):
        replace(network, image_size=None).read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify"], "classify needs PICTURE=<file or folder>"),
        (["classify", "cat.jpg"], "cat.jpg is no file and no folder"),
        (["classify", "empty"], "empty has no pictures"),
        (["classify", "file"], "no trained network in results/local/own; make own-images ROOT="),
        (["classify", "file", "RESULTS=own/no"], "no trained network in own/no or results/local/"),
    ],
)
def test_what_cannot_be_classified_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    line = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said in line
    assert line.count("\n") == 1


def copied(cell, folder):
    folder.mkdir(parents=True)
    for name in (files.WEIGHTS_FILE, files.PREPARATION_FILE, files.RECORD_FILE):
        (folder / name).write_bytes((cell.folder / name).read_bytes())
    return folder


@pytest.mark.parametrize("model", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_every_network_can_be_made_again(tmp_path, model):
    cell = compose_cell(tmp_path, "protocol=smoke", f"model={model}")
    images = Images(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]))
    source = Source(images, images, ("cat", "dog"))
    trained.write_preparation(cell, source, Normaliser(images.pixels, "channel"))
    with torch.device("meta"):
        again = trained._network(trained._read_preparation(cell.folder))
        network = cell.untrained(source)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes


def test_of_several_networks_one_is_to_be_chosen(own, tmp_path):
    name = own[0].name
    runs = tmp_path / "own" / "pets" / "runs"
    one, _ = copied(own[0], runs / name), copied(own[0], runs / f"{name}.old1")  # set aside
    assert classify.find_network(tmp_path, "own/pets") == one
    other = copied(own[0], tmp_path / "own" / "dogs" / "runs" / name)
    with pytest.raises(ValueError, match=f"choose one with RESULTS=: {other}, {one}"):
        classify.find_network(tmp_path, None)


@pytest.mark.parametrize("name", [files.WEIGHTS_FILE, files.PREPARATION_FILE])
@pytest.mark.parametrize("damage", ["empty", "cut", "gone", "foreign", "flipped"])
def test_damaged_files_are_named(own, tmp_path, name, damage):
    path = copied(own[0], tmp_path / own[0].name) / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        damages = {"empty": b"", "cut": content[:99], "foreign": b"{}", "flipped": flipped}
        path.write_bytes(damages[damage])
    with pytest.raises(ValueError, match=own[0].name) as raised:
        TrainedNetwork.load(path.parent)
    assert "\n" not in str(raised.value)


def test_a_run_that_diverged_has_no_matrix(tmp_path):
    words = (*SMOKE, *COUNTED, "protocol.learning_rate=1e30")
    cell = compose_cell(tmp_path, *words)
    assert train.train_cell(cell).status == DIVERGED
    assert not (cell.folder / confusion.CONFUSION_TABLE).exists()


def test_a_matrix_without_kept_weights_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="keep_weights=true"):
        train.train_cell(compose_cell(tmp_path, *SMOKE, COUNTED[1]))


def made_up(folder, names, seeds=(0,), **changes) -> list[Confusion]:
    """A results folder whose networks confuse each class with the next one, twice per seed."""
    number = len(names)
    counts = [[0] * number for _ in names]
    for place in range(number):
        counts[place][place], counts[place][(place + 1) % number] = 10 + place, 2
    matrices = [Confusion("residual_imagenet", 18, (seed,), tuple(names), counts) for seed in seeds]
    for matrix in matrices:
        cell = {"arm": "residual_imagenet", "depth": 18, "seed": matrix.seeds[0]}
        made = made_up_record(**cell, data_label="pets", **changes)
        own = folder / "runs" / made.cell
        confusion.write(own, matrix)
        files.write_record(own, made)
    files.gather(folder)
    return matrices


@pytest.mark.parametrize("change", [lambda lines: lines[:-1], lambda lines: [*lines, lines[-1]]])
def test_a_matrix_that_lacks_a_row_or_has_one_twice_is_refused(tmp_path, change):
    made_up(tmp_path, ["cat", "dog", "owl"])
    path = tmp_path / confusion.CONFUSION_TABLE
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(ValueError, match="is no table of counts"):
        confusion.read(tmp_path)


def test_the_report_names_the_worst_classes_and_writes_what_it_names(tmp_path):
    made_up(tmp_path, ["cat", "dog|wolf", "arm"], seeds=(0, 1))
    text = report(tmp_path)
    assert "residual_imagenet-18, seeds 0, 1: 12 of 78 images wrong (15.38 %)" in text
    assert " cat      24       4      16.67          dog|wolf (4)" in text
    for line in text.splitlines()[-3:]:
        assert files.Path(line).exists()
    page = (tmp_path / "README.md").read_text()
    assert r"| cat | 24 | 4 | 16.67 | dog\|wolf (4) |" in page
    assert "pets · protocol quick · 2 seeds" in page


def test_many_classes_are_a_few_lines(tmp_path):
    made_up(tmp_path, [f"class {number}" for number in range(200)])
    text = report(tmp_path)
    assert len(text.splitlines()) < 20
    assert "and 190 more" in text
    assert len(files.read_table(tmp_path / "classes.csv", confusion.ClassErrors)) == 200


@pytest.mark.parametrize(("number", "panels"), [(2, 2), (40, 1), (41, 1)])
def test_nothing_of_the_figure_is_cut_off(number, panels):
    names = ("$a$ name that is longer than the figure can show", *map(str, range(number - 1)))
    counts = [[3] * number] * number
    matrices = [Confusion(arm, 18, (0,), names, counts) for arm in ("residual_imagenet", "vgg")]
    figure = confusion_figure(matrices[:panels], "pets · protocol finetune · 1 seed")
    assert not cut_off(texts_of(figure))


def test_a_class_without_test_images_has_no_error():
    matrix = Confusion("vgg", 11, (0,), ("cat", "dog"), [[0, 0], [1, 2]])
    without, other = matrix.classes()
    assert (without.error_percent, without.taken_for) == (None, "")
    assert (other.error_percent, other.taken_for, other.times) == (100 / 3, "cat", 1)


def test_a_damaged_table_is_named(tmp_path):
    made_up(tmp_path, ["cat", "dog"])
    path = tmp_path / "confusion.csv"
    path.write_text(path.read_text().replace("10", "ten"))
    with pytest.raises(ValueError, match=r"confusion\.csv is no table of counts"):
        report(tmp_path)


def test_own_images_ends_with_the_errors_by_class(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(each, places) -> int:
        assert COUNTED[1] in each.words
        made_up(tmp_path / "results" / "local" / "own" / "pets", ["cat", "dog"])
        place = {"results_dir": "results/local", "slug": "own", "folder": "pets"}
        places.write_text(json.dumps(place) + "\n")
        return 0

    monkeypatch.setattr(command, "run", run)
    assert command.main(["own-images", "ROOT=pets", "LABEL=pets", "WEIGHTS=null"]) == 0
    out = capsys.readouterr().out
    assert "test errors by class, residual_imagenet-18, seed 0" in out
    assert (tmp_path / "results/local/own/pets/figures/confusion.png").exists()
