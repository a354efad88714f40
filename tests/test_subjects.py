"""The networks and images of the second study: what is right, layers' ends, a folder of images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

import peeklib as pk
from peeklib.course.data import Dataset, Split
from peeklib.course.imagenet import NUMBERS, class_numbers, find_images, in_random_order


def cifar_like(count=60):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
    split = Split(images, torch.randint(10, (count,), generator=draw))
    return Dataset("noise", split, split, tuple("0123456789"), "made")


def test_only_images_that_the_network_gets_right():
    data, model = cifar_like(), pk.models.CifarAlexNet(3)
    with torch.no_grad():
        model.fc.bias[4] = 1e6  # it always answers 4
    subject = pk.subjects.cifar(model, data)
    assert len(subject.images) == (data.test.labels == 4).sum() > 0
    assert (subject.labels == 4).all()
    few = pk.subjects.cifar(model, data, count=7, only_correct=False)
    assert len(few.images) == 7 and "7 images" in repr(few)
    where = (data.test.images[:, None] == few.images[None]).flatten(2).all(2).nonzero()
    assert (data.test.labels[where[:, 0]] == few.labels[where[:, 1]]).all(), "labels stay"
    with torch.no_grad():
        model.fc.bias[4] = -1e6
    wrong = data.test.labels == 4
    others = Split(data.test.images[wrong], data.test.labels[wrong])
    never = Dataset("n", data.train, others, data.classes, "")
    with pytest.raises(ValueError, match="only_correct=False"):
        pk.subjects.cifar(model, never)


def test_layers_are_taken_after_the_pool_with_their_shapes():
    data, model = cifar_like(), pk.models.CifarAlexNet(3)
    subject = pk.subjects.cifar(model, data, only_correct=False, count=5)
    shapes = {layer: subject.shape(layer) for layer in subject.layers}
    assert shapes["pool1"] == (64, 4, 4) and shapes["pool5"] == (256, 1, 1)
    assert shapes["fc"] == (10,)
    for layer, shape in shapes.items():
        assert len(subject.activations(layer)) == np.prod(shape)
    answers = model(pk.to_float(subject.images))
    assert torch.allclose(subject.activations("fc").T, answers, atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.fixture
def folder(tmp_path):
    """An ImageNet-style folder: two classes by torchvision's names, images of several sizes."""
    draw = np.random.default_rng(0)
    for name in ("goldfish", "tench"):
        (tmp_path / name).mkdir()
        for k, size in enumerate([(300, 260), (256, 400), (240, 240)]):
            pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.JPEG")
    return tmp_path


def test_imagenet_reads_a_folder_through_the_whole_alexnet(folder):
    subject = pk.subjects.imagenet(folder, weights=None, only_correct=False)
    assert subject.images.shape == (6, 3, 224, 224) and subject.images.dtype == torch.uint8
    assert sorted(subject.labels.tolist()) == [0, 0, 0, 1, 1, 1]  # tench, goldfish
    names = "pool1 pool2 relu3 relu4 pool5 fc6 fc7 fc8"
    assert list(subject.layers) == names.split()
    assert subject.shape("pool5") == (256, 6, 6) and subject.activations("fc6").shape == (4096, 6)
    assert subject.activations("fc6").min() >= 0 > subject.activations("fc8").min()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    by_hand = subject.model.net((pk.to_float(subject.images) - mean) / std)
    assert torch.allclose(subject.activations("fc8").T, by_hand, atol=1e-4)
    assert len(pk.subjects.imagenet(folder, weights=None, only_correct=False, count=2).images) == 2


def test_imagenet_says_what_is_wrong_with_a_folder(folder, tmp_path):
    (folder / "n01440764").mkdir()
    Image.new("RGB", (300, 300)).save(folder / "n01440764" / "x.png")
    with pytest.raises(ValueError, match=r"\['n01440764'\] are no names of classes"):
        pk.subjects.imagenet(folder, weights=None)
    with pytest.raises(FileNotFoundError):
        pk.subjects.imagenet(tmp_path / "none", weights=None)


def put(folder, *names, count=2):
    """Small images, in several folders, with the endings that ImageNet's have."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (300, 260), (k, 9, 9)).save(folder / name / f"{k}.JPEG")


def labels_of(folder):
    """Of the images of a folder, read as `pk.subjects.imagenet` reads them."""
    names = ("tench", "goldfish")
    [part] = in_random_order(find_images(folder, names), pil_to_tensor, seed=0, batch=99)
    assert part.images.shape[1:] == (3, 260, 300)
    return part.labels.unique().tolist()


IMAGENETTE = {"n01440764": 0, "n02102040": 217, "n03888257": 701}


@pytest.mark.parametrize("layout", ["", "val", "train", "imagenette2/val", "Data/CLS-LOC/test"])
def test_some_classes_by_wordnet_number_in_any_layout(tmp_path, layout):
    put(tmp_path / layout, *IMAGENETTE)
    (tmp_path / "noisy.csv").touch()
    assert labels_of(tmp_path) == list(IMAGENETTE.values())


def test_the_images_of_imagenette_are_those_it_was_not_trained_on(tmp_path):
    put(tmp_path / "val", "n01440764")
    put(tmp_path / "train", "n01440764", "n02102040")
    assert labels_of(tmp_path) == [0] and labels_of(tmp_path / "train") == [0, 217]


def test_a_split_that_is_not_sorted_by_class_is_passed_over(tmp_path):
    put(tmp_path, "val/", "test/")
    put(tmp_path / "train", "n02102040/images")
    assert labels_of(tmp_path) == [217]


@pytest.mark.parametrize("wrong", ["n00000001", "cats"])
def test_folders_that_are_no_classes_are_named(tmp_path, wrong):
    put(tmp_path, "n01440764", wrong)
    with pytest.raises(ValueError, match=wrong):
        labels_of(tmp_path)


def test_a_class_without_images_and_a_broken_image_are_named(tmp_path):
    put(tmp_path, "n01440764")
    (tmp_path / "n02102040").mkdir()
    with pytest.raises(FileNotFoundError, match="n02102040.*no images"):
        labels_of(tmp_path)
    (tmp_path / "n02102040" / "3.JPEG").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="3.JPEG cannot be read.*remove it"):
        labels_of(tmp_path)


def test_wordnet_numbers_are_those_of_the_classes():
    assert len(NUMBERS) == len(set(NUMBERS)) == 1000 and list(NUMBERS) == sorted(NUMBERS)
    assert class_numbers(["tench", "crane"], ("crane", "tench", "crane")) == [1, 0]


def test_activations_of_one_pass_are_those_of_a_pass_for_each_layer(tmp_path):
    data, model = cifar_like(), pk.models.CifarAlexNet(3)
    subject = pk.subjects.cifar(model, data, only_correct=False, count=7)
    for kept in (subject.recorded(), subject.recorded(tmp_path / "acts")):
        assert subject.kept is None and list(kept.kept) == list(subject.layers)
        for layer in subject.layers:
            assert torch.equal(kept.activations(layer), subject.activations(layer))


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_count_that_makes_no_sense_is_refused(folder, count, error):
    with pytest.raises(error, match=f"count is {count}"):
        pk.subjects.cifar(pk.models.CifarAlexNet(3), cifar_like(), count=count)
    with pytest.raises(error, match=f"count is {count}"):
        pk.subjects.imagenet(folder, weights=None, count=count)


def test_train_cifar_learns(monkeypatch, tmp_path):
    monkeypatch.setenv("PEEK_CACHE", str(tmp_path))
    part = cifar_like(128).train
    untouched = pk.models.CifarAlexNet(3)
    model = pk.subjects.train_cifar(pk.models.CifarAlexNet(3), *part, seed=0, epochs=1)
    assert not torch.equal(model.conv1.weight, untouched.conv1.weight) and not model.training
