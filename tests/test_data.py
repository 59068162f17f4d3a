"""Data sets: the tensors they become, the cache, and the messages when something is wrong."""

import io
import os
import re
import shutil
import sys
import tarfile
import urllib.error
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from composing import compose_cell
from PIL import Image

from plainres.data import entries, example_images, pictures, sources
from plainres.data.cache import cache_folder
from plainres.data.images import Images, Source, evaluation_parts
from plainres.data.sources import load
from plainres.run import sweep, train


def picture(number: int, height: int = 6, width: int = 6) -> np.ndarray:
    """uint8 (H, W, 3), another one for every number."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """train: two bees, three ants; test: one of each. Every image is another picture."""
    root = tmp_path / "insects"
    train = ("bee/0", "bee/1", "ant/0", "ant/1", "ant/2")
    names = [*(f"train/{name}.png" for name in train), "test/ant/0.png", "test/bee/0.png"]
    for number, name in enumerate(names):
        write_image(root / name, picture(number))
    return root


def in_both_parts(root: Path, name: str, pixels: np.ndarray, **options) -> None:
    """An image of a first class in train and test; a second class has another of its size."""
    for part in ("train", "test"):
        write_image(root / part / "a" / name, pixels, **options)
        write_image(root / part / "b" / "0.png", picture(99, *pixels.shape[:2]))


def pixels_of(source: Source) -> np.ndarray:
    """uint8 (N, H, W, 3) of the training images."""
    return source.train.pixels.permute(0, 2, 3, 1).numpy()


def zip_of(folder: Path, archive: Path, **more: bytes) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
        for name, content in more.items():
            file.writestr(name, content)
    return archive


def same(one: Source, other: Source) -> bool:
    return one.class_names == other.class_names and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in ((one.train, other.train), (one.test, other.test))
        for name in ("pixels", "labels")
    )


def load_folder(root, **options) -> Source:
    return load("image_folder", str(root), **options)


def refuse_to_decode(monkeypatch) -> None:
    def opened(*_, **__):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(Image, "open", opened)


def test_images_are_padded_with_black_evenly():
    plain, padded = load("digits"), load("digits", pad_to=11)
    assert padded.train.pixels.shape == (1408, 1, 11, 11)
    assert torch.equal(padded.train.pixels[:, :, 1:9, 1:9], plain.train.pixels)
    assert padded.train.pixels.sum() == plain.train.pixels.sum()
    assert padded.test.pixels.shape[-2:] == (11, 11)


def test_random_pixels_are_the_same_ones_every_time():
    source = load("random")
    assert source.train.pixels.shape == (50_000, 3, 32, 32)
    assert source.test.pixels.shape == (10_000, 3, 32, 32)
    assert load("random", image_size=4).train.pixels.shape == (50_000, 3, 4, 4)
    assert source.fingerprint == load("random").fingerprint
    assert (source.train.labels.bincount() > 4500).all()
    assert 127 < source.train.pixels[:1000].float().mean() < 128


def test_photographs_are_cut_into_squares_that_training_and_test_do_not_share():
    source = load("photos")
    assert source.train.pixels.shape == source.test.pixels.shape == (128, 3, 224, 224)
    assert source.train.labels.bincount().tolist() == [64, 64]
    assert source.class_names == ("china", "flower")
    assert load("photos", image_size=299).train.pixels.shape[-2:] == (299, 299)
    whole = load("photos", image_size=320)
    left, right = (images.pixels[0].float() for images in (whole.train, whole.test))
    assert (left - right).abs().mean() > 10, "the halves of a photograph are two pictures"
    with pytest.raises(ValueError, match=r"^data\.image_size 321 exceeds 320"):
        load("photos", image_size=321)


def test_example_images_are_a_folder_as_ones_own_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources, "PHOTO_GRID", (2, 2))
    folder = tmp_path / "pictures"
    assert example_images.main([str(folder)]) == 0
    source, photos = load("image_folder", root=str(folder)), load("photos")
    assert source.class_names == photos.class_names
    assert source.fingerprint == photos.fingerprint
    (folder / "train" / "china" / "001.png").unlink()
    (folder / "train" / "china" / ".001.png.x").touch()  # killed within the picture
    assert example_images.main([str(folder)]) == 0
    assert load("image_folder", root=str(folder)).fingerprint == photos.fingerprint
    mine = folder / "train" / "china" / "mine.png"
    mine.write_bytes(b"mine")
    capsys.readouterr()
    with pytest.raises(ValueError, match="pictures has other files; the example needs a folder th"):
        example_images.main([str(folder)])
    with pytest.raises(ValueError, match="0 classes; legal: from two up"):
        example_images.main([str(folder), "--classes", "0"])
    with pytest.raises(ValueError, match="pictures has other files; the example needs a folder th"):
        example_images.main([str(folder), "--classes", "2"])
    assert mine.read_bytes() == b"mine" and not (folder / "val").exists()


# Digits


def test_digits():
    source = load("digits")
    assert source.train.pixels.shape == (1408, 1, 8, 8)
    assert source.test.pixels.shape == (389, 1, 8, 8)
    assert source.train.pixels.dtype == torch.uint8
    assert source.train.labels.dtype == torch.int64
    assert (source.train.pixels.min(), source.train.pixels.max()) == (0, 255)
    assert source.class_names == tuple("0123456789")
    assert (source.num_classes, source.in_channels, source.validation) == (10, 1, None)
    for images in (source.train, source.test):
        assert images.labels.unique().tolist() == list(range(10))
    training = {image.numpy().tobytes() for image in source.train.pixels}
    assert not training & {image.numpy().tobytes() for image in source.test.pixels}


def test_the_fingerprint_is_that_of_the_images():
    assert load("digits").fingerprint == load("digits").fingerprint == "0e951de00033"
    source = load("digits")
    assert source.fingerprint != load("digits", image_size=4).fingerprint
    for change in ("pixels", "labels"):
        changed = load("digits")
        tensor = getattr(changed.test, change)
        tensor[-1] = tensor[-1] + 1
        assert changed.fingerprint != source.fingerprint


def test_an_unknown_source_names_the_legal_ones():
    legal = (
        "digits, cifar10, cifar100, fashion_mnist, image_folder, streamed_folder, random, photos"
    )
    with pytest.raises(ValueError, match=f"^data 'mnist' is unknown; legal: {legal}$"):
        load("mnist")


# Size


def test_half_the_size_is_the_rounded_mean_of_two_by_two_pixels():
    whole, half = load("digits"), load("digits", image_size=4)
    for part, small in ((whole.train, half.train), (whole.test, half.test)):
        pixels = part.pixels.numpy().astype(int)
        means = sum(pixels[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
        np.testing.assert_array_equal(small.pixels.numpy(), np.rint(means))
        assert torch.equal(part.labels, small.labels)
    assert half.train.pixels.dtype == torch.uint8


def test_the_same_size_and_double_size_keep_the_pixels():
    whole = load("digits")
    assert same(whole, load("digits", image_size=8))
    double = load("digits", image_size=16).test.pixels
    assert torch.equal(double, whole.test.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("image_size", 0, "is below 1$"),
        ("image_size", -8, "is below 1$"),
        ("val_size", -1, "lies outside 0 to 1407"),
        ("val_size", 1408, "lies outside 0 to 1407"),
        ("val_size", 5000, "lies outside 0 to 1407"),
        ("pad_to", 7, "is below 8, the size of the images$"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(option, value, message):
    with pytest.raises(ValueError, match=f"^data.{option} {value} {message}"):
        load("digits", **{option: value})


# Validation


def test_validation_images_are_taken_from_the_training_images():
    whole, split = load("digits"), load("digits", val_size=200)
    assert split.validation is not None
    assert (len(split.train), len(split.validation)) == (1208, 200)
    assert torch.equal(split.test.pixels, whole.test.pixels)

    def pairs(*parts: Images):
        return sorted(
            (pixels.numpy().tobytes(), label)
            for part in parts
            for pixels, label in zip(part.pixels, part.labels.tolist(), strict=True)
        )

    # as multisets: disjoint, and nothing lost
    assert pairs(split.train, split.validation) == pairs(whole.train)
    assert len(split.validation.labels.unique()) == 10
    assert not torch.equal(split.validation.pixels, whole.train.pixels[:200])


def test_the_same_images_validate_whatever_the_seed_of_a_run():
    first = load("digits", val_size=50).validation
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = load("digits", val_size=50).validation
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("val_size", "names"), [(0, ["test"]), (50, ["test", "val"])])
def test_parts_that_a_run_is_evaluated_on(val_size, names):
    parts = dict(evaluation_parts(load("digits", val_size=val_size)))
    assert list(parts) == names
    assert len(parts["test"]) == 389


# Folders and archives


def test_a_folder_of_images(folder):
    source = load_folder(folder)
    assert source.class_names == ("ant", "bee")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.test.labels.tolist() == [0, 1]
    expected = np.stack([picture(number) for number in (2, 3, 4, 0, 1)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(source.train.pixels.numpy(), expected)
    assert source.train.pixels.dtype == torch.uint8
    assert source.in_channels == 3


@pytest.mark.parametrize("top", [None, "wrapped"])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".tgz", ".zip"])
def test_an_archive_holds_what_its_folder_holds(folder, tmp_path, ending, top):
    archive = tmp_path / f"insects{ending}"
    paths = sorted(folder.rglob("*.png"), reverse=True)
    files = [(path, Path(top or ".") / path.relative_to(folder)) for path in paths]
    if ending == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path, name in files:
                file.write(path, name)
            file.writestr("__MACOSX/train/._x.png", b"left behind by a Mac")
    else:
        compression = {".tgz": "gz", ".tar": ""}.get(ending, ending.rpartition(".")[2])
        with tarfile.open(archive, f"w:{compression}") as file:
            for path, name in files:
                file.add(path, str(name))
    assert same(load_folder(archive), load_folder(folder))


def test_a_folder_may_be_wrapped_in_one_and_hold_hidden_files(folder, tmp_path):
    expected = load_folder(folder)
    outside = tmp_path / "outside"
    shutil.move(folder, outside / "inside")
    (outside / "inside" / "train" / "ant" / ".DS_Store").write_bytes(b"no image")
    (outside / ".git").mkdir()
    assert same(load_folder(outside), expected)


def test_images_may_lie_deeper_than_their_class_and_a_class_may_lack_test_images(folder):
    write_image(folder / "train" / "wasp" / "2019" / "0.png", picture(9))
    source = load_folder(folder)
    assert source.class_names == ("ant", "bee", "wasp")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert source.test.labels.tolist() == [0, 1]


def test_grey_palette_and_transparent_images_become_colour(tmp_path):
    colour = picture(0)
    grey = colour[:, :, 0].copy()
    palette = Image.fromarray(colour).quantize(36)
    for name, pixels in {"0-colour.png": colour, "1-grey.png": grey, "2-grey.bmp": grey}.items():
        in_both_parts(tmp_path, name, pixels)
    palette.save(tmp_path / "train" / "a" / "3-palette.png")
    read = pixels_of(load_folder(tmp_path))
    np.testing.assert_array_equal(read[0], colour)
    np.testing.assert_array_equal(read[1], np.dstack([grey] * 3))
    np.testing.assert_array_equal(read[2], read[1])
    np.testing.assert_array_equal(read[3], np.array(palette.convert("RGB")))


def test_what_is_transparent_is_white(tmp_path):
    colour, opacity = picture(0), picture(1)[:, :, 0]
    opacity[0], opacity[1] = 0, 255
    in_both_parts(tmp_path, "0.png", np.dstack([colour, opacity]))
    in_both_parts(tmp_path, "1.png", np.dstack([colour[:, :, 0], opacity]))  # grey
    palette = Image.fromarray(colour).quantize(36)
    palette.save(tmp_path / "train" / "a" / "2.png", transparency=0)
    read = pixels_of(load_folder(tmp_path)).astype(float)
    share = opacity[:, :, None] / 255.0
    for number, pixels in ((0, colour), (1, np.dstack([colour[:, :, 0]] * 3))):
        assert np.abs(read[number] - (share * pixels + (1 - share) * 255)).max() <= 1
    see_through = np.array(palette) == 0
    assert (read[2][see_through] == 255).all()
    np.testing.assert_array_equal(
        read[2][~see_through], np.array(palette.convert("RGB"))[~see_through]
    )


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda p: p), (3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1))],
)
def test_a_picture_stands_upright_by_its_exif_orientation(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    in_both_parts(tmp_path, "0.png", picture(0, 6, 6), exif=exif.tobytes())
    wide = tmp_path / "train" / "a" / "1.jpg"
    write_image(wide, picture(1, 8, 6), exif=exif.tobytes(), quality=95)
    read = pixels_of(load_folder(tmp_path, image_size=6))
    np.testing.assert_array_equal(read[0], upright(picture(0, 6, 6)))
    with Image.open(wide) as file:
        seen = upright(np.array(file))
    cut = (seen.shape[0] - 6) // 2, (seen.shape[1] - 6) // 2
    np.testing.assert_array_equal(read[1], seen[cut[0] : cut[0] + 6, cut[1] : cut[1] + 6])


def test_damaged_exif_leaves_a_picture_as_it_is_stored(tmp_path):
    in_both_parts(tmp_path, "0.png", picture(0), exif=b"Exif\0\0MM\0*\xff\xff")
    np.testing.assert_array_equal(pixels_of(load_folder(tmp_path))[0], picture(0))


def test_jpeg_images_are_read_as_pillow_reads_them(tmp_path):
    in_both_parts(tmp_path, "0.jpg", picture(0, 16, 16), quality=80)
    read = load_folder(tmp_path).test.pixels[0].permute(1, 2, 0).numpy()
    with Image.open(tmp_path / "test" / "a" / "0.jpg") as file:
        np.testing.assert_array_equal(read, np.array(file))


@pytest.mark.parametrize(
    ("brands", "package"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIC needs .* -m pip install 'pillow-heif'"),
        (b"mif1\0\0\0\0mif1heic", "HEIC needs .* -m pip install 'pillow-heif'"),
        (b"mif1\0\0\0\0mif1avif", "AVIF needs .* -m pip install 'pillow>=11.3'"),
    ],
)
def test_a_format_that_needs_a_package_names_it(folder, brands, package):
    content = b"\0\0\0\x18ftyp" + brands + bytes(60)
    (folder / "train" / "bee" / "1.heic").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train/bee/1\.heic is damaged, or .*{package}$"):
        load_folder(folder)


def test_heic_is_read_where_its_package_is_installed(folder, monkeypatch):
    """As pillow_heif does it: the package, once registered, opens what Pillow alone does not."""

    def register_heif_opener():
        def opened(file, name):
            file.seek(40)
            return Image.open(io.BytesIO(file.read()))

        Image.register_open("HEIC", opened, lambda start: start[4:12] == b"ftypheic")

    package = SimpleNamespace(register_heif_opener=register_heif_opener)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    pictures._register_heic.cache_clear()
    path = folder / "train" / "bee" / "1.png"
    path.write_bytes(b"\0\0\0\x18ftypheic".ljust(40, b"\0") + path.read_bytes())
    np.testing.assert_array_equal(pixels_of(load_folder(folder))[4], picture(1))
    pictures._register_heic.cache_clear()  # for the tests after this one


def test_images_of_many_sizes_become_squares_of_one(tmp_path):
    wide, tall, large = picture(0, 4, 10), picture(1, 9, 4), picture(2, 8, 8)
    for name, pixels in (("0", wide), ("1", tall), ("2", large)):
        in_both_parts(tmp_path, f"{name}.png", pixels)
    read = pixels_of(load_folder(tmp_path, image_size=4))
    np.testing.assert_array_equal(read[0], wide[:, 3:7])  # the middle square
    np.testing.assert_array_equal(read[1], tall[2:6])
    means = sum(large[i::2, j::2].astype(float) for i in (0, 1) for j in (0, 1)) / 4
    assert np.abs(read[2] - means).max() <= 1  # Pillow rounds rows and columns in turn


# Cache


def test_images_are_decoded_once_wherever_their_folder_moves(
    folder, own_cache, tmp_path, monkeypatch
):
    first = load_folder(folder)
    assert [path.suffix for path in own_cache.rglob("*") if path.is_file()] == [".pt"]
    refuse_to_decode(monkeypatch)
    assert same(load_folder(folder), first)
    shutil.move(folder, tmp_path / "elsewhere")
    assert same(load_folder(tmp_path / "elsewhere"), first)


def test_changed_pixels_and_an_image_in_another_class_are_decoded_anew(folder):
    load_folder(folder)
    write_image(folder / "train" / "ant" / "0.png", picture(77))
    changed = torch.from_numpy(picture(77)).permute(2, 0, 1)
    assert torch.equal(load_folder(folder).train.pixels[0], changed)
    # the files' contents keep their order
    shutil.move(folder / "train" / "bee" / "0.png", folder / "train" / "ant" / "9.png")
    assert load_folder(folder).train.labels.tolist() == [0, 0, 0, 0, 1]


def test_every_size_is_decoded_for_itself(folder):
    assert load_folder(folder, image_size=3).train.pixels.shape == (5, 3, 3, 3)
    assert load_folder(folder).train.pixels.shape == (5, 3, 6, 6)
    assert load_folder(folder, image_size=2).train.pixels.shape == (5, 3, 2, 2)


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_damaged_cache_is_made_again(folder, own_cache, monkeypatch, damage):
    first = load_folder(folder)
    (cached,) = own_cache.rglob("*.pt")
    if damage is None:
        torch.save({"train_pixels": torch.zeros(1)}, cached)
    else:
        cached.write_bytes(damage)
    assert same(load_folder(folder), first)
    refuse_to_decode(monkeypatch)
    assert same(load_folder(folder), first)


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAINRES_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("PLAINRES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "plainres"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "plainres"


@pytest.mark.parametrize("change", ["rename", "swap", "class", "part", "remove"])
def test_every_change_of_the_files_is_noticed(folder, change):
    before = load_folder(folder)
    one, two, test = (folder / n for n in ("train/ant/0.png", "train/bee/0.png", "test/ant/0.png"))
    if change == "rename":
        one.rename(one.with_name("7.png"))  # goes behind 1.png and 2.png
    elif change == "class":
        two.rename(one.with_name("7.png"))
    elif change == "remove":
        one.unlink()
    else:
        a, b = (two, one) if change == "swap" else (test, one)
        content = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(content)
    assert not same(load_folder(folder), before)


def test_a_flipped_bit_in_the_cache_is_no_pixel(folder, own_cache):
    first = load_folder(folder)
    (cached,) = own_cache.rglob("*.pt")
    content = bytearray(cached.read_bytes())
    content[content.find(first.train.pixels.numpy().tobytes()) + 3] ^= 16
    cached.write_bytes(content)
    assert same(load_folder(folder), first)


@pytest.mark.parametrize("place", ["a file", "read-only", "no home"])
def test_without_a_cache_it_goes_on_and_says_how_to_have_one(folder, tmp_path, monkeypatch, place):
    expected = load_folder(folder)
    assert not expected.notes
    (tmp_path / "file").touch()
    cache = {"a file": tmp_path / "file" / "x", "read-only": Path("/proc/x")}.get(place)
    monkeypatch.setenv("PLAINRES_CACHE", str(cache or ""))
    if place == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    source = load_folder(folder, val_size=1)
    assert len(source.train) == 4
    (note,) = source.notes
    where = r"\(no home\)" if place == "no home" else rf"in {cache} \(\w.*\)"
    assert re.match(f"the decoded images cannot be kept {where}, every process", note)
    assert note.endswith("PLAINRES_CACHE names another folder for them")


# Where test images come from


def test_val_is_the_test_set_where_there_is_no_other(folder):
    expected = load_folder(folder)
    (folder / "test").rename(folder / "val")
    source = load_folder(folder)
    assert same(source, expected)
    assert source.notes == ("data.root has no test/: val/ is the test set",)
    write_image(folder / "test" / "bee" / "5.png", picture(60))
    assert (len(load_folder(folder).test), load_folder(folder).notes) == (1, ())


def bare(folder: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for number in range(count):
            write_image(folder / name / f"{number:02d}.png", picture(hash_of(name) + number))
    return folder


def hash_of(name: str) -> int:
    return 100 * sum(name.encode())


def test_classes_without_train_and_test_are_split_class_by_class(tmp_path):
    folder = bare(tmp_path / "pets", cat=20, dog=10, eel=3)
    source = load_folder(folder)
    assert source.class_names == ("cat", "dog", "eel")
    assert source.test.labels.bincount().tolist() == [4, 2, 1]
    assert source.train.labels.bincount().tolist() == [16, 8, 2]
    both = [image.numpy().tobytes() for image in (*source.train.pixels, *source.test.pixels)]
    assert len(set(both)) == 33, "no image is in both parts, and none is lost"
    assert source.notes == (
        "data.root has no train/ and test/: 7 of its 33 images are the test set, 20% of each "
        "class, drawn with seed 2015 whatever the seed of a run "
        "(data.test_share=… sets the share)",
    )
    torch.manual_seed(3)
    assert load_folder(folder).fingerprint == source.fingerprint
    wrapped = load_folder(shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path, "pets"))
    assert same(wrapped, source)
    half = load_folder(folder, test_share=0.5)
    assert half.test.labels.bincount().tolist() == [10, 5, 2]
    assert "50%" in half.notes[0]


def split_run(folder: Path, results: Path) -> tuple[str, ...]:
    protocol = ("protocol=smoke", "protocol.batch_size=8", "protocol.iterations=8")
    schedule = ("protocol.error_window=4", "model.depth=8", "threads=1")
    images = ("data=image_folder", f"data.root={bare(folder, cat=10, dog=10)}", "data.label=pets")
    return (*protocol, *schedule, *images, f"results_dir={results}")


def test_a_run_says_how_its_images_were_split(tmp_path, capsys):
    words = split_run(tmp_path / "pets", tmp_path)
    cell, half = (compose_cell(tmp_path, *words, *more) for more in ((), ["data.test_share=0.5"]))
    assert "test_share" not in cell.identity["data"], "rows of before keep their hash"
    assert half.identity["data"]["test_share"] == 0.5
    train.train_cell(cell)
    assert "data.root has no train/ and test/: 4 of its 20 images are" in capsys.readouterr().err


def test_a_sweep_says_it_once_and_needs_no_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PLAINRES_CACHE", "/proc/nowhere")
    words, started = split_run(tmp_path / "pets", tmp_path), sweep.Sweep()
    started.cells = [compose_cell(tmp_path, *words, f"seed={seed}") for seed in (0, 1)]
    assert len(started._prepare(local=False)) == 2
    printed = capsys.readouterr().out
    for note in ("4 of its 20 images are the test set", "the decoded images cannot be kept"):
        assert printed.count(note) == 1


def test_images_that_changed_since_are_noticed(tmp_path):
    pets, started = tmp_path / "pets", sweep.Sweep()
    words = split_run(pets, tmp_path)

    def prepared(seeds: int, *more: str) -> list[str]:
        sources.load_and_keep.cache_clear()
        started.cells = [
            compose_cell(tmp_path, *words, f"seed={seed}", *more) for seed in range(seeds)
        ]
        return [cell.name for cell in started._prepare(local=False)]

    train.train_cell(compose_cell(tmp_path, *words))
    assert prepared(seeds=1) == []
    Image.new("RGB", (6, 6)).save(next(pets.rglob("*.png")))
    for seeds in (1, 2):
        with pytest.raises(ValueError, match=r"seed0 was measured on other images \(fingerprint"):
            prepared(seeds)
    assert prepared(2, "force=true") == ["residual-8-seed1", "residual-8-seed0"]
    assert (tmp_path / "depth/smoke/runs/residual-8-seed0.old1/record.json").exists()


def test_a_split_does_not_take_the_first_images(tmp_path):
    source = load_folder(bare(tmp_path, cat=20, dog=20))
    numbers = [
        number
        for number in range(20)
        if tuple(picture(hash_of("cat") + number)[0, 0])
        in {tuple(image[:, 0, 0].tolist()) for image in source.test.pixels}
    ]
    assert len(numbers) == 4
    assert numbers not in ([0, 1, 2, 3], [16, 17, 18, 19])


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("image_folder", 0.0, r"^data\.test_share 0\.0 is no number between 0 and 1$"),
        ("image_folder", 1, r"^data\.test_share 1 is no number between 0 and 1$"),
        ("image_folder", float("nan"), r"^data\.test_share nan is no number between 0 and 1$"),
        ("image_folder", 0.5, r"^data\.test_share 0\.5 is for images without train/ and test/"),
        ("digits", 0.5, r"^data\.test_share is for data=image_folder; digits has a test set$"),
    ],
)
def test_a_share_that_cannot_be_had_is_refused(folder, name, share, message):
    with pytest.raises(ValueError, match=message):
        load(name, str(folder), test_share=share)


def test_no_class_with_two_images_leaves_nothing_to_test_on(tmp_path):
    with pytest.raises(ValueError, match="has no class with two images"):
        load_folder(bare(tmp_path, cat=1, dog=1))


# What is wrong with a folder


def remove_all(folder: Path, name: str) -> None:
    for path in (folder / name).rglob("*.png"):
        path.unlink()


def remove_folders(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name)


def shrink_all(folder: Path, name: str) -> None:
    for path in (folder / name).rglob("*.png"):
        write_image(path, picture(0, 3, 3))


NO_PARTS = "has no train/ and test/ folders"
DAMAGED_PNM = b"P6\n6 x6\n255\n" + bytes(108)
FAULTS = {
    "no test": (lambda f: remove_folders(f, "test"), NO_PARTS),
    "no train": (lambda f: remove_folders(f, "train"), NO_PARTS),
    "empty": (lambda f: remove_folders(f, "train", "test"), f"{NO_PARTS}, and no class folders"),
    "one class": (
        lambda f: remove_folders(f, "train/bee", "test/bee"),
        "train/ has one class only, 'ant'",
    ),
    "one bare class": (
        lambda f: (shutil.move(f / "train" / "ant", f), remove_folders(f, "train", "test")),
        f"{NO_PARTS}, and one class only, 'ant'",
    ),
    "no classes": (
        lambda f: remove_folders(f, "train/ant", "train/bee"),
        "train/ has no class folders",
    ),
    "new class": (
        lambda f: write_image(f / "test" / "wasp" / "0.png", picture(0)),
        "class 'wasp' is in test but not in train.*ant, bee",
    ),
    "empty class": (lambda f: remove_all(f, "train/bee"), "class folder train/bee is empty"),
    "empty test": (lambda f: remove_all(f, "test"), "test/ has no images"),
    "text": (
        lambda f: (f / "train" / "bee" / "1.png").write_text("a bee"),
        r"train/bee/1\.png cannot be read as an image",
    ),
    "damaged PNM": (
        lambda f: (f / "train" / "bee" / "1.png").write_bytes(DAMAGED_PNM),
        r"train/bee/1\.png cannot be read as an image",
    ),
    "empty file": (
        lambda f: (f / "test" / "ant" / "0.png").write_bytes(b""),
        r"test/ant/0\.png cannot be read as an image",
    ),
    "other size": (
        lambda f: write_image(f / "train" / "bee" / "0.png", picture(0, 6, 7)),
        r"train/bee/0\.png has shape .*data\.image_size",
    ),
    "test size": (
        lambda f: shrink_all(f, "test"),
        "train and test images differ in shape; set data.image_size",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_refused_by_name(folder, fault, own_cache):
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(ValueError, match=message) as refusal:
        load_folder(folder)
    assert str(folder) in str(refusal.value)
    assert not list(own_cache.rglob("*.pt"))


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_an_image_cut_short_is_named(folder, ending):
    buffer = io.BytesIO()
    Image.fromarray(picture(0, 32, 32)).save(buffer, {"png": "PNG", "jpg": "JPEG"}[ending])
    half = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    (folder / "train" / "bee" / f"cut.{ending}").write_bytes(half)
    message = rf"insects: train/bee/cut\.{ending} cannot be read as an image"
    with pytest.raises(ValueError, match=message):
        load_folder(folder, image_size=6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"^data.root .*/nowhere does not exist; legal: train/<class>/"),
        ("images.rar", r"images\.rar is neither a folder nor .* legal endings: \.tar, .*\.zip"),
    ],
)
def test_a_root_that_is_no_folder_and_no_archive_names_what_is_legal(tmp_path, name, message):
    (tmp_path / "images.rar").write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path / name)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".zip"])
def test_a_damaged_archive_is_named(tmp_path, ending):
    archive = tmp_path / f"images{ending}"
    archive.write_bytes(b"these are not the bytes of an archive " * 40)
    with pytest.raises(ValueError, match=rf"^archive .*/images{ending} cannot be unpacked: .+$"):
        load_folder(archive)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.bz2", ".zip"])
def test_an_archive_cut_short_is_named(folder, tmp_path, ending):
    archive = tmp_path / f"images{ending}"
    kind = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tar.bz2": "bztar"}[ending]
    whole = Path(shutil.make_archive(str(tmp_path / "whole"), kind, folder)).read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=str(archive)):
        load_folder(archive)


def test_a_faulty_image_in_an_archive_is_named(folder, tmp_path):
    (folder / "train" / "bee" / "1.png").write_text("a bee")
    archive = shutil.make_archive(str(tmp_path / "whole"), "tar", folder)
    message = rf"^{archive}: train/bee/1\.png cannot be read as an image \(\w+\)$"
    with pytest.raises(ValueError, match=message):
        load_folder(archive)


def test_an_archive_is_read_in_its_place(folder, tmp_path, monkeypatch):
    """So neither the free space nor tarfile's filters (not in every 3.10 and 3.11) matter."""
    expected, archives = load_folder(folder), []
    for kind in ("zip", "tar", "xztar"):
        archives.append(shutil.make_archive(str(tmp_path / kind), kind, folder))

    def unpacks(*_, **__):
        raise AssertionError("it was unpacked")

    for kind in (zipfile.ZipFile, tarfile.TarFile):
        monkeypatch.setattr(kind, "extractall", unpacks)
        monkeypatch.setattr(kind, "extract", unpacks)
    for archive in archives:
        assert same(load_folder(archive), expected)


def test_an_archive_that_grows_without_measure_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "ARCHIVE_LIMIT", 1 << 20)
    zeros = {"train/ant/zeros.png": bytes(10 << 20)}
    archives = [zip_of(folder, tmp_path / "images.zip", **zeros)]
    (folder / "train" / "ant" / "zeros.png").write_bytes(bytes(10 << 20))
    archives += [shutil.make_archive(str(tmp_path / "x"), kind, folder) for kind in ("gztar",)]
    for archive in archives:
        message = r"cannot be unpacked: it holds more .* 100 times its own size; .* unpack it"
        with pytest.raises(ValueError, match=message):
            load_folder(archive)


def test_images_that_would_fill_the_memory_are_refused(folder, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 30)  # 900 bytes in all
    message = r"7 images of 6×6 pixels take 0\.0 GiB, more than half .*; set a smaller data\."
    with pytest.raises(ValueError, match=message):
        load_folder(folder)
    assert len(load_folder(folder, image_size=2).train) == 5


def test_a_zip_of_windows_separates_by_backslashes(folder, tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("train\\ant\\", b"")
        for path in folder.rglob("*.png"):
            file.writestr(str(path.relative_to(folder)).replace("/", "\\"), path.read_bytes())
    assert same(load_folder(archive), load_folder(folder))


@pytest.mark.parametrize("encoding", ["utf-8", "cp437", "utf-8 without its flag"])
def test_names_in_a_zip_are_read_in_the_encoding_that_they_have(folder, tmp_path, encoding):
    archive, written = tmp_path / "images.zip", encoding.split()[0]
    stand_in = "x" * len("frêlon".encode(written))  # without the flag zipfile writes ASCII only
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.png"):
            name = "frêlon" if encoding == "utf-8" else stand_in
            file.writestr(str(path.relative_to(folder)).replace("ant", name), path.read_bytes())
    content = archive.read_bytes().replace(stand_in.encode(), "frêlon".encode(written))
    archive.write_bytes(content)
    assert load_folder(archive).class_names == ("bee", "frêlon")


@pytest.mark.parametrize("damage", ["cut", "flipped", "zeroed"])
def test_a_plain_tar_that_is_damaged_between_its_files_is_named(folder, tmp_path, damage):
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as file:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            file.add(path, str(path.relative_to(folder)))
    content = bytearray(archive.read_bytes())
    header = content.find(b"train/ant/0.png")  # the third last: python would end there
    if damage == "cut":
        del content[header:]
    elif damage == "flipped":
        content[header] ^= 1
    else:
        content[header : header + 512] = bytes(512)  # as the end mark
    archive.write_bytes(content)
    message = r"images\.tar cannot be unpacked: it is (damaged: there are files|cut short)"
    with pytest.raises(ValueError, match=message):
        load_folder(archive)


def test_the_checksum_of_a_compressed_tar_is_read(folder, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "whole"), "gztar", folder))
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1  # gzip's CRC-32
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"whole\.tar\.gz cannot be unpacked: CRC check failed"):
        load_folder(archive)


def test_an_archive_cannot_write_outside(tmp_path):
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as file:
        file.addfile(tarfile.TarInfo("../escaped.png"), io.BytesIO(b""))
    with pytest.raises(ValueError, match=r"images\.tar cannot be unpacked"):
        load_folder(archive)


# torchvision's sets


class Stub:
    """As torchvision's data sets answer, without their files."""

    def __init__(self, root, train, download):
        assert download
        self.root = root
        count = 6 if train else 4
        pixels = np.random.default_rng(count).integers(0, 256, (count, *self.shape), dtype=np.uint8)
        labels = [number % 3 for number in range(count)]
        self.data, self.targets = (
            (torch.from_numpy(pixels), torch.tensor(labels)) if self.tensors else (pixels, labels)
        )
        self.classes = ["plane", "car", "bird"]


@pytest.mark.parametrize(
    ("name", "class_name", "shape", "tensors"),
    [
        ("cifar10", "CIFAR10", (32, 32, 3), False),
        ("cifar100", "CIFAR100", (32, 32, 3), False),
        ("fashion_mnist", "FashionMNIST", (28, 28), True),
    ],
)
def test_torchvisions_sets_become_images_of_one_layout(
    monkeypatch, tmp_path, name, class_name, shape, tensors
):
    stub = type(class_name, (Stub,), {"shape": shape, "tensors": tensors})
    monkeypatch.setattr(f"torchvision.datasets.{class_name}", stub)
    source = load(name, str(tmp_path))
    channels = 3 if len(shape) == 3 else 1
    assert source.train.pixels.shape == (6, channels, *shape[:2])
    assert source.test.pixels.shape == (4, channels, *shape[:2])
    assert source.train.pixels.dtype == torch.uint8
    assert source.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert source.class_names == ("plane", "car", "bird")
    original = np.asarray(stub(tmp_path, train=True, download=True).data)
    for channel in range(channels):
        plane = original[..., channel] if channels == 3 else original
        np.testing.assert_array_equal(source.train.pixels[:, channel].numpy(), plane)
    assert load(name, str(tmp_path), image_size=14).train.pixels.shape == (6, channels, 14, 14)


@pytest.mark.parametrize(
    ("name", "class_name", "archive", "error"),
    [
        ("cifar10", "CIFAR10", "cifar-10-python.tar.gz", urllib.error.URLError("unknown name")),
        ("cifar10", "CIFAR10", "cifar-10-python.tar.gz", TimeoutError()),
        ("cifar100", "CIFAR100", "cifar-100-python.tar.gz", RuntimeError("File is corrupted.")),
        ("fashion_mnist", "FashionMNIST", "FashionMNIST/raw", RuntimeError("Error:\nTwo lines\n")),
    ],
)
def test_without_network_the_error_says_what_else_can_be_done(
    monkeypatch, tmp_path, name, class_name, archive, error
):
    def unreachable(**_):
        raise error

    monkeypatch.setattr(f"torchvision.datasets.{class_name}", unreachable)
    start = rf"^{class_name} is not in {tmp_path} and cannot be downloaded"
    with pytest.raises(OSError, match=start) as refusal:
        load(name, str(tmp_path))
    message = str(refusal.value)
    for words in (*str(error).splitlines()[:1], f"put {archive}", "data=digits"):
        assert words in message
    assert "data=image_folder" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("fashion_mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
    ],
)
def test_a_damaged_file_of_a_set_is_not_called_absent(monkeypatch, tmp_path, name, file):
    def unreachable(*_, **__):
        raise urllib.error.URLError("unknown name")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.endswith("ubyte"):  # these have no checksum; all are there, and one is cut short
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3"):
            dimensions = (1, 2, 2) if "images" in part else (1,)
            header = bytes(
                [0, 0, 8, len(dimensions), *(b for n in dimensions for b in (0, 0, 0, n))]
            )
            (path.parent / f"{part}-ubyte").write_bytes(header + bytes(np.prod(dimensions)))
        shutil.copy(path.parent / "train-labels-idx1-ubyte", path.parent / "t10k-labels-idx1-ubyte")
    path.write_bytes(path.read_bytes()[:-1] if path.exists() else b"\x1f\x8b and no more")
    start = rf"^{path} is damaged: delete it, and it is downloaded again, if there is a network \("
    with pytest.raises(OSError, match=start) as refusal:
        load(name, str(tmp_path))
    assert "offline: put" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_xz_archive_damaged_inside_is_named(tmp_path):
    root = tmp_path / "set"
    for number, name in enumerate(["train/ant/0.png", "train/ant/1.png", "test/ant/0.png"]):
        write_image(root / name, picture(number, 40, 40))
    archive = Path(shutil.make_archive(str(tmp_path / "images"), "xztar", root))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = b"\0" * 20
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"images\.tar\.xz cannot be unpacked"):
        load_folder(archive)


def test_an_encrypted_archive_is_named(tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("train/a/0.png", "train/b/0.png", "test/a/0.png"):
            file.writestr(name, b"x")
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(header) + flags] |= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"images\.zip cannot be unpacked"):
        load_folder(archive)


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    grey = picture(0)[:, :, 0]
    in_both_parts(tmp_path, "0.png", grey.astype(np.uint16) * 257)
    read = load_folder(tmp_path).train.pixels[0, 0].numpy()
    np.testing.assert_allclose(read, grey, atol=1)


def test_an_empty_class_folder_is_refused_after_the_rest_was_cached(folder):
    load_folder(folder)
    (folder / "train" / "wasp").mkdir()
    with pytest.raises(ValueError, match="class folder train/wasp is empty"):
        load_folder(folder)


def test_what_systems_leave_behind_is_no_picture_and_no_class(folder, tmp_path):
    expected = load_folder(folder)
    for name in ("ant/.ipynb_checkpoints/0.png", "ant/.AppleDouble/0.png", "@eaDir/0.png"):
        write_image(folder / "train" / name, picture(50))
        write_image(folder / "test" / name, picture(51))
    for name in ("train/ant/Thumbs.db", "test/bee/desktop.ini", "train/bee/._0.png"):
        (folder / name).write_bytes(b"no image")
    write_image(folder / "__MACOSX" / "train" / "ant" / "0.png", picture(52))
    assert same(load_folder(folder), expected)
    for kind in ("zip", "tar"):
        archive = shutil.make_archive(str(tmp_path / "whole"), kind, folder)
        assert same(load_folder(archive), expected)


def test_links_are_followed_and_what_they_lead_to_is_in_the_cache(folder, tmp_path):
    expected = load_folder(folder)
    shutil.move(folder / "train" / "ant", tmp_path / "ants")
    (folder / "train" / "ant").symlink_to(tmp_path / "ants")
    bee = folder / "train" / "bee" / "0.png"
    shutil.move(bee, tmp_path / "bee.png")
    bee.symlink_to(tmp_path / "bee.png")
    assert same(load_folder(folder), expected)
    write_image(tmp_path / "ants" / "0.png", picture(77))
    np.testing.assert_array_equal(pixels_of(load_folder(folder))[0], picture(77))
    write_image(tmp_path / "bee.png", picture(78))
    np.testing.assert_array_equal(pixels_of(load_folder(folder))[3], picture(78))


def test_links_in_a_tar_archive_are_followed(folder, tmp_path):
    os.link(folder / "train" / "ant" / "0.png", folder / "train" / "bee" / "8.png")
    (folder / "train" / "bee" / "9.png").symlink_to("../ant/1.png")
    expected = load_folder(folder)
    archive = shutil.make_archive(str(tmp_path / "whole"), "xztar", folder)
    with tarfile.open(archive) as file:
        assert sum(member.islnk() or member.issym() for member in file) == 2
    assert same(load_folder(archive), expected)
    (folder / "train" / "ant" / "1.png").unlink()
    archive = shutil.make_archive(str(tmp_path / "lacking"), "tar", folder)
    with pytest.raises(ValueError, match=r"train/bee/9\.png is a link to a file that the archive"):
        load_folder(archive)


NO_PICTURES = {
    "a FIFO": (lambda path: os.mkfifo(path), "is no regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    "a broken link": (lambda path: path.symlink_to("nowhere"), "is a broken link"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "is a broken link"),
    "a loop": (lambda path: path.symlink_to(".."), "is a link to a folder that it lies in"),
    "too large": (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "is larger than 1 GiB"),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
@pytest.mark.parametrize("place", ["train/ant/x.png", "test/x"])
def test_what_can_be_no_picture_is_refused_at_once(folder, kind, place):
    make, message = NO_PICTURES[kind]
    make(folder / place)
    with pytest.raises(ValueError, match=f"insects: {place} {message}"):
        load_folder(folder)


def test_a_name_that_is_no_text_is_a_name(folder):
    name = os.fsdecode(b"\xff.png")
    write_image(folder / "train" / "ant" / name, picture(8))
    np.testing.assert_array_equal(pixels_of(load_folder(folder))[3], picture(8))


def test_a_palette_with_transparency_is_read_without_a_warning(folder):
    Image.fromarray(picture(0)).quantize(36).save(
        folder / "train" / "bee" / "1.png", transparency=bytes(range(36))
    )
    load_folder(folder)
