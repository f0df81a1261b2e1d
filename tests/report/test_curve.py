import pytest

from ziggurat import catalogue
from ziggurat.claims.ledger import read
from ziggurat.report.curve import curve_points


def test_points_are_sorted_and_a_place_may_be_a_measurement():
    record = {"measurements": {"macs_a": [10, 30], "a": [0.5, 0.7], "b": [0.4, 0.2]}}
    curve = {"x": "MACs", "y": "accuracy", "lines": {"ours": [["macs_a", "a"], [5, "b"]]}}
    assert curve_points(curve, record) == {"ours": [(5.0, [0.4, 0.2]), (20.0, [0.5, 0.7])]}


@pytest.mark.parametrize("name", [name for name, row in catalogue.rows().items() if "curve" in row])
def test_every_curve_of_the_catalogue_can_be_drawn(name):
    lines = curve_points(catalogue.rows()[name]["curve"], read(name))
    assert all(len(points) > 1 and all(values for _, values in points) for points in lines.values())
