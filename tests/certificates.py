"""What a method says of its own answer, held against all that is known about the graph's optimum.

``python -m tests.certificates 5000`` holds every method against brute force on that many random graphs;
with ``--cp-sat`` against constraint programming, on graphs of 12 to 40 nodes.
"""

import argparse
import sys
from collections import Counter

from graphs import GraphError
from graphs.bound import check_bound
from tests import oracle
from tests.oracle_cp_sat import lowest_peak
from tests.strategies import random_graph, tangled_graph
from topoformer.scheduling import SCHEDULERS, schedule

SECONDS = (0.002, 0.02, 0.2, 1.0)  # a search that is cut short must not claim more than it has proven
LONGEST = 200  # precedences of a refutation that is gone through: each is a maximum flow


def answers(graph, methods, seed, limits=SECONDS):
    """(name, its schedule or what it raised) for each of ``methods``, each with another of the time ``limits``."""
    for i, method in enumerate(methods):
        name = method if isinstance(method, str) else method.__name__
        try:
            yield name, schedule(graph, method, seconds=limits[(seed + i) % len(limits)], seed=seed)
        except GraphError as error:
            yield name, error


def contradictions(graph, results, optimum=None):
    """What is wrong with ``results``, pairs as from :func:`answers`, as text; every bound is held against every peak.

    ``optimum``: lowest peak of any order, in bytes, where it is known.
    """
    found, peaks, bounds = [], [], []
    for method, result in results:
        if isinstance(result, GraphError):
            found.append(f"{method}: {result}")
            continue
        order = result.order.tolist()
        if not oracle.is_legal(graph, order):
            found.append(f"{method}: order is not legal")
            continue
        peak = oracle.peak(graph, order)
        peaks.append((peak, method))
        bounds.append((result.bound_bytes, method))
        if peak != result.cost.peak_bytes:
            found.append(f"{method}: peak is {peak}, not {result.cost.peak_bytes}")
        if peak > oracle.peak(graph, range(graph.n)):
            found.append(f"{method}: worse than the program's own order")
        if optimum is not None and result.proven_optimal and peak != optimum:
            found.append(f"{method}: peak {peak} is called optimal; the optimum is {optimum}")
        proof = result.witness
        short = len(getattr(proof, "pairs", ())) <= LONGEST
        if proof is not None and not (proof.bytes == result.bound_bytes and (not short or check_bound(graph, proof))):
            found.append(f"{method}: its witness does not prove {result.bound_bytes}")
    lowest, who = min(peaks, default=(0, ""))
    if optimum is not None and optimum < lowest:
        lowest, who = optimum, "the oracle"
    found += [
        f"{method}: bound {bound}, but {who} has a peak of {lowest}" for bound, method in bounds if bound > lowest
    ]
    return found


def by_brute_force(seed, methods=tuple(SCHEDULERS)):
    """Contradictions on one random graph of at most 10 nodes."""
    graph = random_graph(seed, 10) if seed % 2 else tangled_graph(seed, 4 + seed % 7)
    return contradictions(graph, answers(graph, methods, seed), oracle.best_peak(graph))


def by_constraints(seed, methods=tuple(SCHEDULERS), *, nodes=None, seconds=10.0):
    """(contradictions, whether the optimum got known) on one random graph of 12 to 40 nodes."""
    graph = tangled_graph(seed, nodes or 12 + seed % 29)
    results = list(answers(graph, methods, seed))
    best = min((r.cost.peak_bytes for _, r in results if not isinstance(r, GraphError)), default=None)
    optimum = lowest_peak(graph, below=best, seconds=seconds)
    return contradictions(graph, results, optimum), optimum is not None


def main(arguments):
    """Prints every contradiction and how many graphs there were; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.certificates")
    parser.add_argument("runs", type=int)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--cp-sat", action="store_true")
    parser.add_argument("--methods", nargs="*", default=tuple(SCHEDULERS))
    options = parser.parse_args(arguments)
    counts = Counter()
    for seed in range(options.first, options.first + options.runs):
        if options.cp_sat:
            found, known = by_constraints(seed, options.methods)
        else:
            found, known = by_brute_force(seed, options.methods), True
        counts.update(graphs=1, answers=len(options.methods), optimum_known=known, contradictions=len(found))
        for text in found:
            print(f"seed {seed}: {text}", flush=True)
    print(dict(counts))
    return bool(counts["contradictions"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
