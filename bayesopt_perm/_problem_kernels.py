"""Objective values of many permutations at once, compiled; callers check what they pass."""

import numpy as np
from numba import njit

from bayesopt_perm._kernels import Float64Array, Int64Array


@njit(cache=True)
def assignment_cost(orders: Int64Array, flow: Float64Array, distance: Float64Array) -> Float64Array:
    """sum over i, j of flow[i, j] * distance[order[i], order[j]], float64[b]."""
    out = np.zeros(len(orders))
    for row, order in enumerate(orders):
        for i in range(len(order)):
            for j in range(len(order)):
                out[row] += flow[i, j] * distance[order[i], order[j]]
    return out


@njit(cache=True)
def makespan(orders: Int64Array, times: Float64Array) -> Float64Array:
    """When the last job leaves the last machine, float64[b]; ``times`` is float64[jobs, machines]."""
    out = np.zeros(len(orders))
    for row, order in enumerate(orders):
        free = np.zeros(times.shape[1])
        for job in order:
            done = 0.0
            for machine in range(times.shape[1]):
                done = max(done, free[machine]) + times[job, machine]
                free[machine] = done
        out[row] = free[-1]
    return out


@njit(cache=True)
def tour_length(orders: Int64Array, distance: Float64Array) -> Float64Array:
    """Length of the closed tours, float64[b]."""
    out = np.zeros(len(orders))
    for row, order in enumerate(orders):
        last = order[-1]
        for item in order:
            out[row] += distance[last, item]
            last = item
    return out


@njit(cache=True)
def backward_weight(orders: Int64Array, weight: Float64Array) -> Float64Array:
    """sum of weight[order[j], order[i]] over places i < j: what lies below the diagonal, float64[b]."""
    out = np.zeros(len(orders))
    for row, order in enumerate(orders):
        for j in range(len(order)):
            for i in range(j):
                out[row] += weight[order[j], order[i]]
    return out
