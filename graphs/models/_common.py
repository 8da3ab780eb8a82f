"""What every factory needs: parameter checks, seeding, initial weights, and the usual convnet layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Network = tuple[nn.Module, tuple[Tensor, ...]]
Factory = Callable[..., Network]


def check_at_least(minimum: int, **sizes: int) -> None:
    """Raise ValueError naming the first of ``sizes`` that is below ``minimum``."""
    bound = "positive" if minimum == 1 else f"at least {minimum}"
    for name, size in sizes.items():
        if size < minimum:
            raise ValueError(f"'{name}' must be {bound} (got {size})")


def check_multiple(divisor: int, **sizes: int) -> None:
    """Raise ValueError naming the first of ``sizes`` that is not a positive multiple of ``divisor``."""
    for name, size in sizes.items():
        if size < 1 or size % divisor:
            raise ValueError(f"'{name}' must be a positive multiple of {divisor} (got {size})")


def check_fraction(**values: float) -> None:
    """Raise ValueError naming the first of ``values`` outside [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"'{name}' must be in [0, 1] (got {value})")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators with ``seed``, and put the state of the CPU one back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def initialised(net: nn.Module) -> nn.Module:
    """Give ``net`` weights under which its outputs depend on its inputs, and set it to eval mode.

    Torch's default convolution weights shrink the signal at each layer and a fresh batch norm is the
    identity in eval mode: a deep net would then return little but its last bias, whatever its order.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            # Most depthwise convolutions here feed a 1x1 convolution without a ReLU between.
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if module.groups > 1 else "relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.75, 1.25)
            nn.init.normal_(module.bias, std=0.1)
    return net.eval()


def scaled(channels: int, width: int, base: int) -> int:
    """Channels of a layer that has ``channels`` when the first one has ``base``, where that has ``width``."""
    return max(1, channels * width // base)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution with "same" padding, then batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with "same" padding, batch norm, ReLU in place."""
    return conv_bn(inputs, outputs, kernel, stride).append(nn.ReLU(inplace=True))


def classifier(channels: int, classes: int) -> nn.Sequential:
    """Global average pooling and a linear layer: (batch, channels, h, w) to (batch, classes)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def images(batch: int, resolution: int) -> Tensor:
    """Random RGB images, (batch, 3, resolution, resolution)."""
    return torch.randn(batch, 3, resolution, resolution)
