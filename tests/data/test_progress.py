import sys

from ziggurat.cli.options import hush
from ziggurat.data import progress


def measure():
    with progress.measured(3, "measuring") as advance:
        advance(2)


def test_a_bar_on_a_terminal_unless_it_should_be_quiet(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_hidden", False)
    assert list(progress.counted([1, 2], "counting")) == [1, 2] and capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress.counted([1], "counting")) == [1] and capsys.readouterr().err == ""
    assert list(progress.counted([1, 2], "counting")) == [1, 2] and "counting" in capsys.readouterr().err
    measure()
    assert "measuring" in capsys.readouterr().err
    with progress.measured(2, "outer") as advance:
        advance(1)
        measure()
    shown = capsys.readouterr().err
    assert "outer" in shown and "measuring" not in shown
    measure()
    assert "measuring" in capsys.readouterr().err
    hush(False)
    assert list(progress.counted([1, 2], "counting")) == [1, 2] and "counting" in capsys.readouterr().err
    hush(True)
    assert list(progress.counted([1, 2], "counting")) == [1, 2] and capsys.readouterr().err == ""
    measure()
    assert capsys.readouterr().err == ""
