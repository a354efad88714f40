"""Files of strangers: what is odd is told with the file's name, soon, and without filling memory."""

import io
import os
import random
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peeklib import outside, pictures
from peeklib.course.data import originals
from peeklib.course.data.image_files import _read_zip
from peeklib.outside import open_zip, read_plain
from peeklib.pictures import read_picture


def picture(form="PNG", size=(12, 11), **options):
    """A file of smooth noise."""
    pixels = np.random.default_rng(0).integers(0, 99, (*size[::-1], 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels.cumsum(0).astype(np.uint8)).save(content, form, **options)
    return content.getvalue()


def packed(files, method=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        with zipfile.ZipFile(content, "w", method) as archive:
            for name, inside in files:
                archive.writestr(name, inside)
    return content.getvalue()


def idx(pixels):
    head = struct.pack(f">HBB{pixels.ndim}I", 0, 8, pixels.ndim, *pixels.shape)
    return head + pixels.tobytes()


# Files


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        for read in (read_plain, read_picture, lambda path: open_zip(path).__enter__()):
            with pytest.raises(OSError, match=f"{path} is a device or a pipe"):
                read(path)


def test_a_file_without_end_is_not_read(tmp_path):
    with (tmp_path / "hole.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match=r"hole\.png has 1,099,511,627,776 bytes; at most"):
        read_picture(tmp_path / "hole.png")


# Archives


NAMES = {
    "above": ["../a.png"],
    "far above": ["a/../../../a.png"],
    "absolute": ["/etc/a.png"],
    "nowhere": ["a//b.png"],  # on which `zipfile.Path` never ends
    "deep": ["a/" * 9000 + "b.png"],
    "twice": ["a/b.png", "a/b.png"],
    "file and folder": ["a", "a/b.png"],
    "folder and file": ["a/b.png", "a"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_that_no_honest_archive_has_are_refused(tmp_path, names):
    (tmp_path / "odd.zip").write_bytes(packed([(name, b"") for name in names]))
    with pytest.raises(OSError, match=r"odd\.zip was not read: .*(called|of one name)"):
        with open_zip(tmp_path / "odd.zip"):
            pass


def test_names_may_have_the_separators_of_windows(tmp_path):
    (tmp_path / "some.zip").write_bytes(packed([("a\\b.png", b"1")]))
    with open_zip(tmp_path / "some.zip") as folder:
        assert [path.read_bytes() for path in (folder / "a").iterdir()] == [b"1"]


def test_an_encrypted_file_is_told(tmp_path):
    content = packed([("a.png", b"1")])
    content = content.replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1")
    (tmp_path / "some.zip").write_bytes(content)
    with open_zip(tmp_path / "some.zip") as folder:
        with pytest.raises(OSError, match=r"some\.zip/a\.png is encrypted"):
            (folder / "a.png").read_bytes()


def overlapping():
    """Every entry of the directory is the same file."""
    content = packed([("0.png", bytes(1000))])
    cut = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    directory = b"".join(content[cut:end].replace(b"0.png", b"%d.png" % k) for k in range(9))
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, len(directory), cut, 0)
    return content[:cut] + directory + last


def lying(size):
    """An entry that unpacks to more than it says."""
    content = packed([("0.png", bytes(10**7))], zipfile.ZIP_DEFLATED)
    return content.replace(struct.pack("<I", 10**7), struct.pack("<I", size))


BOMBS = {
    "overlap": (overlapping, "overlap"),
    "ratio": (
        lambda: packed([("0.png", bytes(outside.FREE + 1))], zipfile.ZIP_DEFLATED),
        "bytes unpack to",
    ),
    "says less": (lambda: lying(10), "cannot be unpacked"),
    "says more": (lambda: lying(10**8), "cannot be unpacked"),
    "says much more": (lambda: lying(2**31), "bytes unpack to"),
}


@pytest.mark.parametrize(("content", "words"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_before_they_fill_memory(monkeypatch, tmp_path, content, words):
    monkeypatch.setattr(outside, "FREE", 2 * 10**8 if words.startswith("cannot") else 10**6)
    (tmp_path / "bomb.zip").write_bytes(content())
    tracemalloc.start()
    with pytest.raises(OSError, match=rf"bomb\.zip.*{words}"):
        with open_zip(tmp_path / "bomb.zip") as folder:
            [file.read_bytes() for file in folder.iterdir()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 10**7


def test_images_that_decode_to_far_more_than_their_files_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "FREE", 9 * 10**5)
    for k in range(2):  # the second is not decoded
        Image.new("RGB", (500, 500)).save(tmp_path / f"{k}.png")
    with pytest.raises(ValueError, match=r"up to .*1\.png .*1,000,000 or more as pixels.*bomb"):
        pictures.read_folder(tmp_path)
    monkeypatch.setattr(pictures, "MOST", 10**5)
    with pytest.raises(ValueError, match=r"up to .*0\.png"):
        pictures.read_folder(tmp_path)


def test_many_folders_in_an_archive_are_walked_once(tmp_path):
    names = [f"{k}/{j}.png" for k in range(300) for j in range(3)]
    (tmp_path / "some.zip").write_bytes(packed([(name, b"") for name in names]))
    with open_zip(tmp_path / "some.zip") as folder:
        found = pictures.files_below(folder)
    assert {str(path) for path in found} == {f"{tmp_path}/some.zip/{name}" for name in names}


def test_folders_nested_deeper_than_python_calls_are_walked(tmp_path):
    names = [f"{'d/' * outside.DEEPEST}0.png"]
    (tmp_path / "some.zip").write_bytes(packed([(name, b"") for name in names]))
    with open_zip(tmp_path / "some.zip") as folder:
        assert len(pictures.files_below(folder)) == 1


# Damaged images


def zeroed(content, share):
    kept = int(len(content) * share)
    return content[:kept] + bytes(len(content) - kept)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("options", [{"form": "PNG"}, {"form": "JPEG"}], ids=["PNG", "JPEG"])
def test_a_tail_of_zeros_is_seen(tmp_path, options, share):
    content = picture(size=(64, 64), **options)
    (tmp_path / "whole.png").write_bytes(content + bytes(100))  # what comes after counts nothing
    read_picture(tmp_path / "whole.png")
    (tmp_path / "odd.png").write_bytes(zeroed(content, share))
    with pytest.raises(ValueError, match=r"odd\.png cannot be read as an image"):
        read_picture(tmp_path / "odd.png")


def test_a_jpeg_that_goes_over_its_pixels_without_end_is_refused(tmp_path):
    content = picture("JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    (tmp_path / "odd.jpg").write_bytes(content[:-2] + 200 * scan + content[-2:])
    with pytest.raises(ValueError, match=r"odd\.jpg cannot be read .*2\d\d times, as a bomb"):
        read_picture(tmp_path / "odd.jpg")


def test_a_jpeg_full_of_marks_is_looked_through_in_one_pass(tmp_path):
    (tmp_path / "odd.jpg").write_bytes(picture("JPEG")[:-2] + b"\xff" * 10**6 + b"\0")
    with pytest.raises(ValueError, match=r"odd\.jpg cannot be read as an image \(its end is miss"):
        read_picture(tmp_path / "odd.jpg")


# Anything may happen to a file


FORMATS = {
    "a.png": picture(),
    "a.jpg": picture("JPEG"),
    "a.jpeg": picture("JPEG", progressive=True),
    "a.gif": picture("GIF", save_all=True, append_images=[Image.new("RGB", (12, 11))]),
    "a.tif": picture("TIFF", save_all=True, append_images=[Image.new("RGB", (12, 11))]),
    "a.tiff": picture("TIFF", compression="tiff_deflate"),
    "a.webp": picture("WEBP"),
    "a.bmp": picture("BMP"),
}
ARCHIVE = [(f"pets/{name}.png", picture()) for name in ("train/a/0", "train/b/1", "test/a/2")]
DIGITS = {
    f"{part}-{kind}-ubyte": idx(pixels)
    for part, count in (("train", 5), ("t10k", 3))
    for kind, pixels in {
        "images-idx3": np.arange(count * 28 * 28, dtype=np.uint8).reshape(count, 28, 28),
        "labels-idx1": np.arange(count, dtype=np.uint8),
    }.items()
}


def mutated(content, draw: random.Random):
    """A file to which one to three things happened."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(content))
        to = min(len(content), at + draw.choice([1, 2, 4, 8, 64]))
        happened = draw.randrange(7)
        if happened == 0:
            content[at] ^= 1 << draw.randrange(8)
        elif happened == 1:
            content[at:to] = draw.randbytes(to - at)
        elif happened == 2:
            content[at:to] = draw.choice([b"\xff", b"\0", b"\x7f"]) * (to - at)
        elif happened == 3:
            content[at:] = bytes(len(content) - at)
        elif happened == 4:
            del content[max(at, 1) :]
        elif happened == 5:
            del content[at : to if to - at < len(content) else at]
        else:
            content[at:at] = content[at:to]
    return bytes(content)


def fuzz_picture(root: Path, draw: random.Random) -> None:
    name, content = draw.choice(list(FORMATS.items()))
    content = mutated(content, draw)
    (root / name).write_bytes(content)
    if found := outcome(lambda: read_picture(root / name), name):
        pictures.combine([found])
        if content.startswith(b"\x89PNG"):
            assert (found.pixels == PIXELS).all(), "checksums are compared"


def fuzz_zip(root: Path, draw: random.Random) -> None:
    method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    (root / "pets.zip").write_bytes(mutated(packed(ARCHIVE, method), draw))
    read = lambda: _read_zip(str(root / "pets.zip"), "pets", "here", stamp=(0, 0))  # noqa: E731
    if found := outcome(read, "pets.zip"):
        assert all((image == WHOLE).all() for image in found.train.images)


def fuzz_digits(root: Path, draw: random.Random) -> None:
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True, exist_ok=True)
    changed = draw.choice(list(DIGITS))
    for name, content in DIGITS.items():
        (folder / name).write_bytes(mutated(content, draw) if name == changed else content)
    if found := outcome(lambda: originals.read_original("mnist", root, "here"), str(folder)):
        for split in (found.train, found.test):
            assert len(split.images) == len(split.labels) and split.labels.max() < 10
        assert "not the original" in found.source


def outcome(read: Callable, name: str):
    """What is read, or nothing after an error of the promised kinds that names the file."""
    try:
        return read()
    except (OSError, ValueError) as why:
        assert name in str(why)


PIXELS = pictures.open_picture(Image.open(io.BytesIO(FORMATS["a.png"])), "it").pixels
WHOLE = PIXELS.transpose(2, 0, 1)
FUZZERS = {fuzz_picture: 150, fuzz_zip: 60, fuzz_digits: 40}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("fuzz", "times"), FUZZERS.items(), ids=["picture", "zip", "digits"])
def test_whatever_happened_to_a_file_it_is_read_or_named(tmp_path, fuzz, times):
    for seed in range(times):
        fuzz(tmp_path, random.Random(seed))
