"""Batches against loops; each one is a pure function of (seed, step)."""

import math

import pytest
import torch

from plainres.data.batches import (
    Augmentation,
    Batch,
    EvaluationBatches,
    Normaliser,
    TrainingBatches,
    crop_and_mirror,
    evenly_spaced,
    warp,
)

EVERYTHING = Augmentation(
    padding=2, mirror=True, rotation=20.0, scale=(0.8, 1.2), shift=1.5, noise=0.2
)
# mean 0, deviation 1
untouched = Normaliser(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), "pixel_mean")


def numbered(count: int, channels: int = 1, size: int = 4):
    """Images whose pixels are their number, and labels that are it too."""
    labels = torch.arange(count)
    pixels = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(count, channels, size, size)
    return pixels.contiguous(), labels


def noise(count: int, channels: int = 3, height: int = 8, width: int = 8, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8
    )


def stream(
    count: int = 40,
    augmentation: Augmentation = EVERYTHING,
    batch_size: int = 8,
    seed: int = 0,
    stop: int = 12,
    start: int = 0,
):
    pixels, labels = noise(count), torch.arange(count)
    normaliser = Normaliser(pixels, "channel")
    return TrainingBatches(pixels, labels, normaliser, augmentation, batch_size, seed, stop, start)


def numbered_stream(count: int, batch_size: int, stop: int):
    """Without augmentation, of images whose pixels are their labels."""
    options = {"batch_size": batch_size, "seed": 0, "stop": stop}
    return TrainingBatches(*numbered(count), untouched, Augmentation(), **options)


def augmented(images, augmentation: Augmentation, normaliser=untouched):
    """All images once, in their own order."""
    batch = TrainingBatches(
        images, torch.arange(len(images)), normaliser, augmentation, len(images), seed=5, stop=1
    ).batch(0)
    return batch.images[batch.labels.argsort()]


def batches_of(training: TrainingBatches) -> list[Batch]:
    """The batches that iterating makes, over all training steps."""
    return [
        training.make_batch({name: each[place] for name, each in step.draws.items()})
        for step in training
        for place in range(step.num_updates)
    ]


def assert_same(one, other):
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)


# The stream


def test_a_batch_depends_on_seed_and_step_alone():
    forwards = batches_of(stream())
    assert [step.iteration for step in stream()] == list(range(12))
    backwards = stream()
    for step in reversed(range(12)):
        assert_same(backwards.batch(step), forwards[step])
    for step in (11, 0, 6, 6, 5):
        assert_same(stream().batch(step), forwards[step])


@pytest.mark.parametrize("start", [0, 1, 5, 7, 11, 12])
def test_a_stream_that_starts_later_goes_on_as_if_it_had_not(start):
    whole, later = batches_of(stream()), batches_of(stream(start=start))
    assert len(later) == 12 - start
    for one, other in zip(later, whole[start:], strict=True):
        assert_same(one, other)


def test_the_global_generator_neither_feeds_nor_feels_the_stream():
    torch.manual_seed(1)
    first = stream().batch(3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert_same(stream().batch(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_shuffles_otherwise():
    assert not torch.equal(stream(seed=0).batch(0).labels, stream(seed=1).batch(0).labels)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(padding=2),
        Augmentation(mirror=True),
        Augmentation(rotation=20.0),
        Augmentation(scale=(0.8, 1.2)),
        Augmentation(shift=1.5),
        Augmentation(noise=0.2),
    ],
)
def test_every_seed_step_and_image_is_augmented_otherwise(augmentation):
    pixels = noise(1).expand(40, -1, -1, -1)  # one picture, so that order makes no difference

    def images(seed: int, step: int):
        options = {"batch_size": 8, "seed": seed, "stop": 12}
        stream = TrainingBatches(pixels, torch.arange(40), untouched, augmentation, **options)
        return stream.batch(step).images

    first = images(seed=0, step=0)
    assert not torch.equal(first, first.roll(1, 0))
    assert not torch.equal(first, images(seed=1, step=0))
    assert not torch.equal(first, images(seed=0, step=1))
    assert not torch.equal(first, images(seed=0, step=5))  # the same place in the next epoch


def test_every_epoch_is_a_new_permutation_and_pixels_stay_with_their_labels():
    batches = batches_of(numbered_stream(24, batch_size=6, stop=12))
    epochs = [torch.cat([batch.labels for batch in batches[i : i + 4]]) for i in (0, 4, 8)]
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(24))
    assert len({tuple(epoch.tolist()) for epoch in epochs} | {tuple(range(24))}) == 4
    for batch in batches:
        expected = batch.labels.view(-1, 1, 1, 1).expand(batch.images.shape)
        assert torch.equal((batch.images * 255).round().long(), expected)


def test_the_last_incomplete_batch_is_dropped():
    training = numbered_stream(23, batch_size=5, stop=8)
    batches = batches_of(training)
    assert training.iterations_per_epoch == 4
    assert {len(batch.labels) for batch in batches} == {5}
    for first in (0, 4):
        epoch = torch.cat([batch.labels for batch in batches[first : first + 4]])
        assert len(set(epoch.tolist())) == 20


def test_a_batch_may_be_the_whole_set():
    whole = numbered_stream(5, batch_size=5, stop=2)
    assert sorted(whole.batch(1).labels.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("batch_size", [0, 6])
def test_a_batch_below_one_image_or_beyond_the_set_is_refused(batch_size):
    message = rf"^batch_size {batch_size} lies outside 1 to 5, the number of training images"
    with pytest.raises(ValueError, match=rf"{message} \(protocol.batch_size=…\)$"):
        numbered_stream(5, batch_size, stop=2)


def test_batches_have_the_networks_type_and_layout():
    batch = stream().batch(0)
    assert batch.images.dtype == torch.float32
    assert batch.labels.dtype == torch.int64
    assert batch.images.shape == (8, 3, 8, 8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_without_augmentation_a_batch_is_the_normalised_set():
    pixels = noise(10)
    normaliser = Normaliser(pixels, "pixel_mean")
    batch = augmented(pixels, Augmentation(), normaliser)
    torch.testing.assert_close(batch, normaliser(pixels.float() / 255))


# Crop and mirror


def cropped_by_hand(images, padding, top, left, mirrored):
    count, channels, height, width = images.shape
    out = torch.zeros_like(images)
    for n in range(count):
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    row = i + int(top[n]) - padding
                    column = (width - 1 - j if mirrored[n] else j) + int(left[n]) - padding
                    if 0 <= row < height and 0 <= column < width:
                        out[n, c, i, j] = images[n, c, row, column]
    return out


@pytest.mark.parametrize(("height", "width", "padding"), [(6, 6, 2), (5, 7, 1), (3, 4, 4)])
def test_crop_and_mirror_equals_loops(height, width, padding):
    torch.manual_seed(0)
    images = torch.randn(20, 2, height, width)
    top, left = torch.randint(0, 2 * padding + 1, (2, 20))
    mirrored = torch.rand(20) < 0.5
    arguments = (images, padding, top, left, mirrored)
    assert torch.equal(crop_and_mirror(*arguments), cropped_by_hand(*arguments))


@pytest.mark.parametrize("padding", [0, 3])
def test_a_crop_from_the_middle_changes_nothing(padding):
    images = torch.randn(4, 3, 5, 6)
    middle = torch.full((4,), padding)
    for mirror, expected in ((False, images), (True, images.flip(-1))):
        cropped = crop_and_mirror(images, padding, middle, middle, torch.full((4,), mirror))
        assert torch.equal(cropped, expected)


def test_about_half_of_the_images_are_mirrored():
    ramp = torch.arange(8, dtype=torch.uint8).expand(2000, 1, 4, 8).contiguous()
    out = augmented(ramp, Augmentation(mirror=True))
    falls = out[:, 0, 0, 0] > out[:, 0, 0, -1]
    assert 900 < falls.sum().item() < 1100  # 4.5 standard deviations
    assert torch.equal(augmented(ramp, Augmentation(padding=0, mirror=False)), ramp.float() / 255)


def test_crops_take_every_offset_about_equally_often_and_do_not_mirror():
    pixels = torch.zeros(2500, 1, 9, 9, dtype=torch.uint8)
    pixels[:, :, 4, 4], pixels[:, :, 4, 5] = 255, 100
    out = augmented(pixels, Augmentation(padding=2))[:, 0]
    place = (out == 1).flatten(1).long().argmax(1)
    rows, columns = place // 9, place % 9
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    counts = torch.bincount((rows - 2) * 5 + columns - 2, minlength=25)
    # 100 expected of each of the 25 offsets, deviation 10
    assert 50 < counts.min() < counts.max() < 150
    right_of_it = out[torch.arange(2500), rows, columns + 1]
    assert torch.equal(right_of_it, torch.full((2500,), 100 / 255))


def test_the_border_of_a_crop_is_the_mean():
    pixels = noise(300, channels=1) // 4 + 150  # far from black
    normaliser = Normaliser(pixels, "channel")
    out = augmented(pixels, Augmentation(padding=3), normaliser)
    corners = out[:, 0, 0, 0]
    # the mean, which is 0 after normalisation; black would be about -9 deviations
    assert (corners == 0).float().mean() > 0.5
    assert out.min() > -3


# Warp


def warped_by_hand(image, angle: float, scale: float, right: float, down: float):
    """One channel (H, W), bilinear between the four pixels around the place a pixel comes from."""
    height, width = image.shape
    out = torch.zeros_like(image)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for i in range(height):
        for j in range(width):
            # y points up, as angles are counted
            x, y = j - (width - 1) / 2 - right, (height - 1) / 2 - i + down
            from_x, from_y = (cos * x + sin * y) / scale, (-sin * x + cos * y) / scale
            column, row = from_x + (width - 1) / 2, (height - 1) / 2 - from_y
            for r in (math.floor(row), math.floor(row) + 1):
                for c in (math.floor(column), math.floor(column) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        out[i, j] += image[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return out


def moved(images, angle: float = 0.0, scale: float = 1.0, right: float = 0.0, down: float = 0.0):
    count = len(images)
    return warp(
        images,
        torch.full((count,), angle),
        torch.full((count,), scale),
        torch.tensor([[right, down]]).expand(count, 2),
    )


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 9), (10, 6)])
def test_warp_equals_loops_with_a_motion_for_each_image(height, width):
    torch.manual_seed(0)
    images = torch.rand(6, 2, height, width, dtype=torch.double)
    angle = torch.empty(6, dtype=torch.double).uniform_(-180, 180)
    scale = torch.empty(6, dtype=torch.double).uniform_(0.6, 1.7)
    shift = torch.empty(6, 2, dtype=torch.double).uniform_(-2, 2)
    out = warp(images, angle, scale, shift)
    for n in range(6):
        for c in range(2):
            motion = (angle[n].item(), scale[n].item(), *shift[n].tolist())
            by_hand = warped_by_hand(images[n, c], *motion)
            torch.testing.assert_close(out[n, c], by_hand)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 9), (6, 10)])
def test_whole_pixels_move_right_and_down(height, width):
    images = torch.rand(3, 2, height, width)
    torch.testing.assert_close(moved(images), images, atol=1e-5, rtol=0)
    expected = torch.zeros_like(images)
    expected[:, :, 1:, 2:] = images[:, :, :-1, :-2]
    torch.testing.assert_close(moved(images, right=2.0, down=1.0), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_turn_counter_clockwise(turns):
    images = torch.rand(3, 2, 7, 7)
    turned = torch.rot90(images, turns, (2, 3))
    torch.testing.assert_close(moved(images, angle=90.0 * turns), turned, atol=1e-5, rtol=0)


def test_an_image_of_unequal_sides_turns_without_shear():
    images = torch.zeros(1, 1, 5, 9)
    images[0, 0, 1:4, 3:6] = torch.arange(1.0, 10.0).view(3, 3)
    expected = torch.zeros_like(images)
    expected[0, 0, 1:4, 3:6] = torch.rot90(images[0, 0, 1:4, 3:6])
    torch.testing.assert_close(moved(images, angle=90.0), expected, atol=1e-5, rtol=0)


def test_scale_two_enlarges_the_middle():
    image = torch.zeros(1, 1, 8, 8)
    image[:, :, 2:6, 2:6] = 1  # the middle half fills the image
    # the border pixels lie a quarter pixel inside the edge of the patch
    assert moved(image, scale=2.0).min() > 0.4
    assert moved(image, scale=2.0)[0, 0, 1:7, 1:7].min() > 1 - 1e-5
    small = moved(torch.ones(1, 1, 8, 8), scale=0.5)
    assert small[0, 0, 3:5, 3:5].min() > 1 - 1e-5
    assert small[0, 0, [0, 1, 6, 7]].max() < 1e-5  # black outside


def test_drawn_motions_fill_their_ranges_and_stay_within():
    spot = torch.zeros(500, 1, 15, 15, dtype=torch.uint8)
    spot[:, :, 7, 7] = 255
    shifted = augmented(spot, Augmentation(shift=2.0))[:, 0]
    offsets = torch.arange(15.0) - 7
    for axis in (1, 2):
        centres = (shifted.sum(3 - axis) * offsets).sum(1)
        assert centres.abs().max() <= 2 + 1e-3
        assert centres.min() < -1.8
        assert centres.max() > 1.8

    patch = torch.zeros(500, 1, 24, 24, dtype=torch.uint8)
    patch[:, :, 6:18, 6:18] = 255
    factors = (augmented(patch, Augmentation(scale=(0.5, 1.5))).sum((1, 2, 3)) / 144).sqrt()
    assert 0.48 < factors.min() < 0.55
    assert 1.45 < factors.max() < 1.52

    beam = torch.zeros(500, 1, 25, 25, dtype=torch.uint8)
    beam[:, :, 11:14, 20:23] = 255  # to the right of the middle
    turned = augmented(beam, Augmentation(rotation=30.0))[:, 0]
    across = torch.arange(25.0) - 12
    up, right = -(turned.sum(2) * across).sum(1), (turned.sum(1) * across).sum(1)
    angles = torch.rad2deg(torch.atan2(up, right))
    assert -31 < angles.min() < -27
    assert 27 < angles.max() < 31


# Noise


def test_noise_has_the_deviation_asked_for_and_comes_last():
    pixels = noise(200)
    normaliser = Normaliser(pixels, "channel")
    noisy = augmented(pixels, Augmentation(noise=0.3), normaliser)
    added = noisy - normaliser(pixels.float() / 255)
    assert added.mean().item() == pytest.approx(0, abs=0.01)
    assert added.std().item() == pytest.approx(0.3, rel=0.02)
    assert added.std(0).min() > 0.2  # every pixel its own


# Normalisation and evaluation


def test_channel_normalisation_gives_every_channel_mean_zero_and_deviation_one():
    pixels = noise(50)
    pixels[:, 1] //= 4
    normalised = Normaliser(pixels, "channel")(pixels.float() / 255)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    deviation = normalised.std((0, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=1e-5, rtol=0)


def test_pixel_mean_centres_every_pixel_and_keeps_the_scale():
    pixels = noise(50)
    normalised = Normaliser(pixels, "pixel_mean")(pixels.float() / 255)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(3, 8, 8), atol=1e-6, rtol=0)
    difference = (pixels[3].float() - pixels[8].float()) / 255
    torch.testing.assert_close(normalised[3] - normalised[8], difference)


@pytest.mark.parametrize("kind", ["channel", "pixel_mean"])
def test_one_grey_value_normalises_to_zero(kind):
    pixels = torch.full((4, 1, 3, 3), 77, dtype=torch.uint8)
    assert Normaliser(pixels, kind)(pixels.float() / 255).abs().max() < 0.1


def test_an_unknown_normalisation_names_the_legal_ones():
    legal = "channel, pixel_mean, imagenet"
    with pytest.raises(ValueError, match=f"^normalisation 'mean' is unknown; legal: {legal}$"):
        Normaliser(noise(2), "mean")


def test_imagenet_normalisation_is_torchvisions_and_of_colour_images_alone():
    from torchvision.models import ResNet18_Weights

    theirs = ResNet18_Weights.DEFAULT.transforms()
    ours = Normaliser(noise(2), "imagenet")
    assert ours.mean.flatten().tolist() == pytest.approx(theirs.mean)
    assert ours.deviation.flatten().tolist() == pytest.approx(theirs.std)
    with pytest.raises(ValueError, match="three channels, not 1"):
        Normaliser(noise(2)[:, :1], "imagenet")


def test_evaluation_uses_the_statistics_of_the_training_images():
    training, test = noise(60), noise(20, seed=1) // 2
    batch = next(iter(EvaluationBatches(test, torch.arange(20), Normaliser(training, "channel"))))
    flat = training.double().transpose(0, 1).flatten(1) / 255
    mean, deviation = flat.mean(1).view(1, 3, 1, 1), flat.std(1, correction=0).view(1, 3, 1, 1)
    expected = ((test.double() / 255 - mean) / deviation).float()
    torch.testing.assert_close(batch.images, expected, atol=1e-5, rtol=1e-5)
    assert batch.images.mean() < -0.5  # darker than the training images, and it shows


@pytest.mark.parametrize(("count", "sizes"), [(23, [10, 10, 3]), (20, [10, 10])])
def test_evaluation_covers_the_set_in_its_order_with_no_empty_last_batch(count, sizes):
    pixels, labels = numbered(count)
    evaluation = EvaluationBatches(pixels, labels, untouched, batch_size=10)
    batches = list(evaluation)
    assert len(evaluation) == len(sizes)
    assert [len(batch.labels) for batch in batches] == sizes
    assert torch.equal(torch.cat([batch.labels for batch in batches]), labels)
    assert torch.equal(torch.cat([batch.images for batch in batches]), pixels.float() / 255)


@pytest.mark.parametrize(("side", "expected"), [(8, 500), (64, 500), (224, 40), (2000, 1)])
def test_a_batch_of_large_images_has_as_many_pixels_as_one_of_small_images(side, expected):
    pixels = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(600, 3, side, side)
    assert EvaluationBatches(pixels, torch.zeros(600), untouched).batch_size == expected


def test_evaluation_of_some_images_takes_them_from_the_whole_set():
    pixels, labels = numbered(21)
    (batch,) = EvaluationBatches(pixels, labels, untouched, count=3)
    assert batch.labels.tolist() == [0, 10, 20]


@pytest.mark.parametrize("count", [1000, 64, 10])
def test_few_images_of_a_set_in_order_of_its_classes_are_of_all_classes_alike(count):
    labels = torch.arange(10).repeat_interleave(5000)
    counts = labels[evenly_spaced(len(labels), count)].bincount()
    assert counts.tolist() == pytest.approx([count / 10] * 10, abs=1)


@pytest.mark.parametrize("count", [None, 20, 21])
def test_all_images_stay_where_they_are(count):
    assert torch.arange(20)[evenly_spaced(20, count)].tolist() == list(range(20))
