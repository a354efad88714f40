"""Training by plain SGD, and accuracy: the only two places where labels are used."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..blocks import as_labels, check_count, check_seed, pick_device
from ..crew import threads_of_pytorch
from ..hooks import predict, visiting
from ..images import as_images, to_float
from ..watch import Preprocess, home_of

EVERY = 50  # steps that make one row of a history


class Trained(NamedTuple):
    """A trained model, and its loss as a table: step, images seen so far, mean since the last row.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> labels = torch.tensor([0, 1]).repeat(40)
        >>> trained = pk.train(torch.nn.Linear(3, 2), torch.rand(80, 3), labels, seed=0)
        >>> trained.history[["step", "images"]]
           step  images
        0     1      80
    """

    model: nn.Module
    history: pd.DataFrame  #: with columns step, images and loss; a row for every 50 steps


def train(
    model: nn.Module,
    images,
    labels,
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
    """Train `model` in place by SGD on the cross-entropy.

    The defaults give the accuracies of Saini & Papalexakis (2018).

    Args:
        model: trained on `device`; it comes back in eval mode, without gradients, on the device
            where it was; after an error too.
        images: images × channels × height × width, uint8 (scaled to [0, 1]) or float; or what
            `as_images` takes.
        labels: one integer for each image, as a tensor, array, list or column.
        seed: of the order of the images, and of dropout.
        epochs: passes over the images.
        shuffle: a new order each epoch; False keeps the order given (their Case Study III).
        lr, momentum, weight_decay, batch_size: of stochastic gradient descent.
        device: where to train; None takes a GPU if there is one.
        threads: of PyTorch on a CPU. One is safe: a step of these networks is made of many small
            ones, so that more threads lose much where cores are shared, and each number of them
            rounds in its own way. On a quiet machine more are faster.
        progress: show a progress bar.

    Returns:
        The same model, and a row of history for every 50 steps.

    Raises:
        TypeError: for epochs, a batch_size, threads or a seed that are no whole number, or what is
            no images.
        ValueError: for one below 1, no images, another number of labels, labels that the model has
            no output for, a negative lr, momentum or weight_decay, or a loss that is no longer
            finite.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> labels = (images.mean((1, 2, 3)) > 0.5).long()
        >>> model, history = pk.train(pk.models.PaperCNN(2), images, labels, seed=0, epochs=3)
        >>> bool(history.loss.isna().any())
        False
    """
    images = as_images(images)
    labels = as_labels(labels, len(images))
    seed = check_seed(seed)
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    check_count(threads, "threads")
    rates = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    if wrong := {name: rate for name, rate in rates.items() if not rate >= 0}:
        raise ValueError(f"{wrong}: none of these can be negative or NaN")
    device = pick_device(device, home_of(model, images.device))
    batches = _batches(len(images), batch_size, epochs, shuffle, seed)
    optimizer = _SGD(model, lr, momentum, weight_decay)
    highest = int(labels.max())
    losses = []
    with visiting(model, device), threads_of_pytorch(threads), torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout, if the model has any
        try:
            model.train().zero_grad()
            for batch in tqdm(batches, disable=not progress, desc="training", leave=False):
                pixels = to_float(images[batch].to(device))
                outputs = model(pixels)
                _check_outputs(outputs, highest)
                loss = nn.functional.cross_entropy(outputs, labels[batch].to(device))
                loss.backward()
                optimizer.step()
                model.zero_grad()
                losses.append(loss.detach())
        finally:
            model.eval().zero_grad()
    return Trained(model, _history(torch.stack(losses).cpu(), batches))


class _SGD:
    """`torch.optim.SGD`, whose first use would import PyTorch's compiler: seconds, each process.

    For each weight w with gradient g: v ← momentum · v + g + weight_decay · w, w ← w − lr · v.
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float, weight_decay: float):
        self.model = model
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.velocities: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        for weight in self.model.parameters():
            if weight.grad is None:  # frozen, or no part of this pass
                continue
            velocity = weight.grad
            if self.weight_decay:
                velocity = velocity.add(weight, alpha=self.weight_decay)
            if weight in self.velocities:
                velocity = self.velocities[weight].mul_(self.momentum).add_(velocity)
            self.velocities[weight] = velocity
            weight.add_(velocity, alpha=-self.lr)


def _batches(count: int, size: int, epochs: int, shuffle: bool, seed: int) -> list[Tensor]:
    """The numbers of the images that each step sees."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(epochs):
        order = torch.arange(count)
        if shuffle:
            order = torch.randperm(count, generator=generator)
        batches.extend(order.split(size))
    return batches


def _history(losses: Tensor, batches: list[Tensor]) -> pd.DataFrame:
    """The table of a history, from the loss of every step."""
    if not losses.isfinite().all():
        step = int((~losses.isfinite()).nonzero()[0])
        raise ValueError(
            f"the loss is {losses[step]} at step {step}; try a smaller lr, "
            "and look for NaN in the images"
        )
    seen = pd.Series([len(batch) for batch in batches]).cumsum()
    table = pd.DataFrame({"step": range(len(losses)), "images": seen, "loss": losses.numpy()})
    rows = table.groupby(table.step // EVERY)
    return rows.agg({"step": "max", "images": "max", "loss": "mean"}).reset_index(drop=True)


def _check_outputs(outputs: Tensor, highest: int) -> None:
    """Whether a model has an output for each class."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        shape = getattr(outputs, "shape", None)
        found = f"of shape {tuple(shape)}" if shape else f"a {type(outputs).__name__}"
        raise ValueError(f"the model's output is {found}; it must be a tensor, images × classes")
    if highest >= outputs.shape[1]:
        raise ValueError(
            f"there is a label {highest}, but the model has {outputs.shape[1]} outputs, for labels "
            f"0 to {outputs.shape[1] - 1}; number the classes from 0, or give the model more outputs"
        )


def correct(
    model: nn.Module,
    images,
    labels,
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 1000,
) -> Tensor:
    """For each image, whether the model's largest output is at its label.

    Arguments and errors as for `accuracy`.

    Returns:
        One boolean for each image, on the CPU.

    Example:
        >>> correct(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 0]))
        tensor([ True,  True, False])
    """
    images = as_images(images)
    labels = as_labels(labels, len(images)).cpu()
    outputs = predict(model, images, preprocess=preprocess, batch_size=batch_size)
    _check_outputs(outputs, int(labels.max()))
    if lost := int(outputs.isnan().any(1).sum()):  # which argmax takes for the largest
        raise ValueError(
            f"{lost} of {len(outputs)} images have NaN outputs; look for NaN in the images and in "
            "the model's weights: if its training diverged, train it with a smaller lr"
        )
    return outputs.argmax(1).cpu() == labels


def accuracy(
    model: nn.Module,
    images,
    labels,
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 1000,
) -> float:
    """Share of images whose largest output is at their label.

    Args:
        model: run in eval mode without gradients on its own device, wherever the images are.
        images: images × channels × height × width, uint8 (scaled to [0, 1]) or float; or what
            `as_images` takes.
        labels: one integer for each image, as a tensor, array, list or column.
        preprocess: what is done to a batch of images, as floats, before the model gets it.
        batch_size: images in one forward pass.

    Returns:
        Between 0 and 1.

    Raises:
        TypeError: for a batch_size that is no whole number, or what is no model.
        ValueError: for one below 1, no images, another number of labels, labels that the model
            has no output for, or outputs that are NaN.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> pk.accuracy(torch.nn.Identity(), torch.eye(4), torch.tensor([0, 1, 2, 0]))
        0.75
    """
    right = correct(model, images, labels, preprocess=preprocess, batch_size=batch_size)
    return right.double().mean().item()
