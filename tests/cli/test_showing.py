import json

import pytest

from ziggurat import catalogue
from ziggurat.claims import measure
from ziggurat.cli.showing import documented, example


def test_show_tells_idea_formula_arguments_example_and_place(command, fake):
    code, out, err = command("show", "coin")
    assert (code, err) == (0, "")
    for text in (
        "Coins That Know",
        "A. Coin, 2026, arXiv:2601.00001",
        "A coin that knows its side falls on it.",
        "    y = x",
        "Coin(sides: int, metal: str='tin')",
        "function, src/ziggurat/mint/coin.py:13",
        "sides: of the coin.",
        "by name: coin2, silver",
        'example: ziggurat.build("coin2", sides=2)',
        "Not measured yet: ziggurat claim coin",
    ):
        assert text in out, text


def test_show_the_measured_claim(command, fake):
    measure("coin", quiet=True)
    _, out, err = command("show", "coin")
    assert "knowing − plain\t0.41 ± 0.01 accuracy\t3\t>= 0.3\tholds" in out
    assert "knowing: published 0.95, here 0.91 ± 0.01" in out and "coin: holds, measured on" in out and err == ""
    fake.edit(fake.coin, '"tin"', '"gold"')
    assert command("show", "coin")[2] == "stale: mint/coin.py has changed since; measure again: ziggurat claim coin\n"


def test_show_a_variant(command, fake):
    _, out, _ = command("show", "silver")
    assert "silver = partial(Coin, metal='silver')" in out and "variant, src/ziggurat/mint/coin.py" in out
    assert 'example: ziggurat.build("silver", sides=2)' in out
    assert "resnet50 = partial(" in command("show", "resnet50")[1]


def test_json(command, fake):
    content = json.loads(command("show", "coin", "--json")[1])
    assert content["idea"] == "A coin that knows its side falls on it." and content["record"] is None
    assert content["example"] == 'ziggurat.build("coin2", sides=2)'
    (code,) = content["code"]
    assert (
        code["required"] == ["sides"] and code["about"] == "Coins: the formula of a coin.\n\n    y = x\n\nA fair one."
    )


def test_bibtex(command, fake):
    assert command("show", "coin", "--bibtex")[1] == (
        "@article{coin2026,\n  title = {{Coins That Know}},\n  author = {A. Coin},\n  year = {2026},\n"
        "  journal = {arXiv:2601.00001},\n  url = {https://arxiv.org/abs/2601.00001}\n}\n"
    )
    code, _, err = command("show", "mlp", "--bibtex")
    assert code == 2 and "mlp is a baseline without an entry of its own" in err


def test_an_unknown_name_gets_the_three_nearest(command):
    code, out, err = command("show", "simsam")
    assert (code, out) == (2, "")
    assert err.startswith("ziggurat: there is no 'simsam' in the catalogue; the nearest names are simsiam, ")
    assert err.count(",") == 2


@pytest.mark.parametrize("name", catalogue.names())
def test_every_name_can_be_shown(command, name):
    code, out, _ = command("show", name)
    assert code == 0 and "example: " in out


def test_examples_build():
    """On the meta device: the examples are of full size."""
    import torch

    import ziggurat

    for name, row in {**catalogue.rows(), **catalogue.baselines()}.items():
        line = example(name, name, row)
        assert line.startswith(("ziggurat.build(", "from ziggurat."))
        if "..." not in line:
            with torch.device("meta"):
                exec(line, {"ziggurat": ziggurat})


def test_signatures_are_read_without_import(fake):
    (fake.root / "mint/kinds.py").write_text(
        "from typing import ClassVar\n"
        "class Record:\n    kind: ClassVar[str] = 'a'\n    size: int\n    name: str = 'x'\n"
        "def plain(a, /, b, *rest, c, d=1, **more): ...\n"
        "LIMIT: int = 3\n"
    )
    record, plain = documented("ziggurat.mint.kinds.Record"), documented("ziggurat.mint.kinds.plain")
    assert record.signature == "Record(size: int, name: str = 'x')" and record.required == ("size",)
    assert plain.signature == "plain(a, /, b, *rest, c, d=1, **more)" and plain.required == ("a", "b", "c")
    assert documented("ziggurat.mint.kinds.LIMIT").signature == "LIMIT"
    (fake.root / "mint/sizes.py").write_text(
        "from functools import partial\nclass Net:\n    def __init__(self, a, b, depth, width=1): ...\n"
        "net18 = partial(Net, 3, depth=18)\nother = partial(print, 3)\n"
    )
    assert documented("ziggurat.mint.sizes.net18").required == ("b",)
    assert documented("ziggurat.mint.sizes.other").required == ()
    assert documented("ziggurat.nn.Staged").path == "nn/staged.py"
    with pytest.raises(ValueError, match=r"kinds.py does not define Nothing"):
        documented("ziggurat.mint.kinds.Nothing")
    with pytest.raises(ValueError, match=r"no symbol of this installation"):
        documented("ziggurat.nowhere.Nothing")


def test_what_a_network_costs(command):
    lines = command("show", "resnet50", "--cost")[1].splitlines()
    assert lines[-1] == "resnet50: 25,557,032 parameters, 4,089,184,256 multiply-accumulates for an image of 224×224"
    assert lines[0].split() == ["stem.0.conv", "Conv2d", "64×112×112", "9,408", "118,013,952"]
    table = json.loads(command("show", "cifar_resnet20", "--cost", "--size", "32", "--json")[1])
    assert sum(layer["macs"] for layer in table["layers"]) == table["macs"] == 40_551_040
    assert sum(layer["parameters"] for layer in table["layers"]) == table["parameters"] == 269_722
    code, _, err = command("show", "sgc", "--cost")
    assert code == 2 and "no network of images" in err


def test_show_draws_what_was_measured_along_an_axis(command, tmp_path):
    assert command("show", "resnet", "--curve", str(tmp_path / "depth.png")) == (0, f"{tmp_path / 'depth.png'}\n", "")
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")
    assert "to look at: ziggurat show resnet --curve resnet.png" in command("show", "resnet")[1]
    for name, path, wrong in (
        ("seta", tmp_path / "x.png", "seta was not measured along an axis; its numbers: ziggurat show seta"),
        ("resnet", tmp_path / "x.bmp", f"{tmp_path / 'x.bmp'} must end in one of .png, .svg, .pdf."),
    ):
        code, out, err = command("show", name, "--curve", str(path))
        assert (code, out) == (2, "") and wrong in err and not path.exists()
