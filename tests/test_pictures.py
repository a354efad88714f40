"""Files of images: what is read, what is passed over, and what a pixel becomes."""

import io
import re
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, PngImagePlugin

from peeklib import pictures


def picture(pixels, name="some.png", **facts):
    return pictures.Picture(name, np.atleast_3d(np.array(pixels)), **facts)


def saved(image, form, **options):
    """An image as it comes back from a file."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return pictures.open_picture(Image.open(content), f"some.{form.lower()}")


def stroke(colour, mode="RGBA"):
    """A line on transparent ground."""
    image = Image.new(mode, (9, 9))
    ImageDraw.Draw(image).line((1, 1, 7, 7), fill=colour)
    return image


# Folders


@pytest.fixture
def quiet():
    """Warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


FORMATS = ["bmp", "gif", "jfif", "JPG", "pgm", "png", "PPM", "tga", "TIF", "tiff", "webp"]


def test_a_folder_is_read_with_its_subfolders_in_order(tmp_path, quiet):
    for k, suffix in enumerate(FORMATS):
        folder = tmp_path / ("é" if k % 2 else "a b")
        folder.mkdir(exist_ok=True)
        Image.new("L", (4, 3), 20 * k).save(folder / f"{k:02}.{suffix}")
    images, names = pictures.read_folder(str(tmp_path))
    assert names == sorted(names) and len(names) == len(FORMATS)
    assert images.shape == (len(FORMATS), 3, 3, 4) and images.dtype == torch.uint8
    for image, name in zip(images, names, strict=True):
        assert (image - 20.0 * int(Path(name).stem)).abs().max() <= 2


LEFT_BEHIND = [
    ".ipynb_checkpoints/0-checkpoint.png",
    ".git/0.png",
    "a/.hidden/0.png",
    "a/._0.png",
    "__MACOSX/a/0.png",
    "@eaDir/0.png",
    "lost+found/0.png",
    "a/Thumbs.db",
    "a/notes.txt",
    "a/empty/",
]


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_what_systems_leave_behind_is_passed_over(tmp_path, zipped):
    pixels = io.BytesIO()
    Image.new("L", (2, 2)).save(pixels, "PNG")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for name in ["a/0.png", *LEFT_BEHIND]:
            archive.writestr(name, b"" if name.endswith("/") else pixels.getvalue())
        archive.extractall(tmp_path / "some")
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        root = zipfile.Path(archive) if zipped else tmp_path / "some"
        found = [path for path in pictures.files_below(root) if pictures.is_image(path)]
        assert [path.name for path in found] == ["0.png"]


def test_links_in_a_circle_are_followed_once(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "0.png")
    (tmp_path / "a/other").symlink_to(tmp_path / "b")
    (tmp_path / "b/other").symlink_to(tmp_path / "a")
    expected = ["a/0.png", "a/other/0.png", "b/0.png", "b/other/0.png"]
    assert pictures.read_folder(tmp_path)[1] == expected


def test_a_link_to_a_folder_that_it_lies_in_is_passed_over(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "a/0.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert pictures.read_folder(tmp_path / "a")[1] == ["0.png"]


def test_a_folder_without_images_says_what_it_has(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(tmp_path))}.*it is empty"):
        pictures.read_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("moved")
    (tmp_path / "clip.heic").write_text("?")
    with pytest.raises(FileNotFoundError, match=r"1 \.heic.*1 \.txt.*\.png.*\.webp"):
        pictures.read_folder(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"notes\.txt is a file"):
        pictures.read_folder(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        pictures.read_folder(tmp_path / "nowhere")


def test_pictures_that_pillow_cannot_read_are_left_out_with_a_word(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "0.png")
    (tmp_path / "1.HEIC").write_text("?")
    with pytest.warns(UserWarning, match=r"left out 1 \.heic"):
        images, _ = pictures.read_folder(tmp_path)
    assert len(images) == 1


def test_a_file_is_what_it_holds_not_what_it_is_called(tmp_path, quiet):
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / "0.jpg", "PNG")
    images, _ = pictures.read_folder(tmp_path)
    assert images[0, :, 0, 0].tolist() == [9, 8, 7]


def test_programs_are_not_started_for_a_picture(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "0.png", "EPS")
    with pytest.raises(ValueError, match=r"0\.png cannot be read as an image.*%!PS"):
        pictures.read_folder(tmp_path)


def test_a_file_that_is_not_to_be_had_is_named(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "0.png")
    (tmp_path / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(OSError, match=r"1\.png"):
        pictures.read_folder(tmp_path)


# Errors


def with_much_text(path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 2**21, zip=True)
    Image.new("L", (8, 8)).save(path, pnginfo=info)


def cut_short(path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-500])


DAMAGED = {
    "text": with_much_text,
    "huge": lambda path: Image.new("1", (20000, 10000)).save(path),
    "cut": cut_short,
    "empty": lambda path: path.write_bytes(b""),
    "page": lambda path: path.write_text("<html>"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_whatever_is_wrong_with_a_file_its_name_is_told(tmp_path, damage):
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    damage(tmp_path / "odd.png")
    with pytest.raises(ValueError, match=r"odd\.png cannot be read as an image \(.+\); replace"):
        pictures.read_folder(tmp_path)


def test_pillows_own_image_that_cannot_be_decoded_is_named(tmp_path):
    cut_short(tmp_path / "odd.jpg")
    with Image.open(tmp_path / "odd.jpg") as image:
        with pytest.raises(ValueError, match=r"odd\.jpg cannot be read"):
            pictures.open_picture(image, image.filename)


def test_images_of_two_sizes_are_named(tmp_path):
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    Image.new("L", (5, 6)).save(tmp_path / "b.png")
    words = r"b\.png has 6 × 5 pixels.*a\.png has 3 × 4.*fit\(image, \(4, 3\)\)"
    with pytest.raises(ValueError, match=words):
        pictures.read_folder(tmp_path)


# Modes


def test_channels_are_one_if_all_are_grey_else_three():
    grey = picture(np.full((2, 2, 1), 7, np.uint8))
    red = picture(np.full((2, 2, 3), [9, 0, 0], np.uint8))
    assert pictures.combine([grey, grey])[0].shape == (2, 1, 2, 2)
    images, notes = pictures.combine([grey, red])
    assert images[..., 0, 0].tolist() == [[7, 7, 7], [9, 0, 0]] and not notes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_every_mode_becomes_bytes(mode):
    images, _ = pictures.combine([pictures.open_picture(Image.new(mode, (4, 3)), "it")])
    assert images.shape == (1, 1 if mode in "1L" else 3, 3, 4) and images.dtype == torch.uint8


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_strokes_on_transparent_ground_stay_visible(mode, colour):
    ink = (colour,) * (len(mode) - 1) + (255,)
    seen = [saved(stroke(ink, mode), "PNG"), saved(Image.new(mode, (9, 9)), "PNG")]
    images, [note] = pictures.combine(seen)
    ground = "white" if colour == 0 else "black"
    assert images[0, 0, 1, 1] == colour and images[0, 0, 0, 8] == 255 - colour
    assert (images[1] == 255 - colour).all()
    assert f"laid on {ground}" in note and "2 images (some.png and others)" in note


def test_half_transparent_pixels_are_mixed():
    pixels = np.array([[[0, 255], [0, 51], [0, 0]]], np.uint8)
    images, _ = pictures.combine([picture(pixels)])
    assert images.flatten().tolist() == [0, 204, 255]


@pytest.mark.parametrize(
    ("mode", "form"), [("P", "PNG"), ("P", "GIF"), ("L", "PNG"), ("RGB", "PNG"), ("1", "PNG")]
)
def test_one_colour_may_stand_for_transparency(mode, form):
    image = Image.new(mode, (4, 3), 0)
    if mode == "P":
        image.putpalette([0, 0, 0, 60, 60, 60])
    image.putpixel((0, 0), (1, 1, 1) if mode == "RGB" else 1)
    found = saved(image, form, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert found.pixels[1, 1, -1] == 0 and found.pixels[0, 0, -1] == 255


def test_an_alpha_channel_that_hides_nothing_is_dropped():
    opaque = saved(Image.new("RGBA", (4, 3), (9, 8, 7, 255)), "PNG")
    images, notes = pictures.combine([opaque])
    assert images[0, :, 0, 0].tolist() == [9, 8, 7] and not notes


def test_a_single_transparent_image_is_laid_on_its_ground_with_a_word():
    images, [note] = pictures.combine([pictures.open_picture(stroke((0, 0, 0, 255)), "it")])
    assert "it is in part transparent: laid on white" in note
    assert images[0, :, 0, 8].tolist() == [255] * 3 and images[0, :, 1, 1].tolist() == [0] * 3


# Depth


@pytest.mark.parametrize(("bits", "told"), [(6, True), (8, True), (12, True), (16, False)])
def test_deep_images_are_scaled_by_the_bits_that_are_used_by_all(bits, told):
    top = 2**bits - 1
    dark = picture(np.array([[0, top // 8]], np.uint16))
    light = picture(np.array([[top // 2, top]], np.uint16))
    images, notes = pictures.combine([dark, light])
    shares = np.array([0, top // 8, top // 2, top]) / (2 ** max(bits, 8) - 1)
    assert images.flatten().tolist() == pytest.approx(255 * shares, abs=0.5)
    assert bool(notes) == told


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 100_000]], np.int32), [0, 195]),
        (np.array([[0.0, 0.4]], np.float32), [0, 102]),
        (np.array([[0.0, 1.0]], np.float32), [0, 255]),
        (np.array([[0.0, 102.4]], np.float32), [0, 102]),
        (np.array([[0.0, 1023.0]], np.float32), [0, 255]),
    ],
)
def test_whole_numbers_and_fractions_are_scaled_with_a_word(pixels, expected):
    images, [note] = pictures.combine([picture(pixels)])
    assert images.flatten().tolist() == expected
    assert "divided by" in note


def test_deep_images_take_little_room_on_their_way_to_bytes():
    deep = [picture(np.full((64, 64), 257 * k, np.uint16)) for k in range(64)]
    tracemalloc.start()
    images, _ = pictures.combine(deep)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images[:, 0, 0, 0].tolist() == [round(255 * k * 257 / 16383) for k in range(64)]
    assert peak < 1.5 * images.nbytes
    assert images.is_contiguous()


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_deep_pixels_that_are_no_brightness_are_refused(value):
    fine = picture(np.zeros((1, 2), np.float32))
    odd = picture(np.array([[0, value]], np.float32), "odd.tif")
    with pytest.raises(ValueError, match=r"odd\.tif has pixels that are negative or not finite"):
        pictures.combine([fine, odd])


def test_images_of_two_depths_are_refused():
    deep = picture(np.zeros((2, 2), np.uint16), "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png.*uint16.*plain\.png.*uint8"):
        pictures.combine([picture(np.zeros((2, 2), np.uint8), "plain.png"), deep])


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_modes_keep_their_numbers(mode):
    found = saved(Image.new(mode, (4, 3), 700), "TIFF")
    assert found.pixels.shape == (3, 4, 1) and found.pixels.dtype.isnative
    assert (found.pixels == 700).all()


def test_dark_colours_of_sixteen_bits_are_worth_a_word():
    dark = picture(np.full((1, 1, 3), 15, np.uint8), halved=True)
    light = picture(np.full((1, 1, 3), 200, np.uint8), halved=True)
    assert "save" in pictures.combine([dark])[1][0]
    assert pictures.combine([dark, light])[1] == []


# What else files hold


def test_images_stand_upright():
    image = Image.new("L", (4, 3))
    image.putpixel((0, 0), 200)
    turned = Image.Exif()
    turned[0x0112] = 6  # turn it by 90° to the right
    found = saved(image, "PNG", exif=turned)
    assert found.pixels.shape == (4, 3, 1) and found.pixels[0, 2] == 200


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_counts(form):
    first, second = Image.new("RGB", (4, 3)), Image.new("RGB", (4, 3), (255, 255, 255))
    found = saved(first, form, save_all=True, append_images=[second])
    images, [note] = pictures.combine([found])
    assert images.max() == 0 and "several frames: the first counts" in note
    assert pictures.combine([saved(first, form)])[1] == []
