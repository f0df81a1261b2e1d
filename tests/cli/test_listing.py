import json
import re

import pytest

from ziggurat import catalogue
from ziggurat.claims import measure
from ziggurat.cli.listing import HAS, ranked


def ids(command, *words):
    code, out, _ = command("list", "--json", *words)
    assert code == 0
    return [entry["id"] for entry in json.loads(out)]


def test_list_has_every_paper_and_no_baseline(command, fake):
    assert ids(command) == list(catalogue.rows())
    assert ids(command, "--baselines") == list(catalogue.baselines())
    assert ids(command, "--family", "fakes") == ["coin"]


def test_json_has_the_agreed_keys(command, fake):
    (entry,) = (e for e in json.loads(command("list", "--json")[1]) if e["id"] == "coin")
    assert entry == {
        "id": "coin",
        "title": "Coins That Know",
        "family": "fakes",
        "symbols": ["ziggurat.mint.coin.Coin"],
        "variants": ["coin2", "silver"],
        "contract": ["function"],
        "verdict": None,
        "stale": None,
    }


def test_verdict_and_staleness(command, fake):
    measure("coin", quiet=True)

    def coin():
        return next(e for e in json.loads(command("list", "--json")[1]) if e["id"] == "coin")

    assert (coin()["verdict"], coin()["stale"]) == ("holds", False)
    fake.edit(fake.coin, '"tin"', '"gold"')
    assert (coin()["verdict"], coin()["stale"]) == ("holds", True)
    assert "coin\tfakes\tholds (stale)\tCoins That Know" in command("list", "--family", "fakes")[1]


def test_search_looks_at_titles_ideas_and_claims(command, fake):
    assert ids(command, "--search", "coins that know")[0] == "coin"
    assert ids(command, "--search", "falls on its side")[0] == "coin"  # the idea
    assert ids(command, "--search", "Quetzalcoatl") == ["coin"]  # the experiment's docstring
    assert ids(command, "--search", "residual shortcuts")[0] == "resnet"
    assert ids(command, "--search", "collapse without negatives")[0] == "simsiam"


def test_search_looks_at_measured_clauses(command, fake):
    fake.edit(fake.claim, '"sides", rows', '"xylophones", rows')
    assert ids(command, "--search", "xylophones") == []
    measure("coin", quiet=True)
    assert ids(command, "--search", "xylophones") == ["coin"]


def test_nothing_found_is_said_on_stderr(command):
    assert command("list", "--json", "--search", "qqqqq") == (0, "[]\n", "Nothing in the catalogue is like that.\n")
    assert command("list", "--json", "--search", "qqqqq", "--quiet") == (0, "[]\n", "")


def test_ranking_prefers_the_title():
    rows = {
        "a": {"title": "Graph walks", "family": "x", "idea": "About coins.", "symbols": [], "contracts": {}},
        "b": {"title": "Coins", "family": "x", "idea": "About graph walks.", "symbols": [], "contracts": {}},
        "c": {"title": "Nothing", "family": "x", "idea": "Nothing.", "symbols": [], "contracts": {}},
    }
    import ziggurat.cli.listing as listing

    original, listing.words = listing.words, lambda name, row: f"{row['title']} {row['title']} {row['idea']}"
    try:
        assert ranked(rows, "coins") == ["b", "a"]
    finally:
        listing.words = original


def test_has(command, fake):
    assert {"resnet", "sgc", "simsiam", "mono_forward", "coin"} <= set(ids(command, "--has", "claim"))
    assert ids(command, "--has", "record") == []
    measure("coin", quiet=True)
    assert ids(command, "--has", "record") == ["coin"]
    assert ids(command, "--has", "function", "--family", "fakes") == ["coin"]
    assert "resnet" in ids(command, "--has", "staged") and "simsiam" not in ids(command, "--has", "staged")
    assert "simsiam" in ids(command, "--has", "learner")
    assert "resnet" in ids(command, "--has", "strides") and "sgc" not in ids(command, "--has", "strides")
    assert "resnet" in ids(command, "--has", "sequential")
    assert "gcn" not in ids(command, "--has", "sequential", "--baselines")
    assert "sgc" in ids(command, "--has", "exportable") and "simsiam" not in ids(command, "--has", "exportable")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--family", "backbone"], "there is no family 'backbone'; the families are "),
        (["--has", "wings"], f"--has takes one of {', '.join(HAS)}, got 'wings'."),
    ],
)
def test_mistakes(command, words, text):
    code, out, err = command("list", *words)
    assert (code, out) == (2, "") and err.startswith(f"ziggurat: {text}")


def test_a_terminal_gets_a_drawn_table(command, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    out = command("list")[1]
    assert "┃" in out and "\t" not in out and "Deep Residual Learning for Image Recognition" in out
    assert not re.search(r"\x1b\[[34]\d", out)  # bold and italic, no colour
