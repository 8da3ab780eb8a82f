"""Batch Bayesian optimisation over permutations; knows nothing of graphs or compilers."""
