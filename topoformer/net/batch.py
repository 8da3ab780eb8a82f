"""Graphs of like size side by side, padded to the largest."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from topoformer.net.pool import Item
from topoformer.net.relations import SELF

MULTIPLE = 16  # padded sizes are multiples of it: kernels for attention want aligned rows


def collate(items: Sequence[Item], device: torch.device) -> tuple[Tensor, Tensor]:
    """(features float32[b, n, f], relations uint8[b, n, n]) of a batch on ``device``; no pair involves padding."""
    n = -(-max(x.n for x in items) // MULTIPLE) * MULTIPLE
    features = np.zeros((len(items), n, items[0].features.shape[1]), np.float32)
    relation = np.full((len(items), n, n), SELF, np.uint8)
    for row, x in enumerate(items):
        features[row, : x.n] = x.features
        relation[row, : x.n, : x.n] = x.relation
    return torch.from_numpy(features).to(device), torch.from_numpy(relation).to(device)
