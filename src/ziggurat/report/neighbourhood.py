"""A decision about a node, drawn on the part of the graph that it depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ziggurat.explain.neighbours import neighbour_saliency
from ziggurat.report.figures import pyplot, write
from ziggurat.workflows.artifact import Artifact, Decision
from ziggurat.workflows.training import loader_for, prepare

SHOWN = 30
"""At most so many nodes are drawn, those that matter most."""


def explain_node(
    artifact: Artifact, node: int, target: str | None, folder: Path, data: str | None = None
) -> tuple[Path, str, float, list[tuple[int, float]]]:
    """Draws the nodes on which the class of `node` depends; larger ones matter more, colours are classes.

    Arguments:
        data: the graph by name or path; None is the one that the checkpoint was trained on.

    Returns: the path of the PNG, the class, its probability, and (node, share of the saliency) of the nodes drawn, largest first.
    """
    shape = artifact.shape
    if shape.kind != "graph":
        raise ValueError(
            f"{artifact.method} takes {shape.kind} input; only decisions of graph networks are about nodes."
        )
    if target is not None and target not in shape.classes:
        raise ValueError(f"{target!r} is no class of this checkpoint; its classes are {', '.join(shape.classes)}.")
    prepared = prepare(data or artifact.data)
    if prepared.graph is None or prepared.shape.features != shape.features:
        raise ValueError(f"{data or artifact.data} is not the graph that {artifact.method} was trained on.")
    inputs = loader_for(artifact.learner, prepared, artifact.batch_size, artifact.seed).one.inputs
    if not (isinstance(inputs[0], torch.Tensor) and inputs[0].ndim == 2 and len(inputs) > 1):
        raise ValueError(
            f"{artifact.method} does not see the edges when it decides, so no neighbour can be shown; take a network of "
            "graphs such as gcn or gat."
        )
    network = Decision(artifact.learner)
    wanted = None if target is None else shape.classes.index(target)
    saliency = neighbour_saliency(network, inputs, node, wanted)
    with torch.no_grad():
        probabilities = network(*inputs)[node].softmax(0)
    chosen = int(probabilities.argmax()) if wanted is None else wanted
    share = saliency / saliency.sum().clamp_min(1e-12)
    others = [u for u in share.argsort(descending=True).tolist() if u != node and share[u] > 0]
    shown = [node, *others[: SHOWN - 1]]
    path = folder / f"{prepared.name}-node{node}-{shape.classes[chosen].replace('/', '-')}.png"
    said = f"{shape.classes[chosen]}, {100 * float(probabilities[chosen]):.0f} %"
    draw(prepared.graph, shown, share, shape.classes, f"node {node}: {said}", path)
    ranked = sorted(((u, float(share[u])) for u in shown), key=lambda pair: -pair[1])
    return path, shape.classes[chosen], float(probabilities[chosen]), ranked


def draw(graph: Any, shown: list[int], share: torch.Tensor, classes: tuple[str, ...], title: str, path: Path) -> None:
    """The first of `shown` in the middle, the others around it, with the edges among them."""
    import networkx as nx

    place = {u: i for i, u in enumerate(shown)}
    drawn = nx.Graph()
    drawn.add_nodes_from(range(len(shown)))
    ends = torch.tensor(shown)
    inside = graph.edge_index[:, torch.isin(graph.edge_index, ends).all(0)]
    drawn.add_edges_from((place[u], place[v]) for u, v in inside.T.tolist() if u != v)
    layout = nx.spring_layout(drawn, seed=0)
    figure, axis = pyplot().subplots(figsize=(7, 5.2), layout="constrained")
    largest = max(float(share[ends].max()), 1e-12)
    sizes = [80 + 700 * float(share[u]) / largest for u in shown]
    labels, colours = graph.y[ends].tolist(), pyplot().get_cmap("tab10")
    nx.draw_networkx_edges(drawn, layout, ax=axis, edge_color="0.7")
    nx.draw_networkx_nodes(
        drawn, layout, ax=axis, node_size=sizes, node_color=[colours(y % 10) if y >= 0 else "0.8" for y in labels],
        edgecolors=["black"] + ["white"] * (len(shown) - 1), linewidths=1.5,
    )  # fmt: skip
    nx.draw_networkx_labels(drawn, layout, dict(enumerate(map(str, shown))), font_size=6, ax=axis)
    for y in sorted({y for y in labels if y >= 0}):
        axis.scatter([], [], color=colours(y % 10), label=classes[y])
    axis.legend(loc="lower left", fontsize=8, frameon=False)
    axis.set_title(f"{title}; size: how much a node's features matter", fontsize=10)
    axis.axis("off")
    write(figure, path)
