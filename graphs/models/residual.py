"""Chains of blocks with a shortcut: ResNet-18 and MobileNetV2."""

from torch import Tensor, nn

from graphs.models._common import (
    Network,
    check_at_least,
    classifier,
    conv_bn,
    conv_bn_relu,
    images,
    initialised,
    scaled,
    seeded,
)

# Expansion, channels (of a network whose stem has 32), repeats and first stride of each group of MobileNetV2.
MOBILENET_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MOBILENET_STEM = 32
MOBILENET_HEAD = 1280


class BasicBlock(nn.Module):
    """Two 3x3 convolutions added to the input, which is projected where its shape differs."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, 3, stride)
        self.conv2 = conv_bn(outputs, outputs, 3)
        self.relu = nn.ReLU(inplace=True)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += self.shortcut(x)
        result: Tensor = self.relu(out)
        return result


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; added to the input if the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential()
        if expansion > 1:
            self.conv.extend([*conv_bn(inputs, hidden, 1), nn.ReLU6(inplace=True)])
        self.conv.extend([*conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(inplace=True)])
        self.conv.extend(conv_bn(hidden, outputs, 1))
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.shortcut else out


def resnet18(
    *, seed: int = 0, batch: int = 1, resolution: int = 224, channels: int = 64, classes: int = 1000
) -> Network:
    """ResNet-18 (He et al., CVPR 2016): images (batch, 3, r, r) to (batch, classes)."""
    check_at_least(1, batch=batch, resolution=resolution, channels=channels, classes=classes)
    with seeded(seed):
        net = nn.Sequential(conv_bn_relu(3, channels, 7, 2), nn.MaxPool2d(3, 2, 1))
        inputs = channels
        for stage in range(4):
            outputs = channels << stage
            net.extend([BasicBlock(inputs, outputs, 2 if stage else 1), BasicBlock(outputs, outputs)])
            inputs = outputs
        net.append(classifier(inputs, classes))
        return initialised(net), (images(batch, resolution),)


def mobilenet(
    *, seed: int = 0, batch: int = 1, resolution: int = 224, channels: int = 32, classes: int = 1000
) -> Network:
    """MobileNetV2 (Sandler et al., CVPR 2018): images (batch, 3, r, r) to (batch, classes)."""
    check_at_least(1, batch=batch, resolution=resolution, channels=channels, classes=classes)
    with seeded(seed):
        net = nn.Sequential(*conv_bn(3, channels, 3, 2), nn.ReLU6(inplace=True))
        inputs = channels
        for expansion, width, repeats, stride in MOBILENET_GROUPS:
            outputs = scaled(channels, width, MOBILENET_STEM)
            for i in range(repeats):
                net.append(InvertedResidual(inputs, outputs, 1 if i else stride, expansion))
                inputs = outputs
        net.extend([*conv_bn(inputs, MOBILENET_HEAD, 1), nn.ReLU6(inplace=True)])
        net.append(classifier(MOBILENET_HEAD, classes))
        return initialised(net), (images(batch, resolution),)
