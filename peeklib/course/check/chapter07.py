"""Checks of chapter 7, How shapes travel."""

import torch
from torch import Tensor, nn

from ...nmf import CoupledFactors
from .exercise import exercise


@exercise
def leading_channel(answer: int, column: Tensor, channels: int) -> None:
    """Chapter 7: the channel that carries most of a column of O, counted from 0.

    `column` has one value for each neuron, channel after channel.

    Example:
        >>> leading_channel(1, torch.tensor([5.0, 0.0, 3.0, 3.0]), channels=2)
        ✓ right
    """
    carried = column.reshape(channels, -1).sum(dim=1)
    assert answer in range(channels), (
        f"{answer} is no channel; they are counted from 0 to {channels - 1}"
    )
    assert carried[answer] == carried.max(), (
        f"channel {answer} carries {carried[answer] / carried.sum():.0%} of the loading, another "
        "one more; add up all neurons of a channel instead of looking for the brightest"
    )


@exercise
def moved_most(answer: int, before: Tensor, after: Tensor) -> None:
    """Chapter 7: the image whose rows in `before` and `after` are least alike by their cosine.

    `before` and `after` are images × rank.

    Example:
        >>> before, after = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> moved_most(1, before, after)
        ✓ right
    """
    alike = nn.functional.cosine_similarity(before, after, dim=1)
    assert answer in range(len(alike)), (
        f"{answer} is no image; they are counted from 0 to {len(alike) - 1}"
    )
    assert alike[answer] <= alike.min() + 1e-5, (
        f"image {answer} has a similarity of {alike[answer]:.2f}, another one less; "
        "is each image compared with itself?"
    )


@exercise
def placed(answer: Tensor, fit: CoupledFactors, drawing: Tensor) -> None:
    """Chapter 7: the loadings of one image, one for each component, by its pixels alone.

    `drawing` is height × width, from 0 to 1; `fit` has a block "input" of as many pixels.

    Example:
        >>> import peeklib as pk
        >>> fit = pk.coupled_nmf({"input": torch.ones(4, 3)}, 1)
        >>> placed(torch.ones(1), fit, drawing=torch.zeros(2, 2))
        Traceback (most recent call last):
        AssertionError: the drawing is all black: every loading is 0; draw something
    """
    pixels = len(fit.factors["input"])
    assert isinstance(drawing, Tensor) and drawing.numel() == pixels, (
        f"the drawing needs {pixels} numbers"
    )
    assert drawing.max() > 0, "the drawing is all black: every loading is 0; draw something"
    assert drawing.min() >= 0 and drawing.max() <= 1, (
        "the numbers of the drawing lie between 0 and 1"
    )
    expected = fit.transform({"input": drawing.reshape(-1, 1)}).cpu().flatten()
    assert isinstance(answer, Tensor) and answer.numel() == fit.rank, (
        f"give one loading for each of {fit.rank} components"
    )
    assert torch.allclose(answer.cpu().flatten(), expected, atol=1e-3 * expected.max().item()), (
        "these loadings are not the closest fit without negative numbers; "
        "place the pixels with fit.transform"
    )
