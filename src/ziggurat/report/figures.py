"""Figures of matplotlib, drawn without a window and written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ziggurat.data.sources import write_atomically


def pyplot() -> Any:
    """matplotlib's pyplot, which is imported only where something is drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def as_bytes(figure: Any, kind: str = "png", dpi: int = 110) -> bytes:
    """The figure as a file of a kind; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi)
    pyplot().close(figure)
    return buffer.getvalue()


def write(figure: Any, path: Path) -> None:
    """The figure as the file that its suffix says, and closed."""
    write_atomically(path, as_bytes(figure, path.suffix[1:]))
