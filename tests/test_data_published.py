"""The rows that torchvision reads, on files of its own formats made here; there is no network in these tests."""

import gzip
import hashlib
import pickle
import socket
import struct

import numpy as np
import pytest
import scipy.io

from training.data import DataError, load_dataset
from training.torchvision_cpu import prepare_torchvision

prepare_torchvision()
datasets = pytest.importorskip("torchvision.datasets")
rng = np.random.default_rng(17)
MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def refusal(name, root):
    with pytest.raises(DataError) as caught:
        load_dataset(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nhwc(images):
    return images.pixels.permute(0, 2, 3, 1).numpy()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def arrays(count, *shape):
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8)


def whole(data, x, y):
    """Whether training and validation images are those, the validation ones a tenth."""
    got = [*zip(nhwc(data.train), data.train.labels.tolist(), strict=True),
           *zip(nhwc(data.validation), data.validation.labels.tolist(), strict=True)]
    assert len(data.validation) == len(x) // 10
    return sorted((image.tobytes(), label) for image, label in got) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


# MNIST and Fashion-MNIST

def write_mnist(folder, train, test):
    folder.mkdir(parents=True)
    for name, array in zip(MNIST_FILES, (*train, *test), strict=True):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.tobytes())


@pytest.mark.parametrize(("name", "folder", "augment", "first"), [
    ("mnist", "MNIST", "crop", "0 - zero"), ("fashion-mnist", "FashionMNIST", "crop-flip", "T-shirt/top")])
def test_mnist__is_read(tmp_path, name, folder, augment, first):
    train, test = arrays(40, 28, 28), arrays(10, 28, 28)
    write_mnist(tmp_path / folder / "raw", train, test)
    data = load_dataset(name, tmp_path)
    assert whole(data, train[0][..., None], train[1])
    assert np.array_equal(nhwc(data.test)[..., 0], test[0])
    assert (data.label, data.augment, data.classes, data.class_names[0]) == (
        {"mnist": "MNIST"}.get(name, "Fashion-MNIST"), augment, 10, first)


def test_mnist__packed_files_are_unpacked_if_they_are_the_published_ones(tmp_path, monkeypatch):
    train, test = arrays(40, 28, 28), arrays(10, 28, 28)
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw, train, test)
    resources = []
    for name in MNIST_FILES:
        packed = raw / f"{name}.gz"
        packed.write_bytes(gzip.compress((raw / name).read_bytes()))
        (raw / name).unlink()
        resources.append((packed.name, md5(packed)))
    assert "could not be downloaded" in refusal("mnist", tmp_path)
    for name, _ in resources:  # a failed download of torchvision's own leaves no others behind
        assert (raw / name).exists()
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    assert np.array_equal(nhwc(load_dataset("mnist", tmp_path).test)[..., 0], test[0])


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: content[:2], lambda content: b"",
                                    lambda content: b"\0\0\x0d\1" + content[4:], lambda content: content + b"more"])
@pytest.mark.parametrize("name", MNIST_FILES)
def test_mnist__that_is_damaged_is_refused(tmp_path, damage, name):
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw, arrays(40, 28, 28), arrays(10, 28, 28))
    (raw / name).write_bytes(damage((raw / name).read_bytes()))
    assert "MNIST" in refusal("mnist", tmp_path)


def test_mnist__of_other_numbers_of_images_and_labels_is_refused(tmp_path):
    train, test = arrays(40, 28, 28), arrays(10, 28, 28)
    write_mnist(tmp_path / "MNIST" / "raw", (train[0], train[1][:-3]), test)
    assert "x_train holds 40 images and y_train 37 labels" in refusal("mnist", tmp_path)


# SVHN

def write_svhn(root, monkeypatch, train, test):
    root.mkdir(exist_ok=True)
    listed = dict(datasets.SVHN.split_list)
    for split, (x, y) in (("train", train), ("test", test)):
        path = root / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": x.transpose(1, 2, 3, 0), "y": y[:, None]})
        listed[split] = [listed[split][0], path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


def test_svhn__is_read_and_its_label_10_is_the_digit_0(tmp_path, monkeypatch):
    (x, _), (x_test, _) = arrays(40, 32, 32, 3), arrays(10, 32, 32, 3)
    y, y_test = (1 + np.arange(40) % 10).astype(np.uint8), (1 + np.arange(10)).astype(np.uint8)
    write_svhn(tmp_path, monkeypatch, (x, y), (x_test, y_test))
    data = load_dataset("svhn", tmp_path)
    assert whole(data, x, y % 10)
    assert np.array_equal(nhwc(data.test), x_test)
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert (data.label, data.augment, data.class_names) == ("SVHN", "crop", tuple("0123456789"))


def test_svhn__that_is_another_file_is_refused_and_kept(tmp_path):
    other = tmp_path / "train_32x32.mat"
    other.write_bytes(b"mine")
    message = refusal("svhn", tmp_path)
    assert f"{other} is not the published file: its MD5 is {md5(other)}, not e26dedcc434d2e4c54c9b2d4a06d8373" in message
    assert other.read_bytes() == b"mine"


# CIFAR

def write_cifar(root, monkeypatch, dataset):
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    key = "labels" if dataset is datasets.CIFAR10 else "fine_labels"
    written = []

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5(folder / name)]

    lists = {}
    for attribute, count in (("train_list", 20), ("test_list", 10)):
        entries = []
        for name, _ in getattr(dataset, attribute):
            x, y = arrays(count, 3, 32, 32)
            written.append((x, y))
            entries.append(write(name, {"data": x.reshape(count, -1), key: y.tolist()}))
        lists[attribute] = entries
    names = [f"class {label}" for label in range(10)]
    name, digest = write(dataset.meta["filename"], {dataset.meta["key"]: names})
    for attribute, value in (*lists.items(), ("meta", {**dataset.meta, "md5": digest})):
        monkeypatch.setattr(dataset, attribute, value)
    return written


@pytest.mark.parametrize(("name", "dataset"), [("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)])
def test_cifar__is_read(tmp_path, monkeypatch, name, dataset):
    *train, test = write_cifar(tmp_path, monkeypatch, dataset)
    data = load_dataset(name, tmp_path)
    x, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
    assert whole(data, x.transpose(0, 2, 3, 1), y)
    assert np.array_equal(nhwc(data.test), test[0].transpose(0, 2, 3, 1))
    assert data.class_names == tuple(f"class {label}" for label in range(10))


class Trap:
    """A pickle that would write a file if it were loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_cifar__that_is_not_the_published_one_is_named_and_never_unpickled(tmp_path, monkeypatch, name):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10)
    path = tmp_path / datasets.CIFAR10.base_folder / name
    path.write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    message = refusal("cifar10", tmp_path)
    assert f"{path} is not the published file: its MD5 is {md5(path)}" in message
    assert not (tmp_path / "executed").exists()


# downloads

@pytest.mark.parametrize(("name", "wanted"), [
    ("cifar10", "unpack cifar-10-python.tar.gz there so that {}/cifar-10-batches-py/data_batch_1 exists"),
    ("cifar100", "unpack cifar-100-python.tar.gz there so that {}/cifar-100-python/train exists"),
    ("mnist", "put train-images-idx3-ubyte.gz and its three companions into MNIST/raw there"),
    ("fashion-mnist", "companions into FashionMNIST/raw there"),
    ("svhn", "put train_32x32.mat and test_32x32.mat there so that {}/train_32x32.mat exists"),
])
def test_download__that_fails_is_one_clear_line_and_leaves_nothing(tmp_path, name, wanted):
    root = tmp_path / "not" / "yet"
    message = refusal(name, root)
    assert f"is not in {root} and could not be downloaded" in message
    assert wanted.format(root) in message
    assert not (tmp_path / "not").exists()
