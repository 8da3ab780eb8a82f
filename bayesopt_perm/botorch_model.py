"""The way to botorch and back: a surrogate as a SingleTaskGP, and the parameters that botorch fits to a kernel."""

import copy
from typing import Any

import numpy as np
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood

from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.covariance import TorchCovariance
from bayesopt_perm.kernels import KERNELS

__all__ = ["as_botorch", "as_kernel", "fitted_kernel", "inputs"]

LEAST_NOISE = 1e-8


def inputs(orders: Int64Array) -> torch.Tensor:
    """Orders as botorch likes its inputs, in the unit cube, float64[..., n]: divided by n - 1."""
    return torch.as_tensor(np.asarray(orders) / max(1, orders.shape[-1] - 1), dtype=torch.float64)


def _model(orders: Int64Array, y: Float64Array, kernel: Kernel) -> SingleTaskGP:
    return SingleTaskGP(
        inputs(orders),
        torch.as_tensor(y, dtype=torch.float64)[:, None],
        covar_module=ScaleKernel(kernel).double(),
        likelihood=GaussianLikelihood(noise_constraint=GreaterThan(LEAST_NOISE)).double(),
        outcome_transform=Standardize(1),
    )


def as_botorch(surrogate: Any) -> SingleTaskGP:
    """A ``SingleTaskGP`` with the data and the parameters of a :class:`~bayesopt_perm.surrogate.Surrogate`."""
    choice = surrogate.choice
    if isinstance(surrogate.covariance, TorchCovariance):
        kernel = surrogate.covariance.kernel
    else:
        kernel = KERNELS[choice.kernel](ard_num_dims=len(choice.weights) or None)
    model = _model(surrogate.orders, surrogate.y, kernel)
    if choice:
        kernel.lengthscale = choice.lengthscale / torch.tensor(choice.weights or [1.0], dtype=torch.float64)
    model.covar_module.outputscale = surrogate.variance
    model.likelihood.noise = max(surrogate.noise * surrogate.variance, LEAST_NOISE * 1.001)
    model.mean_module.initialize(constant=surrogate.prior_mean)
    return model.eval()


def as_kernel(kernel: Any) -> Kernel:
    """``kernel``, if it is a gpytorch kernel.

    Raises:
        ValueError: if not.
    """
    if not isinstance(kernel, Kernel):
        raise ValueError(
            f"'kernel' must be \"auto\", names of kernels or a gpytorch kernel (got {type(kernel).__name__})"
        )
    return kernel


def fitted_kernel(kernel: Kernel, orders: Int64Array, y: Float64Array) -> tuple[Kernel, float]:
    """A copy of ``kernel`` with its parameters fitted by botorch, and the noise as a share of the variance.

    Raises:
        ValueError: if it is not a gpytorch kernel.
    """
    kernel = copy.deepcopy(as_kernel(kernel))  # each fit begins where the caller's kernel stands, whatever came before
    model = _model(orders, y, kernel)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return kernel.eval(), float((model.likelihood.noise / model.covar_module.outputscale).detach())
