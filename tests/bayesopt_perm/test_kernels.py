import itertools
import unittest

import numpy as np
import pytest
import torch
from gpytorch.kernels import ProductKernel, ScaleKernel
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase

from bayesopt_perm.distances import DISTANCES, distance
from bayesopt_perm.kernels import (
    KERNELS,
    AdjacencyKernel,
    HammingKernel,
    KendallKernel,
    MallowsKernel,
    PositionKernel,
)

ALL = {**KERNELS, "kendall": KendallKernel}


class _Laws(BaseKernelTestCase):
    kernel = None

    def create_kernel_no_ard(self, **kwargs):
        return self.kernel(**kwargs)


def _laws(kernel, ard):
    """The test case that gpytorch holds its own kernels to, for ours."""
    body = {"kernel": kernel}
    if ard:
        body["create_kernel_ard"] = lambda self, num_dims, **kwargs: kernel(ard_num_dims=num_dims, **kwargs)
    return type(f"Test{kernel.__name__}", (_Laws, unittest.TestCase), body)


TestHamming = _laws(HammingKernel, ard=True)
TestPosition = _laws(PositionKernel, ard=True)
TestMallows = _laws(KERNELS["mallows"], ard=False)
TestSpearman = _laws(KERNELS["spearman"], ard=False)
TestAdjacency = _laws(AdjacencyKernel, ard=False)
TestMergeSort = _laws(KERNELS["mergesort"], ard=False)
TestKendall = _laws(KendallKernel, ard=False)


def orders(count, n, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) for _ in range(count)])


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 37, 130])
def test_torch_and_compiled_distances_agree(name, n):
    a, b = orders(5, n, 1), orders(7, n, 2)
    kernel = KERNELS[name]()
    found = kernel.distances(tensor(a), tensor(b)).numpy()
    assert np.array_equal(found, distance(a, b, kernel.distance_name))
    assert kernel.largest(n) == max(1, DISTANCES[kernel.distance_name].largest(n))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("lengthscale", [0.03, 0.3, 3.0, 100.0])
def test_all_permutations_of_five_items_give_a_positive_semidefinite_matrix(name, lengthscale):
    kernel = ALL[name]().double()
    if kernel.has_lengthscale:
        kernel.lengthscale = lengthscale
    x = tensor(list(itertools.permutations(range(5))))
    gram = kernel(x).to_dense().detach()
    assert torch.equal(gram, gram.T)
    assert torch.linalg.eigvalsh(gram).min() > -1e-11
    assert (gram.diagonal() - 1).abs().max() < 1e-6


@pytest.mark.parametrize("name", ALL)
def test_the_diagonal_of_two_sets_is_that_of_the_matrix(name):
    kernel = ALL[name](batch_shape=torch.Size([2])).double()
    if kernel.has_lengthscale:
        kernel.lengthscale = torch.tensor([0.2, 0.9]).view(2, 1, 1)
    a, b = tensor(orders(6, 9, 1)), tensor(orders(6, 9, 2))
    whole = kernel(a, b).to_dense()
    assert whole.shape == (2, 6, 6)
    assert torch.allclose(kernel(a, b, diag=True), whole.diagonal(dim1=-1, dim2=-2), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_reach_the_lengthscale(name):
    kernel = KERNELS[name]().double()
    x = tensor(orders(4, 6))
    assert torch.autograd.gradcheck(
        lambda raw: torch.exp(-kernel.distances(x, x) / (kernel.largest(6) * raw.exp())),
        torch.zeros(1, 1, dtype=torch.float64, requires_grad=True),
    )
    kernel(x).to_dense().sum().backward()
    assert kernel.raw_lengthscale.grad.abs().sum() > 0


@pytest.mark.parametrize("kernel", [HammingKernel, PositionKernel])
def test_equal_lengthscales_of_items_are_one_lengthscale(kernel):
    one, many = kernel().double(), kernel(ard_num_dims=7).double()
    one.lengthscale = many.lengthscale = 0.37
    x, y = tensor(orders(5, 7, 1)), tensor(orders(4, 7, 2))
    assert torch.allclose(one(x, y).to_dense(), many(x, y).to_dense(), rtol=1e-13)
    before = many(x, y).to_dense()
    many.lengthscale = torch.tensor([0.1, *[0.37] * 6], dtype=torch.float64)
    assert (many(x, y).to_dense() <= before).all()
    many(x).to_dense().sum().backward()
    assert (many.raw_lengthscale.grad.abs() > 0).all()


def test_two_inputs_of_one_shape_get_two_matrices():
    kernel = MallowsKernel()
    a, b = tensor(orders(6, 9, 1)), tensor(orders(6, 9, 2))
    first = kernel(a).to_dense()
    assert not torch.equal(first, kernel(b).to_dense())
    assert torch.equal(first, kernel(a).to_dense())


def test_a_tour_kernel_does_not_see_turning_and_mirroring():
    x = tensor(orders(6, 11))
    same = torch.stack([row.roll(3 + t).flip(0) for t, row in enumerate(x)])
    kernel = AdjacencyKernel()
    assert torch.equal(kernel(x).to_dense(), kernel(same).to_dense())
    assert not torch.equal(MallowsKernel()(x).to_dense(), MallowsKernel()(same).to_dense())


def test_kernels_add_and_multiply():
    x = tensor(orders(5, 6))
    a, b = HammingKernel(), AdjacencyKernel()
    assert torch.allclose((a + b)(x).to_dense(), a(x).to_dense() + b(x).to_dense())
    assert torch.allclose(ProductKernel(a, b)(x).to_dense(), a(x).to_dense() * b(x).to_dense())
    assert torch.allclose(ScaleKernel(a)(x, diag=True), ScaleKernel(a)(x).to_dense().diagonal())


def test_the_kernel_of_oh_and_others_is_the_position_kernel():
    n, nu = 8, 0.7
    kernel = PositionKernel().double()
    kernel.lengthscale = 2 / (nu * n)
    a, b = orders(4, n, 1), orders(5, n, 2)
    wanted = np.exp(-nu * np.abs(np.argsort(a)[:, None] - np.argsort(b)[None]).sum(-1) / n)
    assert np.allclose(kernel(tensor(a), tensor(b)).to_dense().detach().numpy(), wanted, rtol=1e-13)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ALL)
def test_cuda_gives_the_same_matrix(name):
    x = tensor(orders(20, 13))
    kernel = ALL[name]().double()
    wanted = kernel(x).to_dense()
    assert torch.allclose(kernel.cuda()(x.cuda()).to_dense().cpu(), wanted, rtol=1e-13)
