import psutil

from ziggurat.metrics import busy


def test_busy_compares_the_load_with_the_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (2.4, 9.0, 9.0))
    assert busy() is None
    monkeypatch.setattr(psutil, "getloadavg", lambda: (2.6, 0.0, 0.0))
    assert busy() == "the load is 2.6 on 2 cores; times measured now do not count."
    assert busy(slack=1.0) is None
