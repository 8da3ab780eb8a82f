"""UNet++: a grid of convolutions between an encoder and a decoder, every row densely connected."""

import torch
from torch import Tensor, nn

from graphs.models._common import (
    Network,
    check_at_least,
    check_multiple,
    conv_bn_relu,
    images,
    initialised,
    seeded,
)


class UNetPlusPlus(nn.Module):
    """Node (row, column) reads its whole row so far and the upsampled node below the last one of it."""

    def __init__(self, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [channels << row for row in range(depth)]
        self.depth = depth
        self.nodes = nn.ModuleDict()
        for row in range(depth):
            self.nodes[f"{row}_0"] = self.node(widths[row - 1] if row else 3, widths[row])
            for column in range(1, depth - row):
                self.nodes[f"{row}_{column}"] = self.node(column * widths[row] + widths[row + 1], widths[row])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.head = nn.Conv2d(widths[0], classes, 1)

    @staticmethod
    def node(inputs: int, outputs: int) -> nn.Sequential:
        """Two 3x3 convolutions."""
        return nn.Sequential(conv_bn_relu(inputs, outputs, 3), conv_bn_relu(outputs, outputs, 3))

    def forward(self, image: Tensor) -> Tensor:
        rows: list[list[Tensor]] = []
        for diagonal in range(self.depth):
            below = self.pool(rows[-1][0]) if rows else image
            rows.append([self.nodes[f"{diagonal}_0"](below)])
            for column in range(1, diagonal + 1):
                row = diagonal - column
                joined = torch.cat([*rows[row], self.up(rows[row + 1][column - 1])], dim=1)
                rows[row].append(self.nodes[f"{row}_{column}"](joined))
        out: Tensor = self.head(rows[0][-1])
        return out


def unet_plus_plus(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 128,
    channels: int = 32,
    depth: int = 5,
    classes: int = 1,
) -> Network:
    """UNet++ (Zhou et al., DLMIA 2018): images (batch, 3, r, r) to masks (batch, classes, r, r).

    ``depth`` rows, the first of ``channels``, each next one of twice the channels at half the resolution.
    """
    check_at_least(1, batch=batch, channels=channels, classes=classes)
    check_at_least(2, depth=depth)
    check_multiple(1 << (depth - 1), resolution=resolution)
    with seeded(seed):
        return initialised(UNetPlusPlus(channels, depth, classes)), (images(batch, resolution),)
