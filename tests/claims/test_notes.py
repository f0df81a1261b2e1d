import pytest

from tests.typecheck import value_error
from ziggurat.claims import Notes


def test_why_is_one_of_a_closed_list():
    assert Notes("s", "m", "o", why=("scale", "too few images")).why == ("scale", "too few images")
    with value_error("why begins with one of data too easy, scale, recipe, criterion, chance, implementation limits"):
        Notes("s", "m", "o", why=("bad luck", "…"))


def test_notes_do_not_change():
    with pytest.raises(AttributeError):
        Notes("s", "m", "o").scope = "other"
