"""Every symbol of the catalogue against every check of its contract. How many ran is written down and must not fall."""

import json
from pathlib import Path

import pytest

from ziggurat import catalogue
from ziggurat.testing import CONTRACTS, run_checks, subject

FLOOR = Path(__file__).with_name("contracts_floor.json")
SYMBOLS = [path for row in (*catalogue.rows().values(), *catalogue.baselines().values()) for path in row["symbols"]]
CHECKED = [path for path in SYMBOLS if catalogue.contract(path)["contract"] in CONTRACTS]


def test_rows_are_sound():
    assert catalogue.check_rows() == []


def test_every_symbol_has_a_floor():
    assert set(json.loads(FLOOR.read_text())) == set(CHECKED), "run: python -m tests.update_floor"


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.rpartition(".")[2])
def test_contract(path):
    checked = subject(path)
    results = run_checks(checked, CONTRACTS[checked.contract])
    ran = [name for name, result in results.items() if result == "ran" or name == "check_export"]
    assert len(ran) >= json.loads(FLOOR.read_text())[path], f"fewer checks ran than before: {results}"
