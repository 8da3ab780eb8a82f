from pathlib import Path

import numpy as np
import pytest

from bayesopt_perm.instances import (
    read_flow_shop,
    read_linear_ordering,
    read_qaplib,
    read_qaplib_solution,
    read_tsplib,
)
from bayesopt_perm.problems import random_flow_shop

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "permutation"
INVERSE = ("nug30", "kra30a", "tho30")  # their .sln files hold the inverse permutation
CARLIER = {
    "car1": (7038, [7, 4, 8, 2, 0, 3, 10, 9, 6, 5, 1]),
    "car2": (7166, [6, 2, 3, 10, 1, 11, 8, 12, 0, 4, 7, 5, 9]),
    "car3": (7312, [10, 11, 5, 4, 9, 2, 1, 8, 3, 6, 7, 0]),
    "car4": (8003, [3, 13, 6, 5, 8, 12, 1, 11, 9, 0, 7, 10, 4, 2]),
    "car5": (7720, [4, 1, 3, 0, 2, 7, 5, 9, 8, 6]),
    "car6": (8505, [6, 0, 4, 5, 7, 2, 3, 1]),
    "car7": (6590, [4, 3, 1, 5, 6, 2, 0]),
    "car8": (8366, [6, 2, 7, 4, 1, 0, 5, 3]),
}
ATT48 = [
    0, 7, 37, 30, 43, 17, 6, 27, 5, 36, 18, 26, 16, 42, 29, 35, 45, 32, 19, 46, 20, 31, 38, 47,
    4, 41, 23, 9, 44, 34, 3, 25, 1, 28, 33, 40, 15, 21, 2, 22, 13, 24, 12, 10, 11, 14, 39, 8,
]  # fmt: skip


def published(*parts):
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"published instances, which are no part of this repository, are not in {DATA}")
    return path


def shortest_tour(distance):
    """Length of the best closed tour, by dynamic programming over sets of items (Held and Karp 1962)."""
    n = len(distance)
    best = np.full((1 << n, n), np.inf)
    for item in range(1, n):
        best[1 << item, item] = distance[0, item]
    for visited in range(2, 1 << n, 2):
        on = (best[visited][:, None] + distance).min(axis=0)
        for item in range(1, n):
            if not visited >> item & 1:
                best[visited | 1 << item, item] = min(best[visited | 1 << item, item], on[item])
    return (best[(1 << n) - 2] + distance[:, 0]).min()


def test_every_published_assignment_has_its_published_value():
    files = sorted(published("qaplib").glob("*.dat"))
    assert len(files) == 12
    for path in files:
        problem = read_qaplib(path)
        optimum, order = read_qaplib_solution(path.with_suffix(".sln"))
        assert problem(np.argsort(order) if problem.name in INVERSE else order) == optimum == problem.optimum, path.name


@pytest.mark.parametrize("name", CARLIER)
def test_carliers_shops_reach_their_optimum(name):
    optimum, order = CARLIER[name]
    assert read_flow_shop(published("flowshop", f"{name}.txt"))(order) == optimum


@pytest.mark.parametrize(("metric", "optimum"), [("tsplib", 3323), ("law", 3353)])
def test_the_shortest_tour_of_burma14_is_the_published_one(metric, optimum):
    assert shortest_tour(read_tsplib(published("tsplib", "burma14.tsp"), metric).data[0]) == optimum


@pytest.mark.parametrize(("metric", "optimum"), [("tsplib", 10_628), ("law", 10_631)])
def test_the_published_tour_of_att48_has_its_published_length(metric, optimum):
    assert round(read_tsplib(published("tsplib", "att48.tsp"), metric)(ATT48)) == optimum


def test_a_published_shop_is_what_the_generator_makes():
    made = random_flow_shop(20, 5, seed=873654221)
    assert np.array_equal(read_flow_shop(published("flowshop", "tfs001.txt")).data[0], made.data[0])


def test_every_published_file_is_read():
    published("lop")
    tours = {path.stem: read_tsplib(path).n for path in (DATA / "tsplib").glob("*.tsp")}
    assert tours == {"att48": 48, "bayg29": 29, "burma14": 14, "eil51": 51, "st70": 70}
    orderings = {path.name: read_linear_ordering(path).n for path in (DATA / "lop").iterdir()}
    assert len(orderings) == 10
    assert orderings["N-sgb75.01"] == 75
    shops = [read_flow_shop(path) for path in (DATA / "flowshop").iterdir()]
    assert len(shops) == 34
    assert {shop.n for shop in shops} >= {7, 8, 20, 30, 50, 75}


def test_small_files_are_read_and_values_are_right(tmp_path):
    (tmp_path / "a.dat").write_text("2\n0 1\n2 0\n\n0 5 7 0\n")
    (tmp_path / "a.sln").write_text("2 17\n 1 2")
    assert read_qaplib(tmp_path / "a.dat")([1, 0]) == 1 * 7 + 2 * 5
    assert read_qaplib(tmp_path / "a.dat").optimum == 17
    (tmp_path / "b.txt").write_text("2 2\n0 3 1 4\n0 1 1 1\n")
    assert read_flow_shop(tmp_path / "b.txt")([0, 1]) == 8
    (tmp_path / "c").write_text("2\n0 3\n5 0\n")
    assert read_linear_ordering(tmp_path / "c")([0, 1]) == 5
    head = "NAME: t\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: "
    (tmp_path / "d.tsp").write_text(head + "EUC_2D\nNODE_COORD_SECTION\n1 0 0\n2 1 1\n3 0 1.0e0\nEOF\n")
    assert read_tsplib(tmp_path / "d.tsp")([0, 1, 2]) == 3
    assert read_tsplib(tmp_path / "d.tsp", "law")([0, 1, 2]) == pytest.approx(2 + 2**0.5)
    rows = "0 1 2\n1 0 4\n2 4 0\nDISPLAY_DATA_SECTION\n1 9 9\n"
    (tmp_path / "e.tsp").write_text(f"{head}EXPLICIT\nEDGE_WEIGHT_FORMAT: FULL_MATRIX\nEDGE_WEIGHT_SECTION\n{rows}")
    assert read_tsplib(tmp_path / "e.tsp")([2, 1, 0]) == 7


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_qaplib, "2 0 1 1", "expected 8 numbers after the size (got 3)"),
        (read_qaplib, "x", "could not convert string to float: 'x'"),
        (read_qaplib, "", "does not start with 1 positive whole number"),
        (read_flow_shop, "2", "does not start with 2 positive whole numbers"),
        (read_flow_shop, "1 2 1 5 0 5", "a job does not visit machines 0 .. 1 in that order"),
        (read_tsplib, "DIMENSION: 1\nEDGE_WEIGHT_TYPE: MAN_2D\nNODE_COORD_SECTION\n1 0 0", "edge weight type 'MAN_2D'"),
        (
            read_tsplib,
            "DIMENSION: 1\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: LOWER_ROW\nEDGE_WEIGHT_SECTION\n",
            "edge weight format 'LOWER_ROW' is not one of FULL_MATRIX, UPPER_ROW",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_name(reader, text, message, tmp_path):
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(ValueError, match="broken") as caught:
        reader(path)
    assert message in str(caught.value)


def test_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown metric 'euclid' \\(known: tsplib, law\\)"):
        read_tsplib(tmp_path / "none.tsp", "euclid")
