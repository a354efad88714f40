"""Checks of chapter 10, Singular directions, layer by layer."""

import torch
from torch import Tensor

from ...spectra import spectrum
from .exercise import exercise


@exercise
def noise_share(answer: float, shape: tuple[int, int]) -> str | None:
    """Chapter 10: the largest singular value of white noise of a shape, as a share of its norm.

    Example:
        >>> noise_share(0.245, shape=(20, 2000))
        ✓ right
    """
    values = spectrum(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    expected = (values[0] / values.norm()).item()

    def is_near(number: float) -> bool:
        return abs(answer - number) < 0.05 * number

    if is_near(expected):
        return None
    if not 0 < answer <= 1:
        return f"give a share, between 0 and 1, not {answer:.6g}"
    if is_near(expected**2):
        return f"{answer:.4f} is the share of the squares; the norm is their root"
    if is_near((values[0] / values.sum()).item()):
        return f"{answer:.4f} is a share of the sum; the norm is another thing"
    return f"{answer:.4f} is off; is the noise normal, with mean 0, and of the layer's shape?"


@exercise
def along_mean(answer: float, vector: Tensor, A: Tensor) -> str | None:
    """Chapter 10: the cosine of a direction with the mean image of a layer, without its sign.

    `vector` has a number for each neuron, `A` is neurons × images.

    Example:
        >>> along_mean(0.6, torch.tensor([1.0, 0.0]), torch.tensor([[3.0, 3.0], [4.0, 4.0]]))
        ✓ right
    """
    vector, mean = vector.cpu().double(), A.cpu().double().mean(dim=1)
    product = abs(vector @ mean).item()
    expected = product / (vector.norm() * mean.norm()).item()

    def is_near(number: float) -> bool:
        return abs(abs(answer) - number) < 0.005

    if is_near(expected):
        return None  # of either sign: a direction has none
    if abs(answer) > 1:
        return f"a cosine lies between −1 and 1; {answer:.3g} does not"
    if is_near(product):
        return f"{answer:.3f} is the inner product; divide by the norm of the mean image, too"
    if is_near(expected**2):
        return f"{answer:.3f} is a share of squares; take the root"
    return f"{answer:.3f} is off; the mean image has a number for each neuron: mean over the images"


@exercise
def strongest_place(
    answer: tuple[int, int], vector: Tensor, maps: tuple[int, int, int]
) -> str | None:
    """Chapter 10: the (row, column) that holds most of a direction's energy, over all channels.

    `vector` has a number for each neuron; `maps` is channels, height and width of the layer.

    Example:
        >>> strongest_place((0, 1), torch.tensor([3.0, -4.0]), maps=(1, 1, 2))
        ✓ right
    """
    values = vector.cpu().double().reshape(maps)
    energy = values.square().sum(dim=0)
    row, column = answer
    if not (0 <= row < maps[1] and 0 <= column < maps[2]):
        return f"there is no row {row}, column {column}: a map is {maps[1]} × {maps[2]}, from 0"
    if energy[row, column] >= energy.max() * (1 - 1e-6):
        return None
    at = row * maps[2] + column
    if at == int(values.sum(dim=0).argmax()):
        return "there the numbers add up to most; energy is their squares, and signs do not cancel"
    if at == int(values.abs().amax(dim=0).argmax()):
        return "the strongest single neuron sits there; add up the channels of each place first"
    if row < maps[2] and column < maps[1] and energy[column, row] == energy.max():
        return "give the row first, then the column"
    share = energy[row, column] / energy.sum()
    return f"row {row}, column {column} holds {share:.1%} of the energy; another place holds more"
