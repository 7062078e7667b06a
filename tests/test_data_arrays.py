"""A user's arrays: what is taken by which rule, what is refused, and files that are damaged in every way."""

import dataclasses
import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.strategies import generators
from training.data import DataError, from_arrays, load_dataset
from training.data.dataset import AT_ONCE, images_of, statistics

rng = np.random.default_rng(5)
GOOD = {"x_train": rng.integers(0, 256, (30, 5, 7, 3), dtype=np.uint8), "y_train": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8), "y_test": np.arange(6) % 3}
VALIDATION = {"x_val": rng.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8), "y_val": np.array([2, 1, 0, 1])}


def saved(folder, name="set.npz", *, compressed=False, **changes):
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (np.savez_compressed if compressed else np.savez)(folder / name, **content)
    return folder / name


def load(folder, **changes):
    return load_dataset("npz", saved(folder, **changes))


def refusal(call):
    """The one line of a DataError."""
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nhwc(images):
    return images.pixels.permute(0, 2, 3, 1).numpy()


# digests and splits

def test_digest__is_that_of_before(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {"x_train": generator.integers(0, 256, (40, 9, 11, 3), dtype=np.uint8), "y_train": np.arange(40) % 4,
              "x_test": generator.integers(0, 256, (8, 9, 11, 3), dtype=np.uint8), "y_test": np.arange(8) % 4}
    golden = "8fa20314ac566c94eb772d5df15d157d2ac85edbec7088e7fdafb69b3949567f"
    assert load_dataset("digits").digest() == "9b28b774b6020fb7cd738dffbe7869b6a5ffc7f664799b04df7551551add7828"
    for place in (tmp_path / "here", tmp_path / "there"):
        place.mkdir()
        np.savez(place / "set.npz", **arrays)
        assert load_dataset("npz", str(place / "set.npz")).digest() == golden
    np.savez_compressed(tmp_path / "other name.npz", **{key: np.asfortranarray(value) for key, value in arrays.items()})
    assert load_dataset("npz", tmp_path / "other name.npz").digest() == golden
    assert from_arrays(**arrays).digest() == golden


@pytest.mark.parametrize("name", [*GOOD, *VALIDATION])
def test_digest__sees_every_array(tmp_path, name):
    before = load(tmp_path, **VALIDATION).digest()
    arrays = {key: value.copy() for key, value in {**GOOD, **VALIDATION}.items()}
    arrays[name].flat[-1] = (arrays[name].flat[-1] + 1) % 3
    assert load(tmp_path, **arrays).digest() != before


def test_validation_split__is_used_if_it_is_given(tmp_path):
    data = load(tmp_path, **VALIDATION)
    assert np.array_equal(nhwc(data.validation), VALIDATION["x_val"])
    assert data.validation.labels.tolist() == [2, 1, 0, 1]
    assert np.array_equal(nhwc(data.train), GOOD["x_train"])
    assert "validation: the 4 images of x_val" in data.notes
    assert len(load(tmp_path).validation) == 3


@pytest.mark.parametrize("name", VALIDATION)
def test_validation_split__that_is_half_given_is_refused(tmp_path, name):
    other = next(key for key in VALIDATION if key != name)
    assert f"{name} is there and {other} is not" in refusal(lambda: load(tmp_path, **{name: VALIDATION[name]}))
    with pytest.raises(DataError, match="belong together"):
        from_arrays(**GOOD, **{name: VALIDATION[name]})


@pytest.mark.parametrize(("changes", "message"), [
    ({"x_val": VALIDATION["x_val"][:, :4]}, r"x_val \(4, 7, 3\)"),
    ({"y_val": np.array([0, 1, 2, 9])}, "y_val holds label 9"),
    ({"y_val": np.arange(3)}, "4 whole numbers"), ({"x_val": VALIDATION["x_val"].astype(np.uint16)}, "x_val uint16"),
])
def test_validation_split__that_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, **{**VALIDATION, **changes})


@pytest.mark.parametrize(("name", "hint"), [
    ("x_valid", "x_val"), ("X_test", "x_test"), ("xtrain", "x_train"), ("y_validation", "y_val"), ("val_images", ""),
    ("class_names", "classes"), ("x", ""), ("dev", ""), ("X_VAL", "x_val"), ("[x_val]", "x_val"), ("x_val\n", "x_val"),
])
def test_array__that_looks_like_one_of_ours_is_refused(tmp_path, name, hint):
    message = refusal(lambda: load(tmp_path, **{name: np.arange(3)}))
    assert "would not be used" in message
    assert f"did you mean {hint}" in message or not hint


@pytest.mark.parametrize("name", ["description", "ids", "mean", "{weights}", "[b]"])
def test_array__without_a_meaning_is_named(tmp_path, name):
    data = load(tmp_path, **{name: np.array(["anything"])})
    assert data.notes == (f"not used: array {name}",)


# pixels

def same_pixels(data, expected):
    together = np.concatenate([nhwc(data.train), nhwc(data.validation), nhwc(data.test)])
    wanted = np.concatenate([expected["x_train"], expected["x_test"]])
    return sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in wanted)


def with_pixels(change):
    return {name: change(GOOD[name]) if name[0] == "x" else GOOD[name] for name in GOOD}


@pytest.mark.parametrize(("change", "note"), [
    (lambda x: x.astype(np.int64), "int64 of 0 to 255, taken as they are"),
    (lambda x: x.astype(">u2"), "uint16 of 0 to 255, taken as they are"),
    (lambda x: x.astype(np.uint16) * 257, "uint16 of 0 to 65535, taken as 16 bits: x / 257, rounded"),
    (lambda x: x.astype(np.float32) / 255, "float32 of 0 to 1, taken as 0 to 1: 255 x, rounded"),
    (lambda x: x.astype(np.float16) / np.float16(255), "float16 of 0 to 1, taken as 0 to 1: 255 x, rounded"),
    (lambda x: x.astype(np.float64), "float64 of 0 to 255, taken as they are"),
    (lambda x: x.astype(np.longdouble), "of 0 to 255, taken as they are"),
])
def test_pixels__of_other_types_become_the_same_bytes_by_a_stated_rule(tmp_path, change, note):
    data = load(tmp_path, **with_pixels(change))
    assert same_pixels(data, GOOD)
    assert [line for line in data.notes if note in line]
    assert from_arrays(**with_pixels(change)).digest() == load(tmp_path).digest()


@pytest.mark.parametrize(("change", "message"), [
    (lambda x: x.astype(np.float32) / 255 - 0.5, "float32 of -0.5 to 0.5"),
    (lambda x: x.astype(np.float64) / 2, "float64 of 0 to 127.5, not all whole"),
    (lambda x: x.astype(np.float64) * 2, "float64 of 0 to 510"),
    (lambda x: np.where(x == x.max(), np.nan, x / 255), "not finite"),
    (lambda x: np.where(x == x.max(), np.inf, x / 255), "not finite"),
    (lambda x: x.astype(np.int16) - 1, "int16 of -1 to 254"),
    (lambda x: x.astype(np.int32) * 257, "int32 of 0 to 65535"),
    (lambda x: x > 100, "must be uint8 .* not bool"), (lambda x: x.astype(complex), "not complex128"),
    (lambda x: x.astype("U3"), "must be uint8"), (lambda x: x.astype("M8[s]"), "must be uint8"),
    (lambda x: x.view([("r", "u1"), ("g", "u1"), ("b", "u1")]), "must be uint8"),
    (lambda x: np.array(0, np.uint8), r"must be uint8 .* \(\)"), (lambda x: x[:, 0, 0], "must be uint8"),
    (lambda x: x[:0], "must be uint8"), (lambda x: x[:, :0], "must be uint8"), (lambda x: x[None], "must be uint8"),
    (lambda x: x[:, :5, :5].transpose(0, 3, 1, 2).repeat(2, 2).repeat(2, 3), "channels first"),
])
def test_pixels__that_no_rule_names_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, **with_pixels(change))
    with pytest.raises(DataError, match=message):
        from_arrays(**with_pixels(change))


@given(st.integers(0, 65535))
def test_sixteen_bits__round_to_the_nearest(value):
    x = np.full((4, 1, 1, 1), value, np.uint16)
    x[0] = 65535
    data = from_arrays(x, [0, 1, 0, 1], x, [0, 1, 0, 1])
    got = sorted(int(pixel) for pixel in data.test.pixels.flatten())[0]
    assert abs(got * 257 - value) <= 128


def test_gray_images__need_no_channels(tmp_path):
    gray = with_pixels(lambda x: x[..., 0])
    data = load(tmp_path, **gray)
    assert data.test.pixels.shape == (6, 1, 5, 7)
    assert np.array_equal(nhwc(data.test)[..., 0], gray["x_test"])
    assert len([note for note in data.notes if "one gray channel" in note]) == 2


def test_one_test_image__is_enough(tmp_path):
    data = load(tmp_path, x_test=GOOD["x_test"][:1], y_test=GOOD["y_test"][:1])
    assert len(data.test) == 1


# labels and classes

@pytest.mark.parametrize(("change", "note"), [
    (lambda y: y[:, None], "labels [N, 1] taken as [N]"), (lambda y: y.astype(">i4"), ""),
    (lambda y: y.astype(np.uint8), ""),
    (lambda y: y.astype(np.uint64), ""),
])
def test_labels__in_other_forms_are_the_same(tmp_path, change, note):
    data = load(tmp_path, y_train=change(GOOD["y_train"]), y_test=change(GOOD["y_test"]))
    assert data.digest() == load(tmp_path).digest()
    assert note in " ".join(data.notes)


def test_labels__that_are_truth_values_are_two_classes(tmp_path):
    data = load(tmp_path, y_train=GOOD["y_train"] > 0, y_test=GOOD["y_test"] > 0)
    assert data.classes == 2
    assert data.test.labels.tolist() == [0, 1, 1, 0, 1, 1]
    assert "y_test: False and True taken as classes 0 and 1" in data.notes


@pytest.mark.parametrize(("labels", "message"), [
    (np.arange(30) % 3 * 1.0, r"y.astype\(int\)"), (np.array(["cat", "dog", "owl"] * 10), "number them"),
    (np.eye(3, dtype=int)[np.arange(30) % 3], r"y.argmax\(1\)"), (np.arange(30) - 1, "label -1"),
    (np.arange(30, dtype=np.uint64) + 2**63, "label 9223372036854775837, allowed are 0 to 65535"),
    (np.zeros(30, int), "every training image has the same label, 0"), (np.int64(3), "30 whole numbers"),
    (np.zeros((30, 0), int), "30 whole numbers"), (np.zeros(0, int), "30 whole numbers"),
    (np.zeros(30, "m8[s]"), "30 whole numbers"), (np.zeros(30, [("a", "i4")]), "30 whole numbers"),
])
def test_labels__that_are_none_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, y_train=labels)


def test_class_names__come_from_the_file(tmp_path):
    assert load(tmp_path, classes=np.array(["[cat]", "dög", "{owl}"])).class_names == ("[cat]", "dög", "{owl}")
    assert load(tmp_path, classes=np.array([b"cat", b"dog", b"owl"])).class_names == ("cat", "dog", "owl")
    assert load(tmp_path).class_names == ("0", "1", "2")
    assert load_dataset("digits").class_names == tuple("0123456789")
    assert from_arrays(**GOOD, classes=["a", "b", "c"]).class_names == ("a", "b", "c")


def test_class_names__of_classes_without_images_count(tmp_path):
    data = load(tmp_path, classes=np.array(["a", "b", "c", "d"]))
    assert data.classes == 4
    assert "1 of 4 classes have no training image: d" in data.notes
    assert "2 of 5 classes have no training image: 1, 3" in load(tmp_path, y_train=GOOD["y_train"] * 2,
                                                                 y_test=GOOD["y_test"] * 2).notes


def test_class_names__fewer_than_labels_are_refused(tmp_path):
    assert "2 class names, and labels up to 2" in refusal(lambda: load(tmp_path, classes=np.array(["a", "b"])))


@pytest.mark.parametrize("classes", [np.array(["a", "b", "c"], object), np.array(3), np.array(["a", "a", "b"]),
                                     np.array([b"\xff", b"a", b"b"]), np.zeros((3, 2), int), np.zeros(0, "U1")])
def test_class_names__that_are_none_stop_nothing(tmp_path, classes):
    data = load(tmp_path, classes=classes)
    assert data.class_names == ("0", "1", "2")
    assert "not used: classes" in data.notes[0]


# from Python

def test_from_arrays__copies_and_takes_lists_and_tensors(tmp_path):
    arrays = {name: value.copy() for name, value in GOOD.items()}
    data = from_arrays(**arrays, name="mine[1]")
    arrays["x_test"][:] = 0
    assert np.array_equal(nhwc(data.test), GOOD["x_test"])
    assert (data.name, data.label, data.path) == ("arrays", "mine[1]", "")
    for convert in (lambda value: value.tolist(), torch.from_numpy):
        assert from_arrays(*(convert(GOOD[name]) for name in GOOD)).digest() == data.digest()
    assert "numpy.savez" in refusal(lambda: load_dataset("arrays"))


def test_from_arrays__of_what_is_no_array_is_refused():
    assert "x_train is no array" in refusal(lambda: from_arrays([[1, 2], [3]], [0], [[1]], [0]))


# paths and names

@pytest.mark.parametrize("name", ["mnist[small].npz", "{0}.npz", "a[/b]c.npz", "%s %d.npz", ":smile:.npz", "dätä.v2.npz"])
def test_label__is_the_name_of_the_file(tmp_path, name):
    path = saved(tmp_path, Path(name).name) if "/" not in name else saved(_made(tmp_path / "a["), "b]c.npz")
    data = load_dataset("npz", path)
    assert (data.label, data.path) == (path.name.removesuffix(".npz"), str(path))


def _made(folder):
    folder.mkdir()
    return folder


def test_path__with_control_characters_is_printable_in_errors(tmp_path):
    path = tmp_path / "a\x1b[31m\nb\udcff.npz"
    path.write_bytes(b"no zip")
    for message in (refusal(lambda: load_dataset("npz", path)), refusal(lambda: load_dataset("npz", str(path) + "x"))):
        assert r"a\x1b[31m\nb\xff.npz" in message


def test_data__that_would_have_no_effect_are_refused(tmp_path):
    """--data mine.npz without --dataset npz trained on digits."""
    file = saved(tmp_path)
    assert "takes no --data" in refusal(lambda: load_dataset("digits", file))
    assert "did you mean --dataset npz" in refusal(lambda: load_dataset("digits", file))
    assert "did you mean --dataset folder" in refusal(lambda: load_dataset("digits", tmp_path))
    assert "did you mean --dataset npz" in refusal(lambda: load_dataset("cifar10", file))
    assert "did you mean --dataset npz" in refusal(lambda: load_dataset("folder", file))
    assert "did you mean --dataset folder" in refusal(lambda: load_dataset("npz", tmp_path))
    assert "takes no --size" in refusal(lambda: load_dataset("npz", file, size="32"))
    assert load_dataset("digits", "").digest() == load_dataset("digits").digest()


def test_data__out_of_a_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert "pipe" in refusal(lambda: load_dataset("npz", tmp_path / "pipe.npz"))


# damage

@given(st.data())
def test_damaged_npz__is_refused_in_one_line_or_is_the_same_data(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    compressed = data.draw(st.booleans())
    path = saved(folder, compressed=compressed, classes=np.array(["a", "b", "c"]), **VALIDATION)
    whole = load_dataset("npz", path).digest()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    path.write_bytes(content[:cut])
    try:
        assert load_dataset("npz", path).digest() == whole
    except DataError as error:
        assert "\n" not in str(error)


@given(st.data())
def test_damaged_headers__are_refused_in_one_line_or_load(tmp_path_factory, data):
    """The zip file is whole, checksums included, and the header of an array lies."""
    folder = tmp_path_factory.mktemp("headers")
    name = data.draw(st.sampled_from(sorted(GOOD)))
    array = io.BytesIO()
    np.save(array, GOOD[name])
    content = bytearray(array.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 127))] = data.draw(st.sampled_from(b"0123456789<>|ui'()[]{}, TFO\n\x00\xff"))
    path = saved(folder, **{name: None})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", bytes(content))
    try:
        load_dataset("npz", path)
    except DataError as error:
        assert "\n" not in str(error)


def header(shape, descr="|u1", fortran=False, version=(1, 0)):
    buffer = io.BytesIO()
    content = {"descr": descr, "fortran_order": fortran, "shape": shape}
    (np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0)(buffer, content)
    return buffer.getvalue()


@pytest.mark.parametrize(("content", "message"), [
    (header((10**15, 5, 7, 3)), "takes 105000000000000000 bytes"),
    (header((30, 5, 7, 2)) + GOOD["x_train"].tobytes(), "bytes"),
    (header((-30, -5, 7, 3)) + GOOD["x_train"].tobytes(), "bytes"), (header((10**9,), "<U0"), "must be uint8"),
    (b"\x93NUMPY\x03\x00\x00\x00\x00\x00", "named fields"),
    (b"\x93NUMPY\x09\x09\x00\x00", "not a readable"), (b"", "not a readable"),
    (header((30, 5, 7, 3), "|O"), "never loaded"), (header((1,) * 40) + b"\0", "must be uint8"),
])
def test_header__that_lies_is_refused(tmp_path, content, message):
    path = saved(tmp_path, x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", content)
    assert message in refusal(lambda: load_dataset("npz", path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_array__that_is_there_twice_is_refused(tmp_path):
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header((1, 1, 1, 1)) + b"\0")
    assert "twice" in refusal(lambda: load_dataset("npz", path))


def test_zip_bomb__larger_than_the_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = saved(tmp_path, compressed=True, x_train=np.zeros((5000, 64, 64, 3), np.uint8), y_train=np.arange(5000) % 3)
    assert path.stat().st_size < 10**6
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10_000}.__getitem__)
    assert "GiB of memory" in refusal(lambda: load_dataset("npz", path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04.", b"{}", b"\x89PNG\r\n\x1a\n"])
def test_file__that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    assert "not a readable .npz" in refusal(lambda: load_dataset("npz", tmp_path / "set.npz"))


@pytest.mark.parametrize("shape", [(20, 3, 32, 48), (20, 1, 6, 5), (20, 4, 5, 6), (20, 3, 3, 5), (20, 3, 8, 8)])
def test_channels_first__are_refused_whatever_the_other_sides(shape):
    x = np.zeros(shape, np.uint8)
    assert "has its channels first" in refusal(lambda: from_arrays(x, np.arange(20) % 2, x, np.arange(20) % 2))


@pytest.mark.parametrize(("shape", "said"), [
    ((20, 3, 4, 4), "x_train: (20, 3, 4, 4) taken as images 3x4 of 4 channels, which are last"),
    ((20, 8, 9, 6), "x_train: (20, 8, 9, 6) taken as images 8x9 of 6 channels, which are last"),
    ((20, 4, 6, 1), "x_train: (20, 4, 6, 1) taken as images 4x6 of 1 channel, which are last"), ((20, 8, 9, 3), "")])
def test_channels__that_a_shape_leaves_open_are_named_in_a_note(shape, said):
    x = np.zeros(shape, np.uint8)
    notes = from_arrays(x, np.arange(20) % 2, x, np.arange(20) % 2).notes
    assert [note for note in notes if note.startswith("x_train: ")] == ([said] if said else [])


def test_as_loaded__is_what_load_dataset_gave_and_nobody_changed():
    data = load_dataset("digits")
    assert data.is_as_loaded
    assert not dataclasses.replace(data, train=data.train.first(90)).is_as_loaded
    assert not from_arrays(**GOOD).is_as_loaded
    data.train.pixels[0] = 0
    assert not data.is_as_loaded


@given(generators, st.integers(1, 3), st.sampled_from([1, 7, AT_ONCE, AT_ONCE + 1]))
@examples(20)
def test_statistics__are_those_of_exact_sums(rng, channels, images):
    pixels = rng.integers(0, 256, (images, 2, 3, channels), np.uint8)
    pixels[..., 0] = pixels[0, 0, 0, 0]  # a constant channel
    mean, std = statistics(images_of(pixels, np.zeros(images)).pixels)
    for channel in range(channels):
        values = [int(value) for value in pixels[..., channel].ravel()]
        total, squares, count = sum(values), sum(value * value for value in values), len(values)
        variance = (squares * count - total * total) / count**2
        assert (mean[channel], std[channel]) == (total / count / 255.0, max(math.sqrt(variance), 1.0) / 255.0)
