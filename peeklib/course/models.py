"""The networks of Saini & Papalexakis (2018), and two more kinds for the zoo."""

from collections import OrderedDict
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def _seeded(seed: int):
    """Weights drawn inside come from `seed`; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class PaperCNN(nn.Sequential):
    """Two convolutions and one linear layer, for 1×28×28 images (their section 3.1).

    conv 1→10 5×5, max-pool 2, ReLU (10×12×12); conv 10→20 5×5, max-pool 2, ReLU (20×4×4); linear to `classes`.
    The paper's activations A_0 and A_1 are the outputs of `relu1` (1,440 neurons) and `relu2` (320).
    `in_channels`, `size` (height and width of the images) and `width` (which multiplies 10 and 20) make relatives of it.
    Weights start from PyTorch's defaults, drawn with `seed`; the global random state is left alone.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        in_channels: int = 1,
        size: int = 28,
        width: float = 1,
        seed: int = 0,
    ):
        first, second = round(10 * width), round(20 * width)
        side = ((size - 4) // 2 - 4) // 2
        with _seeded(seed):
            layers = OrderedDict(
                conv1=nn.Conv2d(in_channels, first, 5),
                pool1=nn.MaxPool2d(2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(first, second, 5),
                pool2=nn.MaxPool2d(2),
                relu2=nn.ReLU(),
                flatten=nn.Flatten(),
                fc=nn.Linear(second * side**2, classes),
            )
        super().__init__(layers)


class MLP(nn.Sequential):
    """Two hidden layers of 128 × `width` neurons, `relu1` and `relu2`; arguments as in `PaperCNN`."""

    def __init__(
        self,
        classes: int = 10,
        *,
        in_channels: int = 1,
        size: int = 28,
        width: float = 1,
        seed: int = 0,
    ):
        hidden = round(128 * width)
        with _seeded(seed):
            layers = OrderedDict(
                flatten=nn.Flatten(),
                fc1=nn.Linear(in_channels * size**2, hidden),
                relu1=nn.ReLU(),
                fc2=nn.Linear(hidden, hidden),
                relu2=nn.ReLU(),
                fc=nn.Linear(hidden, classes),
            )
        super().__init__(layers)


class SmallResNet(nn.Sequential):
    """A residual network (He et al. 2016) with batch normalization: a stem and two blocks; arguments as in `PaperCNN`.

    conv 3×3 to 16 × `width` channels with stride 2; one block that keeps them, one that doubles them and halves the
    maps; mean over each map; linear. Five ReLUs: `relu`, and `relu1` and `relu2` of each block.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        in_channels: int = 1,
        size: int = 28,
        width: float = 1,
        seed: int = 0,
    ):
        channels = round(16 * width)
        with _seeded(seed):
            layers = OrderedDict(
                conv=nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False),
                norm=nn.BatchNorm2d(channels),
                relu=nn.ReLU(),
                block1=_Residual(channels, channels, stride=1),
                block2=_Residual(channels, 2 * channels, stride=2),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(2 * channels, classes),
            )
        super().__init__(layers)


class _Residual(nn.Module):
    """Two 3×3 convolutions around which the input passes, through a 1×1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        same = before == after and stride == 1
        self.short = (
            nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)
        )

    def forward(self, x):
        inside = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(inside)) + self.short(x))


class CifarAlexNet(nn.Sequential):
    """AlexNet (Krizhevsky et al. 2012) cut down to images of 32×32 pixels: five convolutions and one linear layer.

    The variant of the public pytorch-classification collection, which Saini & Papalexakis name for their Figure 6. The
    paper's activations are the outputs of `relu1` to `relu5`: 64×8×8, 192×4×4, 384×2×2, 256×2×2, 256×2×2.
    Images of 28×28 need a border of 2 pixels. Weights as in `PaperCNN`.
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, *, seed: int = 0):
        layers = OrderedDict()
        with _seeded(seed):
            layers["conv1"] = nn.Conv2d(in_channels, 64, 11, stride=4, padding=5)
            layers["relu1"] = nn.ReLU()
            layers["pool1"] = nn.MaxPool2d(2)
            layers["conv2"] = nn.Conv2d(64, 192, 5, padding=2)
            layers["relu2"] = nn.ReLU()
            layers["pool2"] = nn.MaxPool2d(2)
            for k, (before, after) in enumerate([(192, 384), (384, 256), (256, 256)], start=3):
                layers[f"conv{k}"] = nn.Conv2d(before, after, 3, padding=1)
                layers[f"relu{k}"] = nn.ReLU()
            layers["pool5"] = nn.MaxPool2d(2)
            layers["flatten"] = nn.Flatten()
            layers["fc"] = nn.Linear(256, classes)
        super().__init__(layers)
