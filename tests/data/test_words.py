from tests.data import load_or_skip
from tests.typecheck import value_error
from ziggurat.data.loading import load
from ziggurat.data.words import Rated


def test_rated_pairs_by_set():
    pairs = load_or_skip("word_similarity", "WS-353-ALL")
    assert len(pairs) == 353 and Rated("tiger", "cat", 7.35) in pairs
    assert len(load("word_similarity", "MEN-TR-3k")) == 3000 and len(load("word_similarity", "SIMLEX-999")) == 999
    assert len(load("word_similarity")) > 8000


def test_an_unknown_set_is_named():
    with value_error("WS-353-ALL"):
        load("word_similarity", "WS-353")
