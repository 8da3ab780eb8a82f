"""BiFPN: a feature pyramid passed down and up again several times, summed with learned weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.models._common import (
    Network,
    check_at_least,
    check_multiple,
    conv_bn,
    images,
    initialised,
    seeded,
)
from graphs.models.residual import InvertedResidual

# Channels of the backbone at strides 4, 8, 16 and 32; the pyramid takes the last three.
BACKBONE = (24, 40, 112, 320)
BACKBONE_STEM = 32
EXPANSION = 6
LEVELS = 5
EPSILON = 1e-4


class Fusion(nn.Module):
    """Fast normalised fusion of maps of one shape, SiLU, separable 3x3 convolution, batch norm."""

    def __init__(self, fan_in: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(fan_in))
        depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.conv = nn.Sequential(nn.SiLU(inplace=True), depthwise, *conv_bn(channels, channels, 1))

    def forward(self, *maps: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        weights = weights / (weights.sum() + EPSILON)
        total = weights[0] * maps[0]
        for i in range(1, len(maps)):
            total = total + weights[i] * maps[i]
        out: Tensor = self.conv(total)
        return out


class BiFPNLayer(nn.Module):
    """Top-down pass over all levels, then bottom-up pass that also reads the original maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(Fusion(2, channels) for _ in range(LEVELS - 1))
        inner = [Fusion(3, channels) for _ in range(LEVELS - 2)]
        self.up = nn.ModuleList([*inner, Fusion(2, channels)])
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        coarser = maps[-1]
        between: list[Tensor] = []
        for fusion, own in zip(self.down, reversed(maps[:-1]), strict=True):
            coarser = fusion(own, F.interpolate(coarser, scale_factor=2.0, mode="nearest"))
            between.append(coarser)
        between.reverse()
        outputs = [between[0]]
        # The coarsest level has no map between the passes.
        extra = [[x] for x in between[1:]] + [[]]
        for fusion, own, middle in zip(self.up, maps[1:], extra, strict=True):
            outputs.append(fusion(own, *middle, self.pool(outputs[-1])))
        return outputs


class BiFPN(nn.Module):
    """A backbone of inverted residuals, two more levels pooled from its last map, and the BiFPN layers."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, BACKBONE_STEM, 3, 2), nn.SiLU(inplace=True))
        self.backbone = nn.ModuleList()
        inputs = BACKBONE_STEM
        for outputs in BACKBONE:
            reduce = InvertedResidual(inputs, outputs, 2, EXPANSION)
            refine = InvertedResidual(outputs, outputs, 1, EXPANSION)
            self.backbone.append(nn.Sequential(reduce, refine))
            inputs = outputs
        self.lateral = nn.ModuleList(conv_bn(width, channels, 1) for width in BACKBONE[1:])
        self.coarse = conv_bn(BACKBONE[-1], channels, 1).append(nn.MaxPool2d(3, 2, 1))
        self.coarsest = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(*(BiFPNLayer(channels) for _ in range(layers)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        stages: list[Tensor] = []
        for stage in self.backbone:
            x = stage(x)
            stages.append(x)
        maps = [lateral(s) for lateral, s in zip(self.lateral, stages[1:], strict=True)]
        maps.append(self.coarse(x))
        maps.append(self.coarsest(maps[-1]))
        return tuple(self.layers(maps))


def bifpn(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 256,
    channels: int = 64,
    layers: int = 3,
) -> Network:
    """BiFPN (Tan et al., CVPR 2020): images (batch, 3, r, r) to five maps (batch, channels, s, s).

    The sides s are r / 8, r / 16, ..., r / 128 for ``resolution`` r; the network ends at the pyramid.
    """
    check_at_least(1, batch=batch, channels=channels, layers=layers)
    check_multiple(128, resolution=resolution)
    with seeded(seed):
        return initialised(BiFPN(channels, layers)), (images(batch, resolution),)
