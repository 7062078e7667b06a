"""Augmentation: what it is by default, what it leaves alone, and the batches of before, to the last byte."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data import (
    AUGMENTATIONS,
    DATASETS,
    DataError,
    Images,
    augment_of,
    crop_padding,
    describe_augment,
    load_dataset,
    shuffled_batches,
)
from training.data.augmentation import cut_out

# Batches of 16, seed 7 + count, of the code before augmentation was an option.
GOLDEN = {
    (33, 1, 8): ("c9099dfd51c9b72dcdbc74bc22180bb65bb43b1cdfaa37d5be288be1913ac5d9",
                 "5b2c6ca99df4229b2922fd8a77daf565757b70f01c0948dbcb2612ab53e567ab"),
    (70, 3, 32): ("daa00406c7ae913063e4dc8b6b50950b7865819f1b6b894730952532a07e030a",
                  "e6bfb2e13c17d22a38cd99f19b0dd7b728b61481165e870590fb28882aaa6fdc"),
    (50, 1, 28): ("e3d32aef500f37ae12f4b84e1bc9ed94b9193e09b697c564adcab7d892636146",
                  "dfc0a6c54fba012a18d38bb3a12b458c664c5030866f06e453303018177e77a2"),
    (40, 3, 64): ("95b9ee8cbc473daf30e11598e28d54669a4c3907fd304e3efe4bc613a69e316d",
                  "d00942aecef6dae76369f94b1d3ea5b15c2902afa78714bbbe23e8caef99595d"),
    (19, 2, 9): ("0303a8ad4d62c0927eec97d0b4074a83831aa4e680b2186cf354978d360bc750",
                 "9cb1d2775f7f7877aaba2363704f879faf02cae246c3b16ec966728183b60a30"),
}


def noise(count, channels, height, width):
    generator = np.random.default_rng(count + channels + height + width)
    return Images(torch.from_numpy(generator.integers(0, 256, (count, channels, height, width), dtype=np.uint8)),
                  torch.from_numpy(generator.integers(0, 10, count)))


def numbered(count, height, width):
    """Image i holds 1 + i at its left end and 200 elsewhere, and label i."""
    pixels = torch.full((count, 1, height, width), 200, dtype=torch.uint8)
    pixels[:, :, :, 0] = torch.arange(1, count + 1, dtype=torch.uint8)[:, None, None]
    return Images(pixels, torch.arange(count))


@pytest.mark.parametrize("shape", GOLDEN)
@pytest.mark.parametrize("number", [0, 1])
def test_shuffled_batches__are_those_of_before(shape, number):
    count, channels, size = shape
    digest = hashlib.sha256()
    for batch in shuffled_batches(noise(count, channels, size, size), 16, augment=AUGMENTATIONS[1 + number], seed=7 + count):
        digest.update(repr(tuple(batch.pixels.shape)).encode())
        digest.update(batch.pixels.contiguous().numpy().tobytes())
        digest.update(batch.labels.numpy().tobytes())
    assert digest.hexdigest() == GOLDEN[shape][number]


def test_npz__of_two_classes_that_are_mirror_images_keeps_them_apart_by_default(tmp_path):
    """Flipped half of the time they are one class: 65 % were reached, the transposed images 100 %."""
    left = np.zeros((40, 16, 16, 1), np.uint8)
    left[:, :, :5] = 255
    images = np.concatenate([left, left[:, :, ::-1]])
    labels = np.repeat([0, 1], 40)
    np.savez(tmp_path / "mirror.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = load_dataset("npz", tmp_path / "mirror.npz")
    assert data.augment == "none"
    for seed in range(5):
        for batch in shuffled_batches(data.train, 16, augment=data.augment, seed=seed):
            dark_on_the_left = (batch.pixels[:, 0, :, 0] == 0).all(1)
            assert torch.equal(dark_on_the_left.long(), batch.labels)


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20), st.integers(2, 30))
def test_shuffled_batches__under_none_hold_the_very_bytes(seed, height, width, count):
    images = noise(count, 3, height, width)
    kept = {image.numpy().tobytes(): int(label) for image, label in zip(images.pixels, images.labels, strict=True)}
    for batch in shuffled_batches(images, 7, augment="none", seed=seed):
        for image, label in zip(batch.pixels, batch.labels, strict=True):
            assert image.contiguous().numpy().tobytes() in kept
            assert int(label) in kept.values()


@pytest.mark.parametrize(("height", "width"), [(4, 4), (1, 1), (7, 7), (1, 7)])
def test_crop__leaves_images_alone_that_are_too_small(height, width):
    images = numbered(30, height, width)
    for batch in shuffled_batches(images, 30, augment="crop", seed=1):
        assert torch.equal(batch.pixels, images.pixels[batch.labels])


@pytest.mark.parametrize(("height", "width", "moved"), [(4, 32, 3), (1, 64, 3), (32, 4, 2), (64, 7, 2)])
def test_crop__of_flat_images_moves_them_along_their_long_axis_only(height, width, moved):
    images = noise(60, 1, height, width)
    most = crop_padding(height, width)[moved - 2]
    batch = next(shuffled_batches(images, 60, augment="crop", seed=1))
    original = images.pixels[torch.randperm(60, generator=torch.Generator().manual_seed(1))]
    assert not torch.equal(batch.pixels, original)
    for got, image in zip(batch.pixels, original, strict=True):
        middle = got.unsqueeze(0).narrow(moved, most, got.shape[moved - 1] - 2 * most)
        shifts = [image.unsqueeze(0).narrow(moved, start, middle.shape[moved]) for start in range(2 * most + 1)]
        assert any(torch.equal(middle, shift) for shift in shifts)


def test_flip__of_images_too_small_to_crop_still_mirrors():
    images = numbered(60, 4, 4)
    batch = next(shuffled_batches(images, 60, augment="crop-flip", seed=1))
    ends = batch.pixels[:, 0, 0, [0, 3]]
    mirrored = ends[:, 0] == 200
    assert 0 < int(mirrored.sum()) < 60
    assert torch.equal(batch.pixels[~mirrored], images.pixels[batch.labels[~mirrored]])
    assert torch.equal(batch.pixels[mirrored], images.pixels[batch.labels[mirrored]].flip(3))


def test_cut__is_a_black_square_and_nothing_else():
    white = Images(torch.full((300, 3, 32, 20), 255, dtype=torch.uint8), torch.zeros(300, dtype=torch.int64))
    cut = cut_out(white.pixels, 5, torch.Generator().manual_seed(0))
    black = (cut == 0).all(1)
    assert torch.equal(black, (cut == 0).any(1))
    assert set(np.unique(cut.numpy())) == {0, 255}
    heights, widths = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(black.sum((1, 2)), heights * widths), "a rectangle"
    assert int(heights.max()) == int(widths.max()) == 5
    assert int(heights.min()) >= 3, "its center is in the image"
    assert len({tuple(image.nonzero()[0].tolist()) for image in black}) > 100


def test_cut__follows_crop_and_flip():
    images = noise(40, 3, 32, 32)
    plain, cut = (next(shuffled_batches(images, 40, augment=name, seed=3)) for name in ("crop-flip", "crop-flip-cut"))
    kept = cut.pixels == plain.pixels
    assert not kept.all()
    assert (cut.pixels[~kept] == 0).all()
    assert "a square of 8 x 8 pixels black" in describe_augment("crop-flip-cut", 32, 32)


def test_defaults__are_those_of_the_table():
    assert {name: source.augment for name, source in DATASETS.items()} == {
        "digits": "crop", "cifar10": "crop-flip", "cifar100": "crop-flip", "mnist": "crop", "fashion-mnist": "crop-flip",
        "svhn": "crop", "npz": "none", "folder": "none", "squad": "none"}
    assert load_dataset("digits").augment == "crop"
    assert augment_of("cifar10", None) == augment_of("npz", "crop-flip") == "crop-flip"


@pytest.mark.parametrize("name", ["flip", "crop_flip", "None", "", "{x}", "a\nb", "[bold]"])
def test_unknown_augmentation__is_refused_in_one_line(name):
    for call in (lambda: shuffled_batches(noise(4, 1, 8, 8), 2, augment=name, seed=0), lambda: describe_augment(name, 8, 8)):
        with pytest.raises(DataError, match="augment: ") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_description__names_an_axis_that_is_not_cropped():
    assert "up to 0 rows (4 are too few to crop) and 4 columns" in describe_augment("crop", 4, 32)
