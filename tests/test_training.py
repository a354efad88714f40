"""Training repeats exactly and learns; accuracy counts; the models are the papers'."""

import numpy as np
import pandas as pd
import pytest
import torch
from simulated import Simulation
from torch import nn

from peeklib import accuracy, models, record, train
from peeklib.course import training
from peeklib.course.data import digits


def toy(count=10, seed=0):
    """Images of 2 × 2 random pixels in three classes."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 2, 2, generator=draw), torch.randint(3, (count,), generator=draw)


def linear(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed))
    return model


class Recorder(nn.Module):
    """A linear model that writes down what it is shown; image k is filled with k."""

    def __init__(self):
        super().__init__()
        self.model, self.shown = linear(), []

    def forward(self, x):
        self.shown.append(x[:, 0, 0, 0].tolist())
        return self.model(x / 100)


def shown_batches(count=10, **options):
    recorder = Recorder()
    images = torch.arange(count).float().view(count, 1, 1, 1).expand(count, 1, 2, 2)
    train(recorder, images, torch.zeros(count, dtype=torch.int64), device="cpu", **options)
    return recorder.shown


# Training


def test_steps_are_sgd_with_momentum_on_the_cross_entropy():
    (images, labels), model, by_hand = toy(), linear(), linear()
    steps = {"lr": 0.1, "momentum": 0.5, "epochs": 3, "batch_size": 10}
    train(model, images, labels, seed=0, device="cpu", **steps)
    weight, velocity = by_hand[1].weight, 0
    for _ in range(3):
        loss = nn.functional.cross_entropy(images.flatten(1) @ weight.T, labels)
        velocity = 0.5 * velocity + torch.autograd.grad(loss, weight)[0]
        weight = (weight - 0.1 * velocity).detach().requires_grad_()
    torch.testing.assert_close(model[1].weight, weight)


@pytest.mark.parametrize("how", [{"momentum": 0.0}, {"momentum": 0.9, "weight_decay": 0.1}])
def test_steps_are_those_of_pytorchs_own_optimizer_to_the_bit(how):
    (images, labels), model, theirs = toy(), linear(), linear()
    for one in (model, theirs):
        one.extend([nn.Linear(3, 3), nn.Linear(3, 3)])
        one[2].load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})
        one[3].load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})
        one[2].requires_grad_(False)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, **how)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
    train(model, images, labels, seed=0, shuffle=False, epochs=3, lr=0.1, device="cpu", **how)
    for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours, other) and ours.grad is None


class Late(nn.Module):
    """Its second layer takes part from the third pass on."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.passes = linear(), nn.Linear(3, 3), 0
        nn.init.eye_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x):
        self.passes += 1
        return self.first(x) if self.passes < 3 else self.second(self.first(x))


def test_a_parameter_moves_when_it_first_has_a_gradient():
    (images, labels), model, theirs = toy(), Late(), Late()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
    steps = {"lr": 0.1, "momentum": 0.9, "epochs": 4}
    train(model, images, labels, seed=0, shuffle=False, device="cpu", **steps)
    for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("how", [{"lr": -0.1}, {"momentum": -0.5}, {"weight_decay": float("nan")}])
def test_steps_that_make_no_sense_are_refused(how):
    with pytest.raises(ValueError, match="negative or NaN"):
        train(linear(), *toy(), seed=0, **how)


@pytest.mark.parametrize("shuffle", [True, False])
def test_same_seed_same_bits(shuffle):
    weights = []
    for seed in (3, 3, 4):
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), linear()[1])
        train(model, *toy(40), seed=seed, epochs=2, shuffle=shuffle, batch_size=8, device="cpu")
        weights.append(model[2].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_global_random_state_is_left_alone():
    model = nn.Sequential(nn.Dropout(0.5), linear())
    before = torch.get_rng_state()
    train(model, *toy(), seed=1, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_without_shuffling_the_given_order_is_kept():
    epoch = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert shown_batches(seed=0, shuffle=False, batch_size=4, epochs=2) == epoch + epoch


def test_shuffling_shows_every_image_once_an_epoch_in_a_new_order():
    batches = shown_batches(30, seed=0, batch_size=15, epochs=2)
    first, second = sum(batches[:2], []), sum(batches[2:], [])
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second and first != sorted(first)


def test_uint8_images_are_scaled_to_one():
    images, labels = toy()
    pixels = (images * 255).to(torch.uint8)
    from_bytes, from_floats = linear(), linear()
    train(from_bytes, pixels, labels, seed=0, device="cpu")
    train(from_floats, pixels.float() / 255, labels, seed=0, device="cpu")
    assert torch.equal(from_bytes[1].weight, from_floats[1].weight)


def test_the_model_is_trained_in_place_and_comes_back_in_eval_mode():
    model, before = linear(), linear()
    trained = train(model, *toy(), seed=0, device="cpu")
    assert trained.model is model and not model.training
    assert not torch.equal(model[1].weight, before[1].weight)


def test_the_history_is_the_mean_loss_of_every_fifty_steps():
    model, (images, labels) = linear(), toy(60)
    with torch.no_grad():
        losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
    still = {"lr": 0, "shuffle": False, "batch_size": 1}
    history = train(model, images, labels, seed=0, device="cpu", **still).history
    means = [losses[:50].mean().item(), losses[50:].mean().item()]
    assert history["step"].tolist() == [49, 59] and history["images"].tolist() == [50, 60]
    assert history["loss"].tolist() == pytest.approx(means, rel=1e-5)


def test_the_history_is_an_ordinary_table():
    history = train(linear(), *toy(60), seed=0, batch_size=1, device="cpu").history
    assert history.sort_values("step").reset_index()["step"].tolist() == [49, 59]


def test_a_small_network_learns_the_digits():
    data, options = digits(1000, 300), {"lr": 0.02, "momentum": 0.9, "batch_size": 16, "epochs": 2}
    model, history = train(models.PaperCNN(), *data.train, seed=0, device="cpu", **options)
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert accuracy(model, *data.test) > 0.6


def test_no_images_and_missing_labels_are_refused():
    images, labels = toy()
    with pytest.raises(ValueError, match=r"0 images, and labels of shape \(0,\)"):
        train(linear(), images[:0], labels[:0], seed=0)
    with pytest.raises(ValueError, match=r"10 images, and labels of shape \(9,\)"):
        train(linear(), images, labels[:9], seed=0)


FORMS = {
    "column": lambda labels: labels[:, None],
    "uint8": lambda labels: labels.to(torch.uint8),
    "floats": lambda labels: labels.double(),
    "array": lambda labels: labels.numpy(),
    "column of an array": lambda labels: labels.numpy()[:, None],
    "list": lambda labels: labels.tolist(),
    "series": lambda labels: pd.Series(labels.numpy(), index=range(5, 15)),
    "frame": lambda labels: pd.DataFrame({"label": labels.numpy()}),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_labels_of_any_form_count_alike(form):
    (images, labels), model, other = toy(), linear(), linear()
    train(model, images, labels, seed=0, device="cpu")
    train(other, images, form(labels), seed=0, device="cpu")
    assert torch.equal(model[1].weight, other[1].weight)
    assert accuracy(model, images, form(labels)) == accuracy(model, images, labels)


def loader(images):
    data = torch.utils.data.TensorDataset(images, torch.zeros(len(images)))
    return torch.utils.data.DataLoader(data, batch_size=4)


@pytest.mark.filterwarnings("ignore:only the images")
@pytest.mark.parametrize("form", [torch.Tensor.numpy, list, loader])
def test_images_of_any_form_are_trained_on_alike(form):
    (images, labels), model, other = toy(), linear(), linear()
    train(model, images, labels, seed=0, device="cpu")
    train(other, form(images), labels, seed=0, device="cpu")
    assert torch.equal(model[1].weight, other[1].weight)
    assert accuracy(model, form(images), labels) == accuracy(model, images, labels)


def test_what_is_no_images_is_not_trained_on():
    with pytest.raises(TypeError, match="images are a int"):
        train(linear(), 3, [0], seed=0)


def test_labels_may_be_truth_values():
    images, labels = toy()
    expected = accuracy(linear(), images, (labels > 0).long())
    assert accuracy(linear(), images, labels > 0) == expected


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ([0.5] * 10, ValueError, "whole numbers"),
        ([-1] * 10, ValueError, "label -1 is negative"),
        (["cat"] * 10, TypeError, "labels.*no numbers"),
        (np.eye(10, 3), ValueError, r"labels of shape \(10, 3\).*argmax"),
        ([3] * 10, ValueError, "label 3, but the model has 3 outputs"),
    ],
    ids=["halves", "negative", "words", "one-hot", "too large"],
)
def test_labels_that_cannot_be_are_refused_in_words(wrong, error, words):
    images, _ = toy()
    model, before = linear(), linear()
    with pytest.raises(error, match=words):
        train(model, images, wrong, seed=0, device="cpu")
    with pytest.raises(error, match=words):
        accuracy(model, images, wrong)
    assert torch.equal(model[1].weight, before[1].weight)


@pytest.mark.parametrize(
    ("layer", "words"),
    [(nn.Unflatten(1, (1, 3)), r"of shape \(10, 1, 3\)"), (nn.LSTM(3, 3), "tuple")],
)
def test_outputs_that_are_no_classes_are_refused(layer, words):
    with pytest.raises(ValueError, match=f"output is .*{words}.*images × classes"):
        train(nn.Sequential(linear(), layer), *toy(), seed=0, device="cpu")


def test_seeds_may_be_numpys():
    models_of = [models.PaperCNN(seed=seed) for seed in (np.int64(3), 3)]
    for one, other in zip(*(model.parameters() for model in models_of), strict=True):
        assert torch.equal(one, other)
    trained = [train(linear(), *toy(), seed=seed, device="cpu").model for seed in (np.uint8(3), 3)]
    assert torch.equal(trained[0][1].weight, trained[1][1].weight)


@pytest.mark.parametrize(
    ("seed", "error"), [(0.5, TypeError), ("0", TypeError), (2**64, ValueError)]
)
def test_a_seed_that_cannot_be_is_named(seed, error):
    with pytest.raises(error, match="seed is"):
        train(linear(), *toy(), seed=seed)
    with pytest.raises(error, match="seed is"):
        models.CifarAlexNet(seed=seed)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "threads"])
@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)])
def test_a_count_that_makes_no_sense_is_refused(name, count, error):
    with pytest.raises(error, match=f"{name} is {count}"):
        train(linear(), *toy(), seed=0, **{name: count})


def test_a_loss_that_is_not_finite_is_an_error_that_says_when():
    images, labels = toy()
    with pytest.raises(ValueError, match="loss is nan at step 0.*smaller lr"):
        train(linear(), torch.full_like(images, torch.nan), labels, seed=0, device="cpu")
    with pytest.raises(ValueError, match="loss is (nan|inf) at step [1-9].*smaller lr"):
        train(linear(), 1e30 * images, labels, seed=0, lr=1e30, epochs=9, device="cpu")


class Traveller(nn.Sequential):
    """Takes note of where it is sent, stays at home, and fails."""

    def to(self, device):
        self.sent = [*getattr(self, "sent", []), torch.device(device).type]
        return self

    def forward(self, x):
        raise ArithmeticError("on the way")


def test_a_model_comes_home_even_after_an_error(monkeypatch):
    monkeypatch.setattr(training, "pick_device", lambda device, fallback: torch.device("meta"))
    model = Traveller(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ArithmeticError):
        train(model, *toy(), seed=0)
    assert model.sent == ["meta", "cpu"] and not model.training


# Accuracy


@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_accuracy_is_the_share_of_hits(size):
    model, (images, labels) = linear(), toy(10)
    hits = [
        model(image[None]).argmax() == label for image, label in zip(images, labels, strict=True)
    ]
    assert 0 < sum(hits) < 10
    assert accuracy(model, images, labels, batch_size=size) == sum(hits) / 10


@pytest.mark.parametrize("training", [True, False])
def test_accuracy_leaves_modes_and_random_state_alone(training):
    model = nn.Sequential(nn.Dropout(0.9), linear()).train(training)
    model[0].train()
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    assert accuracy(model, *toy()) == accuracy(model[1], *toy())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_accuracy_leaves_the_images_alone():
    images, labels = toy()
    before = images.sub_(0.5).clone()
    accuracy(nn.Sequential(nn.ReLU(inplace=True), linear()), images, labels)
    assert torch.equal(images, before)


@pytest.mark.parametrize("count", [1, 4, 0])
def test_accuracy_needs_one_label_for_each_image(count):
    images, labels = toy()
    with pytest.raises(ValueError, match=rf"10 images, and labels of shape \({count},\)"):
        accuracy(linear(), images, labels[:count])


def test_outputs_that_are_nan_are_no_answers():
    images, labels = toy()
    images[[2, 5]] = torch.nan
    with pytest.raises(ValueError, match="2 of 10 images have NaN outputs"):
        accuracy(linear(), images, labels)
    model = linear()
    nn.init.constant_(model[1].weight, torch.nan)
    with pytest.raises(ValueError, match="10 of 10 images have NaN outputs.*smaller lr"):
        training.correct(model, *toy())


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)])
def test_accuracy_refuses_a_batch_that_makes_no_sense(size, error):
    with pytest.raises(error, match=f"batch_size is {size}"):
        accuracy(linear(), *toy(), batch_size=size)


def test_a_model_without_parameters_has_an_accuracy():
    assert accuracy(nn.Flatten(), torch.eye(3).view(3, 1, 1, 3), torch.tensor([0, 1, 1])) == 2 / 3


class Elsewhere(nn.Linear):
    """Gives its outputs on a GPU."""

    def forward(self, x):
        return super().forward(x).to("cuda")


@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_outputs_may_be_on_another_device_than_the_images(home):
    with Simulation():
        model = Elsewhere(3, 3, bias=False)
        nn.init.eye_(model.weight)
        images, labels = torch.eye(3).to(home), torch.tensor([0, 1, 1]).to(home)
        assert accuracy(model, images, labels) == 2 / 3


# Models


def test_the_paper_s_network_has_the_paper_s_shapes():
    model, x, shapes = models.PaperCNN(), torch.zeros(2, 1, 28, 28), {}
    for name, layer in model.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes["relu1"] == (10, 12, 12) and shapes["relu2"] == (20, 4, 4)
    assert shapes["fc"] == (10,)
    assert list(shapes) == ["conv1", "pool1", "relu1", "conv2", "pool2", "relu2", "flatten", "fc"]


def test_the_number_of_classes_can_be_chosen():
    assert models.PaperCNN(3)(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


def test_a_new_network_repeats_by_its_seed():
    first, again, other = (models.PaperCNN(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_a_new_network_leaves_random_state_alone_on_every_device(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU's random state was set")
    )
    before = torch.get_rng_state()
    models.PaperCNN(seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_alexnet_has_the_layers_its_docstring_says(channels):
    model = models.CifarAlexNet(channels, classes=7, seed=3)
    blocks = record(model, torch.rand(2, channels, 32, 32))
    sizes = [64 * 64, 192 * 16, 384 * 4, 256 * 4, 256 * 4]
    assert list(blocks) == ["relu1", "relu2", "relu3", "relu4", "relu5"]
    assert [len(block) for block in blocks.values()] == sizes
    assert model(torch.rand(2, channels, 32, 32)).shape == (2, 7)
    again = models.CifarAlexNet(channels, classes=7, seed=3)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
