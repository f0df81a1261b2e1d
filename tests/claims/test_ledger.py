from pathlib import Path

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.claims import ledger


def test_records_come_back_as_plain_values(tmp_path, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_LEDGER", str(tmp_path))
    assert ledger.read("coin") is None
    record = {
        "id": "coin",
        "values": np.array([1.0, np.nan]),
        "nested": {3: (np.float32(0.5), float("inf"))},
        "plot": Path("/secret/place/curve.png"),
        "sign": "−",
    }
    assert ledger.write(record) == tmp_path / "coin.json"
    assert ledger.read("coin") == {
        "id": "coin",
        "values": [1.0, None],
        "nested": {"3": [0.5, None]},
        "plot": "curve.png",
        "sign": "−",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["coin.json"]


def test_a_record_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_LEDGER", str(tmp_path))
    ledger.write({"id": "coin", "a": 1})

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        ledger.write({"id": "coin", "a": 2})
    assert ledger.read("coin") == {"id": "coin", "a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["coin.json"]


def test_a_broken_record_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_LEDGER", str(tmp_path))
    (tmp_path / "coin.json").write_text('{"id": "co')
    with value_error("coin.json is not a whole record; remove it and measure again: ziggurat claim coin"):
        ledger.read("coin")


def test_the_ledger_of_a_checkout(monkeypatch):
    monkeypatch.delenv("ZIGGURAT_LEDGER", raising=False)
    assert ledger.ledger_folder().name == "ledger" and (ledger.ledger_folder().parent / "pyproject.toml").is_file()
