"""NASNet-A and PNASNet-5: cells found by reinforcement learning and by progressive search."""

from torch import Tensor, nn

from graphs.models._common import Network, check_at_least, images, initialised, seeded
from graphs.models.cells import Block, CellNetwork, CellSpec, Genotype

STEM_CHANNELS = 32

NASNET_NORMAL = Genotype(
    blocks=(
        Block("sep_5x5", 1, "sep_3x3", 0),
        Block("sep_5x5", 0, "sep_3x3", 0),
        Block("avg_3x3", 1, "skip", 0),
        Block("avg_3x3", 0, "avg_3x3", 0),
        Block("sep_3x3", 1, "skip", 1),
    ),
    output=(0, 2, 3, 4, 5, 6),
)

NASNET_REDUCTION = Genotype(
    blocks=(
        Block("sep_5x5", 1, "sep_7x7", 0),
        Block("max_3x3", 1, "sep_7x7", 0),
        Block("avg_3x3", 1, "sep_5x5", 0),
        Block("skip", 3, "avg_3x3", 2),
        Block("sep_3x3", 2, "max_3x3", 1),
    ),
    output=(3, 4, 5, 6),
)

PNASNET = Genotype(
    blocks=(
        Block("sep_5x5", 0, "max_3x3", 0),
        Block("sep_7x7", 1, "max_3x3", 1),
        Block("sep_5x5", 1, "sep_3x3", 1),
        Block("sep_3x3", 4, "max_3x3", 1),
        Block("sep_3x3", 0, "skip_conv", 1),
    ),
    output=(2, 3, 4, 5, 6),
)


class Stem(nn.Module):
    """A strided convolution whose output stands for both of the two cells before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(STEM_CHANNELS)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.bn(self.conv(image))
        return x, x


def nasnet_a(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    cells: int = 4,
    filters: int = 44,
    classes: int = 1000,
) -> Network:
    """NASNet-A (Zoph et al., CVPR 2018): images (batch, 3, r, r) to (batch, classes).

    Three stages of ``cells`` normal cells of ``filters`` channels a state, doubled at each reduction; the
    defaults are those of the mobile network, 4 @ 1056.
    """
    check_at_least(1, batch=batch, cells=cells, classes=classes)
    check_at_least(3, resolution=resolution)
    check_at_least(8, filters=filters)
    specs = [CellSpec(NASNET_REDUCTION, filters // 4, 2), CellSpec(NASNET_REDUCTION, filters // 2, 2)]
    for stage in range(3):
        if stage:
            specs.append(CellSpec(NASNET_REDUCTION, filters << stage, 2))
        specs += [CellSpec(NASNET_NORMAL, filters << stage, 1)] * cells
    with seeded(seed):
        net = CellNetwork(Stem(), STEM_CHANNELS, False, specs, classes)
        return initialised(net), (images(batch, resolution),)


def pnasnet(
    *,
    seed: int = 0,
    batch: int = 1,
    resolution: int = 224,
    cells: int = 3,
    filters: int = 54,
    classes: int = 1000,
) -> Network:
    """PNASNet-5 (Liu et al., ECCV 2018): images (batch, 3, r, r) to (batch, classes).

    Three stages of ``cells`` cells, all of one wiring; the first of the second and third stage has stride 2
    and doubles ``filters``. The defaults are those of the mobile network.
    """
    check_at_least(1, batch=batch, cells=cells, classes=classes)
    check_at_least(3, resolution=resolution)
    check_at_least(8, filters=filters)
    specs = [CellSpec(PNASNET, filters // 4, 2), CellSpec(PNASNET, filters // 2, 2)]
    for stage in range(3):
        specs.append(CellSpec(PNASNET, filters << stage, 2 if stage else 1))
        specs += [CellSpec(PNASNET, filters << stage, 1)] * (cells - 1)
    with seeded(seed):
        net = CellNetwork(Stem(), STEM_CHANNELS, False, specs, classes)
        return initialised(net), (images(batch, resolution),)
