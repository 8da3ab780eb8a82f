"""Networks of searched cells: a cell adds pairs of small operators on its two inputs and on earlier sums."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphs.models._common import classifier


class Block(NamedTuple):
    """Sum of two operators, each on a state: 0 is the older cell, 1 the newer, 2 the first block."""

    left: str
    left_state: int
    right: str
    right_state: int


class Genotype(NamedTuple):
    """Blocks of a cell in order, and the states whose concatenation is the cell's output."""

    blocks: tuple[Block, ...]
    output: tuple[int, ...]


class CellSpec(NamedTuple):
    """One cell of a network: its wiring, the channels of each of its states, its stride."""

    genotype: Genotype
    channels: int
    stride: int


class FactorizedReduce(nn.Module):
    """Halve the resolution: half of the channels from the even pixels, half from the odd ones."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        out: Tensor = self.bn(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return out


# No ReLU below works in place: an operator's input is a state that other operators of the cell read.


def relu_conv_bn(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm."""
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


def separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise convolution, 1x1 convolution, batch norm."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def separable_twice(channels: int, kernel: int, stride: int) -> nn.Sequential:
    """Two separable convolutions, the first of them with the stride."""
    return nn.Sequential(separable(channels, kernel, stride), separable(channels, kernel, 1))


def conv_7x1_1x7(channels: int, stride: int) -> nn.Sequential:
    """ReLU, 1x7 convolution, 7x1 convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels),
    )


def skip(channels: int, stride: int) -> nn.Module:
    """The state itself, or a factorized reduction of it."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


def skip_conv(channels: int, stride: int) -> nn.Module:
    """The state itself, or a strided 1x1 convolution of it."""
    return nn.Identity() if stride == 1 else relu_conv_bn(channels, channels, stride)


OPERATORS: dict[str, Callable[[int, int], nn.Module]] = {
    "skip": skip,
    "skip_conv": skip_conv,
    "avg_3x3": lambda _, stride: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "max_3x3": lambda _, stride: nn.MaxPool2d(3, stride, 1),
    "sep_3x3": lambda channels, stride: separable_twice(channels, 3, stride),
    "sep_5x5": lambda channels, stride: separable_twice(channels, 5, stride),
    "sep_7x7": lambda channels, stride: separable_twice(channels, 7, stride),
    "dil_3x3": lambda channels, stride: separable(channels, 3, stride, dilation=2),
    "conv_7x1_1x7": conv_7x1_1x7,
}


class Cell(nn.Module):
    """A genotype over the outputs of the last two cells, brought to the same channels and resolution."""

    def __init__(self, spec: CellSpec, inputs: tuple[int, int], halve_older: bool) -> None:
        super().__init__()
        channels = spec.channels
        adjust = FactorizedReduce if halve_older else relu_conv_bn
        self.adjust_older = adjust(inputs[0], channels)
        self.adjust_newer = relu_conv_bn(inputs[1], channels)
        self.genotype = spec.genotype
        self.left = nn.ModuleList()
        self.right = nn.ModuleList()
        for block in spec.genotype.blocks:
            # Blocks already have the reduced resolution; only the cell's own inputs are still to be reduced.
            left_stride = spec.stride if block.left_state < 2 else 1
            right_stride = spec.stride if block.right_state < 2 else 1
            self.left.append(OPERATORS[block.left](channels, left_stride))
            self.right.append(OPERATORS[block.right](channels, right_stride))

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        states = [self.adjust_older(older), self.adjust_newer(newer)]
        for block, left, right in zip(self.genotype.blocks, self.left, self.right, strict=True):
            states.append(left(states[block.left_state]) + right(states[block.right_state]))
        return torch.cat([states[i] for i in self.genotype.output], dim=1)


class CellNetwork(nn.Module):
    """A stem giving two maps of ``channels``, cells each reading the last two maps, ReLU and a classifier.

    ``halved`` says that the stem's second map has half the resolution of its first.
    """

    def __init__(
        self,
        stem: nn.Module,
        channels: int,
        halved: bool,
        specs: list[CellSpec],
        classes: int,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList()
        inputs = (channels, channels)
        for spec in specs:
            self.cells.append(Cell(spec, inputs, halved))
            inputs = (inputs[1], len(spec.genotype.output) * spec.channels)
            halved = spec.stride == 2
        self.head = nn.Sequential(nn.ReLU(), classifier(inputs[1], classes))

    def forward(self, image: Tensor) -> Tensor:
        older, newer = self.stem(image)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        out: Tensor = self.head(newer)
        return out
