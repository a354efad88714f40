"""A sketch: what it keeps is bounded, and what is fitted on it serves all images."""

import gc

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import peeklib as pk
from peeklib.sketches import _Draw


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = (random(400, 3) ** 3 @ random(3, 16, seed=1) + random(400, 16, seed=2) / 9)[:, None] / 4
IMAGES = IMAGES.reshape(400, 1, 4, 4).clamp(max=1)


@pytest.fixture
def model():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU())
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    return model


@pytest.fixture
def blocks(model):
    return pk.input_blocks(IMAGES) | pk.record(model, IMAGES)


class OneByOne(IterableDataset):
    def __iter__(self):
        return iter(IMAGES)


class Shrinking(IterableDataset):
    """It gives fewer images each time."""

    count = 90

    def __iter__(self):
        self.count -= 20
        return iter(IMAGES[: self.count + 20])


class Shuffled(IterableDataset):
    """It gives the same images in another order each time, and says of fewer that it has them."""

    times = 0

    def __len__(self):
        return 20

    def __iter__(self):
        self.times += 1
        order = torch.randperm(400, generator=torch.Generator().manual_seed(self.times))
        return iter(IMAGES[order])


class Counted(Dataset):
    """Each image differs, and none is kept."""

    def __len__(self):
        return 200

    def __getitem__(self, k):
        return IMAGES[0] + k / 200


# The draw


def test_columns_are_those_of_the_images_drawn_times_their_scale(model, blocks):
    sketch = pk.sketch(model, IMAGES, sample=60)
    assert list(sketch) == list(blocks) and sketch.count == 400
    assert 50 < len(sketch.numbers) <= 60
    assert torch.equal(torch.as_tensor(sketch.images), IMAGES[sketch.numbers])
    for name, block in blocks.items():
        torch.testing.assert_close(sketch[name] / sketch.scale, block[:, sketch.numbers])
        assert sketch.energy[name] == pytest.approx(block.double().square().sum().item())


def test_all_images_are_kept_as_they_are_where_there_are_no_more(model, blocks):
    sketch = pk.sketch(model, IMAGES, sample=400)
    assert all(torch.equal(sketch[name], block) for name, block in blocks.items())
    assert torch.equal(sketch.scale, torch.ones(400))


@pytest.mark.parametrize(
    "source",
    [
        TensorDataset(IMAGES),
        DataLoader(TensorDataset(IMAGES), batch_size=9, shuffle=True),
        DataLoader(OneByOne(), batch_size=64),
        OneByOne(),
        list(IMAGES),
    ],
)
def test_the_draw_is_the_same_however_images_come(model, source):
    expected = pk.sketch(model, IMAGES, sample=30, seed=3)
    sketch = pk.sketch(model, source, sample=30, seed=3, batch_size=17)
    assert torch.equal(sketch.numbers, expected.numbers)
    torch.testing.assert_close(sketch["4"], expected["4"])


def test_another_seed_draws_others(model):
    one, other = (pk.sketch(model, IMAGES, sample=30, seed=seed).numbers for seed in (0, 1))
    assert one.tolist() != other.tolist()


def test_products_are_on_average_those_of_all_images():
    """Weights that forgot half of the draw, or the size, would miss by far more than 10 %."""
    X = IMAGES[:60].flatten(1).T * torch.linspace(0.1, 3, 60) ** 3
    expected, total = X @ X.T, torch.zeros(16, 16)
    for seed in range(200):
        draw = _Draw(8, seed)
        for batch in X.split(25, dim=1):
            draw.offer(batch.double().square().sum(dim=0).numpy())
        numbers, chance = draw.chosen()
        columns = X[:, numbers] / torch.from_numpy(chance).float().sqrt()
        total += columns @ columns.T / 200
    assert (total - expected).norm() < 0.1 * expected.norm()


def test_a_few_images_with_much_to_explain_are_not_missed(model):
    images = IMAGES.flatten(1) / 9
    images[[31, 247, 390]] *= 500
    X = pk.sketch(nn.Sequential(nn.ReLU()), images, pixels=False, sample=20)
    assert {31, 247, 390} < set(X.numbers.tolist())
    assert X.scale[[n in (31, 247, 390) for n in X.numbers.tolist()]].max() < 1.01


def test_singular_values_estimate_those_of_all_images(model, blocks):
    sketch = pk.sketch(model, IMAGES, sample=200)
    found, true = (pk.spectrum(where["input"])[:3] for where in (sketch, blocks))
    torch.testing.assert_close(found, true, rtol=0.05, atol=0)


def test_images_of_zeros_are_no_trouble():
    sketch = pk.sketch(nn.Sequential(nn.ReLU()), torch.zeros(50, 3), pixels=False, sample=10)
    assert not sketch["0"].any() and len(sketch.numbers) == 5


# What is kept


def test_no_more_than_the_sample_and_a_batch_is_in_memory():
    most = []

    def preprocess(batch):
        tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.dtype is torch.half]
        most.append(sum(len(t) if t.shape[1:] == (1, 4, 4) else 1 for t in tensors))
        return batch

    class Half(Counted):
        def __getitem__(self, k):
            return super().__getitem__(k).half()

    model = nn.Sequential(nn.Flatten(), nn.ReLU())
    sketch = pk.sketch(model, Half(), pixels=False, sample=20, batch_size=10, preprocess=preprocess)
    assert len(most) > 20 and max(most[-10:]) < 20 + 8 * 10  # first, it looks at 70 images
    assert sketch.nbytes <= 20 * 16 * 4
    most.clear()
    sketch.place(pk.coupled_nmf(sketch, 2))
    assert len(most) == 20 and max(most) < 20 + 8 * 10


def test_a_sample_that_memory_does_not_hold_is_refused(model):
    with pytest.raises(ValueError, match="300 images of 3 blocks take .* give sample=34 or fewer"):
        pk.sketch(model, IMAGES, sample=300, memory=4e-6)
    assert pk.sketch(model, IMAGES, sample=34, memory=4e-6).nbytes <= 4e3


def test_room_is_for_the_images_that_there_are(model, monkeypatch):
    made, empty = [], torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *size, **how: made.append(size) or empty(*size, **how)
    )
    sketch = pk.sketch(model, IMAGES[:9], sample=1_000_000)
    assert [size for size in made if size[0] > 9] == [] and len(sketch.numbers) == 9


def test_more_images_than_a_length_says_are_kept(model):
    sketch = pk.sketch(model, Shuffled(), sample=60)
    assert sketch.count == 400 and 50 < len(sketch.numbers) <= 60
    blocks = pk.record(model, sketch.images)
    torch.testing.assert_close(sketch["4"] / sketch.scale, blocks["4"])


# Placing


def test_placed_images_are_those_of_transform_and_errors_are_of_all(model, blocks):
    sketch = pk.sketch(model, IMAGES, sample=100, batch_size=70)
    fit = pk.coupled_nmf(sketch, 3, weights={"input": 2, "1": 1, "4": 1})
    placed = sketch.place(fit)
    for name, block in blocks.items():
        lost = (block - placed.reconstruct(name)).norm() / block.norm()
        assert placed.block_errors[name] == pytest.approx(lost.item(), rel=1e-4)
        torch.testing.assert_close(
            placed.reconstruct(name), fit.factors[name] @ fit.transform(blocks).T, rtol=0, atol=1e-3
        )
    torch.testing.assert_close(placed.image_factor.square().mean(dim=0), torch.ones(3))
    X, model_of_X = (torch.cat([f(n) for n in blocks]) for f in (blocks.get, placed.reconstruct))
    assert placed.relative_error == pytest.approx(((X - model_of_X).norm() / X.norm()).item(), 1e-4)
    assert placed.rmse == pytest.approx((X - model_of_X).square().mean().sqrt().item(), rel=1e-4)


def test_a_fit_of_the_sketch_is_nearly_as_good_as_one_of_all(model, blocks):
    sketch = pk.sketch(model, IMAGES, sample=150)
    full = pk.coupled_nmf(blocks, 3).relative_error
    fit = pk.coupled_nmf(sketch, 3)
    errors = [sketch.place(fit, passes=passes).relative_error for passes in (1, 3)]
    assert errors[1] <= errors[0] < 1.03 * full
    assert errors[1] < 1.01 * full


def test_each_run_lowers_the_error_and_says_so(model):
    sketch = pk.sketch(model, IMAGES, sample=12)
    fit = pk.coupled_nmf(sketch, 3)
    placed = sketch.place(fit, passes=4)
    runs = placed.history[-4:]
    assert (runs[1:] <= runs[:-1] + 1e-6).all() and runs[-1] < runs[0]
    assert runs[-1] == pytest.approx(placed.relative_error)
    assert len(placed.history) == len(fit.history) + 4
    assert placed.kkt < sketch.place(fit).kkt


def test_its_kkt_residual_is_that_of_all_images(model, blocks):
    sketch = pk.sketch(model, IMAGES, sample=40)
    placed = sketch.place(pk.coupled_nmf(sketch, 3))
    (kkt,) = pk.solvers.kkt_residuals(
        torch.cat([*blocks.values()]),
        [torch.cat([*placed.factors.values()]).T.contiguous()],
        [placed.image_factor.T.contiguous()],
    )
    assert placed.kkt == pytest.approx(kkt, rel=1e-2)
    assert placed.converged == (kkt <= 0.02)


def test_fits_of_a_sweep_share_a_run(model):
    sketch = pk.sketch(model, IMAGES, sample=40)
    sweep = pk.rank_sweep(sketch, [1, 3], seeds=[0, 1])
    placed = sketch.place(sweep)
    assert list(placed) == list(sweep)
    for pair in sweep:
        alone = sketch.place(sweep[pair])
        assert torch.equal(placed[pair].image_factor, alone.image_factor)


def test_a_placed_fit_is_saved_as_any(model, tmp_path):
    sketch = pk.sketch(model, IMAGES, sample=40)
    placed = sketch.place(pk.coupled_nmf(sketch, 2))
    again = pk.load(placed.save(tmp_path / "fit"))
    assert torch.equal(again.image_factor, placed.image_factor)
    assert again.block_errors == placed.block_errors


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_are_in_the_order_of_the_data_set(model, shuffle):
    expected = pk.sketch(model, IMAGES, sample=40)
    fit = pk.coupled_nmf(expected, 2)
    loader = DataLoader(TensorDataset(IMAGES), batch_size=33, shuffle=shuffle)
    found = pk.sketch(model, loader, sample=40).place(fit)
    torch.testing.assert_close(
        found.image_factor, expected.place(fit).image_factor, atol=1e-4, rtol=0
    )


def test_other_images_can_be_placed(model):
    sketch = pk.sketch(model, IMAGES[:300], sample=40)
    fit = pk.coupled_nmf(sketch, 2)
    placed = sketch.place(fit, IMAGES[300:])
    assert placed.image_factor.shape == (100, 2)


def test_some_blocks_will_do(model):
    sketch = pk.sketch(model, IMAGES, negative="split", layers=["3"], sample=40)
    assert list(sketch) == ["input", "3+", "3-"]
    placed = sketch.place(pk.coupled_nmf({"3-": sketch["3-"]}, 2))
    assert list(placed.factors) == ["3-"] and placed.image_factor.shape == (400, 2)


def test_numbers_of_any_size_are_placed(model):
    model[3].weight.data *= 1e-25
    model[3].bias.data *= 1e-25
    sketch = pk.sketch(model, IMAGES, sample=100)
    fit = pk.coupled_nmf(sketch, 3)
    placed = sketch.place(fit, passes=2)
    block = pk.record(model, IMAGES)["4"].double()
    lost = block - placed.factors["4"].double() @ placed.image_factor.T.double()
    assert placed.block_errors["4"] == pytest.approx((lost.norm() / block.norm()).item(), rel=1e-3)


# What is refused, and what is said


def test_a_run_of_other_images_is_noticed(model):
    sketch = pk.sketch(model, Shrinking(), sample=40)
    fit = pk.coupled_nmf(sketch, 2)
    with pytest.raises(ValueError, match="first run had 90 images, this one 70"):
        sketch.place(fit)


def test_another_order_is_noticed(model):
    sketch = pk.sketch(model, Shuffled(), sample=40)
    fit = pk.coupled_nmf(sketch, 2)
    with pytest.warns(
        UserWarning, match="drawn are others in this run.* order of this run"
    ) as said:
        sketch.place(fit)
    assert [one.filename for one in said] == [__file__]


def test_a_model_that_has_changed_is_noticed(model):
    sketch = pk.sketch(model, IMAGES, sample=40)
    fit = pk.coupled_nmf(sketch, 2)
    model[3].weight.data *= 2
    with pytest.warns(UserWarning, match="block '4' is not what it was") as said:
        sketch.place(fit)
    assert said[0].filename == __file__


def test_the_model_and_random_states_are_left_as_they_were(model):
    model.train()
    before = torch.get_rng_state()
    sketch = pk.sketch(model, IMAGES, sample=40)
    sketch.place(pk.coupled_nmf(sketch, 2))
    assert model.training and torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_placed_is_refused(model, blocks):
    sketch = pk.sketch(model, IMAGES, layers="4", sample=40)
    with pytest.raises(ValueError, match="the fit is of blocks .*'1': 8"):
        sketch.place(pk.coupled_nmf(blocks, 2))
    with pytest.raises(TypeError, match="a dict, not a coupled fit"):
        sketch.place(blocks)
    with pytest.raises(ValueError, match="passes is 0"):
        sketch.place(pk.coupled_nmf(sketch, 2), passes=0)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sample": 1}, "sample is 1"),
        ({"layers": "conv9"}, "conv9"),
        ({"layers": "3"}, "negative activations"),
        ({"images": IMAGES[:0]}, "no images"),
        ({"images": 3 * IMAGES}, "pixels=False"),
    ],
)
def test_bad_input_is_refused_in_words(model, options, words):
    with pytest.raises(ValueError, match=words):
        pk.sketch(model, **({"images": IMAGES} | options))
