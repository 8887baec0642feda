"""The small networks that ship with the package, trained on scikit-learn's digits by ``scripts/train_digits.py``."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lowdim._preprocessing import Preprocessing

WEIGHTS = Path(__file__).parent / "weights"
DIGITS_CLASSES = {
    "digits": tuple("0123456789"),
    "digits-0-4": tuple("01234"),
    "digits-split": tuple("0123456789"),
}
EMBEDDED = {"digits": "digits", "digits-0-4": "digits-0-4", "digits-split": "digits-source"}
"""The embedded networks, and the data set whose training images each was trained on."""
DIGITS_PREPROCESSING = Preprocessing(image_size=(8, 8), mean=(0.0,), std=(1.0,), channels=1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm around a shortcut."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps N x width x H x W to the same, or to half the sides with stride 2."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + x[:, :, :: self.stride, :: self.stride])


class DigitsNet(nn.Module):
    """A stem and six residual blocks of one width on grey 8 x 8 images; 64,000 parameters at width 24.

    One width throughout, because a wider last stage makes the pooled NC1 rise on the way.

    Args:
        classes: Outputs.
        width: Channels.

    Example:
        >>> DigitsNet(classes=10)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10, width: int = 24, depth: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, 2 if index == 1 else 1) for index in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images N x 1 x 8 x 8 in 0..1 to logits N x classes."""
        x = F.relu(self.bn(self.conv(x)))
        return self.head(self.blocks(x).mean(dim=(2, 3)))


class DigitsMLP(nn.Module):
    """Seven hidden layers of one width with BatchNorm on grey 8 x 8 images; trains in seconds.

    Example:
        >>> DigitsMLP(classes=10)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10, width: int = 64, depth: int = 7) -> None:
        super().__init__()
        widths = [64] + [width] * depth
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())
                for inputs, outputs in pairwise(widths)
            )
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images N x 1 x 8 x 8 in 0..1 to logits N x classes."""
        return self.head(self.layers(x.flatten(1)))


def digits_network(name: str, *, seed: int | None = None) -> DigitsNet:
    """An embedded network, or its untrained twin."""
    from lowdim.models._weights import load_strictly, read_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if seed is None else seed)
        module = DigitsNet(len(DIGITS_CLASSES[name]))
    if seed is None:
        path = WEIGHTS / f"{name}.safetensors"
        load_strictly(module, read_weights(path), path.name)
    return module.eval()
