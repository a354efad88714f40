"""Networks beside each other: what stays whole when one fails, and what the warnings are about."""

import gc
import random
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import peeklib as pk
from peeklib.study import compare as home
from peeklib.study.compare import TRUSTED, find_uneven
from peeklib.study.scores import SCORES


def network(scale=5.0, classes=4):
    """Answers with the brightest pixel, the more certain the larger the scale."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, classes, bias=False), nn.ReLU())
    model[1].weight.data.copy_(scale * torch.eye(classes, 4))
    return model


pytestmark = pytest.mark.usefixtures("rough_fits")


@pytest.fixture(autouse=True)
def few_scores(request, monkeypatch):
    """Where nobody asks for `found`, which has all."""
    if "found" in request.fixturenames:
        return
    kept = (*TRUSTED, "rmse_area")
    few = {k: v for k, v in SCORES.items() if v.family != "factorization" or k in kept}
    for module in (home, pk.scores):
        monkeypatch.setattr(module, "SCORES", few)


@pytest.fixture(scope="module")
def images():
    """Fifteen of each of four kinds, each a little different."""
    noise = 0.2 * torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    return (0.8 * torch.eye(4).repeat(15, 1) + noise).reshape(60, 1, 2, 2)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def scored(models, images, **options):
    return pk.compare(models, images, progress=False, **options)


@pytest.fixture(scope="module")
def found(images):
    return scored({"weak": network(1), "strong": network(9), 3: network(4)}, images)


def test_a_row_for_each_network_in_the_order_given(found, images):
    assert found.table.index.tolist() == ["weak", "strong", 3]
    assert found.table.columns.tolist()[:3] == list(TRUSTED)
    assert set(found.table) == {*SCORES, "why"}
    alone = pk.scores.table(network(1), images).set_index("score").value
    for name, value in found.table.loc["weak"].drop("why").items():
        assert value == pytest.approx(alone[name], nan_ok=True), name


def test_places_follow_the_direction_of_each_score(found):
    for name in ("nuclear_norm", "confidence", "prediction_entropy"):  # the last: smaller is better
        assert found.places[name].tolist() == [3, 1, 2]
    same = pk.Comparison(found.table.loc[["weak", "weak"]], [])
    assert same.places.nuclear_norm.tolist() == [1, 1]


def test_pairs_and_functions_are_taken_one_at_a_time(images):
    alive = []

    def load(scale):
        alive.append(scale)
        return network(scale)

    def checkpoints():
        for epoch in range(3):
            assert alive == list(range(1, epoch + 1))  # the one before is scored by now
            yield f"epoch {epoch}", lambda scale=epoch + 1: load(scale)

    found = scored(checkpoints(), images)
    assert found.table.index.tolist() == ["epoch 0", "epoch 1", "epoch 2"]
    assert found.table.confidence.is_monotonic_increasing


@pytest.mark.parametrize("whole", [nn.Linear(3, 4), lambda: torch.load("nowhere.pt")])
def test_a_network_without_scores_costs_no_other(images, whole):
    models = {"good": network(), "bad": whole, "too": network(2)}
    with pytest.warns(UserWarning, match="'bad' has no scores"):
        found = scored(models, images)
    assert found.table.index.tolist() == list(models)
    row = found.table.loc["bad"]
    assert row.drop("why").isna().all() and "Error: " in row.why
    assert found.places.nuclear_norm.tolist()[::2] == [1, 2]
    assert row.why[:20] in found._repr_html_()


def test_a_score_that_cannot_be_computed_is_named(images):
    """The layers are too small for WeightWatcher."""
    found = scored({"one": network()}, images)
    assert "alpha: " in found.table.why["one"] and np.isnan(found.table.alpha["one"])


def test_each_may_have_its_own_preprocessing_and_layers(images):
    double = {"one": None, "two": lambda x: 2 * x}
    found = scored({"one": network(2), "two": network(1)}, images, preprocess=double)
    assert found.table.confidence["one"] == pytest.approx(found.table.confidence["two"])
    last = scored(
        {"one": network(2), "two": network(2)}, images, layers={"one": ["1"], "two": ["2"]}
    )
    assert last.table.rmse_area["one"] == pytest.approx(last.table.rmse_area["two"])


def test_what_is_missing_for_one_network_is_said(images):
    with pytest.warns(UserWarning, match=r"nothing for 'two' among \['one'\]"):
        scored({"one": network(), "two": network()}, images, preprocess={"one": None})


def test_one_name_is_one_layer(images):
    networks = {"one": network(2), "two": lambda: network(2)}
    one, same = (
        scored(networks, images, layers=layers) for layers in ("2", {"one": "2", "two": ["2"]})
    )
    assert one.table.equals(same.table) and one.table.rmse_area.notna().all()
    with pytest.raises(ValueError, match="no layers were named"):
        scored(networks, images, layers=[])


def test_exported_programs_are_networks(images):
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network(2), (images,), dynamic_shapes=shapes)
    found = scored({"given": program, "made": lambda: program, "plain": network(2)}, images)
    for name in ("given", "made"):
        assert found.table.confidence[name] == pytest.approx(found.table.confidence["plain"])
    wrapped = scored({"a": nn.DataParallel(network(2))}, images)
    assert wrapped.table.nuclear_norm["a"] == pytest.approx(found.table.nuclear_norm["plain"])


def test_memory_is_that_of_the_table(images, monkeypatch):
    asked = []
    real = home.observe
    monkeypatch.setattr(home, "observe", lambda *a, **k: asked.append(k["memory"]) or real(*a, **k))
    scored({"one": network()}, images, memory=0.01)
    pk.Checkpoints(images, memory=0.02)("one", network())
    assert asked == [0.01, 0.02]


@pytest.mark.parametrize(
    "wrong",
    [
        {"preprocess": lambda x: x.nothing},
        {"preprocess": {}},
        {"layers": "nowhere"},
        {"memory": 0},
    ],
)
@pytest.mark.usefixtures("quiet")
def test_a_mistake_that_all_networks_share_is_raised(wrong, images):
    with pytest.raises((ValueError, AttributeError)) as raised:
        scored({"one": network(), "two": network()}, images, **wrong)
    assert "None of the networks could be scored" in raised.value.__notes__[-1]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (torch.rand(60, 8, 8, 3), ValueError),
        (torch.rand(0, 1, 2, 2), ValueError),
        (3, TypeError),
    ],
)
def test_images_nobody_can_read_are_refused_at_once(wrong, kind, monkeypatch):
    monkeypatch.setattr(home, "observe", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(kind, match="images"):
        scored({"one": network()}, wrong)
    with pytest.raises(kind, match="images"):
        pk.Checkpoints(wrong)


@pytest.mark.parametrize(
    ("models", "kind", "words"),
    [
        ({"a": network().state_dict()}, TypeError, "'a': .*weights.*load_state_dict"),
        ({"a": network(), "b": "resnet18"}, TypeError, "'b': .* no model but str"),
        ([network()], TypeError, "pairs of a name and a network"),
        (network(), TypeError, "a name"),
        ([("a", network()), ("a", network())], ValueError, "'a' already"),
        ({}, ValueError, "no network"),
        ([], ValueError, "no network"),
    ],
)
def test_what_cannot_be_compared_is_refused(models, kind, words, images):
    with pytest.raises(kind, match=words):
        scored(models, images)


def test_a_dict_is_refused_before_any_network_is_scored(images, monkeypatch):
    monkeypatch.setattr(home, "observe", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(TypeError, match="state_dict"):
        scored({"a": network(), "b": {}}, images)


def test_an_interrupt_comes_through(images):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored({"a": network(), "b": interrupted}, images)


# While a network trains


def test_the_callback_gives_what_compare_gives(found, images):
    watch = pk.Checkpoints(images)
    model = network()
    for name, scale in {"weak": 1, "strong": 9, 3: 4}.items():
        model[1].weight.data.copy_(scale * torch.eye(4))
        watch(name, model)
    assert watch.comparison().table.equals(found.table)
    assert watch.comparison().warnings == found.warnings


def test_training_goes_on_as_if_nobody_had_looked(images):
    def train(watch):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4)
        )
        model.insert(3, nn.BatchNorm1d(4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for epoch in range(2):
            nn.functional.cross_entropy(model(images), torch.arange(60) % 4).backward()
            watch(f"epoch {epoch}", model)
            assert model.training
            optimizer.step()
        return model.state_dict(), random.random(), np.random.rand()  # noqa: NPY002

    random.seed(0), np.random.seed(0)  # noqa: NPY002
    watched, *drawn = train(pk.Checkpoints(images))
    random.seed(0), np.random.seed(0)  # noqa: NPY002
    alone, *same = train(lambda *_: None)
    assert drawn == same and all(torch.equal(watched[name], alone[name]) for name in alone)


def test_the_callback_keeps_no_network(images):
    watch = pk.Checkpoints(images)
    watch("one", network())
    bad = nn.Linear(3, 4)
    gone = weakref.ref(bad)
    with pytest.warns(UserWarning, match="no scores"):
        watch("bad", bad)
    del bad
    gc.collect()
    assert gone() is None
    assert not any(
        isinstance(thing, nn.Module | torch.Tensor) for thing in watch._rows["one"].values()
    )


# What is warned of


def test_few_images_are_told(images):
    with pytest.warns(UserWarning, match="20 images are few"):
        found = scored({"one": network()}, images[:20])
    assert len(found.warnings) == 1 and "few" in found._repr_html_() and "few" in repr(found)


def test_different_numbers_of_outputs_are_told(images):
    with pytest.warns(UserWarning, match="'a' 4, 'b' 3"):
        scored({"a": network(), "b": network(classes=3)}, images)


def test_enough_even_images_raise_no_warning(found):
    assert found.warnings == []


def test_uneven_images_are_told_in_the_result(quiet):
    kinds = torch.tensor([0] * 40 + [1] * 40 + [2] * 3 + [3] * 3)
    noise = 0.1 * torch.rand(86, 4, generator=torch.Generator().manual_seed(0))
    uneven = (0.8 * torch.eye(4)[kinds] + noise).reshape(-1, 1, 2, 2)
    found = scored({"a": network(2), "b": network(7)}, uneven)
    [told] = found.warnings
    assert "class 0 or 1" in told and told[:30] in found._repr_html_()


def drawn(shares, count=300, seed=0):
    random = np.random.default_rng(seed)
    return random.choice(len(shares), count, p=shares)


def errs(truth, share, seed=0, classes=10):
    """Decisions that are right but for a share of the images, which get any class."""
    random = np.random.default_rng(100 + seed)
    wrong = random.random(len(truth)) < share
    return np.where(wrong, random.integers(classes, size=len(truth)), truth)


EVEN, UNEVEN = [0.1] * 10, [0.3, 0.3, *[0.05] * 8]
ALWAYS = np.full(300, 7)


def warned(*decisions, classes=10):
    return bool(find_uneven(np.stack(decisions), classes))


@pytest.mark.parametrize("shares", [EVEN, UNEVEN])
@pytest.mark.parametrize("error", [0.0, 0.2])
def test_networks_that_agree_tell_uneven_images_from_even_ones(shares, error):
    truth = drawn(shares)
    networks = [errs(truth, error, seed) for seed in range(3)]
    assert warned(*networks) == (shares is UNEVEN)
    # neither those that always say the same, however many, nor those that guess change that
    assert warned(*networks, ALWAYS, ALWAYS, ALWAYS * 0) == (shares is UNEVEN)
    assert warned(*networks, errs(truth, 1.0, 7), errs(truth, 1.0, 8)) == (shares is UNEVEN)


def test_one_good_network_among_collapsed_ones_is_heard():
    assert not warned(drawn(EVEN), ALWAYS, ALWAYS)
    assert warned(drawn(UNEVEN), ALWAYS, ALWAYS)


def test_networks_that_always_say_the_same_say_nothing_of_the_images():
    assert not warned(ALWAYS)
    assert not warned(ALWAYS, ALWAYS, np.where(np.arange(300) < 3, 1, ALWAYS))


def test_networks_that_gave_up_classes_are_corrected_by_one_that_did_not():
    truth = drawn(EVEN)
    half = np.where(truth < 5, truth, truth - 5)
    assert not warned(half, half, half, truth, errs(truth, 0.1))
    assert warned(half, half)  # nobody is there to say otherwise


def test_a_network_that_evens_its_answers_out_does_not_hide_uneven_images():
    truth = drawn(UNEVEN)
    without = np.where(truth < 2, drawn([0, 0, *[0.125] * 8], seed=5), truth)
    assert warned(errs(truth, 0.1, 0), errs(truth, 0.1, 1), without)


@pytest.mark.parametrize("count", [5, 20, 60])
def test_chance_alone_raises_no_warning(count):
    """Few images never show all classes equally often; 1,000 classes not even once each."""
    for seed in range(20):
        assert not warned(drawn(EVEN, count, seed))
        assert not warned(drawn([0.001] * 1000, count, seed), classes=1000)


@pytest.mark.parametrize("shares", [[0.75, 0.25], [0.6, 0.2, 0.2], [0.6, *[0.4 / 3] * 3]])
@pytest.mark.parametrize("error", [0.0, 0.1])
def test_a_class_of_few_that_occurs_most_is_told(shares, error):
    classes = len(shares)
    for chances, told in ((shares, True), ([1 / classes] * classes, False)):
        truth = drawn(chances, 500)
        networks = [errs(truth, error, seed, classes) for seed in range(3)]
        assert warned(*networks, classes=classes) == told


def test_some_classes_of_many_are_told():
    few = np.random.default_rng(0).integers(10, size=300)  # ten of a thousand, as in a subset
    assert warned(few, errs(few, 0.1), classes=1000)


# How it looks


def test_the_figure_has_a_panel_for_each_score_and_marks_the_best(found):
    figure = found.figure()
    first, second = figure.axes
    assert [ax.get_xlabel().split("\n")[0] for ax in figure.axes] == list(TRUSTED[:2])
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["weak", "strong", "3"]
    points, best = second.lines[:2]
    assert points.get_xdata().tolist() == found.table.nuclear_norm.tolist()
    assert best.get_ydata().tolist() == [1] and "strong" in figure._suptitle.get_text()


def test_the_title_says_where_scores_disagree(found):
    table = found.table.assign(answers_area=[0.9, 0.1, 0.2])
    title = pk.Comparison(table, []).figure()._suptitle.get_text()
    assert title.splitlines() == [
        "by answers_area weak comes first",
        "by nuclear_norm strong comes first",
    ]


@pytest.mark.usefixtures("quiet")
def test_no_scores_and_many_networks_can_be_shown(found):
    none = pk.Comparison(found.table.assign(answers_area=np.nan, nuclear_norm=np.nan), [])
    assert none.figure()._suptitle.get_text() == "No network could be scored"
    many = pk.Comparison(found.table.loc[["weak"] * 200].set_axis(range(200)), [])
    assert len(many.figure().axes[0].get_yticks()) < 35


def test_names_are_shown_as_they_are(images):
    html = scored({"<b>$x$": network(), "y" * 80: network(2)}, images)._repr_html_()
    assert "&lt;b&gt;$x$" in html and "<b>$x$" not in html
