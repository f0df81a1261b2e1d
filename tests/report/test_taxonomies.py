"""The page that places the methods of the graph room."""

from pathlib import Path

import pytest

from tests.typecheck import value_error
from ziggurat import catalogue
from ziggurat.claims.ledger import ledger_folder
from ziggurat.report.taxonomies import PAGE, SURVEYS, own_members, page, placed


def test_the_page_is_as_the_catalogue_has_it():
    assert Path(ledger_folder().parent, PAGE).read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("survey", SURVEYS)
def test_every_category_has_a_member(survey):
    own = own_members(survey)
    assert set(own) <= set(SURVEYS[survey])
    assert all(own.get(category) or placed().get((survey, category)) for category in SURVEYS[survey])


def test_a_place_that_no_survey_has_is_named(monkeypatch):
    monkeypatch.setattr(catalogue, "rows", lambda: {"odd": {"place": ["gnn_survey", "magic"]}})
    with value_error("odd stands at gnn_survey, 'magic'"):
        placed()
