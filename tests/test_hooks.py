"""Recording: the numbers of a hand-made forward pass, and a model left exactly as it was."""

import re

import pytest
import torch
from torch import nn

from peeklib import input_blocks, record, relu_layers, to_float
from peeklib.hooks import predict, split_signs


def model_of(*layers, seed=0):
    """nn.Sequential with seeded weights; global random state left alone."""
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    return model


@pytest.fixture
def model():
    return model_of(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    )


@pytest.fixture
def images():
    return torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(1))


class Forward(nn.Module):
    """A module from a function of (its parts, x)."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.run(self, x)


def assert_untouched(model):
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# Values


def test_every_relu_is_recorded_as_neurons_by_images(model, images):
    blocks = record(model, images)
    with torch.no_grad():
        first = model[:2](images)
        second = model[2:5](first)
    assert list(blocks) == ["1", "4"]
    torch.testing.assert_close(blocks["1"], first.reshape(7, 8).T)
    torch.testing.assert_close(blocks["4"], second.T)


def test_a_neuron_s_row_counts_channels_then_rows_then_columns(model, images):
    maps = model[:2](images).detach()
    assert torch.equal(record(model, images, ["1"])["1"][1 * 4 + 0 * 2 + 1], maps[:, 1, 0, 1])


def test_blocks_come_in_the_order_the_layers_ran(model, images):
    assert list(record(model, images, ["4", "1", "0"], negative="keep")) == ["0", "1", "4"]


def test_one_layer_can_be_named_alone(model, images):
    assert torch.equal(record(model, images, "4")["4"], record(model, images)["4"])


def test_a_layer_asked_for_twice_is_recorded_once(model, images):
    assert list(record(model, images, ["4", "4"])) == ["4"]


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_batches_agree_with_a_single_pass(model, images, size):
    whole, parts = record(model, images), record(model, images, batch_size=size)
    assert all(torch.allclose(parts[name], whole[name], atol=1e-6) for name in whole)


def test_an_in_place_relu_does_not_alter_the_layer_before_it(images):
    layers = nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten()
    model = model_of(*layers)
    before = layers[0](images).detach().flatten(1).T
    blocks = record(model, images, ["0", "1"], negative="keep")
    assert (before < 0).any()
    torch.testing.assert_close(blocks["0"], before)
    torch.testing.assert_close(blocks["1"], before.relu())


def test_a_module_that_runs_twice_gives_two_blocks():
    model = Forward(lambda m, x: m.relu(1 - m.relu(x)), relu=nn.ReLU())
    x = torch.tensor([[0.25, -3.0], [2.0, 0.5]])
    blocks = record(model, x, batch_size=1)
    assert list(blocks) == ["relu", "relu:2"]
    assert blocks["relu"].tolist() == [[0.25, 2.0], [0.0, 0.5]]
    assert blocks["relu:2"].tolist() == [[0.75, 0.0], [1.0, 0.5]]


def test_uint8_images_are_scaled_to_one(model):
    pixels = torch.arange(3 * 16, dtype=torch.uint8).reshape(3, 1, 4, 4)
    from_bytes, from_floats = record(model, pixels), record(model, pixels.float() / 255)
    assert all(torch.equal(from_bytes[name], from_floats[name]) for name in from_floats)


def test_dropout_is_off_and_batch_norm_uses_what_it_learnt():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU())
    x = torch.arange(12.0).reshape(3, 4)
    torch.testing.assert_close(record(model, x)["2"], (x / (1 + 1e-5) ** 0.5).T)
    assert model[0].num_batches_tracked == 0


def test_the_result_can_live_elsewhere(model, images):
    assert record(model, images, device="meta", negative="keep")["1"].device.type == "meta"


# Negative outputs

SIGNED = torch.tensor([[1.0, -2.0], [-3.0, 4.0], [5.0, 0.0]])


def record_signed(negative):
    return record(nn.Sequential(nn.Identity()), SIGNED, ["0"], negative=negative)


def test_negative_outputs_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"'0' has 2 negative.*clip.*split"):
        record_signed("refuse")


def test_keep_and_clip():
    assert torch.equal(record_signed("keep")["0"], SIGNED.T)
    assert torch.equal(record_signed("clip")["0"], SIGNED.T.clamp(min=0))


def test_split_parts_are_non_negative_and_their_difference_is_what_was_recorded():
    parts = record_signed("split")
    assert list(parts) == ["0+", "0-"]
    assert all((part >= 0).all() for part in parts.values())
    assert torch.equal(parts["0+"] - parts["0-"], SIGNED.T)
    assert not (parts["0+"] * parts["0-"]).any()


def test_another_treatment_of_signs_is_an_error():
    with pytest.raises(ValueError, match="'abs'.*refuse.*clip.*split.*keep"):
        split_signs("conv", SIGNED.clone(), "abs")


def test_a_layer_that_diverged_is_not_called_negative():
    assert split_signs("conv", torch.tensor([[torch.nan, 1.0]]), "refuse")["conv"].isnan().any()
    with pytest.raises(ValueError, match="1 negative activations"):
        split_signs("conv", torch.tensor([[torch.nan, -1.0]]), "refuse")


@pytest.mark.parametrize("negative", ["refuse", "clip"])
def test_outputs_that_are_not_negative_pass_unchanged(model, images, negative):
    kept = record(model, images, negative="keep")
    for name, block in record(model, images, negative=negative).items():
        assert torch.equal(block, kept[name])


# Outputs of the whole model


@pytest.mark.parametrize("size", [1, 3, 50])
def test_predictions_are_the_model_s_outputs_in_order(model, images, size):
    modes = mixed_modes(model)
    with torch.no_grad():
        expected = model(images)
    found = predict(model, images, batch_size=size)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad and [module.training for module in model.modules()] == modes


def test_a_model_without_parameters_predicts_and_leaves_the_images_alone():
    x = torch.tensor([[-1.0, 2.0]])
    assert predict(nn.ReLU(inplace=True), x).tolist() == [[0.0, 2.0]]
    assert x.tolist() == [[-1.0, 2.0]]


# The model is left as it was


def mixed_modes(model):
    """A model in training, but for one module that was frozen by hand."""
    model.train()
    model[-1].eval()
    return [module.training for module in model.modules()]


def test_hooks_are_gone_and_modes_are_back(model, images):
    modes = mixed_modes(model)
    record(model, images)
    assert_untouched(model)
    assert [module.training for module in model.modules()] == modes


def explode(module, x):
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("last", "kind"),
    [(Forward(explode), RuntimeError), (Forward(lambda m, x: x * torch.nan), ValueError)],
    ids=["forward fails", "what it gives is refused"],
)
def test_hooks_are_gone_and_modes_are_back_after_an_error(images, last, kind):
    model = nn.Sequential(nn.ReLU(), nn.Dropout(), last)
    modes = mixed_modes(model)
    with pytest.raises(kind):
        record(model, images, ["0", "2"])
    assert_untouched(model)
    assert [module.training for module in model.modules()] == modes


def test_hooks_that_were_there_before_stay(model, images):
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    record(model, images)
    assert len(model[1]._forward_hooks) == 1 and calls


def test_no_gradients_are_made(model, images):
    blocks = record(model, images)
    assert not any(block.requires_grad for block in blocks.values())
    for parameter in model.parameters():
        assert parameter.grad is None and parameter.requires_grad


def test_weights_images_and_random_state_are_left_alone(images):
    model = model_of(nn.Flatten(), nn.Linear(16, 4), nn.Dropout(0.5), nn.ReLU(inplace=True)).train()
    random, weights, pixels = torch.get_rng_state(), model[1].weight.clone(), images.clone()
    record(model, images)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(model[1].weight, weights) and torch.equal(images, pixels)


def test_an_in_place_first_layer_does_not_alter_the_images():
    x = torch.tensor([[-1.0, 2.0]])
    record(nn.Sequential(nn.ReLU(inplace=True)), x)
    assert x.tolist() == [[-1.0, 2.0]]


# Errors

SUM = Forward(lambda m, x: m.relu(x.sum()) + x, relu=nn.ReLU())
MIXED = Forward(lambda m, x: m.relu(x.mean(0)) + x, relu=nn.ReLU())
UNUSED = Forward(lambda m, x: m.a(x), a=nn.ReLU(), b=nn.ReLU())
TWICE = nn.Sequential(UNUSED, UNUSED)
ERRORS = {
    "unknown layer": (UNUSED, {"layers": ["a", "fc9"]}, ValueError, r"no layer 'fc9'.*\['a'\]"),
    "nothing to see": (nn.Sequential(nn.Flatten()), {}, ValueError, "no activation to look at"),
    "no layers": (UNUSED, {"layers": []}, ValueError, "no layers"),
    "a single number": (SUM, {"layers": "relu"}, ValueError, r"'relu': its shape is \(\)"),
    "no axis of images": (MIXED, {"layers": "relu"}, ValueError, "'relu'.*no axis counts images"),
    "never runs": (UNUSED, {"layers": ["a", "b"]}, ValueError, "'b' did not run"),
    "another name": (TWICE, {"layers": ["1.a"]}, ValueError, "'1.a' is another name of '0.a'"),
    "negative": (UNUSED, {"negative": "abs"}, ValueError, "'abs'.*refuse.*clip.*split.*keep"),
    "batch size": (UNUSED, {"layers": "a", "batch_size": -1}, ValueError, "batch_size"),
}


@pytest.mark.parametrize(("model", "options", "kind", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_say_what_and_where(images, model, options, kind, words):
    with pytest.raises(kind, match=words):
        record(model, images, **options)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (3, "images are a int.*uint8"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), "images are a torch.int64 tensor.*uint8"),
    ],
    ids=["number", "int64"],
)
@pytest.mark.parametrize("take", [to_float, input_blocks, lambda images: record(nn.ReLU(), images)])
def test_images_that_nobody_can_scale_are_refused(take, images, words):
    with pytest.raises(TypeError, match=words):
        take(images)


def test_labels_in_the_place_of_layers_are_refused(model, images):
    with pytest.raises(TypeError, match="layers are names.*not Tensor"):
        record(model, images, torch.zeros(7, dtype=torch.int64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", 0], ids=str)
def test_a_gpu_that_is_not_there_is_an_error(model, images, device):
    with pytest.raises(RuntimeError, match="cuda.*no GPU"):
        record(model, images, device=device)


def test_no_images_is_an_error(model, images):
    with pytest.raises(ValueError, match="no images"):
        record(model, images[:0])


def sometimes(condition):
    """Runs its layer `b` only on batches that satisfy the condition."""
    return Forward(lambda m, x: m.b(m.a(x)) if condition(x) else m.a(x), a=nn.ReLU(), b=nn.ReLU())


def test_a_layer_that_runs_on_some_batches_only_is_an_error():
    some = sometimes(lambda x: x.min() < 2)
    with pytest.raises(ValueError, match="'b'.* run on some batches"):
        record(some, torch.arange(4.0)[:, None], batch_size=2, negative="keep")


# The small helpers


def test_relu_layers_are_found_at_any_depth():
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Tanh())
    assert relu_layers(model) == ["0", "1.1"]


def test_to_float_scales_bytes_only():
    scaled = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert scaled.tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.tensor([0.0, 51.0])
    assert to_float(floats) is floats


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        (1, ["input"]),
        (2, ["input.0", "input.1"]),
        (3, ["input.red", "input.green", "input.blue"]),
        (4, ["input.0", "input.1", "input.2", "input.3"]),
    ],
)
def test_one_input_block_for_each_channel(channels, names):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5, channels, 2, 3), generator=generator, dtype=torch.uint8)
    blocks = input_blocks(images)
    assert list(blocks) == names
    for channel, block in enumerate(blocks.values()):
        assert torch.equal(block, images[:, channel].reshape(5, 6).T.float() / 255)


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 28, 28, 3)], ids=str)
def test_input_blocks_need_images_by_channels_by_height_by_width(shape):
    with pytest.raises(ValueError, match=f"{re.escape(str(shape))}.*images × channels"):
        input_blocks(torch.zeros(shape))


@pytest.mark.parametrize("value", [-0.5, 1.5, torch.nan])
def test_normalized_images_are_no_input_blocks(value):
    images = torch.zeros(2, 1, 4, 4)
    images[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match="before normalization"):
        input_blocks(images)
