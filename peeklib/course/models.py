"""The networks of Saini & Papalexakis (2018), and two more kinds for the zoo.

Each is an `nn.Sequential`: its layers run in the order in which they are set, under the names that
they are set as. A comment says what a layer gives for one image, channels × height × width.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..blocks import check_seed


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside come from `seed`; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            check_seed(seed)
        )  # torch.manual_seed would seed GPUs too
        yield


class PaperCNN(nn.Sequential):
    """Two convolutions and one linear layer, for 1×28×28 images (their section 3.1).

    The paper's activations A_0 and A_1 are the outputs of `relu1` (1,440 neurons) and `relu2`
    (320). Other sizes and widths make relatives of it.

    Args:
        classes: outputs.
        in_channels: channels of the images.
        size: height and width of the images, in pixels.
        width: multiplies the numbers of channels, 10 and 20.
        seed: of the first weights, PyTorch's defaults; the global random state is left alone.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> model = pk.models.PaperCNN(seed=0)
        >>> model(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 10])
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
        super().__init__()
        first = round(10 * width)
        second = round(20 * width)
        side = ((size - 4) // 2 - 4) // 2  # each convolution takes 4 pixels, each pool halves
        with _seeded(seed):
            self.conv1 = nn.Conv2d(in_channels, first, 5)  # 10 × 24 × 24
            self.pool1 = nn.MaxPool2d(2)  # 10 × 12 × 12
            self.relu1 = nn.ReLU()
            self.conv2 = nn.Conv2d(first, second, 5)  # 20 × 8 × 8
            self.pool2 = nn.MaxPool2d(2)  # 20 × 4 × 4
            self.relu2 = nn.ReLU()
            self.flatten = nn.Flatten()
            self.fc = nn.Linear(second * side**2, classes)


class MLP(nn.Sequential):
    """Two hidden layers of 128 × `width` neurons, `relu1` and `relu2`.

    Arguments as in `PaperCNN`.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> pk.models.MLP(classes=3, size=8)(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 3])
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
        super().__init__()
        hidden = round(128 * width)
        with _seeded(seed):
            self.flatten = nn.Flatten()
            self.fc1 = nn.Linear(in_channels * size**2, hidden)
            self.relu1 = nn.ReLU()
            self.fc2 = nn.Linear(hidden, hidden)
            self.relu2 = nn.ReLU()
            self.fc = nn.Linear(hidden, classes)


class SmallResNet(nn.Sequential):
    """A residual network (He et al. 2016) with batch normalization: a stem and two blocks.

    Five ReLUs: `relu`, and `relu1` and `relu2` of each block. Arguments as in `PaperCNN`; `width`
    multiplies 16 and 32 channels. Images of any size pass, so `size` changes nothing.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> model = pk.models.SmallResNet(in_channels=3, size=32).eval()
        >>> pk.relu_layers(model)
        ['relu', 'block1.relu1', 'block1.relu2', 'block2.relu1', 'block2.relu2']
        >>> model(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 10])
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
        super().__init__()
        channels = round(16 * width)
        with _seeded(seed):
            self.conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(channels)
            self.relu = nn.ReLU()  # 16 × 14 × 14, for images of 28 × 28
            self.block1 = _Residual(channels, channels, stride=1)  # 16 × 14 × 14
            self.block2 = _Residual(channels, 2 * channels, stride=2)  # 32 × 7 × 7
            self.pool = nn.AdaptiveAvgPool2d(1)  # 32 × 1 × 1
            self.flatten = nn.Flatten()
            self.fc = nn.Linear(2 * channels, classes)


class _Residual(nn.Module):
    """Two 3×3 convolutions, and a way around them: 1×1 where the shape changes, else direct."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        if before == after and stride == 1:
            self.short = nn.Identity()
        else:
            self.short = nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(inside)) + self.short(x))


class CifarAlexNet(nn.Sequential):
    """AlexNet (Krizhevsky et al. 2012) cut down to images of 32×32 pixels: five convolutions.

    The variant of the public pytorch-classification collection, which Saini & Papalexakis name for
    their Figure 6. The paper's activations are the outputs of `relu1` to `relu5`. Images of 28×28
    need a border of 2 pixels.

    Args:
        in_channels: channels of the images.
        classes: outputs.
        seed: of the first weights, as in `PaperCNN`.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> model = pk.models.CifarAlexNet(in_channels=3, seed=0)
        >>> pk.record(model, torch.rand(5, 3, 32, 32), layers=["relu5"])["relu5"].shape
        torch.Size([1024, 5])
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, *, seed: int = 0):
        super().__init__()
        with _seeded(seed):
            self.conv1 = nn.Conv2d(in_channels, 64, 11, stride=4, padding=5)
            self.relu1 = nn.ReLU()  # 64 × 8 × 8
            self.pool1 = nn.MaxPool2d(2)
            self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
            self.relu2 = nn.ReLU()  # 192 × 4 × 4
            self.pool2 = nn.MaxPool2d(2)
            self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
            self.relu3 = nn.ReLU()  # 384 × 2 × 2
            self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
            self.relu4 = nn.ReLU()  # 256 × 2 × 2
            self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
            self.relu5 = nn.ReLU()  # 256 × 2 × 2
            self.pool5 = nn.MaxPool2d(2)
            self.flatten = nn.Flatten()
            self.fc = nn.Linear(256, classes)
