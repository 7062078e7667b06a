"""Folders of images: layouts, splits, every kind of picture, and what a folder may hold besides."""

import doctest
import os
import random
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import training.data
from training.data import DataError, arrays, augmentation, load_dataset
from training.data.sources import pictures
from training.data.splits import shuffled, stratified

rng = np.random.default_rng(11)


def picture(height=6, width=9, channels=3, random=rng):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))


def fill(folder, count=10, suffix=".png", **shape):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(**shape).save(folder / f"{number:03d}{suffix}")


@pytest.fixture
def root(tmp_path):
    """Two classes of ten images, RGB, 6 x 9."""
    for name in ("dog", "cat"):
        fill(tmp_path / "set" / name)
    return tmp_path / "set"


def refusal(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load(root, **options):
    return load_dataset("folder", root, **options)


def nhwc(images):
    return images.pixels.permute(0, 2, 3, 1).numpy()


def sizes(data):
    return [len(split) for split in (data.train, data.validation, data.test)]


def single(root, image, name="x.png", **save):
    """The pixels and notes of one picture that is the whole test set."""
    shutil.rmtree(root, ignore_errors=True)
    for label in "ab":
        fill(root / "train" / label, 3, height=image.height, width=image.width)
    (root / "test" / "a").mkdir(parents=True)
    image.save(root / "test" / "a" / name, **save)
    data = load(root)
    return nhwc(data.test)[0], " | ".join(data.notes)


# layouts and splits

def test_folder__of_classes_is_split_the_same_share_of_each(root):
    data = load(root)
    assert (data.name, data.label, data.path, data.augment) == ("folder", "set", str(root), "none")
    assert data.class_names == ("cat", "dog")
    assert sizes(data) == [14, 2, 4]
    for split, count in ((data.train, 7), (data.validation, 1), (data.test, 2)):
        assert np.bincount(split.labels).tolist() == [count, count]
    assert data.test.pixels.shape == (4, 3, 6, 9)
    assert "test: 4 of 20 images, the same share of each class" in data.notes
    for file, pixels, label in zip(data.test_files, nhwc(data.test), data.test.labels, strict=True):
        assert np.array_equal(np.array(Image.open(root / file)), pixels)
        assert file.startswith(data.class_names[label] + os.sep)


def test_folder__order_is_no_matter_of_the_file_system(root, tmp_path):
    files = sorted(root.rglob("*.png"))
    random.Random(3).shuffle(files)
    for file in files:
        copy = tmp_path / "other" / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    first, second = load(root), load(tmp_path / "other")
    assert first.digest() == second.digest()
    assert first.test_files == second.test_files
    Image.fromarray(255 - np.array(Image.open(copy))).save(copy)
    assert load(tmp_path / "other").digest() != first.digest()


def test_folder__first_images_are_a_fair_sample(root):
    fill(root / "cat", 100)
    fill(root / "dog", 100)
    data = load(root)
    for split in (data.train, data.test):
        counts = np.bincount(split.first(len(split) // 2).labels, minlength=2)
        assert counts.min() > 0.5 * counts.max()


@pytest.mark.parametrize(("given_splits", "expected"), [
    (("train", "test", "val"), [20, 20, 20]), (("train", "test"), [18, 2, 20]), (("train", "val"), [18, 2, 20]),
    (("Train", "TEST", "Validation"), [20, 20, 20]), (("train", "valid", "test"), [20, 20, 20]), (("train",), [14, 2, 4]),
])
def test_folder__of_splits(tmp_path, given_splits, expected):
    for split in given_splits:
        for name in ("dog", "cat"):
            fill(tmp_path / split / name, 10)
    data = load(tmp_path)
    assert sizes(data) == expected
    assert data.class_names == ("cat", "dog")
    assert ("test: the images of val, because there is no test folder" in data.notes) == (given_splits == ("train", "val"))


def test_folder__of_splits_takes_each_image_from_its_own(tmp_path):
    for value, split in enumerate(("train", "val", "test")):
        for label, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("L", (4, 4), 100 * value + 10 * label + number).save(tmp_path / split / name / f"{number}.png")
    data = load(tmp_path)
    for value, split in enumerate((data.train, data.validation, data.test)):
        assert sorted(split.pixels[:, 0, 0, 0].tolist()) == [100 * value + step for step in (0, 1, 2, 10, 11, 12)]
        assert all(pixel // 10 % 10 == label for pixel, label in zip(split.pixels[:, 0, 0, 0], split.labels, strict=True))


def test_folder__a_class_may_be_called_train(root):
    fill(root / "train")
    assert load(root).class_names == ("cat", "dog", "train")


@pytest.mark.parametrize(("folders", "message"), [
    (["train/a", "train/b", "test/c"], "class c of test has no image in train"),
    (["train/a", "train/b", "tests/a"], "did you mean test"), (["train/a", "train/b", "val/a", "valid/a"], "two folders"),
    (["test/a", "val/a"], "no train folder"), (["train", "test"], "no train folder"), (["a"], "every training image"),
    (["train/a", "train/b", "test"], "holds no images in folders of classes"),
])
def test_folder__that_makes_no_sense_is_refused(tmp_path, folders, message):
    for folder in folders:
        fill(tmp_path / "set" / folder, 4)
    assert message in refusal(lambda: load(tmp_path / "set"))


def test_folder__beside_the_splits_is_named(tmp_path):
    for folder in ("train/a", "train/b", "test/a", "unlabeled/x"):
        fill(tmp_path / folder, 4)
    assert "passed over: 1 folder beside train: unlabeled" in load(tmp_path).notes


@pytest.mark.parametrize(("counts", "expected"), [((1, 3), [2, 1, 1]), ((2, 3), [2, 1, 2]), ((1, 30), [22, 3, 6])])
def test_folder__a_class_with_one_image_trains(tmp_path, counts, expected):
    for name, count in zip("ab", counts, strict=True):
        fill(tmp_path / name, count)
    data = load(tmp_path)
    assert sizes(data) == expected
    assert set(data.train.labels.tolist()) == {0, 1}


def test_folder__with_too_few_images_is_refused(tmp_path):
    for name in "ab":
        fill(tmp_path / name, 2)
    assert "no image is left for val" in refusal(lambda: load(tmp_path))


def test_folder__that_is_not_there_or_empty_is_refused(tmp_path):
    assert "no such folder" in refusal(lambda: load(tmp_path / "nowhere"))
    assert "needs --data DIR" in refusal(lambda: load(None))
    assert "holds no images" in refusal(lambda: load(tmp_path))
    fill(tmp_path, 3)
    assert "3 file beside the folders of classes" in refusal(lambda: load(tmp_path))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2))
def test_stratified__gives_each_image_to_one_part(counts, drawn):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [f"c{label}" for label in range(len(counts))]
    parts = stratified(labels, names, (0.2, 0.1)[:drawn])
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert set(labels[parts[-1]].tolist()) == set(range(len(counts)))
    for part, fraction in zip(parts, (0.2, 0.1)[:drawn], strict=False):
        for label, count in enumerate(counts):
            assert (labels[part] == label).sum() in (max(1, int(fraction * count)), min(count - 1, 1), 0)
    more = stratified(np.concatenate([labels, [len(counts)] * 7]), [*names, "z"], (0.2, 0.1)[:drawn])
    for part, other in zip(parts, more, strict=True):
        assert set(part.tolist()) == {index for index in other.tolist() if index < len(labels)}


def test_shuffled__is_a_permutation():
    assert sorted(shuffled(np.arange(50)).tolist()) == list(range(50))
    assert shuffled(np.arange(50)).tolist() != list(range(50))


# what lies about in folders

def test_folder__other_files_are_passed_over_and_counted(root):
    expected = load(root).digest()
    (root / ".git").mkdir()
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "cat" / "._000.png").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    (root / "dog" / "labels.CSV").write_text("x")
    (root / "dog" / "README").write_text("x")
    (root / "empty").mkdir()
    (root / "dog" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(root / "dog" / "pipe.png")
    data = load(root)
    assert data.digest() == expected
    assert data.class_names == ("cat", "dog")
    assert {note.removeprefix("passed over: ") for note in data.notes if note.startswith("passed")} == {
        "3 hidden file or folder", "1 file beside the folders of classes", "1 file that is no image (.CSV)",
        "1 file that is no image (no suffix)", "1 folder without images: empty", "2 broken link or no ordinary file"}


def test_folder__loops_of_links_end(root):
    expected = load(root).digest()
    (root / "cat" / "all").symlink_to(root)
    (root / "self").symlink_to(".")
    (root / "up").symlink_to("..")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    data = load(root)
    assert data.digest() == expected
    assert "passed over: 2 link that leads back to where it stands" in data.notes
    assert "passed over: 1 link to a folder inside a class" in data.notes


def test_folder__linked_classes_and_images_are_followed(root, tmp_path):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "cat").symlink_to(root / "cat")
    (tmp_path / "chosen" / "dog").mkdir()
    for file in (root / "dog").iterdir():
        (tmp_path / "chosen" / "dog" / file.name).symlink_to(file)
    assert load(tmp_path / "chosen").digest() == load(root).digest()


def test_folder__images_may_lie_deeper(root):
    expected = sizes(load(root))
    (root / "cat" / "images").mkdir()
    for file in list((root / "cat").glob("*.png"))[:5]:
        file.rename(root / "cat" / "images" / file.name)
    assert sizes(load(root)) == expected


@pytest.mark.parametrize("name", ["[cat]", "{0}", "%s", "a b", "kätzchen", ":cat:", "-x", "a\x1b[31m"])
def test_class_names__are_those_of_the_folders(root, name):
    (root / "cat").rename(root / name)
    assert name in load(root).class_names


# pictures

def test_picture__that_cannot_be_read_is_named(root):
    content = (root / "cat" / "004.png").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\x89PNG\r\n\x1a\n", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        (root / "cat" / "004.png").write_bytes(damaged)
        assert str(root / "cat" / "004.png") in refusal(lambda: load(root))


@given(st.data())
def test_picture__that_is_damaged_is_refused_in_one_line_or_read(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("damage")
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".gif", ".bmp", ".tiff", ".webp", ".ppm", ".tga", ".ico"]))
    for name in "ab":
        fill(root / name, 3)
    path = root / "a" / f"9{suffix}"
    picture(16, 16, random=np.random.default_rng(0)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 10**6)) % len(content)] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load(root, size="6x9")
    except DataError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_picture__of_too_many_pixels_is_refused(root, monkeypatch):
    for limit in (30, 10):  # Pillow warns above it and refuses above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert f"more than the {limit} pixels" in refusal(lambda: load(root))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tiff", ".webp", ".ppm", ".tga", ".jp2", ".PNG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_picture__of_every_lossless_format_is_its_pixels(tmp_path, suffix, channels):
    image = picture(channels=channels)
    if suffix == ".gif" and channels == 3:
        image = image.quantize(16).convert("RGB")
    options = {"lossless": True} if suffix == ".webp" else {"irreversible": False} if suffix == ".jp2" else {}
    pixels, _ = single(tmp_path / "set", image, f"x{suffix}", **options)
    assert np.array_equal(pixels, np.array(image.convert("RGB")))


@pytest.mark.parametrize(("image", "expected", "note"), [
    (Image.new("1", (4, 4), 1), (255,) * 3, "repeated to three channels"),
    (Image.new("L", (4, 4), 7), (7,) * 3, "1 of 7 images: gray, repeated to three channels"),
    (Image.new("LA", (4, 4), (7, 0)), (255,) * 3, "1 of 7 images: with transparency, laid over white"),
    (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), (255, 0, 0), ""),
    (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255), "with transparency, laid over white"),
    (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204), "with transparency, laid over white"),
    (Image.new("RGB", (4, 4), (9, 8, 7)).quantize(2), (9, 8, 7), ""),
    (Image.fromarray(np.full((4, 4), 257 * 77 + 100, np.uint16)), (77,) * 3, "of 16 bits: x / 257, rounded"),
])
def test_picture__of_every_mode(tmp_path, image, expected, note):
    pixels, notes = single(tmp_path / "set", image)
    assert (pixels == np.array(expected, np.uint8)).all()
    assert note in notes


def test_picture__of_a_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putpixel((0, 0), 0)
    pixels, notes = single(tmp_path / "set", image, transparency=0)
    assert pixels[0, 0].tolist() == [255] * 3
    assert pixels[1, 1].tolist() == [4, 5, 6]
    assert "laid over white" in notes


def test_picture__in_cmyk_is_converted_and_named(tmp_path):
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    pixels, notes = single(tmp_path / "set", image, "x.tiff")
    assert (pixels == (255, 0, 0)).all()
    assert "converted from CMYK to RGB without a color profile" in notes


@pytest.mark.parametrize(("values", "message"), [
    (np.full((4, 4), 0.5, np.float32), "floats of a range that nothing tells"),
    (np.full((4, 4), 70000, np.int32), "whole numbers of 70000 to 70000"),
    (np.full((4, 4), -1, np.int32), "whole numbers of -1 to -1"),
])
def test_picture__of_unknown_range_is_refused(tmp_path, values, message):
    assert message in refusal(lambda: single(tmp_path / "set", Image.fromarray(values), "x.tiff"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture__is_turned_upright(tmp_path, orientation):
    """By the definition of the tag: which side of the scene the first row and the first column of the file are."""
    scene = np.array(picture(4, 6))
    stored = {1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1], 5: scene.swapaxes(0, 1),
              6: scene.swapaxes(0, 1)[::-1], 7: scene[::-1, ::-1].swapaxes(0, 1),
              8: scene.swapaxes(0, 1)[:, ::-1]}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        fill(tmp_path / "train" / name, 2, height=4, width=6)
    (tmp_path / "test" / "a").mkdir(parents=True)
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "test" / "a" / "x.png", exif=exif)
    data = load(tmp_path)
    assert np.array_equal(nhwc(data.test)[0], scene)
    assert ("1 of 5 images: turned as their EXIF orientation says" in data.notes) == (orientation > 1)


@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_picture__with_damaged_exif_is_as_it_is(tmp_path, exif):
    image = picture()
    pixels, _ = single(tmp_path / "set", image, exif=exif)
    assert np.array_equal(pixels, np.array(image))


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tiff"])
def test_picture__of_several_frames_is_its_first(tmp_path, name):
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    pixels, notes = single(tmp_path / "set", first, name, save_all=True, append_images=[second],
                           **({"lossless": True} if name == "x.webp" else {}))
    assert (pixels == (255, 0, 0)).all()
    assert "1 of 7 images: of several frames, of which the first is taken" in notes


def test_folder__of_gray_images_has_one_channel(tmp_path):
    for name in "ab":
        fill(tmp_path / name, channels=1)
    data = load(tmp_path)
    assert data.test.pixels.shape[1:] == (1, 6, 9)
    assert not [note for note in data.notes if "gray" in note]


# sizes

def test_sizes__that_differ_are_refused_and_named(root):
    fill(root / "cat", 2, height=4, width=5)
    message = refusal(lambda: load(root))
    assert "images of 2 sizes (18 of 6x9, 2 of 4x5; height x width): add --size 6x9" in message


@pytest.mark.parametrize(("size", "shape"), [("8", (8, 8)), ("6x9", (6, 9)), ("12x5", (12, 5)), ("1", (1, 1)),
                                             ("12X5", (12, 5))])
def test_size__resizes_by_the_stated_filter(root, size, shape):
    fill(root / "cat", 2, height=4, width=5)
    data = load(root, size=size)
    assert data.test.pixels.shape[2:] == shape
    assert data.size == "{}x{}".format(*shape)
    for file, pixels in zip(data.test_files, nhwc(data.test), strict=True):
        image = Image.open(root / file)
        assert np.array_equal(pixels, np.array(image.resize(shape[::-1], Image.Resampling.BILINEAR)))
    count = 2 if shape == (6, 9) else 20
    assert f"{count} of 20 images: resized to {data.size} (bilinear; the aspect ratio is not kept)" in data.notes


@pytest.mark.parametrize("size", ["0", "-1", "x", "3x", "x3", "3x4x5", "1e3", "99999", " 8", "8\n", "٣", "{}"])
def test_size__that_is_none_is_refused(root, size):
    assert "size: " in refusal(lambda: load(root, size=size))


def test_sizes__too_large_for_the_memory_are_refused(root, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100}.__getitem__)
    assert "GiB of memory" in refusal(lambda: load(root, size="512"))


@pytest.mark.parametrize("module", [training.data, arrays, augmentation])
def test_examples__of_the_documentation(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_formats__start_no_other_program():
    assert not {"EPS", "WMF"} & set(pictures.formats())
    assert {".png", ".jpg", ".jpeg", ".webp", ".tiff"} <= pictures.suffixes()
    assert not {".eps", ".h5", ".txt", ".npy", ".pdf"} & pictures.suffixes()
