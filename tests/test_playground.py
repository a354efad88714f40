"""A page to draw on: what runs in the browser is what PyTorch computes, and hands of all kinds reach it."""

import json
import re

import chromium
import pytest
import torch
from torch import nn
from torch.nn import functional

import peeklib as pk
from peeklib import steps
from peeklib.playground import _Arrays
from peeklib.study import page as report

SIZE = 12
PAYLOADS = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x='",
    "$title ${data} \\(x\\)",
    "\u202e\0long " * 40,
]
SEE = """([images, choice]) => JSON.stringify(JSON.parse(images).map(pixels => {
    const found = document.querySelector(".peek-play").playground.see(Float32Array.from(pixels), choice);
    const lists = arrays => arrays.map(array => [...array]);
    return {...found, code: [...found.code], layers: lists(found.layers), predicted: lists(found.predicted)};
}))"""


def every_kind():
    """A network with all kinds of steps and all their options, and negative numbers to cut."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, (3, 2), stride=(1, 2), padding=(1, 2), bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(6 * 8 * 6, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
        nn.LogSoftmax(dim=1),
    )
    norm = model[1]
    norm.running_mean.uniform_(-0.5, 0.5)
    norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 2)
    return model.eval()


class Functional(nn.Module):
    """The network of PyTorch's own examples: functions in place of modules."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.fc = nn.Linear(75, 4)

    def forward(self, x):
        x = functional.relu(functional.max_pool2d(self.conv(x), 2))
        x = functional.dropout(x, training=self.training)
        return functional.log_softmax(self.fc(x.view(x.size(0), -1)), dim=1)


def pictures(count=24, channels=1):
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(count, channels, SIZE, SIZE, generator=draw)
    return (images.pow(4) * 255).to(torch.uint8)


def fitted(model, images, rank=4, **options):
    blocks = pk.input_blocks(images) | pk.record(model, images, **options)
    return pk.coupled_nmf(blocks, rank, max_iter=30), blocks


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def browser():
    if chromium.MISSING:
        pytest.skip("; ".join(chromium.MISSING))
    with chromium.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    """opened(playground) is its page; nothing may have failed on it, or left it."""
    contexts, wrong = [], []

    def open_page(playground, **options):
        path = playground if isinstance(playground, str) else playground.save(tmp_path / "p.html")
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        wrong.append(chromium.watched(page, ("file:",)))
        page.goto(f"file://{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not sum(wrong, []), sum(wrong, [])


@pytest.fixture(scope="module")
def small():
    """A network, its fit, images, and the playground of them."""
    torch.manual_seed(0)
    model, images = every_kind(), pictures()
    fit, blocks = fitted(model, images)
    return model, fit, images, blocks, pk.Playground(model, fit, images, classes=["a", "b", "c"])


def seen(page, images, **choice):
    """What the page makes of each image; as text, which is faster than Playwright's own way."""
    pixels = pk.to_float(images).flatten(1).tolist()
    return json.loads(page.evaluate(SEE, [json.dumps(pixels), choice]))


def near(found, expected):
    return (torch.tensor(found) - expected).abs().max() < 1e-3


def test_the_page_computes_what_pytorch_does(opened, small):
    model, fit, images, blocks, playground = small
    page = opened(playground)
    given = pk.to_float(images)
    found = seen(page, images)
    code = fit.transform(blocks, max_iter=3000, tol=1e-8)
    for k, (name, block) in enumerate(blocks.items()):
        assert near([one["layers"][k] for one in found], block.T), name
        assert near([one["predicted"][k] for one in found], code @ fit.factors[name].T), name
    assert near([one["code"] for one in found], code)
    assert near([one["probabilities"] for one in found], model(given).exp())
    last = list(fit.factors)[-1]
    answer = model[-2:](code @ fit.factors[last].T).exp()
    assert near([one["answer"] for one in found], answer)
    by_pixels = seen(page, images, byPixels=True)
    alone = fit.transform({"input": blocks["input"]}, max_iter=3000, tol=1e-8)
    assert near([one["code"] for one in by_pixels], alone)


def test_a_normalization_and_several_channels_go_along(opened):
    def normalize(x):
        return (x - 0.3) / torch.tensor([0.5, 0.25, 2.0])[:, None, None]

    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 3))
    images = pictures(12, channels=3)
    fit, blocks = fitted(model, images, preprocess=normalize)
    page = opened(pk.Playground(model, fit, images, preprocess=normalize))
    found = seen(page, images)
    for k, block in enumerate(blocks.values()):
        assert near([one["layers"][k] for one in found], block.T)
    expected = model(normalize(pk.to_float(images))).softmax(1)
    assert near([one["probabilities"] for one in found], expected)


@pytest.mark.parametrize("size", [1, 1e-5])
def test_functions_are_steps_too(size):
    model, images = Functional().eval(), pictures()
    nn.init.uniform_(model.conv.weight, -size, size)  # small activations are told apart too
    nn.init.zeros_(model.conv.bias)
    fit, _ = fitted(model, images)
    chain, found = steps.layers(model, pk.to_float(images), list(fit.factors)[1:])
    assert [step.op for step in chain] == ["conv", "max", "relu", "linear"]
    assert list(found.values()) == [2]


def test_weights_of_a_fit_and_what_it_clipped_go_along(opened):
    """The layer has values below zero, which the fit never saw."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 3))
    images = pictures()
    blocks = pk.input_blocks(images) | pk.record(model, images, ["0"], negative="clip")
    assert pk.record(model, images, ["0"], negative="keep")["0"].min() < -0.1
    fit = pk.coupled_nmf(blocks, 3, weights={"input": 1, "0": 100}, max_iter=30)
    page = opened(pk.Playground(model, fit, images))
    found = seen(page, images[:5])
    assert near([one["layers"][1] for one in found], blocks["0"].T[:5])
    some = {name: block[:, :5] for name, block in blocks.items()}
    assert near([one["code"] for one in found], fit.transform(some, max_iter=3000, tol=1e-8))
    rounds = """() => {
        const {restart, round, learn} = document.querySelector(".peek-play").playground;
        restart();
        for (let k = 0; k < 3; k++) round(learn.X, learn.found.mu, "mu");
        return learn.found.mu.W.reduce((a, b) => Math.min(a, b));
    }"""
    assert page.evaluate(rounds) >= 0


def test_the_papers_network_makes_a_small_page_that_computes_what_pytorch_does(opened):
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(300, 1, 28, 28, generator=draw).pow(4)
    models = {f"seed {seed}": pk.models.PaperCNN(seed=seed) for seed in range(3)}
    blocks = pk.input_blocks(images[:40])
    for name, model in models.items():
        for layer, block in pk.record(model, images[:40]).items():
            blocks[f"{name}: {layer}"] = block
    playground = pk.Playground(models, pk.rank_sweep(blocks, [10, 30], max_iter=3), images)
    assert len(playground.images) == 300
    assert len(playground.html()) < 3e6
    page = opened(playground)
    given = playground.images[:3]
    expected = pk.record(models["seed 2"], given)
    found = seen(page, given, network=2)
    for k, block in enumerate(expected.values(), start=1):
        assert near([one["layers"][k] for one in found], block.T)
    answer = models["seed 2"](pk.to_float(given)).softmax(1)
    assert near([one["probabilities"] for one in found], answer)


def with_norm():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(200, 3)
    )
    model[1].running_mean.uniform_(-0.5, 0.5)
    model[1].running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="module")
def several():
    """Networks with norms of their own, names that begin alike, and images with classes."""
    torch.manual_seed(0)
    images = pictures()
    models = {name: with_norm() for name in ("net", "net.b", "other")}
    blocks = pk.input_blocks(images)
    for name, model in models.items():
        blocks[f"{name}: 2"] = pk.record(model, images, ["2"])["2"]
    fit = pk.coupled_nmf(blocks, 3, max_iter=10)
    labels = [2] * 6 + [0] * 8 + [1] * 10
    return models, images, pk.Playground(models, fit, images, labels=labels, classes="abc")


def test_a_matrix_that_is_gone_lends_its_place_to_no_other():
    arrays = _Arrays()
    places = [arrays.keep(torch.ones(1, 1), torch.full((1,), k), "weight") for k in range(20)]
    assert places == list(range(20))
    lasting = torch.ones(1, 1)
    assert arrays.keep(lasting, lasting, "bias") == arrays.keep(lasting, lasting, "bias")


def test_each_of_several_networks_has_its_own_numbers(opened, several):
    models, images, playground = several
    page = opened(playground)
    for k, model in enumerate(models.values()):
        found = seen(page, images[:2], network=k)
        block = pk.record(model, images[:2], ["2"])["2"]
        assert near([one["layers"][1] for one in found], block.T)
        expected = model(pk.to_float(images[:2])).softmax(1)
        assert near([one["probabilities"] for one in found], expected)


def test_found_in_the_page_is_what_coupled_nmf_finds(opened, small):
    _, fit, images, blocks, playground = small
    page = opened(playground)
    run = """() => {
        const {restart, round, learn} = document.querySelector(".peek-play").playground;
        restart();
        const start = Object.values(learn.found).map(({W, F}) => ({W: [...W], F: [...F]}));
        for (const name of Object.keys(learn.found)) {
            for (let k = 0; k < 20; k++) round(learn.X, learn.found[name], name);
        }
        return [start, learn.found.mu.errors, learn.found.hals.errors];
    }"""
    starts, *errors = page.evaluate(run)
    for solver, start, found in zip(("mu", "hals"), starts, errors, strict=True):
        F = torch.tensor(start["F"]).reshape(-1, len(images)).T
        W = torch.tensor(start["W"]).reshape(F.shape[1], -1).T
        size = F.square().mean(0).sqrt()  # as a fit has it: columns of F with root mean square 1
        factors = dict(
            zip(blocks, (W * size).split([len(b) for b in blocks.values()]), strict=True)
        )
        given = pk.coupled_nmf(blocks, F.shape[1], max_iter=1)
        init = type(given)(F / size, factors, 0, 0, {}, given.history, False, 0)
        ours = pk.coupled_nmf(blocks, F.shape[1], solver=solver, init=init, max_iter=20, tol=0)
        assert abs(found[-1] - ours.relative_error) < 1e-3, solver
        assert all(b <= a + 1e-6 for a, b in zip(found, found[1:], strict=False)), solver
    assert errors[1][-1] < errors[0][-1]


def test_mouse_touch_and_keys_draw_the_same_kind_of_thing(opened, small):
    page = opened(small[-1], has_touch=True, viewport={"width": 390, "height": 844})
    ink = "document.querySelector('.peek-play').playground.state.pixels.reduce((a, b) => a + b)"
    pad = page.locator(".peek-pad")
    box = pad.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".peek-clear").click()
    assert page.evaluate(ink) == 0
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0], box["y"] + 5, steps=4)
    page.mouse.up()
    assert page.evaluate(ink) > 1
    page.locator(".peek-undo").click()
    assert page.evaluate(ink) == 0
    page.touchscreen.tap(*middle)
    assert page.evaluate(ink) > 1
    page.locator(".peek-clear").click()
    pad.focus()
    for key in ("Space", "ArrowDown", "ArrowDown", "ArrowRight", "Space"):
        page.keyboard.press(key)
    drawn = page.evaluate(ink)
    assert drawn > 1
    page.keyboard.press("ArrowUp")  # the pen is up
    assert page.evaluate(ink) == drawn
    page.keyboard.press("Backspace")
    assert page.evaluate(ink) == 0
    page.keyboard.press("Tab")  # out of the pad: no trap
    assert page.evaluate("document.activeElement.className") != "peek-pad"


def test_what_takes_the_place_of_a_drawing_ends_its_strokes(opened, several):
    """Nothing goes wrong on the page, which `opened` sees to, and no stroke goes on."""
    page = opened(several[-1])
    strokes = "document.querySelector('.peek-play').playground.state.strokes.length"
    pad, picks = page.locator(".peek-pad"), page.locator(".peek-pick")
    named = [picks.nth(k).get_attribute("aria-label") for k in range(3)]
    assert named == ["image of a", "image of b", "image of c"]  # image 0 is of class c
    pad.press("Space")  # the pen is down
    picks.first.click()
    pad.press("ArrowDown")
    assert page.evaluate(strokes) == 0
    box = pad.bounding_box()
    ends = [
        lambda: pad.press("Delete"),
        lambda: pad.press("Backspace"),
        lambda: picks.first.press("Enter"),
        lambda: page.locator(".peek-clear").press("Enter"),
    ]
    for end in ends:
        page.mouse.move(box["x"] + 50, box["y"] + 50)
        page.mouse.down()
        assert page.evaluate(strokes) == 1
        end()
        page.mouse.move(box["x"] + 90, box["y"] + 90, steps=2)
        page.mouse.up()
        assert page.evaluate(strokes) == 0


def test_a_drawing_is_scaled_and_centred_as_the_images_are(opened, small):
    page = opened(small[-1])
    found = page.evaluate("""() => {
        const {drawn, data} = document.querySelector(".peek-play").playground;
        return [[...drawn([[0, 0, 0, 3]])], [...drawn([[9, 2, 9, 5]])], data.pen];
    }""")
    corner, other, pen = found
    assert torch.allclose(torch.tensor(corner), torch.tensor(other), atol=1e-5)
    ink = torch.tensor(corner).reshape(SIZE, SIZE)
    places = torch.arange(SIZE) * 1.0
    assert abs((ink.sum(0) @ places / ink.sum()).item() - pen["at"][0]) < 0.2
    assert abs((ink.sum(1) @ places / ink.sum()).item() - pen["at"][1]) < 0.2


def test_a_component_set_to_zero_leaves_the_prediction(opened, small):
    page = opened(small[-1])
    state = "document.querySelector('.peek-play').playground.state"
    page.wait_for_function(f"() => {state}.seen")
    largest = page.evaluate(f"{state}.found.indexOf(Math.max(...{state}.found))")
    before = page.evaluate(f"{state}.seen.errors[0]")
    page.locator(".peek-off").nth(largest).click()
    page.wait_for_function(f"() => {state}.seen.code[{largest}] === 0")
    assert page.evaluate(f"{state}.seen.errors[0]") > before
    assert page.locator(".peek-off").nth(largest).get_attribute("aria-pressed") == "true"
    page.locator(".peek-slider").nth(largest).press("End")
    page.wait_for_function(f"() => {state}.seen.code[{largest}] === 8")
    page.locator(".peek-again").click()
    page.wait_for_function(f"() => Math.abs({state}.seen.errors[0] - {before}) < 1e-6")


def test_one_image_factor_over_networks_is_one_picture_of_each_component(opened):
    images = pictures()
    models = {"one": every_kind(), "two": Functional().eval()}
    blocks = pk.input_blocks(images)
    for name, model in models.items():
        for layer, block in pk.record(model, images).items():
            blocks[f"{name}: {layer}"] = block
    sweep = pk.rank_sweep(blocks, [2, 3], max_iter=5)
    with pytest.raises(TypeError, match="outputs"):
        pk.Playground(models, sweep, images)  # 3 classes and 4
    models["two"].fc = nn.Linear(75, 3)
    playground = pk.Playground(models, sweep, images, start="two")
    page = opened(playground)
    page.wait_for_selector(".peek-live:not([hidden])")
    assert page.locator(".peek-layer b").all_inner_texts()[0] == "image"
    assert page.locator(".peek-layer").count() == 2
    looks = "document.querySelector('.peek-off canvas').toDataURL()"
    before = page.evaluate(looks)
    page.locator(".peek-network").select_option("0")
    assert page.locator(".peek-layer").count() == 4
    assert page.evaluate(looks) == before
    page.locator(".peek-rank").select_option("0")
    assert page.locator(".peek-card").count() == 2


def test_without_scripts_there_is_a_picture_and_a_sentence(opened, small):
    page = opened(small[-1], java_script_enabled=False)
    assert page.locator(".peek-still img").is_visible()
    assert "stands still" in page.locator(".peek-still p").inner_text()
    assert not page.locator(".peek-live").is_visible()


def test_two_on_a_page_of_a_report_do_not_clash(opened, small, tmp_path):
    figure = small[-1].to_html()
    path = tmp_path / "two.html"
    path.write_text(f"<!doctype html>{report.POLICY}<body>{figure}{figure}", encoding="utf-8")
    page = opened(str(path))
    page.locator(".peek-live >> visible=true").nth(1).wait_for()
    page.locator(".peek-clear").nth(1).click()
    sums = """[...document.querySelectorAll(".peek-play")].map(
        figure => figure.playground.state.pixels.reduce((a, b) => a + b))"""
    first, second = page.evaluate(sums)
    assert first > 0 and second == 0


def test_what_is_said_aloud_follows_the_drawing(opened, small):
    page = opened(small[-1])
    told = page.locator(".peek-told")
    assert told.get_attribute("aria-live") == "polite"
    page.wait_for_function("() => document.querySelector('.peek-told').textContent")
    assert re.match(r"The network answers [abc] \(\d+ %\)", told.inner_text())


def test_names_are_text(opened, small):
    model, fit, images, *_ = small
    for names in (PAYLOADS[:3], PAYLOADS[3:]):
        playground = pk.Playground(model, fit, images, classes=names, title=names[0])
        assert playground.to_html().count("<script") == 2
    models = {names[1]: model, names[2]: model}
    page = opened(pk.Playground(models, dict.fromkeys(models, fit), images, classes=names))
    page.wait_for_selector(".peek-live:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.fc = nn.Linear(SIZE * SIZE, 3)

    def forward(self, x):
        return self.fc(functional.relu(self.conv(x) + x).flatten(1))


class Choosy(Residual):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Dropping(Residual):
    def forward(self, x):
        return self.fc(functional.dropout(functional.relu(self.conv(x)), 0.5).flatten(1))


def with_layer(layer):
    return nn.Sequential(nn.ReLU(), layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize(
    "model, said",
    [
        (with_layer(nn.GELU()), r"module '1' \(GELU\).*convolutions"),
        (with_layer(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), r"'1'.*'circular'"),
        (with_layer(nn.AvgPool2d(2, ceil_mode=True)), r"'1'.*ceil_mode"),
        (with_layer(nn.AdaptiveAvgPool2d(5)), r"'1'.*5×5 of 12×12"),
        (with_layer(nn.BatchNorm2d(1, track_running_stats=False)), r"'1'.*running mean"),
        (with_layer(nn.Softmax(dim=1)), r"'1' \(Softmax\) is not the last step.*at the end"),
        (Dropping(), r"dropout\(\) in Dropping drops in eval mode.*training=self\.training"),
        (Residual(), r"add.*Residual.*one after another"),
        (Choosy(), r"Choosy cannot be followed.*nn\.Sequential"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), r"one row of classes"),
    ],
)
def test_other_networks_are_refused_by_the_name_of_what_they_do(model, said):
    images = pictures()
    model(pk.to_float(images[:1]))
    fit, _ = fitted(model.eval(), images)
    with pytest.raises(TypeError, match=said):
        pk.Playground(model, fit, images)


def test_fits_of_something_else_are_refused(small):
    model, fit, images, blocks, _ = small
    with pytest.raises(ValueError, match=r"'input' was fitted with 144 pixels.*100"):
        pk.Playground(model, fit, images[:, :, 2:, 2:])
    hidden = pk.coupled_nmf({"2": blocks["2"]}, 2)
    with pytest.raises(ValueError, match=r"no block 'input'.*input_blocks"):
        pk.Playground(model, hidden, images)
    pixels = pk.coupled_nmf({"input": blocks["input"]}, 2)
    with pytest.raises(ValueError, match=r"no layer.*record"):
        pk.Playground(model, pixels, images)
    with pytest.raises(ValueError, match=r"layer '2'"):
        pk.Playground(Functional().eval(), fit, images)
    with pytest.raises(ValueError, match=r"normalization"):
        pk.Playground(model, fit, images, preprocess=lambda x: x.flip(3))
    with pytest.raises(TypeError, match=r"coupled_nmf or rank_sweep"):
        pk.Playground(model, 3, images)
    with pytest.raises(ValueError, match=r"start is 'x'"):
        pk.Playground(model, fit, images, start="x")
    with pytest.raises(ValueError, match=r"2 names.*3 outputs"):
        pk.Playground(model, fit, images, classes="ab")


def test_fits_of_other_networks_are_refused(several):
    models, images, _ = several
    net, other = models["net"], models["other"]
    fit, _ = fitted(net, images)
    with pytest.raises(ValueError, match=r"no layer of network 'net'.*<network>: <layer>"):
        pk.Playground({"net": net, "other": other}, fit, images)
    with pytest.raises(ValueError, match=r"error in '2' is 0\.\d+, and .* in network 'other'"):
        pk.Playground({"net": net, "other": other}, {"net": fit, "other": fit}, images)
    with pytest.raises(ValueError, match=r"these images in this network.*preprocess"):
        pk.Playground(net, fit, images, preprocess=lambda x: 1 - x)
    new = torch.rand(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(2)).pow(4)
    pk.Playground(net, fitted(net, images, rank=20)[0], new)  # other images are welcome


def test_the_model_is_left_as_it_was(small):
    _, fit, images, *_ = small
    model = every_kind().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pk.Playground(model, fit, images)
    assert model.training and model[1].training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_network_that_died_has_a_page_too(opened):
    model, images = every_kind(), pictures()
    nn.init.zeros_(model[3].weight)
    nn.init.constant_(model[3].bias, -1)
    fit, _ = fitted(model, images)
    page = opened(pk.Playground(model, fit, images))
    page.locator(".peek-clear").click()  # and so has an image of nothing
    page.wait_for_function("() => document.querySelector('.peek-told').textContent")
    assert "NaN" not in page.locator("body").inner_text()
