import re
from pathlib import Path

import pytest


def test_the_page_on_memory_says_what_it_prints(tmp_path, capsys):
    text = (Path(__file__).parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(compile(code.replace('"things"', repr(str(tmp_path / "things"))), "docs/memory.md", "exec"), names)
    told = re.search(r"print\(hits\.plan\)  # (.*)", code)
    assert told is not None and told[1] in capsys.readouterr().out
    hits = names["hits"]
    assert [len(row) for row in hits.ids] == [5] * 3 and all(m["year"] >= 2020 for row in hits.metadata for m in row)
    assert hits.distances[0, 0] == pytest.approx(min(hits.distances[0]))
