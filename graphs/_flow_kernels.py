"""Compiled maximum flows in the small networks of nodes that may run on either side of a given one.

Arc 2i + 1 of a network is the reverse of arc 2i; what a vertex gets from the source and gives to the sink are numbers
of its own. Sets of nodes are rows of 64-bit words.
"""

import numpy as np
from numba import njit

FREE, SOURCE, SINK = 0, 1, 2
ONE = np.uint64(1)
ENDLESS = np.int64(1) << 60


@njit(cache=True)
def has(bits, u):
    return (bits[u >> 6] >> np.uint64(u & 63)) & ONE != 0


@njit(cache=True)
def add(bits, u):
    bits[u >> 6] |= ONE << np.uint64(u & 63)


@njit(cache=True)
def _tensor_arcs(tensors, count, label, place, part):
    """What is live in any case, the number of vertices and of arcs, once every tensor has its own."""
    writers, kept, ptr, idx, size = tensors
    _, ends, capacity, into, outof = part
    vertices, made, constant = count, 0, np.int64(0)
    for t in range(len(writers)):
        w = writers[t]
        side = SOURCE if w < 0 else label[w]
        if side == SINK:
            continue
        cut, free, reader = kept[t], 0, -1
        for entry in range(ptr[t], ptr[t + 1]):
            if label[idx[entry]] == SINK:
                cut = True
                break
            if label[idx[entry]] == FREE:
                free, reader = free + 1, idx[entry]
        if cut and side == SOURCE:
            constant += size[t]
        elif cut:
            outof[place[w]] += size[t]
        elif free:
            end = place[reader]
            if free > 1:
                end = vertices
                vertices += 1
                into[end] = outof[end] = 0
                for entry in range(ptr[t], ptr[t + 1]):
                    if label[idx[entry]] == FREE:
                        made = _arc(end, place[idx[entry]], ENDLESS, ends, capacity, made)
            if side == SOURCE:
                into[end] += size[t]
            else:
                made = _arc(place[w], end, size[t], ends, capacity, made)
    return constant, vertices, made


@njit(cache=True)
def part_network(v, sets, network, pairs, label, place, part):
    """The network of the nodes that may run on either side of ``v``: everything else is one with a terminal.

    Returns (what is live in any case, nodes, vertices, arcs); fills ``part``. Vertices are those nodes, in ascending
    order, then tensors with several readers among them.
    """
    before, after = sets
    preds, (arcs, number) = network[1], pairs
    nodes, ends, capacity, into, outof = part
    n = len(before)
    count = 0
    for u in range(n):
        label[u], place[u] = FREE, -1
        if has(before[v], u):
            label[u] = SOURCE
        elif u == v or has(after[v], u):
            label[u] = SINK
        else:
            nodes[count], place[u] = u, count
            into[count] = outof[count] = 0
            count += 1
    constant, vertices, made = _tensor_arcs(network[0], count, label, place, part)
    for i in range(count):
        u = nodes[i]
        for entry in range(preds[0][u], preds[0][u + 1]):
            if place[preds[1][entry]] >= 0:
                made = _arc(i, place[preds[1][entry]], ENDLESS, ends, capacity, made)
    for i in range(number):
        if place[arcs[i, 0]] >= 0 and place[arcs[i, 1]] >= 0:
            made = _arc(place[arcs[i, 1]], place[arcs[i, 0]], ENDLESS, ends, capacity, made)
    return constant, count, vertices, made


@njit(cache=True)
def _arc(tail, head, room, ends, capacity, made):
    ends[made], ends[made + 1] = head, tail
    capacity[made], capacity[made + 1] = room, 0
    return made + 2


@njit(cache=True)
def arcs_rows(ends, made, vertices, ptr, idx):
    """Rows of the arcs that leave each vertex."""
    ptr[: vertices + 1] = 0
    for arc in range(made):
        ptr[ends[arc ^ 1] + 1] += 1
    for vertex in range(vertices):
        ptr[vertex + 1] += ptr[vertex]
    for arc in range(made - 1, -1, -1):  # filled from their ends, which shifts the starts to where they belong
        tail = ends[arc ^ 1]
        ptr[tail + 1] -= 1
        idx[ptr[tail + 1]] = arc
    for vertex in range(vertices):
        ptr[vertex] = ptr[vertex + 1]
    ptr[vertices] = made


@njit(cache=True)
def augment(network, room, starts, goals, side, limit, dead, work):
    """Send flow until there is no path left or more than ``limit`` went through; returns how much did.

    From vertices with room in ``starts`` to vertices with room in ``goals``, along arcs for side SOURCE, against them
    for SINK; ``dead`` vertices are known to lead nowhere. The last search, which finds no path, leaves its mark on what
    it reached.
    """
    ptr, idx, ends, vertices = network
    via, queue, seen, mark = work
    back = 0 if side == SOURCE else 1
    flow = np.int64(0)
    while flow <= limit:
        mark[0] += 1
        last, first, end = 0, 0, -1
        for vertex in range(vertices):
            if starts[vertex] > 0 and not dead[vertex]:
                seen[vertex], via[vertex], queue[last] = mark[0], -1, vertex
                last += 1
        while first < last:
            vertex = queue[first]
            first += 1
            if goals[vertex] > 0:
                end = vertex
                break
            for entry in range(ptr[vertex], ptr[vertex + 1]):
                arc = idx[entry]
                other = ends[arc]
                if seen[other] != mark[0] and not dead[other] and room[arc ^ back] > 0:
                    seen[other], via[other], queue[last] = mark[0], arc, other
                    last += 1
        if end < 0:
            break
        least, vertex = goals[end], end
        while via[vertex] >= 0:
            least = min(least, room[via[vertex] ^ back])
            vertex = ends[via[vertex] ^ 1]
        least = min(least, starts[vertex])
        starts[vertex] -= least
        goals[end] -= least
        vertex = end
        while via[vertex] >= 0:
            room[via[vertex] ^ back] -= least
            room[via[vertex] ^ back ^ 1] += least
            vertex = ends[via[vertex] ^ 1]
        flow += least
    return flow
