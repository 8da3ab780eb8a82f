"""DARTS and AmoebaNet-A: cells found by gradient descent and by evolution, stacked as DARTS stacks them."""

from torch import Tensor, nn

from graphs.models._common import Network, check_at_least, check_multiple, images, initialised, seeded
from graphs.models.cells import Block, CellNetwork, CellSpec, Genotype

DARTS_NORMAL = Genotype(
    blocks=(
        Block("sep_3x3", 0, "sep_3x3", 1),
        Block("sep_3x3", 0, "sep_3x3", 1),
        Block("sep_3x3", 1, "skip", 0),
        Block("skip", 0, "dil_3x3", 2),
    ),
    output=(2, 3, 4, 5),
)

DARTS_REDUCTION = Genotype(
    blocks=(
        Block("max_3x3", 0, "max_3x3", 1),
        Block("skip", 2, "max_3x3", 1),
        Block("max_3x3", 0, "skip", 2),
        Block("skip", 2, "max_3x3", 1),
    ),
    output=(2, 3, 4, 5),
)

AMOEBANET_NORMAL = Genotype(
    blocks=(
        Block("avg_3x3", 0, "max_3x3", 1),
        Block("sep_3x3", 0, "sep_5x5", 2),
        Block("sep_3x3", 0, "avg_3x3", 3),
        Block("sep_3x3", 1, "skip", 1),
        Block("skip", 0, "avg_3x3", 1),
    ),
    output=(4, 5, 6),
)

AMOEBANET_REDUCTION = Genotype(
    blocks=(
        Block("avg_3x3", 0, "sep_3x3", 1),
        Block("max_3x3", 0, "sep_7x7", 2),
        Block("sep_7x7", 0, "avg_3x3", 1),
        Block("max_3x3", 0, "max_3x3", 1),
        Block("conv_7x1_1x7", 0, "sep_3x3", 5),
    ),
    output=(3, 4, 6),
)


class Stem(nn.Module):
    """Three strided convolutions; the maps after the second and the third feed the first cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.quarter = nn.Sequential(
            nn.Conv2d(3, channels // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        # As in the authors' code, this ReLU overwrites the first map, which the first cell reads afterwards.
        self.eighth = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        older = self.quarter(image)
        return older, self.eighth(older)


def build(
    normal: Genotype,
    reduction: Genotype,
    seed: int,
    batch: int,
    resolution: int,
    layers: int,
    channels: int,
    classes: int,
) -> Network:
    """``layers`` cells, of which those at one and two thirds are reductions, and the images."""
    check_at_least(1, batch=batch, resolution=resolution, classes=classes)
    check_at_least(3, layers=layers)
    check_multiple(2, channels=channels)
    reductions = (layers // 3, 2 * layers // 3)
    specs = []
    for layer in range(layers):
        reduces = layer in reductions
        width = channels << sum(layer >= r for r in reductions)
        specs.append(CellSpec(reduction, width, 2) if reduces else CellSpec(normal, width, 1))
    with seeded(seed):
        net = CellNetwork(Stem(channels), channels, True, specs, classes)
        return initialised(net), (images(batch, resolution),)


def darts(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    layers: int = 14,
    channels: int = 48,
    classes: int = 1000,
) -> Network:
    """DARTS V2 (Liu et al., ICLR 2019): images (batch, 3, r, r) to (batch, classes)."""
    return build(DARTS_NORMAL, DARTS_REDUCTION, seed, batch, resolution, layers, channels, classes)


def amoebanet(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    layers: int = 14,
    channels: int = 48,
    classes: int = 1000,
) -> Network:
    """AmoebaNet-A (Real et al., AAAI 2019): images (batch, 3, r, r) to (batch, classes)."""
    return build(AMOEBANET_NORMAL, AMOEBANET_REDUCTION, seed, batch, resolution, layers, channels, classes)
