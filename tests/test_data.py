"""Data sets: where they are looked for, what is read, and that nothing here touches the network."""

import dataclasses
import functools
import hashlib
import html
import io
import os
import pickle
import re
import socket
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torchvision.datasets import CIFAR10

from peeklib import Dataset, Split, cached, load_dataset, profile, subset
from peeklib.course.data import (
    digits,
    digits_rgb,
    downloads,
    image_files,
    loading,
    near_misses,
    originals,
    stand_ins,
)
from peeklib.course.data.dataset import channels_first

REAL = Path(os.environ.get("PEEK_DATA") or "nowhere").expanduser()
BOTH = pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("cifar10", "CIFAR10")])
photographs_once = functools.cache(stand_ins._photographs)
waits = []  # a mark for each time that somebody looked for a server

# Three images in each file, image k filled with k and labelled k.
PIXELS = {
    size: np.repeat(np.arange(3, dtype=np.uint8), size).reshape(3, size)
    for size in (28 * 28, 3 * 32 * 32)
}
BATCH = pickle.dumps({"data": PIXELS[3 * 32 * 32], "labels": [0, 1, 2]})
NAMES = pickle.dumps({"label_names": list("abcdefghij")})
FILES = {
    "mnist": {
        f"MNIST/raw/{split}-{kind}-ubyte": content
        for split in ("train", "t10k")
        for kind, content in {
            "images-idx3": struct.pack(">IIII", 0x803, 3, 28, 28) + PIXELS[28 * 28].tobytes(),
            "labels-idx1": struct.pack(">II", 0x801, 3) + bytes(range(3)),
        }.items()
    },
    "cifar10": {"cifar-10-batches-py/batches.meta": NAMES}
    | {f"cifar-10-batches-py/{file}": BATCH for file, _ in CIFAR10.test_list + CIFAR10.train_list},
}


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings, an empty cache, nothing kept, no network, few digits.

    And torchvision takes the batches above for CIFAR-10.
    """

    def refuse(*_):
        waits.append(True)
        raise OSError("the network is off in tests")

    waits.clear()
    monkeypatch.delenv("PEEK_DATA", raising=False)
    monkeypatch.delenv("PEEK_PROFILE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(stand_ins, "_photographs", photographs_once)
    for module in (loading, image_files):
        monkeypatch.setattr(module, "cached", lambda function: function)
    monkeypatch.setattr(loading, "digits", lambda *_: digits(40, 20))
    monkeypatch.setattr(loading, "digits_rgb", lambda *_: digits_rgb(40, 20))
    for part in ("train_list", "test_list"):
        files = [[file, md5(BATCH)] for file, _ in getattr(CIFAR10, part)]
        monkeypatch.setattr(CIFAR10, part, files)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(NAMES)})


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder that PEEK_DATA names."""
    monkeypatch.setenv("PEEK_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_in_the_small_version_few_digits_stand_in(monkeypatch):
    monkeypatch.setenv("PEEK_PROFILE", "embedded")
    asked = []
    for name in ("digits", "digits_rgb"):
        monkeypatch.setattr(loading, name, lambda *counts: asked.append(counts) or digits(40, 20))
    assert load_dataset("mnist", fallback=True).stand_in_for == "mnist"
    assert load_dataset("cifar10", fallback=True).stand_in_for == "cifar10"
    load_dataset("digits")
    assert asked == [loading.SMALL["digits"], loading.SMALL["digits-rgb"], ()]


# The digits

KINDS = pytest.mark.parametrize(
    ("make", "shape"), [(digits, (1, 28, 28)), (digits_rgb, (3, 32, 32))]
)


@KINDS
def test_digits_are_what_they_say(make, shape):
    made = make(30, 12)
    for split, count in ((made.train, 30), (made.test, 12)):
        assert split.images.shape == (count, *shape) and split.images.dtype == torch.uint8
        assert split.images.is_contiguous()
        assert split.labels.shape == (count,) and split.labels.dtype == torch.int64
    assert made.classes == tuple("0123456789") and made.stand_in_for is None
    assert load_dataset(made.name).name == made.name


@KINDS
def test_digits_are_the_same_for_the_same_seed_and_leave_random_state_alone(make, shape):
    before = torch.get_rng_state()
    first, again, other = (make(30, 12, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    for split in ("train", "test"):
        for part in ("images", "labels"):
            tensors = [getattr(getattr(made, split), part) for made in (first, again, other)]
            assert torch.equal(tensors[0], tensors[1])
            assert not torch.equal(tensors[0], tensors[2])


def test_digits_have_ink_in_the_middle_and_none_at_the_corners():
    images = digits(200, 5).train.images[:, 0].float()
    assert (images.amax(dim=(1, 2)) > 150).all()
    assert images[:, 8:20, 8:20].mean() > 2 * images.mean()
    assert images[:, 0, 0].max() < 10


def test_originals_do_not_serve_twice(monkeypatch):
    monkeypatch.setattr(stand_ins, "_warp", lambda images, *_: images)
    made = digits(5000, 1500)
    train = {image.numpy().tobytes() for image in made.train.images}
    test = {image.numpy().tobytes() for image in made.test.images}
    assert len(train) > 1000 and len(test) > 300
    assert not train & test


def test_labels_belong_to_their_images(monkeypatch):
    from sklearn.datasets import load_digits

    monkeypatch.setattr(stand_ins, "_warp", lambda images, *_: images)
    pixels = (load_digits().images / 16).astype(np.float32)
    label_of = {
        image.tobytes(): label for image, label in zip(pixels, load_digits().target, strict=True)
    }
    images, labels = digits(300, 5).train
    assert [label_of[image[0].numpy().tobytes()] for image in images] == labels.tolist()


def luma(images):
    return (images / 255 * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)


def masks(train, test, seed):
    """The digits that `digits_rgb` paints."""
    return stand_ins._warped_digits(train, test, 32, torch.Generator().manual_seed(seed))


def photographs(monkeypatch, left, right):
    """Two photographs of one colour in the left three fifths, and another in the rest."""
    photograph = np.full((427, 640, 3), right, dtype=np.uint8)
    photograph[:, :384] = left
    monkeypatch.setattr(stand_ins, "_photographs", photographs_once.__wrapped__)
    monkeypatch.setattr(
        "sklearn.datasets.load_sample_images",
        lambda: type("Bunch", (), {"images": [photograph] * 2}),
    )


def test_on_black_only_the_digits_are_left(monkeypatch):
    photographs(monkeypatch, 0, 0)
    made = digits_rgb(60, 30, seed=3)
    for split, mask in zip((made.train, made.test), masks(60, 30, seed=3), strict=True):
        assert torch.equal(split.labels, mask.labels)
        brightest = split.images.amax(1).float()
        shape = mask.images[:, 0] / mask.images[:, 0].amax((1, 2), keepdim=True)
        expected = shape * brightest.amax((1, 2), keepdim=True)
        assert (brightest - expected).abs().max() <= 1
    assert made.train.images.amax((2, 3)).unique(dim=0).shape[0] > 50  # colours


def test_test_images_show_no_part_of_a_photograph_that_training_images_show(monkeypatch):
    photographs(monkeypatch, (200, 0, 0), (0, 0, 200))
    made = digits_rgb(300, 300)
    for split, shown in ((made.train, [200, 0, 0]), (made.test, [0, 0, 200])):
        edges = split.images[..., [0, -1]].median(dim=2).values  # images × 3 × left and right
        assert (edges.int() - torch.tensor(shown).view(3, 1)).abs().max() < 20


def test_every_digit_stands_out_from_its_patch():
    made = digits_rgb(1000, 300, seed=1)
    for split, mask in zip((made.train, made.test), masks(1000, 300, seed=1), strict=True):
        values = luma(split.images)
        ink, ground = mask.images[:, 0] > 230, mask.images[:, 0] < 20
        digit, patch = ((values * where).sum((1, 2)) / where.sum((1, 2)) for where in (ink, ground))
        spread = torch.stack([values[k][ground[k]].std() for k in range(len(values))])
        assert ((digit - patch).abs() > 0.3).all()
        assert ((digit - patch).abs() > 1.5 * spread).all()
        assert spread.mean() > 0.03, "patches are not plain"


@pytest.mark.parametrize("ground", [0, 0.49, 0.5, 0.51, 1])
def test_colours_are_legible_on_any_ground(ground):
    some = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    colours = torch.cat([torch.zeros(1, 3), torch.ones(1, 3), some])[..., None, None]
    chosen = stand_ins._legible(colours, torch.full_like(colours, ground))
    assert chosen.min() >= 0 and chosen.max() <= 1
    assert ((luma(255 * chosen) - ground).abs() >= stand_ins.CONTRAST - 1e-6).all()


def test_neighbours_find_the_digits_on_photographs():
    made = digits_rgb(1000, 300)
    train, test = (luma(split.images).flatten(1) for split in (made.train, made.test))
    train, test = (values - values.mean(1, keepdim=True) for values in (train, test))
    neighbours = KNeighborsClassifier(5, metric="cosine").fit(train, made.train.labels)
    assert neighbours.score(test, made.test.labels) > 0.5  # chance is 0.1


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
@pytest.mark.parametrize("make", [digits, digits_rgb])
def test_a_number_of_digits_that_cannot_be_is_an_error(make, count, error):
    for counts in ({"train": count, "test": 2}, {"train": 2, "test": count}):
        with pytest.raises(error, match="train is|test is"):
            make(**counts)


# Profiles and fallbacks


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "full"), ("full", "full"), ("embedded", "embedded")]
)
def test_profile(monkeypatch, value, expected):
    if value:
        monkeypatch.setenv("PEEK_PROFILE", value)
    assert profile() == expected


def test_a_wrong_profile_is_named(monkeypatch):
    monkeypatch.setenv("PEEK_PROFILE", "quick")
    with pytest.raises(ValueError, match="'quick'.*full.*embedded"):
        profile()


def write(name, root):
    for file, content in FILES[name].items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)


@BOTH
def test_the_embedded_profile_gives_the_stand_in_to_those_who_allow_it(
    monkeypatch, folder, name, kind
):
    write(name, folder)
    monkeypatch.setenv("PEEK_PROFILE", "embedded")
    found = load_dataset(name, fallback=True)
    assert (found.name, found.stand_in_for) == (loading.STAND_INS[name], name)
    assert load_dataset(name).name == name
    assert not waits


@BOTH
def test_no_download_is_an_error_and_the_page_of_the_stand_in_says_why(name, kind):
    why = "the network is off in tests"
    with pytest.raises(ConnectionError, match=f"{kind} could not be had.*{why}"):
        load_dataset(name)
    found = load_dataset(name, fallback=True)
    assert (found.name, found.stand_in_for) == (loading.STAND_INS[name], name)
    assert repr(found).startswith(f"stand-in for {name}: {found.name}")
    page = found._repr_html_()
    for part in ("Stand-in", f"asked for {name}", found.name, f"{kind} could not be had"):
        assert part in page


@BOTH
@pytest.mark.parametrize("damage", ["cut", "missing bytes", "pipe"])
def test_a_damaged_file_is_an_error_that_a_stand_in_can_replace(folder, name, kind, damage):
    write(name, folder)
    file = folder / list(FILES[name])[-1]
    content = file.read_bytes()
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    words = (
        f"{kind} in the folder PEEK_DATA is damaged: .*{file.name}.*{re.escape(str(file.parent))}"
    )
    with pytest.raises(OSError, match=words):
        load_dataset(name)
    with pytest.warns(UserWarning, match="stand in for.*is damaged"):
        assert load_dataset(name, fallback=True).stand_in_for == name


def test_a_damaged_image_of_a_data_set_that_has_a_stand_in_is_told_by_it(folder):
    write_images(folder / "mnist", "train", "0", [1])
    (folder / "mnist/train/0/0.png").write_bytes(b"?")
    write_images(folder / "mnist", "test", "0", [1])
    with pytest.warns(UserWarning, match=r"0\.png cannot be read"):
        assert load_dataset("mnist", fallback=True).stand_in_for == "mnist"


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_batches_run_nothing(folder, monkeypatch, tmp_path, protocol):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it ran",)

    write("cifar10", folder)
    content = pickle.dumps({"data": Bomb(), "labels": [0]}, protocol)
    for file, _ in CIFAR10.train_list:
        (folder / "cifar-10-batches-py" / file).write_bytes(content)
    with pytest.raises(OSError, match="data_batch_1 is not the original one"):
        load_dataset("cifar10")
    files = [[file, md5(content)] for file, _ in CIFAR10.train_list]
    monkeypatch.setattr(CIFAR10, "train_list", files)
    with pytest.raises(OSError, match="damaged: it names .*no part of an array"):
        load_dataset("cifar10")
    assert not (tmp_path / "it ran").exists()


@BOTH
def test_half_a_download_in_the_cache_is_downloaded_again(tmp_path, name, kind):
    write(name, tmp_path / "cache")
    (tmp_path / "cache" / list(FILES[name])[-1]).unlink()
    with pytest.raises(ConnectionError):
        load_dataset(name)
    assert waits


# Mirrors


def packed(files):
    packet = io.BytesIO()
    with tarfile.open(fileobj=packet, mode="w:gz") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packet.getvalue()


TRUE = packed(FILES["cifar10"])
MIRRORS = originals.ORIGINALS["cifar10"].mirrors
HOSTS = [urlsplit(url).netloc for url in MIRRORS]


def serve(monkeypatch, *answers):
    """The mirrors of CIFAR-10 give these archives in turn, the rest none.

    Returns a list of those that were asked, as it fills.
    """
    asked = []

    def fetch(url, path):
        host = urlsplit(url).netloc
        asked.extend({host} - set(asked))
        if HOSTS.index(host) >= len(answers):
            raise TimeoutError("no answer")
        Path(path).write_bytes(answers[HOSTS.index(host)])

    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(TRUE))
    monkeypatch.setattr(downloads, "_fetch", fetch)
    return asked


def test_mirrors_are_asked_in_turn_until_one_has_the_true_archive(monkeypatch, tmp_path):
    asked = serve(monkeypatch, TRUE[:-9], b"<html>moved</html>", TRUE)
    found = load_dataset("cifar10")
    assert asked == HOSTS[:3] and "download, checksums verified" in found.source
    assert MIRRORS[-1] + CIFAR10.filename == CIFAR10.url, "its slow home comes last"
    left = [file.name for file in (tmp_path / "cache").iterdir()]
    assert left == ["cifar-10-batches-py"], "no archive stays"
    again = load_dataset("cifar10")
    assert asked == HOSTS[:3] and "cache" in again.source
    assert torch.equal(again.train.images, found.train.images)


# Folders


@pytest.mark.parametrize("fallback", [True, False])
def test_a_wrong_folder_is_an_error_whatever_the_fallback(monkeypatch, tmp_path, fallback):
    monkeypatch.setenv("PEEK_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="PEEK_DATA.*nowhere.*not a folder"):
        load_dataset("mnist", fallback=fallback)


@pytest.mark.parametrize("fallback", [True, False])
def test_an_unknown_name_is_an_error_whatever_the_fallback(folder, fallback):
    words = "'imagenet'.*mnist.*cifar10.*digits.*digits-rgb.*PEEK_DATA"
    with pytest.raises(FileNotFoundError, match=words):
        load_dataset("imagenet", fallback=fallback)


@BOTH
@pytest.mark.parametrize("place", ["data", "cache"])
def test_originals_are_read_from_the_folder_or_the_cache(folder, tmp_path, name, kind, place):
    write(name, tmp_path / place)
    found = load_dataset(name)
    shape, names, batches = {
        "mnist": ((1, 28, 28), "0123456789", 1),
        "cifar10": ((3, 32, 32), "abcdefghij", 5),
    }[name]
    for split, copies in ((found.train, batches), (found.test, 1)):
        assert split.images.dtype == torch.uint8 and split.images.is_contiguous()
        assert split.labels.dtype == torch.int64 and split.labels.tolist() == [0, 1, 2] * copies
        assert torch.equal(split.images, split.labels.byte().view(-1, 1, 1, 1).expand(-1, *shape))
    assert found.classes == tuple(names) and found.stand_in_for is None
    assert ("PEEK_DATA" if place == "data" else "cache") in found.source
    assert not waits


@BOTH
def test_the_folder_comes_before_the_cache_and_originals_before_image_files(
    folder, tmp_path, name, kind
):
    write(name, tmp_path / "cache")
    write_images(folder / name, "train", "cat", [1])
    write_images(folder / name, "test", "cat", [1])
    zip_up(folder / name)
    assert f"{name}-small.zip in the folder PEEK_DATA" in load_dataset(name).source
    (folder / "unpacked").rename(folder / name)
    assert "PNG files, from the folder PEEK_DATA" in load_dataset(name).source
    write(name, folder)
    assert re.search("original .*from the folder PEEK_DATA", load_dataset(name).source)
    assert not waits


def write_mnist(root, images, labels):
    """Arrays in the place of MNIST's training and test images."""
    write("mnist", root)
    for split in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / f"MNIST/raw/{split}-{kind}-ubyte").write_bytes(head + array.tobytes())


def test_other_images_in_the_place_of_mnist_are_not_called_original(folder):
    write_mnist(folder, np.zeros((3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8))
    with pytest.warns(UserWarning, match="not the original ones"):
        assert "not the original" in load_dataset("mnist").source


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ((3, 28, 28), [0, 1, 215], "train-labels-idx1-ubyte has label 215 for image 2"),
        ((3, 28, 28), [0, 1], "train-labels-idx1-ubyte has 2 labels for 3 images"),
        ((3, 56, 14), [0, 1, 2], r"train-images-idx3-ubyte says its shape is \(3, 56, 14\)"),
        ((3, 784), [0, 1, 2], "train-images-idx3-ubyte is no IDX file of bytes with 3 axes"),
        ((0, 28, 28), [], r"train-images-idx3-ubyte says its shape is \(0, 28, 28\)"),
    ],
    ids=["label", "count", "size", "axes", "none"],
)
def test_files_of_mnist_that_do_not_fit_are_an_error(folder, images, labels, words):
    write_mnist(folder, np.zeros(images, np.uint8), np.array(labels, np.uint8))
    with pytest.raises(OSError, match=f"damaged: {words}.*MNIST.raw"):
        load_dataset("mnist")


@pytest.mark.parametrize("sizes", [(2**32 - 1, 28, 28), (4, 28, 28), (2, 28, 28)])
def test_what_an_idx_file_says_of_its_size_is_not_believed(folder, sizes):
    write("mnist", folder)
    file = folder / "MNIST/raw/train-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(struct.pack(">IIII", 0x803, *sizes) + content[16:])
    with pytest.raises(OSError, match=f"{file.name} has 2,368 bytes; with shape"):
        load_dataset("mnist")


def test_channels_come_first():
    images = np.arange(3 * 32 * 32).reshape(1, 3, 32, 32) % 251  # as the batches have them
    as_torchvision_gives_them = images.transpose(0, 2, 3, 1)
    assert channels_first(as_torchvision_gives_them).tolist() == images.tolist()
    assert channels_first(images[:, 0]).tolist() == images[:, :1].tolist()


def test_grey_images_keep_the_strides_that_the_evidence_was_made_with():
    assert channels_first(torch.zeros(5, 28, 28)).stride() == (784, 1, 28, 1)


@pytest.mark.skipif(
    not (REAL / "MNIST/raw/train-images-idx3-ubyte").exists(), reason="PEEK_DATA has no MNIST"
)
def test_the_real_mnist(monkeypatch):
    monkeypatch.setenv("PEEK_DATA", str(REAL))
    mnist = load_dataset("mnist")
    assert mnist.source == "the original IDX files, from the folder PEEK_DATA"
    assert mnist.train.images.shape == (60_000, 1, 28, 28)
    assert mnist.test.images.shape == (10_000, 1, 28, 28)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.train.labels.bincount().tolist() == train
    assert mnist.test.labels.bincount().tolist() == test


@pytest.mark.skipif(not list(REAL.glob("cifar10*.zip")), reason="PEEK_DATA has no zip of CIFAR-10")
def test_the_real_cifar10(folder):
    """Of all that is in the zip the names, and of every hundredth image the pixels."""
    [path] = REAL.glob("cifar10*.zip")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(folder / "cifar10.zip", "w") as some:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for name in names[::100]:
            some.writestr(name, archive.read(name))
    counts = Counter(name.rpartition("/")[0] for name in names)
    assert sorted(counts.values()) == [1000] * 10 + [5000] * 10
    cifar = load_dataset("cifar10")
    classes = "airplane automobile bird cat deer dog frog horse ship truck"
    assert cifar.classes == tuple(classes.split())
    assert cifar.train.labels.bincount().tolist() == [50] * 10
    assert cifar.test.images.shape == (100, 3, 32, 32)
    means = cifar.train.images.float().mean((0, 2, 3)) / 255
    well_known = [0.4914, 0.4822, 0.4465]
    assert means.tolist() == pytest.approx(well_known, abs=0.02)


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
    colour = torch.tensor([1, 0, 1][:channels]).view(1, -1, 1, 1)
    expected = torch.tensor([90, 10, 200]).view(3, 1, 1, 1) * colour
    assert (pets.train.images.int() - expected).abs().max() <= slack
    assert ("PNG" if slack == 0 else "JPEG") in pets.source and (".zip" in pets.source) == zipped


def test_unequal_sizes_name_both_files(folder):
    write_images(folder / "pets", "train", "cat", [1])
    write_images(folder / "pets", "train", "dog", [1], size=(5, 6))
    write_images(folder / "pets", "test", "cat", [1])
    with pytest.raises(ValueError, match=r"dog.0\.png has 6 × 5.*cat.0\.png has 3 × 4"):
        load_dataset("pets")


def test_training_and_test_images_have_one_size(folder):
    write_images(folder / "pets", "train", "cat", [1])
    write_images(folder / "pets", "test", "cat", [1], size=(5, 5))
    with pytest.raises(ValueError, match=r"test.cat.0\.png has 5 × 5.*train.cat.0\.png has 3 × 4"):
        load_dataset("pets")


def test_grey_images_among_coloured_ones_get_three_channels(folder):
    write_images(folder / "pets", "train", "cat", [1])
    write_images(folder / "pets", "test", "cat", [7], mode="L")
    pets = load_dataset("pets")
    assert pets.train.images.shape == pets.test.images.shape == (1, 3, 3, 4)
    assert (pets.test.images == 7).all()


def test_classes_that_only_the_test_images_have_are_named(folder):
    write_images(folder / "pets", "train", "cat", [1])
    for klass in ("cat", "dog"):
        write_images(folder / "pets", "test", klass, [1])
    with pytest.raises(ValueError, match=r"test.*\['dog'\].*train"):
        load_dataset("pets")


def test_classes_that_only_the_training_images_have_are_worth_a_word(folder):
    for klass in ("cat", "dog"):
        write_images(folder / "pets", "train", klass, [1])
    write_images(folder / "pets", "test", "cat", [1])
    with pytest.warns(UserWarning, match=r"no test images of the classes \['dog'\]"):
        assert load_dataset("pets").classes == ("cat", "dog")


def test_training_and_test_images_of_many_bits_are_scaled_alike(folder):
    for split, pixels in (("train", [0, 1000, 2000]), ("test", [0, 10, 4095])):
        (folder / "scans" / split / "cell").mkdir(parents=True)
        image = Image.fromarray(np.array([pixels], dtype=np.uint16))
        image.save(folder / "scans" / split / "cell/0.png")
    with pytest.warns(UserWarning, match="run from 0 to 4095: divided by 4095"):
        scans = load_dataset("scans")
    assert scans.train.images.flatten().tolist() == [0, 62, 125]
    assert scans.test.images.flatten().tolist() == [0, 1, 255]
    assert "divided by 4095" in scans.source


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_split_without_images_is_named(folder, split, zipped):
    write_images(folder / "pets", {"train": "test", "test": "train"}[split], "cat", [1])
    (folder / "pets" / split / "cat").mkdir(parents=True)
    (folder / "pets" / split / "cat" / "notes.txt").write_text("not an image")
    if zipped:
        zip_up(folder / "pets")
    words = rf"classes \['cat'\] have no images: in .*{split}.*cat.* there are 1 \.txt.*\.png"
    with pytest.raises(FileNotFoundError, match=words):
        load_dataset("pets")


def test_a_split_that_is_missing_is_named(folder):
    write_images(folder / "pets", "train", "cat", [1])
    write_images(folder / "pets", "val", "cat", [1])
    with pytest.raises(FileNotFoundError, match=r"pets has no folder 'test', only.*val"):
        load_dataset("pets")
    (folder / "pets/test").mkdir()
    with pytest.raises(FileNotFoundError, match="test has no folders, one for each class"):
        load_dataset("pets")


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_hidden_folders_are_no_classes(folder, zipped):
    for split in ("train", "test"):
        for klass in ("dog", ".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            write_images(folder / "pets", split, klass, [1])
        write_images(folder / "pets", split, "cat/batch 1", [1], "webp")
    if zipped:
        zip_up(folder / "pets")
    pets = load_dataset("pets")
    assert pets.classes == ("cat", "dog") and pets.train.labels.tolist() == [0, 1]
    assert "PNG and WEBP files" in pets.source


def test_a_zip_may_begin_with_the_splits(folder):
    for split in ("train", "test"):
        write_images(folder / "pets", split, "cat", [1])
    with zipfile.ZipFile(folder / "pets.zip", "w") as archive:
        for file in (folder / "pets").rglob("*.png"):
            archive.write(file, file.relative_to(folder / "pets"))
    (folder / "pets").rename(folder / "elsewhere")
    assert load_dataset("pets").classes == ("cat",)


def test_a_zip_of_another_data_set_is_not_taken(folder):
    for split in ("train", "test"):
        write_images(folder / "pets2", split, "cat", [1])
    zip_up(folder / "pets2")
    with pytest.raises(FileNotFoundError, match="no data set 'pets'.*pets2-small.zip"):
        load_dataset("pets")


def test_classes_whose_names_are_no_text_can_be_printed(folder):
    for split in ("train", "test"):
        write_images(folder / "pets", split, "x\udce9", [1])
    assert load_dataset("pets").classes == (r"x\udce9",)


def test_what_transparency_became_stands_on_the_page(folder):
    for split in ("train", "test"):
        (folder / "icons" / split / "dot").mkdir(parents=True)
        Image.new("LA", (4, 3)).save(folder / "icons" / split / "dot/0.png")
    with pytest.warns(UserWarning, match="laid on"):
        assert "laid on white" in load_dataset("icons").source


# Near misses


def test_mnist_and_cifar_that_are_not_quite_there_are_named_with_a_remedy(folder, tmp_path):
    near = {
        "mnist": [
            "MNIST/raw/train-images-idx3-ubyte.gz",
            "MNIST/raw/train-images.idx3-ubyte",
            "MNIST/train-images-idx3-ubyte",
            "train-images-idx3-ubyte (1)",
            "mnist.npz",
            "mnist_train.csv",
            "Data/MNIST.zip",
        ],
        "cifar10": [
            "cifar-10-python.tar.gz",
            "cifar-10-batches-bin/data_batch_1.bin",
            "cifar10/train.7z",
            "data_batch_1",
        ],
    }
    for name, paths in near.items():
        for k, path in enumerate(paths):
            root = tmp_path / f"{name}{k}"
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(b"?")
            told = near_misses.near_miss(name, root)
            assert str(root / path) in told or f"{root / path}".rsplit("/", 1)[0] in told
            assert str(root / originals.ORIGINALS[name].folder) in told and "unpacked" in told


@pytest.mark.parametrize("inside", ["MNIST", "MNIST/raw", "."])
def test_a_folder_too_deep_or_too_high_is_told_where_the_data_is(monkeypatch, tmp_path, inside):
    home = tmp_path / "home"
    write("mnist", home)
    monkeypatch.setenv("PEEK_DATA", str(tmp_path if inside == "." else home / inside))
    with pytest.warns(UserWarning, match="a download is tried"):
        with pytest.raises(ConnectionError, match=f"but in {home}. Let PEEK_DATA name that"):
            load_dataset("mnist")


@BOTH
def test_a_stand_in_says_what_nearly_was_there(folder, name, kind):
    packed_file = folder / f"{name}.tar.gz"
    packed_file.write_bytes(b"?")
    with pytest.warns(UserWarning, match=f"{packed_file}.*a download is tried"):
        found = load_dataset(name, fallback=True)
    assert found.stand_in_for == name and str(packed_file) in found._repr_html_()


def test_an_image_data_set_that_is_not_quite_there_is_named(folder):
    write_images(folder / "Pets", "training", "cat", [1])
    with pytest.raises(FileNotFoundError, match=r"Pets with training.*pets.\{train,test\}"):
        load_dataset("pets")
    write_images(folder / "more/pets", "train", "cat", [1])
    with pytest.raises(FileNotFoundError, match=r"but in .*more. Let PEEK_DATA"):
        load_dataset("pets")


def test_nothing_alike_is_nothing_told(folder):
    write_images(folder / "pets", "train", "cat", [1])
    write("mnist", folder / "FashionMNIST")
    assert near_misses.near_miss("cifar10", folder) == ""
    assert near_misses.near_miss("鳥", folder) == ""


def test_an_image_data_set_in_the_cache_is_found(tmp_path):
    for split in ("train", "test"):
        write_images(tmp_path / "cache" / "pets", split, "cat", [1])
    assert "cache" in load_dataset("pets").source


# What the page shows


def test_the_page_escapes_every_name():
    nasty = """<b onclick="x">&'"""
    split = Split(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    dataset = Dataset(nasty, split, split, (nasty,), nasty, stand_in_for=nasty)
    page = dataset._repr_html_()
    assert set(re.findall(r"</?(\w+)", page)) == {"p", "strong"}
    assert page.count(html.escape(nasty)) >= 3 and f'data-source="{html.escape(nasty)}"' in page


def test_the_page_of_true_data_claims_no_stand_in():
    page = digits(40, 20)._repr_html_()
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
    first, again, other = (kept(toy, fraction=0.5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_seeds_and_labels_may_be_numpys(toy):
    train = Split(toy.train.images, toy.train.labels.numpy()[:, None])
    other = dataclasses.replace(toy, train=train)
    options = {"fraction": 0.5, "classes": np.array([1, 3])}
    assert kept(other, seed=np.int64(1), **options) == kept(toy, seed=1, **options)
    with pytest.raises(TypeError, match="seed is 0.5"):
        subset(toy, fraction=0.5, seed=0.5)
    with pytest.raises(TypeError, match="seed is"):
        digits(3, 2, seed=0.5)


def test_only_some_classes(toy):
    assert kept(toy, classes=[3, 1]) == [k for k in range(40) if k % 4 in (1, 3)]


def test_class_by_class_in_the_asked_order(toy):
    expected = [k for label in (2, 0, 3, 1) for k in range(label, 40, 4)]
    assert kept(toy, order=(2, 0, 3, 1)) == expected


def test_fraction_classes_and_order_together(toy):
    part = kept(toy, fraction=0.5, seed=1)
    expected = [k for label in (2, 1) for k in part if k % 4 == label]
    assert kept(toy, fraction=0.5, classes=[1, 2], order=[2, 1], seed=1) == expected


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


def test_a_zip_is_decoded_once_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "cached", cached)
    monkeypatch.setenv("PEEK_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("PEEK_DATA", str(tmp_path))
    decoded, decode = [], image_files.read_pictures

    def counted(files):
        decoded.extend(files)
        return decode(files)

    monkeypatch.setattr(image_files, "read_pictures", counted)

    def write(value):
        picture = io.BytesIO()
        Image.new("L", (4, 4), value).save(picture, "PNG")
        with zipfile.ZipFile(tmp_path / "dots.zip", "w") as archive:
            for part in ("train", "test"):
                archive.writestr(f"dots/{part}/a/0.png", picture.getvalue())
        os.utime(tmp_path / "dots.zip", (value, value))

    def brightest():
        return int(load_dataset("dots").train.images.max())

    write(7)
    assert (brightest(), brightest()) == (7, 7)
    assert len(decoded) == 2
    write(9)
    assert brightest() == 9
    assert len(decoded) == 4
