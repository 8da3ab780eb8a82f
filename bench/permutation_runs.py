"""One search of the permutation benchmark: what was asked for, run in a process of its own, as a JSON line."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bayesopt_perm import BayesOpt, Result
from bayesopt_perm.baselines import BASELINES
from bayesopt_perm.problems import Problem
from bench.permutation_tasks import TASKS

INITIAL = 30
EVERY = 10  # evaluations between two points of a curve


@dataclass(frozen=True)
class Run:
    """A method on a task with ``budget`` evaluations, the first INITIAL of them the same for every method of a seed.

    ``method`` is "bayes", with ``key=value`` arguments of BayesOpt after it, or a baseline with a move after it.
    """

    task: str
    method: str
    batch: int
    budget: int
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.task, self.method, self.batch, self.budget, self.seed)


def search(run: Run, data: Path | None) -> dict[str, Any]:
    """What the run found, and how long a round took."""
    problem = TASKS[run.task].problem(data)
    assert problem is not None
    start = problem.space.sample(INITIAL, np.random.default_rng([run.seed, 30]))
    began, cpu = time.perf_counter(), time.process_time()
    name, *words = run.method.split()
    rounds: list[float] = []
    chosen = None
    if name == "bayes":
        result, rounds, chosen = _bayes(problem, run, start, dict(word.split("=") for word in words))
    else:
        result = _baseline(problem, run, start, BASELINES[name], words)
    curve = result.curve
    return {
        **asdict(run),
        "best": result.value,
        "curve": curve[EVERY - 1 :: EVERY].tolist(),
        "seconds": round(time.perf_counter() - began, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "round_seconds": {"median": median(rounds), "most": max(rounds)} if rounds else None,
        "kernel": chosen,
    }


def _bayes(problem: Problem, run: Run, start: Any, arguments: dict[str, Any]) -> tuple[Result, list[float], str | None]:
    opt = BayesOpt(problem.space, batch_size=run.batch, seed=run.seed, initial=INITIAL, start=start, **arguments)
    rounds = []
    while len(opt.history) < run.budget:
        began = time.perf_counter()
        orders = opt.ask(min(run.batch, run.budget - len(opt.history)))
        if not len(orders):
            break
        if len(opt.history) >= INITIAL:
            rounds.append(time.perf_counter() - began)
        opt.tell(orders, problem.evaluate(orders))
    return Result(tuple(opt.history), "budget"), rounds, opt.choice.kernel if opt.choice else None


def _baseline(problem: Problem, run: Run, start: Any, method: Callable[..., Result], words: list[str]) -> Result:
    arguments: dict[str, Any] = {"move": words[0]} if words else {}
    if run.batch > 1:
        arguments["batch_size"] = run.batch
    return method(problem, problem.n, budget=run.budget, initial=INITIAL, seed=run.seed, start=start, **arguments)
