"""peek: every activation of any network, a model left as it was, memory that is bounded, a report that stands alone."""

import os
import random
import re
from collections import namedtuple
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.figure import Figure
from torch import nn

import peeklib as pk
from peeklib import playground
from peeklib.samples import Sample, even_batches, plan, record_samples
from peeklib.sites import Site, choose, trace
from peeklib.study import analysis
from peeklib.study.analysis import peek
from peeklib.study.figures import error_curves
from peeklib.study.page import digest
from peeklib.study.report import fit_error

QUIET = {"progress": False, "ranks": (2, 4), "device": "cpu"}


class Forward(nn.Module):
    """A module from a function of (its parts, x)."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.run(self, x)


def seeded(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def net():
    """Two convolutions and a linear map: ReLU as a module, as a function, and a GELU."""

    def forward(m, x):
        x = m.relu(m.one(x))
        x = F.relu(m.two(x))
        return m.head(m.gelu(m.fc(x.flatten(1))))

    model = Forward(
        forward,
        one=nn.Conv2d(3, 4, 3),
        relu=nn.ReLU(inplace=True),
        two=nn.Conv2d(4, 5, 3, stride=2),
        fc=nn.Linear(80, 12),
        gelu=nn.GELU(),
        head=nn.Linear(12, 3),
    )
    return seeded(model)


@pytest.fixture(scope="module")
def images():
    return torch.rand(24, 3, 11, 11, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found(images):
    return peek(net(), images, **QUIET)


def sites_of(model, images):
    """Where an activation function is applied."""
    return [site for site in trace(model, images) if site.role == "activation"]


def names(model, images):
    return [site.name for site in sites_of(model, images)]


def activations(model, images, **options):
    """Name → neurons × images of every activation that can be recorded."""
    samples = [Sample(site) for site in sites_of(model, images) if not site.reason]
    blocks, skipped = record_samples(model, images, samples, **options)
    assert not skipped
    return blocks


# Finding


def test_modules_give_what_record_gives():
    first = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)]
    model = seeded(nn.Sequential(*first, nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True)))
    x = torch.rand(7, 3, 12, 12)
    mine = activations(model, x, batches=even_batches(7, 3))
    theirs = pk.record(model, x)
    assert list(mine) == list(theirs) == ["1", "4"]
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)


WAYS = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu": lambda x: x.relu(),
    "x.relu_": lambda x: x.relu_(),
    "operator": torch.ops.aten.relu.default,  # as exported programs call it
    "operator in place": torch.ops.aten.relu_.default,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_function_gives_what_the_module_gives(way):
    conv, x = seeded(nn.Conv2d(3, 4, 3)), torch.rand(5, 3, 8, 8)
    [(name, called)] = activations(Forward(lambda m, x: way(m.conv(x)), conv=conv), x).items()
    [module] = activations(nn.Sequential(conv, nn.ReLU()), x).values()
    assert name == "relu()" and torch.equal(called, module)


KINDS = [nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.SELU]
KINDS += [nn.CELU, nn.Mish, nn.Softplus, nn.Tanh, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Softsign]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_activation_is_one_site(kind):
    x = torch.randn(4, 3, 5, 5)
    [site] = sites_of(nn.Sequential(nn.Identity(), kind()), x)
    assert (site.name, site.kind, site.shape) == ("1", kind.__name__, (3, 5, 5))
    assert site.signed == bool((kind().eval()(x[:3]) < 0).any())


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Hardsigmoid, lambda: nn.Softmax(1)])
def test_gates_are_no_activations(kind):
    assert names(nn.Sequential(nn.Conv2d(3, 4, 1), kind()), torch.rand(3, 3, 4, 4)) == []


def test_calls_of_one_module_and_of_one_function_are_told_apart():
    block = Forward(lambda m, x: F.relu(1 - m.relu(x - m.relu(x))) + F.gelu(x), relu=nn.ReLU())
    model = Forward(lambda m, x: F.relu(m.block(x)), block=block)
    x = torch.randn(4, 3)
    inner = ["block.relu", "block.relu:2", "block.relu()", "block.gelu()"]
    assert names(model, x) == [*inner, "relu()"]
    twice = activations(Forward(lambda m, x: F.relu(1 - F.relu(x))), x)
    torch.testing.assert_close(twice["relu():2"], (1 - x.relu()).relu().T)


def test_what_later_code_does_in_place_does_not_reach_the_record():
    def spoil(m, x):
        y = m.relu(x)
        y.mul_(0)
        return y.add_(5)

    x = torch.randn(4, 3)
    torch.testing.assert_close(activations(Forward(spoil, relu=nn.ReLU()), x)["relu"], x.relu().T)


def test_the_classic_mnist_network_has_its_three_functions():
    def forward(m, x):
        x = F.relu(m.conv1(x))
        x = F.max_pool2d(F.relu(m.conv2(x)), 2)
        x = m.dropout(torch.flatten(x, 1))
        return F.log_softmax(m.fc2(F.relu(m.fc1(x))), dim=1)

    parts = {"conv1": nn.Conv2d(1, 3, 3), "conv2": nn.Conv2d(3, 4, 3), "dropout": nn.Dropout(0.5)}
    model = Forward(forward, **parts, fc1=nn.Linear(64, 9), fc2=nn.Linear(9, 10))
    found = {site.name: site.shape for site in sites_of(model, torch.rand(3, 1, 12, 12))}
    assert found == {"relu()": (3, 10, 10), "relu():2": (4, 8, 8), "relu():3": (9,)}


@pytest.mark.parametrize("batch_first", [True, False])
def test_tokens_become_features_by_positions(batch_first):
    layer = seeded(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=batch_first))

    def forward(m, x):  # images × 3 × 2 × 4 → images × tokens × 8, or tokens first
        tokens = m.embed(x.flatten(2))
        return m.layer(tokens if batch_first else tokens.transpose(0, 1))

    x = torch.rand(5, 3, 2, 4)
    model = Forward(forward, embed=seeded(nn.Linear(8, 8)), layer=layer)
    [site] = sites_of(model, x)
    assert (site.name, site.shape) == ("layer.relu()", (16, 3))
    assert site.axis == (0 if batch_first else 1)
    with torch.no_grad():
        layer.eval()
        tokens = model.embed(x.flatten(2))
        y = tokens if batch_first else tokens.transpose(0, 1)
        y = layer.norm1(y + layer.self_attn(y, y, y, need_weights=False)[0])
        hidden = layer.linear1(y).relu()
    order = (0, 2, 1) if batch_first else (1, 2, 0)
    expected = hidden.permute(order)  # images × features × tokens
    torch.testing.assert_close(activations(model, x)["layer.relu()"], expected.flatten(1).T)


@pytest.mark.parametrize("images_first", [True, False])
def test_windows_are_positions_of_their_image(images_first):
    def forward(m, x):  # images × 3 × 4 × 4: four windows of 2 × 2 each
        w = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 4, 12)
        w = w if images_first else w.transpose(0, 1)
        return F.gelu(m.fc(w.reshape(-1, 12)))

    x = torch.rand(5, 3, 4, 4)
    model = Forward(forward, fc=seeded(nn.Linear(12, 7)))
    [site] = sites_of(model, x)
    assert (site.shape, site.per_image, site.images_first) == ((7, 4), 4, images_first)
    alone = torch.cat([activations(model, x[k : k + 1])["gelu()"] for k in range(5)], dim=1)
    torch.testing.assert_close(activations(model, x)["gelu()"], alone)


def test_channels_last_are_features():
    model = Forward(lambda m, x: F.gelu(m.fc(x.permute(0, 2, 3, 1))), fc=seeded(nn.Linear(3, 6)))
    x = torch.rand(4, 3, 5, 7)
    [site] = sites_of(model, x)
    assert site.shape == (6, 5, 7)
    with torch.no_grad():
        expected = F.gelu(model.fc(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    torch.testing.assert_close(activations(model, x)["gelu()"], expected.flatten(1).T)


def test_what_is_no_activation_of_an_image_is_left_out_with_a_reason():
    def forward(m, x):
        table = F.relu(m.fc.weight)  # has no images
        mixed = torch.relu(x.flatten(1) @ x.flatten(1).T)  # images × images
        empty = F.relu(x[:, :0])
        return F.gelu(m.fc(x.flatten(1))) + table.sum() + mixed.sum() + empty.sum()

    sites = trace(Forward(forward, fc=nn.Linear(12, 4)), torch.rand(5, 3, 2, 2))
    reasons = {s.name: s.reason for s in sites if s.role == "activation"}
    assert "no axis counts images" in reasons["relu()"] and "no axis" in reasons["relu():2"]
    assert "empty" in reasons["relu():3"] and reasons["gelu()"] == ""
    chosen, [note] = choose(sites, "auto")
    assert [s.name for s in chosen] == ["gelu()"] and note.startswith("3 of 4 sites were left out")


Pair = namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda x: (x, 2 * x), {"part[0]": 1, "part[1]": 2}),
        (lambda x: {"a": x, "b": (3 * x, None)}, {"part[a]": 1, "part[b][0]": 3}),
        (lambda x: (x.to_sparse(),), {"part[0]": 1}),
        (lambda x: Pair(x, -x), {"part[first]": 1, "part[second]": -1}),
    ],
    ids=["tuple", "dict", "sparse", "namedtuple"],
)
def test_every_tensor_of_an_output_can_be_named(wrap, expected):
    part = Forward(lambda m, x: wrap(x.flatten(1)))
    model, x = Forward(lambda m, x: m.part(x), part=part), torch.rand(4, 2, 2, 2)
    chosen, _ = choose(trace(model, x), ["part"])
    assert [site.name for site in chosen] == list(expected)
    got, _ = record_samples(model, x, [Sample(site) for site in chosen])
    assert all(torch.equal(got[name], factor * x.flatten(1).T) for name, factor in expected.items())
    assert len(choose(trace(model, x), [next(iter(expected))])[0]) == 1


def test_a_module_stands_for_all_its_calls_and_a_call_for_itself():
    sites = trace(Forward(lambda m, x: m.relu(1 - m.relu(x)), relu=nn.ReLU()), torch.rand(3, 4))
    assert [s.name for s in choose(sites, "relu")[0]] == ["relu", "relu:2"]
    assert [s.name for s in choose(sites, ["relu:2"])[0]] == ["relu:2"]


def test_unknown_layers_are_refused_with_what_there_is(images):
    said = r"no layer 'conv9'.*'relu\(\)'.*modules that ran.*'one'"
    with pytest.raises(ValueError, match=said):
        peek(net(), images, layers=["relu", "conv9"], **QUIET)
    with pytest.raises(ValueError, match="no layers were named"):
        peek(net(), images, layers=[], **QUIET)


def test_auto_takes_eight_spread_over_the_depth_and_says_so():
    model = nn.Sequential(*(nn.ReLU() for _ in range(30)))
    chosen, [note] = choose(trace(model, torch.rand(3, 4)), "auto")
    at = [int(s.name) for s in chosen]
    assert len(at) == 8 and (at[0], at[-1]) == (0, 29) and set(np.diff(at)) <= {4, 5}
    assert "30 places" in note and "8 of them" in note


def test_without_an_activation_layers_with_weights_are_taken(images):
    parts = [nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 5)]
    found = peek(seeded(nn.Sequential(*parts)), images, **QUIET)
    assert found.layers.index.tolist() == ["0", "3"]
    assert any("No activation function was seen" in note for note in found.notes)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_model_with_nothing_to_see_is_refused(images):
    with pytest.raises(ValueError, match="no activation to look at"):
        peek(nn.Flatten(), images, **QUIET)
    model = nn.Sequential(nn.Flatten(), nn.Linear(363, 4), nn.ReLU())
    with pytest.raises(ValueError, match="scripted"):
        peek(torch.jit.trace(model, images[:2]), images, **QUIET)


# Samples


@pytest.mark.parametrize(
    ("sizes", "budget", "expected"),
    [
        ([1, 2, 3], 10, [1, 2, 3]),
        ([1, 50, 9, 70], 30, [1, 10, 9, 10]),
        ([8, 8], 4, [2, 2]),
        ([5, 1, 5], 7, [3, 1, 3]),
    ],
)
def test_shares_are_whole_for_the_small_and_equal_for_the_large(sizes, budget, expected):
    sites = [Site("", "", "ReLU", "activation", shape=(size,)) for size in sizes]
    samples = plan(sites, [1] * len(sites), budget)
    assert [sample.neurons for sample in samples] == expected


def test_batches_are_of_about_equal_size():
    assert even_batches(7, 3) == [slice(0, 3), slice(3, 5), slice(5, 7)]
    assert even_batches(33) == [slice(0, 17), slice(17, 33)]


@pytest.mark.parametrize(
    ("budget", "text"),
    [(4000, "all"), (600, "37 of 100 positions"), (5, "1 of 100 positions of 1 of 4 features")],
)
def test_a_sample_is_rows_of_the_full_record(budget, text):
    model, x = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), torch.rand(6, 3, 12, 12)
    [sample] = plan(sites_of(model, x), [4], budget, seed=3)
    assert str(sample) == text and sample.neurons * 4 <= max(budget, 4)
    full = pk.record(model, x)["1"].view(4, 100, 6)
    rows = full
    if sample.positions is not None:
        rows = rows[:, sample.positions]
    if sample.features is not None:
        rows = rows[sample.features]
    part = record_samples(model, x, [sample], batches=even_batches(6, 4))[0]["1"]
    torch.testing.assert_close(part, rows.reshape(-1, 6))
    for row in (0, len(part) - 1):
        feature, *place = map(int, re.findall(r"\d+", sample.place(row)))
        torch.testing.assert_close(part[row], full.view(4, 10, 10, 6)[feature, place[0], place[1]])


def test_a_vector_kept_in_part_is_not_called_whole():
    [site] = sites_of(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.rand(5, 1, 4, 4))
    [sample] = plan([site], [4], 28)
    assert str(sample) == "7 of 16 features"


def test_positions_depend_on_the_seed_alone():
    sites = sites_of(nn.Sequential(nn.Identity(), nn.ReLU()), torch.rand(2, 3, 9, 9))
    one, again, other = (plan(sites, [1], 30, seed=seed)[0].positions for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other) and len(set(one.tolist())) == 10


def test_a_budget_for_nothing_is_refused(images):
    with pytest.raises(ValueError, match="memory does not hold one neuron.*more, or fewer images"):
        peek(net(), images, memory=1e-7, **QUIET)


def test_the_report_says_what_was_kept_and_the_bound_holds(images):
    first = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    model = seeded(nn.Sequential(*first, nn.Conv2d(32, 4, 3), nn.ReLU()))
    big = F.interpolate(images, 64)
    found = peek(model, big, memory=0.004, **QUIET)
    kept = int(found.layers.kept["1"].split()[0])
    assert 0 < kept < 64 * 64 and found.layers.rows["1"] == 32 * kept
    assert any("memory=0.004 GB" in note and "1" in note for note in found.notes)
    pixels = sum(len(found.sweep[4, 0].factors[name]) for name in found.parts["input pixels"])
    rows = found.layers.rows.sum() + pixels
    assert 4 * rows * len(images) < 0.004e9 / 2
    more = peek(model, big, memory=0.01, **QUIET)
    assert more.layers.rows["1"] > found.layers.rows["1"]


MEASURE = """
import torch
from pathlib import Path
from torch import nn
from peeklib import peek
def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
torch.set_num_threads(1)
first = [nn.Conv2d(3, 48, 3), nn.ReLU(), nn.Conv2d(48, 48, 1), nn.GELU()]
model = nn.Sequential(*first, nn.Conv2d(48, 8, 3, stride=4), nn.Tanh())
images = torch.rand(128, 3, 40, 40)
quiet = {"ranks": (4,), "progress": False, "batch_size": 2, "device": "cpu"}
for memory in (0.002, 0.02, 0.04):  # the first for what libraries load
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    found = peek(model, images, memory=memory, **quiet)
    print(resident("VmHWM") - before, int(found.layers.rows.sum()))
    del found
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="no /proc/self/clear_refs to reset the peak",
)
def test_memory_in_use_stays_within_the_bound(fresh):
    done = fresh(MEASURE)
    assert done.returncode == 0, done.stderr
    _, first, second = done.stdout.splitlines()
    used, kept = map(int, first.split())
    more_used, more_kept = map(int, second.split())
    beside = 12e6  # the forward pass of a batch, matrices of images × images
    assert used < 0.02e9 + beside and more_used < 0.04e9 + beside
    assert more_kept > 1.8 * kept, "what is allowed is used"


@pytest.mark.parametrize("negative", ["clip", "split"])
def test_blocks_work_and_factors_fit_into_the_budget(images, negative):
    model = seeded(nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.Tanh()))
    found = peek(model, F.interpolate(images, 64), memory=0.004, negative=negative, **QUIET)
    rows = sum(len(factor) for factor in found.sweep[4, 0].factors.values())
    work = max(len(images), 10 * 4)  # numbers for each row while it is factorized
    factors = 2 * (2 + 4)
    assert 0.8 * 0.004e9 < 4 * rows * (len(images) + work + factors) <= 0.004e9


# The model is left as it was


class Restless(nn.Module):
    """Draws random numbers, counts its calls in a buffer, replaces another, and may fail."""

    def __init__(self, fail=False):
        super().__init__()
        self.fc, self.bn, self.drop = nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("last", torch.zeros(6))
        self.fail = fail

    def forward(self, x):
        self.count += 1
        torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002
        y = self.fc(x.flatten(1))
        y = F.batch_norm(y, self.bn.running_mean, self.bn.running_var, training=True)
        self.last = y.mean(0)
        y = F.gelu(self.bn(self.drop(y)))
        if self.fail and len(x) > 3:
            raise RuntimeError("boom")
        return y


def state(model):
    modules, values = list(model.modules()), model.state_dict()
    return {
        "modes": [m.training for m in modules],
        "hooks": [len(m._forward_hooks) for m in modules],
        "hooks before": [len(m._forward_pre_hooks) for m in modules],
        "hooks always": [len(m._forward_hooks_always_called) for m in modules],
        "values": {name: v.clone() for name, v in values.items() if v.numel() < 1e5},
        "versions": [p._version for p in model.parameters()],
        "buffers": [id(b) for b in model.buffers()],
        "requires gradient": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()],
        "devices": [p.device for p in model.parameters()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("fail", [False, True])
def test_everything_is_as_it_was(fail):
    model = Restless(fail).train()
    model.drop.eval()
    model.fc.bias.requires_grad_(False)
    model.fc(torch.rand(3, 12)).sum().backward()
    model.fc.register_forward_hook(lambda *_: None)
    x = torch.rand(8, 3, 2, 2)
    pixels, before = x.clone(), state(model)
    if fail:
        with pytest.raises(RuntimeError, match="boom") as error:
            peek(model, x, **QUIET)
        assert "Restless on a batch of shape (8, 3, 2, 2)" in error.value.__notes__[0]
    else:
        peek(model, x, **QUIET)
    after = state(model)
    assert {key for key in before if not same(before[key], after[key])} == set()
    assert torch.equal(x, pixels)


def test_no_block_outlives_the_call(images):
    found = peek(net(), images, **QUIET)
    held = []
    for directions in found.directions.values():
        held += [direction.scores.untyped_storage().nbytes() for direction in directions]
    assert max(held) <= 4 * len(images) * max(QUIET["ranks"])


# What peek says


def test_spectra_and_directions_are_of_the_signed_activations(found, images):
    blocks = pk.record(net(), images, ["gelu"], negative="keep")
    values = pk.spectrum(blocks["gelu"])
    torch.testing.assert_close(found.spectra["gelu"], values, rtol=1e-4, atol=1e-4)
    entropy_rank = pk.effective_rank(values)
    assert found.layers["entropy rank"]["gelu"] == pytest.approx(entropy_rank, rel=1e-4)
    mine = found.directions["gelu", "neurons"][0]
    [theirs] = pk.directions.neurons(blocks["gelu"], 1)
    assert mine.name == theirs.name
    torch.testing.assert_close(mine.scores, theirs.scores)
    first = found.directions["relu", "singular"][0]
    A = pk.record(net(), images, ["relu"])["relu"]
    assert first.scale == pytest.approx(pk.spectrum(A)[0].item(), rel=1e-4)
    torch.testing.assert_close(first.scores, first.vector @ A, rtol=1e-3, atol=1e-3)


def test_errors_are_those_of_the_activations(found, images):
    fit, A = found.sweep[4, 0], activations(net(), images)["relu"]
    rebuilt = fit.reconstruct("relu") * A.square().mean().sqrt()
    error = ((A - rebuilt).norm() / A.norm()).item()
    assert found.errors.loc["relu", 4] == pytest.approx(error, rel=1e-3)
    assert found.errors.index.tolist() == ["input pixels", "relu", "relu()", "gelu"]
    assert (found.errors[4] < found.errors[2] + 1e-3).all() and found.errors.to_numpy().min() > 0


def test_every_part_has_an_equal_say(found):
    fit = found.sweep[2, 0]
    says = [sum(fit.weights[name] for name in own[:1]) for own in found.parts.values()]
    assert len(says) == 4 and min(says) > 0
    assert fit.history[-1] == pytest.approx(fit_error(found.errors[2]), rel=1e-2)


def test_the_units_of_a_layer_do_not_matter(images):
    def scaled(factor):
        model = net()
        with torch.no_grad():
            for part in (model.one.weight, model.one.bias):
                part *= factor
            model.two.weight /= factor
        return peek(model, images, **QUIET)

    plain, large = scaled(1), scaled(1e12)
    np.testing.assert_allclose(large.errors, plain.errors, atol=2e-3)
    ranks = plain.layers["entropy rank"]
    np.testing.assert_allclose(large.layers["entropy rank"], ranks, rtol=1e-4)
    assert large.layers.rms["relu"] == pytest.approx(1e12 * plain.layers.rms["relu"], rel=1e-3)


def test_nothing_depends_on_the_batches(found, images):
    other = peek(net(), images, **QUIET, batch_size=5)
    np.testing.assert_allclose(other.errors, found.errors, atol=1e-4)
    assert other.notes == found.notes


def test_the_same_seed_gives_the_same_report(found, images):
    again = peek(net(), images, **QUIET)
    for name in ("layers", "errors", "scores"):
        assert getattr(again, name).equals(getattr(found, name))
    assert again.settings == found.settings
    one, other = (peeked.extremes.picture("relu", "nmf") for peeked in (again, found))
    assert one.uri == other.uri


def test_the_bar_comes_to_its_end(images, monkeypatch):
    class Quiet(analysis.tqdm):
        def display(self, *args, **options):
            bars.append(self)

    bars = []
    monkeypatch.setattr(analysis, "tqdm", Quiet)
    peek(net(), images, ranks=(2,), batch_size=5, device="cpu", progress=True)
    assert len(set(map(id, bars))) == 1 and bars[0].n == bars[0].total == 5 + 3


@pytest.mark.parametrize(
    ("negative", "treated", "blocks"),
    [
        ("clip", "clip", ["tanh()"]),
        ("split", "split", ["tanh()+", "tanh()-"]),
        ("auto", "split", ["tanh()+", "tanh()-"]),
    ],
)
def test_negative_activations(negative, treated, blocks, images):
    model = Forward(lambda m, x: torch.tanh(m.conv(x)), conv=seeded(nn.Conv2d(3, 4, 3)))
    found = peek(model, images, negative=negative, **QUIET)
    A = activations(model, images)["tanh()"]
    assert found.layers.negatives["tanh()"] == treated and found.parts["tanh()"] == blocks
    below = (A.clamp(max=0).norm() / A.norm()).item() ** 2
    assert found.layers["below zero"]["tanh()"] == pytest.approx(below, rel=1e-4)
    assert any("below zero" in note and "tanh()" in note for note in found.notes)
    torch.testing.assert_close(found.spectra["tanh()"], pk.spectrum(A), rtol=1e-4, atol=1e-4)


def test_auto_clips_what_is_hardly_negative(images):
    model = Forward(lambda m, x: F.gelu(3 + m.conv(x)), conv=nn.Conv2d(3, 4, 3))
    found = peek(model, images - 0.0, **QUIET)
    assert found.layers.negatives["gelu()"] in ("none", "clip")
    shifted = Forward(lambda m, x: F.leaky_relu(m.conv(x), 0.05), conv=seeded(nn.Conv2d(3, 4, 3)))
    assert peek(shifted, images, **QUIET).layers.negatives["leaky_relu()"] == "clip"


def test_a_dead_layer_is_left_out_and_named(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Forward(lambda m, x: 0 * x), nn.ReLU())
    found = peek(seeded(model), images, **QUIET)
    assert found.layers.index.tolist() == ["1"]
    assert any(note.startswith("3: zero") for note in found.notes)
    with pytest.raises(ValueError, match=r"\['2', '3'\] are zero for every image"):
        peek(model, images, layers=["2", "3"], **QUIET)


def test_a_layer_without_variation_can_still_be_shown(images):
    def forward(m, x):
        return F.relu(m.conv(x)) * 0 + F.relu(torch.ones_like(x))

    model = Forward(forward, conv=seeded(nn.Conv2d(3, 3, 1)))
    found = peek(model, images, **QUIET)
    assert found.directions["relu():2", "neurons"] == []
    assert "has no single neurons" in found.extremes.picture("relu():2", "neurons").alt


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_activations_that_are_no_numbers_name_the_layer_and_the_image(images, value):
    def forward(m, x):
        y = F.relu(m.conv(x))
        return F.gelu(torch.where(x.mean((1, 2, 3), keepdim=True) > level, value, y))

    level = images.mean((1, 2, 3)).sort().values[-2]
    first = int(images.mean((1, 2, 3)).argmax())
    said = rf"'gelu\(\)' gives NaN or infinite values \(first for image {first},"
    with pytest.raises(ValueError, match=said):
        peek(Forward(forward, conv=nn.Conv2d(3, 4, 1)), images, batch_size=5, **QUIET)


def test_ranks_that_are_too_large_are_dropped(images):
    found = peek(net(), images, ranks=(3, 24, 25, 100), progress=False)
    assert found.errors.columns.tolist() == [3, 24]
    assert any("[25, 100]" in note and "24 images" in note for note in found.notes)
    assert peek(net(), images, ranks=(100,), progress=False).errors.columns.tolist() == [24]


def test_bytes_and_floats_give_the_same():
    pixels = torch.randint(0, 256, (10, 3, 11, 11), dtype=torch.uint8)
    a, b = (peek(net(), x, **QUIET) for x in (pixels, pixels.float() / 255))
    assert a.errors.equals(b.errors)
    assert torch.equal(a.images, pixels) and torch.equal(b.images, pixels)


def test_images_outside_zero_to_one_are_shown_scaled_and_run_as_they_are(images):
    shift = torch.tensor([1.0, -2, 3])[:, None, None]
    found = peek(net(), 5 * images - shift, preprocess=lambda x: (x + shift) / 5, **QUIET)
    plain = peek(net(), images, **QUIET)
    low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    expected = (255 * (images - low) / (high - low)).round()
    assert (found.images.float() - expected).abs().max() <= 1
    assert any("not from 0 to 1" in note for note in found.notes)
    assert not any("0 to 1" in note for note in plain.notes)
    torch.testing.assert_close(found.spectra["relu"], plain.spectra["relu"], rtol=1e-3, atol=1e-3)


def test_large_images_are_shown_as_means_over_areas():
    x = torch.rand(6, 1, 128, 256)
    found = peek(nn.Sequential(nn.MaxPool2d(16), nn.ReLU()), x, **QUIET)
    assert found.images.shape == (6, 1, 32, 64) and any("32 × 64" in note for note in found.notes)
    means = F.avg_pool2d(x, 4)
    assert (found.images.float() - 255 * means).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_can_be_drawn(channels):
    model = nn.Sequential(nn.Conv2d(channels, 3, 3), nn.ReLU())
    found = peek(seeded(model), torch.rand(8, channels, 9, 9), **QUIET)
    assert found.components.picture(2).alt and found.extremes.picture("1", "nmf").alt


def test_preprocess_may_change_sizes_or_name_arguments(images):
    model, x = net(), F.interpolate(images, 22)
    shrink = lambda x: F.avg_pool2d(x, 2)  # noqa: E731
    named = Forward(lambda m, x: m.net(x), net=model)
    a = peek(model, x, preprocess=shrink, **QUIET)
    b = peek(named, x, preprocess=lambda x: {"x": shrink(x)}, **QUIET)
    np.testing.assert_allclose(a.errors, b.errors, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_type_is_given_its_own(images, dtype):
    found = peek(net().to(dtype), images, **QUIET)
    assert len(found.layers) == 3 and found.errors.notna().all().all()


def test_a_compiled_model_is_looked_at_as_it_was_written(found, images):
    assert peek(torch.compile(net()), images, **QUIET).errors.equals(found.errors)


X4 = torch.rand(4, 3, 9, 9)
HOLE = X4.index_fill(0, torch.tensor(2), torch.nan)
ERRORS = {
    "number": (3, {}, TypeError, "images are a int"),
    "no batch": (X4[0], {}, ValueError, r"shape \(3, 9, 9\).*images × channels"),
    "channels last": (X4.movedim(1, 3), {}, ValueError, "images × channels × height × width"),
    "one image": (X4[:1], {}, ValueError, "at least two"),
    "no image": (X4[:0], {}, ValueError, "shape"),
    "NaN": (HOLE, {}, ValueError, "first in image 2"),
    "black": (0 * X4, {}, ValueError, "every image is black"),
    "ranks": (X4, {"ranks": (0,)}, ValueError, "rank is 0; it is at least 1"),
    "no rank": (X4, {"ranks": None}, TypeError, "rank is None; it is a whole number"),
    "no ranks": (X4, {"ranks": ()}, ValueError, "there are no ranks"),
    "negative": (X4, {"negative": "abs"}, ValueError, "'abs'.*clip.*split"),
    "memory": (X4, {"memory": 0}, ValueError, "memory is 0 GB"),
    "batches": (X4, {"batch_size": 0}, ValueError, "batch_size is 0"),
}


@pytest.mark.parametrize(("images", "options", "kind", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_say_what_and_where(images, options, kind, words):
    with pytest.raises(kind, match=words):
        peek(net(), images, **{**QUIET, **options})


def test_what_the_model_refuses_is_said_with_the_shape(images):
    with pytest.raises(RuntimeError) as error:
        peek(net(), images[:, :, :7], **QUIET)
    assert "batch of shape (2, 3, 7, 11)" in error.value.__notes__[0]


# The eight networks

NETWORKS = {
    "resnet18": (17, "layer4.1.relu:2"),
    "mobilenet_v3_small": (33, "classifier.1"),
    "googlenet": (57, "inception5b.branch4.1.relu()"),
    "squeezenet1_1": (26, "classifier.2"),
    "vgg11_bn": (10, "classifier.4"),
    "convnext_tiny": (18, "features.7.2.block.4"),
    "densenet121": (121, "relu()"),
    "vit_b_16": (12, "encoder.layers.encoder_layer_11.mlp.1"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_nobody_wrote_for_us(name):
    count, last = NETWORKS[name]
    options = {"googlenet": {"init_weights": False}, "vit_b_16": {"image_size": 64}}.get(name, {})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(torchvision.models, name)(weights=None, **options)
    x = torch.rand(12, 3, 64, 64)
    before = state(model)
    found = peek(model, x, memory=0.02, **QUIET)
    assert same(before, state(model))
    assert len(found.layers) == 8 and found.layers.index[-1] == last
    assert any(f"has {count} places" in note for note in found.notes)
    assert found.errors.to_numpy().max() < 1 and (found.layers["entropy rank"] >= 1).all()


# The report


class Page(HTMLParser):
    VOID = {"meta", "img", "input", "br"}

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


NASTY = ["_hidden", "a$\\frac$b", "<script>alert(1)</script>", "quote\"'&", "input", "x" * 90]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    for name in NASTY:
        model.add_module(name, nn.ReLU() if name != "input" else nn.Tanh())
    model.eval()
    found = peek(seeded(model), torch.rand(9, 3, 9, 9), title="<i>mine</i> & $x$", **QUIET)
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert found.save(str(path)) == path
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return found, path.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing(report):
    text = report[1]
    page = Page(text)
    assert "//" not in re.sub(r"data:image/webp;base64,[\w+/=]+|sha256-[\w+/=]+", "", text)
    assert not page.all("link", "iframe", "object", "base")
    assert all(a["src"].startswith("data:image/webp;base64,") for a in page.all("img"))
    assert all("src" not in a for a in page.all("script"))
    assert not re.search(
        r"url\(|@import|fetch\(|XMLHttp|import\(", re.sub(r'"data:[^"]*"', "", text)
    )


def test_the_page_forbids_all_but_its_own(report):
    page = Page(report[1])
    [given] = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    policy = dict(rule.split(" ", 1) for rule in given.split("; "))
    assert (policy["default-src"], policy["img-src"]) == ("'none'", "data:")
    assert page.elements[:4].index(("meta", {"charset": "utf-8"})) == 2, "the policy comes next"
    [style] = re.findall("<style>(.*?)</style>", report[1], re.S)
    [script] = set(re.findall("<script>(.*?)</script>", report[1], re.S))
    ours = {digest(script), digest(playground.SCRIPT)}  # a page may be given a pad to draw on
    assert set(policy["script-src"].split()) == ours
    attributes = {a["style"] for _, a in page.elements if "style" in a}
    allowed = {"'unsafe-hashes'", *map(digest, [style, playground.STYLE, *attributes])}
    assert set(policy["style-src"].split()) == allowed


def test_the_page_can_be_read_by_everyone(report):
    found, text = report
    page = Page(text)
    assert page.wrong == [] and page.open == []
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(page.all(tag)) == 1 for tag in ("title", "main", "h1"))
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert "prefers-color-scheme: dark" in text
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    assert all(a.get("alt", "").strip() for a in page.all("img")) and len(page.all("img")) == 4
    assert len(page.all("caption")) == len(page.all("table")) >= 4
    assert all(a["scope"] in ("row", "col") for a in page.all("th"))
    boxes = [a for a in page.all("div") if a.get("class") == "peek-scroll"]
    assert all("tabindex" in a and a["aria-label"] for a in boxes)
    assert len(page.all("input")) == 3


def test_names_are_shown_as_they_are(report):
    found, text = report
    assert found.layers.index.tolist() == NASTY
    page = Page(text)
    assert set(NASTY) <= set(page.text)
    assert "<i>mine</i>" not in text and "<script>alert" not in text
    assert "<i>mine</i> & $x$" in page.text
    figure, _ = error_curves(found.errors)
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert any("_hidden" in text for text in legend) and len(legend) == len(NASTY) + 1


def test_every_slider_has_every_frame(report):
    found, text = report
    assert len(re.findall(r"data:image/webp", text)) == 2 + (2 + 1) + (len(NASTY) * 3 + 1)
    assert len(text) < 3e6


def test_a_layer_called_input_is_not_taken_for_pixels(report):
    found, _ = report
    assert found.parts["input"] in (["layer input+", "layer input-"], ["layer input"])
    assert set(found.sweep[2, 0].factors) >= {"input.red", "input.green", "input.blue"}


@pytest.fixture
def undrawn(found, monkeypatch):
    """A copy of the report whose pictures are not drawn."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"picture"))
    return replace(found)


@pytest.fixture
def fragment(undrawn):
    """fragment(changes) is what a notebook shows of the report with these."""
    return lambda **changes: replace(undrawn, **changes)._repr_html_()


def test_the_notebook_shows_the_same_without_a_page_around_it(fragment):
    text = fragment()
    page = Page(text)
    assert page.wrong == [] and not page.all("html", "body", "h1", "title")
    assert page.elements[0][0] == "div"
    levels = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == "h2" and set(levels[1:]) == {"h3"}


def test_a_report_without_notes_has_no_heading_for_them(fragment):
    assert "<h3>Notes</h3><ul><li>a &lt; b</li></ul>" in fragment(notes=["a < b"])
    assert "Notes" not in fragment(notes=[])


def test_templates_are_filled(report, fragment):
    for text in (report[1], fragment()):
        assert not re.search(r"\$(title|style|sections|notes|layers|seconds)\b", text)


def test_a_direction_nobody_has_is_a_picture_that_says_so(found):
    bare = replace(found, directions={("relu", "neurons"): []})
    figure, alt = bare.extremes.draw("relu", "neurons")
    assert alt.startswith("relu has no single neurons")
    assert [text.get_text() for text in figure.axes[0].texts] == ["none"]


def test_the_report_says_how_it_was_made(found, fragment):
    text = " ".join(Page(fragment()).text)
    versions = [torch.__version__, pk.__version__]
    for word in [*versions, "seed", "memory", "ranks", "24 × 3 × 11 × 11", "parameters"]:
        assert word in text
    assert found.settings["seed"] == "0" and found.seconds > 0


def test_scores_come_from_the_tables(found):
    scores, ranks = found.scores.value, [2, 4]
    overall = [fit_error(found.errors[rank]) for rank in ranks]
    assert scores["area under the error"] == pytest.approx(np.mean(overall))
    assert scores["error of gelu at rank 4"] == found.errors.loc["gelu", 4]
    assert scores["entropy rank of gelu, as a share"] == pytest.approx(
        found.layers["entropy rank"]["gelu"] / 12
    )
    assert all(text.endswith(".") for text in found.scores["how to read it"])


def test_saving_says_where_it_cannot(undrawn, tmp_path):
    with pytest.raises(IsADirectoryError, match="report.html"):
        undrawn.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder.*missing"):
        undrawn.save(tmp_path / "missing" / "report.html")
    path = tmp_path / "r.html"
    path.write_text("old")
    assert "old" not in undrawn.save(path).read_text()[:20]


def test_results_cannot_be_changed(found):
    with pytest.raises(AttributeError):
        found.title = "other"


# Models that do odd things

X12 = torch.rand(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", [12, 10])
def test_a_gate_made_of_vectors_says_nothing_about_the_maps(width):
    """Squeeze and excitation, with as many channels as columns and without."""

    def run(m, x):
        y = m.conv(x)
        gate = torch.sigmoid(m.f2(F.relu(m.f1(y.mean((2, 3))))))
        return F.relu(y * gate[:, :, None, None] + y)

    parts = {"f1": nn.Linear(width, 12), "f2": nn.Linear(12, width)}
    model = Forward(run, conv=nn.Conv2d(3, width, 3, padding=1), **parts)
    _, site = sites_of(model, X12)
    assert (site.name, site.shape, site.feature_axis) == ("relu():2", (width, 12, 12), 1)


def test_alike_images_do_not_mix_up_whose_row_is_whose():
    def forward(m, x):  # rows: the first pixel of every image, then the second, …
        return F.gelu(m.fc(x.flatten(2).permute(2, 0, 1).reshape(-1, 3)))

    model = Forward(forward, fc=nn.Linear(3, 5))
    for images in (torch.cat([0 * X12[:3], X12]), 0.5 + 1e-4 * X12):
        [site] = sites_of(model, images)
        assert site.reason or not site.images_first
    [site] = sites_of(model, 0 * X12)
    assert "not clear" in site.reason


def test_modes_are_only_flags_and_weights_come_back():
    class Merging(nn.Linear):
        def train(self, mode=True):
            self.weight.data += 1 if mode != self.training else 0
            self.weight.requires_grad_(mode)
            return super().train(mode)

    def renorm(m, x):
        m.conv.weight.data = torch.renorm(m.conv.weight.data, 2, 0, 0.1)
        return F.relu(m.conv(x))

    merging = nn.Sequential(nn.Flatten(), Merging(432, 5), nn.ReLU()).train()
    for model in (merging, Forward(renorm, conv=nn.Conv2d(3, 4, 3))):
        before = state(model)["values"]
        peek(model, X12, **QUIET)
        assert same(before, state(model)["values"])
        assert all(p.requires_grad for p in model.parameters()) and model.training


def test_buffers_of_any_kind_come_back_and_lazy_modules_are_refused():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("edges", torch.eye(3).to_sparse())
            self.register_buffer("log", torch.zeros(2))

        def forward(self, x):
            self.log.resize_(5).fill_(1)
            return torch.relu(x)

    model = Graph()
    peek(model, X12, **QUIET)
    assert torch.equal(model.log, torch.zeros(2))
    assert torch.equal(model.edges.to_dense(), torch.eye(3))
    with pytest.raises(ValueError, match="lazy modules"):
        peek(nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()), X12, **QUIET)


def test_scripted_and_compiled_parts_are_passed_over():
    model = nn.Sequential(torch.jit.script(nn.Conv2d(3, 4, 3)), nn.ReLU())
    assert list(peek(model, X12, **QUIET).layers.index) == ["1"]
    inner = torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), backend="eager")
    model = nn.Sequential(inner, nn.Flatten(), nn.Linear(400, 3), nn.GELU())
    assert list(peek(model, X12, **QUIET).layers.index) == ["0.1", "3"]


def test_layers_that_some_batches_skip_are_left_out_and_told():
    def run(m, x):
        y = torch.relu(m.conv(x))
        return F.gelu(y) if len(x) < 4 else y

    model = Forward(run, conv=nn.Conv2d(3, 4, 3))
    found = peek(model, X12, batch_size=6, **QUIET)
    assert list(found.layers.index) == ["relu()"] and any("gelu()" in note for note in found.notes)
    with pytest.raises(ValueError, match=r"\['gelu\(\)'\] do not run on every batch"):
        peek(model, X12, batch_size=6, layers=["gelu()", "relu()"], **QUIET)


def test_a_layer_that_runs_for_two_images_only_has_a_reason():
    model = Forward(lambda m, x: F.gelu(torch.relu(x)) if len(x) == 2 else torch.relu(x))
    assert [site.reason for site in sites_of(model, X12)] == ["", "it runs on some batches only"]


def test_hooks_of_the_model_count_and_what_preprocess_does_is_not_seen():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    found = peek(model, X12, preprocess=lambda x: torch.relu(x - 0.3), **QUIET)
    assert list(found.layers.index) == ["1"]
    model[1].register_forward_hook(lambda module, args, out: out * 0 + 7)
    assert (activations(model, X12)["1"] == 7).all()


def test_names_that_collide_keep_their_layers_apart():
    model = Forward(lambda m, x: getattr(m, "x+")(m.x(x - 0.5)), x=nn.Tanh())
    model.add_module("x+", nn.ReLU())
    found = peek(model, X12, negative="split", **QUIET)
    assert list(found.layers.index) == ["x", "x+"]
    assert found.parts["x"] == ["x+", "x-"] and found.parts["x+"] == ["x+'"]
    assert found.errors.loc["x", 2] != found.errors.loc["x+", 2]


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="give an nn.Module"):
        peek(torchvision.models.resnet18, X12, **QUIET)
