"""A paper that exists only in tests: its row in the catalogue, its file, and its experiment, each found by the usual ways."""

import importlib
import sys
import textwrap
from pathlib import Path

import ziggurat
import ziggurat.claims
from ziggurat import catalogue
from ziggurat.claims import sources

ROW = {
    "title": "Coins That Know",
    "authors": ["A. Coin"],
    "year": 2026,
    "arxiv": "2601.00001",
    "family": "fakes",
    "idea": "A coin that knows its side falls on it.",
    "symbols": ["ziggurat.mint.coin.Coin"],
    "contracts": {"Coin": {"contract": "function", "tiny": {"sides": 2}}},
    "variants": {"coin2": "ziggurat.mint.coin.Coin", "silver": "ziggurat.mint.coin.silver"},
}
COIN = '''
"""Coins: the formula of a coin.

    y = x

A fair one.
"""

from functools import partial

from ziggurat.mint.metal import melt


class Coin:
    """A coin.

    Arguments:
        sides: of the coin.
    """

    def __init__(self, sides: int, metal: str = "tin") -> None:
        self.sides = melt(sides)


silver = partial(Coin, metal="silver")
'''
METAL = '''
def melt(x):
    """What metal does."""
    return x  # as it is
'''
CLAIM = '''
"""Coins: the knowing coin beats the plain one. A word found nowhere else: quetzalcoatl."""

from ziggurat.claims.notes import Notes
from ziggurat.metrics import Finding, at_least, exactly, floor, seconds_at_most
from ziggurat.mint.coin import Coin

published = {1: "0.9 against 0.5"}
notes = Notes(scope="coins", methodology="equal throws", origin="the paper", easy="all", hard="none")
KNOWING = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9, 0.91]
PLAIN = 0.5
SECONDS = 0.1
measured = []


def one_seed(run, seed):
    """Both coins."""
    measured.append(seed)
    return {"knowing": KNOWING[seed % 100], "plain": PLAIN, "sides": Coin(2).sides, "seconds": SECONDS}


def measure(run):
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("knowing − plain", rows["knowing"] - rows["plain"], 0.3, "accuracy"),
            exactly("sides", rows["sides"], 2),
            seconds_at_most("throw", rows["seconds"], 1.0),
        ),
        floors=(floor("plain", rows["plain"], 0.45),),
        measurements=rows,
        published={"knowing": 0.95},
    )


def support(run):
    return {"gap": 0.25}
'''


class Fake:
    """Where the files of the paper lie, and its experiment as a module."""

    def __init__(self, root: Path) -> None:
        self.root = root / "ziggurat"
        self.claim = self.root / "claims/fakes/coin.py"
        self.coin, self.metal = self.root / "mint/coin.py", self.root / "mint/metal.py"

    @property
    def module(self):
        return importlib.import_module("ziggurat.claims.fakes.coin")

    def edit(self, path: Path, old: str, new: str) -> None:
        """Changes a file, as a person would between two runs of the command."""
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        forget()


def forget() -> None:
    """A new process knows nothing of the files that an old one has read."""
    for cached in (sources.path_of, sources.lazy_table, sources.imported, sources._digest):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.startswith(("ziggurat.claims.fakes", "ziggurat.mint"))]:
        del sys.modules[name]


def install(folder: Path, monkeypatch) -> Fake:
    """Puts the paper into the catalogue and its files on the import path; runs and ledger go to the folder."""
    fake = Fake(folder)
    for path, text in ((fake.coin, COIN), (fake.metal, METAL), (fake.claim, CLAIM)):
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(textwrap.dedent(text).lstrip())
    content = {**catalogue._content(), "coin": ROW}
    monkeypatch.setattr(catalogue, "_content", lambda: content)
    monkeypatch.setattr(ziggurat, "__path__", [*ziggurat.__path__, str(fake.root)])
    monkeypatch.setattr(ziggurat.claims, "__path__", [*ziggurat.claims.__path__, str(fake.root / "claims")])
    monkeypatch.setenv("ZIGGURAT_RUNS", str(folder / "runs"))
    monkeypatch.setenv("ZIGGURAT_LEDGER", str(folder / "ledger"))
    forget()
    return fake
