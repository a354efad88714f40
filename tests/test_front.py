"""One way in: networks of every make and images of every kind, seen alike by all that look at them."""

import collections
import dataclasses
import math
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, Subset, TensorDataset

import peeklib as pk
from peeklib.hooks import predict

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


pytestmark = pytest.mark.usefixtures("no_weightwatcher", "rough_fits")


@pytest.fixture(scope="module")
def no_weightwatcher():
    """Which takes seconds for each table, and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "weightwatcher", None)
        yield


def seeded(model):
    """The model with weights that are the same every time."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.eval()


class Net(nn.Module):
    """A convolution, an activation, a linear map; what it gives goes through `wrap`."""

    def __init__(self, activation=torch.relu, wrap=lambda y: y):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)
        self.activation, self.wrap = activation, wrap
        seeded(self)

    def forward(self, x):
        return self.wrap(self.fc(self.activation(self.conv(x)).flatten(1)))


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


Named2 = collections.namedtuple("Named2", "hidden logits")


class Named3(Net):
    """Calls its last layer with a named argument."""

    def forward(self, x):
        return self.fc(input=self.activation(self.conv(x)).flatten(1))


class HeadFirst(Net):
    """Its last layer is registered first, and one that never runs last."""

    def __init__(self):
        super().__init__()
        conv = self.conv
        del self.conv
        self.conv, self.unused = conv, nn.Linear(2, 2)


class ModelOutput(collections.OrderedDict):
    """A dict whose keys are attributes too, as in transformers."""

    __getattr__ = dict.__getitem__


def compiled_and_run():
    model = torch.compile(Net(), backend="eager")
    with torch.no_grad():
        model(IMAGES)  # compiled now, without hooks
    return model


def compiled_in_place():
    model = Net()
    model.compile(backend="eager")
    with torch.no_grad():
        model(IMAGES)
    return model


def normed():
    model = Net()
    parametrizations.weight_norm(model.conv)
    return model


@pytest.fixture(scope="module")
def plain():
    return pk.record(Net(), IMAGES)["relu()"]


@pytest.fixture(scope="module")
def values_of_plain():
    return pk.scores.table(Net(), IMAGES).set_index("score").value


def exported():
    dynamic = ({0: torch.export.Dim("batch")},)
    return torch.export.export(Net(), (IMAGES,), dynamic_shapes=dynamic)


SAME = {  # networks that are `Net()` in another guise
    "function": Net,
    "module": lambda: Net(nn.ReLU()),
    "compiled": compiled_and_run,
    "compiled in place": compiled_in_place,
    "DataParallel": lambda: nn.DataParallel(Net()),
    "compiled and parallel": lambda: torch.compile(nn.DataParallel(Net()), backend="eager"),
    "parametrized": normed,
    "double": lambda: Net().double(),
    "tuple": lambda: Net(wrap=lambda y: (y, None)),
    "tuple of two": lambda: Net(wrap=lambda y: (y, y * 2)),
    "dict": lambda: Net(wrap=lambda y: {"logits": y, "loss": y.sum()}),
    "one entry": lambda: Net(wrap=lambda y: {"out": y}),
    "dataclass": lambda: Net(wrap=Output),
    "ModelOutput": lambda: Net(wrap=lambda y: ModelOutput(loss=y.sum(), logits=y)),
    "named tuple": lambda: Net(wrap=lambda y: Named2(y.sum(1), y)),
    "named input": lambda: Named3(),
    "head first": lambda: HeadFirst(),
    "exported": exported,
    "in inference": lambda: Net(nn.ReLU()).requires_grad_(False),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME.keys())
def test_every_guise_of_a_network_is_seen_through(make, plain, values_of_plain):
    model = make()
    (name, block), *_ = pk.record(model, IMAGES).items()
    torch.testing.assert_close(block.float(), plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(predict(model, IMAGES).float(), predict(Net(), IMAGES))
    assert pk.accuracy(model, IMAGES, LABELS) == pk.accuracy(Net(), IMAGES, LABELS)
    rows = pk.scores.table(model, IMAGES).set_index("score")
    values = rows.value[rows.family != "weights"]  # which may be kept in another form
    assert np.allclose(values, values_of_plain[values.index], rtol=0.02, atol=1e-3)
    found = pk.peek(model, IMAGES, ranks=(2,), progress=False)
    assert found.layers.index.tolist() == [name]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_model_gives_blocks_that_can_be_worked_with(dtype, plain, values_of_plain):
    model = Net().to(dtype)
    for images in ((255 * IMAGES).byte(), IMAGES, IMAGES.double().numpy()):
        block = pk.record(model, images)["relu()"]
        assert block.dtype == torch.float32
        torch.testing.assert_close(block, plain, atol=0.05, rtol=0.05)
        values = pk.scores.table(model, images).set_index("score").value
        names = ["weight_norm", "confidence", "entropy_rank", "rankme", "unit_norm_area"]
        assert np.allclose(values[names], values_of_plain[names], rtol=0.1)
        assert 0 <= pk.accuracy(model, images, LABELS) <= 1


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.LeakyReLU()], ids=repr)
def test_activations_below_zero_have_a_remedy_that_works(activation):
    model = Net(activation)
    with pytest.raises(ValueError, match='negative="clip".*negative="split"'):
        pk.record(model, IMAGES)
    assert list(pk.record(model, IMAGES, negative="clip")) == ["activation"]
    assert list(pk.record(model, IMAGES, negative="split")) == ["activation+", "activation-"]


def test_quantized_activations_are_recorded_as_the_numbers_they_stand_for():
    q = torch.ao.quantization
    parts = [q.QuantStub(), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
    with warnings.catch_warnings(action="ignore"):  # of a module that PyTorch will move
        model = seeded(nn.Sequential(*parts, q.DeQuantStub()))
        exact, before = pk.record(model, IMAGES)["2"], pk.scores.table(model, IMAGES)
        model.qconfig = q.get_default_qconfig("fbgemm")
        q.prepare(model, inplace=True)(IMAGES)
        q.convert(model, inplace=True)
        block = pk.record(model, IMAGES, ["2"])["2"]
        after = pk.scores.table(model, IMAGES).set_index("score")
    names = ["confidence", "entropy_rank", "rankme", "participation_ratio", "answers_area"]
    assert np.allclose(after.value[names], before.set_index("score").value[names], rtol=0.05)
    assert "packed" in after.why["weight_norm"]
    torch.testing.assert_close(block, exact, atol=0.05, rtol=0.1)


@pytest.mark.filterwarnings(
    "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning"
)
def test_a_scripted_model_is_refused_by_what_looks_inside_and_scored_by_its_answers():
    for model in (torch.jit.trace(Net(), IMAGES), torch.jit.script(nn.Sequential(nn.ReLU()))):
        for look in (pk.record, pk.peek):
            for options in ({}, {"layers": ["conv"]}):
                with pytest.raises(ValueError, match=r"TorchScript.*made from"):
                    look(model, IMAGES, **options)
    rows = pk.scores.table(torch.jit.trace(Net(), IMAGES), IMAGES).set_index("score")
    assert "TorchScript" in rows.why["rmse_area"] and rows.value.notna()["confidence"]
    assert (
        rows.value["confidence"]
        == pk.scores.table(Net(), IMAGES).set_index("score").value["confidence"]
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.rnn = nn.LSTM(8, 5, batch_first=True)
        self.head = nn.Linear(5, 3)
        seeded(self)

    def forward(self, x):
        y, _ = self.attn(x[:, 0], x[:, 0], x[:, 0])
        return self.head(self.rnn(y)[0][:, -1])


def test_a_layer_that_gives_several_tensors_has_a_block_for_each():
    blocks = pk.record(Attention(), IMAGES, ["attn", "rnn"], negative="keep")
    shapes = {name: tuple(block.shape) for name, block in blocks.items()}
    assert shapes["attn[0]"] == (64, 12) and shapes["rnn[0]"] == (40, 12)
    assert shapes["rnn[1][0]"] == (5, 12)  # the last state, whose second axis counts the images
    assert list(pk.record(Attention(), IMAGES, ["rnn[0]"], negative="keep")) == ["rnn[0]"]


class Nested(nn.Module):
    def forward(self, x):
        return torch.nested.nested_tensor([row[: 3 + k % 2] for k, row in enumerate(x[:, 0])])


def test_a_nested_tensor_is_padded_with_zeros():
    with warnings.catch_warnings(action="ignore"):  # nested tensors are a prototype, says PyTorch
        block = pk.record(nn.Sequential(Nested()), IMAGES, ["0"])["0"]
    assert block.shape == (32, 12)
    assert not block.view(8, 4, 12)[:, 3, ::2].any() and block.view(8, 4, 12)[:, 3, 1::2].any()


NO_MODELS = {
    "weights": (Net().state_dict(), "4 entries.*load_state_dict"),
    "class": (Net, r"the class Net; give an instance: Net\(…\)"),
    "path": ("model.pt", "str; give an nn.Module"),
    "learner": (type("Learner", (), {"model": Net()})(), "Learner; its network is in .model"),
    "nothing": (None, "NoneType; give an nn.Module"),
}


@pytest.mark.parametrize(("model", "words"), NO_MODELS.values(), ids=NO_MODELS.keys())
def test_what_is_no_model_is_refused_by_all_in_the_same_few_words(model, words):
    calls = [pk.record, pk.peek, pk.scores.table, predict]
    calls.append(lambda model, images: pk.accuracy(model, images, LABELS))
    for call in calls:
        with pytest.raises(TypeError, match=words) as error:
            call(model, IMAGES)
        assert len(str(error.value)) < 300


def test_preprocess_is_what_the_network_gets_and_not_what_is_shown(plain):
    def invert(x):
        assert x.dtype == torch.float32 and x.max() <= 1
        return 1 - x

    inverse = (255 * (1 - IMAGES)).round().byte()
    block = pk.record(Net(), inverse, preprocess=invert)["relu()"]
    torch.testing.assert_close(block, plain, atol=0.02, rtol=0.1)
    score = pk.scores.observe(Net(), inverse, preprocess=invert)
    torch.testing.assert_close(score.hidden["relu()"], block)
    assert torch.equal(score.inputs["input"], pk.input_blocks(inverse)["input"])
    right = predict(Net(), inverse, preprocess=invert).argmax(1)
    assert pk.accuracy(Net(), inverse, right, preprocess=invert) == 1


def test_a_preprocess_that_wants_one_picture_is_told_what_it_got():
    with pytest.raises(AttributeError) as error:
        pk.record(Net(), IMAGES, preprocess=lambda x: x.convert("L"))
    assert "given a batch of floats of shape (2, 1, 8, 8)" in error.value.__notes__[0]


def test_what_a_network_refuses_is_said_with_the_shape():
    for call in (pk.record, pk.scores.table, predict):
        with pytest.raises(RuntimeError) as error:
            call(Net(), IMAGES[..., :7])
        assert "8, 7)" in error.value.__notes__[0] and "preprocess=" in error.value.__notes__[0]


def test_random_layers_draw_the_same_and_leave_the_random_state_alone():
    model = nn.Sequential(Net(lambda y: torch.relu(y + torch.randn(y.shape))))
    before = torch.get_rng_state()
    one, two = pk.record(model, IMAGES), pk.record(model, IMAGES)
    assert torch.equal(one["0.relu()"], two["0.relu()"])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interrupt_while_a_network_runs_leaves_it_as_it_was():
    def stop(y):
        raise KeyboardInterrupt

    model = Net(stop).train()
    for call in (pk.record, pk.scores.table, pk.peek, predict):
        with pytest.raises(KeyboardInterrupt):
            call(model, IMAGES)
        assert model.training and not any(m._forward_hooks for m in model.modules())


# Images

GREY = (255 * IMAGES[:, 0]).byte()  # 12 × 8 × 8
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)
FIRST = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)


class Pictures(torch.utils.data.Dataset):
    """PIL images with labels, as torchvision's folders have them."""

    def __len__(self):
        return 12

    def __getitem__(self, k):
        if k >= 12:
            raise IndexError(k)
        return Image.fromarray(COLOUR[k]), k % 3


class Many(torch.utils.data.Dataset):
    """More than memory holds."""

    read = 0

    def __len__(self):
        return 200_000

    def __getitem__(self, k):
        self.read += 1
        return torch.zeros(3, 224, 224)


@pytest.mark.parametrize("wrap", [lambda many: many, lambda many: DataLoader(many, batch_size=50)])
def test_a_data_set_that_memory_does_not_hold_is_refused_at_once(wrap):
    for take in (
        pk.input_blocks,
        lambda many: pk.record(Net(), many),
        lambda many: pk.peek(Net(), many),
    ):
        many = Many()
        with pytest.raises(ValueError, match=r"200,000 images take 120 GB, and 8 .*store=path"):
            take(wrap(many))
        assert many.read == 1


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(FIRST)


FORMS = {
    "tensor": (lambda: FIRST, FIRST),
    "grey bytes": (lambda: GREY, GREY[:, None]),
    "grey array": (GREY.numpy, GREY[:, None]),
    "channels last": (lambda: COLOUR, FIRST),
    "channels first": (FIRST.numpy, FIRST),
    "upside down": (lambda: COLOUR[:, ::-1], FIRST.flip(2)),
    "big endian": (lambda: IMAGES.numpy().astype(">f4"), IMAGES),
    "read only": (lambda: np.frombuffer(COLOUR.tobytes(), "u1").reshape(COLOUR.shape), FIRST),
    "PIL images": (lambda: [Image.fromarray(image) for image in COLOUR], FIRST),
    "grey PIL images": (lambda: [Image.fromarray(image.numpy()) for image in GREY], GREY[:, None]),
    "arrays": (lambda: list(COLOUR), FIRST),
    "tensors": (lambda: list(FIRST), FIRST),
    "data set": (Pictures, FIRST),
    "part of a data set": (lambda: Subset(Pictures(), [3, 1]), FIRST[[3, 1]]),
    "data set of tensors": (lambda: TensorDataset(FIRST, LABELS), FIRST),
    "data set of dicts": (lambda: Named([{"label": 0, "img": image} for image in FIRST]), FIRST),
    "stream": (Stream, FIRST),
    "loader": (lambda: DataLoader(TensorDataset(FIRST, LABELS), batch_size=5), FIRST),
    "loader of a stream": (lambda: DataLoader(Stream(), batch_size=5), FIRST),
}


class Named:
    """A data set that no library knows: a length, and samples by number."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, k):
        return self.samples[k]


@pytest.mark.filterwarnings("ignore:only the images of the data set are used")
@pytest.mark.parametrize(("make", "expected"), FORMS.values(), ids=FORMS.keys())
def test_images_of_every_form_become_the_same_tensor(make, expected):
    found = pk.as_images(make())
    assert found.shape == expected.shape and torch.equal(found, expected)
    blocks = pk.input_blocks(make())
    assert all(
        torch.equal(blocks[name], block) for name, block in pk.input_blocks(expected).items()
    )


@pytest.mark.filterwarnings("ignore:only the images of the data set are used")
def test_all_that_looks_at_images_takes_a_loader():
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5)
    assert torch.equal(pk.record(Net(), loader)["relu()"], pk.record(Net(), IMAGES)["relu()"])
    assert pk.accuracy(Net(), loader, LABELS) == pk.accuracy(Net(), IMAGES, LABELS)
    assert pk.scores.table(Net(), loader).equals(pk.scores.table(Net(), IMAGES))
    found = pk.peek(Net(), loader, ranks=(2,), progress=False)
    assert found.errors.equals(pk.peek(Net(), IMAGES, ranks=(2,), progress=False).errors)


def test_labels_that_come_along_are_not_used_and_that_is_said():
    with pytest.warns(UserWarning, match="labels"):
        pk.as_images(TensorDataset(FIRST, LABELS))
    with warnings.catch_warnings(action="error"):
        pk.as_images(TensorDataset(FIRST))


@pytest.mark.filterwarnings("ignore:only the images of the data set are used")
def test_a_loader_that_shuffles_is_read_in_the_order_of_its_data_set():
    shuffled = {"shuffle": True, "drop_last": True, "batch_size": 5}
    loader = DataLoader(TensorDataset(IMAGES, LABELS), **shuffled)
    assert torch.equal(pk.as_images(loader), IMAGES)
    right = predict(Net(), IMAGES).argmax(1)
    assert pk.accuracy(Net(), loader, right) == 1


def test_a_loader_that_draws_in_its_own_way_is_refused():
    some = torch.utils.data.SubsetRandomSampler([3, 1])
    with pytest.raises(ValueError, match=r"SubsetRandomSampler.*Subset\(dataset"):
        pk.as_images(DataLoader(TensorDataset(IMAGES), sampler=some))


def test_bytes_that_nobody_divided_are_noticed():
    for call in (pk.as_images, lambda x: pk.record(Net(), x)):
        with pytest.warns(UserWarning, match="divide by 255"):
            call(255 * IMAGES)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="divide them by 255"):
        pk.input_blocks(255 * IMAGES)
    with pytest.raises(ValueError, match="before normalization.*preprocess="):
        pk.input_blocks(IMAGES - 0.5)


def test_a_folder_is_read(tmp_path):
    for k, image in enumerate(COLOUR):
        Image.fromarray(image).save(tmp_path / f"{k:02}.png")
    assert torch.equal(pk.as_images(tmp_path), FIRST) and torch.equal(
        pk.as_images(str(tmp_path)), FIRST
    )


def test_a_network_whose_answers_are_no_numbers_has_no_scores_of_answers():
    diverged = Net(wrap=lambda y: y * torch.nan)
    rows = pk.scores.table(diverged, IMAGES).set_index("score")
    assert "logits of 12 images are NaN" in rows.why["nmf_robustness"]
    assert math.isnan(rows.value["answers_area"]) and rows.value.notna()["rmse_area"]


def test_what_does_not_fit_into_memory_is_said_before_it_is_recorded():
    with pytest.raises(ValueError, match=r"take 6.91e-06 GB, 'relu\(\)' alone.*memory is 1e-06"):
        pk.record(Net(), IMAGES, memory=1e-6)


def test_a_preprocess_that_cannot_be_called_is_named():
    for call in (pk.record, pk.peek, predict, pk.scores.table):
        with pytest.raises(TypeError, match=r"preprocess is 'imagenet'.*transforms\(\)"):
            call(Net(), IMAGES, preprocess="imagenet")


def test_images_that_were_normalized_are_scored_with_their_pixels_scaled():
    with pytest.warns(UserWarning, match="scaled, channel by channel"):
        rows = pk.scores.table(Net(), 4 * IMAGES - 2)
    assert rows.set_index("score").value.notna()["rmse_area"]


BAD = {
    "two sizes": (
        [GREY[0], GREY[1, :7]],
        ValueError,
        "image 0 is 1 × 8 × 8, image 1 is 1 × 7 × 8.*",
    ),
    "PIL of two sizes": (
        [Image.new("L", (8, 8)), Image.new("L", (8, 7))],
        ValueError,
        "image 1 has 7 × 8 pixels",
    ),
    "either axis": (np.zeros((5, 3, 8, 3)), ValueError, "second axis or the last"),
    "one image": (COLOUR[0], ValueError, r"give images\[None\]"),
    "one image, channels first": (FIRST[0], ValueError, r"give images\[None\]"),
    "whole numbers": (COLOUR.astype(int), TypeError, r"int64 array; give uint8.*astype\('uint8'\)"),
    "16 bits": (COLOUR.astype("u2"), TypeError, "uint16 array"),
    "masked": (np.ma.masked_equal(COLOUR, 0), TypeError, "masked array"),
    "empty": ([], ValueError, "no images"),
    "empty data set": (Named([]), ValueError, "empty"),
    "dicts of nothing known": (Named([{"a": 1}]), TypeError, r"dicts of \['a'\]"),
    "numbers": ([1, 2], TypeError, "each image is a int"),
    "split": (pk.Split(FIRST, LABELS), TypeError, "its images are in .images"),
    "no folder": ("cats/", FileNotFoundError, "no folder cats"),
    "number": (3, TypeError, "images are a int"),
    "sparse": (IMAGES.to_sparse(), TypeError, r"sparse tensor.*to_dense\(\)"),
}


@pytest.mark.parametrize(("images", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_what_no_images_can_be_made_of_is_refused(images, kind, words):
    with pytest.raises(kind, match=words):
        pk.as_images(images)
