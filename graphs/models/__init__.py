"""Networks worth scheduling, with random weights: each factory returns a module and its example inputs."""

from graphs.models._common import Factory
from graphs.models.bifpn import bifpn
from graphs.models.concatenating import densenet, inception
from graphs.models.darts import amoebanet, darts
from graphs.models.hrnet import hrnet
from graphs.models.nasnet import nasnet_a, pnasnet
from graphs.models.randwire import randwire_ba, randwire_er, randwire_ws
from graphs.models.recurrent import lstm, tree_lstm
from graphs.models.residual import mobilenet, resnet18
from graphs.models.transformer import moe, transformer
from graphs.models.unet import unet_plus_plus

__all__ = [
    "ZOO",
    "amoebanet",
    "bifpn",
    "darts",
    "densenet",
    "hrnet",
    "inception",
    "lstm",
    "mobilenet",
    "moe",
    "nasnet_a",
    "pnasnet",
    "randwire_ba",
    "randwire_er",
    "randwire_ws",
    "resnet18",
    "transformer",
    "tree_lstm",
    "unet_plus_plus",
]

ZOO: dict[str, Factory] = {
    "randwire_ws": randwire_ws,
    "randwire_er": randwire_er,
    "randwire_ba": randwire_ba,
    "nasnet_a": nasnet_a,
    "pnasnet": pnasnet,
    "darts": darts,
    "amoebanet": amoebanet,
    "unet_plus_plus": unet_plus_plus,
    "hrnet": hrnet,
    "bifpn": bifpn,
    "moe": moe,
    "transformer": transformer,
    "resnet18": resnet18,
    "mobilenet": mobilenet,
    "densenet": densenet,
    "inception": inception,
    "lstm": lstm,
    "tree_lstm": tree_lstm,
}
