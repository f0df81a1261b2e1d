"""`ziggurat doctor`: what is installed, and which data are there."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ziggurat.cli.options import Json, say, say_json

PACKAGES = (
    "torch", "lightning", "torch_geometric", "torchmetrics", "kornia", "numpy", "scipy", "scikit-learn", "numba",
    "lancedb", "usearch", "onnxruntime", "ray", "psycopg",
)  # fmt: skip


def examine() -> dict[str, Any]:
    """Versions, the build of torch, data found and missing, room on the disk."""
    import platform

    import torch

    from ziggurat.data.sources import cache_folder, folders, sources

    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    found, missing = [], []
    for name, row in sources().items():
        there = all(any((f / file["name"]).is_file() for f in folders(name, None)) for file in row["files"])
        (found if there else missing).append(name)
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    cache = cache_folder()
    return {
        "ziggurat": version("ziggurat"),
        "python": platform.python_version(),
        "packages": packages,
        "torch_build": build,
        "devices": [
            "cpu",
            *(["cuda"] if torch.cuda.is_available() else []),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ],
        "data_found": sorted(found),
        "data_missing": sorted(missing),
        "cache": str(cache),
        "free_gb": round(shutil.disk_usage(cache if cache.exists() else cache.parent.parent).free / 1e9, 1),
    }


def doctor(json: Json = False) -> None:
    """Say what is installed, which data are there, and what is missing."""
    report = examine()
    if json:
        say_json(report)
        return
    say(f"ziggurat {report['ziggurat']}, Python {report['python']}, torch build: {report['torch_build']}")
    for name, number in report["packages"].items():
        say(f"  {name:16} {number or 'not installed'}")
    say(f"devices: {', '.join(report['devices'])}")
    say(f"data found: {', '.join(report['data_found']) or 'none'}")
    say(f"data missing: {', '.join(report['data_missing']) or 'none'}")
    say(f"cache: {report['cache']} ({report['free_gb']} GB free on the disk)")
