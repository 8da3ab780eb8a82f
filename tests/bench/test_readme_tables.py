"""The README's tables are what the committed results say."""

import re

import pytest

from bench import readme
from bench.reading import rows_of
from bench.readme import README, RESULTS, TABLE, TABLES, renewed
from bench.rivals import RIVALS


def test_the_tables_in_the_readme_are_those_of_the_results():
    text = README.read_text(encoding="utf-8")
    assert {name for _, name, _, _ in TABLE.findall(text)} == set(TABLES)
    assert renewed(text) == text, "run: python -m bench readme"


def test_a_table_that_has_drifted_is_noticed():
    text = README.read_text(encoding="utf-8")
    table = TABLE.search(text)
    drifted = text.replace(table[3], re.sub(r"\d", "7", table[3]))
    assert drifted != text
    assert renewed(drifted) == text


@pytest.mark.parametrize("suite", readme.SETS)
def test_the_committed_results_are_whole_verified_and_no_rival_is_better(suite):
    lines = readme.read(RESULTS / f"{suite}.jsonl")
    found = [line for line in lines if "peak_bytes" in line]
    assert all(line["verified"] for line in found)
    assert not [line["graph"] for line in found if line["bound_checked"] is False]
    assert all(line["bound_bytes"] <= line["peak_bytes"] for line in found)
    for row in rows_of(lines):
        ours = row.by_method["auto"]["peak_bytes"]
        rivals = {name: line["peak_bytes"] for name, line in row.by_method.items() if name in RIVALS}
        assert len(rivals) >= 5, row.graph
        assert ours <= min(rivals.values()), (row.graph, rivals)
        assert row.bound <= row.best
