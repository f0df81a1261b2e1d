"""Shapes are checked while testing; every test starts from the same seeds and leaves the global state as it found it."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

if os.environ.get("ZIGGURAT_TYPECHECK", "1") != "0":
    from jaxtyping import install_import_hook

    import tests.typecheck  # noqa: F401 (the hook looks it up by name)

    install_import_hook("ziggurat", "tests.typecheck.checked")

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch


def pytest_configure(config):
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_start_and_clean_end(monkeypatch, tmp_path_factory):
    """Seeds before; default type, gradient mode and working folder unchanged after."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (scikit-learn and networkx still draw from it by default)
    dtype, grad, folder = torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd()
    yield
    assert torch.get_default_dtype() is dtype, "the test changed torch's default type"
    assert torch.is_grad_enabled() is grad, "the test changed the gradient mode"
    assert Path.cwd() == folder, "the test changed the working folder"


def pytest_collection_modifyitems(config, items):
    """Tests marked `untyped` need shape checking off, and are the only ones that do."""
    typed = os.environ.get("ZIGGURAT_TYPECHECK", "1") != "0"
    for item in items:
        if typed and item.get_closest_marker("untyped"):
            item.add_marker(pytest.mark.skip(reason="untyped: run with ZIGGURAT_TYPECHECK=0"))


def pytest_terminal_summary(terminalreporter):
    """How many tests were skipped, by reason."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")
