"""`train`, `evaluate`, `explain`, `export`: making one checkpoint, and using it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ziggurat.cli.options import Device, Json, Out, Quiet, Seed, note, resolve_device, say, say_json

if TYPE_CHECKING:
    from ziggurat.workflows.artifact import Artifact

Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint made by train or compare (…safetensors).")]


def train(
    data: Annotated[str, typer.Argument(help="A data set's name or path.")],
    method: Annotated[str, typer.Argument(help="Such as resnet18:stem=cifar or simsiam/resnet18.")],
    budget: Annotated[str, typer.Option(help="60s, 5m, 400steps, 10epochs.")] = "60s",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was killed.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one method and keep its checkpoint. A training that is killed goes on with --resume, and ends in the same weights."""
    from ziggurat.data.sources import runs_folder
    from ziggurat.workflows.budget import parse_budget
    from ziggurat.workflows.methods import check_fit, parse_method, small_image_warning
    from ziggurat.workflows.training import Unfinished, checkpoint_name, prepare, train_method

    amount, parsed, device = parse_budget(budget), parse_method(method), resolve_device(device)
    if parsed.contract == "embedding":
        raise ValueError(
            f"{method} embeds the nodes of one graph and leaves no checkpoint; use it with compare or embed."
        )
    target = (out or runs_folder()) / checkpoint_name(method, seed)
    keep = Unfinished(target, {"data": data, "method": method, "budget": budget, "seed": seed})
    if resume:
        keep.resume()
    prepared = prepare(data)
    check_fit(parsed, prepared.shape, prepared.name)
    for text in (*prepared.notes, small_image_warning(parsed, prepared.shape)):
        note(text or "", quiet or not text)
    if not resume:
        keep.forget()
    outcome, artifact = train_method(parsed, prepared, amount, seed, device=device, keep=keep)
    assert artifact is not None
    path = artifact.save(target)
    keep.forget()
    if json:
        say_json(
            {
                **artifact.metrics,
                "steps": outcome.steps,
                "train_seconds": outcome.train_seconds,
                "checkpoint": str(path),
            }
        )
        return
    say(
        f"accuracy {100 * outcome.accuracy:.1f} % on the test part after {outcome.steps} steps in {outcome.train_seconds:.1f} s"
    )
    say(f"checkpoint: {path}")


def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[str, typer.Argument(help="A data set with the same classes.")],
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a checkpoint on the test part of a data set."""
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.training import answers, macro_f1, prepare

    device = resolve_device(device)
    artifact, prepared = load_artifact(checkpoint), prepare(data)
    for text in prepared.notes:
        note(text, quiet)
    labels, said = answers(artifact, prepared, device)
    result = {
        "accuracy": float((said == labels).float().mean()),
        "macro_f1": macro_f1(said, labels, len(prepared.shape.classes)),
    }
    if json:
        say_json(result)
    else:
        say(
            f"accuracy {100 * result['accuracy']:.1f} %, macro F1 {100 * result['macro_f1']:.1f} % on the test part of {data}"
        )


def explain(
    checkpoint: Checkpoint,
    what: Annotated[str, typer.Argument(help="A picture, the number of a node of the graph, or a data set.")],
    target: Annotated[str | None, typer.Option(help="The class to explain; else the predicted one.")] = None,
    beside: Annotated[Path | None, typer.Option(help="Another picture: draw what makes the two alike.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="A memory: draw the picture's neighbours there, and their vote.")
    ] = None,
    images: Annotated[str | None, typer.Option(help="With --memory: the data set or folder of its pictures.")] = None,
    where: Annotated[str | None, typer.Option(help="With --memory: a filter on the neighbours.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="With --memory: how many neighbours.")] = 10,
    tree: Annotated[Path | None, typer.Option(help="With a data set: a csv with the names above each class.")] = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw what a decision depends on.

    Of a picture the pixels that matter, or by prototype_parts the parts and what they resemble; with --beside what makes it like another
    one; with --memory its neighbours and their vote. Of a node the other nodes that matter. Of a data set the tree of its classes, and
    where in it the mistakes fall.
    """
    from ziggurat.data.pictures import PICTURES
    from ziggurat.data.sources import runs_folder
    from ziggurat.memory.prototypes.protopnet import ProtoPNet
    from ziggurat.workflows.artifact import load_artifact

    given = [
        name for name, value in (("--beside", beside), ("--memory", memory), ("--tree", tree)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} ask for different pictures; give one of them.")
    if given and target is not None:
        raise ValueError(
            f"--target chooses the class of a decision, which {given[0]} does not explain; leave one of them out."
        )
    if memory is None and (images is not None or where is not None):
        raise ValueError("--images and --where belong to the neighbours in a memory; give --memory, too.")
    artifact, folder = load_artifact(checkpoint), out or runs_folder()
    if given and artifact.shape.kind == "graph":
        raise ValueError(
            f"{checkpoint} decides about nodes of {artifact.data}, and {given[0]} is for pictures; leave it out."
        )
    if artifact.shape.kind == "graph":
        _node(artifact, checkpoint, what, target, folder, json)
    elif beside is not None:
        from ziggurat.report.similarity import explain_pair

        path, cosine = explain_pair(artifact, Path(what), beside, folder)
        if json:
            say_json({"picture": str(path), "cosine": cosine})
        else:
            say(f"cosine {cosine:.3f}: {path}")
    elif memory is not None:
        from ziggurat.report.neighbours import explain_neighbours

        near = explain_neighbours(artifact, Path(what), memory, images, where, k, folder)
        if json:
            found = [{"id": name, "distance": away, "label": label} for name, away, label in near.found]
            say_json({"picture": str(near.path), "votes": near.votes, "neighbours": found})
        else:
            said = ", ".join(f"{label} {100 * share:.0f} %" for label, share in list(near.votes.items())[:3])
            say(f"{said or f'{len(near.found)} neighbours without labels'}: {near.path}")
    elif tree is not None or Path(what).suffix.lower() not in PICTURES:
        from ziggurat.report.mistakes import explain_mistakes

        path, mistakes = explain_mistakes(artifact, what, tree, folder)
        if json:
            say_json({"picture": str(path), **mistakes._asdict()})
        else:
            say(f"{100 * mistakes.accuracy:.1f} % right, mistakes {mistakes.severity:.2f} levels up: {path}")
    elif isinstance(artifact.network, ProtoPNet):
        from ziggurat.report.prototypes import explain_prototypes

        path, label, confidence, evidence = explain_prototypes(artifact, Path(what), target, folder)
        if json:
            told = [one._asdict() for one in evidence]
            say_json({"picture": str(path), "class": label, "probability": confidence, "evidence": told})
        else:
            say(f"{label} ({100 * confidence:.0f} %): {path}")
    else:
        from ziggurat.report.heatmap import explain_image

        path, label, confidence = explain_image(artifact, Path(what), target, folder)
        if json:
            say_json({"picture": str(path), "class": label, "probability": confidence})
        else:
            say(f"{label} ({100 * confidence:.0f} %): {path}")


def _node(artifact: Artifact, checkpoint: Path, what: str, target: str | None, folder: Path, json: bool) -> None:
    """The neighbours on which the decision about a node depends."""
    from ziggurat.report.neighbourhood import explain_node

    number = what.removeprefix(f"{artifact.data}/")
    if not number.isdigit():
        raise ValueError(f"{checkpoint} decides about nodes of {artifact.data}; give a node's number, not {what!r}.")
    path, label, confidence, nodes = explain_node(artifact, int(number), target, folder)
    if json:
        say_json({"picture": str(path), "class": label, "probability": confidence, "nodes": nodes})
        return
    say(f"{label} ({100 * confidence:.0f} %): {path}")
    say("what matters most: " + ", ".join(f"node {u} {100 * share:.0f} %" for u, share in nodes[:5]))


def export(
    checkpoint: Checkpoint,
    format: Annotated[str, typer.Option(help="onnx or torch (a torch.export program).")] = "onnx",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a checkpoint's network, compared with its own output before it is kept."""
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.exporting import export as write

    path = (out or checkpoint.parent) / (checkpoint.stem + (".onnx" if format == "onnx" else ".pt2"))
    path.parent.mkdir(parents=True, exist_ok=True)
    difference = write(load_artifact(checkpoint), path, format)  # type: ignore[arg-type]
    if json:
        say_json({"file": str(path), "largest_difference": difference})
    else:
        say(f"{path}, largest difference from the network's own output {difference:.1e}")
