"""Networks whose blocks concatenate: DenseNet keeps every earlier output, Inception joins four branches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graphs.models._common import (
    Network,
    check_at_least,
    check_multiple,
    classifier,
    conv_bn_relu,
    images,
    initialised,
    scaled,
    seeded,
)

# Channels (of a network whose stem has 64) of the branches of each module of GoogLeNet: the 1x1; the 3x3's
# reduction and output; the 5x5's reduction and output; the pool's projection. None is a pool between modules.
INCEPTION_MODULES = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
INCEPTION_STEM = 64
BOTTLENECK = 4


def bn_relu_conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Batch norm, ReLU in place, convolution."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv)


class DenseBlock(nn.Module):
    """Layers of ``growth`` channels, each reading the concatenation of the input and all layers before it."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        hidden = BOTTLENECK * growth
        self.layers = nn.ModuleList(
            nn.Sequential(bn_relu_conv(inputs + i * growth, hidden, 1), bn_relu_conv(hidden, growth, 3))
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1)))
        return torch.cat(features, dim=1)


class InceptionModule(nn.Module):
    """A 1x1, a 3x3, a 5x5 and a pooling branch on the same input, concatenated."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = widths
        self.one = conv_bn_relu(inputs, one, 1)
        self.three = nn.Sequential(conv_bn_relu(inputs, three_in, 1), conv_bn_relu(three_in, three, 3))
        self.five = nn.Sequential(conv_bn_relu(inputs, five_in, 1), conv_bn_relu(five_in, five, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn_relu(inputs, pooled, 1))
        self.outputs = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], dim=1)


def densenet(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    growth: int = 32,
    blocks: Sequence[int] = (6, 12, 24, 16),
    classes: int = 1000,
) -> Network:
    """DenseNet-121 (Huang et al., CVPR 2017): images (batch, 3, r, r) to (batch, classes).

    ``blocks`` are the layers of each dense block; a 1x1 convolution and a pool halve what comes between two.
    """
    check_at_least(1, batch=batch, growth=growth, classes=classes, blocks=min(blocks, default=0))
    check_multiple(2 << len(blocks), resolution=resolution)
    with seeded(seed):
        channels = 2 * growth
        net = nn.Sequential(conv_bn_relu(3, channels, 7, 2), nn.MaxPool2d(3, 2, 1))
        for i, layers in enumerate(blocks):
            if i:
                net.extend([bn_relu_conv(channels, channels // 2, 1), nn.AvgPool2d(2)])
                channels //= 2
            net.append(DenseBlock(channels, growth, layers))
            channels += layers * growth
        net.extend([nn.BatchNorm2d(channels), nn.ReLU(inplace=True), classifier(channels, classes)])
        return initialised(net), (images(batch, resolution),)


def inception(
    *, seed: int = 0, batch: int = 1, resolution: int = 224, channels: int = 64, classes: int = 1000
) -> Network:
    """GoogLeNet (Szegedy et al., CVPR 2015): images (batch, 3, r, r) to (batch, classes).

    Every convolution has a batch norm; ``channels`` are those of the stem, and the others scale with it.
    """
    check_at_least(1, batch=batch, resolution=resolution, channels=channels, classes=classes)
    with seeded(seed):
        inputs = 3 * channels
        net = nn.Sequential(
            conv_bn_relu(3, channels, 7, 2),
            nn.MaxPool2d(3, 2, 1),
            conv_bn_relu(channels, channels, 1),
            conv_bn_relu(channels, inputs, 3),
            nn.MaxPool2d(3, 2, 1),
        )
        for widths in INCEPTION_MODULES:
            if widths is None:
                net.append(nn.MaxPool2d(3, 2, 1))
                continue
            module = InceptionModule(inputs, [scaled(channels, w, INCEPTION_STEM) for w in widths])
            net.append(module)
            inputs = module.outputs
        net.append(classifier(inputs, classes))
        return initialised(net), (images(batch, resolution),)
