"""The trained network without PyTorch: numpy for the dense layers, one compiled pass over all pairs for attention.

It computes what ``model.Topoformer`` computes. Importing PyTorch takes longer than ordering most graphs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphs import Graph
from topoformer.net import _rollout_kernels
from topoformer.net.decode import Policy
from topoformer.net.features import features
from topoformer.net.relations import RELATIONS, Relations, ancestor_bits, relations

Float32Array = npt.NDArray[np.float32]
ROWS = 128  # of the pairs' scores at a time: they stay in the cache
EPSILON = np.float32(1e-5)  # of layer norm


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network's tensors under the names that ``model.Topoformer`` gives them."""

    tensors: Mapping[str, Float32Array]
    layers: int
    head: int
    decoder: str

    def policy(self, graph: Graph) -> Policy:
        """Priorities and weights of the nodes of ``graph``; O(n^2)."""
        if graph.n == 0:
            return Policy(np.zeros(0, np.float32), np.zeros((0, _rollout_kernels.DYNAMIC), np.float32))
        bits = ancestor_bits(graph)
        return self.decoded(self(features(graph, bits), relations(graph, bits)))

    def decoded(self, out: Float32Array) -> Policy:
        """Priorities and weights from the network's float32[n, outputs]."""
        if self.decoder == "static":
            weight = np.zeros((len(out), _rollout_kernels.DYNAMIC), np.float32)
            return Policy(np.ascontiguousarray(out[:, 0]), weight, safe=False)
        return Policy(np.ascontiguousarray(out[:, 0]), np.ascontiguousarray(out[:, 1:]))

    def __call__(self, x: Float32Array, relation: Relations) -> Float32Array:
        """Features float32[n, features] and relations uint8[n, n] to float32[n, outputs]."""
        h = self._linear("embed", x)
        for layer in range(self.layers):
            block = f"blocks.{layer}"
            h += self._attention(block, self._norm(f"{block}.norm1", h), relation)
            inner = self._linear(f"{block}.up", self._norm(f"{block}.norm2", h))
            h += self._linear(f"{block}.down", np.maximum(inner, 0, out=inner))
        return self._linear("head", self._norm("norm", h))

    def _linear(self, name: str, x: Float32Array) -> Float32Array:
        result: Float32Array = x @ self.tensors[f"{name}.weight"].T
        result += self.tensors[f"{name}.bias"]
        return result

    def _norm(self, name: str, x: Float32Array) -> Float32Array:
        centred: Float32Array = x - x.mean(1, keepdims=True)
        variance = np.einsum("ij,ij->i", centred, centred)[:, None] / np.float32(x.shape[1])
        centred /= np.sqrt(variance + EPSILON)
        centred *= self.tensors[f"{name}.weight"]
        centred += self.tensors[f"{name}.bias"]
        return centred

    def _attention(self, block: str, h: Float32Array, relation: Relations) -> Float32Array:
        from topoformer.net import _encode_kernels as kernels

        n, heads = len(h), len(RELATIONS)
        parts = self._linear(f"{block}.attention.qkv", h).reshape(n, 3, heads, self.head)
        query = parts[:, 0] * np.float32(self.head**-0.5)
        key, value = np.ascontiguousarray(parts[:, 1]), np.ascontiguousarray(parts[:, 2])
        mixed = np.empty((n, heads, self.head), np.float32)
        for first in range(0, n, ROWS):
            scores = np.empty((min(ROWS, n - first), n), np.float32)
            kernels.pair_scores(query, key, relation, first, scores)
            np.exp(scores, out=scores)
            kernels.pair_sums(scores, value, relation, first, mixed)
        return self._linear(f"{block}.attention.out", mixed.reshape(n, -1))
