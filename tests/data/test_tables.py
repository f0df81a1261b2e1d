import torch

from tests.data import load_or_skip
from tests.typecheck import value_error
from ziggurat.data.loading import load


def test_adult():
    table = load_or_skip("tabular_uci", "adult_test")
    assert len(table) == 16_281 and len(table.classes) == 2 and table.columns[:2] == ("x0", "x2")
    assert round(float(table.labels.double().mean()), 3) == 0.236
    groups = [i for i, name in enumerate(table.columns) if name.startswith("c9=")]
    assert len(groups) == 2 and torch.equal(table.x[:, groups].sum(1), torch.ones(16_281))
    assert torch.isfinite(table.x).all()


def test_mistakes_are_named():
    load_or_skip("tabular_uci", "wine")
    with value_error("name one of"):
        load("tabular_uci")
    with value_error("not classes"):
        load("tabular_uci", "housing")
