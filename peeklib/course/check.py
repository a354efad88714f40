"""Checks for the book's exercises: silent about the answer, plain about what is wrong.

Each takes the reader's answer. `None` means "not answered yet" and says so; a wrong answer raises
AssertionError with a hint; a right one prints a line. Expected values are computed, never stored.
"""

import functools
import math
from collections import OrderedDict
from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from ..hooks import input_blocks, record
from ..nmf import CoupledFactors, coupled_nmf
from ..solvers import EPS, hals_update
from ..spectra import cka, spectrum
from ..tensors import khatri_rao
from .models import CifarAlexNet, PaperCNN
from .ranking import environments, kendall, sign_error


def _exercise(check: Callable) -> Callable:
    """Handle an answer that is not there yet, and say when one is right."""

    @functools.wraps(check)
    def run(answer, *args, **named):
        if answer is None:
            print("○ not answered yet: put your answer in place of None and run the cell again")
            return
        check(answer, *args, **named)
        print("✓ right")

    return run


@_exercise
def neuron_counts(answer: dict[str, int]) -> None:
    """Chapter 1: how many neurons `relu1` and `relu2` of PaperCNN would have for 32×32 images."""
    assert isinstance(answer, dict), 'give a dict: {"relu1": …, "relu2": …}'
    convolutions = nn.Sequential(OrderedDict(list(PaperCNN().named_children())[:6]))
    blocks = record(convolutions, torch.zeros(1, 1, 32, 32))
    for name, block in blocks.items():
        assert name in answer, f"there is no entry for {name!r}"
        assert answer[name] == len(block), (
            f"{answer[name]} is not the number of neurons of {name}; a 5×5 convolution without padding takes 4 "
            "off each side, a max-pool halves it, and every channel counts"
        )


@_exercise
def neuron_row(answer: int) -> None:
    """Chapter 1: the row of A₀ that belongs to channel 3, row 5, column 7 of `relu1` (all from 0)."""
    maps = torch.zeros(10, 12, 12)
    maps[3, 5, 7] = 1
    assert answer == int(maps.flatten().argmax()), (
        f"row {answer} is another neuron; count how many neurons come before: whole channels, then whole rows, then columns"
    )


@_exercise
def silent_neurons(answer: int, block: torch.Tensor) -> None:
    """Chapter 1: how many rows of `block` are zero for every image."""
    expected = int((block.amax(dim=1) == 0).sum())
    assert answer == expected, (
        f"{answer} is not the number of neurons that stay at zero for every column of the block"
    )


@_exercise
def factor_update(answer: Callable) -> None:
    """Chapter 2: `answer(A, O, F)` is the multiplicative update of O."""
    draw = torch.Generator().manual_seed(0)
    A, O, F = (torch.rand(*shape, generator=draw) for shape in ((30, 40), (30, 4), (40, 4)))
    new = answer(A.clone(), O.clone(), F.clone())
    assert isinstance(new, torch.Tensor) and new.shape == O.shape, (
        "return the new O, neurons × rank"
    )
    assert (new >= 0).all(), "an update that multiplies non-negative numbers cannot go below zero"
    assert torch.allclose(new, O * (A @ F) / (O @ (F.T @ F) + EPS), rtol=1e-4), (
        "the result differs from O ∗ (A F) / (O Fᵀ F + ε); is the numerator over the denominator, and is F transposed once?"
    )


@_exercise
def stacked(answer: torch.Tensor, blocks: dict[str, torch.Tensor]) -> None:
    """Chapter 2: the single matrix whose ordinary NMF is the coupled NMF of `blocks` with equal weights."""
    expected = torch.cat(list(blocks.values()))
    assert isinstance(answer, torch.Tensor), "give one tensor"
    assert answer.shape == expected.shape, (
        f"shape {tuple(answer.shape)}; all blocks share the images, so only rows add up"
    )
    assert torch.equal(answer, expected), "the rows are not the blocks' rows in network order"


@_exercise
def even_weights(answer: dict[str, float], blocks: dict[str, torch.Tensor]) -> None:
    """Chapter 2: weights under which every block has the same weighted energy."""
    assert set(answer) == set(blocks), f"give one weight for each of {list(blocks)}"
    assert all(0 < weight < float("inf") for weight in answer.values()), (
        "weights are positive, finite numbers"
    )
    say = {
        name: answer[name] * block.double().square().sum().item() for name, block in blocks.items()
    }
    assert max(say.values()) <= 1.001 * min(say.values()), f"weight × energy differs: {say}"


@_exercise
def rank_to_reach(answer: int, errors: dict[int, float], target: float) -> None:
    """Chapter 3: the smallest rank whose relative error is at most `target`; errors: rank → relative error."""
    reached = [rank for rank, error in errors.items() if error <= target]
    assert reached, f"no rank in {sorted(errors)} reaches {target}; choose a larger target"
    assert answer == min(reached), (
        f"rank {answer} is not the smallest with a relative error of at most {target}"
    )


@_exercise
def compressible(answer: float, block: torch.Tensor, rank: int) -> None:
    """Chapter 3: the relative error of the best rank-`rank` approximation of `block`, of any sign (Eckart & Young)."""
    values = torch.linalg.svdvals(block.double())
    expected = (values[rank:].square().sum() / values.square().sum()).sqrt().item()
    assert abs(answer - expected) < 1e-3 * max(expected, 1e-12), (
        f"{answer:.4f} is off; square the singular values beyond the first {rank}, add, divide by the sum of all, take the root"
    )


@_exercise
def rescaled(answer: float, blocks: dict[str, torch.Tensor], target: float) -> None:
    """Chapter 3: the factor for all layers, but not the input, that lifts the RMSE at rank 10 above `target`."""
    assert isinstance(answer, (int, float)) and answer > 0, "give one positive number"
    louder = {
        name: block if name.startswith("input") else block * answer
        for name, block in blocks.items()
    }
    rmse = coupled_nmf(louder, 10, max_iter=60, tol=1e-3).rmse
    assert rmse > target, f"times {answer} the RMSE is {rmse:.3f}, not above {target:.3f}"


@_exercise
def ceiling(answer: float, labels: torch.Tensor, classes: tuple[int, ...]) -> None:
    """Chapter 5: the highest accuracy on images with these labels of a network that only answers `classes`."""
    expected = torch.isin(labels, torch.tensor(classes)).float().mean().item()
    assert abs(answer - expected) < 5e-4, (
        f"{answer} is off; it is the share, between 0 and 1, of images whose label is one of {classes}"
    )


@_exercise
def energy_rank(answer: int, values: torch.Tensor, share: float) -> None:
    """Chapter 5: how many of the singular values, largest first, hold `share` of the sum of all squares."""
    held = values.double().square().cumsum(0) / values.double().square().sum()
    expected = int((held < share).sum()) + 1
    assert answer == expected, (
        f"{answer} is not the number; square the values, add them up from the largest until {share:.0%} of the sum is reached"
    )


@_exercise
def closest_pair(answer: tuple[int, int], overlap: torch.Tensor) -> None:
    """Chapter 6: the two different digits with the largest overlap."""
    a, b = answer
    assert a != b, "a digit shares all neurons with itself; name two different ones"
    best = overlap[*torch.tril_indices(*overlap.shape, -1)].max()
    assert overlap[a, b] == best, (
        f"the overlap of {a} and {b} is {overlap[a, b]:.3f}, there is a larger one"
    )


@_exercise
def overlap(answer: Callable) -> None:
    """Chapter 6: `answer(a, b)` is the Jaccard index of two boolean vectors, 0 if both are empty."""
    a, b = torch.tensor([1, 1, 0, 0, 1]).bool(), torch.tensor([1, 0, 0, 1, 1]).bool()
    assert abs(answer(a, b) - 2 / 4) < 1e-6, (
        f"{answer(a, b)} for {a.int().tolist()} and {b.int().tolist()}: 2 shared, 4 in all"
    )
    assert abs(answer(a, ~a)) < 1e-6, "sets without a common neuron have overlap 0"
    assert answer(a & ~a, a & ~a) == 0, "two empty sets: 0, not NaN"


@_exercise
def alexnet_features(answer: int) -> None:
    """Chapter 4: features, pixels and neurons, of CifarAlexNet for 3×64×64 images."""
    convolutions = nn.Sequential(OrderedDict(list(CifarAlexNet().named_children())[:-2]))
    images = torch.zeros(1, 3, 64, 64)
    expected = sum(map(len, (input_blocks(images) | record(convolutions, images)).values()))
    assert answer == expected, (
        f"{answer} is not the number of rows; count three channels of 64×64 pixels, and the maps of all five layers"
    )


@_exercise
def colour_image(answer: torch.Tensor, fit: CoupledFactors) -> None:
    """Chapter 4: the strongest component as an image, height × width × 3, with largest value 1."""
    assert isinstance(answer, torch.Tensor) and answer.ndim == 3 and answer.shape[2] == 3, (
        "give a tensor, height × width × 3: colours come last"
    )
    assert abs(answer.max() - 1) < 1e-5, f"the largest value is {answer.max():.3f}; divide by it"
    P = torch.stack([fit.factors[f"input.{name}"][:, 0] for name in ("red", "green", "blue")]).cpu()
    assert torch.allclose(answer.cpu().flatten(0, 1).T, P / P.max(), atol=1e-5), (
        "the values are not those of component 0; are rows and columns, or the colours, exchanged?"
    )


@_exercise
def leading_channel(answer: int, column: torch.Tensor, channels: int) -> None:
    """Chapter 7: the channel that carries most of a column of O, counted from 0."""
    carried = column.reshape(channels, -1).sum(dim=1)
    assert answer in range(channels), (
        f"{answer} is no channel; they are counted from 0 to {channels - 1}"
    )
    assert carried[answer] == carried.max(), (
        f"channel {answer} carries {carried[answer] / carried.sum():.0%} of the loading, another one more; add up all "
        "neurons of a channel instead of looking for the brightest"
    )


@_exercise
def moved_most(answer: int, before: torch.Tensor, after: torch.Tensor) -> None:
    """Chapter 7: the image whose rows in `before` and `after` (images × rank) have the smallest cosine similarity."""
    alike = nn.functional.cosine_similarity(before, after, dim=1)
    assert answer in range(len(alike)), (
        f"{answer} is no image; they are counted from 0 to {len(alike) - 1}"
    )
    assert alike[answer] <= alike.min() + 1e-5, (
        f"image {answer} has a similarity of {alike[answer]:.2f}, another one less; is each image compared with itself?"
    )


@_exercise
def placed(answer: torch.Tensor, fit: CoupledFactors, drawing: torch.Tensor) -> None:
    """Chapter 7: the loadings of one image, height × width from 0 to 1, by its pixels alone."""
    assert isinstance(drawing, torch.Tensor) and drawing.numel() == len(fit.factors["input"]), (
        f"the drawing needs {len(fit.factors['input'])} numbers"
    )
    assert drawing.max() > 0, "the drawing is all black: every loading is 0; draw something"
    assert drawing.min() >= 0 and drawing.max() <= 1, (
        "the numbers of the drawing lie between 0 and 1"
    )
    expected = fit.transform({"input": drawing.reshape(-1, 1)}).cpu().flatten()
    assert isinstance(answer, torch.Tensor) and answer.numel() == fit.rank, (
        f"give one loading for each of {fit.rank} components"
    )
    assert torch.allclose(answer.cpu().flatten(), expected, atol=1e-3 * expected.max().item()), (
        "these loadings are not the closest fit without negative numbers; place the pixels with fit.transform"
    )


@_exercise
def products_over_sweeps(answer: float, features: int, images: int, rank: int) -> None:
    """Chapter 8: multiply-adds of two products with the data over those of one sweep over each factor."""
    expected = 2 * rank * features * images / (rank**2 * (features + images))
    assert abs(answer - expected) <= 0.05 * expected, (
        f"{answer} is off; a product takes rank · features · images, a sweep rank² times the length of its factor, "
        "and there are two of each"
    )


@_exercise
def coordinate_sweep(answer: Callable) -> None:
    """Chapter 8: `answer(V, B, G)` is one sweep of coordinate descent over the rows of V."""
    draw = torch.Generator().manual_seed(0)
    W, X, V = (torch.rand(*shape, generator=draw) for shape in ((4, 9), (9, 12), (4, 12)))
    X[::2] = 0  # so that some entries end at zero
    new, expected = answer(V.clone(), W @ X, W @ W.T), V.clone()
    hals_update(expected, W @ X, W @ W.T, [slice(0, 4)], sweeps=1)
    assert isinstance(new, torch.Tensor) and new.shape == V.shape, "return the new V, rank × images"
    assert (new >= 0).all(), "an entry is below zero; take the larger of it and 0"
    assert torch.allclose(new, expected, atol=1e-5), (
        "the result differs; does every row use what the rows before it have become, and the diagonal of G below?"
    )


@_exercise
def images_needed(answer: int, floor: dict[int, float], limit: float) -> None:
    """Chapter 12: the fewest images for which unrelated blocks are at most `limit` alike; floor: images → similarity."""
    enough = [count for count, value in floor.items() if value <= limit]
    assert enough, f"no number in {sorted(floor)} brings it down to {limit}; choose a larger limit"
    assert answer in enough, (
        f"{answer} is not a number of images at which shuffled blocks are at most {limit:.2f} alike"
    )
    assert answer == min(enough), f"{answer} images will do, and so will fewer"


@_exercise
def alignment(answer: Callable) -> None:
    """Chapter 12: `answer(X, Y)` is the linear CKA of two blocks, features × images."""
    draw = torch.Generator().manual_seed(0)
    X, Y = (torch.rand(*shape, generator=draw) for shape in ((5, 30), (7, 30)))
    value = float(answer(X.clone(), Y.clone()))
    assert abs(value - float(answer(X + 9, Y))) < 1e-4, (
        "a number added to a feature changes the result; take the mean over the images off every feature"
    )
    assert abs(value - cka(X, Y)) < 1e-4, (
        f"{value:.4f} is not {cka(X, Y):.4f} for a small example; is the square on the numerator, and the product of two norms below?"
    )


@_exercise
def same_size(answer: int, matrix: int, tensor: int, rank: int, images: int) -> None:
    """Chapter 15: the rank at which a tensor model holds as many numbers as a matrix model of rank `rank`.

    matrix, tensor: numbers that one component takes, without its image factor.
    """
    expected = rank * (matrix + images) / (tensor + images)
    assert abs(answer - expected) <= 1, (
        f"with {answer} components the tensor model holds {answer * (tensor + images):,.0f} numbers, the other one "
        f"{rank * (matrix + images):,}; each component has a column in every factor, F included"
    )


@_exercise
def summed_along(answer: Callable) -> None:
    """Chapter 15: `answer(T, H, W)` sums T (rank × channels × height × width) along H and W, each length × rank."""
    draw = torch.Generator().manual_seed(0)
    T, H, W = (torch.rand(*shape, generator=draw) for shape in ((3, 5, 4, 2), (4, 3), (2, 3)))
    result = answer(T.clone(), H.clone(), W.clone())
    assert isinstance(result, torch.Tensor) and result.shape == (3, 5), (
        "return a tensor, rank × channels"
    )
    expected = (T.flatten(2) * khatri_rao([H.T, W.T])[:, None]).sum(2)
    assert torch.allclose(result, expected, atol=1e-5), (
        "the result differs; weight every place by H at its row and W at its column, each component with its own"
    )


@_exercise
def break_even(answer: float, matrix: tuple[float, int], tensor: tuple[float, int]) -> None:
    """Chapter 15: at how many images both models hold as many numbers; each is (rank, numbers per component without F)."""
    (rank, length), (more, short) = matrix, tensor
    expected = (rank * length - more * short) / (more - rank)
    assert abs(answer - expected) <= 0.02 * expected, (
        f"at {answer:,.0f} images one model holds {rank * (length + answer):,.0f} numbers, "
        f"the other {more * (short + answer):,.0f}; ask where these are equal"
    )


@_exercise
def size_share(answer: float, rmse: tuple[float, float], relative: tuple[float, float]) -> None:
    """Chapter 13: the share of log(RMSE of one network / of another) that is not log(relative error / relative error)."""
    expected = 1 - math.log(relative[0] / relative[1]) / math.log(rmse[0] / rmse[1])
    assert abs(answer - expected) < 0.005, (
        f"{answer} is off; the logarithm of the ratio of sizes is that of the RMSE minus that of the relative errors: "
        "divide it by that of the RMSE"
    )


@_exercise
def dead_neurons(answer: int, rmse: float, target: float, features: int) -> None:
    """Chapter 13: the fewest rows of zeros that bring the RMSE of `features` rows down to `target`."""
    expected = max(0, math.ceil(features * ((rmse / target) ** 2 - 1)))
    reached = rmse * (features / (features + answer)) ** 0.5
    assert abs(answer - expected) <= 1, (
        f"with {answer} more rows the RMSE is {reached:.4f}, and {target:.4f} is asked for with as few as possible; rows of "
        "zeros add no error, they add entries to divide by"
    )


@_exercise
def permuted_neurons(answer: Callable) -> None:
    """Chapter 13: `answer(block)` has each neuron's values in an order of its own over the images."""
    block = torch.rand(6, 50, generator=torch.Generator().manual_seed(0))
    new = answer(block.clone())
    assert isinstance(new, torch.Tensor) and new.shape == block.shape, (
        "return a block of the same shape"
    )
    assert torch.equal(new.sort(dim=1).values, block.sort(dim=1).values), (
        "some neuron does not have its own values any more; move them within its row"
    )
    assert not torch.equal(new, block), "nothing has moved"
    images = {tuple(column) for column in block.T.tolist()}
    assert not images.issuperset(tuple(column) for column in new.T.tolist()), (
        "all neurons moved together: these are the same images in another order; each neuron needs an order of its own"
    )


@_exercise
def set_purity(answer: Callable) -> None:
    """Chapter 9: `answer(labels)` is the share of the most frequent label."""
    for labels in ([3, 1, 3, 3], [0, 1, 2, 9], [7, 7]):
        expected = max(map(labels.count, labels)) / len(labels)
        found = float(answer(torch.tensor(labels)))
        assert abs(found - expected) < 1e-6, (
            f"{found} for {labels}: the most frequent label has a share of {expected}"
        )


@_exercise
def tail_cut(answer: float, variances: torch.Tensor, share: float) -> None:
    """Chapter 9: the cut-off above which `share` of the variances lie."""
    above = (variances > answer).float().mean().item()
    assert abs(above - share) <= 1 / len(variances) + 1e-6, (
        f"{above:.1%} lie above {answer}, not {share:.0%}"
    )


@_exercise
def noise_share(answer: float, shape: tuple[int, int]) -> None:
    """Chapter 10: the largest singular value of white noise as a share of its norm."""
    values = spectrum(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    expected = (values[0] / values.norm()).item()
    assert abs(answer - expected) < 0.05 * expected, (
        f"{answer} is off; divide the largest singular value by the root of the sum of the squares of all"
    )


@_exercise
def most_silent(answer: str, layers: pd.DataFrame) -> None:
    """Chapter 11: the layer with the largest share of zeros, of a report's table of layers."""
    assert answer in layers.index, f"there is no layer {answer!r}; there are {list(layers.index)}"
    assert layers.zeros[answer] == layers.zeros.max(), (
        f"{layers.zeros[answer]:.0%} of the activations of {answer} are zero, of another layer more"
    )


@_exercise
def most_gained(answer: str, errors: pd.DataFrame, ranks: tuple[int, int]) -> None:
    """Chapter 11: the part whose error falls by the largest share from the first rank to the second."""
    left = errors[ranks[1]] / errors[ranks[0]]
    assert answer in left.index, f"there is no part {answer!r}; there are {list(left.index)}"
    assert left[answer] == left.min(), (
        f"{answer} keeps {left[answer]:.0%} of its error, another part less; divide, do not subtract"
    )


@_exercise
def kendall_by_hand(answer: float) -> None:
    """Chapter 14: τ of a score with the values 3, 4, 1 for networks of accuracy 0.9, 0.8, 0.5."""
    right = kendall([3, 4, 1], [0.9, 0.8, 0.5])[0]
    assert abs(answer - right) < 0.01, (
        f"{answer} is not it; write down the three pairs, count those that both order alike, take off those that they "
        "order differently, and divide by the number of pairs"
    )


@_exercise
def worst_environment(answer: Callable, part: pd.DataFrame, better: dict[str, int]) -> None:
    """Chapter 14: the environment and factor with the largest sign error, as text."""
    for score in ("nuclear_norm", "rmse_area", "weight_norm"):
        errors = {
            " ".join(key): sign_error(
                better[score] * part[score].iloc[rows], part.accuracy.iloc[rows]
            )[0]
            for key, rows in environments(part)
        }
        found = answer(part, score)
        assert found in errors, (
            f"{found!r} is no environment; join the parts of its key with blanks, such as {[*errors][0]!r}"
        )
        assert errors[found] == max(errors.values()), (
            f"for {score}, {found} has a sign error of {errors[found]:.2f}, and another has more; is a score for which "
            "small is better turned round?"
        )
