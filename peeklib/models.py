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
