"""Parts of a network switched off while it runs, and what components vote for."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

import peeklib as pk
from peeklib.course.studies import mnist, switched

IMAGES = torch.rand(30, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Sequential):
    """A convolution, an average over places, a hidden layer in a function's hands."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 3, 3)  # 3 × 4 × 4
            self.relu1 = nn.ReLU()
            self.pool = nn.AvgPool2d(2)  # 3 × 2 × 2
            self.norm = nn.BatchNorm2d(3)
            self.norm.running_mean += 0.1
            self.relu2 = nn.ReLU(inplace=True)
            self.flatten = nn.Flatten()
            self.fc = nn.Linear(12, 4)


@pytest.fixture(scope="module")
def model():
    return Net().requires_grad_(False).train()


@pytest.fixture(scope="module")
def fit(model):
    blocks = pk.input_blocks(IMAGES) | pk.record(model, IMAGES)
    return pk.coupled_nmf(blocks, 3, max_iter=100)


def rest(model, layer, block):
    """What follows a layer, of neurons × images."""
    shape = {"relu1": (3, 4, 4), "relu2": (3, 2, 2)}[layer]
    names = [name for name, _ in model.named_children()]
    after = nn.Sequential(*list(model.children())[names.index(layer) + 1 :]).eval()
    return after(block.T.unflatten(1, shape).clone())


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
@pytest.mark.parametrize("strength", [0, 0.5, 3])
def test_neurons_are_scaled_where_they_stand(model, fit, layer, strength):
    block = pk.record(model, IMAGES)[layer]
    block[[2, 7]] *= strength
    found = pk.intervene(model, fit, IMAGES, neurons={layer: [7, 2]}, strength=strength)
    torch.testing.assert_close(found.logits, rest(model, layer, block))


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
@pytest.mark.parametrize("strength", [0, 0.5, 3])
def test_a_components_part_is_scaled_and_no_neuron_falls_below_zero(model, fit, layer, strength):
    A = pk.record(model, IMAGES)[layer]
    part = torch.outer(fit.factors[layer][:, 1], fit.image_factor[:, 1])
    changed = (A - (1 - strength) * part).clamp(min=0)
    found = pk.intervene(model, fit, IMAGES, component=1, layers=layer, strength=strength)
    torch.testing.assert_close(found.logits, rest(model, layer, changed))


def test_what_was_below_zero_stays_and_what_was_above_does_not_fall_there():
    model, images = nn.Sequential(nn.Linear(3, 4)).requires_grad_(False), torch.rand(9, 3)
    blocks = pk.record(model, images, "0", negative="clip")
    fit = pk.coupled_nmf(blocks, 1)
    found = pk.intervene(model, fit, images, component=0)
    before = found.own_logits
    assert (before < 0).any()
    assert torch.equal(found.logits[before <= 0], before[before <= 0])
    assert (found.logits[before > 0] >= 0).all()


def test_batches_have_their_own_rows_of_the_image_factor(model, fit):
    for what in ({"component": 1}, {"component": [0, 2], "layers": "relu1"}):
        one = pk.intervene(model, fit, IMAGES, **what)
        several = pk.intervene(model, fit, IMAGES, batch_size=7, **what)
        torch.testing.assert_close(several.logits, one.logits)


def test_strength_one_changes_nothing(model, fit):
    for what in ({"component": [0, 1, 2]}, {"neurons": range(12)}, {"neurons": []}):
        found = pk.intervene(model, fit, IMAGES, strength=1, **what)
        assert torch.equal(found.logits, found.own_logits)
        assert (found.kept, found.moved) == (1, 0)


def test_later_layers_see_what_changed_before_them(model, fit):
    block = pk.record(model, IMAGES)["relu1"]
    block[0] = 0
    relu2 = model.eval()[4](model[3](model[2](block.T.unflatten(1, (3, 4, 4)))))
    model.train()
    relu2 = relu2.flatten(1).T
    relu2[5] = 0
    found = pk.intervene(model, fit, IMAGES, neurons={"relu2": [5], "relu1": [0]})
    torch.testing.assert_close(found.logits, rest(model, "relu2", relu2))
    assert "relu2: 1 of 12 neurons × 0; relu1: 1 of 48 neurons × 0" in repr(found)


def test_a_mask_names_the_same_neurons_as_their_numbers(model, fit):
    mask = torch.arange(12) % 5 == 0
    by_mask = pk.intervene(model, fit, IMAGES, neurons=mask)
    by_number = pk.intervene(model, fit, IMAGES, neurons=[10, 0, 5, 5], layers="relu2")
    assert by_mask.what == by_number.what == "relu2: 3 of 12 neurons × 0"
    assert torch.equal(by_mask.logits, by_number.logits)


def state(model):
    tensors = [tensor.clone() for tensor in model.state_dict().values()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return tensors, hooks, [module.training for module in model.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(model, fit, fails):
    before = state(model)
    if fails:
        with pytest.raises(ZeroDivisionError):
            pk.intervene(model, fit, IMAGES, component=0, preprocess=lambda x: x * (1 // 0))
    else:
        pk.intervene(model, fit, IMAGES, component=0, layers=["relu1", "relu2"])
    after = state(model)
    assert all(map(torch.equal, before[0], after[0])) and before[1:] == after[1:]


def test_recall_by_class_is_of_labels_or_of_its_own_answers(model, fit):
    labels = torch.arange(30) % 4
    found = pk.intervene(model, fit, IMAGES, neurons=range(12), labels=labels)
    right = found.own_answers == labels
    assert found.recall.images.tolist() == [8, 8, 7, 7]
    assert found.recall.before[0] == pytest.approx(right[labels == 0].float().mean().item())
    assert sorted(found.recall.after) == [0, 0, 0, 1]  # the biases answer the same to all
    own = pk.intervene(model, fit, IMAGES, neurons=range(12)).recall
    assert (own.before == 1).all()
    assert "recall" not in found._repr_html_() and "class by label" in found._repr_html_()


def test_moved_has_no_unit():
    own = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    assert pk.Intervention("", own + 3, own).moved == pytest.approx(3)
    assert pk.Intervention("", 5 * own + 15, 5 * own).moved == pytest.approx(3)
    alike = torch.ones(2, 2)
    assert pk.Intervention("", alike, alike).moved == 0
    assert pk.Intervention("", 2 * alike, alike).moved == math.inf


BAD = {
    "neurons=[12]": (ValueError, "'relu2' has no neuron 12; it has 12, from 0 up"),
    "neurons=[-1]": (ValueError, "no neuron -1"),
    "neurons={'relu1': 48}": (ValueError, "'relu1' has no neuron 48"),
    "neurons=[0.5]": (TypeError, "whole numbers"),
    "neurons=torch.tensor([0, 1, 1], dtype=torch.uint8)": (TypeError, "numbers or a mask.*bool"),
    "neurons='some'": (TypeError, "whole numbers"),
    "neurons=[True, False]": (ValueError, "mask .* needs 12"),
    "neurons=[1], layers=['relu1', 'relu2']": (ValueError, "give each its neurons"),
    "neurons={'relu1': 1}, layers='relu1'": (ValueError, "leave layers= out"),
    "component=3": (ValueError, "component 3; this fit has 3, from 0 up"),
    "": (ValueError, "component= or neurons="),
    "component=1, neurons=[1]": (ValueError, "component= or neurons="),
    "component=1, layers='relu3'": (ValueError, "not in the fit .*'relu2'.* name one"),
    "component=1, layers='conv'": (ValueError, "'conv' is not in the fit.* factorize it"),
    "component=1, layers='input'": (ValueError, "'input' is a block .* no layer"),
    "component=1, strength=-1": (ValueError, "strength is -1"),
    "component=1, strength=math.nan": (ValueError, "strength is nan"),
    "component=1, labels=[1, 2]": (ValueError, "30 images, and labels"),
}


@pytest.mark.parametrize("given", BAD)
def test_what_cannot_be_is_refused_by_name(model, fit, given):
    kind, words = BAD[given]
    with pytest.raises(kind, match=words):
        pk.intervene(model, fit, IMAGES, **eval(f"dict({given})"))


def test_other_images_and_other_models_are_refused(model, fit):
    with pytest.raises(ValueError, match="9 images, and the fit is of 30; give those"):
        pk.intervene(model, fit, IMAGES[:9], component=0)
    with pytest.raises(ValueError, match="error in layer 'relu2' .* in their order"):
        pk.intervene(model, fit, IMAGES.flip(0), component=0)
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    with pytest.raises(ValueError, match="no block of the fit is a layer"):
        pk.intervene(other, fit, IMAGES, component=0)
    with pytest.raises(ValueError, match="'relu2' of the model has 128 neurons, the fit's 12"):
        pk.intervene(pk.models.MLP(4, size=6), fit, IMAGES, component=0)
    with pytest.raises(TypeError, match=r"sweep\[rank, seed\]"):
        pk.intervene(model, fit.factors, IMAGES, component=0)


def test_votes_are_exact_and_add_up(model, fit):
    found = pk.votes(model, fit, IMAGES)
    torch.testing.assert_close(found.votes, model.fc.weight @ fit.factors["relu2"])
    torch.testing.assert_close(found.bias, model.fc.bias)
    torch.testing.assert_close(found.logits, rest(model, "relu2", fit.reconstruct("relu2")))
    said = found.of(4)
    assert said.index.tolist() == [0, 1, 2, "left out", "bias"]
    assert said.sum().tolist() == pytest.approx(found.own_logits[4].tolist(), abs=1e-5)
    A = pk.record(model, IMAGES)["relu2"]
    left_out = model.fc.weight @ (A - fit.reconstruct("relu2"))[:, 4]
    assert said.loc["left out"].tolist() == pytest.approx(left_out.tolist(), abs=1e-5)
    assert found.kept == (found.answers == found.own_answers).float().mean()


def test_silencing_a_component_takes_its_votes_away(model):
    """Where every neuron has at least the component's part, nothing is cut off at zero."""
    linear = nn.Sequential(nn.ReLU(), nn.Linear(5, 3)).requires_grad_(False)
    F, O = torch.rand(20, 2), torch.rand(5, 2)
    images = F @ O.T
    fit = pk.coupled_nmf(pk.record(linear, images), 2, max_iter=2_000, tol=1e-9)
    votes = pk.votes(linear, fit, images)
    found = pk.intervene(linear, fit, images, component=1, strength=0.25)
    expected = 0.75 * torch.outer(fit.image_factor[:, 1], votes.votes[:, 1])
    torch.testing.assert_close(found.own_logits - found.logits, expected, rtol=1e-2, atol=1e-3)


def test_votes_where_logits_are_not_linear_are_refused(model, fit):
    with pytest.raises(ValueError, match="not linear in layer 'relu1'.*factorize"):
        pk.votes(model, fit, IMAGES, layer="relu1")


class Around(Net):
    """It also lets the pixels through, past all layers."""

    def __init__(self, gate=False):
        super().__init__()
        self.gate = gate

    def forward(self, x):
        given = x.flatten(1).mean(1, keepdim=True)
        logits = super().forward(x)
        return logits * (1 + given) if self.gate else logits + 0.1 * given


@pytest.mark.parametrize("gate", [False, True])
def test_votes_are_refused_where_something_leads_around_the_layer(gate):
    around = Around(gate).requires_grad_(False)
    around.fc.bias.zero_()
    fit = pk.coupled_nmf(pk.record(around, IMAGES), 2, max_iter=5)
    with pytest.raises(ValueError, match="on layer 'relu2' alone.*leads around it"):
        pk.votes(around, fit, IMAGES)


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_votes_are_for_logits_and_not_for_probabilities(last):
    shy = Net().requires_grad_(False)
    shy.fc.weight *= 1e-3
    shy.append(last)
    fit = pk.coupled_nmf(pk.record(shy, IMAGES), 2, max_iter=5)
    with pytest.raises(ValueError, match="ends in a .*softmax.* give it without"):
        pk.votes(shy, fit, IMAGES)


def test_votes_of_a_network_in_bfloat16_are_as_exact_as_that_is(model):
    half = Net().requires_grad_(False).bfloat16()
    fit = pk.coupled_nmf(pk.record(half, IMAGES), 3, max_iter=20)
    found = pk.votes(half, fit, IMAGES)
    expected = half.fc.weight.float() @ fit.factors["relu2"]
    torch.testing.assert_close(found.votes.float(), expected, rtol=0.05, atol=0.05)


def test_votes_that_are_no_numbers_are_refused():
    class Broken(Net):
        def forward(self, x):
            logits = super().forward(x)
            return logits * torch.nan if len(x) == 10 else logits  # silence, a component, 8 mixes

    broken = Broken().requires_grad_(False)
    fit = pk.coupled_nmf(pk.record(broken, IMAGES), 1, max_iter=5)
    with pytest.raises(ValueError, match="not linear in layer"):
        pk.votes(broken, fit, IMAGES)


def test_why_takes_images_as_votes_does_and_needs_two_classes(model, fit):
    votes = pk.votes(model, fit, list(IMAGES))
    assert (
        votes.why(2, list(IMAGES)).axes[-1].get_title() == votes.why(2, IMAGES).axes[-1].get_title()
    )
    with pytest.raises(ValueError, match="9 images, and the votes are of 30"):
        votes.why(2, IMAGES[:9])
    alone = pk.Votes("relu2", fit, votes.votes[:1], votes.bias[:1], votes.own_logits[:, :1])
    with pytest.raises(ValueError, match=r"one output.*of\(2\)"):
        alone.why(2, IMAGES)


def test_why_names_the_parts_of_a_lead(model, fit):
    votes = pk.votes(model, fit, IMAGES)
    figure = votes.why(2, IMAGES, most=2)
    top = votes.own_logits[2].topk(2)
    lead = float(top.values[0] - top.values[1])
    assert f"{lead:.3g}" in figure.axes[-1].get_title()
    assert len(figure.axes) == 4  # the image, two components, the bars
    assert sum(bar.get_width() for bar in figure.axes[-1].patches) == pytest.approx(lead, abs=1e-4)
    answer = int(top.indices[0])
    with pytest.raises(IndexError, match=f"the answer is {answer}"):
        votes.why(2, IMAGES, against=answer)
    with pytest.raises(IndexError, match="fit is of 30"):
        votes.of(30)


def test_the_shortcut_of_the_study_gives_what_intervene_gives():
    data = pk.load_dataset("digits")
    images, labels = data.test.images[:50], data.test.labels[:50]
    few = pk.Dataset("few", pk.Split(images, labels), pk.Split(images, labels), (), "made up")
    one = mnist.case(few, "untrained", 0)
    fit = pk.coupled_nmf(one.blocks, 2, max_iter=3)
    for layer, count in (("relu1", 1440), ("relu2", 320)):
        chosen = torch.arange(count) % 3 == 0
        short = switched.silence(one, layer, chosen)
        long = pk.intervene(one.model, fit, images, neurons={layer: chosen})
        torch.testing.assert_close(short.logits, long.logits)
        assert short.kept == long.kept and short.moved == pytest.approx(long.moved, rel=1e-3)


def test_a_page_has_each_row_of_the_table_from_the_function_that_made_it(monkeypatch):
    data = pk.load_dataset("digits")
    few = pk.Split(data.test.images[:40], data.test.labels[:40])
    one = mnist.case(pk.Dataset("few", few, few, (), "made up"), "untrained", 0)
    fit = pk.coupled_nmf(one.blocks, 3, max_iter=3)
    monkeypatch.setattr(mnist.Case, "fit", lambda self, rank: fit)
    first_of = switched.few
    monkeypatch.setattr(switched, "few", lambda one: first_of(one, 25))
    rows = list(switched.silenced_in(one))
    first = next(switched.silenced_by(one, "relu2", "lower half"))
    assert [row for row in rows if row == first] == [rows[15]]
    short = one.blocks["relu2"][:, :25]
    silent = switched.lower_half(fit.factors["relu2"])
    logits = switched.answers_from(one.model, "relu2", short * ~silent[:, None])
    own = switched.answers_from(one.model, "relu2", short)
    assert first["moved"] == pytest.approx(pk.Intervention("", logits, own).moved)


def test_controls_with_too_few_neurons_are_no_controls():
    others, active = "least active others", "others as active in all"
    rows = []
    for seed, (left, few) in enumerate([(7, 9), (6, 4)]):
        for layer, of_others, of_active in (("a", left, few), ("b", 7, 5)):
            for control, neurons in (("by loadings", 7), (others, of_others), (active, of_active)):
                rows.append(("x", seed, layer, "half", control, neurons))
    names = ["setting", "seed", "layer", "base", "control", "neurons"]
    found = switched.compared(pd.DataFrame(rows, columns=names))
    assert set(found[found.layer == "a"].control) == {"by loadings"}
    assert len(found[found.layer == "b"]) == 6


def test_controls_are_as_many_or_as_active():
    activity = torch.rand(200, generator=torch.Generator().manual_seed(0))
    chosen = activity < 0.3
    sets = dict(switched.controls(activity, chosen, seed=1))
    count = int(chosen.sum())
    for name in ("random", "least active", "least active others"):
        assert {int(one.sum()) for one in sets[name]} == {count}
    assert torch.equal(sets["least active"][0], chosen)
    others = [*sets["least active others"], *sets["others as active in all"]]
    assert not any((one & chosen).any() for one in others)
    for one in sets["others as active in all"]:
        assert float(activity[one].sum()) == pytest.approx(float(activity[chosen].sum()), rel=0.05)
    assert len({tuple(one.tolist()) for one in sets["random"]}) == switched.DRAWS


def test_a_part_of_a_joint_fit_is_a_fit_of_that_network(model, fit):
    joint = pk.coupled_nmf(
        {"input": torch.rand(4, 6), "relu1 of a": torch.rand(3, 6), "relu1 of b": torch.rand(3, 6)},
        2,
        max_iter=2,
    )
    found = switched.part(joint, "b")
    assert list(found.factors) == list(found.block_errors) == ["input", "relu1"]
    assert torch.equal(found.factors["relu1"], joint.factors["relu1 of b"])
