"""Zhang's network in small: the pipeline of CaffeNet, for images of CIFAR-10.

CaffeNet is AlexNet (Krizhevsky et al. 2012) with each pool before its normalization. This one has
its eight layers, and as many places in each: 55 × 55, 27 × 27, 13 × 13, and 6 × 6 after the last
pool. It has fewer channels, and images are enlarged for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from .cache import cached
from .models import _seeded
from .training import train

SIZE = 61  # pixels: conv1 makes 55 of them
GREY = 64  # grey levels in a unit of the first layer's input


class SmallCaffeNet(nn.Sequential):
    """CaffeNet with 16 to 64 channels, and 384 neurons in fc6 and fc7.

    Its convolutions end in `norm1`, `norm2`, `relu3`, `relu4` and `pool5`. Weights start as He et
    al. (2015) draw them.

    Args:
        classes: outputs.
        width: multiplies the numbers of channels, and of neurons in fc6 and fc7.
        seed: of the first weights; the global random state is left alone.

    Example:
        >>> import peeklib as pk
        >>> model = SmallCaffeNet(width=0.5, seed=0)
        >>> pk.record(model, torch.rand(2, 3, 32, 32), ["pool5"])["pool5"].shape  # 32 · 6 · 6 × 2
        torch.Size([1152, 2])
    """

    def __init__(self, classes: int = 10, *, width: float = 1, seed: int = 0):
        super().__init__()
        first, second, third, hidden = (round(width * base) for base in (16, 48, 64, 384))
        with _seeded(seed):
            self.enlarge = _Enlarge()  # 3 × 61 × 61
            self.conv1 = nn.Conv2d(3, first, 7)
            self.relu1 = nn.ReLU()  # 16 × 55 × 55
            self.pool1 = nn.MaxPool2d(3, stride=2)
            self.norm1 = _ResponseNorm(first)  # 16 × 27 × 27
            self.conv2 = nn.Conv2d(first, second, 5, padding=2)
            self.relu2 = nn.ReLU()
            self.pool2 = nn.MaxPool2d(3, stride=2)
            self.norm2 = _ResponseNorm(second)  # 48 × 13 × 13
            self.conv3 = nn.Conv2d(second, third, 3, padding=1)
            self.relu3 = nn.ReLU()  # 64 × 13 × 13
            self.conv4 = nn.Conv2d(third, third, 3, padding=1)
            self.relu4 = nn.ReLU()  # 64 × 13 × 13
            self.conv5 = nn.Conv2d(third, third, 3, padding=1)
            self.relu5 = nn.ReLU()
            self.pool5 = nn.MaxPool2d(3, stride=2)  # 64 × 6 × 6
            self.flatten = nn.Flatten()
            self.fc6 = nn.Linear(third * 36, hidden)
            self.relu6 = nn.ReLU()
            self.drop6 = nn.Dropout()
            self.fc7 = nn.Linear(hidden, hidden)
            self.relu7 = nn.ReLU()
            self.drop7 = nn.Dropout()
            self.fc8 = nn.Linear(hidden, classes)
            self.apply(_he)


class _Enlarge(nn.Module):
    """Images of any size, 0 to 1, as 61 × 61 pixels around 0, in units of 64 grey levels."""

    def forward(self, x: Tensor) -> Tensor:
        x = interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = (x - 0.5) * (255 / GREY)
        return x.contiguous(memory_format=torch.channels_last)  # a fifth faster from here on


class _ResponseNorm(nn.Module):
    """Each channel divided by (1 + α/5 · the squares of the five around it, summed)^0.75.

    Caffe's α, 0.0001, is meant for grey levels. As a convolution with a band of ones it takes a
    third of the time of `nn.LocalResponseNorm`.
    """

    band: Tensor

    def __init__(self, channels: int, alpha: float = 1e-4 * GREY**2):
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index).abs() <= 2
        self.register_buffer("band", near.float()[:, :, None, None] * alpha / 5)

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + conv2d(x.square(), self.band)) ** 0.75


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType] -- all have one


def train_caffenet(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    rates: Sequence[float] = (0.02, 0.02, 0.02, 0.02, 0.002),
) -> nn.Module:
    """Train a `SmallCaffeNet` with momentum 0.9 and weight decay, and keep each epoch on disk.

    Stopped and started again, it goes on after the last epoch that it finished. Momentum starts
    anew in every epoch.

    Args:
        model: changed in place where nothing was kept; use what is returned.
        images, labels: as for `pk.train`.
        seed: of the order of images, and of dropout.
        rates: learning rates, one for each epoch.

    Returns:
        The trained network.

    Example:
        >>> import peeklib as pk
        >>> data = pk.load_dataset("cifar10")  # doctest: +SKIP
        >>> model = train_caffenet(SmallCaffeNet(seed=0), *data.train)  # doctest: +SKIP
    """
    fit = cached(train)
    for epoch, rate in enumerate(rates):
        how = {"seed": 1000 * epoch + seed, "lr": rate, "momentum": 0.9, "weight_decay": 5e-4}
        model = fit(model, images, labels, **how).model
    return model
