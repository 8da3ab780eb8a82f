"""Slow, obvious twins of the simulators: sets and dictionaries, straight from their definitions.

Shares no code with graphs/memory.py, nor with Graph's derived arrays: only the stored columns are read.
"""

from functools import lru_cache
from itertools import combinations, permutations

from graphs import Kind


@lru_cache(maxsize=8)
def reads_of(graph):
    """For each node the set of tensors that it reads."""
    ptr, idx = graph.reads.ptr.tolist(), graph.reads.idx.tolist()
    return [set(idx[ptr[v] : ptr[v + 1]]) for v in range(graph.n)]


@lru_cache(maxsize=8)
def writes_of(graph):
    """For each node the set of tensors that it allocates."""
    return [{t for t in range(graph.k) if graph.writer[t] == v} for v in range(graph.n)]


@lru_cache(maxsize=8)
def readers_of(graph):
    """For each tensor the set of nodes that read it."""
    reads = reads_of(graph)
    return [{v for v in range(graph.n) if t in reads[v]} for t in range(graph.k)]


@lru_cache(maxsize=8)
def preds_of(graph):
    """For each node the set of nodes that must run before it."""
    preds = [{int(graph.writer[t]) for t in row if graph.writer[t] >= 0} for row in reads_of(graph)]
    for before, node in zip(*graph.after.tolist(), strict=True):
        preds[node].add(before)
    return preds


def is_legal(graph, order):
    """Every node once, and after all that must run before it."""
    order, preds = list(order), preds_of(graph)
    return sorted(order) == list(range(graph.n)) and all(preds[v] <= set(order[:t]) for t, v in enumerate(order))


def legal_orders(graph):
    """All legal orders: for very small graphs."""
    return [order for order in permutations(range(graph.n)) if is_legal(graph, order)]


def live_tensors(graph, done):
    """Tensors that are counted once the nodes ``done`` have run: still to be read, or kept to the end."""
    alive = set()
    for t, readers in enumerate(readers_of(graph)):
        kind = Kind(graph.kind[t])
        there = kind == Kind.DONATED or (kind in (Kind.TEMPORARY, Kind.OUTPUT) and graph.writer[t] in done)
        if there and (kind == Kind.OUTPUT or readers - set(done)):
            alive.add(t)
    return alive


def tensors_during(graph, done, node):
    """Tensors that are counted while ``node`` runs, the nodes ``done`` having run before."""
    return live_tensors(graph, done) | writes_of(graph)[node]


def bytes_of(graph, tensors):
    return sum(int(graph.size[t]) for t in tensors)


def profile(graph, order):
    """(bytes while each step runs, bytes once it has ended)."""
    during, after, done = [], [], set()
    for node in order:
        during.append(bytes_of(graph, tensors_during(graph, done, node)) + int(graph.scratch[node]))
        done.add(node)
        after.append(bytes_of(graph, live_tensors(graph, done)))
    return during, after


def peak(graph, order):
    return max(profile(graph, order)[0], default=0)


def is_legal_by_position(graph, order):
    """The same as :func:`is_legal`, in time linear in the graph: for results on large ones."""
    order = list(order)
    if sorted(order) != list(range(graph.n)):
        return False
    place = {node: t for t, node in enumerate(order)}
    ptr, idx, writer = graph.reads.ptr.tolist(), graph.reads.idx.tolist(), graph.writer.tolist()
    for node in range(graph.n):
        for tensor in idx[ptr[node] : ptr[node + 1]]:
            if writer[tensor] >= 0 and writer[tensor] != node and place[writer[tensor]] > place[node]:
                return False
    return all(place[before] < place[node] for before, node in zip(*graph.after.tolist(), strict=True))


def peak_by_events(graph, order):
    """The same as :func:`peak`, from when each tensor appears and is gone, in time linear in the graph."""
    order = [int(node) for node in order]
    place = {node: t for t, node in enumerate(order)}
    ptr, idx = graph.reads.ptr.tolist(), graph.reads.idx.tolist()
    last_read = {}
    for node in range(graph.n):
        for tensor in idx[ptr[node] : ptr[node + 1]]:
            last_read[tensor] = max(last_read.get(tensor, 0), place[node])
    change = [0] * (len(order) + 1)
    columns = (graph.writer.tolist(), graph.size.tolist(), graph.kind.tolist())
    for tensor, (writer, size, kind) in enumerate(zip(*columns, strict=True)):
        if kind in (Kind.INPUT, Kind.WEIGHT) or (kind == Kind.DONATED and tensor not in last_read):
            continue
        first = place[writer] if writer >= 0 else 0
        last = len(order) - 1 if kind == Kind.OUTPUT else max(first, last_read.get(tensor, first))
        change[first] += size
        change[last + 1] -= size
    live = highest = 0
    for t, node in enumerate(order):
        live += change[t]
        highest = max(highest, live + int(graph.scratch[node]))
    return highest


def best_peak(graph):
    """Lowest peak of any legal order: a dynamic programme over all ideals, for n <= 10."""
    preds, everything = preds_of(graph), frozenset(range(graph.n))
    best = {frozenset(): 0}
    for _ in range(graph.n):
        larger = {}
        for done, so_far in best.items():
            for node in everything - done:
                if preds[node] <= done:
                    step = bytes_of(graph, tensors_during(graph, done, node)) + int(graph.scratch[node])
                    ideal, cost = done | {node}, max(so_far, step)
                    larger[ideal] = min(cost, larger.get(ideal, cost))
        best = larger
    return best[everything]


def touched_by(graph, node):
    """(tensors read, tensors written) that count for on-chip memory: nodes that move nothing read nothing."""
    reads = set() if graph.moved[node] == 0 else reads_of(graph)[node]
    return reads, writes_of(graph)[node]


def next_use(graph, order, step, tensor):
    """First step after ``step`` that reads ``tensor``; the number of steps where there is none."""
    later = (t for t in range(step + 1, len(order)) if tensor in touched_by(graph, order[t])[0])
    return next(later, len(order))


def traffic(graph, order, capacity):
    """(bytes fetched, bytes written back), byte by byte: what is used furthest in the future is put out first."""
    order, on_chip, ever_out = list(order), set(), set()
    fetched = written = 0
    used = {}  # of bytes used next at the same time those used last go first

    def all_of(tensors):
        return {(t, byte) for t in tensors for byte in range(int(graph.size[t]))}

    def kept(held, step, room):
        by_use = sorted(held, key=lambda byte: (next_use(graph, order, step, byte[0]), *used[byte[0]], byte))
        ever_out.update(by_use[max(0, room) :])
        return set(by_use[: max(0, room)])

    for step, node in enumerate(order):
        reads, writes = touched_by(graph, node)
        mine = all_of(reads | writes)
        used |= dict.fromkeys(reads, (step, 0)) | dict.fromkeys(writes, (step, 1))
        fetched += len(all_of(reads) - on_chip)
        on_chip = kept(on_chip - mine, step, capacity - len(mine) - int(graph.scratch[node])) | mine
        for t in reads | writes:
            if Kind(graph.kind[t]) == Kind.OUTPUT and t in writes:
                written += int(graph.size[t])
            if next_use(graph, order, step, t) == len(order):
                on_chip -= all_of({t})
                if Kind(graph.kind[t]) == Kind.TEMPORARY:
                    written += len(all_of({t}) & ever_out)
        on_chip = kept(on_chip, step, capacity)
    return fetched, written


def least_traffic(graph, order, capacity):
    """(fewest bytes fetched, fewest bytes moved in all) of any choice of what stays: very small graphs only."""
    best = {(frozenset(), frozenset()): (0, 0)}  # (on the chip, written back) -> fewest fetched, fewest moved
    for step, node in enumerate(order):
        reads, writes = touched_by(graph, node)
        mine = {(t, byte) for t in reads | writes for byte in range(int(graph.size[t]))}
        reading = {byte for byte in mine if byte[0] in reads}
        outputs = sum(int(graph.size[t]) for t in writes if Kind(graph.kind[t]) == Kind.OUTPUT)
        room = max(0, capacity - len(mine) - int(graph.scratch[node]))
        following = {}
        for (on_chip, stored), (few, moved) in best.items():
            cost = len(reading - on_chip)
            for others in _subsets(on_chip - mine, room):
                for left in _subsets(others | mine, capacity):
                    needed = {b for b in (on_chip | mine) if next_use(graph, order, step, b[0]) < len(order)}
                    out = {b for b in needed - left if Kind(graph.kind[b[0]]) == Kind.TEMPORARY} - stored
                    state = (frozenset(left & needed), stored | out)
                    costs = (few + cost, moved + cost + len(out) + outputs)
                    following[state] = tuple(map(min, costs, following.get(state, costs)))
        best = following
    return tuple(map(min, zip(*best.values(), strict=True)))


def _subsets(items, most):
    items = sorted(items)
    return [set(chosen) for r in range(min(most, len(items)) + 1) for chosen in combinations(items, r)]


def timeline(graph, order, seconds, communicates, streams):
    """{node: (start, finish)}: nodes are issued in order, each to the stream that is free first."""
    free, times = [0.0] * streams, {}
    link = 0.0
    for node in order:
        ready = max((times[u][1] for u in preds_of(graph)[node]), default=0.0)
        begin = max(ready, link if communicates[node] else min(free))
        times[node] = (begin, begin + seconds[node])
        if communicates[node]:
            link = begin + seconds[node]
        else:
            free[free.index(min(free))] = begin + seconds[node]
    return times


def concurrent_peak(graph, order, times):
    """Most bytes live at once: nodes are there from start to finish; at one time, those issued earlier act first."""
    position = {v: t for t, v in enumerate(order)}
    events = sorted((times[v][end], position[v], end) for v in order for end in (0, 1))
    ended, begun, most = set(), set(), bytes_of(graph, live_tensors(graph, set()))
    for _, place, end in events:
        (ended if end else begun).add(order[place])
        alive = set()
        for t, readers in enumerate(readers_of(graph)):
            kind, writer = Kind(graph.kind[t]), int(graph.writer[t])
            there = writer in begun if writer >= 0 else kind == Kind.DONATED
            running = writer in begun - ended
            alive |= {t} if there and kind not in (Kind.INPUT, Kind.WEIGHT) and (
                kind == Kind.OUTPUT or running or readers - ended
            ) else set()  # fmt: skip
        most = max(most, bytes_of(graph, alive) + sum(int(graph.scratch[v]) for v in begun - ended))
    return most
