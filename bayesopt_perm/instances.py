"""Readers of the instance files that the field shares: QAPLIB, TSPLIB, flow-shop tables and LOLIB."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.problems import Problem, flow_shop, linear_ordering, quadratic_assignment, traveling_salesman

__all__ = [
    "TSP_METRICS",
    "read_flow_shop",
    "read_linear_ordering",
    "read_qaplib",
    "read_qaplib_solution",
    "read_tsplib",
]

TSP_METRICS = ("tsplib", "law")
PathLike = str | os.PathLike[str]


def _numbers(path: PathLike, text: str | None = None) -> list[float]:
    words = (Path(path).read_text() if text is None else text).split()
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _sized(path: PathLike, numbers: list[float], wanted: int) -> Float64Array:
    if len(numbers) != wanted:
        raise ValueError(f"{path}: expected {wanted} numbers after the size (got {len(numbers)})")
    return np.array(numbers, np.float64)


def _size(path: PathLike, numbers: list[float], count: int = 1) -> list[int]:
    if len(numbers) < count or any(number < 1 or number != int(number) for number in numbers[:count]):
        raise ValueError(f"{path}: does not start with {count} positive whole number{'s' * (count > 1)}")
    return [int(number) for number in numbers[:count]]


def read_qaplib(path: PathLike) -> Problem:
    """A QAPLIB ``.dat`` file: n, the matrix A, the matrix B; the optimum from a ``.sln`` file beside it, if any.

    Raises:
        ValueError: naming the file, if it is not of that form.
    """
    numbers = _numbers(path)
    (n,) = _size(path, numbers)
    flow, distance = _sized(path, numbers[1:], 2 * n * n).reshape(2, n, n)
    solution = Path(path).with_suffix(".sln")
    optimum = read_qaplib_solution(solution)[0] if solution.exists() else None
    return quadratic_assignment(flow, distance, Path(path).stem, optimum)


def read_qaplib_solution(path: PathLike) -> tuple[float, Int64Array]:
    """(value, order int64[n], zero-based) of a QAPLIB ``.sln`` file: n, the value, the permutation.

    Some files hold the inverse of what the objective of their instance takes.
    """
    numbers = _numbers(path)
    (n,) = _size(path, numbers)
    values = _sized(path, numbers[1:], n + 1)
    return float(values[0]), values[1:].astype(np.int64) - 1


def read_flow_shop(path: PathLike, optimum: float | None = None) -> Problem:
    """A flow-shop table: jobs and machines, then a row for each job of ``machine time`` pairs.

    Raises:
        ValueError: naming the file, if it is not of that form or a job visits its machines in another order.
    """
    numbers = _numbers(path)
    jobs, machines = _size(path, numbers, 2)
    table = _sized(path, numbers[2:], 2 * jobs * machines).reshape(jobs, machines, 2)
    if not np.array_equal(table[..., 0], np.tile(np.arange(machines), (jobs, 1))):
        raise ValueError(f"{path}: a job does not visit machines 0 .. {machines - 1} in that order")
    return flow_shop(table[..., 1], Path(path).stem, optimum)


def read_linear_ordering(path: PathLike) -> Problem:
    """A LOLIB matrix: n, then n rows of n weights."""
    numbers = _numbers(path)
    (n,) = _size(path, numbers)
    return linear_ordering(_sized(path, numbers[1:], n * n).reshape(n, n), Path(path).name)


def read_tsplib(path: PathLike, metric: str = "tsplib", optimum: float | None = None) -> Problem:
    """A TSPLIB ``.tsp`` file with edge weights EUC_2D, ATT, GEO, or EXPLICIT as UPPER_ROW or FULL_MATRIX.

    ``metric="tsplib"`` rounds as TSPLIB95 defines (G. Reinelt, 1995, section 2). ``metric="law"`` measures as the
    released code of Oh et al. 2022 (arXiv 2102.13382): EUC_2D and ATT not rounded, GEO with other constants.

    Raises:
        ValueError: naming the file, if it is not of that form; if the metric is unknown.
    """
    if metric not in TSP_METRICS:
        raise ValueError(f"unknown metric '{metric}' (known: {', '.join(TSP_METRICS)})")
    fields, body = _tsplib_parts(path)
    n, kind = int(fields.get("DIMENSION", 0)), fields.get("EDGE_WEIGHT_TYPE", "")
    numbers = _numbers(path, body)
    if kind == "EXPLICIT":
        distance = _explicit(path, fields.get("EDGE_WEIGHT_FORMAT", ""), n, numbers)
    else:
        rows = _sized(path, numbers, 3 * n).reshape(n, 3)
        distance = _measured(path, kind, metric, rows[:, 1:])
    return traveling_salesman(distance, Path(path).stem, optimum)


def _tsplib_parts(path: PathLike) -> tuple[dict[str, str], str]:
    """The ``KEY : value`` lines and the numbers of the one section that holds weights or coordinates."""
    fields: dict[str, str] = {}
    body: list[str] = []
    section = ""
    for line in _lines(path):
        key = line.split(":")[0].strip()
        if key.endswith("_SECTION"):
            section = key
        elif ":" in line and not section:
            fields[key] = line.split(":", 1)[1].strip()
        elif section in ("NODE_COORD_SECTION", "EDGE_WEIGHT_SECTION"):
            body.append(line)
    return fields, "\n".join(body)


def _lines(path: PathLike) -> Iterator[str]:
    for line in Path(path).read_text().splitlines():
        if line.strip() == "EOF":
            return
        if line.strip():
            yield line


def _explicit(path: PathLike, layout: str, n: int, numbers: list[float]) -> Float64Array:
    if layout == "FULL_MATRIX":
        return _sized(path, numbers, n * n).reshape(n, n)
    if layout == "UPPER_ROW":
        distance = np.zeros((n, n))
        distance[np.triu_indices(n, 1)] = _sized(path, numbers, n * (n - 1) // 2)
        return distance + distance.T
    raise ValueError(f"{path}: edge weight format '{layout}' is not one of FULL_MATRIX, UPPER_ROW")


def _measured(path: PathLike, kind: str, metric: str, points: Float64Array) -> Float64Array:
    if kind == "GEO":
        distance = _geographical(points, metric)
    elif kind in ("EUC_2D", "ATT"):
        length = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1) / (10 if kind == "ATT" else 1))
        nearest = np.floor(length + 0.5)
        if kind == "EUC_2D":
            distance = nearest if metric == "tsplib" else length
        else:
            distance = (nearest if metric == "tsplib" else length) + (nearest < length)
    else:
        raise ValueError(f"{path}: edge weight type '{kind}' is not one of EXPLICIT, EUC_2D, ATT, GEO")
    distance[np.diag_indices(len(points))] = 0.0
    return distance


def _geographical(points: Float64Array, metric: str) -> Float64Array:
    law = metric == "law"
    degrees = np.round(points) if law else np.trunc(points)
    radius = 6373.388 if law else 6378.388
    minutes = 0.5 / 3 if law else 5 / 3
    # TSPLIB fixes pi to these digits, and the truncated lengths depend on them.
    latitude, longitude = (3.141592 * (degrees + minutes * (points - degrees)) / 180).T
    q1 = np.cos(longitude[:, None] - longitude)
    q2 = np.cos(latitude[:, None] - latitude)
    q3 = np.cos(latitude[:, None] + latitude)
    length = radius * np.arccos(np.clip(0.5 * ((1 + q1) * q2 - (1 - q1) * q3), -1, 1))
    whole: Float64Array = np.floor(length + 1)
    return whole
