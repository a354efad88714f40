"""Checks of chapter 7, How shapes travel."""

from torch import Tensor, nn

from ...nmf import CoupledFactors
from .answers import read
from .exercise import exercise, near


@exercise
def leading_channel(answer: int, column: Tensor, channels: int) -> str | None:
    """Chapter 7: the channel that carries most of a column of O, counted from 0.

    `column` has one value for each neuron, channel after channel.

    Example:
        >>> import torch
        >>> leading_channel(1, torch.tensor([5.0, 0.0, 3.0, 3.0]), channels=2)
        ✓ right
    """
    maps = column.reshape(channels, -1)
    carried = maps.sum(dim=1)
    if not 0 <= answer < channels:
        return f"{answer} is no channel; they are counted from 0 to {channels - 1}"
    if carried[answer] == carried.max():
        return None
    if answer == int(maps.amax(dim=1).argmax()):
        return f"channel {answer} has the brightest neuron; another one carries more in all"
    if answer == int(column.reshape(-1, channels).sum(dim=0).argmax()):
        return f"channel {answer} would be it if neurons were sorted by place; they are by channel"
    return (
        f"channel {answer} carries {carried[answer] / carried.sum():.0%} of the loading, "
        "another one more"
    )


@exercise
def moved_most(answer: int, before: Tensor, after: Tensor) -> str | None:
    """Chapter 7: the image whose rows in `before` and `after` are least alike by their cosine.

    `before` and `after` are images × rank.

    Example:
        >>> import torch
        >>> before, after = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> moved_most(1, before, after)
        ✓ right
    """
    alike = nn.functional.cosine_similarity(before, after, dim=1)
    if not 0 <= answer < len(alike):
        return f"{answer} is no image; they are counted from 0 to {len(alike) - 1}"
    if alike[answer] <= alike.min() + 1e-5:
        return None
    if answer == int(alike.argmax()):
        return f"image {answer} is the one whose places are most alike"
    if answer == int((before - after).norm(dim=1).argmax()):
        return f"the places of image {answer} are farthest apart; cosines do not see length"
    return (
        f"image {answer} has a similarity of {alike[answer]:.2f}, another one less; "
        "is each image compared with itself?"
    )


@exercise
def placed(answer: Tensor, fit: CoupledFactors, drawing: Tensor) -> str | None:
    """Chapter 7: the loadings of one image, one for each component, by its pixels alone.

    `drawing` is height × width, from 0 to 1; `fit` has a block "input" of as many pixels.

    Example:
        >>> import peeklib as pk, torch
        >>> fit = pk.coupled_nmf({"input": torch.ones(4, 3)}, 1)
        >>> placed(torch.ones(1), fit, drawing=torch.zeros(2, 2))
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: the drawing is all black: every loading is 0; ...
    """
    P = fit.factors["input"].cpu().double()  # pixels × rank
    pixels = read(drawing, Tensor).flatten()
    if len(pixels) != len(P):
        return f"the drawing needs {len(P)} numbers"
    if pixels.min() < 0 or pixels.max() > 1:
        return "the numbers of the drawing lie between 0 and 1"
    if pixels.max() == 0:
        return "the drawing is all black: every loading is 0; draw something"
    if answer.numel() != fit.rank:
        return f"give one loading for each of {fit.rank} components"
    loadings, expected = answer.flatten(), fit.transform({"input": pixels.float()[:, None]})[0]
    if near(loadings, expected, 1e-3):
        return None
    if (loadings < 0).any():
        return "some loadings are below zero: this model only adds"
    if near(loadings, P.T @ pixels):
        return "Pᵀ times the pixels is no place yet: components overlap, and would count twice"
    return "another place is closer to the drawing; is it this drawing, and this fit?"
