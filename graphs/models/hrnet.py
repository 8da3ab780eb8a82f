"""HRNet: branches of different resolutions in parallel, each repeatedly summed with all the others."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.models._common import (
    Network,
    check_at_least,
    check_multiple,
    conv_bn,
    conv_bn_relu,
    images,
    initialised,
    seeded,
)
from graphs.models.residual import BasicBlock

STEM_CHANNELS = 64
STEM_BLOCKS = 2


def exchange(source: int, target: int, widths: Sequence[int]) -> nn.Module:
    """Bring branch ``source`` to the resolution and channels of branch ``target``."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=1 << (source - target), mode="nearest")
        return conv_bn(widths[source], widths[target], 1).append(up)
    path = nn.Sequential()
    for _ in range(target - source - 1):
        path.append(conv_bn_relu(widths[source], widths[source], 3, 2))
    return path.append(conv_bn(widths[source], widths[target], 3, 2))


class Fusion(nn.Module):
    """ReLU of the sum of all branches, brought to branch ``target``."""

    def __init__(self, target: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(exchange(source, target, widths) for source in range(len(widths)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, states: list[Tensor]) -> Tensor:
        # Each of at least two branches adds to the sum, so that the ReLU overwrites no branch's own state.
        total = self.paths[0](states[0])
        for i in range(1, len(states)):
            total = total + self.paths[i](states[i])
        out: Tensor = self.relu(total)
        return out


class MultiResolution(nn.Module):
    """Residual blocks on each branch, then full fusion: each output sums all branches at its resolution."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.fusions = nn.ModuleList(Fusion(target, widths) for target in range(len(widths)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        states = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [fusion(states) for fusion in self.fusions]


class HRNet(nn.Module):
    """Stem at a quarter of the resolution, stages of 2, 3, ... branches, all maps joined at the finest."""

    def __init__(self, channels: int, modules: Sequence[int], blocks: int, classes: int) -> None:
        super().__init__()
        widths = [channels << i for i in range(len(modules) + 1)]
        self.stem = nn.Sequential(
            conv_bn_relu(3, STEM_CHANNELS, 3, 2),
            conv_bn_relu(STEM_CHANNELS, STEM_CHANNELS, 3, 2),
            *(BasicBlock(STEM_CHANNELS, STEM_CHANNELS) for _ in range(STEM_BLOCKS)),
        )
        self.first = conv_bn_relu(STEM_CHANNELS, channels, 3)
        self.lower = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, repeats in enumerate(modules):
            self.lower.append(conv_bn_relu(widths[i] if i else STEM_CHANNELS, widths[i + 1], 3, 2))
            fusions = (MultiResolution(widths[: i + 2], blocks) for _ in range(repeats))
            self.stages.append(nn.Sequential(*fusions))
        joined = sum(widths)
        self.head = nn.Sequential(conv_bn_relu(joined, joined, 1), nn.Conv2d(joined, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        maps = [self.first(x)]
        for i, (lower, stage) in enumerate(zip(self.lower, self.stages, strict=True)):
            maps = stage([*maps, lower(maps[-1] if i else x)])
        size = maps[0].shape[-2:]
        finest = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps[1:]]
        out: Tensor = self.head(torch.cat([maps[0], *finest], dim=1))
        return out


def hrnet(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    channels: int = 18,
    modules: Sequence[int] = (1, 3, 2),
    blocks: int = 2,
    classes: int = 19,
) -> Network:
    """HRNetV2 (Wang et al., TPAMI 2020): images (batch, 3, r, r) to (batch, classes, r / 4, r / 4).

    Stage i has i + 2 branches and ``modules[i]`` fusions, each after ``blocks`` residual blocks a branch. The
    defaults are those of W18-small-v2, but for the stem's residual blocks: basic ones, not bottlenecks.
    """
    check_at_least(1, batch=batch, channels=channels, blocks=blocks, classes=classes)
    check_at_least(1, modules=min(modules, default=0))
    check_multiple(4 << len(modules), resolution=resolution)
    with seeded(seed):
        return initialised(HRNet(channels, modules, blocks, classes)), (images(batch, resolution),)
