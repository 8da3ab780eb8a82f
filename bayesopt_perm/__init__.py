"""Batch Bayesian optimisation over permutations; knows nothing of graphs or compilers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesopt_perm.journal import JournalError
    from bayesopt_perm.minimizing import minimize
    from bayesopt_perm.optimizer import BayesOpt
    from bayesopt_perm.result import Evaluation, Result
    from bayesopt_perm.space import PermutationSpace
    from bayesopt_perm.surrogate import Surrogate, fit

_LAZY = {  # torch and numba are loaded by the first of these that needs them, botorch by none
    "BayesOpt": "bayesopt_perm.optimizer",
    "Evaluation": "bayesopt_perm.result",
    "JournalError": "bayesopt_perm.journal",
    "PermutationSpace": "bayesopt_perm.space",
    "Result": "bayesopt_perm.result",
    "Surrogate": "bayesopt_perm.surrogate",
    "fit": "bayesopt_perm.surrogate",
    "minimize": "bayesopt_perm.minimizing",
}

__all__ = [
    "BayesOpt",
    "Evaluation",
    "JournalError",
    "PermutationSpace",
    "Result",
    "Surrogate",
    "fit",
    "minimize",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bayesopt_perm' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
