"""``topoformer check``: what makes it fail, what it says, and what it compares with."""

import json

import pytest

import graphs
from graphs.synthetic import layered
from topoformer.cli import main
from topoformer.scheduling import schedule

GRAPH = layered(60, seed=7303)
BEST, OWN = schedule(GRAPH, seconds=20).cost.peak_bytes, graphs.peak_bytes(GRAPH)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "net.json"
    graphs.save(GRAPH, path)
    return path


@pytest.fixture
def check(capsys, source):
    """``check(*argv)``: exit code, stdout, stderr; the error without its line end."""

    def call(*argv, source=source):
        code = main(["check", str(source), *map(str, argv)])
        out, err = capsys.readouterr()
        assert err.count("\n") == (1 if err else 0)
        return code, out, err.rstrip("\n")

    return call


def test_the_example_has_something_to_gain():
    assert BEST < OWN


def test_the_best_order_is_held_to_the_limit_to_the_byte(check):
    assert check("--max-peak", BEST)[0] == 0
    code, out, err = check("--max-peak", BEST - 1)
    assert (code, out) == (1, "")
    assert "exceeds --max-peak" in err
    assert "no order needs less" in err
    assert "largest at the peak: " in err


def test_the_programs_own_order_is_held_to_it_where_that_is_asked(check):
    assert check("--max-peak", OWN - 1)[0] == 0
    assert check("--max-peak", OWN - 1, "--program-order")[0] == 1
    assert check("--max-peak", OWN, "--program-order")[0] == 0


def test_a_baseline_of_the_same_graph_is_never_exceeded_however_short_the_search(check, tmp_path):
    kept = tmp_path / "kept.json"
    assert check("--max-peak", OWN, "-o", kept)[0] == 0
    assert json.loads(kept.read_text())["peak_bytes"] == BEST
    assert check("--max-peak", OWN, "--method", "program", "--baseline", kept, "-o", kept)[0] == 0
    assert json.loads(kept.read_text())["peak_bytes"] == BEST


def test_growth_over_a_baseline_fails_unless_it_is_tolerated(check, tmp_path):
    kept = tmp_path / "kept.json"
    grown = tmp_path / "grown.json"
    check("--max-peak", OWN, "-o", kept)
    data = json.loads((tmp_path / "net.json").read_text())
    data["tensors"] = [tensor | {"bytes": tensor["bytes"] * 101 // 100} for tensor in data["tensors"]]
    grown.write_text(json.dumps(data))
    code, _, err = check("--baseline", kept, source=grown)
    assert code == 1
    assert "'kept.json' by 1.0%" in err or "'kept.json' by 0.9%" in err
    assert check("--baseline", kept, "--tolerance", "2%", source=grown)[0] == 0
    assert check("--baseline", kept, "--tolerance", 2, "--program-order", source=grown)[0] == 0
    assert check("--baseline", kept, "--program-order", source=grown)[0] == 1


def test_json_has_every_limit_and_the_schedule_without_its_order(check, tmp_path):
    kept = tmp_path / "kept.json"
    check("--max-peak", OWN, "-o", kept)
    code, out, _ = check("--max-peak", BEST - 1, "--baseline", kept, "--json")
    answer = json.loads(out)
    assert (code, answer["ok"]) == (1, False)
    assert [(limit["bytes"], limit["met"]) for limit in answer["limits"]] == [(BEST - 1, False), (BEST, True)]
    assert answer["schedule"]["peak_bytes"] == BEST
    assert "order" not in answer["schedule"]


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        ((), 2, "needs --max-peak SIZE, --baseline FILE or both"),
        (("--max-peak", "many"), 2, "'many' is not a size"),
        (("--max-peak", "1", "--tolerance", "-1"), 2, "must be a number of per cent"),
        (("--max-peak", "1", "--method", "atuo"), 2, "did you mean 'auto'"),
        (("--max-peak", "1", "-o", "schedule.txt"), 2, "ends in .json"),
        (("--baseline", "nowhere.json"), 1, "nowhere.json"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(check, argv, code, text):
    got, out, err = check(*argv)
    assert (got, out) == (code, "")
    assert text in err


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": "topoformer.schedule", "version": 2}', '{"format": "topoformer.schedule", "version": 1}'],
)
def test_a_baseline_that_is_no_schedule_is_refused(check, tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    code, out, err = check("--baseline", tmp_path / "bad.json")
    assert (code, out) == (1, "")
    assert err.startswith("topoformer: --baseline '")


@pytest.mark.parametrize("order", [None, "no", [0, 0], list(range(60))[::-1]])
def test_the_order_of_a_baseline_is_checked(check, tmp_path, order):
    kept = tmp_path / "kept.json"
    check("--max-peak", OWN, "-o", kept)
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"order": order}))
    code, out, err = check("--baseline", kept)
    assert (code, out) == (1, "")
    assert err.startswith("topoformer: --baseline '")
