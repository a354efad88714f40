"""The networks of Saini & Papalexakis (2018)."""

from collections import OrderedDict

import torch
from torch import nn


class PaperCNN(nn.Sequential):
    """Two convolutions and one linear layer, for 1×28×28 images (their section 3.1).

    conv 1→10 5×5, max-pool 2, ReLU (10×12×12); conv 10→20 5×5, max-pool 2, ReLU (20×4×4); linear to `classes`.
    The paper's activations A_0 and A_1 are the outputs of `relu1` (1,440 neurons) and `relu2` (320).
    Weights start from PyTorch's defaults, drawn with `seed`; the global random state is left alone.
    """

    def __init__(self, classes: int = 10, *, seed: int = 0):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            layers = OrderedDict(
                conv1=nn.Conv2d(1, 10, 5),
                pool1=nn.MaxPool2d(2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(10, 20, 5),
                pool2=nn.MaxPool2d(2),
                relu2=nn.ReLU(),
                flatten=nn.Flatten(),
                fc=nn.Linear(320, classes),
            )
        super().__init__(layers)


class CifarAlexNet(nn.Sequential):
    """AlexNet (Krizhevsky et al. 2012) cut down to images of 32×32 pixels: five convolutions and one linear layer.

    The variant of the public pytorch-classification collection, which Saini & Papalexakis name for their Figure 6. The
    paper's activations are the outputs of `relu1` to `relu5`: 64×8×8, 192×4×4, 384×2×2, 256×2×2, 256×2×2.
    Images of 28×28 need a border of 2 pixels. Weights as in `PaperCNN`.
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, *, seed: int = 0):
        layers = OrderedDict()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
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
