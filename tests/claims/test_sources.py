import ast

import pytest

from ziggurat.claims import sources
from ziggurat.claims.sources import changed, closure, digest, home, imported, own_key, path_of, shared_changed, stale


def record():
    return {"id": "coin", "sources": sources.sources("coin")}


def test_own_are_the_claim_and_the_papers_files_and_shared_the_rest(fake):
    found = sources.sources("coin")
    assert set(found["own"]) == {"claims/fakes/coin.py", "mint/coin.py"}
    assert set(found["shared"]) == {"mint/metal.py", "claims/notes.py", "metrics/finding.py"}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("claim", "beats the plain one", "is better"),
        ("claim", '"""Both coins."""', ""),
        ("coin", "A coin.", "Money."),
        ("coin", "self.sides = melt(sides)", "self.sides = melt(  # why\n            sides\n        )"),
        ("metal", "  # as it is", ""),
    ],
)
def test_prose_and_layout_do_not_count(fake, path, old, new):
    before = record()
    fake.edit(getattr(fake, path), old, new)
    assert not stale(before) and not shared_changed(before)


def test_a_change_of_the_papers_own_files_is_stale(fake):
    before = record()
    fake.edit(fake.claim, "0.3, ", "0.2, ")
    assert stale(before) and changed(before, "own") == ["claims/fakes/coin.py"]
    before = record()
    fake.edit(fake.coin, '"tin"', '"gold"')
    assert stale(before) and changed(before, "own") == ["mint/coin.py"]


def test_a_change_of_a_shared_file_is_shown_but_not_stale(fake):
    before = record()
    fake.edit(fake.metal, "return x", "return x + 0")
    assert not stale(before) and shared_changed(before) == ["mint/metal.py"]


def test_a_new_import_is_seen(fake):
    before = record()
    fake.edit(fake.metal, "def melt", "from ziggurat.data.seeds import derive\n\n\ndef melt")
    assert shared_changed(before) == ["data/seeds.py", "mint/metal.py"]


def test_a_change_is_seen_within_one_process(fake):
    before = record()
    fake.coin.write_text(fake.coin.read_text().replace('"tin"', '"lead"'))
    assert stale(before)


def test_records_without_a_row_or_without_sources_are_stale(fake):
    assert stale({"id": "no_such_paper", "sources": {"own": {}, "shared": {}}})
    assert stale({"id": "coin"})


def test_kept_seeds_survive_a_new_reason_but_not_a_new_criterion(fake):
    key, before = own_key("coin", "quick"), record()
    assert key != own_key("coin", "full") and key != own_key("coin", "quick", "cuda")
    fake.edit(fake.claim, 'easy="all"', 'easy="all", why=("scale", "few throws")')
    fake.edit(fake.claim, '{"gap": 0.25}', '{"gap": 0.5}')
    fake.edit(fake.claim, '{1: "0.9 against 0.5"}', '{1: "0.9 against 0.5", 2: "none"}')
    assert own_key("coin", "quick") == key and stale(before)
    fake.edit(fake.claim, "0.3, ", "0.2, ")
    assert own_key("coin", "quick") != key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from ziggurat.nn import Staged, MLP", {"ziggurat.nn.staged", "ziggurat.nn.mlp"}),
        ("from ziggurat import nn\nnn.Staged", {"ziggurat.nn.staged"}),
        ("from ziggurat import nn as layers\ndef f():\n    return layers.Staged.forward", {"ziggurat.nn.staged"}),
        ("import ziggurat\nziggurat.nn.staged.Staged", {"ziggurat.nn.staged"}),
        ("import ziggurat\nziggurat.Batch", {"ziggurat.data.batch"}),
        ("import ziggurat.data.seeds", {"ziggurat.data.seeds"}),
        ("import ziggurat.data.seeds as s\ns.derive(1)", {"ziggurat.data.seeds"}),
        ("from .metal import melt", {"ziggurat.mint.metal"}),
        ("from . import metal", {"ziggurat.mint.metal"}),
        ("from ..data.seeds import derive", {"ziggurat.data.seeds"}),
        ("def f():\n    from ziggurat.data import derive", {"ziggurat.data.seeds"}),
        (
            "from ziggurat.claims import *",
            {"ziggurat.claims.measuring", "ziggurat.claims.notes", "ziggurat.claims.run"},
        ),
        ("import ziggurat\nziggurat.build('resnet18')", {"ziggurat.catalogue", "ziggurat.vision.backbones.resnet"}),
        ("from ziggurat.catalogue import build\nbuild('coin2')", {"ziggurat.catalogue", "ziggurat.mint.coin"}),
        (
            "from ziggurat.catalogue import symbol\nsymbol('ziggurat.nn.mlp.MLP')",
            {"ziggurat.catalogue", "ziggurat.nn.mlp"},
        ),
        ("import torch.nn as nn\nimport numpy as np\nnn.Linear, np.zeros, len.x", set()),
        ("from ziggurat.cli.main import app\nimport ziggurat.report\nfrom ziggurat.testing import example", set()),
    ],
)
def test_imports_are_followed_to_the_file_that_is_meant(fake, text, expected):
    (fake.root / "mint/tried.py").write_text(text)
    assert imported("ziggurat.mint.tried") == expected


def test_every_lazy_export_ends_in_a_file_that_defines_it():
    for room in ("ziggurat", "ziggurat.nn", "ziggurat.data", "ziggurat.metrics", "ziggurat.claims"):
        for name, module in sources.lazy_table(room).items():
            assert home(room, name) == module and path_of(module) is not None, (room, name)


def test_closure_survives_a_circle(fake):
    fake.edit(fake.metal, "def melt", "from ziggurat.mint import coin\n\n\ndef melt")
    assert closure(["ziggurat.mint.coin"]) == {"ziggurat.mint.coin", "ziggurat.mint.metal"}


def test_digest_is_the_dump_of_python_3_11(tmp_path):
    file = tmp_path / "a.py"
    file.write_text('def f(x=None):\n    """Doc."""\n    return [x, ()]\n')
    text = (
        "Module(body=[FunctionDef(name='f', args=arguments(posonlyargs=[], args=[arg(arg='x')], kwonlyargs=[], "
        "kw_defaults=[], defaults=[Constant(value=None)]), body=[Return(value=List(elts=[Name(id='x', ctx=Load()), "
        "Tuple(elts=[], ctx=Load())], ctx=Load()))], decorator_list=[])], type_ignores=[])"
    )
    import hashlib

    assert digest(file) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert isinstance(sources.stripped(file), ast.Module)


def test_experiments_that_exist(fake):
    assert sources.has_experiment("coin") and sources.has_experiment("silver")
    fake.claim.unlink()
    path_of.cache_clear()
    assert not sources.has_experiment("coin") and not sources.has_experiment("mlp")
