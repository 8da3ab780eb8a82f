import json
import random
import re
import shutil
import subprocess

import pytest

from graphs import Graph, Kind
from graphs.arena import plan
from graphs.arena_export import to_c_header, to_json
from tests import oracle_arena as oracle
from tests.strategies import random_graph, random_order

COMPILER = shutil.which("cc")
NASTY = [
    "über",
    "*/ int x;",
    "a\nb",
    "<script>",
    "int",
    "int",
    "",
    "??/",
    "\\",
    '"',
    "日本",
    "a" * 300,
    "_Bool",
    "1st",
    "\ud800",
]


def nasty_graph():
    n = len(NASTY)
    return Graph.build(
        "*/ \\\n#error ??/ \u2028 <script>", [f"{i} {name}" for i, name in enumerate(NASTY)], [[]] * n, range(n),
        [10 * i for i in range(n)], tensor_names=NASTY, scratch=[i % 3 for i in range(n)],
    )  # fmt: skip


def test_json_says_what_the_plan_says():
    for seed in range(60):
        graph, rng = random_graph(seed), random.Random(seed)
        order = random_order(graph, rng)
        made = plan(graph, order, steps=300, seconds=20)
        said = json.loads(json.dumps(to_json(made), allow_nan=False))
        assert (said["format"], said["version"]) == ("topoformer.arena", 1)
        assert (said["graph"], said["graph_sha256"]) == (graph.name, graph.fingerprint)
        assert said["order"] == [graph.labels[v] for v in order]
        numbers = [said[name] for name in ("alignment", "arena_bytes", "peak_bytes", "bound_bytes")]
        assert numbers == [64, made.arena_bytes, made.peak_bytes, made.bound_bytes]
        rows = [(("tensor", row["tensor"]), row) for row in said["tensors"]]
        rows += [(("scratch", graph.labels.index(row["node"])), row) for row in said["scratch"]]
        found = [(what, row["first_step"], row["last_step"] + 1, row["bytes"]) for what, row in rows]
        assert found == oracle.graph_buffers(graph, order), seed
        assert oracle.clashes([entry[1:] for entry in found], [row["offset"] for _, row in rows]) == []
        for row in said["tensors"]:
            assert row["name"] == graph.tensor_names[row["tensor"]]
            writer = graph.writer[row["tensor"]]
            assert row["writer"] == (graph.labels[writer] if writer >= 0 else None)


def test_a_header_is_plain_text_with_unique_names():
    text = to_c_header(plan(nasty_graph()), "net")
    assert text.isascii()
    assert text.isprintable() is False  # lines
    assert all(line.isprintable() for line in text.split("\n"))
    names = re.findall(r"^    (NET_[TS]\w*) = (\d+),$", text, re.MULTILINE)
    assert len({name[:63] for name, _ in names}) == len(names)
    assert [int(value) for _, value in names] == list(range(len(names)))
    assert text.count("/*") == text.count("*/")
    assert not any(word in text for word in ("??", "\\", "<script>"))
    assert "NET_T4_INT = 4," in text
    assert "#ifndef NET_PLAN_H\n#define NET_PLAN_H\n" in text


def test_a_header_has_a_row_for_each_place():
    made = plan(Graph.build("g", "ab", [[0], [1]], [-1, 0, 1], [100, 8, 100], scratch=[0, 7],
                            kind=[Kind.DONATED, Kind.TEMPORARY, Kind.OUTPUT]))  # fmt: skip
    text = to_c_header(made)
    assert f"#define ARENA_ARENA_BYTES UINT64_C({made.arena_bytes})\n" in text
    assert "#define ARENA_ALIGNMENT UINT64_C(64)\n" in text
    rows = re.findall(
        r"\{UINT64_C\((\d+)\), UINT64_C\((\d+)\), UINT32_C\((\d+)\), UINT32_C\((\d+)\)\}, /\* (\w+) \*/", text
    )
    wanted = [(made.offset[0], 100, 0, 0, "ARENA_T0"), (made.offset[1], 8, 0, 1, "ARENA_T1_A")]
    wanted += [(made.offset[2], 100, 1, 1, "ARENA_T2_B"), (made.scratch_offset[1], 7, 1, 1, "ARENA_S1_B")]
    assert rows == [tuple(map(str, row)) for row in wanted]


@pytest.mark.parametrize("symbol", ["", "1a", "_a", "a-b", "int", "a b", "a" * 21, "é", "a\n"])
def test_a_symbol_must_be_an_identifier(symbol):
    with pytest.raises(ValueError, match=r"^'symbol' must be a C identifier of at most 20 characters that starts with"):
        to_c_header(plan(Graph.build("g", [], [], [], [])), symbol)


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
@pytest.mark.parametrize("graph", [nasty_graph(), random_graph(3), Graph.build("empty", [], [], [], [])])
def test_a_header_compiles_and_holds_the_numbers(graph, tmp_path):
    made = plan(graph, steps=1000, seconds=20)
    (tmp_path / "plan.h").write_text(to_c_header(made, "net"))
    (tmp_path / "main.c").write_text(
        '#include "plan.h"\n#include "plan.h"\n#include <inttypes.h>\n#include <stdio.h>\n'
        'int main(void) {\n    int i;\n    printf("%" PRIu64 "\\n", NET_ARENA_BYTES);\n'
        "    for (i = 0; i < NET_COUNT; i++)\n"
        '        printf("%" PRIu64 " %" PRIu64 "\\n", net[i].offset, net[i].bytes);\n    return 0;\n}\n'
    )
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([COMPILER, *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split("\n")
    said = to_json(made)
    rows = [f"{row['offset']} {row['bytes']}" for row in [*said["tensors"], *said["scratch"]]]
    assert printed == [str(made.arena_bytes), *rows, ""]
