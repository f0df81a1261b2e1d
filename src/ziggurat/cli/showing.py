"""`ziggurat show`: one paper, from its idea to its code. Docstrings and signatures are read from the sources, without imports."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ziggurat.cli.listing import entry
from ziggurat.cli.options import Json, Quiet, note, say, say_json


@dataclass(frozen=True)
class Documented:
    """A symbol as its source describes it; `about` is the docstring of its file, with the formula and the source."""

    name: str
    contract: str
    signature: str
    required: tuple[str, ...]
    docstring: str
    about: str
    path: str
    line: int


def documented(symbol: str, contract: str = "") -> Documented:
    """Signature, docstring and place of a class or function, read from its file."""
    from ziggurat.claims.sources import module_of, path_of, relative

    name = symbol.rpartition(".")[2]
    path = path_of(module_of(symbol))
    if path is None:
        raise ValueError(f"{symbol} is no symbol of this installation; reinstall ziggurat.")
    tree = ast.parse(path.read_text())
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if getattr(node, "name", None) == name or any(getattr(target, "id", None) == name for target in targets):
            call, required = signature(node, name)
            required = required or left_open(node, tree)
            about = ast.get_docstring(tree) or ""
            return Documented(name, contract, call, required, docstring(node), about, relative(path), node.lineno)
    raise ValueError(f"{path} does not define {name}; the catalogue names it as {symbol}.")


def docstring(node: ast.stmt) -> str:
    """The docstring of a class or function; empty for anything else."""
    return (ast.get_docstring(node) or "") if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""


def signature(node: ast.stmt, name: str) -> tuple[str, tuple[str, ...]]:
    """How the symbol is called, and the names of the arguments that it cannot do without."""
    if isinstance(node, ast.FunctionDef):
        return f"{name}({ast.unparse(node.args)})", required(node.args)
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                item.args.args = item.args.args[1:]
                return f"{name}({ast.unparse(item.args)})", required(item.args)
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and not class_variable(item)]
        call = f"{name}({', '.join(ast.unparse(item) for item in fields)})"
        return call, tuple(ast.unparse(item.target) for item in fields if item.value is None)
    return (f"{name} = {ast.unparse(node.value)}" if isinstance(node, ast.Assign) else name), ()


def left_open(node: ast.stmt, tree: ast.Module) -> tuple[str, ...]:
    """Arguments that `name = partial(Class, …)` still needs, where the class stands in the same file."""
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Call) or getattr(value.func, "id", "") != "partial":
        return ()
    made, *given = value.args
    for item in tree.body:
        if isinstance(item, ast.ClassDef | ast.FunctionDef) and item.name == getattr(made, "id", ""):
            named = {keyword.arg for keyword in value.keywords}
            return tuple(argument for argument in signature(item, item.name)[1][len(given) :] if argument not in named)
    return ()


def required(arguments: ast.arguments) -> tuple[str, ...]:
    """Arguments without a default."""
    positional = arguments.posonlyargs + arguments.args
    first = positional[: len(positional) - len(arguments.defaults)]
    named = [a for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    return tuple(argument.arg for argument in first + named)


def class_variable(item: ast.AnnAssign) -> bool:
    """Whether an annotation in a class is none of its constructor's arguments."""
    return ast.unparse(item.annotation).startswith("ClassVar")


def bibtex(name: str, row: dict[str, Any]) -> str:
    """The paper as a BibTeX entry."""
    if "authors" not in row:
        raise ValueError(f"{name} is a baseline without an entry of its own; its source stands in its docstring.")
    authors = " and ".join(row["authors"])
    journal = (
        f"  journal = {{arXiv:{row['arxiv']}}},\n  url = {{https://arxiv.org/abs/{row['arxiv']}}}\n"
        if row["arxiv"]
        else ""
    )
    return (
        f"@article{{{name}{row['year']},\n  title = {{{{{row['title']}}}}},\n  author = {{{authors}}},\n"
        f"  year = {{{row['year']}}},\n{journal}}}"
    )


def example(key: str, name: str, row: dict[str, Any]) -> str:
    """A line of Python that makes what was asked for; arguments that are needed have the values of the tiny copy."""
    variants = row.get("variants", {})
    chosen = name if name in variants else key if key in variants else next(iter(variants), None)
    if chosen is None:
        module, _, short = row["symbols"][0].rpartition(".")
        return f"from {module} import {short}"
    made = documented(variants[chosen])
    copies = {symbol: contract.get("tiny", {}) for symbol, contract in row["contracts"].items()}
    fits = (values for values in copies.values() if set(made.required) <= set(values))  # of what a variant is made from
    tiny = copies.get(made.name) or next(fits, {})
    given = [f"{name}={argument(tiny.get(name, ...))}" for name in made.required]
    return f"ziggurat.build({', '.join([repr(chosen), *given])})".replace("'", '"')


def argument(value: Any) -> str:
    """A value of the catalogue as Python; what has to be built first is left open."""
    return "..." if isinstance(value, dict) or value is ... else repr(value)


def show(
    name: Annotated[str, typer.Argument(help="A paper, a baseline, or one of their variants.")],
    bibtex_: Annotated[bool, typer.Option("--bibtex", help="Only the BibTeX entry.")] = False,
    cost: Annotated[bool, typer.Option("--cost", help="Only what a network of images costs, layer by layer.")] = False,
    size: Annotated[int, typer.Option("--size", help="With --cost: side of the square image.")] = 224,
    curve: Annotated[
        Path | None, typer.Option("--curve", help="Draw what was measured into this PNG, SVG or PDF.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a paper: its idea, how it is called here, what was measured, and where the code is."""
    from ziggurat import catalogue
    from ziggurat.claims.ledger import read
    from ziggurat.claims.sources import changed, has_experiment

    key, row = catalogue.owner(name), catalogue.row(name)
    if bibtex_:
        say(bibtex(key, row))
        return
    if cost:
        show_cost(name, size, json)
        return
    if curve is not None:
        draw(key, row, curve)
        return
    symbols = [documented(path, row["contracts"][path.rpartition(".")[2]]["contract"]) for path in row["symbols"]]
    variant = row.get("variants", {}).get(name)
    if variant is not None and variant not in row["symbols"]:
        symbols.insert(0, documented(variant, "variant"))
    record = read(key)
    if json:
        details = {k: row[k] for k in ("authors", "year", "arxiv", "idea") if k in row}
        code = [asdict(symbol) for symbol in symbols]
        say_json({**entry(key, row), **details, "code": code, "example": example(key, name, row), "record": record})
        return
    say(f"{row['title']}\n")
    if "authors" in row:
        say(f"{', '.join(row['authors'])}, {row['year']}, arXiv:{row['arxiv']}\n")
    say(textwrap.fill(row.get("idea", ""), 100) + "\n")
    for index, symbol in enumerate(symbols):
        if symbol.about and symbol.path not in [earlier.path for earlier in symbols[:index]]:
            say(symbol.about + "\n")
        show_symbol(symbol)
    if row.get("variants"):
        say(textwrap.fill(f"by name: {', '.join(row['variants'])}", 100, subsequent_indent="    "))
    say(f"example: {example(key, name, row)}\n")
    if record:
        from ziggurat.cli.claiming import show_record

        show_record(record)
        if "curve" in row:
            say(f"to look at: ziggurat show {key} --curve {key}.png")
        for path in changed(record, "own"):
            note(f"stale: {path} has changed since; measure again: ziggurat claim {key}", quiet)
    elif has_experiment(key):
        say(f"Not measured yet: ziggurat claim {key}")


def draw(key: str, row: dict[str, Any], path: Path) -> None:
    """Draws the curve of a paper that was measured along depth, width or cost."""
    from ziggurat.claims.ledger import read
    from ziggurat.report.curve import draw_curve

    if "curve" not in row:
        raise ValueError(f"{key} was not measured along an axis; its numbers: ziggurat show {key}")
    record = read(key)
    if not record:
        raise ValueError(f"{key} has no record yet; measure it: ziggurat claim {key}")
    say(str(draw_curve(row["curve"], record, path)))


def show_symbol(symbol: Documented) -> None:
    """A symbol's call, place and docstring."""
    say(textwrap.fill(symbol.signature, 100, subsequent_indent="    "))
    say(f"    {symbol.contract}, src/ziggurat/{symbol.path}:{symbol.line}\n")
    if symbol.docstring:
        say(textwrap.indent(symbol.docstring, "    ") + "\n")


def show_cost(name: str, size: int, json: bool) -> None:
    """Parameters and multiply-accumulates of a network of images, as a whole and layer by layer; nothing is allocated for it."""
    import torch

    from ziggurat import catalogue
    from ziggurat.nn.profile import count_parameters, layer_costs, macs

    if size < 1:
        raise ValueError(f"--size must be a number of pixels, got {size}.")
    table = catalogue.contract_of(name)
    if table["contract"] not in ("staged", "segmenter", "dense") or table.get("input", "image") != "image":
        raise ValueError(
            f"{name} is no network of images, so it has no cost for an image; name a variant such as resnet50."
        )
    with torch.device("meta"):
        network, image = catalogue.build(name), torch.empty(1, 3, size, size)
    layers = layer_costs(network, image)
    whole = {"name": name, "size": size, "parameters": count_parameters(network), "macs": macs(network, image)}
    if json:
        say_json({**whole, "layers": [asdict(layer) for layer in layers]})
        return
    width = max(len(layer.name) for layer in layers)
    for layer in layers:
        shape = "×".join(map(str, layer.shape[1:]))
        say(f"{layer.name:{width}}  {layer.kind:20}{shape:>16}{layer.parameters:>13,}{layer.macs:>16,}")
    say(
        f"{name}: {whole['parameters']:,} parameters, {whole['macs']:,} multiply-accumulates for an image of {size}×{size}"
    )
