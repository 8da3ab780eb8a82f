"""The permutation problems of the benchmark, read from a folder of published instances or generated, and their figures.

``published`` is the mean best of the method's authors (Oh et al. 2022, arXiv 2102.13382; best listed, batch size not
stated), ``climber`` the mean that the best of three one-line hill climbers reached after 830 evaluations over 20 other
seeds. ``low_budget`` is the best published mean of CEGO, FAT-RLS and UMM after 400 evaluations (Santucci and Baioletti
2022).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bayesopt_perm.instances import read_flow_shop, read_linear_ordering, read_qaplib, read_tsplib
from bayesopt_perm.problems import (
    Problem,
    random_flow_shop,
    random_linear_ordering,
    random_quadratic_assignment,
    random_traveling_salesman,
)


class Task(NamedTuple):
    """A problem by its name, where it is read from (None: it is generated), and published figures of it."""

    name: str
    file: str | None
    read: Callable[..., Problem]
    published: float | None = None
    climber: float | None = None
    low_budget: float | None = None
    optimum: float | None = None

    def problem(self, data: Path | None) -> Problem | None:
        """The problem; None where its file is not in ``data``."""
        if self.file is None:
            return self.read()
        path = data / self.file if data else None
        return self.read(path) if path and path.is_file() else None


LAW_METRIC = partial(read_tsplib, metric="law")
TASKS = {
    task.name: task
    for task in (
        Task("chr12a", "qaplib/chr12a.dat", read_qaplib, 11_900, 14_023, optimum=9_552),
        Task("nug22", "qaplib/nug22.dat", read_qaplib, 3_720, 3_743, optimum=3_596),
        Task("esc32a", "qaplib/esc32a.dat", read_qaplib, 191.7, 167.7, optimum=130),
        Task("car5", "flowshop/car5.txt", read_flow_shop, 7_780, 7_789, optimum=7_720),
        Task("hel2", "flowshop/hel2.txt", read_flow_shop, 140.7, 139.5, optimum=135),
        Task("reC19", "flowshop/reC19.txt", read_flow_shop, 2_200, 2_209, 2_264.5, 2_093),
        Task("burma14", "tsplib/burma14.tsp", LAW_METRIC, 3_370, 3_371, optimum=3_353),
        Task("bayg29", "tsplib/bayg29.tsp", LAW_METRIC, 2_040, 1_785, optimum=1_610),
        Task("att48", "tsplib/att48.tsp", LAW_METRIC, 19_800, 15_177, optimum=10_631),
        Task("reC05", "flowshop/reC05.txt", read_flow_shop, low_budget=1_270.5),
        Task("reC13", "flowshop/reC13.txt", read_flow_shop, low_budget=1_992.9),
        Task("reC31", "flowshop/reC31.txt", read_flow_shop, low_budget=3_351.0),
        Task("kra30a", "qaplib/kra30a.dat", read_qaplib, low_budget=110_171),
        Task("sko42", "qaplib/sko42.dat", read_qaplib, low_budget=17_821),
        Task("tho30", "qaplib/tho30.dat", read_qaplib, low_budget=168_772),
        Task("qap 15", None, partial(random_quadratic_assignment, 15, seed=11)),
        Task("flow shop 20x5", None, partial(random_flow_shop, 20, 5, seed=873_654_221)),
        Task("tsp 20", None, partial(random_traveling_salesman, 20, seed=12)),
        Task("lop 20", None, partial(random_linear_ordering, 20, seed=13)),
        # Instances on which settings may be tried; no figure of them is reported.
        Task("had12", "qaplib/had12.dat", read_qaplib),
        Task("tai12a", "qaplib/tai12a.dat", read_qaplib),
        Task("chr15a", "qaplib/chr15a.dat", read_qaplib),
        Task("nug30", "qaplib/nug30.dat", read_qaplib),
        Task("tai35a", "qaplib/tai35a.dat", read_qaplib),
        Task("car7", "flowshop/car7.txt", read_flow_shop),
        Task("reC11", "flowshop/reC11.txt", read_flow_shop),
        Task("reC21", "flowshop/reC21.txt", read_flow_shop),
        Task("reC25", "flowshop/reC25.txt", read_flow_shop),
        Task("tfs001", "flowshop/tfs001.txt", read_flow_shop),
        Task("eil51", "tsplib/eil51.tsp", LAW_METRIC),
        Task("p40", "lop/N-p40-01", read_linear_ordering),
    )
}
LAW = ("chr12a", "nug22", "esc32a", "car5", "hel2", "reC19", "burma14", "bayg29", "att48")
LOW_BUDGET = ("reC05", "reC13", "reC19", "reC31", "kra30a", "sko42", "tho30")
GENERATED = ("qap 15", "flow shop 20x5", "tsp 20", "lop 20")
