"""Training by plain SGD, and accuracy: the only two places where labels are used."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd
from tqdm.auto import tqdm

from ..blocks import pick_device
from ..crew import threads_of_pytorch
from ..hooks import home_of, predict, to_float, visiting


class Trained(NamedTuple):
    """A trained model, and its loss as a table: step, images (seen so far), loss (mean since the last row)."""

    model: nn.Module
    history: pd.DataFrame


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    epochs: int = 1,
    shuffle: bool = True,
    lr: float = 0.01,
    momentum: float = 0.5,
    weight_decay: float = 0.0,
    batch_size: int = 64,
    device=None,
    threads: int = 1,
    progress: bool = False,
) -> Trained:
    """Train `model` in place by SGD on the cross-entropy; the defaults give the accuracies of Saini & Papalexakis.

    Args:
        model: trained on `device`; it comes back in eval mode, without gradients, on the device where it was; after an
            error too.
        images: images × channels × height × width, uint8 (scaled to [0, 1]) or float.
        labels: one integer for each image.
        seed: of the order of the images, and of dropout.
        epochs: passes over the images.
        shuffle: a new order each epoch; False keeps the order given (their Case Study III).
        lr, momentum, weight_decay, batch_size: of stochastic gradient descent.
        device: where to train; None takes a GPU if there is one.
        threads: of PyTorch on a CPU. One is safe: a step of these networks is made of many small ones, so that more threads lose
            much where cores are shared, and each number of them rounds in its own way. On a quiet machine more are faster.
        progress: show a progress bar.

    Raises:
        ValueError: for no images, differing lengths, no epochs, a negative lr, momentum or weight_decay, or a loss that is
            no longer finite.
    """
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"there are {len(images)} images and {len(labels)} labels; give one label for each image"
        )
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it is at least 1")
    how = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    if negative := {name: value for name, value in how.items() if not value >= 0}:
        raise ValueError(f"{negative}: none of these can be negative or NaN")
    batches = _batches(len(images), seed, epochs, shuffle, batch_size)
    device = pick_device(device, home_of(model, images.device))
    with visiting(model, device), threads_of_pytorch(threads):
        try:
            losses = _descend(model.train(), images, labels, batches, seed, how, progress)
        finally:
            model.eval().zero_grad()
    return Trained(model, _history(losses, [len(batch) for batch in batches]))


def _batches(count: int, seed: int, epochs: int, shuffle: bool, size: int) -> list[Tensor]:
    """Which images each step sees."""
    draw = torch.Generator().manual_seed(seed)
    orders = (
        torch.randperm(count, generator=draw) if shuffle else torch.arange(count)
        for _ in range(epochs)
    )
    return [batch for order in orders for batch in order.split(size)]


def _descend(model, images, labels, batches, seed: int, how: dict, progress: bool) -> Tensor:
    """SGD on the model's device; the loss of each step, on the CPU."""
    home, momenta, losses = home_of(model, images.device), {}, []
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout, if the model has any
        for batch in tqdm(batches, disable=not progress, desc="training", leave=False):
            x, y = to_float(images[batch].to(home)), labels[batch].to(home)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            _step(model, momenta, how)
            losses.append(loss.detach())
    return torch.stack(losses).cpu()


def _step(model: nn.Module, momenta: dict[Tensor, Tensor], how: dict) -> None:
    """A step of `torch.optim.SGD`, whose first use would import all of PyTorch's compiler: seconds, in each process."""
    moved = [parameter for parameter in model.parameters() if parameter.grad is not None]
    buffers = [momenta.get(parameter) for parameter in moved]
    gradients = [parameter.grad for parameter in moved]
    sparse = any(gradient.is_sparse for gradient in gradients)
    with torch.no_grad():
        sgd(moved, gradients, buffers, sparse, dampening=0, nesterov=False, maximize=False, **how)
    momenta.update(zip(moved, buffers, strict=True))
    model.zero_grad()


def _history(losses: Tensor, sizes: list[int], every: int = 50) -> pd.DataFrame:
    if not losses.isfinite().all():
        step = int((~losses.isfinite()).nonzero()[0])
        raise ValueError(
            f"the loss is {losses[step]} at step {step}; try a smaller lr, and look for NaN in the images"
        )
    table = pd.DataFrame(
        {"step": range(len(losses)), "images": pd.Series(sizes).cumsum(), "loss": losses.numpy()}
    )
    return (
        table.groupby(table.step // every)
        .agg({"step": "max", "images": "max", "loss": "mean"})
        .reset_index(drop=True)
    )


def correct(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> Tensor:
    """For each image, on the CPU, whether its largest output is at its label; arguments as for `accuracy`."""
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"there are {len(images)} images and {len(labels)} labels; give one label for each image"
        )
    outputs = predict(model, images, batch_size=batch_size)
    return outputs.argmax(1).cpu() == labels.cpu()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> float:
    """Share of images whose largest output is at their label, 0 … 1.

    Args:
        model: run in eval mode without gradients on its own device, wherever the images are.
        images: images × channels × height × width, uint8 (scaled to [0, 1]) or float.
        labels: one integer for each image.
        batch_size: images in one forward pass.

    Raises:
        ValueError: for no images, or another number of labels.
    """
    return correct(model, images, labels, batch_size=batch_size).double().mean().item()
