"""Data sets: where they are looked for, what is read, and that nothing here touches the network."""

import html
import os
import re
import socket
import struct
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image

from peeklib import Dataset, Split, data, load_dataset, profile, subset
from peeklib.data import digits

REAL = os.environ.get("PEEK_DATA")
HAS_MNIST = bool(REAL) and (Path(REAL).expanduser() / "MNIST/raw/train-images-idx3-ubyte").exists()
waits = []  # the time-outs in force when somebody looked for a server


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings, an empty cache, no network, and few digits."""

    def refuse(*_):
        waits.append(socket.getdefaulttimeout())
        raise OSError("the network is off in tests")

    waits.clear()
    monkeypatch.delenv("PEEK_DATA", raising=False)
    monkeypatch.delenv("PEEK_PROFILE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(data, "digits", partial(digits, 40, 20))


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder that PEEK_DATA names."""
    monkeypatch.setenv("PEEK_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# The digits


def test_digits_are_what_they_say():
    made = digits(30, 12)
    for split, count in ((made.train, 30), (made.test, 12)):
        assert split.images.shape == (count, 1, 28, 28) and split.images.dtype == torch.uint8
        assert split.labels.shape == (count,) and split.labels.dtype == torch.int64
    assert made.classes == tuple("0123456789") and made.stand_in_for is None


def test_digits_are_the_same_for_the_same_seed_and_leave_random_state_alone():
    before = torch.get_rng_state()
    first, again, other = (digits(30, 12, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.train.images, again.train.images) and torch.equal(first.test.images, again.test.images)
    assert torch.equal(first.train.labels, again.train.labels)
    assert not torch.equal(first.train.images, other.train.images)


def test_digits_have_ink_in_the_middle_and_none_at_the_corners():
    images = digits(200, 5).train.images[:, 0].float()
    assert (images.amax(dim=(1, 2)) > 150).all()
    assert images[:, 8:20, 8:20].mean() > 2 * images.mean()
    assert images[:, 0, 0].max() < 10


def test_originals_do_not_serve_twice(monkeypatch):
    monkeypatch.setattr(data, "_warp", lambda images, draw: images)
    made = digits(5000, 1500)
    train, test = ({image.numpy().tobytes() for image in split.images} for split in (made.train, made.test))
    assert len(train) > 1000 and len(test) > 300
    assert not train & test


def test_labels_belong_to_their_images(monkeypatch):
    from sklearn.datasets import load_digits

    monkeypatch.setattr(data, "_warp", lambda images, draw: images)
    originals, truth = load_digits().images, load_digits().target
    label_of = {(image / 16).astype(np.float32).tobytes(): label for image, label in zip(originals, truth, strict=True)}
    images, labels = digits(300, 5).train
    assert [label_of[image[0].numpy().tobytes()] for image in images] == labels.tolist()


# Profiles and fallbacks


@pytest.mark.parametrize(("value", "expected"), [(None, "full"), ("full", "full"), ("embedded", "embedded")])
def test_profile(monkeypatch, value, expected):
    if value:
        monkeypatch.setenv("PEEK_PROFILE", value)
    assert profile() == expected


def test_a_wrong_profile_is_named(monkeypatch):
    monkeypatch.setenv("PEEK_PROFILE", "quick")
    with pytest.raises(ValueError, match="'quick'.*full.*embedded"):
        profile()


def test_the_embedded_profile_gives_the_stand_in_to_those_who_allow_it(monkeypatch, folder):
    write_mnist(folder)
    monkeypatch.setenv("PEEK_PROFILE", "embedded")
    found = load_dataset("mnist", fallback=True)
    assert (found.name, found.stand_in_for) == ("digits", "mnist")
    assert load_dataset("mnist").name == "mnist"
    assert not waits


def test_no_download_is_an_error_that_says_why():
    with pytest.raises(ConnectionError, match="MNIST.*the network is off in tests"):
        load_dataset("mnist")


def test_no_download_falls_back_and_the_page_says_so():
    found = load_dataset("mnist", fallback=True)
    assert (found.name, found.stand_in_for) == ("digits", "mnist")
    assert "could not be had" in found.source
    page = found._repr_html_()
    assert "Stand-in" in page and "mnist" in page and "digits" in page
    assert repr(found).startswith("stand-in for mnist")


def test_servers_are_given_a_few_seconds_and_the_old_time_out_comes_back():
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(123)
    try:
        load_dataset("mnist", fallback=True)
        assert waits and set(waits) == {data.TIMEOUT}
        assert socket.getdefaulttimeout() == 123
    finally:
        socket.setdefaulttimeout(before)


def fake_mnist(monkeypatch, error):
    """A torchvision that fails with `error`; gives the list of its `download` arguments."""
    downloads = []

    def fake(root, train, download=False):
        downloads.append(download)
        raise error

    monkeypatch.setattr("torchvision.datasets.MNIST", fake)
    return downloads


@pytest.mark.parametrize(
    "error", [RuntimeError("no mirror\nanswers"), ConnectionResetError(104, "reset"), TimeoutError()]
)
def test_whatever_goes_wrong_in_a_download_is_a_connection_error(monkeypatch, error):
    fake_mnist(monkeypatch, error)
    with pytest.raises(ConnectionError, match="MNIST could not be had"):
        load_dataset("mnist")


def test_a_file_cut_short_is_an_error_that_a_stand_in_can_replace(tmp_path):
    write_mnist(tmp_path / "cache")
    images = tmp_path / "cache/MNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(ConnectionError, match="MNIST could not be had"):
        load_dataset("mnist")
    assert load_dataset("mnist", fallback=True).stand_in_for == "mnist"


def test_half_a_download_in_the_cache_is_downloaded_again(monkeypatch, tmp_path):
    write_mnist(tmp_path / "cache")
    (tmp_path / "cache/MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    downloads = fake_mnist(monkeypatch, RuntimeError("Dataset not found"))
    with pytest.raises(ConnectionError):
        load_dataset("mnist")
    assert True in downloads


@pytest.mark.parametrize("fallback", [True, False])
def test_a_wrong_folder_is_an_error_whatever_the_fallback(monkeypatch, tmp_path, fallback):
    monkeypatch.setenv("PEEK_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="PEEK_DATA.*nowhere.*not a folder"):
        load_dataset("mnist", fallback=fallback)


@pytest.mark.parametrize("fallback", [True, False])
def test_an_unknown_name_is_an_error_whatever_the_fallback(folder, fallback):
    with pytest.raises(FileNotFoundError, match="'imagenet'.*mnist.*digits.*PEEK_DATA"):
        load_dataset("imagenet", fallback=fallback)


# MNIST files


def write_mnist(root, count=3):
    """IDX files of `count` images, image k filled with k and labelled k."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28).tobytes()
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + pixels)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes(range(count)))


@pytest.mark.parametrize("place", ["data", "cache"])
def test_mnist_is_read_from_the_folder_or_the_cache(folder, tmp_path, place):
    write_mnist(tmp_path / place)
    mnist = load_dataset("mnist")
    for split in (mnist.train, mnist.test):
        assert split.images.dtype == torch.uint8 and split.labels.tolist() == [0, 1, 2]
        assert torch.equal(split.images, torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 28, 28))
    assert mnist.stand_in_for is None and ("PEEK_DATA" if place == "data" else "cache") in mnist.source
    assert not waits


def test_the_folder_comes_before_the_cache(folder, tmp_path):
    write_mnist(folder, count=2)
    write_mnist(tmp_path / "cache", count=5)
    assert len(load_dataset("mnist").train.labels) == 2


@pytest.mark.skipif(not HAS_MNIST, reason="PEEK_DATA names no folder with MNIST")
def test_the_real_mnist(monkeypatch):
    monkeypatch.setenv("PEEK_DATA", REAL)
    mnist = load_dataset("mnist")
    assert mnist.train.images.shape == (60_000, 1, 28, 28) and mnist.test.images.shape == (10_000, 1, 28, 28)
    assert mnist.train.labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert mnist.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# Image folders


def write_images(root, split, klass, values, suffix="png", mode="RGB", size=(4, 3)):
    """One constant image for each value; colour ones are (value, 0, value)."""
    place = root / split / klass
    place.mkdir(parents=True, exist_ok=True)
    for k, value in enumerate(values):
        colour = value if mode == "L" else (value, 0, value)
        Image.new(mode, size, colour).save(place / f"{k}.{suffix}", quality=100, subsampling=0)


def zip_up(root):
    with zipfile.ZipFile(root.parent / f"{root.name}-small.zip", "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root.parent))
    root.rename(root.parent / "unpacked")


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize(("suffix", "slack"), [("png", 0), ("jpg", 3), ("jpeg", 3), ("PNG", 0)])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_images_are_read_from_folders_and_zips(folder, zipped, suffix, slack, mode, channels):
    root = folder / "pets"
    write_images(root, "train", "dog", [10, 200], suffix, mode)
    write_images(root, "train", "cat", [90], suffix, mode)
    write_images(root, "test", "dog", [30], suffix, mode)
    (root / "train" / "dog" / "notes.txt").write_text("not an image")
    if zipped:
        zip_up(root)
    pets = load_dataset("pets")
    assert pets.classes == ("cat", "dog")
    assert pets.train.labels.tolist() == [0, 1, 1] and pets.test.labels.tolist() == [1]
    assert pets.train.images.shape == (3, channels, 3, 4) and pets.train.images.dtype == torch.uint8
    expected = torch.tensor([90, 10, 200]).view(3, 1, 1, 1) * torch.tensor([1, 0, 1][:channels]).view(1, -1, 1, 1)
    assert (pets.train.images.int() - expected).abs().max() <= slack
    assert ("PNG" if slack == 0 else "JPEG") in pets.source and (".zip" in pets.source) == zipped


def test_a_zip_gives_what_its_folder_gives(folder):
    write_images(folder / "pets", "train", "dog", range(12))
    write_images(folder / "pets", "test", "dog", [7])
    before = load_dataset("pets")
    zip_up(folder / "pets")
    assert torch.equal(load_dataset("pets").train.images, before.train.images)


def test_unequal_sizes_name_the_file(folder):
    write_images(folder / "pets", "train", "cat", [1])
    write_images(folder / "pets", "train", "dog", [1], size=(5, 5))
    with pytest.raises(ValueError, match=r"dog.*0\.png.*\(5, 5, 3\).*\(3, 4, 3\)"):
        load_dataset("pets")


@pytest.mark.parametrize("other", [{"size": (5, 5)}, {"mode": "L"}], ids=["size", "channels"])
def test_training_and_test_images_have_one_shape(folder, other):
    write_images(folder / "pets", "train", "cat", [1])
    write_images(folder / "pets", "test", "cat", [1], **other)
    with pytest.raises(ValueError, match="test.*cat"):
        load_dataset("pets")


def test_classes_that_only_the_test_images_have_are_named(folder):
    write_images(folder / "pets", "train", "cat", [1])
    for klass in ("cat", "dog"):
        write_images(folder / "pets", "test", klass, [1])
    with pytest.raises(ValueError, match=r"test.*\['dog'\].*train"):
        load_dataset("pets")


def test_sixteen_bit_grey_is_scaled_not_clipped(folder):
    write_images(folder / "scans", "test", "cell", [1], mode="L", size=(3, 1))
    (folder / "scans/train/cell").mkdir(parents=True)
    Image.fromarray(np.array([[0, 0x4000, 0xFFFF]], dtype=np.uint16)).save(folder / "scans/train/cell/0.png")
    assert load_dataset("scans").train.images.flatten().tolist() == pytest.approx([0, 64, 255], abs=1)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_split_without_images_is_named(folder, split, zipped):
    write_images(folder / "pets", {"train": "test", "test": "train"}[split], "cat", [1])
    (folder / "pets" / split / "cat").mkdir(parents=True)
    (folder / "pets" / split / "cat" / "notes.txt").write_text("not an image")
    if zipped:
        zip_up(folder / "pets")
    with pytest.raises(FileNotFoundError, match=f"{split}.*no PNG or JPEG.*cat"):
        load_dataset("pets")


def test_an_image_data_set_in_the_cache_is_found(tmp_path):
    for split in ("train", "test"):
        write_images(tmp_path / "cache" / "pets", split, "cat", [1])
    assert "cache" in load_dataset("pets").source


# What the page shows


def test_the_page_escapes_every_name():
    nasty = """<b onclick="x">&'"""
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    dataset = Dataset(nasty, Split(images, labels), Split(images, labels), (nasty,), nasty, stand_in_for=nasty)
    page = dataset._repr_html_()
    assert set(re.findall(r"</?(\w+)", page)) == {"p", "strong"}
    assert page.count(html.escape(nasty)) >= 3 and f'data-source="{html.escape(nasty)}"' in page


def test_the_page_of_true_data_claims_no_stand_in():
    page = data.digits()._repr_html_()
    assert "Stand-in" not in page and "stand-in" not in page
    assert "40 training and 20 test images, 1×28×28, 10 classes" in page


# Subsets


@pytest.fixture
def toy():
    """40 images; image k is filled with k and labelled k mod 4."""
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 2, 2)
    split = Split(images, torch.arange(40) % 4)
    return Dataset("toy", split, Split(images[:4], split.labels[:4]), tuple("abcd"), "made up")


def kept(toy, **options):
    images, labels = subset(toy, **options)
    assert torch.equal(images[:, 0, 0, 0].long() % 4, labels)
    return images[:, 0, 0, 0].tolist()


def test_everything_by_default(toy):
    assert kept(toy) == list(range(40))


@pytest.mark.parametrize("seed", [0, 1])
def test_smaller_parts_lie_in_larger_ones(toy, seed):
    parts = [kept(toy, fraction=fraction, seed=seed) for fraction in (0.25, 0.5, 0.75, 1)]
    assert [len(part) for part in parts] == [10, 20, 30, 40]
    assert all(set(small) < set(large) for small, large in zip(parts, parts[1:], strict=False))
    assert all(part == sorted(part) for part in parts)  # the order of the data set stays


def test_parts_depend_on_the_seed_alone(toy):
    assert kept(toy, fraction=0.5, seed=1) == kept(toy, fraction=0.5, seed=1) != kept(toy, fraction=0.5, seed=2)


def test_only_some_classes(toy):
    assert kept(toy, classes=[3, 1]) == [k for k in range(40) if k % 4 in (1, 3)]


def test_class_by_class_in_the_asked_order(toy):
    assert kept(toy, order=(2, 0, 3, 1)) == [k for label in (2, 0, 3, 1) for k in range(label, 40, 4)]


def test_fraction_classes_and_order_together(toy):
    part = kept(toy, fraction=0.5, seed=1)
    assert kept(toy, fraction=0.5, classes=[1, 2], order=[2, 1], seed=1) == [
        k for label in (2, 1) for k in part if k % 4 == label
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fraction": 0}, "fraction is 0"),
        ({"fraction": -0.5}, "fraction is -0.5"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"fraction": 0.001}, "no training images are left with fraction=0.001"),
        ({"classes": [1, 4]}, r"no class \[4\].*0 to 3"),
        ({"order": [-1]}, r"no class \[-1\].*0 to 3"),
        ({"classes": ["a"]}, r"no class \['a'\]"),
        ({"classes": []}, "no training images are left"),
        ({"order": []}, "no training images are left"),
        ({"classes": [1], "order": [2]}, "no training images are left"),
    ],
    ids=str,
)
def test_a_subset_that_cannot_be_is_an_error(toy, options, words):
    with pytest.raises(ValueError, match=words):
        subset(toy, **options)
